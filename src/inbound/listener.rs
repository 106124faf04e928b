//! Taking connections, each into a task of its own.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use ipnet::IpNet;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use super::connections::Connections;
use super::meters::{self, Meters};
use super::proxied;
use super::rules::Rules;
use super::session::{self, Guest};
use crate::clock::Clock;
use crate::gate::Gate;
use crate::mail::{EnhancedStatus, Reply};
use crate::net;
use crate::observe::Raised;
use crate::smtp::{ServerSettings, StartTls};
use crate::work::{Live, Work};

/// How long the listener rests when the machine has no more file descriptors.
const REST: Duration = Duration::from_millis(100);
/// How often it is said that no connection can be taken.
const TOLD_EVERY: Duration = Duration::from_secs(10);
/// What helps where file descriptors are used up.
const REMEDY: &str = "raise LimitNOFILE= (ulimit -n), or lower limits.connections and delivery.connections";
/// Connections whose proxy has not said yet whose they are.
const PROXIED_MAX: usize = 256;

/// What all sessions share.
pub struct Inbound {
    /// The way in.
    pub gate: Gate,
    /// What sessions go by that begin now.
    pub rules: Live<Rules>,
    /// The connections there are.
    pub connections: Connections,
    /// A place for each connection whose proxy has not said yet whose it is.
    proxied: Arc<Semaphore>,
    /// The time.
    pub clock: Clock,
    /// What is under way.
    pub work: Work,
    pub(super) meters: Meters,
}

impl Inbound {
    /// Sessions that let mail in through `gate` by these rules.
    pub fn new(gate: Gate, rules: Rules, clock: Clock, work: Work) -> Self {
        Inbound {
            meters: Meters::default(),
            gate,
            rules: rules.into(),
            connections: Connections::default(),
            proxied: Arc::new(Semaphore::new(PROXIED_MAX)),
            clock,
            work,
        }
    }
}

/// What is said and believed at one listening socket.
#[derive(Clone, Debug)]
pub struct Door {
    /// Our name, the sessions' limits, and whether there is TLS.
    pub server: Arc<ServerSettings>,
    /// Proxies of ours, which say whose connections they bring.
    pub proxies: Vec<IpNet>,
}

/// A listening socket.
pub struct Listener {
    socket: TcpListener,
    inbound: Arc<Inbound>,
    door: Live<Door>,
}

impl Listener {
    /// Listens on an address.
    pub fn bind(address: SocketAddr, inbound: Arc<Inbound>, door: Live<Door>) -> io::Result<Self> {
        Ok(Listener { socket: net::listen(address)?, inbound, door })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Takes connections until `stop` turns true. Sessions hold clones of `stop`: when the sender sees
    /// it closed, the last one has ended.
    pub async fn run(self, mut stop: watch::Receiver<bool>) {
        let (mut failures, mut told_at) = (0_u64, None::<Instant>);
        loop {
            let accepted = tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                accepted = self.socket.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => self.admit(stream, peer, &stop),
                Err(error) => {
                    failures += 1;
                    if told_at.is_none_or(|at| at.elapsed() >= TOLD_EVERY) {
                        let remedy = if net::is_own_want(&error) { REMEDY } else { "" };
                        tracing::warn!(event = "accept_failed", error = %error, failures, remedy);
                        (failures, told_at) = (0, Some(Instant::now()));
                    }
                    tokio::time::sleep(REST).await;
                }
            }
        }
    }

    fn admit(&self, mut stream: TcpStream, peer: SocketAddr, stop: &watch::Receiver<bool>) {
        self.inbound.meters.connections.increment(1);
        let peer = peer.ip().to_canonical();
        let (inbound, door, stop) = (self.inbound.clone(), self.door.now(), stop.clone());
        if !door.proxies.iter().any(|proxy| proxy.contains(&peer)) {
            return welcome((stream, peer, BytesMut::new()), inbound, door, stop);
        }
        let Ok(place) = inbound.proxied.clone().try_acquire_owned() else {
            meters::refused(TOO_MANY.reason);
            return refuse(&stream, &TOO_MANY);
        };
        tokio::spawn(async move {
            let _place = place;
            match proxied::read_header(&mut stream, peer).await {
                Ok((client, input)) => welcome((stream, client, input), inbound, door, stop),
                Err(error) => {
                    meters::refused("proxy");
                    tracing::warn!(event = "refused", reason = "proxy", peer = %peer, error = %error);
                }
            }
        });
    }
}

/// Lets a connection in, in a task of its own, or refuses it.
fn welcome(
    (stream, peer, input): (TcpStream, IpAddr, BytesMut),
    inbound: Arc<Inbound>,
    door: Arc<Door>,
    stop: watch::Receiver<bool>,
) {
    let rules = inbound.rules.now();
    let client = rules.clients.at(peer);
    // who is known by a certificate can show it only under TLS
    let may_show_one = door.server.tls != StartTls::Off && rules.clients.any_by_certificate();
    if client.is_none() && !may_show_one {
        return refuse_at(&stream, peer, &NO_CLIENT);
    }
    let Some(places) = inbound.connections.welcome(peer, client.as_deref(), rules.limits) else {
        return refuse_at(&stream, peer, &TOO_MANY);
    };
    let guest = move |stream| Guest { stream, peer, client, places, input };
    tokio::spawn(async move {
        let _under_way = inbound.work.begin("client session");
        let _open = Raised::by_one(&inbound.meters.open);
        let served = match net::tune(&stream) {
            Ok(()) => session::serve(guest(Box::new(stream)), (&inbound, &rules, &door), stop).await,
            Err(error) => Err(error),
        };
        if let Err(error) = served {
            tracing::debug!(event = "session_broken", peer = %peer, error = %error);
        }
    });
}

/// Why a connection is not let in.
pub(super) struct Refusal {
    code: u16,
    status: EnhancedStatus,
    text: &'static str,
    /// In metrics and logs.
    pub(super) reason: &'static str,
}

const NO_CLIENT: Refusal = Refusal {
    code: 554,
    status: EnhancedStatus::new(5, 7, 1),
    text: "relaying denied: you are no client of this relay",
    reason: "relay",
};

pub(super) const TOO_MANY: Refusal = Refusal {
    code: 421,
    status: EnhancedStatus::new(4, 7, 0),
    text: "too many connections, try again later",
    reason: "connections",
};

impl Refusal {
    pub(super) fn reply(&self) -> Reply {
        Reply::new(self.code, self.status, self.text)
    }
}

fn refuse_at(stream: &TcpStream, peer: IpAddr, refusal: &Refusal) {
    meters::refused(refusal.reason);
    tracing::info!(event = "refused", reason = refusal.reason, peer = %peer);
    refuse(stream, refusal);
}

/// One line in place of the greeting (RFC 5321 3.1), as far as the socket takes it at once: a flood
/// must not cost tasks.
fn refuse(stream: &TcpStream, refusal: &Refusal) {
    let line = format!("{}\r\n", refusal.reply());
    // the client sees a closed connection where even this fails
    let _ = stream.try_write(line.as_bytes());
}
