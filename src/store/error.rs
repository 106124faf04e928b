//! What can go wrong in the store, and what a stranger may be told of it.

use std::io;
use std::sync::Arc;

/// A failure of the store. Cheap to clone: one failed write answers every batch of its group.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// The disk has no room. Passes when there is room again.
    #[error("no space left for the store")]
    Full,
    /// The operating system refused a read, write or sync.
    #[error("{doing}: {error}")]
    Io {
        /// What was being done, for the log.
        doing: &'static str,
        /// What the system said.
        error: Arc<io::Error>,
    },
    /// Bytes on the disk are not what was written.
    #[error("damaged: {0}")]
    Damaged(Arc<str>),
    /// The index (sled) failed.
    #[error("index: {0}")]
    Index(Arc<str>),
    /// A batch larger than a record group may be.
    #[error("the batch is larger than {limit_octets} octets")]
    TooLarge {
        /// The limit.
        limit_octets: usize,
    },
    /// The store is shutting down or one of its threads is gone.
    #[error("the store is closed")]
    Closed,
}

impl StoreError {
    /// Wraps what the system said while `doing` something.
    pub fn io(doing: &'static str) -> impl FnOnce(io::Error) -> StoreError {
        move |error| match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::Full,
            _ => StoreError::Io { doing, error: Arc::new(error) },
        }
    }

    /// Something on the disk that is not what was written.
    pub fn damaged(what: impl Into<Arc<str>>) -> Self {
        StoreError::Damaged(what.into())
    }
}

impl From<sled::Error> for StoreError {
    fn from(error: sled::Error) -> Self {
        match error {
            sled::Error::Io(error) => StoreError::io("the index")(error),
            error => StoreError::Index(error.to_string().into()),
        }
    }
}
