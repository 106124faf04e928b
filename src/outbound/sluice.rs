//! Limits from the configuration, and what is under way within each: so many connections, so many
//! messages a second.
//!
//! Limits nest. A provider is a group of mail hosts under one hand, whose sites (there may be thousands,
//! each tenant with a host name of its own) share its limit; a site has its own within that, and a domain
//! its own within the site's.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::governor::{self, Governor};
use super::meters::Attempts;
use super::pace::Pace;
use crate::accounts::DomainPattern;
use crate::clock::Timestamp;
use crate::egress::Learned;
use crate::mail::Domain;
use crate::net::Host;
use crate::store::{Reader, StoreError};
use crate::work::{Permit, Permits};

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
    /// Messages over one connection.
    pub messages_per_connection: Option<u32>,
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
    places: Permits,
    /// A place for each session that waits for a slot.
    line: Permits,
    /// Messages over one connection.
    stint: AtomicU32,
    /// Whose it is and what is counted of it, where it is a provider's.
    pub(super) provider: Option<Provider>,
}

/// A provider, as it is told of.
#[derive(Debug)]
pub(super) struct Provider {
    pub(super) name: Box<str>,
    /// Of many that are known few are ever met.
    attempts: OnceLock<Attempts>,
    governor: Governor,
}

impl Provider {
    /// What is counted of it.
    pub(super) fn attempts(&self) -> &Attempts {
        self.attempts.get_or_init(|| Attempts::with(&self.name))
    }
}

/// All limits.
#[derive(Debug)]
pub struct Sluices(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    providers: Vec<(Box<str>, Vec<DomainPattern>, Arc<Sluice>)>,
    caps: Vec<(Vec<DomainPattern>, Cap)>,
    domains: BTreeMap<Domain, Arc<Sluice>>,
}

impl Sluice {
    fn new(cap: Cap) -> Self {
        Sluice {
            pace: Pace::new(cap.per_second),
            places: Permits::new(cap.connections_max),
            line: Permits::new(line(cap.per_second)),
            stint: AtomicU32::new(stint(cap)),
            provider: None,
        }
    }

    /// Has another limit from now on; what is under way counts within it.
    fn change(&self, cap: Cap) {
        let per_second = match &self.provider {
            Some(provider) => provider.governor.limit(cap.per_second),
            None => cap.per_second,
        };
        self.set_rate(per_second);
        self.places.resize(cap.connections_max);
        self.stint.store(stint(cap), Ordering::Relaxed);
    }

    fn set_rate(&self, per_second: Option<f64>) {
        self.pace.set(per_second);
        self.line.resize(line(per_second));
    }

    /// Counts a message that goes.
    pub(super) fn sent(&self) {
        if let Some(provider) = &self.provider {
            provider.governor.sent();
        }
    }

    /// A message was refused for coming too fast, wherever at the provider; what is to be written down of that.
    pub(super) fn throttled(&self, now: Timestamp) -> Option<Learned> {
        self.govern(|governor| governor.throttled(now))
    }

    /// Time passes; whether messages wait for their time; what is to be written down.
    pub(super) fn tick(&self, now: Timestamp, is_wanted: bool) -> Option<Learned> {
        self.govern(|governor| governor.tick(now, is_wanted))
    }

    fn govern(&self, step: impl FnOnce(&Governor) -> (Option<f64>, Option<Learned>)) -> Option<Learned> {
        let governor = &self.provider.as_ref()?.governor;
        let (before, _) = governor.per_second();
        let (per_second, learned) = step(governor);
        if per_second != before {
            self.set_rate(per_second);
        }
        learned
    }

    /// Messages a second that may go to the provider, and whether that was found out.
    pub(super) fn per_second(&self) -> (Option<f64>, bool) {
        self.provider.as_ref().map_or((None, false), |provider| provider.governor.per_second())
    }

    /// Messages that one connection may bring.
    pub(super) fn stint(&self) -> u32 {
        self.stint.load(Ordering::Relaxed)
    }

    /// Waits for a place.
    pub(super) async fn enter(&self) -> Option<Permit> {
        self.places.enter().await
    }

    /// Takes a place where there is one.
    pub(super) fn try_enter(&self) -> Option<Permit> {
        self.places.try_enter()
    }

    /// Waits for a place in the line for slots: before a connection is opened, not with one at hand.
    pub(super) async fn line_up(&self) -> Option<Permit> {
        self.line.enter().await
    }

    /// Takes a place in that line where there is one.
    pub(super) fn try_line_up(&self) -> Option<Permit> {
        self.line.try_enter()
    }

    /// Whether others may be waiting for a place.
    pub(super) fn is_full(&self) -> bool {
        self.places.free() == 0
    }
}

fn stint(cap: Cap) -> u32 {
    cap.messages_per_connection.unwrap_or(u32::MAX)
}

/// Places in the line for slots.
fn line(per_second: Option<f64>) -> Option<usize> {
    per_second.map(|rate| (rate * LINE_SECONDS).ceil() as usize + 1)
}

impl Sluices {
    /// With nothing under way.
    pub fn new(caps: &Caps) -> Self {
        let sluices = Sluices(Mutex::default());
        sluices.change(caps);
        sluices
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Goes by other limits from now on. A provider that keeps its name keeps what is under way within its limit,
    /// and so does a domain; those that have none any more let go what waits there.
    pub fn change(&self, caps: &Caps) {
        let mut state = self.state();
        let mut before = std::mem::take(&mut state.providers);
        for (name, mx, cap) in &caps.providers {
            let known =
                before.iter().position(|(known, ..)| known == name).map(|at| before.swap_remove(at).2);
            let sluice = known.inspect(|known| known.change(*cap)).unwrap_or_else(|| {
                let governor = Governor::new(cap.per_second);
                let provider = Provider { name: name.clone(), attempts: OnceLock::new(), governor };
                Arc::new(Sluice { provider: Some(provider), ..Sluice::new(*cap) })
            });
            state.providers.push((name.clone(), mx.clone(), sluice));
        }
        before.iter().for_each(|(_, _, gone)| gone.change(Cap::default()));
        state.caps.clone_from(&caps.domains);
        let State { caps, domains, .. } = &mut *state;
        domains.retain(|domain, sluice| {
            let cap = cap_of(caps, domain);
            sluice.change(cap.unwrap_or_default());
            cap.is_some()
        });
    }

    /// Goes on from what was found out before a restart. Blocking.
    pub fn recall(&self, reader: &Reader, now: Timestamp) -> Result<(), StoreError> {
        for (name, _, sluice) in &self.state().providers {
            let Some(provider) = &sluice.provider else { continue };
            if let Some(rate) = governor::recall_provider(reader, (name, &provider.governor), now)? {
                sluice.set_rate(Some(rate));
            }
        }
        Ok(())
    }

    /// The provider of a site, by its hosts in order of preference; the first that matches counts.
    pub(super) fn provider(&self, hosts: &[Host]) -> Option<Arc<Sluice>> {
        let best = Domain::parse(&hosts.first()?.name).ok()?;
        let state = self.state();
        let is_its = |mx: &[DomainPattern]| mx.iter().any(|pattern| pattern.matches(&best));
        state.providers.iter().find(|(_, mx, _)| is_its(mx)).map(|(_, _, sluice)| sluice.clone())
    }

    /// A domain's own limit, where it has one; the first that matches counts.
    pub(super) fn domain(&self, domain: &Domain) -> Option<Arc<Sluice>> {
        let State { caps, domains, .. } = &mut *self.state();
        let cap = cap_of(caps, domain)?;
        if domains.len() >= DOMAINS_KEPT {
            domains.retain(|_, sluice| Arc::strong_count(sluice) > 1 || !sluice.pace.wait().is_zero());
        }
        let new = || Arc::new(Sluice::new(cap));
        Some(domains.entry(domain.clone()).or_insert_with(new).clone())
    }
}

/// The first limit that matches.
fn cap_of(caps: &[(Vec<DomainPattern>, Cap)], domain: &Domain) -> Option<Cap> {
    let is_its = |of: &[DomainPattern]| of.iter().any(|pattern| pattern.matches(domain));
    caps.iter().find(|(of, _)| is_its(of)).map(|(_, cap)| *cap)
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
        let cap = Cap { connections_max: Some(2), ..Cap::default() };
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
        let cap = Cap { per_second: Some(0.1), ..Cap::default() };
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

    #[tokio::test(start_paused = true)]
    async fn new_limits_count_what_is_under_way_and_no_limit_lets_go_who_waits() {
        let cap = |most: usize| Cap { connections_max: Some(most), per_second: None, ..Cap::default() };
        let caps = |mx: &str, most: usize| Caps {
            providers: vec![("m".into(), patterns(mx), cap(most))],
            domains: vec![(patterns(mx), cap(most))],
        };
        let sluices = Sluices::new(&caps("a.example", 3));
        let domain = Domain::parse("a.example").expect("a domain");
        for find in
            [&(|| sluices.provider(&[host("a.example")])) as &dyn Fn() -> Option<Arc<Sluice>>, &|| {
                sluices.domain(&domain)
            }]
        {
            sluices.change(&caps("a.example", 3));
            let sluice = find().expect("one");
            let mut held: Vec<Permit> = (0..3).filter_map(|_| sluice.try_enter()).collect();
            sluices.change(&caps("a.example", 2));
            held.pop();
            assert!(sluice.is_full(), "two are held, and two may be");
            held.pop();
            assert!(find().is_some_and(|same| Arc::ptr_eq(&same, &sluice) && !same.is_full()));
            sluices.change(&Caps::default());
            assert!(find().is_none() && !sluice.is_full());
            assert!((0..100).all(|_| sluice.try_enter().is_some()));
        }
    }
}
