//! Spreads messages over time, so that no more go in a second than may.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

/// Timers are coarse: what was missed in this time may be made up for.
const SLACK: Duration = Duration::from_millis(100);

/// One message in this time always goes.
const INTERVAL_MAX: Duration = Duration::from_secs(30 * 86_400);

/// Slots for messages, handed out in the order in which they were asked for.
#[derive(Debug)]
pub(super) struct Pace {
    slots: Mutex<Slots>,
    /// How many wait for a slot.
    waiting: AtomicU32,
    /// Whoever holds it has the next slot.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct Slots {
    /// Between two slots; none where there is no limit.
    interval: Option<Duration>,
    next: Instant,
}

impl Pace {
    /// So many slots a second; no limit where none is named.
    pub(super) fn new(per_second: Option<f64>) -> Self {
        let slots = Slots { interval: per_second.map(interval), next: Instant::now() };
        Pace { slots: Mutex::new(slots), waiting: AtomicU32::new(0), turn: tokio::sync::Mutex::default() }
    }

    fn slots(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the rate, from the next slot on.
    pub(super) fn set(&self, per_second: Option<f64>) {
        let mut slots = self.slots();
        slots.interval = per_second.map(interval);
        slots.next = slots.next.min(Instant::now() + slots.interval.unwrap_or_default());
    }

    /// Whether slots are limited at all.
    pub(super) fn is_limited(&self) -> bool {
        self.slots().interval.is_some()
    }

    /// How long until the next slot that nobody waits for yet.
    pub(super) fn wait(&self) -> Duration {
        let slots = self.slots();
        let Some(interval) = slots.interval else { return Duration::ZERO };
        let others = interval.saturating_mul(self.waiting.load(Ordering::SeqCst));
        slots.next.saturating_duration_since(Instant::now()).saturating_add(others)
    }

    /// Takes a slot now, or says how long until there is one.
    fn take(&self) -> Result<(), Duration> {
        let mut slots = self.slots();
        let Some(interval) = slots.interval else { return Ok(()) };
        let now = Instant::now();
        match slots.next.saturating_duration_since(now) {
            Duration::ZERO => {
                let earliest = now.checked_sub(SLACK).unwrap_or(now);
                slots.next = slots.next.max(earliest) + interval;
                Ok(())
            }
            wait => Err(wait),
        }
    }

    /// Waits for a slot, `patience` at most; whether it got one.
    pub(super) async fn slot(&self, patience: Duration) -> bool {
        if !self.is_limited() {
            return true;
        }
        let _counted = Waiting::enter(&self.waiting);
        let in_turn = async {
            let _turn = self.turn.lock().await;
            while let Err(wait) = self.take() {
                sleep(wait).await;
            }
        };
        timeout(patience, in_turn).await.is_ok()
    }
}

/// Counts who waits, also where that is given up.
struct Waiting<'a>(&'a AtomicU32);

impl<'a> Waiting<'a> {
    fn enter(count: &'a AtomicU32) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Waiting(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn interval(per_second: f64) -> Duration {
    Duration::try_from_secs_f64(1.0 / per_second).map_or(INTERVAL_MAX, |interval| interval.min(INTERVAL_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    #[tokio::test(start_paused = true)]
    async fn slots_are_spread_and_what_was_not_used_is_lost() {
        let pace = Pace::new(Some(10.0));
        let started = Instant::now();
        for _ in 0..21 {
            assert!(pace.slot(LONG).await);
        }
        assert!((started.elapsed().as_secs_f64() - 2.0).abs() < 0.15, "{:?}", started.elapsed());
        sleep(LONG).await;
        let started = Instant::now();
        for _ in 0..11 {
            assert!(pace.slot(LONG).await);
        }
        assert!(started.elapsed() > Duration::from_millis(850), "{:?}", started.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_slot_that_is_too_far_away_is_not_waited_for() {
        let pace = Pace::new(Some(0.01));
        assert!(pace.slot(LONG).await);
        assert!(!pace.slot(Duration::from_secs(5)).await);
        pace.set(Some(1.0));
        assert!(pace.slot(Duration::from_secs(5)).await, "the new rate counts at once");
        pace.set(None);
        assert!(pace.slot(Duration::ZERO).await && !pace.is_limited());
    }
}
