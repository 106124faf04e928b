//! The pace at which messages are started.
//!
//! Owns the moment of the next start. Promises the rate on average; a stall is
//! caught up with, but only its last moment, lest a burst follow it.

use std::time::Duration;

use tokio::time::Instant;

/// How much of a stall is caught up with.
const CATCH_UP_MILLIS: u64 = 100;

pub(crate) struct Pace {
    interval: Option<Duration>,
    next: Instant,
}

impl Pace {
    /// A pace of so many starts a second, or none.
    pub(crate) fn new(per_second: Option<f64>, now: Instant) -> Self {
        let interval = per_second.map(|rate| Duration::from_secs_f64(1.0 / rate));
        Self { interval, next: now }
    }

    /// The moment the caller may start, `None` if it is now.
    pub(crate) fn next(&mut self, now: Instant) -> Option<Instant> {
        let interval = self.interval?;
        let oldest = now.checked_sub(Duration::from_millis(CATCH_UP_MILLIS)).unwrap_or(now);
        let start = self.next.max(oldest);
        self.next = start + interval;
        (start > now).then_some(start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_are_spread() {
        let now = Instant::now();
        let mut pace = Pace::new(Some(10.0), now);
        assert_eq!(pace.next(now), None);
        for k in 1..=50 {
            assert_eq!(pace.next(now), Some(now + Duration::from_millis(100 * k)));
        }
        assert_eq!(Pace::new(None, now).next(now), None);
    }

    #[test]
    fn only_the_end_of_a_stall_is_caught_up_with() {
        let start = Instant::now();
        let mut pace = Pace::new(Some(100.0), start);
        let late = start + Duration::from_secs(60);
        let at_once = (0..100).filter(|_| pace.next(late).is_none()).count();
        assert_eq!(at_once, 11);
    }
}
