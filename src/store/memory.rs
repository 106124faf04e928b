//! The log in memory, for the simulator and for tests above the store: fast, and as durable as its
//! test wants it to be.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use super::error::StoreError;
use super::log::{Appended, Log, LogReader, LoggedGroup, Replayed, SegmentSize, Visit};
use super::row::Position;

/// Groups in one "segment".
const SEGMENT_GROUPS: usize = 64;

/// The log. Clones share it: keep one, and open the store with another again after a "crash".
#[derive(Clone, Default)]
pub struct MemoryLog(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    groups: Vec<Option<(Appended, Bytes)>>,
    first_segment: usize,
    next_seq: u64,
    /// Syncs that lie: this many of the newest groups are lost in a crash.
    unsynced: usize,
    lies_about_sync: bool,
    fail_next: bool,
}

impl MemoryLog {
    /// An empty log.
    pub fn new() -> Self {
        Self::default()
    }

    /// From now on nothing is really synced: the defect that durability tests must notice.
    pub fn lie_about_sync(&self) {
        self.state().lies_about_sync = true;
    }

    /// The next append fails.
    pub fn fail_next(&self) {
        self.state().fail_next = true;
    }

    /// Loses what was not synced.
    pub fn crash(&self) {
        let mut state = self.state();
        let kept = state.groups.len() - state.unsynced;
        state.groups.truncate(kept);
        state.unsynced = 0;
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Each group has a "segment offset" of its own: its index times this.
const GROUP_SPAN: usize = 48 << 20;

fn segment_of(index: usize) -> u32 {
    (index / SEGMENT_GROUPS + 1) as u32
}

impl Log for MemoryLog {
    fn next_seq(&self) -> u64 {
        self.state().next_seq.max(1)
    }

    fn append(&mut self, octets: &[u8], _from_reserve: bool) -> Result<Appended, StoreError> {
        let mut state = self.state();
        if std::mem::take(&mut state.fail_next) {
            return Err(StoreError::io("writing the log")(std::io::Error::other("as planned")));
        }
        let index = state.groups.len();
        let offset = (index % SEGMENT_GROUPS * GROUP_SPAN) as u32;
        let start = Position { segment: segment_of(index), offset };
        let seq = state.next_seq.max(1);
        state.next_seq = seq + 1;
        let end = Position { offset: offset + octets.len() as u32, ..start };
        let place = Appended { seq, start, end };
        state.groups.push(Some((place, Bytes::copy_from_slice(octets))));
        if state.lies_about_sync {
            state.unsynced += 1;
        }
        Ok(place)
    }

    fn give_way(&mut self) -> Result<bool, StoreError> {
        Ok(false)
    }

    fn replay(&mut self, after: u64, _from: Position, visit: Visit<'_>) -> Result<Replayed, StoreError> {
        let groups: Vec<_> = self.state().groups.iter().flatten().cloned().collect();
        let mut report = Replayed::default();
        for (place, octets) in groups.iter().filter(|(place, _)| place.seq > after) {
            visit(LoggedGroup { place: *place, octets })?;
            report.groups += 1;
        }
        let last = groups.last().map_or(after, |(place, _)| place.seq.max(after));
        self.state().next_seq = last + 1;
        Ok(report)
    }

    fn segments(&self) -> Vec<SegmentSize> {
        let state = self.state();
        let segments = state.groups.len().div_ceil(SEGMENT_GROUPS);
        let size = |number: usize| {
            let groups = state.groups.iter().skip(number * SEGMENT_GROUPS).take(SEGMENT_GROUPS);
            groups.flatten().map(|(_, octets)| octets.len() as u64).sum()
        };
        let live = state.first_segment..segments;
        live.map(|number| SegmentSize { number: number as u32 + 1, octets: size(number) }).collect()
    }

    fn free_oldest(&mut self) -> Result<(), StoreError> {
        let mut state = self.state();
        let from = state.first_segment * SEGMENT_GROUPS;
        let to = from + SEGMENT_GROUPS;
        if to < state.groups.len() {
            state.groups[from..to].fill(None);
            state.first_segment += 1;
        }
        Ok(())
    }

    fn reader(&self) -> Arc<dyn LogReader> {
        Arc::new(self.clone())
    }
}

impl LogReader for MemoryLog {
    fn read(&self, at: Position, len: u32) -> Result<Bytes, StoreError> {
        // nothing weighs nothing: it keeps no segment alive
        if len == 0 {
            return Ok(Bytes::new());
        }
        let index =
            (at.segment as usize).saturating_sub(1) * SEGMENT_GROUPS + at.offset as usize / GROUP_SPAN;
        let state = self.state();
        let group = state.groups.get(index).and_then(Option::as_ref);
        let (_, octets) = group.ok_or_else(|| StoreError::damaged("a freed segment was read"))?;
        let start = at.offset as usize % GROUP_SPAN;
        let end = start + len as usize;
        if end > octets.len() {
            return Err(StoreError::damaged("a body ends behind its group"));
        }
        Ok(octets.slice(start..end))
    }

    fn read_segment(&self, number: u32, visit: Visit<'_>) -> Result<(), StoreError> {
        let groups: Vec<_> = {
            let state = self.state();
            let from = (number as usize).saturating_sub(1) * SEGMENT_GROUPS;
            state.groups.iter().skip(from).take(SEGMENT_GROUPS).flatten().cloned().collect()
        };
        groups.iter().try_for_each(|(place, octets)| visit(LoggedGroup { place: *place, octets }))
    }
}
