//! A batch: the row changes of one decision, durable together or not at all.

use bytes::Bytes;

use super::alarm::Curfew;
use super::row::Key;
use crate::clock::Timestamp;

/// How soon the writer must sync a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Haste {
    /// Somebody waits for the answer: with the next sync.
    Now,
    /// Nobody waits: it may stay in memory for a moment, for company.
    Soon,
}

/// A body that comes with a new row.
#[derive(Clone, Debug)]
pub enum NewBody {
    /// Small enough for the log.
    Octets(Bytes),
    /// Already written and synced as a file named after the row's key (see [`super::BodyFile`]).
    File {
        /// Octets.
        len: u64,
        /// CRC-32C of them.
        crc: u32,
    },
}

/// One change. The writer turns each into plain puts and deletes before it logs them, so that replay
/// gives the same rows however often it runs.
#[derive(Clone, Debug)]
pub enum Op {
    /// A row under a key that was never used before. The promise saves looking it up.
    Insert {
        /// The new key.
        key: Key,
        /// Its value.
        value: Bytes,
        /// Its body.
        body: Option<NewBody>,
    },
    /// A row under a new or used key; a body it already owns stays.
    Put {
        /// The key.
        key: Key,
        /// Its value.
        value: Bytes,
    },
    /// Removes a row and the body it owns; nothing where there is no such row.
    Delete {
        /// The key.
        key: Key,
    },
    /// Adds to a counter row (u64, little-endian); the row goes away at zero, with any body it owns.
    Add {
        /// The counter's key.
        key: Key,
        /// How much, down or up.
        delta: i64,
    },
    /// Lets the alarm `name` ring at `at`, or earlier where it is set earlier; where it was set under a
    /// curfew that is in force, not before that ends.
    AlarmBy {
        /// Whose alarm.
        name: Bytes,
        /// The latest time at which it rings.
        at: Timestamp,
        /// Whether somebody is waiting: told to who hears alarms, and forgotten.
        is_urgent: bool,
    },
    /// Sets the alarm `name` to `to` (or off), unless it was touched after the group `seen`: whoever
    /// moves an alarm must have seen everything that was asked of it.
    AlarmMove {
        /// Whose alarm.
        name: Bytes,
        /// The number of the last group that the mover has seen.
        seen: u64,
        /// When it rings now; off where there is none.
        to: Option<Timestamp>,
        /// The curfew that it is set under. Nothing that the mover has not seen may ring before that
        /// ends, so it may move the alarm all the same. Void where the curfew's row does not exist.
        under: Option<Curfew>,
    },
    /// Lets the alarm `name` ring at `at` or earlier, if it was set under `curfew`.
    AlarmLift {
        /// Whose alarm.
        name: Bytes,
        /// The name of the curfew.
        curfew: Bytes,
        /// The latest time at which it rings.
        at: Timestamp,
    },
    /// Writes a living row again at the log's head, so that its old segment can be freed.
    Rehome {
        /// The row.
        key: Key,
        /// The segment it has to leave.
        from: u32,
        /// Its body's octets and their old checksum, where the body lives in that segment: damaged
        /// octets must stay known as damaged.
        body: Option<(Bytes, u32)>,
    },
}

/// Row changes that stand or fall together.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    pub(super) ops: Vec<Op>,
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a change.
    pub fn push(&mut self, op: Op) -> &mut Self {
        self.ops.push(op);
        self
    }

    /// Adds a row under a key that was never used before.
    pub fn insert(
        &mut self,
        key: impl Into<Key>,
        value: impl Into<Bytes>,
        body: Option<NewBody>,
    ) -> &mut Self {
        self.push(Op::Insert { key: key.into(), value: value.into(), body })
    }

    /// Adds or replaces a row.
    pub fn put(&mut self, key: impl Into<Key>, value: impl Into<Bytes>) -> &mut Self {
        self.push(Op::Put { key: key.into(), value: value.into() })
    }

    /// Removes a row.
    pub fn delete(&mut self, key: impl Into<Key>) -> &mut Self {
        self.push(Op::Delete { key: key.into() })
    }

    /// Adds to a counter.
    pub fn add(&mut self, key: impl Into<Key>, delta: i64) -> &mut Self {
        self.push(Op::Add { key: key.into(), delta })
    }

    /// Lets an alarm ring at `at` or earlier.
    pub fn alarm_by(&mut self, name: impl Into<Bytes>, at: Timestamp) -> &mut Self {
        self.push(Op::AlarmBy { name: name.into(), at, is_urgent: false })
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// Joins another batch to this one: both stand or fall together.
    pub fn append(&mut self, mut other: Batch) {
        self.ops.append(&mut other.ops);
    }

    /// About how many octets it will take in the log.
    pub fn weight_octets(&self) -> usize {
        self.ops.iter().map(Op::weight_octets).sum()
    }
}

impl Op {
    fn weight_octets(&self) -> usize {
        const HEAD: usize = 32;
        let body = |body: &Option<NewBody>| match body {
            Some(NewBody::Octets(octets)) => octets.len(),
            _ => 0,
        };
        HEAD + match self {
            Op::Insert { key, value, body: with } => key.len() + value.len() + body(with),
            Op::Put { key, value } => key.len() + value.len(),
            Op::Delete { key } | Op::Add { key, .. } => key.len(),
            Op::AlarmBy { name, .. } => 2 * name.len(),
            Op::AlarmMove { name, under, .. } => {
                2 * name.len() + under.as_ref().map_or(0, |curfew| name.len() + 2 * curfew.name.len())
            }
            Op::AlarmLift { name, curfew, .. } => 2 * name.len() + curfew.len(),
            Op::Rehome { key, body, .. } => key.len() + body.as_ref().map_or(0, |(octets, _)| octets.len()),
        }
    }
}
