//! What actors see of a domain and its path now, for operators.

use actix::{Handler, Message, ResponseFuture};
use serde::Serialize;

use super::manager::Outbound;
use crate::clock::Timestamp;
use crate::mail::Domain;
use crate::net::Site;

/// What is known of a domain's mail on its way.
#[derive(Debug, Message)]
#[rtype(result = "Looked")]
pub struct Look {
    /// Whose.
    pub domain: Domain,
    /// Its mail hosts, where they are known to who asks: a path may live whose domain rests.
    pub site: Option<Site>,
}

/// What was seen. A part that does not live has nothing to do.
#[derive(Debug, Default)]
pub struct Looked {
    /// The domain.
    pub domain: Option<DomainLook>,
    /// The path.
    pub path: Option<PathLook>,
}

/// What a domain is about.
#[derive(Clone, Debug)]
pub struct DomainLook {
    /// What it does now.
    pub doing: &'static str,
    /// Until when nothing goes, and for which reason.
    pub blocked: Option<(Timestamp, &'static str)>,
}

/// How fast a path goes.
#[derive(Clone, Debug, Serialize)]
pub struct PathLook {
    /// Its mail hosts.
    pub site: String,
    /// Connections open, and those that are being opened.
    pub connections: usize,
    /// Connections of those that are up.
    pub connections_up: usize,
    /// Connections that it is found to take.
    pub window: usize,
    /// Connections that it may have by configuration.
    pub window_max: usize,
    /// Messages a second that it may have now: configured, or found out.
    pub per_second: Option<f64>,
    /// Whether that was found out.
    pub is_rate_learned: bool,
    /// Copies in hand, and those of them that wait for a session.
    pub copies: usize,
    /// Copies that wait in memory.
    pub ready: usize,
    /// Sessions that wait until their message may go.
    pub pacing: usize,
    /// How often in a row it could not be reached.
    pub failures: u32,
    /// Whether it is down.
    pub is_down: bool,
    /// How long until a message may go, in seconds.
    pub slot_in_seconds: f64,
    /// Whether it is the provider's rate that is waited for.
    pub is_provider_paced: bool,
    /// Whether all connections of its provider are in use.
    pub is_provider_full: bool,
    /// Messages a second that the provider may have, over all its sites.
    pub provider_per_second: Option<f64>,
    /// Whether that was found out.
    pub is_provider_rate_learned: bool,
}

impl PathLook {
    /// What keeps mail from going faster, in words; nothing where nothing does.
    pub fn limit(&self, copies_waiting: bool) -> Option<String> {
        let is_full = self.connections_up >= self.window;
        if self.is_down {
            Some(format!("the destination is down ({} failures in a row)", self.failures))
        } else if self.is_provider_paced {
            let how = if self.is_provider_rate_learned { "found out" } else { "configured" };
            self.provider_per_second
                .map(|rate| format!("the provider's rate, {rate:.2} messages a second ({how})"))
        } else if self.pacing > 0 || self.slot_in_seconds > 0.0 {
            let how = if self.is_rate_learned { "found out" } else { "configured" };
            self.per_second.map(|rate| format!("{rate:.2} messages a second ({how})"))
        } else if self.is_provider_full {
            Some("all connections of the provider are in use".into())
        } else if copies_waiting && is_full && self.window < self.window_max {
            Some(format!("{} connections, as the destination takes no more", self.window))
        } else if copies_waiting && is_full {
            Some(format!("{} connections, as configured", self.window_max))
        } else {
            None
        }
    }
}

/// The same, among actors.
#[derive(Message)]
#[rtype(result = "(DomainLook, Option<super::path::PathHandle>)")]
pub(super) struct LookAtDomain;

#[derive(Message)]
#[rtype(result = "PathLook")]
pub(super) struct LookAtPath;

impl Handler<Look> for Outbound {
    type Result = ResponseFuture<Looked>;

    fn handle(&mut self, look: Look, _: &mut Self::Context) -> Self::Result {
        self.deps().faults.reach("manager", &"Look");
        let domain = self.domain(&look.domain);
        let of_site = look.site.and_then(|site| self.path(&site));
        Box::pin(async move {
            // one that is gone meanwhile has nothing to tell
            let looked = match domain {
                Some(domain) => domain.send(LookAtDomain).await.ok(),
                None => None,
            };
            let (domain, path) = looked.map_or((None, None), |(domain, path)| (Some(domain), path));
            let path = match path.or(of_site) {
                Some(path) => path.send(LookAtPath).await.ok(),
                None => None,
            };
            Looked { domain, path }
        })
    }
}
