//! Planned faults, for tests: panics of actors, and defects planted to see that they would be noticed.
//! Outside tests there is nothing here.

#[cfg(test)]
use std::cell::Cell;
#[cfg(test)]
use std::sync::Arc;
#[cfg(test)]
use std::sync::atomic::{AtomicU64, Ordering};

/// Which events actors panic at: none, but in tests.
#[derive(Clone, Default)]
pub struct Faults {
    #[cfg(test)]
    reached: Arc<AtomicU64>,
    /// The event to panic at; none is planned at 0.
    #[cfg(test)]
    panics_at: u64,
}

impl Faults {
    /// Panics at the event numbered `at`, from 1, once.
    #[cfg(test)]
    pub fn one(at: u64) -> Self {
        Faults { reached: Arc::default(), panics_at: at }
    }

    /// How many events actors have handled.
    #[cfg(test)]
    pub fn reached(&self) -> u64 {
        self.reached.load(Ordering::SeqCst)
    }

    /// Whether the event to panic at was handled.
    #[cfg(test)]
    pub fn has_struck(&self) -> bool {
        self.panics_at > 0 && self.reached() >= self.panics_at
    }

    /// An actor is about to handle an event.
    #[cfg(not(test))]
    #[inline]
    pub(super) fn reach(&self) {}

    /// An actor is about to handle an event.
    #[cfg(test)]
    pub(super) fn reach(&self) {
        if self.reached.fetch_add(1, Ordering::SeqCst) + 1 == self.panics_at {
            // not a panic!: that would print a trace for each of thousands
            std::panic::resume_unwind(Box::new("as planned"));
        }
    }
}

/// What may be planted, each against something that must always hold.
#[cfg(test)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Defect {
    /// What was heard of a delivery is not written.
    ForgetsResults,
    /// Connections need no place.
    IgnoresPlaces,
    /// An unreachable host costs an attempt.
    ChargesWaiting,
    /// An unreachable host is a verdict.
    BouncesOnOutage,
    /// Lines that begin with a dot are sent as they are.
    LeavesDots,
    /// Reports go to the null reverse-path, that is to whoever is named postmaster.
    ReportsToNobody,
    /// Decisions depend on more than state, event and time.
    ThrowsDice,
}

#[cfg(test)]
thread_local! {
    static PLANTED: Cell<Option<Defect>> = const { Cell::new(None) };
}

/// Plants a defect in everything that this thread runs.
#[cfg(test)]
pub fn plant(defect: Option<Defect>) {
    PLANTED.set(defect);
}

/// Whether it is planted here.
#[cfg(test)]
pub(super) fn has(defect: Defect) -> bool {
    PLANTED.get() == Some(defect)
}
