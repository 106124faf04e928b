//! Planned faults: places where a test lets an actor panic. Outside tests there is nothing here.

#[cfg(test)]
use std::sync::Arc;
#[cfg(test)]
use std::sync::atomic::{AtomicU64, Ordering};

/// What is planned: nothing, but in tests.
#[derive(Clone, Default)]
pub struct Faults {
    /// How many events of actors are still handled before one panics; none is planned at 0.
    #[cfg(test)]
    countdown: Arc<AtomicU64>,
}

impl Faults {
    /// Panics at the event numbered `at`, from 1, once.
    #[cfg(test)]
    pub fn one(at: u64) -> Self {
        Faults { countdown: Arc::new(AtomicU64::new(at)) }
    }

    /// An actor is about to handle an event.
    #[cfg(not(test))]
    #[inline]
    pub(super) fn reach(&self) {}

    /// An actor is about to handle an event.
    #[cfg(test)]
    pub(super) fn reach(&self) {
        let step = |left: u64| left.checked_sub(1);
        if self.countdown.fetch_update(Ordering::SeqCst, Ordering::SeqCst, step) == Ok(1) {
            // not a panic!: that would print a trace for each of thousands
            std::panic::resume_unwind(Box::new("as planned"));
        }
    }
}
