//! The index in sled.
//!
//! What was learnt of sled 0.34.7, and is obeyed here:
//! - `flush()` ends in `sync_file_range`, which promises nothing: a checkpoint syncs the file itself.
//! - `apply_batch` on one tree is atomic, and shuts readers out while it runs (5,000 rows: 25 ms), so
//!   frozen tables are kept to about that size and go in as one batch, the marker among them.
//! - Each replaced page leaves garbage with crossbeam-epoch, which collects it only now and then: a
//!   million rows took 6 GB. Pinning and flushing after each batch keeps it level.
//! - An I/O error sticks until the database is opened again.

use std::fs::File;
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use super::error::StoreError;
use super::index::{Index, Marker, MemtableRef, Rows};
use super::row::{Key, Row};

/// Sorts before every row's key.
const MARKER_KEY: &[u8] = &[0];
/// One collection of old pages for so many rows written.
const ROWS_PER_COLLECTION: usize = 30;
const COLLECTIONS_MIN: usize = 20;

/// A sled database in a directory of its own.
pub struct SledIndex {
    dir: PathBuf,
    cache_octets: u64,
    db: RwLock<Option<sled::Db>>,
}

impl SledIndex {
    /// Opens or makes the database.
    pub fn open(dir: &Path, cache_octets: u64) -> Result<Self, StoreError> {
        let index = SledIndex { dir: dir.to_owned(), cache_octets, db: RwLock::new(None) };
        index.reopen()?;
        Ok(index)
    }

    /// Runs a step; a panic inside sled is an error like any other.
    fn with<T>(&self, step: impl FnOnce(&sled::Db) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let db = self.db.read().unwrap_or_else(PoisonError::into_inner);
        let db = db.as_ref().ok_or_else(|| StoreError::Index("closed after an error".into()))?;
        catch_unwind(AssertUnwindSafe(|| step(db)))
            .unwrap_or_else(|_| Err(StoreError::Index("a step of the index panicked".into())))
    }
}

fn decode(key: &[u8], value: &[u8]) -> Result<(Key, Row), StoreError> {
    Ok((key.into(), Row::decode(value)?))
}

/// Rows' keys sort behind the marker.
fn behind_marker(from: Bound<&[u8]>) -> Bound<&[u8]> {
    match from {
        Bound::Unbounded => Bound::Excluded(MARKER_KEY),
        bounded => bounded,
    }
}

/// Frees the pages that the last batch replaced.
fn collect_garbage(rows: usize) {
    for _ in 0..COLLECTIONS_MIN.max(rows / ROWS_PER_COLLECTION) {
        crossbeam::epoch::pin().flush();
    }
}

impl Index for SledIndex {
    fn get(&self, key: &[u8]) -> Result<Option<Row>, StoreError> {
        self.with(|db| db.get(key)?.map(|value| Row::decode(&value)).transpose())
    }

    fn scan(&self, from: Bound<&[u8]>, to: Bound<&[u8]>, limit: usize) -> Result<Rows, StoreError> {
        self.with(|db| {
            let rows = db.range::<&[u8], _>((behind_marker(from), to)).take(limit);
            rows.map(|row| row.map_err(StoreError::from).and_then(|(key, value)| decode(&key, &value)))
                .collect()
        })
    }

    fn last(&self, from: Bound<&[u8]>, to: Bound<&[u8]>) -> Result<Option<(Key, Row)>, StoreError> {
        self.with(|db| {
            let last = db.range::<&[u8], _>((behind_marker(from), to)).next_back().transpose()?;
            last.map(|(key, value)| decode(&key, &value)).transpose()
        })
    }

    #[allow(clippy::disallowed_methods, reason = "durability is the checkpoint's business")]
    fn take_in(&self, table: &MemtableRef<'_>, marker: &Marker) -> Result<(), StoreError> {
        let rows = self.with(|db| {
            let mut batch = sled::Batch::default();
            let mut rows = 0;
            for (key, row) in table.rows() {
                match row {
                    Some(row) => batch.insert(key, row.encode()),
                    None => batch.remove(key),
                }
                rows += 1;
            }
            batch.insert(MARKER_KEY, marker.encode());
            db.apply_batch(batch)?;
            // into the file, though not yet for sure: an index opened anew after an error must find it
            db.flush()?;
            Ok(rows)
        })?;
        collect_garbage(rows);
        Ok(())
    }

    fn marker(&self) -> Result<Option<Marker>, StoreError> {
        self.with(|db| db.get(MARKER_KEY)?.map(|value| Marker::decode(&value)).transpose())
    }

    #[allow(clippy::disallowed_methods, reason = "the file is synced right after it")]
    fn checkpoint(&self) -> Result<(), StoreError> {
        self.with(|db| Ok(db.flush().map(drop)?))?;
        for name in ["db", "conf", "."] {
            let synced = File::open(self.dir.join(name)).and_then(|file| file.sync_all());
            synced.map_err(StoreError::io("syncing the index"))?;
        }
        Ok(())
    }

    fn reopen(&self) -> Result<(), StoreError> {
        let mut slot = self.db.write().unwrap_or_else(PoisonError::into_inner);
        // the old one must be gone before its files can be locked again
        *slot = None;
        let config =
            sled::Config::default().path(&self.dir).cache_capacity(self.cache_octets).flush_every_ms(None);
        let opened = catch_unwind(AssertUnwindSafe(|| config.open()));
        let db = opened.unwrap_or_else(|_| Err(sled::Error::Unsupported("opening it panicked".into())))?;
        *slot = Some(db);
        Ok(())
    }
}
