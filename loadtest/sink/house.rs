//! One address of the sink and what it puts up with.
//!
//! Owns the number of its connections and its bucket of messages. Promises a
//! caller who keeps to the limits never to be turned away: the bucket holds
//! what one second allows.

use std::{cell::Cell, rc::Rc};

use tokio::time::Instant;

pub(crate) struct House {
    connections_max: Option<u32>,
    rate: Option<f64>,
    connections: Cell<u32>,
    bucket: Cell<(f64, Instant)>,
}

/// A connection that was let in; gone when dropped.
pub(crate) struct Guest {
    house: Rc<House>,
}

impl House {
    pub(crate) fn new(connections_max: Option<u32>, rate: Option<f64>, now: Instant) -> Self {
        let full = capacity(rate.unwrap_or_default());
        Self { connections_max, rate, connections: Cell::new(0), bucket: Cell::new((full, now)) }
    }

    /// Lets a connection in, unless there are too many.
    pub(crate) fn enter(self: &Rc<Self>) -> Option<Guest> {
        let present = self.connections.get();
        if self.connections_max.is_some_and(|most| present >= most) {
            return None;
        }
        self.connections.set(present + 1);
        Some(Guest { house: Rc::clone(self) })
    }
}

impl Guest {
    /// Whether one more message is within the rate; if so, it is counted.
    pub(crate) fn may_send(&self, now: Instant) -> bool {
        let Some(rate) = self.house.rate else { return true };
        let (left, at) = self.house.bucket.get();
        let gained = now.duration_since(at).as_secs_f64() * rate;
        let left = (left + gained).min(capacity(rate));
        let may = left >= 1.0;
        self.house.bucket.set((if may { left - 1.0 } else { left }, now));
        may
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.house.connections.set(self.house.connections.get() - 1);
    }
}

/// A rate below one a second must still let one message through.
fn capacity(rate: f64) -> f64 {
    rate.max(1.0)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn connections_are_counted_while_they_last() {
        let house = Rc::new(House::new(Some(2), None, Instant::now()));
        let first = house.enter();
        let second = house.enter();
        assert!(first.is_some() && second.is_some() && house.enter().is_none());
        drop(first);
        assert!(house.enter().is_some());
    }

    #[test]
    fn the_bucket_runs_dry_and_fills_again() {
        let start = Instant::now();
        let house = Rc::new(House::new(None, Some(10.0), start));
        let allowed = |millis| {
            let now = start + Duration::from_millis(millis);
            house.enter().map(|guest| (0..50).filter(|_| guest.may_send(now)).count())
        };
        assert_eq!(allowed(0), Some(10));
        assert_eq!(allowed(550), Some(5));
        assert_eq!(allowed(60_000), Some(10));
    }
}
