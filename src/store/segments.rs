//! The log as segment files on a [`Disk`].
//!
//! Promises: an appended group is synced before `append` returns; groups start at 4 KiB boundaries, so
//! that no later write touches a block that was promised; a failed write or sync is never retried on
//! the same file, the next append opens a new one; a torn last group is dropped whole, anything
//! damaged before it is told and set aside, never dropped silently.
//!
//! Each segment's header says where the good groups of the one before it end, so that what a failed
//! write left behind there is never replayed. A run never appends to a segment of an earlier run.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;

use super::ballast::Ballast;
use super::disk::{Disk, DiskFile};
use super::error::StoreError;
use super::frame::{self, ALIGN_OCTETS, FIRST_GROUP_OFFSET, GroupHeader, SegmentHeader};
use super::log::{Appended, Log, LogReader, LoggedGroup, Replayed, SegmentSize, Visit};
use super::row::Position;

/// The log's random id, beside the segments that carry it too.
const LOG_ID: &str = "log/id";

/// How large the log's pieces are.
#[derive(Clone, Copy, Debug)]
pub struct SegmentSettings {
    /// A segment's size; a group that does not fit into one gets a larger one.
    pub segment_octets: u32,
    /// Room kept back on the disk, so that work can be finished when it is full.
    pub ballast_octets: u64,
}

impl Default for SegmentSettings {
    fn default() -> Self {
        SegmentSettings { segment_octets: 64 << 20, ballast_octets: 128 << 20 }
    }
}

/// The log.
pub struct SegmentLog {
    disk: Arc<dyn Disk>,
    settings: SegmentSettings,
    log_id: u64,
    files: Arc<Files>,
    /// Where the next group goes; `None` before the first append and after a failed one.
    current: Option<Current>,
    /// Where the log's good groups end.
    good_end: Position,
    next_segment: u32,
    next_seq: u64,
    ballast: Ballast,
}

struct Current {
    number: u32,
    file: Arc<dyn DiskFile>,
    offset: u32,
    size: u64,
    header_written: bool,
    /// Whether it is for what already happened alone.
    is_reserve: bool,
}

/// The open segments, shared with readers.
struct Files {
    log_id: u64,
    open: RwLock<BTreeMap<u32, Segment>>,
}

#[derive(Clone)]
struct Segment {
    file: Arc<dyn DiskFile>,
    size: u64,
    header: Option<SegmentHeader>,
    /// Where its groups end, once that is known.
    end: Option<u32>,
}

fn file_name(number: u32) -> String {
    format!("log/{number:010}.seg")
}

fn file_number(name: &str) -> Option<u32> {
    name.strip_prefix("log/")?.strip_suffix(".seg")?.parse().ok()
}

impl SegmentLog {
    /// Opens the segments that are there; [`Log::replay`] must follow.
    pub fn open(disk: Arc<dyn Disk>, settings: SegmentSettings) -> Result<Self, StoreError> {
        let mut open = BTreeMap::new();
        let names = disk.list("log").map_err(StoreError::io("listing the log"))?;
        let ballast = Ballast::find(disk.clone(), &names, settings.ballast_octets);
        for (number, name) in names.iter().filter_map(|name| Some((file_number(name)?, name))) {
            let file = disk.open(name).map_err(StoreError::io("opening a segment"))?;
            let size = file.len_octets().map_err(StoreError::io("opening a segment"))?;
            let header = frame::read_segment_header(&*file, number);
            open.insert(number, Segment { file, size, header, end: None });
        }
        let from_header = open.values().rev().find_map(|segment| Some(segment.header.as_ref()?.log_id));
        let log_id = match read_log_id(&*disk).or(from_header) {
            Some(log_id) => log_id,
            None => write_log_id(&*disk).map_err(StoreError::io("naming the log"))?,
        };
        let next_segment = open.keys().next_back().map_or(1, |last| last + 1);
        let files = Arc::new(Files { log_id, open: RwLock::new(open) });
        Ok(SegmentLog {
            disk,
            settings,
            log_id,
            files,
            current: None,
            good_end: Position::default(),
            next_segment,
            next_seq: 1,
            ballast,
        })
    }

    /// Sees to a segment with room for so many octets. What is left of the one before is kept where no other can
    /// be had: something smaller may yet fit in.
    fn make_room(&mut self, len: usize, from_reserve: bool) -> Result<(), StoreError> {
        if len > frame::GROUP_MAX_OCTETS {
            return Err(StoreError::TooLarge { limit_octets: frame::GROUP_MAX_OCTETS });
        }
        let framed_octets = frame::framed_octets(len);
        let fits = |current: &Current| {
            let is_allowed = from_reserve || !current.is_reserve;
            is_allowed && u64::from(current.offset) + framed_octets <= current.size
        };
        if self.current.as_ref().is_some_and(fits) {
            return Ok(());
        }
        let needed = u64::from(FIRST_GROUP_OFFSET) + framed_octets;
        let made = self.new_file(needed, from_reserve);
        if let (Err(_), Some(current)) = (&made, &mut self.current) {
            // the disk is full for small mail too, until there is room for all
            current.is_reserve = true;
        }
        let (file, size) = made?;
        self.current = None;
        self.current = Some(self.enter(file, size)?);
        Ok(())
    }

    fn write(&mut self, octets: &[u8]) -> Result<Appended, StoreError> {
        let framed_octets = frame::framed_octets(octets.len());
        let Some(current) = &mut self.current else { return Err(StoreError::Closed) };
        if !current.header_written {
            let header = SegmentHeader {
                log_id: self.log_id,
                number: current.number,
                first_seq: self.next_seq,
                continues: self.good_end,
            };
            let written = current.file.write_at(&header.block(), 0);
            written.map_err(StoreError::io("writing a segment header"))?;
        }
        let header = GroupHeader { segment: current.number, seq: self.next_seq, len: octets.len() as u32 };
        let framed = header.frame(self.log_id, octets);
        let offset = current.offset;
        current.file.write_at(&framed, u64::from(offset)).map_err(StoreError::io("writing the log"))?;
        current.file.sync().map_err(StoreError::io("syncing the log"))?;
        current.header_written = true;
        current.offset += framed_octets as u32;
        Ok(Appended {
            seq: self.next_seq,
            start: Position { segment: current.number, offset: offset + frame::GROUP_HEADER_OCTETS as u32 },
            end: Position { segment: current.number, offset: current.offset },
        })
    }

    /// Makes the file of the next segment, with room for `needed` octets at least; a small one in the ballast's
    /// place where it comes to that.
    fn new_file(&mut self, needed: u64, from_reserve: bool) -> Result<(Arc<dyn DiskFile>, u64), StoreError> {
        self.drop_abandoned();
        let name = file_name(self.next_segment);
        let size = needed.max(u64::from(self.settings.segment_octets));
        let small = needed.max(self.ballast.piece_octets());
        let make = |size| self.disk.create(&name, size).map_err(StoreError::io("making a segment"));
        let mut made = make(size).map(|file| (file, size));
        while from_reserve && matches!(made, Err(StoreError::Full)) && self.ballast.give_up()? {
            made = make(small).map(|file| (file, small));
        }
        made
    }

    /// From here on the log goes on in a new segment.
    fn enter(&mut self, file: Arc<dyn DiskFile>, size: u64) -> Result<Current, StoreError> {
        let number = self.next_segment;
        self.next_segment += 1;
        let segment = Segment { file: file.clone(), size, header: None, end: None };
        let mut open = self.files.open.write().unwrap_or_else(PoisonError::into_inner);
        close_at(&mut open, self.good_end, number);
        open.insert(number, segment);
        drop(open);
        self.disk.sync_dir("log").map_err(StoreError::io("syncing the log's directory"))?;
        let is_reserve = size < u64::from(self.settings.segment_octets);
        Ok(Current { number, file, offset: FIRST_GROUP_OFFSET, size, header_written: false, is_reserve })
    }

    /// A segment in which nothing good was ever written is in the way: failing writes must not eat the
    /// disk. But one that was found at the start stays, as its header may be all that says where the log
    /// before it ends: without it, a group that the replay did not see would come back.
    fn drop_abandoned(&self) {
        let mut open = self.files.open.write().unwrap_or_else(PoisonError::into_inner);
        while let Some(last) = open.last_entry()
            && *last.key() > self.good_end.segment
            && last.get().header.is_none()
            && self.disk.remove(&file_name(*last.key())).is_ok()
        {
            last.remove();
        }
    }

    /// Keeps what cannot be read for whoever may want to look at it.
    fn set_aside(&self, segment: u32, file: &dyn DiskFile, from: u32, to: u32) {
        let mut octets = vec![0; (to - from) as usize];
        let name = format!("damaged/{segment:010}-{from}");
        let kept = file
            .read_at(&mut octets, u64::from(from))
            .and_then(|()| self.disk.create(&name, 0)?.write_at(&octets, 0));
        if let Err(error) = kept {
            tracing::warn!(event = "damage_not_kept", file = %name, error = %error);
        }
    }

    fn replay_segment(
        &mut self,
        number: u32,
        segment: &Segment,
        from: u32,
        report: &mut Replayed,
        visit: Visit<'_>,
    ) -> Result<(), StoreError> {
        let mut offset = from;
        loop {
            if segment.end.is_some_and(|end| offset >= end) {
                break;
            }
            if let Some(group) = frame::read_group(&*segment.file, self.log_id, number, offset, segment.size)?
            {
                let end = offset + frame::framed_octets(group.octets.len()) as u32;
                if group.seq >= self.next_seq {
                    self.note_gap(group.seq, report);
                    let place = Appended {
                        seq: group.seq,
                        start: Position {
                            segment: number,
                            offset: offset + frame::GROUP_HEADER_OCTETS as u32,
                        },
                        end: Position { segment: number, offset: end },
                    };
                    visit(LoggedGroup { place, octets: &group.octets })?;
                    report.groups += 1;
                    self.next_seq = group.seq + 1;
                }
                offset = end;
                self.good_end = Position { segment: number, offset };
                continue;
            }
            let limit = segment.end.unwrap_or(u32::try_from(segment.size).unwrap_or(u32::MAX));
            let next = frame::find_group(
                &*segment.file,
                self.log_id,
                number,
                offset + ALIGN_OCTETS,
                limit,
                self.next_seq,
            )?;
            match next.or(segment.end) {
                Some(next) => {
                    self.set_aside(number, &*segment.file, offset, next);
                    report.damage.push(format!(
                        "segment {number}: {} octets at offset {offset} do not read as a record group",
                        next - offset
                    ));
                    offset = next;
                }
                None => {
                    report.torn_octets += torn_octets(&*segment.file, offset, segment.size);
                    break;
                }
            }
        }
        Ok(())
    }

    fn note_gap(&self, seq: u64, report: &mut Replayed) {
        let missing = seq - self.next_seq;
        if missing > 0 && self.next_seq > 1 {
            report.damage.push(format!("{missing} record groups before number {seq} are missing"));
        }
    }
}

fn read_log_id(disk: &dyn Disk) -> Option<u64> {
    let mut octets = [0; 12];
    disk.open(LOG_ID).and_then(|file| file.read_at(&mut octets, 0)).ok()?;
    let (id, crc) = octets.split_at(8);
    let is_whole = crc32c::crc32c(id).to_le_bytes() == *crc;
    is_whole.then(|| u64::from_le_bytes(id.try_into().unwrap_or_default()))
}

/// Names a new log: at random, so that nobody can write a message that reads as a group of it.
fn write_log_id(disk: &dyn Disk) -> std::io::Result<u64> {
    let id = fastrand::u64(..);
    // half a name of a log without a segment
    if disk.open(LOG_ID).is_ok() {
        disk.remove(LOG_ID)?;
    }
    let file = disk.create(LOG_ID, 0)?;
    file.write_at(&[&id.to_le_bytes()[..], &crc32c::crc32c(&id.to_le_bytes()).to_le_bytes()].concat(), 0)?;
    file.sync()?;
    disk.sync_dir("log")?;
    Ok(id)
}

/// Notes that the log went on in segment `next` from `good_end`: nothing behind that place counts.
fn close_at(open: &mut BTreeMap<u32, Segment>, good_end: Position, next: u32) {
    for (&number, segment) in open.range_mut(good_end.segment.min(next)..next) {
        let good = if number == good_end.segment { good_end.offset } else { 0 };
        segment.end = Some(good.max(FIRST_GROUP_OFFSET));
    }
}

/// How many octets of the segment's rest are not zero-filled: a group that was being written.
fn torn_octets(file: &dyn DiskFile, offset: u32, size: u64) -> u64 {
    let rest = size.saturating_sub(u64::from(offset)).min(u64::from(ALIGN_OCTETS));
    let mut block = vec![0; rest as usize];
    match file.read_at(&mut block, u64::from(offset)) {
        Ok(()) if block.iter().any(|octet| *octet != 0) => rest,
        _ => 0,
    }
}

impl Log for SegmentLog {
    fn next_seq(&self) -> u64 {
        self.next_seq
    }

    fn append(&mut self, octets: &[u8], from_reserve: bool) -> Result<Appended, StoreError> {
        if !from_reserve {
            // else new mail would eat the room that was given up for results
            self.ballast.lay()?;
        }
        self.make_room(octets.len(), from_reserve)?;
        let appended = self.write(octets);
        match &appended {
            Ok(place) => {
                self.next_seq += 1;
                self.good_end = place.end;
            }
            // never again on this file: what its failed write or sync left is unknown
            Err(_) => self.current = None,
        }
        appended
    }

    fn give_way(&mut self) -> Result<bool, StoreError> {
        self.ballast.give_up()
    }

    fn replay(&mut self, after: u64, from: Position, visit: Visit<'_>) -> Result<Replayed, StoreError> {
        let mut report = Replayed::default();
        self.next_seq = after + 1;
        let mut open = self.files.open.read().unwrap_or_else(PoisonError::into_inner).clone();
        let headers: Vec<_> = open.values().filter_map(|segment| segment.header.clone()).collect();
        for header in headers {
            close_at(&mut open, header.continues, header.number);
        }
        self.good_end = from;
        self.next_segment = self.next_segment.max(from.segment + 1);
        if after > 0 && !open.contains_key(&from.segment) {
            report.damage.push(format!("the index was fed from segment {}, which is missing", from.segment));
        }
        // a segment whose header was lost is read all the same: its groups prove themselves
        for (&number, segment) in open.range(from.segment..) {
            let start = if number == from.segment { from.offset } else { 0 }.max(FIRST_GROUP_OFFSET);
            self.replay_segment(number, segment, start, &mut report, visit)?;
        }
        *self.files.open.write().unwrap_or_else(PoisonError::into_inner) = open;
        Ok(report)
    }

    fn segments(&self) -> Vec<SegmentSize> {
        let open = self.files.open.read().unwrap_or_else(PoisonError::into_inner);
        open.iter().map(|(&number, segment)| SegmentSize { number, octets: segment.size }).collect()
    }

    fn free_oldest(&mut self) -> Result<(), StoreError> {
        let oldest = {
            let open = self.files.open.read().unwrap_or_else(PoisonError::into_inner);
            open.keys().next().copied()
        };
        let Some(number) = oldest.filter(|number| number + 1 < self.next_segment) else { return Ok(()) };
        self.disk.remove(&file_name(number)).map_err(StoreError::io("freeing a segment"))?;
        self.files.open.write().unwrap_or_else(PoisonError::into_inner).remove(&number);
        // durable before the next one goes: an old put must never come back without its later delete
        self.disk.sync_dir("log").map_err(StoreError::io("syncing the log's directory"))
    }

    fn reader(&self) -> Arc<dyn LogReader> {
        self.files.clone()
    }
}

impl Files {
    fn segment(&self, number: u32) -> Result<Segment, StoreError> {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        open.get(&number).cloned().ok_or_else(|| StoreError::damaged(format!("segment {number} is gone")))
    }
}

impl LogReader for Files {
    fn read(&self, at: Position, len: u32) -> Result<Bytes, StoreError> {
        // nothing weighs nothing: it keeps no segment alive
        if len == 0 {
            return Ok(Bytes::new());
        }
        let mut octets = vec![0; len as usize];
        let segment = self.segment(at.segment)?;
        segment.file.read_at(&mut octets, u64::from(at.offset)).map_err(StoreError::io("reading a body"))?;
        Ok(octets.into())
    }

    fn read_segment(&self, number: u32, visit: Visit<'_>) -> Result<(), StoreError> {
        let segment = self.segment(number)?;
        let mut offset = FIRST_GROUP_OFFSET;
        let end =
            segment.end.ok_or_else(|| StoreError::damaged(format!("segment {number} is still written")))?;
        while offset < end {
            let Some(group) = frame::read_group(&*segment.file, self.log_id, number, offset, segment.size)?
            else {
                let next =
                    frame::find_group(&*segment.file, self.log_id, number, offset + ALIGN_OCTETS, end, 0)?;
                offset = next.unwrap_or(end);
                continue;
            };
            let start = Position { segment: number, offset: offset + frame::GROUP_HEADER_OCTETS as u32 };
            offset += frame::framed_octets(group.octets.len()) as u32;
            let place = Appended { seq: group.seq, start, end: Position { segment: number, offset } };
            visit(LoggedGroup { place, octets: &group.octets })?;
        }
        Ok(())
    }
}
