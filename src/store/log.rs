//! The log as a trait: append a record group and answer when it is safe; read from a position; free
//! from the old end.
//!
//! Nothing above knows whether the log is a directory of segments ([`super::SegmentLog`]), memory
//! ([`super::MemoryLog`]) or, one day, three machines.

use std::sync::Arc;

use bytes::Bytes;

use super::error::StoreError;
use super::row::Position;

/// A group that is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The group's number; numbers rise by one.
    pub seq: u64,
    /// Where its first octet stands.
    pub start: Position,
    /// Behind its last octet; a replay may go on from here.
    pub end: Position,
}

/// A group read back.
#[derive(Clone, Copy, Debug)]
pub struct LoggedGroup<'a> {
    /// Its number and place.
    pub place: Appended,
    /// Its octets.
    pub octets: &'a [u8],
}

/// How a replay went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replayed {
    /// Groups read.
    pub groups: u64,
    /// Octets of a last group that was never acknowledged, dropped whole.
    pub torn_octets: u64,
    /// What was damaged before the last synced group, each told in a sentence.
    pub damage: Vec<String>,
}

/// One segment, the unit in which the log is freed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentSize {
    /// Its number.
    pub number: u32,
    /// What it takes on the disk.
    pub octets: u64,
}

/// Gets each group of a replay in order; an error ends the replay.
pub type Visit<'a> = &'a mut dyn FnMut(LoggedGroup<'_>) -> Result<(), StoreError>;

/// A log of record groups. One writer; readers through [`Log::reader`].
pub trait Log: Send {
    /// The number that the next group will have.
    fn next_seq(&self) -> u64;
    /// Appends one group; returns when it is durable. After an error the group is not part of the log,
    /// now or after a restart, once a later append has succeeded.
    ///
    /// `from_reserve` lets it use the room kept back for finishing work on a full disk.
    fn append(&mut self, octets: &[u8], from_reserve: bool) -> Result<Appended, StoreError>;
    /// Gives up room that is kept back, for the index; false where none is left.
    fn give_way(&mut self) -> Result<bool, StoreError>;
    /// Visits every group after the one numbered `after`, looking from `from` on. Called once, before
    /// the first append.
    fn replay(&mut self, after: u64, from: Position, visit: Visit<'_>) -> Result<Replayed, StoreError>;
    /// Its segments, oldest first. The last is the one being written.
    fn segments(&self) -> Vec<SegmentSize>;
    /// Frees the oldest segment for good; never the one being written.
    fn free_oldest(&mut self) -> Result<(), StoreError>;
    /// Reads beside the writer.
    fn reader(&self) -> Arc<dyn LogReader>;
}

/// Reads what is durable, from any thread.
pub trait LogReader: Send + Sync {
    /// The octets at a place.
    fn read(&self, at: Position, len: u32) -> Result<Bytes, StoreError>;
    /// Visits every group of one whole segment that is no longer written.
    fn read_segment(&self, number: u32, visit: Visit<'_>) -> Result<(), StoreError>;
}
