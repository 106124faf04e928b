//! Work under way: who has begun something that should be finished before the process ends; and what it goes
//! by, which may be replaced meanwhile.
//!
//! Owns the count of labelled tokens. Promises that a token is given back on whatever way its holder
//! ends, a panic included, and that who waits for the last one is told. Never ends anybody's work.

mod cpu;
mod live;
mod permits;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

pub use cpu::Cpu;
pub use live::Live;
pub use permits::{Permit, Permits};

/// The work of a process. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Work(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    counts: Mutex<BTreeMap<&'static str, usize>>,
    changed: Notify,
}

/// A piece of work; over when dropped.
#[derive(Debug)]
pub struct Token {
    work: Work,
    label: &'static str,
}

impl Work {
    fn counts(&self) -> MutexGuard<'_, BTreeMap<&'static str, usize>> {
        self.0.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a piece of work. Labels are a few words, such as `client session`.
    pub fn begin(&self, label: &'static str) -> Token {
        *self.counts().entry(label).or_default() += 1;
        Token { work: self.clone(), label }
    }

    /// What is under way, in words: `2 client sessions, 1 remote session`; nothing where nothing is.
    pub fn describe(&self) -> Option<String> {
        let mut told = String::new();
        for (label, count) in self.counts().iter().filter(|(_, count)| **count > 0) {
            let (comma, plural) =
                (if told.is_empty() { "" } else { ", " }, if *count == 1 { "" } else { "s" });
            // writing to a String cannot fail
            let _ = write!(told, "{comma}{count} {label}{plural}");
        }
        (!told.is_empty()).then_some(told)
    }

    /// Returns when something that was under way has ended.
    pub async fn changed(&self) {
        self.0.changed.notified().await;
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        if let Some(count) = self.work.counts().get_mut(self.label) {
            *count -= 1;
        }
        self.work.0.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_under_way_is_told_until_it_ends_even_by_a_panic() {
        let work = Work::default();
        assert_eq!(work.describe(), None);
        let tokens = [work.begin("client session"), work.begin("client session"), work.begin("attempt")];
        assert_eq!(work.describe().as_deref(), Some("1 attempt, 2 client sessions"));
        let panicking = tokio::spawn(async move {
            let _tokens = tokens;
            std::panic::resume_unwind(Box::new("as planned"));
        });
        assert!(panicking.await.is_err());
        work.changed().await;
        assert_eq!(work.describe(), None);
    }
}
