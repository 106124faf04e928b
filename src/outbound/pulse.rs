//! Whether the manager lives: it comes to a beat a few times a second, or is stuck.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// When the manager came to its last beat.
#[derive(Debug, Default)]
pub struct Pulse(Mutex<Option<Instant>>);

impl Pulse {
    /// It comes to one now.
    pub(super) fn beat(&self, now: Instant) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
    }

    /// How long it has been silent; nothing before its first beat.
    pub fn silent_for(&self, now: Instant) -> Option<Duration> {
        let last = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.map(|last| now.saturating_duration_since(last))
    }
}
