//! The writer: the one place where rows change.
//!
//! Takes groups of batches, resolves them to rows, has the log make them durable, then publishes them
//! to readers; hands grown tables to the index; frees the log's old end. Single-threaded and without
//! a clock, so that a test drives it step by step; `threads` gives it threads.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;

use super::alarm::Rung;
use super::batch::Batch;
use super::body;
use super::disk::Disk;
use super::error::StoreError;
use super::group::{Entries, GroupBuilder};
use super::index::{Index, Marker, MemtableRef};
use super::log::{Log, LoggedGroup, Replayed, SegmentSize};
use super::memtable::{Known, Memtable, Slot, View};
use super::resolve::{Body, Pending, Resolver};
use super::row::{Blob, Key, Position, Row};

/// A batch may take this much in the log; far below what one group may.
pub(super) const BATCH_MAX_OCTETS: usize = 16 << 20;
/// Batches are gathered into one group up to about this size.
pub(super) const GROUP_GOAL_OCTETS: usize = 2 << 20;
/// Settlements may fill the active table this many times over, while the index is not ready.
const BRIM: usize = 8;
/// A group's buffer is given back above this.
const GROUP_KEEP_OCTETS: usize = 1 << 20;

/// The sizes at which the writer acts.
#[derive(Clone, Copy, Debug)]
pub struct WriterSettings {
    /// A table of this size is frozen and handed to the index.
    pub memtable_octets: usize,
    /// A table is frozen after this much log, so that a restart has little to replay.
    pub replay_octets: u64,
    /// Bodies kept in memory for the attempt that follows at once.
    pub body_cache_octets: usize,
    /// The log may be this much larger than twice what lives in it.
    pub log_slack_octets: u64,
}

impl Default for WriterSettings {
    fn default() -> Self {
        WriterSettings {
            memtable_octets: 512 << 10,
            replay_octets: 128 << 20,
            body_cache_octets: 8 << 20,
            log_slack_octets: 1 << 30,
        }
    }
}

/// A group that is durable and visible.
#[derive(Debug)]
pub(super) struct Committed {
    pub(super) seq: u64,
    /// Alarms that were set or touched.
    pub(super) alarms: Vec<Rung>,
    /// What it took in the log.
    pub(super) octets: u64,
}

/// A frozen table on its way into the index.
#[derive(Clone, Debug)]
pub(super) struct FlushJob {
    table: Arc<Memtable>,
    marker: Marker,
    /// What the index must have before.
    after: u64,
}

impl FlushJob {
    pub(super) fn run(&self, index: &dyn Index) -> Result<(), StoreError> {
        index.take_in(&MemtableRef(&self.table), &self.marker)
    }

    /// Whether the index still has everything from before this table, and perhaps the table too.
    pub(super) fn fits(&self, index: &dyn Index) -> Result<bool, StoreError> {
        let seq = index.marker()?.unwrap_or_default().seq;
        Ok(seq == self.after || seq == self.marker.seq)
    }
}

pub(super) struct Writer {
    log: Box<dyn Log>,
    disk: Arc<dyn Disk>,
    index: Arc<dyn Index>,
    view: Arc<RwLock<View>>,
    settings: WriterSettings,
    group: GroupBuilder,
    /// Living octets by segment.
    live: BTreeMap<u32, u64>,
    /// Where a replay would go on: behind the last group.
    end: Position,
    octets_since_freeze: u64,
    /// Body files of rows that were refused.
    refused_files: Vec<Key>,
    /// What the index has, and what it has for sure.
    applied: Marker,
    durable: Marker,
}

impl Writer {
    /// Opens the store: replays what the index does not have yet.
    pub(super) fn open(
        mut log: Box<dyn Log>,
        disk: Arc<dyn Disk>,
        index: Arc<dyn Index>,
        settings: WriterSettings,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(Self, Replayed), StoreError> {
        let applied = index.marker()?.unwrap_or_default();
        let mut replay = Replay {
            index: &*index,
            view: View { seq: applied.seq, ..View::default() },
            live: applied.live.clone(),
            end: applied.at,
            applied: applied.clone(),
            memtable_octets: settings.memtable_octets,
        };
        let mut done_octets = 0;
        let report = log.replay(applied.seq, applied.at, &mut |group| {
            done_octets += group.octets.len() as u64;
            progress(done_octets);
            replay.take(group)
        })?;
        let Replay { view, live, end, applied, .. } = replay;
        let durable = Marker::default();
        let view = Arc::new(RwLock::new(view));
        let group = GroupBuilder::default();
        let writer = Writer {
            log,
            disk,
            index,
            view,
            settings,
            group,
            live,
            end,
            octets_since_freeze: 0,
            refused_files: Vec::new(),
            applied,
            durable,
        };
        // where rows were damaged, a file without a row may be all that is left of a message
        if report.damage.is_empty() {
            body::remove_orphans(&*writer.disk, &|key| writer.exists(key))?;
        }
        Ok((writer, report))
    }

    pub(super) fn view(&self) -> Arc<RwLock<View>> {
        self.view.clone()
    }

    pub(super) fn log(&self) -> &dyn Log {
        &*self.log
    }

    /// Gives up room on the disk that is kept back, for the index; false where none is left.
    pub(super) fn give_way(&mut self) -> Result<bool, StoreError> {
        self.log.give_way()
    }

    fn exists(&self, key: &[u8]) -> Result<bool, StoreError> {
        let view = self.view.read().unwrap_or_else(PoisonError::into_inner);
        match view.look_up(key) {
            Known::Here(row, _) => Ok(row.is_some()),
            Known::No => Ok(self.index.get(key)?.is_some()),
        }
    }

    /// Makes a group of batches durable, then visible. On error none of it happened.
    pub(super) fn commit(&mut self, batches: &[&Batch], from_reserve: bool) -> Result<Committed, StoreError> {
        let view = self.view.read().unwrap_or_else(PoisonError::into_inner);
        let mut resolver = Resolver::new(&view, &*self.index, self.log.next_seq());
        for batch in batches {
            if batch.weight_octets() > BATCH_MAX_OCTETS {
                return Err(StoreError::TooLarge { limit_octets: BATCH_MAX_OCTETS });
            }
            resolver.add(batch)?;
        }
        let Resolver { rows, alarms, has_new_file, .. } = resolver;
        drop(view);
        if has_new_file {
            self.disk.sync_dir("bodies").map_err(StoreError::io("syncing the bodies' directory"))?;
        }
        let places = encode(&mut self.group, &rows);
        let appended = self.log.append(self.group.octets(), from_reserve);
        let octets = self.group.octets().len() as u64;
        self.group.clear();
        self.group.shrink_to(GROUP_KEEP_OCTETS);
        if appended.is_err() {
            // not yet: until the next group is safe, this one might still be found after a crash
            self.refused_files.extend(new_files(&rows));
        }
        let place = appended?;
        self.end = place.end;
        self.octets_since_freeze += octets;
        let mut files = self.publish(rows, &places, place.start, place.seq);
        files.append(&mut self.refused_files);
        for key in files {
            body::remove(&*self.disk, &key);
        }
        Ok(Committed { seq: place.seq, alarms, octets })
    }

    /// Lets readers see the rows of a durable group; gives the keys whose body files have to go.
    fn publish(
        &mut self,
        rows: BTreeMap<Key, Pending>,
        places: &BTreeMap<Key, (usize, u32)>,
        start: Position,
        seq: u64,
    ) -> Vec<Key> {
        let mut orphans = Vec::new();
        let mut view = self.view.write().unwrap_or_else(PoisonError::into_inner);
        view.seq = seq;
        for (key, pending) in rows {
            if !pending.dirty {
                continue;
            }
            if let Some(old) = &pending.old {
                lighten(&mut self.live, &key, old);
                if matches!(old.blob, Some(Blob::File { .. })) && pending.row.is_none() {
                    orphans.push(key.clone());
                }
            }
            let row = pending.row.map(|row| {
                let (blob, cached) = match row.body {
                    Body::None => (None, None),
                    Body::Old(blob, cached) => (Some(blob), cached),
                    Body::New(octets) | Body::Moved(octets, _) => {
                        let (offset, crc) = places.get(&key).copied().unwrap_or_default();
                        let at = Position { offset: start.offset + offset as u32, ..start };
                        let room =
                            view.active.cached_octets() + octets.len() <= self.settings.body_cache_octets;
                        (Some(Blob::Log { at, len: octets.len() as u32, crc }), room.then_some(octets))
                    }
                };
                Row { home: start.segment, blob, value: row.value, cached }
            });
            if let Some(row) = &row {
                burden(&mut self.live, &key, row);
            }
            view.active.set(key, Slot { row, below: pending.below });
        }
        orphans
    }

    /// Freezes the active table where it has grown, or where `now` asks for it; the caller runs the
    /// job and reports back with [`Writer::flushed`].
    pub(super) fn freeze(&mut self, now: bool) -> Option<FlushJob> {
        let mut view = self.view.write().unwrap_or_else(PoisonError::into_inner);
        let grown = view.active.octets() >= self.settings.memtable_octets
            || self.octets_since_freeze >= self.settings.replay_octets;
        if view.frozen.is_some() || view.seq == self.applied.seq || !(grown || now) {
            return None;
        }
        let mut table = std::mem::take(&mut view.active);
        table.drop_bodies();
        let table = Arc::new(table);
        view.frozen = Some(table.clone());
        self.octets_since_freeze = 0;
        let marker = Marker { seq: view.seq, at: self.end, live: self.live.clone() };
        Some(FlushJob { table, marker, after: self.applied.seq })
    }

    /// The index has taken a frozen table in.
    pub(super) fn flushed(&mut self, job: FlushJob) {
        self.applied = job.marker;
        self.view.write().unwrap_or_else(PoisonError::into_inner).frozen = None;
    }

    /// Whether the active table holds more than it should and the index is not ready for it.
    pub(super) fn is_overfull(&self) -> bool {
        self.holds(self.settings.memtable_octets)
    }

    /// Whether not even what already happened may come in any more.
    pub(super) fn is_brimful(&self) -> bool {
        self.holds(BRIM * self.settings.memtable_octets)
    }

    fn holds(&self, octets: usize) -> bool {
        let view = self.view.read().unwrap_or_else(PoisonError::into_inner);
        view.frozen.is_some() && view.active.octets() >= octets
    }

    /// Whether anything lives in a segment.
    pub(super) fn lives(&self, segment: u32) -> bool {
        self.live.contains_key(&segment)
    }

    /// What the index must have for sure before more of the log can go; `None` where nothing can.
    pub(super) fn wants_checkpoint(&self) -> Option<Marker> {
        let oldest = self.log.segments().first()?.number;
        let dead = !self.live.contains_key(&oldest) && oldest < self.applied.at.segment;
        (dead && self.durable.at.segment <= oldest).then(|| self.applied.clone())
    }

    /// The index has `marker` on the disk: frees what only a replay from before it would need.
    pub(super) fn checkpointed(&mut self, marker: Marker) -> Result<(), StoreError> {
        self.durable = marker;
        self.free_dead()
    }

    /// Frees the log's oldest segments as far as nothing lives in them and the index has them for sure.
    pub(super) fn free_dead(&mut self) -> Result<(), StoreError> {
        while let Some(oldest) = self.log.segments().first() {
            if self.live.contains_key(&oldest.number) || oldest.number >= self.durable.at.segment {
                break;
            }
            self.log.free_oldest()?;
        }
        Ok(())
    }

    /// The segment to be emptied next, where the log is larger than what lives in it justifies.
    pub(super) fn wants_compaction(&self) -> Option<u32> {
        let segments = self.log.segments();
        let total: u64 = segments.iter().map(|segment| segment.octets).sum();
        let live: u64 = self.live.values().sum();
        let oldest = segments.first()?.number;
        let worth = total > 2 * live + self.settings.log_slack_octets;
        (worth && oldest < self.applied.at.segment && self.live.contains_key(&oldest)).then_some(oldest)
    }

    /// Hands everything to the index and puts that on the disk; first of all a table that it refused.
    pub(super) fn close(mut self, refused: Option<FlushJob>) -> Result<(), StoreError> {
        if let Some(job) = refused {
            job.run(&*self.index)?;
            self.flushed(job);
        }
        while let Some(job) = self.freeze(true) {
            job.run(&*self.index)?;
            self.flushed(job);
        }
        self.index.checkpoint()?;
        let applied = self.applied.clone();
        self.checkpointed(applied)
    }

    /// Sizes, for metrics and tests.
    pub(super) fn sizes(&self) -> (Vec<SegmentSize>, u64) {
        (self.log.segments(), self.live.values().sum())
    }
}

/// Puts the changed rows into the group; gives where each new body stands, and its checksum.
fn encode(group: &mut GroupBuilder, rows: &BTreeMap<Key, Pending>) -> BTreeMap<Key, (usize, u32)> {
    let mut places = BTreeMap::new();
    for (key, pending) in rows.iter().filter(|(_, pending)| pending.dirty) {
        match &pending.row {
            // came and went inside the group
            None if pending.old.is_none() && !pending.below => {}
            None => group.delete(key),
            Some(row) => match &row.body {
                Body::None => group.put(key, &row.value, None),
                Body::Old(blob, _) => group.put(key, &row.value, Some(*blob)),
                Body::New(octets) => {
                    let crc = crc32c::crc32c(octets);
                    places.insert(key.clone(), (group.put_with_body(key, &row.value, octets, crc), crc));
                }
                Body::Moved(octets, crc) => {
                    places.insert(key.clone(), (group.put_with_body(key, &row.value, octets, *crc), *crc));
                }
            },
        }
    }
    places
}

/// The keys of rows that came with a file of their own.
fn new_files(rows: &BTreeMap<Key, Pending>) -> impl Iterator<Item = Key> {
    let is_new = |pending: &Pending| {
        let file =
            pending.row.as_ref().is_some_and(|row| matches!(row.body, Body::Old(Blob::File { .. }, _)));
        file && pending.old.is_none()
    };
    rows.iter().filter(move |(_, pending)| is_new(pending)).map(|(key, _)| key.clone())
}

fn burden(live: &mut BTreeMap<u32, u64>, key: &[u8], row: &Row) {
    for (segment, octets) in row.weights(key) {
        *live.entry(segment).or_default() += octets;
    }
}

fn lighten(live: &mut BTreeMap<u32, u64>, key: &[u8], row: &Row) {
    for (segment, octets) in row.weights(key) {
        let left = live.get(&segment).map_or(0, |live| live.saturating_sub(octets));
        if left == 0 {
            live.remove(&segment);
        } else {
            live.insert(segment, left);
        }
    }
}

/// Brings the rows of logged groups back.
struct Replay<'a> {
    index: &'a dyn Index,
    view: View,
    live: BTreeMap<u32, u64>,
    end: Position,
    applied: Marker,
    memtable_octets: usize,
}

impl Replay<'_> {
    fn take(&mut self, group: LoggedGroup<'_>) -> Result<(), StoreError> {
        for entry in Entries::new(group.octets, group.place.start) {
            let entry = entry?;
            let (old, below) = match self.view.look_up(entry.key) {
                Known::Here(row, below) => (row, below),
                Known::No => {
                    let row = self.index.get(entry.key)?;
                    let below = row.is_some();
                    (row, below)
                }
            };
            if let Some(old) = old {
                lighten(&mut self.live, entry.key, &old);
            }
            let row = entry.put.map(|put| Row {
                home: group.place.start.segment,
                blob: put.blob,
                value: Bytes::copy_from_slice(put.value),
                cached: None,
            });
            if let Some(row) = &row {
                burden(&mut self.live, entry.key, row);
            }
            self.view.active.set(entry.key.into(), Slot { row, below });
        }
        self.view.seq = group.place.seq;
        self.end = group.place.end;
        if self.view.active.octets() >= self.memtable_octets {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        let marker = Marker { seq: self.view.seq, at: self.end, live: self.live.clone() };
        self.index.take_in(&MemtableRef(&std::mem::take(&mut self.view.active)), &marker)?;
        self.applied = marker;
        Ok(())
    }
}
