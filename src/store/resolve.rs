//! From changes to rows: what a group of batches leaves under each key.
//!
//! A pure step of the writer: it reads the rows that are there and works out the rows that will be,
//! so that the log and its replay know only puts and deletes.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::alarm::Rung;
use super::batch::{Batch, NewBody, Op};
use super::error::StoreError;
use super::index::Index;
use super::memtable::{Known, View};
use super::row::{Blob, Key, Row};

/// What one group will leave under one key.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) row: Option<PendingRow>,
    /// Whether the frozen table or the index may hold an older row.
    pub(super) below: bool,
    /// The durable row before this group.
    pub(super) old: Option<Row>,
    /// Whether the group changes anything here.
    pub(super) dirty: bool,
}

#[derive(Clone, Debug)]
pub(super) struct PendingRow {
    pub(super) value: Bytes,
    pub(super) body: Body,
}

#[derive(Clone, Debug)]
pub(super) enum Body {
    None,
    /// Where it is already, and perhaps in memory.
    Old(Blob, Option<Bytes>),
    /// To be written with the group.
    New(Bytes),
    /// To be written again with the group, with the checksum it had.
    Moved(Bytes, u32),
}

/// Works out one group.
pub(super) struct Resolver<'a> {
    view: &'a View,
    index: &'a dyn Index,
    /// The number that the group will have.
    pub(super) seq: u64,
    pub(super) rows: BTreeMap<Key, Pending>,
    /// Alarms that were set or touched.
    pub(super) alarms: Vec<Rung>,
    /// Whether a body file came in, so that its directory must be synced.
    pub(super) has_new_file: bool,
}

impl<'a> Resolver<'a> {
    pub(super) fn new(view: &'a View, index: &'a dyn Index, seq: u64) -> Self {
        Resolver { view, index, seq, rows: BTreeMap::new(), alarms: Vec::new(), has_new_file: false }
    }

    pub(super) fn add(&mut self, batch: &Batch) -> Result<(), StoreError> {
        batch.ops.iter().try_for_each(|op| self.apply(op))
    }

    fn apply(&mut self, op: &Op) -> Result<(), StoreError> {
        match op {
            Op::Insert { key, value, body } => self.insert(key, value, body.as_ref()),
            Op::Put { key, value } => self.put(key, value.clone())?,
            Op::Delete { key } => self.delete(key)?,
            Op::Add { key, delta } => self.count(key, *delta)?,
            Op::AlarmBy { name, at, is_urgent } => self.alarm_by(name, *at, *is_urgent)?,
            Op::AlarmMove { name, seen, to, under } => self.alarm_move(name, *seen, *to, under.as_ref())?,
            Op::AlarmLift { name, curfew, at } => self.alarm_lift(name, curfew, *at)?,
            Op::Rehome { key, from, body } => self.rehome(key, *from, body.as_ref())?,
        }
        Ok(())
    }

    fn current(&mut self, key: &[u8]) -> Result<&mut Pending, StoreError> {
        if !self.rows.contains_key(key) {
            let (old, below) = match self.view.look_up(key) {
                Known::Here(row, below) => (row, below),
                Known::No => {
                    let row = self.index.get(key)?;
                    let below = row.is_some();
                    (row, below)
                }
            };
            let row = old.as_ref().map(|row| PendingRow {
                value: row.value.clone(),
                body: row.blob.map_or(Body::None, |blob| Body::Old(blob, row.cached.clone())),
            });
            self.rows.insert(key.into(), Pending { row, below, old, dirty: false });
        }
        self.rows.get_mut(key).ok_or(StoreError::Closed)
    }

    fn insert(&mut self, key: &Key, value: &Bytes, body: Option<&NewBody>) {
        let body = match body {
            None => Body::None,
            Some(NewBody::Octets(octets)) => Body::New(octets.clone()),
            Some(NewBody::File { len, crc }) => {
                self.has_new_file = true;
                Body::Old(Blob::File { len: *len, crc: *crc }, None)
            }
        };
        let row = Some(PendingRow { value: value.clone(), body });
        match self.rows.get_mut(key) {
            // the key was used in this very group after all: what lies below stays known
            Some(pending) => (pending.row, pending.dirty) = (row, true),
            None => {
                self.rows.insert(key.clone(), Pending { row, below: false, old: None, dirty: true });
            }
        }
    }

    pub(super) fn put(&mut self, key: &[u8], value: Bytes) -> Result<(), StoreError> {
        let pending = self.current(key)?;
        let body = pending.row.take().map_or(Body::None, |row| row.body);
        pending.row = Some(PendingRow { value, body });
        pending.dirty = true;
        Ok(())
    }

    pub(super) fn delete(&mut self, key: &[u8]) -> Result<(), StoreError> {
        let pending = self.current(key)?;
        pending.dirty |= pending.row.is_some();
        pending.row = None;
        Ok(())
    }

    fn count(&mut self, key: &[u8], delta: i64) -> Result<(), StoreError> {
        let pending = self.current(key)?;
        let before = pending.row.as_ref().map_or(0, |row| number(&row.value));
        let after = before.saturating_add_signed(delta);
        pending.dirty = true;
        if after == 0 {
            pending.row = None;
        } else {
            let body = pending.row.take().map_or(Body::None, |row| row.body);
            pending.row = Some(PendingRow { value: Bytes::copy_from_slice(&after.to_le_bytes()), body });
        }
        Ok(())
    }

    /// The value under a key, as this group leaves it.
    pub(super) fn value(&mut self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Ok(self.current(key)?.row.as_ref().map(|row| row.value.clone()))
    }

    fn rehome(&mut self, key: &[u8], from: u32, body: Option<&(Bytes, u32)>) -> Result<(), StoreError> {
        let pending = self.current(key)?;
        let Some(row) = &mut pending.row else { return Ok(()) };
        let home_there = pending.old.as_ref().is_some_and(|old| old.home == from);
        let body_there = matches!(&row.body, Body::Old(Blob::Log { at, .. }, _) if at.segment == from);
        if body_there {
            let Some((octets, crc)) = body else { return Ok(()) };
            row.body = Body::Moved(octets.clone(), *crc);
        }
        pending.dirty |= home_there || body_there;
        Ok(())
    }
}

/// A counter row's number.
pub(super) fn number(value: &[u8]) -> u64 {
    value.try_into().map_or(0, u64::from_le_bytes)
}
