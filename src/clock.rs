//! The only reader of the clocks.
//!
//! Owns "now": wall time as a [`Timestamp`] and monotonic time as an [`Instant`]. Cores never ask it;
//! they are given the time as an argument, so that a month of mail can be tested in seconds. Shells
//! carry a [`Clock`] and ask it once per event.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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
    /// The machine's clocks, watched against the time since the machine was started: where wall time was set by
    /// more than an hour, time goes on as if it had not been, for a day.
    Watched(Watch),
    /// Wall time that moves only when [`ManualClock::advance`] says so.
    Manual(ManualClock),
    /// The asynchronous runtime's time, which a test may pause.
    #[cfg(test)]
    Runtime(RuntimeClock),
}

/// A clock that is set by more than this has jumped.
const JUMP: Duration = Duration::from_secs(3600);
/// A clock that has jumped is believed again after this: somebody had the time to put it right.
const BELIEVED_AFTER: Duration = Duration::from_secs(86_400);
/// A machine that was started so lately may not have had its clock set yet: it is followed ahead.
const YOUNG: Duration = Duration::from_secs(600);

/// Wall time as it is watched. Clones share it.
#[derive(Clone, Debug)]
pub struct Watch(Arc<Mutex<Watched>>);

#[derive(Debug)]
struct Watched {
    anchor: Anchor,
    /// Since when, after the machine's start, it is known to have jumped.
    jumped: Option<Duration>,
    /// When, after the machine's start, it was followed ahead.
    followed: Option<Duration>,
}

impl Watch {
    fn watched(&self) -> MutexGuard<'_, Watched> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watched {
    fn now(&mut self, wall: Timestamp, boot: Duration) -> Timestamp {
        self.follow(wall, boot);
        self.anchor.steady(wall, boot)
    }

    fn shown(&self, wall: Timestamp, boot: Duration) -> Timestamp {
        self.anchor.shown(wall, boot)
    }

    /// Goes with a clock that is set for the first time.
    fn follow(&mut self, wall: Timestamp, boot: Duration) {
        if boot < YOUNG && wall.since(self.anchor.expected(boot)) > JUMP {
            (self.anchor, self.followed) = (Anchor { wall, boot }, Some(boot));
        }
    }

    fn has_jumped(&mut self, wall: Timestamp, boot: Duration) -> bool {
        self.follow(wall, boot);
        if !self.anchor.has_jumped(wall, boot) {
            self.jumped = None;
            // what came in before has an age that nobody knows
            return self.followed.is_some_and(|at| boot.saturating_sub(at) < BELIEVED_AFTER);
        }
        let since = *self.jumped.get_or_insert(boot);
        if boot.saturating_sub(since) < BELIEVED_AFTER {
            return true;
        }
        (self.anchor, self.jumped) = (Anchor { wall, boot }, None);
        false
    }
}

/// Wall time and the time since the machine was started, at one moment. Sleep counts in both.
#[derive(Clone, Copy, Debug)]
struct Anchor {
    wall: Timestamp,
    boot: Duration,
}

impl Anchor {
    /// What wall time should be when so much time has passed since the machine was started.
    fn expected(&self, boot: Duration) -> Timestamp {
        self.wall.after(boot.saturating_sub(self.boot))
    }

    /// Wall time, but for great steps: what is put off while the clock is a month ahead must not wait for a
    /// month when it is right again.
    fn steady(&self, wall: Timestamp, boot: Duration) -> Timestamp {
        if self.has_jumped(wall, boot) { self.expected(boot) } else { wall }
    }

    /// Wall time, but for a great step back.
    fn shown(&self, wall: Timestamp, boot: Duration) -> Timestamp {
        let expected = self.expected(boot);
        if expected.since(wall) > JUMP { expected } else { wall }
    }

    fn has_jumped(&self, wall: Timestamp, boot: Duration) -> bool {
        let expected = self.expected(boot);
        expected.since(wall) > JUMP || wall.since(expected) > JUMP
    }
}

#[allow(clippy::disallowed_methods, reason = "this is the one caller")]
fn wall_time() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX))
}

fn since_boot() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::new(time.tv_sec.try_into().unwrap_or(0), time.tv_nsec.try_into().unwrap_or(0))
}

impl Clock {
    /// The machine's clocks, watched from now on.
    pub fn watched() -> Self {
        let anchor = Anchor { wall: wall_time(), boot: since_boot() };
        Clock::Watched(Watch(Arc::new(Mutex::new(Watched { anchor, jumped: None, followed: None }))))
    }

    /// Whether wall time was set by more than an hour within a day: what it says of ages and lifetimes is not
    /// to be believed.
    pub fn has_jumped(&self) -> bool {
        match self {
            Clock::Watched(watch) => watch.watched().has_jumped(wall_time(), since_boot()),
            #[cfg(test)]
            Clock::Runtime(runtime) => runtime.has_jumped(),
            _ => false,
        }
    }

    /// Wall time for others to read, and to judge others' certificates by: what the machine's clock shows, right
    /// or wrong. Never an input of a schedule.
    pub fn shown(&self) -> Timestamp {
        match self {
            Clock::Watched(watch) => watch.watched().shown(wall_time(), since_boot()),
            clock => clock.now(),
        }
    }

    /// The time to plan by: wall time, but for jumps.
    pub fn now(&self) -> Timestamp {
        match self {
            Clock::System => wall_time(),
            Clock::Watched(watch) => watch.watched().now(wall_time(), since_boot()),
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
    base: Timestamp,
    set_ahead: Arc<AtomicU64>,
    started: tokio::time::Instant,
}

#[cfg(test)]
impl RuntimeClock {
    /// A clock that shows `base` now.
    #[allow(clippy::disallowed_methods, reason = "a clock")]
    pub fn starting_at(base: Timestamp) -> Self {
        RuntimeClock { base, set_ahead: Arc::default(), started: tokio::time::Instant::now() }
    }

    /// The time it shows.
    pub fn now(&self) -> Timestamp {
        let set_ahead = Duration::from_millis(self.set_ahead.load(Ordering::SeqCst));
        self.base.after(self.started.elapsed()).after(set_ahead)
    }

    /// Somebody sets it ahead.
    pub fn set_ahead(&self, by: Duration) {
        self.set_ahead.store(by.as_millis() as u64, Ordering::SeqCst);
    }

    fn has_jumped(&self) -> bool {
        self.set_ahead.load(Ordering::SeqCst) > JUMP.as_millis() as u64
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
    fn a_clock_that_is_set_by_more_than_an_hour_has_jumped_and_nothing_is_planned_by_it() {
        let at = |minutes: u64| Timestamp::from_millis(minutes * 60_000);
        let minutes = |minutes: u64| Duration::from_secs(minutes * 60);
        let anchor = Anchor { wall: at(10_000), boot: minutes(105) };
        for (wall, boot, has_jumped, plans_by, shows) in [
            (10_030, 135, false, 10_030, 10_030),
            (10_080, 135, false, 10_080, 10_080),
            (10_100, 135, true, 10_030, 10_100),
            (9_990, 135, false, 9_990, 9_990),
            (9_900, 135, true, 10_030, 10_030),
        ] {
            assert_eq!(anchor.has_jumped(at(wall), minutes(boot)), has_jumped, "{wall}");
            assert_eq!(anchor.steady(at(wall), minutes(boot)), at(plans_by), "{wall}");
            assert_eq!(anchor.shown(at(wall), minutes(boot)), at(shows), "{wall}");
        }
        assert!(!Clock::watched().has_jumped());
        // and a day later it is believed
        let mut watched = Watched { anchor, jumped: None, followed: None };
        assert!(watched.has_jumped(at(20_030), minutes(135)));
        assert!(watched.has_jumped(at(20_030 + 1439), minutes(135 + 1439)));
        assert!(!watched.has_jumped(at(20_030 + 1441), minutes(135 + 1441)));
        assert_eq!(watched.now(at(21_471), minutes(135 + 1441)), at(21_471));
    }

    #[test]
    fn a_clock_that_is_set_soon_after_the_machine_was_started_is_followed_but_ages_are_not_believed() {
        let at = |minutes: u64| Timestamp::from_millis(minutes * 60_000);
        let minutes = |minutes: u64| Duration::from_secs(minutes * 60);
        let anchor = Anchor { wall: at(10), boot: minutes(2) };
        let mut watched = Watched { anchor, jumped: None, followed: None };
        assert_eq!(watched.now(at(20_000), minutes(3)), at(20_000));
        assert!(watched.has_jumped(at(20_000), minutes(3)));
        assert_eq!(watched.now(at(21_430), minutes(1433)), at(21_430));
        assert!(watched.has_jumped(at(21_430), minutes(1433)));
        assert!(!watched.has_jumped(at(21_460), minutes(1463)));
    }

    #[test]
    fn the_far_end_of_time_does_not_overflow() {
        assert_eq!(Timestamp::MAX.after(Duration::from_secs(1)), Timestamp::MAX);
        assert_eq!(Timestamp::ZERO.since(Timestamp::MAX), Duration::ZERO);
    }
}
