//! Limits from the configuration, and what is under way within each: so many connections, so many
//! messages a second.
//!
//! Limits nest. A provider is a group of mail hosts under one hand, whose sites (there may be thousands,
//! each tenant with a host name of its own) share its limit; a site has its own within that, and a domain
//! its own within the site's.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::pace::Pace;
use crate::accounts::DomainPattern;
use crate::mail::Domain;
use crate::net::Host;

/// Domains with limits of their own whose state is kept; beyond that, those that rest are forgotten.
const DOMAINS_KEPT: usize = 4096;
/// So many seconds' worth of sessions wait for their slots: each keeps a connection meanwhile, and more of
/// them would only grow old there.
const LINE_SECONDS: f64 = 2.0;

/// What may be under way at most.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cap {
    /// Connections at once.
    pub connections_max: Option<usize>,
    /// Messages a second.
    pub per_second: Option<f64>,
}

/// The configured limits.
#[derive(Clone, Debug, Default)]
pub struct Caps {
    /// By name, for all sites together whose best mail host matches.
    pub providers: Vec<(Box<str>, Vec<DomainPattern>, Cap)>,
    /// For each domain that matches, by itself.
    pub domains: Vec<(Vec<DomainPattern>, Cap)>,
}

/// What is under way within one limit.
#[derive(Debug)]
pub(super) struct Sluice {
    pub(super) pace: Pace,
    /// A place for each connection, or for each copy where it is a domain's.
    places: Option<Arc<Semaphore>>,
    /// A place for each session that waits for a slot.
    line: Option<Arc<Semaphore>>,
}

/// All limits.
#[derive(Debug)]
pub struct Sluices {
    providers: Vec<(Vec<DomainPattern>, Arc<Sluice>)>,
    caps: Vec<(Vec<DomainPattern>, Cap)>,
    domains: Mutex<BTreeMap<Domain, Arc<Sluice>>>,
}

impl Sluice {
    fn new(cap: Cap) -> Arc<Self> {
        Arc::new(Sluice {
            pace: Pace::new(cap.per_second),
            places: cap.connections_max.map(|most| Arc::new(Semaphore::new(most))),
            line: cap
                .per_second
                .map(|rate| Arc::new(Semaphore::new((rate * LINE_SECONDS).ceil() as usize + 1))),
        })
    }

    /// Waits for a place, if places are limited.
    pub(super) async fn enter(&self) -> Option<OwnedSemaphorePermit> {
        let places = self.places.clone()?;
        // never closed: there is always a place in the end
        places.acquire_owned().await.ok()
    }

    /// Takes a place where there is one: nothing where there is none, and nothing to hold where places
    /// are not limited.
    pub(super) fn try_enter(&self) -> Option<Option<OwnedSemaphorePermit>> {
        match &self.places {
            Some(places) => places.clone().try_acquire_owned().ok().map(Some),
            None => Some(None),
        }
    }

    /// Waits for a place in the line for slots: before a connection is opened, not with one at hand.
    pub(super) async fn line_up(&self) -> Option<OwnedSemaphorePermit> {
        let line = self.line.clone()?;
        // never closed: there is always a place in the end
        line.acquire_owned().await.ok()
    }

    /// Takes a place in that line where there is one; as [`Self::try_enter`].
    pub(super) fn try_line_up(&self) -> Option<Option<OwnedSemaphorePermit>> {
        match &self.line {
            Some(line) => line.clone().try_acquire_owned().ok().map(Some),
            None => Some(None),
        }
    }

    /// Whether others may be waiting for a place.
    pub(super) fn is_full(&self) -> bool {
        self.places.as_ref().is_some_and(|places| places.available_permits() == 0)
    }
}

impl Sluices {
    /// With nothing under way.
    pub fn new(caps: &Caps) -> Self {
        let provider = |(_, mx, cap): &(Box<str>, Vec<DomainPattern>, Cap)| (mx.clone(), Sluice::new(*cap));
        Sluices {
            providers: caps.providers.iter().map(provider).collect(),
            caps: caps.domains.clone(),
            domains: Mutex::default(),
        }
    }

    /// The provider of a site, by its hosts in order of preference; the first that matches counts.
    pub(super) fn provider(&self, hosts: &[Host]) -> Option<Arc<Sluice>> {
        let best = Domain::parse(&hosts.first()?.name).ok()?;
        let matching = |(mx, _): &&(Vec<DomainPattern>, _)| mx.iter().any(|pattern| pattern.matches(&best));
        self.providers.iter().find(matching).map(|(_, sluice)| sluice.clone())
    }

    /// A domain's own limit, where it has one; the first that matches counts.
    pub(super) fn domain(&self, domain: &Domain) -> Option<Arc<Sluice>> {
        let matching = |(of, _): &&(Vec<DomainPattern>, _)| of.iter().any(|pattern| pattern.matches(domain));
        let cap = self.caps.iter().find(matching)?.1;
        let mut domains = self.domains.lock().unwrap_or_else(PoisonError::into_inner);
        if domains.len() >= DOMAINS_KEPT {
            domains.retain(|_, sluice| Arc::strong_count(sluice) > 1 || !sluice.pace.wait().is_zero());
        }
        let new = || Sluice::new(cap);
        Some(domains.entry(domain.clone()).or_insert_with(new).clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(text: &str) -> Vec<DomainPattern> {
        vec![DomainPattern::parse(text).expect("a pattern")]
    }

    fn host(name: &str) -> Host {
        Host { name: name.into(), preference: 0, addresses: Vec::new() }
    }

    #[tokio::test]
    async fn tenants_with_hosts_of_their_own_share_their_providers_limit() {
        let cap = Cap { connections_max: Some(2), per_second: None };
        let caps = Caps { providers: vec![("m".into(), patterns("*.mail.example"), cap)], ..Caps::default() };
        let sluices = Sluices::new(&caps);
        let of = |name: &str| sluices.provider(&[host(name), host("other.example")]);
        let (a, b) = (of("a.mail.example").expect("one"), of("b.mail.example").expect("one"));
        let held = (a.try_enter(), b.try_enter());
        assert!(held.0.is_some() && held.1.is_some() && a.is_full() && b.try_enter().is_none());
        assert!(of("other.example").is_none() && sluices.provider(&[]).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_domain_keeps_its_limit_while_nobody_looks() {
        let cap = Cap { connections_max: None, per_second: Some(0.1) };
        let caps = Caps { domains: vec![(patterns("slow.example"), cap)], ..Caps::default() };
        let sluices = Sluices::new(&caps);
        let domain = |name: &str| Domain::parse(name).expect("a domain");
        let slow = sluices.domain(&domain("slow.example")).expect("has one");
        assert!(slow.pace.slot(std::time::Duration::ZERO).await);
        drop(slow);
        let again = sluices.domain(&domain("slow.example")).expect("has one");
        assert!(!again.pace.wait().is_zero());
        assert!(sluices.domain(&domain("other.example")).is_none());
    }
}
