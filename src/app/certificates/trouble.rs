//! That an order failed, or was begun.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;

/// The first wait after a failure; each is five times as long as the one before. Authorities count failures, and refuse
/// more than some five within an hour.
const FIRST_WAIT: Duration = Duration::from_secs(60);
const WAIT_GROWS: u32 = 5;
pub(super) const WAIT_MAX: Duration = Duration::from_secs(6 * 3600);
/// What is kept while it is not known how an order ends.
const BEGUN: &str = "an order was begun, and did not end";

/// Who has one ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::app) enum Asker {
    /// The keeper, when it is due.
    Keeper,
    /// An operator, now: that says nothing of how often it was tried in vain.
    Operator,
}

/// Why a certificate could not be had; kept before it is tried, so that no end of the process makes it be tried sooner.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub(in crate::app) struct Trouble {
    /// What happened last.
    pub(in crate::app) error: String,
    /// How often in a row.
    failures: u32,
    /// When it is tried next, in milliseconds since 1970.
    next: u64,
    /// Who was asked.
    directory: String,
}

impl Trouble {
    pub(super) fn begun(before: Option<&Trouble>, now: Timestamp, asker: Asker, directory: &str) -> Self {
        let before = before.filter(|before| before.is_of(directory));
        let failures = before.map_or(0, |before| before.failures);
        let failures = if asker == Asker::Keeper { failures.saturating_add(1) } else { failures.max(1) };
        let wait = FIRST_WAIT.saturating_mul(WAIT_GROWS.saturating_pow(failures - 1)).min(WAIT_MAX);
        Trouble {
            error: BEGUN.into(),
            failures,
            next: now.after(wait).as_millis(),
            directory: directory.to_owned(),
        }
    }

    #[cfg(test)]
    pub(super) fn until(next: Timestamp, directory: &str) -> Self {
        Trouble { next: next.as_millis(), directory: directory.to_owned(), ..Trouble::default() }
    }

    /// The same, and this happened.
    pub(super) fn because(self, error: &str) -> Self {
        Trouble { error: error.to_owned(), ..self }
    }

    /// Whether it says anything of an authority.
    pub(super) fn is_of(&self, directory: &str) -> bool {
        self.directory == directory
    }

    /// When it is tried next.
    pub(in crate::app) fn next(&self) -> Timestamp {
        Timestamp::from_millis(self.next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CA: &str = "https://ca.example/";
    const START: Timestamp = Timestamp::from_millis(1_000_000_000_000);

    #[test]
    fn failures_are_waited_after_longer_and_longer_but_not_those_of_operators() {
        let (mut now, mut waits, mut before) = (START, Vec::new(), None);
        for _ in 0..6 {
            let trouble = Trouble::begun(before.as_ref(), now, Asker::Keeper, CA);
            waits.push(trouble.next().since(now).as_secs() / 60);
            now = trouble.next();
            before = Some(trouble);
        }
        assert_eq!(waits, [1, 5, 25, 125, 360, 360]);
        let before = Trouble::begun(None, START, Asker::Keeper, CA);
        for _ in 0..10 {
            let asked = Trouble::begun(Some(&before), START, Asker::Operator, CA);
            assert_eq!(asked.next(), before.next());
        }
    }
}
