//! When to try again.

use std::time::Duration;

/// Jitter: a tenth up or down, so that what failed together does not come back together.
const JITTER_PER_CENT: u64 = 10;
/// A path that is down is looked at after this, then after twice as long, and so on: one connection
/// costs nobody anything.
const PROBE_FIRST: Duration = Duration::from_secs(15);
const PROBE_LAST: Duration = Duration::from_secs(600);

/// What most greylisting servers are set to.
const GREYLISTED: Duration = Duration::from_secs(300);
/// Their clocks and ours: what is added to that, or to the time that a server names.
const GREYLIST_MARGIN_PER_CENT: u64 = 2;
const GREYLIST_JITTER_PER_CENT: u64 = 8;

/// The waits between attempts; the last one repeats.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetrySchedule {
    waits: Vec<Duration>,
    greylisted: Duration,
    /// The longest rest of a path.
    rest_max: Duration,
}

impl RetrySchedule {
    /// A schedule; `None` where it has no waits.
    pub fn new(waits: Vec<Duration>) -> Option<Self> {
        (!waits.is_empty()).then_some(RetrySchedule { waits, greylisted: GREYLISTED, rest_max: PROBE_LAST })
    }

    /// The same, but for what is waited where a server greylists and does not say how long.
    #[must_use]
    pub fn with_greylisted(self, greylisted: Duration) -> Self {
        RetrySchedule { greylisted, ..self }
    }

    /// The same, but for the longest rest of a path that is down.
    #[must_use]
    pub fn with_rest_max(self, rest_max: Duration) -> Self {
        RetrySchedule { rest_max, ..self }
    }

    /// How long servers greylist that do not say.
    pub fn greylisted(&self) -> Duration {
        self.greylisted
    }

    /// How long to wait after the attempt numbered `attempts` (from 1). `dice` is any number.
    pub fn wait(&self, attempts: u32, dice: u64) -> Duration {
        let step = (attempts.max(1) as usize - 1).min(self.waits.len() - 1);
        jitter(self.waits[step], dice)
    }

    /// How long to wait where a server refuses for so long whoever it has not met: not a moment less, and
    /// not much more.
    pub fn wait_out(&self, greylisted: Duration, dice: u64) -> Duration {
        let per_mille = 1000 + 10 * GREYLIST_MARGIN_PER_CENT + dice % (10 * GREYLIST_JITTER_PER_CENT);
        greylisted.mul_f64(per_mille as f64 / 1000.0)
    }

    /// How long a path rests after so many failures in a row.
    pub fn rest(&self, failures: u32, dice: u64) -> Duration {
        let first = PROBE_FIRST.min(self.waits[0]);
        let last = self.rest_max.max(first);
        jitter(first.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(last), dice)
    }
}

fn jitter(wait: Duration, dice: u64) -> Duration {
    #[cfg(test)]
    let dice = if super::faults::has(super::faults::Defect::ThrowsDice) {
        std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), dice)
    } else {
        dice
    };
    let per_mille = 1000 - 10 * JITTER_PER_CENT + dice % (20 * JITTER_PER_CENT + 1);
    wait.mul_f64(per_mille as f64 / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn waits_follow_the_schedule_and_the_last_repeats() {
        let schedule = RetrySchedule::new(vec![5 * MINUTE, 15 * MINUTE]).expect("has waits");
        let middle = 10 * JITTER_PER_CENT;
        for (attempts, want) in [(0, 5), (1, 5), (2, 15), (3, 15), (99, 15)] {
            assert_eq!(schedule.wait(attempts, middle), want * MINUTE, "after {attempts}");
        }
        assert!(RetrySchedule::new(vec![]).is_none());
    }

    #[test]
    fn jitter_stays_within_a_tenth() {
        let schedule = RetrySchedule::new(vec![10 * MINUTE]).expect("has waits");
        for dice in 0..1000 {
            let wait = schedule.wait(1, dice);
            assert!(wait >= 9 * MINUTE && wait <= 11 * MINUTE, "{wait:?}");
        }
    }

    #[test]
    fn greylisting_is_waited_out_to_its_end() {
        let schedule = RetrySchedule::new(vec![MINUTE]).expect("has waits");
        for dice in 0..2000 {
            let wait = schedule.wait_out(5 * MINUTE, dice);
            assert!(wait > 5 * MINUTE && wait < 6 * MINUTE, "{wait:?}");
        }
    }

    #[test]
    fn a_path_rests_longer_each_time_up_to_a_limit() {
        let schedule = RetrySchedule::new(vec![5 * MINUTE]).expect("has waits");
        let rest = |failures| schedule.rest(failures, 10 * JITTER_PER_CENT).as_secs();
        assert_eq!([rest(1), rest(2), rest(3), rest(60)], [15, 30, 60, 600]);
    }
}
