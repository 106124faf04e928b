//! What happened, in order: counted, hashed, and the end of it kept for whoever looks into a failure.

use std::collections::VecDeque;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};

const KEPT: usize = 60;

/// The trace. Clones share it.
#[derive(Clone, Default)]
pub(super) struct Trace(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    events: u64,
    hasher: DefaultHasher,
    last: VecDeque<String>,
}

impl Trace {
    pub(super) fn note(&self, what: fmt::Arguments<'_>) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let what = what.to_string();
        state.events += 1;
        what.hash(&mut state.hasher);
        state.last.push_back(what);
        if state.last.len() > KEPT {
            state.last.pop_front();
        }
    }

    /// More events, each too small to be told.
    pub(super) fn count(&self, events: u64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).events += events;
    }

    /// How many events there were, and what they hash to.
    pub(super) fn sum(&self) -> (u64, u64) {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (state.events, state.hasher.finish())
    }

    /// The last events.
    pub(super) fn tail(&self) -> String {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.last.iter().map(|line| format!("  {line}\n")).collect()
    }
}
