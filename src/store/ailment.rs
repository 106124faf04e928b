//! What is wrong with the store, for whoever asks for its health.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::error::StoreError;
use super::meters;

/// What is wrong with the store now; `None` where all is well.
#[derive(Clone, Default)]
pub(super) struct Ailment {
    error: Arc<Mutex<Option<StoreError>>>,
    /// Whether the log has no room for anything new.
    is_full: Arc<AtomicBool>,
}

impl Ailment {
    pub(super) fn get(&self) -> Option<StoreError> {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn is_full(&self) -> bool {
        self.is_full.load(Ordering::Relaxed)
    }

    pub(super) fn set_full(&self, is_full: bool) {
        self.is_full.store(is_full, Ordering::Relaxed);
    }

    pub(super) fn set(&self, now: Option<&StoreError>) {
        let mut slot = self.error.lock().unwrap_or_else(PoisonError::into_inner);
        let told = |error: Option<&StoreError>| error.map(ToString::to_string);
        if told(slot.as_ref()) != told(now) {
            match now {
                Some(error) => tracing::error!(event = "store_failing", error = %error),
                None => tracing::info!(event = "store_recovered"),
            }
            // another error is no new beginning
            if slot.is_some() != now.is_some() {
                meters::failing(now.is_some());
            }
            *slot = now.cloned();
        }
    }
}
