//! Sending: which domain is due, which copies, by which path, and what became of them.
//!
//! ```text
//! manager (which domain is due) -> domain (which rows, which route, against credits)
//!   -> path (one per site: credits, connections, up or down) -> session task -> settle -> store
//! ```
//!
//! Owns every attempt. Promises that rows are read only against credits, so that a path that cannot
//! send holds none; that a failed connection is a fact of the path and charges no message; that the
//! result of an attempt goes to the store first; that a dead actor strands nothing, for all that it
//! knew is in the store or in leases that end by themselves.
//!
//! Actors are thin shells round pure cores, all on one arbiter; sessions are tasks on all cores, and
//! meet their path in a lane, a piece of shared memory.

mod breaker;
mod conclude;
mod connection;
mod dispose;
mod domain;
mod doubt;
mod faults;
mod governor;
mod hosts;
mod insecurity;
mod lane;
mod look;
mod manager;
mod meters;
mod operate;
mod pace;
mod path;
mod pulse;
mod reach;
mod ready;
mod recent;
mod report;
mod rest;
mod retry;
mod route;
mod session;
mod settle;
mod sluice;
mod standing;
mod tls_orders;
mod trace;

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub use breaker::Breaker;
pub use dispose::give_up;
pub use doubt::Doubt;
pub use faults::Faults;
#[cfg(test)]
pub use faults::{Defect, plant};
pub use hosts::Hosts;
pub use look::{DomainLook, Look, Looked, PathLook};
pub use manager::{AlarmInbox, Drain, Outbound, WaysChanged};
pub use meters::Meters;
pub use operate::{Lift, Operate, OperateError};
pub use pulse::Pulse;
pub use recent::{Recent, Remark};
pub use retry::RetrySchedule;
pub use route::{FixedRoute, Routes};
pub use sluice::{Cap, Caps, Sluices};
pub use standing::{Standing, open_receiver};
pub use tls_orders::{TlsOrder, TlsOrders};
pub use trace::{Exchange, Pretended, Probe, Way, demand_of, find_way, probe};

use tokio::sync::Semaphore;

use crate::authentication::Signers;
use crate::clock::{Clock, Timestamp};
use crate::dsn::Classifier;
use crate::mail::{Domain, MessageIds, OutcomeSink};
use crate::net::{self, ClientTls, Dial, Judge, Resolver};
use crate::queue::{Leases, Orders};
use crate::store::Store;
use crate::transport::Transport;
use crate::work::{Live, Permits, Work};

/// How mail is sent.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Our name in EHLO and reports.
    pub hostname: Domain,
    /// The port of mail hosts found by MX.
    pub port: u16,
    /// Whether MX results may lead to loopback and link-local addresses.
    pub allow_loopback: bool,
    /// When a deferred copy is tried again.
    pub retry: RetrySchedule,
    /// After which a receiver that blocks our mail is tried again.
    pub block_probe: Duration,
    /// How long reports are tried.
    pub expire_after: Duration,
    /// After which a sender is told that their mail takes long.
    pub delay_notice_after: Option<Duration>,
    /// Where mail for some domains goes whatever the DNS says.
    pub routes: Routes,
    /// What hosts of some domains must prove, whatever these publish.
    pub tls: TlsOrders,
    /// Connections to one site.
    pub connections_per_site_max: usize,
    /// Messages a second to one site.
    pub rate_per_site_max: Option<f64>,
    /// Limits of providers and of single domains.
    pub caps: Caps,
    /// Connections in all.
    pub connections_max: usize,
    /// Urgent copies in memory beside all others.
    pub urgent_copies_max: usize,
    /// Copies in memory at once, over all paths; small bodies (up to 16 KiB) are with them.
    pub copies_max: usize,
    /// Domains whose way is looked up at once.
    pub look_ups_max: usize,
    /// How often time passes for domains and paths.
    pub tick: Duration,
    /// Domain actors alive at once.
    pub domains_max: usize,
    /// How long an unused connection is kept.
    pub idle_timeout: Duration,
    /// How long a connection may take to open.
    pub connect_timeout: Duration,
    /// Messages sent over one connection.
    pub messages_per_connection_max: u32,
    /// What replies mean.
    pub classifier: Classifier,
}

/// TLS towards mail hosts, by what is asked in the handshake already.
#[derive(Clone)]
pub struct Tls {
    /// Nothing: what is shown is judged afterwards.
    pub any: ClientTls,
    /// A certificate for the host's name.
    pub verified: ClientTls,
}

/// What sessions and actors share.
pub struct Deps {
    /// Where everything durable is.
    pub store: Store,
    /// What is being tried.
    pub leases: Leases,
    /// For the ids of reports.
    pub ids: Arc<MessageIds>,
    /// The time.
    pub clock: Clock,
    /// When this process began to send.
    pub started: Timestamp,
    /// The DNS.
    pub resolver: Arc<dyn Resolver>,
    /// The way to remote servers.
    pub dial: Arc<dyn Dial>,
    /// For servers that offer TLS; never used where there is none.
    pub tls: Live<Option<Tls>>,
    /// What domains and their hosts demand.
    pub transport: Transport,
    /// Hears of outcomes.
    pub outcomes: OutcomeSink,
    /// How much may be under way at once.
    pub places: Places,
    /// How much of it within configured limits.
    pub sluices: Sluices,
    /// What is known of mail hosts.
    pub hosts: Hosts,
    /// Whether the DNS is to be believed.
    pub doubt: Doubt,
    /// Refusals that come from all sides.
    pub breaker: Mutex<Breaker>,
    /// Receivers that keep us away.
    pub standing: Standing,
    /// What operators ordered.
    pub orders: Orders,
    /// What was said last of mail that waits.
    pub recent: Recent,
    /// What is under way.
    pub work: Work,
    /// What is counted.
    pub meters: Meters,
    /// Whether the manager lives.
    pub pulse: Pulse,
    /// Whoever signs what the relay writes itself.
    pub signers: Live<Signers>,
    /// Where we take mail ourselves.
    pub listening: Vec<SocketAddr>,
    /// What a test lets go wrong.
    pub faults: Faults,
    /// How mail is sent.
    pub settings: Live<Settings>,
}

/// Places for what is under way, over all domains and paths.
pub struct Places {
    /// A place for each connection to a remote server.
    pub connections: Permits,
    /// A place for each domain whose way is being looked up: an answer under way takes some 10 KB.
    pub look_ups: Arc<Semaphore>,
    /// A place for each copy in memory.
    pub copies: Arc<Semaphore>,
    /// Some more, for urgent copies where all places are taken.
    pub urgent_copies: Arc<Semaphore>,
}

impl Places {
    /// As many as the settings allow.
    pub fn new(settings: &Settings) -> Self {
        let places = |count| Arc::new(Semaphore::new(count));
        Places {
            connections: Permits::new(Some(settings.connections_max)),
            look_ups: places(settings.look_ups_max),
            copies: places(settings.copies_max),
            urgent_copies: places(settings.urgent_copies_max),
        }
    }
}

impl Deps {
    /// Goes by other settings from now on: what begins after it does. What depends on memory and names stays as
    /// it is (the copies, look-ups and domains at once, the tick, the host name).
    pub fn change(&self, settings: Settings) {
        self.places.connections.resize(Some(settings.connections_max));
        self.sluices.change(&settings.caps);
        self.settings.replace(settings);
    }
}

impl Judge for Deps {
    fn may_use(&self, ip: IpAddr) -> bool {
        self.settings.now().allow_loopback || is_outside(ip)
    }

    fn is_self(&self, host: &Domain, addresses: &[SocketAddr]) -> bool {
        let is_ours = |address: &SocketAddr| {
            self.listening.iter().any(|ours| {
                ours.port() == address.port()
                    && (ours.ip() == address.ip()
                        || (ours.ip().is_unspecified() && net::is_local(address.ip())))
            })
        };
        *host == self.settings.now().hostname || addresses.iter().any(is_ours)
    }
}

/// Whether an address may be that of somebody else's server: none that means this machine or its link.
pub fn is_outside(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(v4) => {
            !(v4.is_loopback()
                || v4.is_unspecified()
                || v4.is_link_local()
                || v4.is_broadcast()
                || v4.is_multicast())
        }
        IpAddr::V6(v6) => {
            !(v6.is_loopback() || v6.is_unspecified() || v6.is_unicast_link_local() || v6.is_multicast())
        }
    }
}
