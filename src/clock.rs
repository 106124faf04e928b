//! The only reader of the clocks.
//!
//! Owns "now": wall time as a [`Timestamp`] and monotonic time as an [`Instant`]. Cores never ask it;
//! they are given the time as an argument, so that a month of mail can be tested in seconds. Shells
//! carry a [`Clock`] and ask it once per event.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A point in wall time, in whole milliseconds since the Unix epoch.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The Unix epoch; sorts before everything that happens.
    pub const ZERO: Timestamp = Timestamp(0);
    /// Later than everything that happens.
    pub const MAX: Timestamp = Timestamp(u64::MAX);

    /// The time `millis` milliseconds after the Unix epoch.
    pub const fn from_millis(millis: u64) -> Self {
        Timestamp(millis)
    }

    /// Milliseconds since the Unix epoch.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// Whole seconds since the Unix epoch.
    pub const fn as_secs(self) -> u64 {
        self.0 / 1000
    }

    /// The time `by` later; stays at [`Timestamp::MAX`] rather than overflow.
    #[must_use]
    pub fn after(self, by: Duration) -> Self {
        Timestamp(self.0.saturating_add(u64::try_from(by.as_millis()).unwrap_or(u64::MAX)))
    }

    /// How long after `earlier` this is; zero where it is not after it.
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}", self.0 / 1000, self.0 % 1000)
    }
}

/// Where the time comes from: the machine, or a test's hand.
#[derive(Clone, Debug, Default)]
pub enum Clock {
    /// The machine's clocks.
    #[default]
    System,
    /// Wall time that moves only when [`ManualClock::advance`] says so.
    Manual(ManualClock),
    /// The asynchronous runtime's time, which a test may pause.
    #[cfg(test)]
    Runtime(RuntimeClock),
}

impl Clock {
    /// Wall time now.
    #[allow(clippy::disallowed_methods, reason = "this is the one caller")]
    pub fn now(&self) -> Timestamp {
        match self {
            Clock::System => {
                let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                Timestamp(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX))
            }
            Clock::Manual(manual) => manual.now(),
            #[cfg(test)]
            Clock::Runtime(runtime) => runtime.now(),
        }
    }

    /// Monotonic time now, for measuring how long a step took. Never an input of a decision.
    #[allow(clippy::disallowed_methods, reason = "this is the one caller")]
    pub fn instant(&self) -> Instant {
        match self {
            #[cfg(test)]
            Clock::Runtime(_) => tokio::time::Instant::now().into_std(),
            _ => Instant::now(),
        }
    }
}

/// A clock that a test moves.
#[derive(Clone, Debug, Default)]
pub struct ManualClock(Arc<AtomicU64>);

impl ManualClock {
    /// A clock standing at `start`.
    pub fn at(start: Timestamp) -> Self {
        ManualClock(Arc::new(AtomicU64::new(start.0)))
    }

    /// The time it shows.
    pub fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }

    /// Moves it forward.
    pub fn advance(&self, by: Duration) {
        let by = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        self.0.fetch_add(by, Ordering::SeqCst);
    }
}

/// A clock that goes as the asynchronous runtime's does.
#[cfg(test)]
#[derive(Clone, Debug)]
pub struct RuntimeClock {
    base: Arc<AtomicU64>,
    started: tokio::time::Instant,
}

#[cfg(test)]
impl RuntimeClock {
    /// A clock that shows `base` now.
    #[allow(clippy::disallowed_methods, reason = "a clock")]
    pub fn starting_at(base: Timestamp) -> Self {
        RuntimeClock { base: Arc::new(AtomicU64::new(base.0)), started: tokio::time::Instant::now() }
    }

    /// The time it shows.
    pub fn now(&self) -> Timestamp {
        Timestamp(self.base.load(Ordering::SeqCst)).after(self.started.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manual_time_moves_only_by_hand() {
        let hand = ManualClock::at(Timestamp::from_millis(5_000));
        let clock = Clock::Manual(hand.clone());
        assert_eq!(clock.now(), Timestamp::from_millis(5_000));
        hand.advance(Duration::from_secs(60));
        assert_eq!(clock.now().since(Timestamp::from_millis(5_000)), Duration::from_secs(60));
    }

    #[test]
    fn the_far_end_of_time_does_not_overflow() {
        assert_eq!(Timestamp::MAX.after(Duration::from_secs(1)), Timestamp::MAX);
        assert_eq!(Timestamp::ZERO.since(Timestamp::MAX), Duration::ZERO);
    }
}
