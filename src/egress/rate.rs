//! How many messages a second a destination takes: found out gently.
//!
//! There is no limit but the configured one until the destination says that mail comes too fast, or sends a session away
//! that has sent some. Then the rate is somewhat less than what went through, and creeps on from there; the longer nothing is
//! refused, the faster.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;

/// What is left of the rate that was too high.
const CUT: f64 = 0.85;
/// Growth a second after a cut; it doubles each time that so long nothing was refused.
const GROWTH_FIRST: f64 = 0.005;
const GROWTH_LAST: f64 = 0.1;
const GROWTH_DOUBLES: Duration = Duration::from_secs(10);
/// Refusals so soon after a cut are still answers to the rate before it.
const REACTION: Duration = Duration::from_secs(2);
/// How often the rate rises.
const STEP: Duration = Duration::from_secs(1);
/// One message in ten seconds always goes.
const LEAST: f64 = 0.1;
/// So far above what was refused once, the refusal means nothing any more.
const FORGOTTEN_AT: f64 = 10.0;
/// What went through is measured over this time, which is also the least.
const MEASURED_OVER: Duration = Duration::from_secs(2);
const MEASURED_LEAST: Duration = Duration::from_secs(1);

/// The rate of a path.
#[derive(Debug)]
pub struct Rate {
    cap: Option<f64>,
    learned: Option<Learned>,
    throughput: Throughput,
}

/// What is worth keeping of a rate that was found out.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Found {
    /// Messages that may go now.
    pub per_second: f64,
    /// What was too much.
    pub refused_at: f64,
}

#[derive(Debug)]
struct Learned {
    per_second: f64,
    /// What was too much.
    refused_at: f64,
    cut: Timestamp,
    moved: Timestamp,
}

impl Rate {
    /// `cap` is the configured limit, a second.
    pub fn new(cap: Option<f64>) -> Self {
        Rate { cap, learned: None, throughput: Throughput::default() }
    }

    /// What was found out, to be kept.
    pub fn found(&self) -> Option<Found> {
        self.learned.as_ref().map(|it| Found { per_second: it.per_second, refused_at: it.refused_at })
    }

    /// Goes on from what was found out before a restart: from where it was, and slowly at first.
    pub fn recall(&mut self, now: Timestamp, found: Found) {
        let Found { per_second, refused_at } = found;
        if per_second.is_finite() && refused_at.is_finite() {
            let per_second = per_second.max(LEAST);
            self.learned = Some(Learned { per_second, refused_at, cut: now, moved: now });
        }
    }

    /// Another configured limit, from now on.
    pub fn limit(&mut self, cap: Option<f64>) {
        self.cap = cap;
    }

    /// Messages a second that may go; `None` for as many as can.
    pub fn per_second(&self) -> Option<f64> {
        let learned = self.learned.as_ref().map(|learned| learned.per_second);
        [self.cap, learned].into_iter().flatten().min_by(f64::total_cmp)
    }

    /// Whether the rate that counts was found out, not configured.
    pub fn is_learned(&self) -> bool {
        let learned = self.learned.as_ref().map(|learned| learned.per_second);
        learned.is_some() && self.per_second() == learned
    }

    /// The site sent a session away. `fetched` is how many copies sessions ever took.
    pub fn refused(&mut self, now: Timestamp, fetched: u64) {
        if self.learned.as_ref().is_some_and(|learned| now.since(learned.cut) < REACTION) {
            return;
        }
        let measured = self.throughput.per_second(now, fetched);
        // a slow start or end of the measured time must not hide what had been allowed
        let refused_at = self.per_second().map_or(measured, |allowed| measured.clamp(allowed * CUT, allowed));
        let per_second = (refused_at * CUT).max(LEAST);
        self.learned = Some(Learned { per_second, refused_at, cut: now, moved: now });
    }

    /// It was not the rate after all.
    pub fn forget(&mut self) {
        self.learned = None;
    }

    /// Time passes; whether copies wait for their time: a rate that is not used says nothing about more.
    pub fn tick(&mut self, now: Timestamp, fetched: u64, is_wanted: bool) {
        self.throughput.note(now, fetched);
        let Some(learned) = &mut self.learned else { return };
        let since = now.since(learned.moved);
        if now.since(learned.cut) < REACTION || since < STEP {
            return;
        }
        learned.moved = now;
        if !is_wanted {
            return;
        }
        let doublings = now.since(learned.cut).as_secs_f64() / GROWTH_DOUBLES.as_secs_f64();
        let growth = (GROWTH_FIRST * doublings.exp2()).min(GROWTH_LAST);
        learned.per_second *= (1.0 + growth).powf(since.as_secs_f64().min(2.0));
        if learned.per_second > FORGOTTEN_AT * learned.refused_at {
            self.learned = None;
        }
    }
}

/// What went through of late.
#[derive(Debug, Default)]
struct Throughput(VecDeque<(Timestamp, u64)>);

impl Throughput {
    fn note(&mut self, now: Timestamp, fetched: u64) {
        self.0.push_back((now, fetched));
        // the last one that is old enough stays, to measure from
        while self.0.get(1).is_some_and(|(at, _)| now.since(*at) >= MEASURED_OVER) {
            self.0.pop_front();
        }
    }

    fn per_second(&self, now: Timestamp, fetched: u64) -> f64 {
        let (since, before) = self.0.front().copied().unwrap_or((now, 0));
        let time = now.since(since).clamp(MEASURED_LEAST, 2 * MEASURED_OVER);
        fetched.saturating_sub(before) as f64 / time.as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: Duration = Duration::from_millis(250);

    /// Sends through a bucket of `capacity` for so many seconds; gives how many went through and how many were
    /// refused in the second half.
    fn run(rate: &mut Rate, capacity: f64, seconds: u64) -> (f64, f64) {
        let (mut now, mut fetched, mut bucket, mut owed) = (Timestamp::from_millis(0), 0, capacity, 0.0);
        let half = u64::try_from(Duration::from_secs(seconds / 2).as_millis()).expect("fits");
        let (mut taken, mut refused) = (0.0, 0.0);
        for _ in 0..seconds * 4 {
            now = now.after(TICK);
            bucket = (bucket + capacity * TICK.as_secs_f64()).min(capacity);
            owed += rate.per_second().unwrap_or(200.0) * TICK.as_secs_f64();
            while owed >= 1.0 {
                owed -= 1.0;
                fetched += 1;
                let counts = if now.as_millis() > half { 1.0 } else { 0.0 };
                if bucket >= 1.0 {
                    bucket -= 1.0;
                    taken += counts;
                } else {
                    refused += counts;
                    rate.refused(now, fetched);
                }
            }
            rate.tick(now, fetched, true);
        }
        (taken / (seconds as f64 / 2.0), refused / (taken + refused))
    }

    #[test]
    fn a_secret_limit_is_found_and_hardly_ever_exceeded() {
        for capacity in [5.0, 30.0, 120.0] {
            let (per_second, refused) = run(&mut Rate::new(None), capacity, 240);
            assert!(per_second > 0.9 * capacity, "{per_second} of {capacity}");
            assert!(refused < 0.02, "{refused} at {capacity}");
        }
    }

    #[test]
    fn where_nothing_is_refused_only_the_configured_limit_counts() {
        let mut rate = Rate::new(None);
        assert_eq!(run(&mut rate, 1000.0, 60), (200.0, 0.0));
        assert_eq!(rate.per_second(), None);
        assert_eq!(Rate::new(Some(7.0)).per_second(), Some(7.0));
    }

    #[test]
    fn a_limit_that_was_lifted_is_forgotten_in_minutes_not_at_once() {
        let mut rate = Rate::new(None);
        run(&mut rate, 10.0, 60);
        let before = rate.per_second().expect("learned");
        let mut fetched = 0;
        let mut after = |seconds: std::ops::Range<u64>| {
            for second in seconds {
                fetched += rate.per_second().unwrap_or(200.0) as u64;
                rate.tick(Timestamp::from_millis(60_000 + second * 1000), fetched, true);
            }
            rate.per_second()
        };
        let soon = after(0..10);
        assert!(soon.is_some_and(|now| now < 1.5 * before), "{before} {soon:?}");
        assert_eq!(after(10..600), None);
    }
}
