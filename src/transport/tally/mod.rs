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
use std::sync::{Mutex, MutexGuard, PoisonError};

pub use counts::{DomainCounts, Failure, FailureCount, FailureKind, PolicyCounts, PolicyKind, PolicyUsed};
pub use day::Day;
pub use session::{Avoided, Ended, Session};

use super::Sts;
use super::demand::Demand;
use crate::clock::Timestamp;
use crate::mail::Domain;

/// Domains that are counted at once; some hundred octets each, and never more than 64 KiB.
const DOMAINS_MAX: usize = 20_000;
/// Domains that are remembered to want nothing; eight octets each.
const UNWANTED_MAX: usize = 200_000;

/// What was counted of whom.
pub type Counted = HashMap<(Day, Domain), DomainCounts>;

#[derive(Default)]
struct State {
    counted: Counted,
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
}

impl Tally {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a session.
    pub fn note(&self, now: Timestamp, session: Session<'_>, demand: &Demand, ended: Ended<'_>) {
        self.count(now, session.domain, |counts| {
            let (policy, failure) = session.judge(demand, ended);
            counts.note(policy, failure);
            if let Some((policy, failure)) = session::policy_failure(session.domain, session.sts) {
                counts.note(policy, Some(failure));
            }
        });
    }

    /// Counts that a host was avoided, where that is a matter of policies.
    pub fn avoid(&self, now: Timestamp, domain: &Domain, sts: &Sts, host: &str, why: Avoided<'_>) {
        if let Some((policy, failure)) = session::avoided(domain, sts, host, why) {
            self.count(now, domain, |counts| counts.note(policy, Some(failure)));
        }
    }

    fn count(&self, now: Timestamp, domain: &Domain, with: impl FnOnce(&mut DomainCounts)) {
        let (today, digest) = (Day::of(now), self.digest.hash_one(domain));
        let mut state = self.state();
        if state.unwanted_on == Some(today) && state.unwanted.contains(&digest) {
            return;
        }
        let is_full = state.counted.len() >= DOMAINS_MAX;
        match state.counted.entry((today, domain.clone())) {
            std::collections::hash_map::Entry::Vacant(_) if is_full => state.lost += 1,
            entry => with(entry.or_default()),
        }
    }

    /// Gives what was counted since the last time, and how many sessions there was no room for.
    pub fn take(&self) -> (Counted, u64) {
        let mut state = self.state();
        (std::mem::take(&mut state.counted), std::mem::take(&mut state.lost))
    }

    /// Takes back what could not be kept elsewhere.
    pub fn put_back(&self, counted: Counted) {
        let mut state = self.state();
        for (of, counts) in counted {
            state.counted.entry(of).or_default().merge(counts);
        }
    }

    /// Counts nothing more for a domain on this day: it wants no reports.
    pub fn pass_over(&self, day: Day, domain: &Domain) {
        let digest = self.digest.hash_one(domain);
        let mut state = self.state();
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
