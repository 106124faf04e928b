//! How many messages a client may hand over: so many in a time, saved up for a minute at most.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::clock::Timestamp;

/// What was not used is kept for so long.
const SAVED_FOR: Duration = Duration::from_secs(60);

/// A rate, and what is left of it.
#[derive(Debug)]
pub struct Allowance {
    per_second: f64,
    left: Mutex<(f64, Timestamp)>,
}

impl Allowance {
    /// So many messages a second; as many as come in a minute at once, and always one.
    pub fn new(per_second: f64) -> Self {
        Allowance { per_second, left: Mutex::new((f64::INFINITY, Timestamp::ZERO)) }
    }

    /// This rate with what another has left: itself, where the rate is the same.
    #[must_use]
    pub fn after(&self, before: &Arc<Allowance>) -> Arc<Self> {
        if self.per_second == before.per_second {
            return before.clone();
        }
        let left = *before.left.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::new(Allowance { per_second: self.per_second, left: Mutex::new(left) })
    }

    /// Takes one message's worth; whether there was that much.
    pub fn take(&self, now: Timestamp) -> bool {
        let mut state = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let (left, since) = *state;
        let most = (self.per_second * SAVED_FOR.as_secs_f64()).max(1.0);
        let left = (left + self.per_second * now.since(since).as_secs_f64()).min(most);
        // a clock that goes back gives nothing, and takes nothing
        let may = left >= 1.0;
        *state = (if may { left - 1.0 } else { left }, now.max(since));
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minutes_worth_goes_at_once_and_then_as_the_rate_has_it() {
        let allowance = Allowance::new(0.1);
        let taken_at = |seconds: u64| {
            let now = Timestamp::from_millis(seconds * 1000);
            (0..100).take_while(|_| allowance.take(now)).count()
        };
        assert_eq!([taken_at(1000), taken_at(1000), taken_at(1010), taken_at(1015)], [6, 0, 1, 0]);
        assert_eq!([taken_at(1020), taken_at(900), taken_at(9000)], [1, 0, 6]);
        let spent = Arc::new(allowance);
        let (same, faster) = (Allowance::new(0.1).after(&spent), Allowance::new(1.0).after(&spent));
        let at = Timestamp::from_millis(9_001_000);
        assert!(!same.take(at) && faster.take(at) && !faster.take(at), "a new rate is no new minute");
        let rare = Allowance::new(0.001);
        assert!(rare.take(Timestamp::from_millis(1)) && !rare.take(Timestamp::from_millis(2)));
    }
}
