//! The index: rows by key, rebuilt from the log whenever it is lost.
//!
//! Behind a trait, as the simulator keeps its own in memory. An index is trusted for what it was
//! given, not for durability: only [`Index::checkpoint`] promises that.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, PoisonError};

use super::error::StoreError;
use super::memtable::Memtable;
use super::row::{Cursor, Key, Position, Row};

/// Up to where the log is applied, and what lived where at that moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marker {
    /// The last group applied.
    pub seq: u64,
    /// Where the log goes on behind it.
    pub at: Position,
    /// Living octets by segment; segments without any are left out.
    pub live: BTreeMap<u32, u64>,
}

impl Marker {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = self.seq.to_le_bytes().to_vec();
        out.extend_from_slice(&self.at.segment.to_le_bytes());
        out.extend_from_slice(&self.at.offset.to_le_bytes());
        for (segment, octets) in &self.live {
            out.extend_from_slice(&segment.to_le_bytes());
            out.extend_from_slice(&octets.to_le_bytes());
        }
        out
    }

    pub(super) fn decode(octets: &[u8]) -> Result<Self, StoreError> {
        let mut cursor = Cursor(octets);
        let seq = cursor.u64()?;
        let at = Position { segment: cursor.u32()?, offset: cursor.u32()? };
        let mut live = BTreeMap::new();
        while !cursor.0.is_empty() {
            live.insert(cursor.u32()?, cursor.u64()?);
        }
        Ok(Marker { seq, at, live })
    }
}

/// Rows of one scan, in key order.
pub type Rows = Vec<(Key, Row)>;

/// Rows by key.
pub trait Index: Send + Sync {
    /// The row under a key.
    fn get(&self, key: &[u8]) -> Result<Option<Row>, StoreError>;
    /// Up to `limit` rows in key order.
    fn scan(&self, from: Bound<&[u8]>, to: Bound<&[u8]>, limit: usize) -> Result<Rows, StoreError>;
    /// The last row of a range.
    fn last(&self, from: Bound<&[u8]>, to: Bound<&[u8]>) -> Result<Option<(Key, Row)>, StoreError>;
    /// Takes in a frozen table; the marker becomes visible with its last rows.
    fn take_in(&self, table: &MemtableRef<'_>, marker: &Marker) -> Result<(), StoreError>;
    /// The newest marker.
    fn marker(&self) -> Result<Option<Marker>, StoreError>;
    /// Returns when everything taken in is on the disk.
    fn checkpoint(&self) -> Result<(), StoreError>;
    /// Makes a failed index usable again, if that can be done; one that is damaged never is.
    fn reopen(&self) -> Result<(), StoreError>;
}

/// A frozen table as an index sees it.
pub struct MemtableRef<'a>(pub(super) &'a Memtable);

impl MemtableRef<'_> {
    /// Each key with its row, or `None` where it is to go.
    pub fn rows(&self) -> impl Iterator<Item = (&[u8], Option<&Row>)> {
        let known_below = |slot: &super::memtable::Slot| slot.row.is_some() || slot.below;
        self.0
            .iter()
            .filter(move |(_, slot)| known_below(slot))
            .map(|(key, slot)| (key.as_ref(), slot.row.as_ref()))
    }
}

/// An index in memory. Clones share it. A crash takes it back to a state since its last checkpoint.
#[derive(Clone, Default)]
pub struct MemoryIndex(Arc<Mutex<MemoryState>>);

#[derive(Clone, Default)]
struct MemoryState {
    rows: BTreeMap<Key, Row>,
    marker: Option<Marker>,
    durable: Option<Box<MemoryState>>,
}

impl MemoryIndex {
    /// An empty index.
    pub fn new() -> Self {
        Self::default()
    }

    /// Loses what no checkpoint promised, or keeps it, as luck has it.
    pub fn crash(&self, rng: &mut fastrand::Rng) {
        let mut state = self.state();
        if rng.bool() {
            let durable = state.durable.take().map(|durable| *durable).unwrap_or_default();
            *state = MemoryState { durable: Some(Box::new(durable.clone())), ..durable };
        }
    }

    /// Loses everything.
    pub fn forget(&self) {
        *self.state() = MemoryState::default();
    }

    fn state(&self) -> std::sync::MutexGuard<'_, MemoryState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Index for MemoryIndex {
    fn get(&self, key: &[u8]) -> Result<Option<Row>, StoreError> {
        Ok(self.state().rows.get(key).cloned())
    }

    fn scan(&self, from: Bound<&[u8]>, to: Bound<&[u8]>, limit: usize) -> Result<Rows, StoreError> {
        let state = self.state();
        let rows = state.rows.range::<[u8], _>((from, to)).take(limit);
        Ok(rows.map(|(key, row)| (key.clone(), row.clone())).collect())
    }

    fn last(&self, from: Bound<&[u8]>, to: Bound<&[u8]>) -> Result<Option<(Key, Row)>, StoreError> {
        let state = self.state();
        let last = state.rows.range::<[u8], _>((from, to)).next_back();
        Ok(last.map(|(key, row)| (key.clone(), row.clone())))
    }

    fn take_in(&self, table: &MemtableRef<'_>, marker: &Marker) -> Result<(), StoreError> {
        let mut state = self.state();
        for (key, row) in table.rows() {
            match row {
                Some(row) => state.rows.insert(key.into(), Row { cached: None, ..row.clone() }),
                None => state.rows.remove(key),
            };
        }
        state.marker = Some(marker.clone());
        Ok(())
    }

    fn marker(&self) -> Result<Option<Marker>, StoreError> {
        Ok(self.state().marker.clone())
    }

    fn checkpoint(&self) -> Result<(), StoreError> {
        let mut state = self.state();
        let durable = MemoryState { durable: None, ..state.clone() };
        state.durable = Some(Box::new(durable));
        Ok(())
    }

    fn reopen(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_reads_back() {
        let marker = Marker {
            seq: 9,
            at: Position { segment: 2, offset: 4096 },
            live: BTreeMap::from([(1, 5), (2, 7)]),
        };
        assert_eq!(Marker::decode(&marker.encode()).expect("decodes"), marker);
        assert!(Marker::decode(&marker.encode()[..17]).is_err());
    }
}
