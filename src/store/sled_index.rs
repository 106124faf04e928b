//! The index in sled.
//!
//! What was learnt of sled 0.34.7, and is obeyed here:
//! - `flush()` ends in `sync_file_range`, which promises nothing: a checkpoint syncs the file itself.
//! - `apply_batch` on one tree is atomic, and shuts readers out while it runs (5,000 rows: 25 ms), so
//!   frozen tables are kept to about that size and go in as one batch, the marker among them.
//! - Each replaced page leaves garbage with crossbeam-epoch, which collects it only now and then: a
//!   million rows took 6 GB. Pinning and flushing after each batch keeps it level.
//! - A page holds 8 to 16 entries whatever their size, and costs 700 octets of memory: so an entry is a
//!   block of rows ([`super::block`]).
//! - An I/O error sticks until the database is opened again.

use std::fs::{self, File};
use std::io;
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use sled::IVec;

use super::block;
use super::error::StoreError;
use super::index::{Index, Marker, MemtableRef, Rows};
use super::row::{Key, Row};

/// Sorts before every fence.
const MARKER_KEY: &[u8] = &[0];
/// The fence of the first block; sorts before every row's key.
const FIRST_FENCE: &[u8] = &[1];
/// One collection of old pages for so many blocks written.
const BLOCKS_PER_COLLECTION: usize = 10;
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

/// The block that a key belongs to: its fence and its octets.
fn block_of(db: &sled::Db, key: &[u8]) -> Result<Option<(IVec, IVec)>, StoreError> {
    let up_to = (Bound::Excluded(MARKER_KEY), Bound::Included(key));
    Ok(db.range::<&[u8], _>(up_to).next_back().transpose()?)
}

/// The fence behind another.
fn fence_after(db: &sled::Db, fence: &[u8]) -> Result<Option<IVec>, StoreError> {
    let behind = (Bound::Excluded(fence), Bound::Unbounded);
    Ok(db.range::<&[u8], _>(behind).next().transpose()?.map(|(fence, _)| fence))
}

fn is_before(key: &[u8], to: Bound<&[u8]>) -> bool {
    match to {
        Bound::Included(to) => key <= to,
        Bound::Excluded(to) => key < to,
        Bound::Unbounded => true,
    }
}

fn is_behind(key: &[u8], from: Bound<&[u8]>) -> bool {
    match from {
        Bound::Included(from) => key >= from,
        Bound::Excluded(from) => key > from,
        Bound::Unbounded => true,
    }
}

/// Frees the pages that the last batch replaced.
fn collect_garbage(blocks: usize) {
    for _ in 0..COLLECTIONS_MIN.max(blocks / BLOCKS_PER_COLLECTION) {
        crossbeam::epoch::pin().flush();
    }
}

/// Puts a table's rows into the blocks that they belong to; gives the changed entries and their number.
fn changed_blocks(db: &sled::Db, table: &MemtableRef<'_>) -> Result<(sled::Batch, usize), StoreError> {
    let (mut batch, mut blocks) = (sled::Batch::default(), 0);
    let mut rows = table.rows().peekable();
    while let Some((first, _)) = rows.peek() {
        let (fence, octets) = match block_of(db, first)? {
            Some((fence, octets)) => (fence, Some(octets)),
            None => (IVec::from(FIRST_FENCE), None),
        };
        let end = fence_after(db, &fence)?;
        let is_here = |key: &[u8]| end.as_ref().is_none_or(|end| key < &**end);
        let mut changes = Vec::new();
        while let Some(change) = rows.next_if(|(key, _)| is_here(key)) {
            changes.push(change);
        }
        let old = octets.map_or(Ok(Vec::new()), |octets| block::decode(&octets))?;
        let pieces = block::change(old, &changes);
        blocks += pieces.len() + 1;
        if pieces.is_empty() {
            batch.remove(&fence);
        }
        for (number, rows) in pieces.iter().enumerate() {
            let fence = if number == 0 { &fence[..] } else { &rows[0].0[..] };
            batch.insert(fence, block::encode(rows));
        }
    }
    Ok((batch, blocks))
}

impl Index for SledIndex {
    fn get(&self, key: &[u8]) -> Result<Option<Row>, StoreError> {
        self.with(|db| match block_of(db, key)? {
            Some((_, octets)) => block::find(&octets, key),
            None => Ok(None),
        })
    }

    fn scan(&self, from: Bound<&[u8]>, to: Bound<&[u8]>, limit: usize) -> Result<Rows, StoreError> {
        self.with(|db| {
            let mut rows: Rows = Vec::new();
            let start = match from {
                Bound::Included(key) | Bound::Excluded(key) => block_of(db, key)?,
                Bound::Unbounded => None,
            };
            let behind = start.as_ref().map_or(MARKER_KEY, |(fence, _)| &fence[..]).to_vec();
            let others = db.range::<&[u8], _>((Bound::Excluded(&behind[..]), to));
            let blocks = start.map(Ok).into_iter().chain(others);
            for entry in blocks {
                let (_, octets) = entry?;
                block::visit(&octets, |key, row| {
                    // a block that was split meanwhile shows its rows twice
                    let is_new = rows.last().is_none_or(|(last, _)| **last < *key);
                    if is_new && is_behind(key, from) && is_before(key, to) {
                        rows.push((key.into(), Row::decode(row)?));
                    }
                    Ok(rows.len() < limit && is_before(key, to))
                })?;
                if rows.len() >= limit {
                    break;
                }
            }
            Ok(rows)
        })
    }

    fn last(&self, from: Bound<&[u8]>, to: Bound<&[u8]>) -> Result<Option<(Key, Row)>, StoreError> {
        self.with(|db| {
            let mut to_here = to;
            let mut fence: IVec;
            loop {
                let up_to = (Bound::Excluded(MARKER_KEY), to_here);
                let Some((found, octets)) = db.range::<&[u8], _>(up_to).next_back().transpose()? else {
                    return Ok(None);
                };
                let rows = block::decode(&octets)?;
                let last = rows.into_iter().rev().find(|(key, _)| is_before(key, to));
                if let Some((key, row)) = last {
                    return Ok(is_behind(&key, from).then_some((key, row)));
                }
                fence = found;
                to_here = Bound::Excluded(&fence);
            }
        })
    }

    #[allow(clippy::disallowed_methods, reason = "durability is the checkpoint's business")]
    fn take_in(&self, table: &MemtableRef<'_>, marker: &Marker) -> Result<(), StoreError> {
        let blocks = self.with(|db| {
            let (mut batch, blocks) = changed_blocks(db, table)?;
            batch.insert(MARKER_KEY, marker.encode());
            db.apply_batch(batch)?;
            // into the file, though not yet for sure: an index opened anew after an error must find it
            db.flush()?;
            Ok(blocks)
        })?;
        collect_garbage(blocks);
        Ok(())
    }

    fn marker(&self) -> Result<Option<Marker>, StoreError> {
        self.with(|db| db.get(MARKER_KEY)?.map(|value| Marker::decode(&value)).transpose())
    }

    #[allow(clippy::disallowed_methods, reason = "the file is synced right after it")]
    fn checkpoint(&self) -> Result<(), StoreError> {
        self.with(|db| Ok(db.flush().map(drop)?))?;
        let sync = |path: &Path| File::open(path).and_then(|file| file.sync_all());
        let sync_all = || {
            // what is too large for sled's log is a file there
            let blobs = self.dir.join("blobs");
            for blob in fs::read_dir(&blobs).into_iter().flatten() {
                match sync(&blob?.path()) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
            let names = ["db", "conf", "blobs", "."].map(|name| self.dir.join(name));
            names.iter().filter(|path| path.exists()).try_for_each(|path| sync(path))
        };
        sync_all().map_err(StoreError::io("syncing the index"))
    }

    fn reopen(&self) -> Result<(), StoreError> {
        let mut slot = self.db.write().unwrap_or_else(PoisonError::into_inner);
        // the old one must be gone before its files can be locked again
        *slot = None;
        let config =
            sled::Config::default().path(&self.dir).cache_capacity(self.cache_octets).flush_every_ms(None);
        let opened = catch_unwind(AssertUnwindSafe(|| config.open()));
        let opened = opened.unwrap_or_else(|_| Err(sled::Error::Unsupported("opening it panicked".into())));
        *slot = Some(opened.map_err(|error| match error {
            // seen where the disk was full while it was opened before: it stays so, and is built anew from the log
            sled::Error::Corruption { .. } => {
                StoreError::damaged(format!("the index does not open: {error}"))
            }
            error => error.into(),
        })?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bytes::Bytes;

    use super::super::memtable::{Memtable, Slot};
    use super::*;

    fn key(number: u32) -> Key {
        format!("k{number:05}").into_bytes().into()
    }

    fn row(home: u32) -> Row {
        Row { home, blob: None, value: Bytes::from(home.to_le_bytes().to_vec()), cached: None }
    }

    /// Rows that stay are seen by every reader, whatever is split and removed round them meanwhile.
    #[test]
    fn a_row_that_stays_is_never_missed_while_tables_go_in() {
        let dir = tempfile::tempdir().expect("a directory");
        let index = SledIndex::open(dir.path(), 1 << 20).expect("opens");
        let take_in = |numbers: &mut dyn Iterator<Item = (u32, bool)>| {
            let mut table = Memtable::default();
            for (number, stays) in numbers {
                table.set(key(number), Slot { row: stays.then(|| row(number)), below: true });
            }
            index.take_in(&MemtableRef(&table), &Marker::default()).expect("goes in");
        };
        take_in(&mut (0..4000).step_by(50).map(|number| (number, true)));
        let is_done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|threads| {
            let reader = threads.spawn(|| {
                let mut looks = 0;
                while !is_done.load(std::sync::atomic::Ordering::SeqCst) || looks == 0 {
                    let rows = index.scan(Bound::Unbounded, Bound::Unbounded, usize::MAX).expect("reads");
                    let stayed = rows.iter().filter(|(_, row)| row.home.is_multiple_of(50)).count();
                    assert_eq!(stayed, 80, "a row was missed, or seen twice");
                    assert!(rows.is_sorted_by(|a, b| a.0 < b.0));
                    looks += 1;
                }
            });
            let mut rng = fastrand::Rng::with_seed(3);
            for _ in 0..150 {
                let passing = |rng: &mut fastrand::Rng| rng.u32(..80) * 50 + rng.u32(1..50);
                let numbers: Vec<u32> = (0..200).map(|_| passing(&mut rng)).collect();
                let stays = rng.bool();
                take_in(&mut numbers.into_iter().map(|number| (number, stays)));
            }
            is_done.store(true, std::sync::atomic::Ordering::SeqCst);
            reader.join().expect("sees what it should");
        });
    }

    /// Tables of random puts and deletes go in; whatever is asked of the index, a plain map says the same.
    #[test]
    fn the_index_says_what_a_map_says() {
        let dir = tempfile::tempdir().expect("a directory");
        let index = SledIndex::open(dir.path(), 1 << 20).expect("opens");
        let mut rng = fastrand::Rng::with_seed(5);
        let mut map: BTreeMap<Key, Row> = BTreeMap::new();
        for round in 0..200u32 {
            let mut table = Memtable::default();
            let (low, appends) = (round * 20, rng.bool());
            for _ in 0..rng.usize(1..60) {
                let number = if appends { low + rng.u32(..40) } else { rng.u32(..4000) };
                let row = (rng.u8(..3) > 0 && round < 150).then(|| row(rng.u32(..)));
                match &row {
                    Some(row) => map.insert(key(number), row.clone()),
                    None => map.remove(&key(number)),
                };
                table.set(key(number), Slot { row, below: true });
            }
            if round > 190 {
                map.keys().for_each(|key| table.set(key.clone(), Slot { row: None, below: true }));
                map.clear();
            }
            let marker = Marker { seq: u64::from(round), ..Marker::default() };
            index.take_in(&MemtableRef(&table), &marker).expect("goes in");
            assert_eq!(index.marker().expect("reads"), Some(marker));
            for _ in 0..20 {
                let (a, b) = (key(rng.u32(..4000)), key(rng.u32(..4000)));
                assert_eq!(index.get(&a).expect("reads").as_ref(), map.get(&a));
                let (a, b) = if a < b { (a, b) } else { (b, a) };
                let bounds = match rng.u8(..3) {
                    0 => (Bound::Excluded(&a[..]), Bound::Excluded(&b[..])),
                    1 => (Bound::Included(&a[..]), Bound::Included(&b[..])),
                    _ => (Bound::Unbounded, Bound::Unbounded),
                };
                if a == b {
                    continue;
                }
                let limit = rng.usize(1..50);
                let range = || map.range::<[u8], _>(bounds).map(|(key, row)| (key.clone(), row.clone()));
                assert_eq!(
                    index.scan(bounds.0, bounds.1, limit).expect("reads"),
                    range().take(limit).collect::<Vec<_>>()
                );
                assert_eq!(index.last(bounds.0, bounds.1).expect("reads"), range().next_back());
            }
        }
        let left = index.with(|db| Ok(db.len())).expect("reads");
        assert_eq!((map.len(), left), (0, 1), "only the marker is left of an empty index");
    }
}
