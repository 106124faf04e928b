//! How sessions went, for the domains that want to hear of it (TLS-RPT, RFC 8460).
//!
//! A session counts once, when it is opened or fails to, for the domain whose mail it was opened for; that others use
//! the connection later is no other session. What is counted stays in memory until somebody takes it away, which must
//! be soon: only so many domains have room.

mod counts;
mod day;
mod session;

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

pub use counts::{DomainCounts, Failure, FailureCount, FailureKind, PolicyCounts, PolicyKind, PolicyUsed};
pub use day::Day;
pub use session::{Avoided, Ended, Session};

use super::Sts;
use super::demand::Demand;
use crate::clock::Timestamp;
use crate::mail::Domain;

/// Domains that are counted at once, some hundred octets each.
const DOMAINS_MAX: usize = 20_000;
/// And octets of all of them, about.
const OCTETS_MAX: usize = 64 << 20;
/// Domains that are remembered to want nothing; eight octets each.
const UNWANTED_MAX: usize = 200_000;

/// What was counted of whom.
pub type Counted = HashMap<(Day, Domain), DomainCounts>;

#[derive(Default)]
struct State {
    counted: Counted,
    octets: usize,
    /// Digests of the names of domains that want no reports today.
    unwanted: HashSet<u64>,
    unwanted_on: Option<Day>,
    lost: u64,
}

/// Counts sessions.
#[derive(Default)]
pub struct Tally {
    state: Mutex<State>,
    digest: RandomState,
    is_off: AtomicBool,
}

impl Tally {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts from now on, or does not.
    pub fn turn(&self, is_on: bool) {
        self.is_off.store(!is_on, Ordering::Relaxed);
    }

    /// Counts a session.
    pub fn note(&self, now: Timestamp, session: Session<'_>, demand: &Demand, ended: Ended<'_>) {
        if self.is_wanted(now, session.domain)
            && let Some(judged) = session.judge(demand, ended)
        {
            let failed = session::policy_failure(session.domain, session.sts);
            let failed = failed.map(|(policy, failure)| (policy, Some(failure)));
            self.count(now, session.domain, [judged].into_iter().chain(failed));
        }
    }

    /// Counts that a host was avoided, where that is a matter of policies.
    pub fn avoid(&self, now: Timestamp, domain: &Domain, sts: &Sts, host: &str, why: Avoided<'_>) {
        if self.is_wanted(now, domain)
            && let Some((policy, failure)) = session::avoided(domain, sts, host, why)
        {
            self.count(now, domain, [(policy, Some(failure))].into_iter());
        }
    }

    fn is_wanted(&self, now: Timestamp, domain: &Domain) -> bool {
        if self.is_off.load(Ordering::Relaxed) {
            return false;
        }
        let digest = self.digest.hash_one(domain);
        let state = self.state();
        state.unwanted_on != Some(Day::of(now)) || !state.unwanted.contains(&digest)
    }

    fn count(
        &self,
        now: Timestamp,
        domain: &Domain,
        judged: impl Iterator<Item = (PolicyUsed, Option<Failure>)>,
    ) {
        let mut state = self.state();
        let of = (Day::of(now), domain.clone());
        let is_full = state.counted.len() >= DOMAINS_MAX && !state.counted.contains_key(&of);
        if is_full || state.octets >= OCTETS_MAX {
            state.lost += 1;
            return;
        }
        let counts = state.counted.entry(of).or_default();
        let more: usize = judged.map(|(policy, failure)| counts.note(policy, failure)).sum();
        state.octets += more;
    }

    /// Gives what was counted since the last time, and how many sessions there was no room for.
    pub fn take(&self) -> (Counted, u64) {
        let mut state = self.state();
        state.octets = 0;
        (std::mem::take(&mut state.counted), std::mem::take(&mut state.lost))
    }

    /// Takes back what could not be kept elsewhere, as far as there is room.
    pub fn put_back(&self, counted: Counted) {
        let mut state = self.state();
        for (of, counts) in counted {
            let is_full = state.counted.len() >= DOMAINS_MAX && !state.counted.contains_key(&of);
            if is_full || state.octets >= OCTETS_MAX {
                let (successful, failed) = counts.totals();
                state.lost += successful + failed;
                continue;
            }
            let more = state.counted.entry(of).or_default().merge(counts);
            state.octets += more;
        }
    }

    /// Counts nothing more for a domain on this day: it wants no reports.
    pub fn pass_over(&self, day: Day, domain: &Domain) {
        let digest = self.digest.hash_one(domain);
        let mut state = self.state();
        // of a day that is over nothing more is counted
        if state.unwanted_on > Some(day) {
            return;
        }
        if state.unwanted_on != Some(day) {
            state.unwanted.clear();
            state.unwanted_on = Some(day);
        }
        if state.unwanted.len() >= UNWANTED_MAX {
            state.unwanted.clear();
        }
        state.unwanted.insert(digest);
    }
}

#[cfg(test)]
mod tests;
