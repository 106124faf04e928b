//! What is known of single mail hosts: connections to them that nobody uses now, and addresses that did
//! not answer of late.
//!
//! A connection belongs to its host, not to the site that opened it: sites that share a mail host share
//! its connections. One that is kept holds its places, and gives way when somebody wants them.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Deps;
use super::connection::{Connection, Terms};
use super::sluice::Sluice;
use crate::clock::Timestamp;
use crate::net::Host;
use crate::work::Permit;
#[cfg(test)]
use crate::work::Permits;

/// An address that did not answer is tried behind the others for so long.
const DEAD_FOR: Duration = Duration::from_secs(300);
/// Addresses of which something is remembered; beyond that, some are forgotten.
const REMEMBERED_MAX: usize = 4096;
/// Where TLS was found not to work it is not tried again for so long.
const BROKEN_TLS_FOR: Duration = Duration::from_secs(3600);
/// How often it is looked for connections that were kept long enough.
const TIDIED_EVERY: Duration = Duration::from_millis(500);

/// What a connection holds while it is open.
#[derive(Debug)]
pub(super) struct Place {
    _any: Permit,
    provider: Option<(Arc<Sluice>, Permit)>,
}

struct Kept {
    connection: Connection,
    place: Place,
    since: Timestamp,
}

#[derive(Default)]
struct State {
    /// Those kept for longest first.
    kept: VecDeque<Kept>,
    /// Whether none is kept any more.
    is_closed: bool,
    /// Until when addresses are tried behind the others.
    dead: Remembered,
    /// Until when no TLS is tried there.
    broken_tls: Remembered,
}

/// Addresses with something against them, until a time.
#[derive(Default)]
struct Remembered(BTreeMap<SocketAddr, Timestamp>);

impl Remembered {
    fn has(&self, now: Timestamp, address: &SocketAddr) -> bool {
        self.0.get(address).is_some_and(|until| now < *until)
    }

    fn note(&mut self, now: Timestamp, address: SocketAddr, time: Duration) {
        if self.0.len() >= REMEMBERED_MAX {
            self.0.retain(|_, until| now < *until);
        }
        if self.0.len() >= REMEMBERED_MAX {
            self.0.pop_first();
        }
        self.0.insert(address, now.after(time));
    }
}

/// What is known of all mail hosts.
#[derive(Default)]
pub struct Hosts(Mutex<State>);

impl Hosts {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a connection for whoever wants one to its host next.
    pub(super) fn keep(&self, now: Timestamp, connection: Connection, place: Place) {
        let kept = Kept { connection, place, since: now };
        let mut state = self.state();
        if !state.is_closed {
            return state.kept.push_back(kept);
        }
        drop(state);
        kept.close();
    }

    /// A connection to one of these addresses, if one is kept that may be used under these terms; the best address
    /// first, and to that the connection used last.
    pub(super) fn take(
        &self,
        addresses: &[(&Host, SocketAddr)],
        terms: Terms<'_>,
    ) -> Option<(Connection, Place)> {
        let mut state = self.state();
        if state.kept.is_empty() {
            return None;
        }
        let best = addresses.first()?.0.preference;
        let equal = addresses.iter().take_while(|(host, _)| host.preference == best);
        let place = equal.clone().find_map(|(host, address)| {
            let is_there = |kept: &Kept| {
                kept.connection.leads_to(&host.name, *address) && kept.connection.may_carry(terms)
            };
            state.kept.iter().rposition(is_there)
        })?;
        state.kept.remove(place).map(|kept| (kept.connection, kept.place))
    }

    /// Addresses in the order in which they are tried: hosts by preference, those that did not answer of
    /// late behind all others.
    pub(super) fn in_order<'a>(&self, now: Timestamp, hosts: &'a [Host]) -> Vec<(&'a Host, SocketAddr)> {
        let mut order: Vec<(&Host, SocketAddr)> = Vec::new();
        for host in shuffled(hosts) {
            order.extend(host.addresses.iter().map(|address| (host, *address)));
        }
        let state = self.state();
        order.sort_by_key(|(_, address)| state.dead.has(now, address));
        order
    }

    /// An address did not answer.
    pub(super) fn note_dead(&self, now: Timestamp, address: SocketAddr) {
        self.state().dead.note(now, address, DEAD_FOR);
    }

    /// TLS was offered at an address, and did not work.
    pub(super) fn note_broken_tls(&self, now: Timestamp, address: SocketAddr) {
        self.state().broken_tls.note(now, address, BROKEN_TLS_FOR);
    }

    /// Whether that was so of late.
    pub(super) fn has_broken_tls(&self, now: Timestamp, address: SocketAddr) -> bool {
        self.state().broken_tls.has(now, &address)
    }

    /// An address answered.
    pub(super) fn note_alive(&self, address: SocketAddr) {
        let mut state = self.state();
        if !state.dead.0.is_empty() {
            state.dead.0.remove(&address);
        }
    }

    /// Gives up the connection kept for longest, of a provider's where one is named; whether there was one.
    fn give_way(&self, provider: Option<&Arc<Sluice>>) -> bool {
        let mut state = self.state();
        let is_its = |kept: &Kept| match (provider, &kept.place.provider) {
            (Some(wanted), Some((held, _))) => Arc::ptr_eq(wanted, held),
            (Some(_), None) => false,
            (None, _) => true,
        };
        let oldest = state.kept.iter().position(is_its);
        let given_up = oldest.and_then(|place| state.kept.remove(place));
        drop(state);
        given_up.map(Kept::close).is_some()
    }

    /// How many connections are kept.
    pub(super) fn kept(&self) -> usize {
        self.state().kept.len()
    }

    /// Closes all connections that are kept, and keeps no more.
    pub(super) fn close_all(&self) {
        let mut state = self.state();
        state.is_closed = true;
        let kept = std::mem::take(&mut state.kept);
        drop(state);
        kept.into_iter().for_each(Kept::close);
    }

    fn tidy(&self, now: Timestamp, idle_timeout: Duration) {
        let mut state = self.state();
        let is_old = |kept: &Kept| now.since(kept.since) >= idle_timeout;
        let count = state.kept.iter().take_while(|kept| is_old(kept)).count();
        let old: Vec<Kept> = state.kept.drain(..count).collect();
        drop(state);
        old.into_iter().for_each(Kept::close);
    }
}

impl Kept {
    /// Its places are free at once: the reply to QUIT may be late.
    fn close(self) {
        drop(self.place);
        tokio::spawn(self.connection.close());
    }
}

impl Place {
    /// Waits for the places that a connection needs.
    pub(super) async fn take(deps: &Deps, provider: Option<&Arc<Sluice>>) -> Option<Self> {
        let of_provider = match provider {
            Some(sluice) => loop {
                match sluice.try_enter() {
                    Some(place) => break Some(place),
                    None if deps.hosts.give_way(Some(sluice)) => {}
                    None => break sluice.enter().await,
                }
            },
            None => None,
        };
        let provider = provider.cloned().zip(of_provider);
        let _any = any_place(deps).await?;
        Some(Place { _any, provider })
    }

    /// Whether others may be waiting for what it holds.
    pub(super) fn is_wanted(&self, deps: &Deps) -> bool {
        let provider_is_full = self.provider.as_ref().is_some_and(|(sluice, _)| sluice.is_full());
        provider_is_full || deps.places.connections.free() == 0
    }
}

async fn any_place(deps: &Deps) -> Option<Permit> {
    #[cfg(test)]
    if super::faults::has(super::faults::Defect::IgnoresPlaces) {
        return Permits::new(Some(1)).enter().await;
    }
    let places = &deps.places.connections;
    loop {
        match places.try_enter() {
            Some(place) => return Some(place),
            None if deps.hosts.give_way(None) => {}
            None => return places.enter().await,
        }
    }
}

/// Closes connections that were kept long enough, now and again.
pub(super) async fn tidy(deps: &Deps) {
    let mut times = tokio::time::interval(TIDIED_EVERY);
    loop {
        times.tick().await;
        deps.hosts.tidy(deps.clock.now(), deps.settings.now().idle_timeout);
    }
}

/// Hosts by preference, those of equal preference in random order (RFC 5321 5.1).
fn shuffled(hosts: &[Host]) -> Vec<&Host> {
    let mut order: Vec<&Host> = hosts.iter().collect();
    fastrand::shuffle(&mut order);
    order.sort_by_key(|host| host.preference);
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str, preference: u16, octet: u8) -> Host {
        Host { name: name.into(), preference, addresses: vec![SocketAddr::from(([192, 0, 2, octet], 25))] }
    }

    fn names(order: &[(&Host, SocketAddr)]) -> String {
        order.iter().map(|(host, _)| &*host.name).collect()
    }

    #[test]
    fn hosts_of_equal_preference_take_turns_behind_better_ones() {
        let (known, now) = (Hosts::default(), Timestamp::ZERO);
        let hosts = [host("a", 10, 1), host("b", 20, 2), host("c", 20, 3)];
        let orders: std::collections::BTreeSet<String> =
            (0..100).map(|_| names(&known.in_order(now, &hosts))).collect();
        assert_eq!(orders.into_iter().collect::<Vec<_>>(), ["abc", "acb"]);
    }

    #[test]
    fn broken_tls_is_remembered_for_an_hour() {
        let (known, now) = (Hosts::default(), Timestamp::from_millis(5));
        let address = SocketAddr::from(([192, 0, 2, 1], 25));
        known.note_broken_tls(now, address);
        let after = |minutes: u64| now.after(Duration::from_secs(60 * minutes));
        assert!(known.has_broken_tls(after(59), address) && !known.has_broken_tls(after(60), address));
    }

    #[test]
    fn a_dead_address_is_tried_last_until_it_may_live_again() {
        let (known, now) = (Hosts::default(), Timestamp::from_millis(5));
        let hosts = [host("a", 10, 1), host("b", 20, 2)];
        known.note_dead(now, hosts[0].addresses[0]);
        assert_eq!(names(&known.in_order(now, &hosts)), "ba");
        assert_eq!(names(&known.in_order(now.after(DEAD_FOR), &hosts)), "ab");
        known.note_alive(hosts[0].addresses[0]);
        assert_eq!(names(&known.in_order(now, &hosts)), "ab");
    }
}
