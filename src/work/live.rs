//! A value that may be replaced while others work by it.

use std::sync::Arc;

use arc_swap::ArcSwap;

/// What holds now. Clones share it. Who has taken a value keeps it, whatever replaces it meanwhile.
#[derive(Debug)]
pub struct Live<T>(Arc<ArcSwap<T>>);

impl<T> Live<T> {
    /// This value, until it is replaced.
    pub fn new(value: T) -> Self {
        Live(Arc::new(ArcSwap::from_pointee(value)))
    }

    /// What holds now.
    pub fn now(&self) -> Arc<T> {
        self.0.load_full()
    }

    /// Puts another in its place.
    pub fn replace(&self, value: T) {
        self.0.store(Arc::new(value));
    }
}

impl<T> Clone for Live<T> {
    fn clone(&self) -> Self {
        Live(self.0.clone())
    }
}

impl<T: Default> Default for Live<T> {
    fn default() -> Self {
        Live::new(T::default())
    }
}

impl<T> From<T> for Live<T> {
    fn from(value: T) -> Self {
        Live::new(value)
    }
}
