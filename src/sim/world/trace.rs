//! What happened, in order: counted, hashed, and the end of it kept for whoever looks into a failure.

use std::collections::VecDeque;
use std::fmt::{self, Write};
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
        let oldest = if state.last.len() < KEPT { None } else { state.last.pop_front() };
        let mut line = oldest.unwrap_or_default();
        line.clear();
        // a String takes whatever is written
        let _ = line.write_fmt(what);
        state.events += 1;
        line.hash(&mut state.hasher);
        state.last.push_back(line);
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
