//! Reading rows and bodies: the memtables over the index, as one sorted whole.
//!
//! A read may block on the disk: it belongs on the reader threads ([`super::Store::read`]), never on
//! an arbiter. What it shows is durable, and at least as new as the moment the read began.

use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;

use super::alarm;
use super::body;
use super::disk::{Disk, DiskFile};
use super::error::StoreError;
use super::index::{Index, Rows};
use super::log::LogReader;
use super::memtable::{Known, View};
use super::resolve;
use super::row::{Blob, Key, Row};
use crate::clock::Timestamp;

/// Reads rows and bodies.
#[derive(Clone)]
pub struct Reader {
    pub(super) view: Arc<RwLock<View>>,
    pub(super) index: Arc<dyn Index>,
    pub(super) log: Arc<dyn LogReader>,
    pub(super) disk: Arc<dyn Disk>,
}

/// A body as it can be sent.
#[derive(Clone)]
pub enum BodyReader {
    /// All of it.
    Octets(Bytes),
    /// A file to be read piece by piece.
    File(FileReader),
}

/// Reads a body file from its start. Blocking.
#[derive(Clone)]
pub struct FileReader {
    file: Arc<dyn DiskFile>,
    len: u64,
    crc: u32,
    offset: u64,
    crc_so_far: u32,
}

impl FileReader {
    /// The next up to `max_octets`; empty at the end, where the checksum was right.
    pub fn read(&mut self, max_octets: usize) -> Result<Bytes, StoreError> {
        let left = usize::try_from(self.len - self.offset).unwrap_or(usize::MAX);
        if left == 0 {
            return Ok(Bytes::new());
        }
        let mut octets = vec![0; left.min(max_octets)];
        self.file.read_at(&mut octets, self.offset).map_err(StoreError::io("reading a body file"))?;
        self.offset += octets.len() as u64;
        self.crc_so_far = crc32c::crc32c_append(self.crc_so_far, &octets);
        if self.offset == self.len && self.crc_so_far != self.crc {
            // the last piece is withheld: a damaged body must never look complete
            return Err(StoreError::damaged("a body file's checksum is wrong"));
        }
        Ok(octets.into())
    }
}

impl BodyReader {
    /// The next octets, up to some number; nothing at the end, where all of it was right.
    pub async fn next_piece(&mut self, max_octets: usize) -> Result<Option<Bytes>, StoreError> {
        let piece = match self {
            BodyReader::Octets(octets) => octets.split_to(octets.len().min(max_octets)),
            BodyReader::File(file) => {
                let mut reading = file.clone();
                let read = tokio::task::spawn_blocking(move || {
                    let piece = reading.read(max_octets);
                    (reading, piece)
                });
                let (after, piece) = read.await.map_err(|_| StoreError::Closed)?;
                *file = after;
                piece?
            }
        };
        Ok((!piece.is_empty()).then_some(piece))
    }
}

impl Reader {
    /// The number of the last group that every later read of this reader shows.
    pub fn seq(&self) -> u64 {
        self.view.read().unwrap_or_else(PoisonError::into_inner).seq
    }

    /// The row under a key.
    pub fn get(&self, key: &[u8]) -> Result<Option<Row>, StoreError> {
        match self.view.read().unwrap_or_else(PoisonError::into_inner).look_up(key) {
            Known::Here(row, _) => return Ok(row),
            Known::No => {}
        }
        // a row that is moved into the index right now is there before it leaves the memtable; so a
        // miss in both means that it was written after the first look
        self.index.get(key)
    }

    /// Up to `limit` rows (at least 1) from `from` on, below `to`, in key order. There may be more even
    /// where fewer than `limit` come; there are none where none come.
    pub fn scan(&self, from: Bound<&[u8]>, to: &[u8], limit: usize) -> Result<Rows, StoreError> {
        let (rows, mut cut) = self.scan_once(from, to, limit)?;
        if !rows.is_empty() {
            return Ok(rows);
        }
        // everything seen so far was deleted: look on behind it
        while let Some(seen) = cut {
            let (rows, next) = self.scan_once(Bound::Excluded(&seen), to, limit)?;
            if !rows.is_empty() {
                return Ok(rows);
            }
            cut = next;
        }
        Ok(Vec::new())
    }

    /// All rows from behind `from`, below `to`, in key order; nothing where there may be more than `limit`.
    pub fn scan_whole(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Option<Rows>, StoreError> {
        let recent = self.recent(Bound::Excluded(from), to, limit + 1);
        if recent.len() > limit {
            return Ok(None);
        }
        let range = (Bound::Excluded(from), Bound::Excluded(to));
        let indexed = self.index.scan(range.0, range.1, limit + 1)?;
        Ok((indexed.len() <= limit).then(|| merge(recent, indexed, false)))
    }

    /// One look at the memtables and the index; where the memtables were cut off, the key at the cut.
    fn scan_once(
        &self,
        from: Bound<&[u8]>,
        to: &[u8],
        limit: usize,
    ) -> Result<(Rows, Option<Key>), StoreError> {
        if matches!(from, Bound::Included(start) | Bound::Excluded(start) if start >= to) {
            return Ok((Vec::new(), None));
        }
        // memtables first: what moves into the index meanwhile is then seen twice, never not at all
        let recent = self.recent(from, to, limit);
        // behind a cut at `limit`, the memtables may hold rows that are not known yet
        let cut = recent.last().filter(|_| recent.len() == limit).map(|(key, _)| key.clone());
        let upper = cut.as_deref().map_or(Bound::Excluded(to), Bound::Included);
        let hidden = recent.iter().filter(|(_, row)| row.is_none()).count();
        let indexed = self.index.scan(from, upper, limit + hidden)?;
        let index_was_cut = indexed.len() == limit + hidden;
        let mut rows = merge(recent, indexed, index_was_cut);
        rows.truncate(limit);
        Ok((rows, cut))
    }

    fn recent(&self, from: Bound<&[u8]>, to: &[u8], limit: usize) -> Vec<(Key, Option<Row>)> {
        let view = self.view.read().unwrap_or_else(PoisonError::into_inner);
        let mut active = view.active.range(from, Bound::Excluded(to)).peekable();
        let frozen = view.frozen.as_deref();
        let mut frozen =
            frozen.into_iter().flat_map(|table| table.range(from, Bound::Excluded(to))).peekable();
        let mut recent = Vec::new();
        while recent.len() < limit {
            let newer_first = match (active.peek(), frozen.peek()) {
                (None, None) => break,
                (Some(_), None) => true,
                (None, Some(_)) => false,
                (Some((a, _)), Some((f, _))) if a == f => {
                    frozen.next();
                    true
                }
                (Some((a, _)), Some((f, _))) => a < f,
            };
            let next = if newer_first { active.next() } else { frozen.next() };
            recent.extend(next.map(|(key, slot)| (key.clone(), slot.row.clone())));
        }
        recent
    }

    /// The last row from `from` on, below `to`.
    pub fn last(&self, from: &[u8], to: &[u8]) -> Result<Option<(Key, Row)>, StoreError> {
        let range = (Bound::Included(from), Bound::Excluded(to));
        let indexed = self.index.last(range.0, range.1)?;
        let view = self.view.read().unwrap_or_else(PoisonError::into_inner);
        let tables = [Some(&view.active), view.frozen.as_deref()];
        let recent = tables.into_iter().flatten().flat_map(|table| table.range(range.0, range.1));
        let recent = recent
            .filter_map(|(key, slot)| Some((key.clone(), slot.row.clone()?)))
            .max_by(|a, b| a.0.cmp(&b.0));
        Ok(recent.into_iter().chain(indexed).max_by(|a, b| a.0.cmp(&b.0)))
    }

    /// A counter's number.
    pub fn count(&self, key: &[u8]) -> Result<u64, StoreError> {
        Ok(self.get(key)?.map_or(0, |row| resolve::number(&row.value)))
    }

    /// Up to `limit` alarms that ring at `until` or before, earliest first, after the one named.
    pub fn alarms(
        &self,
        until: Timestamp,
        after: Option<(Timestamp, &[u8])>,
        limit: usize,
    ) -> Result<Vec<(Timestamp, Bytes)>, StoreError> {
        let start = after.map(|(at, name)| alarm::wake_key(at, name));
        let first = [alarm::WAKE_PREFIX];
        let from = start.as_deref().map_or(Bound::Included(&first[..]), Bound::Excluded);
        let to = match until {
            Timestamp::MAX => vec![alarm::WAKE_PREFIX + 1],
            until => alarm::wake_key(Timestamp::from_millis(until.as_millis() + 1), &[]),
        };
        let rows = self.scan(from, &to, limit)?;
        let alarms = rows.iter().filter_map(|(key, _)| alarm::split_wake_key(key));
        Ok(alarms.map(|(at, name)| (at, Bytes::copy_from_slice(name))).collect())
    }

    /// Up to `limit` names of alarms that were set under a curfew.
    pub fn alarms_under(&self, curfew: &[u8], limit: usize) -> Result<Vec<Bytes>, StoreError> {
        let from = alarm::under_prefix(curfew);
        let mut to = from.clone();
        to.pop();
        to.push(1);
        let rows = self.scan(Bound::Excluded(&from), &to, limit)?;
        Ok(rows.iter().map(|(key, _)| Bytes::copy_from_slice(&key[from.len()..])).collect())
    }

    /// The body of the row under `key`. A body in the log is read and checked whole.
    pub fn body(&self, key: &[u8], row: &Row) -> Result<Option<BodyReader>, StoreError> {
        if let Some(octets) = &row.cached {
            return Ok(Some(BodyReader::Octets(octets.clone())));
        }
        match row.blob {
            None => Ok(None),
            Some(Blob::Log { at, len, crc }) => {
                let octets = match self.log.read(at, len) {
                    // compaction may have moved it since the row was read
                    Err(error) => return self.moved_body(key, row, error).map(Some),
                    Ok(octets) => octets,
                };
                if crc32c::crc32c(&octets) != crc {
                    return Err(StoreError::damaged("a body's checksum is wrong"));
                }
                Ok(Some(BodyReader::Octets(octets)))
            }
            Some(Blob::File { len, crc }) => {
                let file = body::open(&*self.disk, key)?;
                Ok(Some(BodyReader::File(FileReader { file, len, crc, offset: 0, crc_so_far: 0 })))
            }
        }
    }

    fn moved_body(&self, key: &[u8], row: &Row, error: StoreError) -> Result<BodyReader, StoreError> {
        match self.get(key)? {
            Some(now) if now.blob != row.blob => self.body(key, &now)?.ok_or(error),
            _ => Err(error),
        }
    }
}

/// Joins sorted rows of the memtables (`None`: deleted) and of the index; the former win.
fn merge(recent: Vec<(Key, Option<Row>)>, indexed: Rows, index_was_cut: bool) -> Rows {
    let mut rows = Vec::with_capacity(recent.len() + indexed.len());
    let mut recent = recent.into_iter().peekable();
    for (key, row) in indexed {
        while let Some((newer, slot)) = recent.next_if(|(newer, _)| *newer < key) {
            rows.extend(slot.map(|row| (newer, row)));
        }
        match recent.next_if(|(newer, _)| *newer == key) {
            Some((newer, slot)) => rows.extend(slot.map(|row| (newer, row))),
            None => rows.push((key, row)),
        }
    }
    // behind the index's cut there may be rows that sort before what is left of the memtables
    if !index_was_cut {
        rows.extend(recent.filter_map(|(key, slot)| Some((key, slot?))));
    }
    rows
}
