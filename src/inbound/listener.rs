//! Taking connections, each into a task of its own.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::connections::{ConnectionLimits, Connections, Place};
use super::meters::{self, Meters};
use super::session;
use crate::accounts::Clients;
use crate::clock::Clock;
use crate::gate::Gate;
use crate::net;
use crate::smtp::ServerSettings;
use crate::work::Work;

/// How long the listener rests when the machine has no more file descriptors.
const REST: Duration = Duration::from_millis(100);

/// What all sessions share.
pub struct Inbound {
    /// The way in.
    pub gate: Gate,
    /// Who may send.
    pub clients: Clients,
    /// Our name and the sessions' limits.
    pub server: Arc<ServerSettings>,
    /// How many connections.
    pub limits: ConnectionLimits,
    /// Those there are.
    pub connections: Connections,
    /// The time.
    pub clock: Clock,
    /// What is under way.
    pub work: Work,
    meters: Meters,
}

impl Inbound {
    /// Sessions that let mail in through `gate`.
    pub fn new(
        gate: Gate,
        clients: Clients,
        server: ServerSettings,
        limits: ConnectionLimits,
        clock: Clock,
        work: Work,
    ) -> Self {
        let (server, connections) = (Arc::new(server), Connections::default());
        Inbound { gate, clients, server, limits, connections, clock, work, meters: Meters::default() }
    }

    pub(super) fn meters(&self) -> &Meters {
        &self.meters
    }
}

/// A listening socket.
pub struct Listener {
    socket: TcpListener,
    inbound: Arc<Inbound>,
}

impl Listener {
    /// Listens on an address.
    pub fn bind(address: SocketAddr, inbound: Arc<Inbound>) -> io::Result<Self> {
        Ok(Listener { socket: net::listen(address)?, inbound })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Takes connections until `stop` turns true. Sessions hold clones of `stop`: when the sender sees
    /// it closed, the last one has ended.
    pub async fn run(self, mut stop: watch::Receiver<bool>) {
        loop {
            let accepted = tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                accepted = self.socket.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => self.admit(stream, peer, &stop),
                Err(error) => {
                    tracing::warn!(event = "accept_failed", error = %error);
                    tokio::time::sleep(REST).await;
                }
            }
        }
    }

    fn admit(&self, stream: TcpStream, peer: SocketAddr, stop: &watch::Receiver<bool>) {
        self.inbound.meters.connections.increment(1);
        if self.inbound.clients.at(peer.ip()).is_none() {
            meters::refused("relay");
            tracing::info!(event = "refused", reason = "relay", peer = %peer.ip());
            return refuse(&stream, "554 5.7.1", "relaying denied: you are no client of this relay");
        }
        match self.inbound.connections.enter(peer.ip(), self.inbound.limits) {
            Some(place) => {
                let (inbound, stop) = (self.inbound.clone(), stop.clone());
                tokio::spawn(async move { converse(stream, peer, &inbound, stop, place).await });
            }
            None => {
                meters::refused("connections");
                tracing::info!(event = "refused", reason = "connections", peer = %peer.ip());
                refuse(&stream, "421 4.7.0", "too many connections, try again later");
            }
        }
    }
}

/// One line in place of the greeting (RFC 5321 3.1), as far as the socket takes it at once: a flood
/// must not cost tasks.
fn refuse(stream: &TcpStream, code: &str, why: &str) {
    let line = format!("{code} {why}\r\n");
    // the client sees a closed connection where even this fails
    let _ = stream.try_write(line.as_bytes());
}

async fn converse(
    stream: TcpStream,
    peer: SocketAddr,
    inbound: &Inbound,
    stop: watch::Receiver<bool>,
    place: Place,
) {
    let _under_way = inbound.work.begin("client session");
    inbound.meters.open.increment(1.0);
    if let Err(error) = session::serve(stream, peer, inbound, stop).await {
        tracing::debug!(event = "session_broken", peer = %peer.ip(), error = %error);
    }
    inbound.meters.open.decrement(1.0);
    drop(place);
}
