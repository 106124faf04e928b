//! Rows that are durable in the log but not yet in the index.
//!
//! Most mail is delivered within seconds: its rows come and go here and never cost the index a write.
//! Bounded by the writer, which freezes the table and hands it to the index when it has grown.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use super::row::{Key, Row};

/// What an entry costs beside its octets: map node, key and row headers. Measured, rounded up.
const ENTRY_OVERHEAD_OCTETS: usize = 160;

/// What is known of one key.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    /// The row; `None` says that there is none, whatever lies below.
    pub(super) row: Option<Row>,
    /// Whether the frozen table or the index may hold an older row under this key.
    pub(super) below: bool,
}

/// A sorted table of the newest rows.
#[derive(Clone, Debug, Default)]
pub(super) struct Memtable {
    slots: BTreeMap<Key, Slot>,
    octets: usize,
    cached_octets: usize,
}

impl Memtable {
    pub(super) fn get(&self, key: &[u8]) -> Option<&Slot> {
        self.slots.get(key)
    }

    /// About what it takes in memory, bodies not counted.
    pub(super) fn octets(&self) -> usize {
        self.octets
    }

    /// What the bodies it keeps take.
    pub(super) fn cached_octets(&self) -> usize {
        self.cached_octets
    }

    /// Sets a slot. A row that is gone, with nothing below it, leaves nothing behind.
    pub(super) fn set(&mut self, key: Key, slot: Slot) {
        let removed = if slot.row.is_none() && !slot.below {
            self.slots.remove(&key).map(|old| (key.len(), old))
        } else {
            self.octets += key.len() + ENTRY_OVERHEAD_OCTETS + value_octets(&slot);
            self.cached_octets += cached_octets(&slot);
            let key_octets = key.len();
            self.slots.insert(key, slot).map(|old| (key_octets, old))
        };
        if let Some((key_octets, old)) = removed {
            self.octets -= key_octets + ENTRY_OVERHEAD_OCTETS + value_octets(&old);
            self.cached_octets -= cached_octets(&old);
        }
    }

    /// Lets go of the bodies it keeps; they are in the log.
    pub(super) fn drop_bodies(&mut self) {
        if self.cached_octets > 0 {
            let rows = self.slots.values_mut().filter_map(|slot| slot.row.as_mut());
            rows.for_each(|row| row.cached = None);
            self.cached_octets = 0;
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Key, &Slot)> {
        self.slots.iter()
    }

    pub(super) fn range<'a>(
        &'a self,
        from: Bound<&'a [u8]>,
        to: Bound<&'a [u8]>,
    ) -> impl Iterator<Item = (&'a Key, &'a Slot)> {
        let empty = matches!((from, to), (Bound::Included(a), Bound::Excluded(b)) | (Bound::Excluded(a), Bound::Excluded(b)) if a >= b);
        (!empty).then(|| self.slots.range::<[u8], _>((from, to))).into_iter().flatten()
    }
}

fn value_octets(slot: &Slot) -> usize {
    slot.row.as_ref().map_or(0, |row| row.value.len())
}

fn cached_octets(slot: &Slot) -> usize {
    slot.row.as_ref().and_then(|row| row.cached.as_ref()).map_or(0, bytes::Bytes::len)
}

/// The newest rows as readers and the writer see them: the active table over the frozen one.
#[derive(Debug, Default)]
pub(super) struct View {
    pub(super) active: Memtable,
    /// On its way into the index.
    pub(super) frozen: Option<Arc<Memtable>>,
    /// The last group whose rows are in here.
    pub(super) seq: u64,
}

/// What the memtables know of a key.
pub(super) enum Known {
    /// This, and whether an older row may lie below the active table.
    Here(Option<Row>, bool),
    /// Nothing: ask the index.
    No,
}

impl View {
    pub(super) fn look_up(&self, key: &[u8]) -> Known {
        if let Some(slot) = self.active.get(key) {
            return Known::Here(slot.row.clone(), slot.below);
        }
        match self.frozen.as_ref().and_then(|frozen| frozen.get(key)) {
            Some(slot) => Known::Here(slot.row.clone(), true),
            None => Known::No,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn row(value: &'static str, body: Option<&'static str>) -> Row {
        let cached = body.map(|body| Bytes::from_static(body.as_bytes()));
        Row { home: 1, blob: None, value: Bytes::from_static(value.as_bytes()), cached }
    }

    #[test]
    fn a_message_that_came_and_went_leaves_nothing() {
        let mut table = Memtable::default();
        table.set(b"m1"[..].into(), Slot { row: Some(row("envelope", Some("body"))), below: false });
        assert!(table.octets() > 0 && table.cached_octets() == 4);
        table.set(b"m1"[..].into(), Slot { row: None, below: false });
        assert_eq!((table.octets(), table.cached_octets(), table.iter().count()), (0, 0, 0));
    }

    #[test]
    fn a_delete_above_an_indexed_row_stays_as_a_tombstone() {
        let mut table = Memtable::default();
        table.set(b"m1"[..].into(), Slot { row: None, below: true });
        assert!(table.get(b"m1").is_some_and(|slot| slot.row.is_none()));
    }

    #[test]
    fn the_active_table_hides_the_frozen_one() {
        let mut frozen = Memtable::default();
        frozen.set(b"a"[..].into(), Slot { row: Some(row("old", None)), below: false });
        let mut view = View { frozen: Some(Arc::new(frozen)), ..View::default() };
        assert!(matches!(view.look_up(b"a"), Known::Here(Some(_), true)));
        view.active.set(b"a"[..].into(), Slot { row: None, below: true });
        assert!(matches!(view.look_up(b"a"), Known::Here(None, true)));
        assert!(matches!(view.look_up(b"b"), Known::No));
    }

    #[test]
    fn an_empty_range_is_empty_and_no_panic() {
        let table = Memtable::default();
        assert_eq!(table.range(Bound::Included(b"b"), Bound::Excluded(b"a")).count(), 0);
    }
}
