//! From changes to rows: what a group of batches leaves under each key.
//!
//! A pure step of the writer: it reads the rows that are there and works out the rows that will be,
//! so that the log and its replay know only puts and deletes.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::batch::{Batch, NewBody, Op};
use super::error::StoreError;
use super::index::Index;
use super::memtable::{Known, View};
use super::row::{Blob, Key, Row};
use crate::clock::Timestamp;

/// Prefix of the row that says when an alarm rings and when it was last touched.
pub(super) const ALARM_PREFIX: u8 = b'a';
/// Prefix of the row that stands in the order of ringing.
pub(super) const WAKE_PREFIX: u8 = b'w';

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
    seq: u64,
    pub(super) rows: BTreeMap<Key, Pending>,
    /// Alarms that were set or touched.
    pub(super) alarms: Vec<(Bytes, Timestamp)>,
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
            Op::AlarmBy { name, at } => self.alarm_by(name, *at)?,
            Op::AlarmMove { name, seen, to } => self.alarm_move(name, *seen, *to)?,
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

    fn put(&mut self, key: &[u8], value: Bytes) -> Result<(), StoreError> {
        let pending = self.current(key)?;
        let body = pending.row.take().map_or(Body::None, |row| row.body);
        pending.row = Some(PendingRow { value, body });
        pending.dirty = true;
        Ok(())
    }

    fn delete(&mut self, key: &[u8]) -> Result<(), StoreError> {
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

    fn alarm_by(&mut self, name: &Bytes, at: Timestamp) -> Result<(), StoreError> {
        let set = self.alarm(name)?;
        let at_or_before = set.map_or(at, |(set, _)| set.min(at));
        self.write_alarm(name, set.map(|(set, _)| set), Some(at_or_before))?;
        self.alarms.push((name.clone(), at));
        Ok(())
    }

    fn alarm_move(&mut self, name: &Bytes, seen: u64, to: Option<Timestamp>) -> Result<(), StoreError> {
        let set = self.alarm(name)?;
        if set.is_some_and(|(_, touched)| touched > seen) {
            return Ok(());
        }
        self.write_alarm(name, set.map(|(set, _)| set), to)
    }

    /// When an alarm rings, and the group that touched it last.
    fn alarm(&mut self, name: &[u8]) -> Result<Option<(Timestamp, u64)>, StoreError> {
        let pending = self.current(&alarm_key(name))?;
        Ok(pending.row.as_ref().map(|row| decode_alarm(&row.value)))
    }

    fn write_alarm(
        &mut self,
        name: &[u8],
        old: Option<Timestamp>,
        new: Option<Timestamp>,
    ) -> Result<(), StoreError> {
        if old != new {
            if let Some(old) = old {
                self.delete(&wake_key(old, name))?;
            }
            if let Some(new) = new {
                self.put(&wake_key(new, name), Bytes::new())?;
            }
        }
        match new {
            Some(new) => {
                let mut value = Vec::with_capacity(16);
                value.extend_from_slice(&new.as_millis().to_le_bytes());
                value.extend_from_slice(&self.seq.to_le_bytes());
                self.put(&alarm_key(name), value.into())
            }
            None => self.delete(&alarm_key(name)),
        }
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

pub(super) fn alarm_key(name: &[u8]) -> Vec<u8> {
    [&[ALARM_PREFIX], name].concat()
}

pub(super) fn wake_key(at: Timestamp, name: &[u8]) -> Vec<u8> {
    [&[WAKE_PREFIX], at.as_millis().to_be_bytes().as_slice(), name].concat()
}

/// The time and the name in a [`wake_key`].
pub(super) fn split_wake_key(key: &[u8]) -> Option<(Timestamp, &[u8])> {
    let (at, name) = key.strip_prefix(&[WAKE_PREFIX])?.split_at_checked(8)?;
    Some((Timestamp::from_millis(u64::from_be_bytes(at.try_into().ok()?)), name))
}

pub(super) fn decode_alarm(value: &[u8]) -> (Timestamp, u64) {
    let half = |range| value.get(range).map_or(0, number);
    (Timestamp::from_millis(half(0..8)), half(8..16))
}
