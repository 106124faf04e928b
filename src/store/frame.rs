//! The frames of a segment file: its header, and the header before each record group.
//!
//! All checksums are seeded with the log's own random id: octets of a message, wherever they come to
//! stand, cannot pass for a header of this log.

use super::disk::DiskFile;
use super::error::StoreError;
use super::row::{Cursor, Position};

/// Groups start at multiples of this: no block that was promised is ever written again.
pub(super) const ALIGN_OCTETS: u32 = 4096;
/// The segment header has two blocks of its own.
pub(super) const FIRST_GROUP_OFFSET: u32 = 2 * ALIGN_OCTETS;
/// magic, checksum, length, segment, number.
pub(super) const GROUP_HEADER_OCTETS: usize = 24;
/// No group is larger, so that a rotten length never asks for absurd memory.
pub(super) const GROUP_MAX_OCTETS: usize = 48 << 20;

const SEGMENT_MAGIC: &[u8; 8] = b"BARIDLOG";
const SEGMENT_VERSION: u16 = 1;
const SEGMENT_HEADER_OCTETS: usize = 44;
const SECOND_COPY_OFFSET: u64 = ALIGN_OCTETS as u64;
const GROUP_MAGIC: u32 = 0x5052_4742;

/// What a segment says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub(super) log_id: u64,
    pub(super) number: u32,
    pub(super) first_seq: u64,
    /// Where the log's good groups ended when this segment was begun. Segments between that one and
    /// this one, and whatever else stands behind that place, are left-overs of failed writes.
    pub(super) continues: Position,
}

impl SegmentHeader {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(SEGMENT_HEADER_OCTETS);
        out.extend_from_slice(SEGMENT_MAGIC);
        out.extend_from_slice(&SEGMENT_VERSION.to_le_bytes());
        out.extend_from_slice(&[0; 2]);
        out.extend_from_slice(&self.log_id.to_le_bytes());
        out.extend_from_slice(&self.first_seq.to_le_bytes());
        for number in [self.number, self.continues.segment, self.continues.offset] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&crc32c::crc32c(&out).to_le_bytes());
        out
    }

    /// The segment's first blocks: the header in each, as one may rot.
    pub(super) fn block(&self) -> Vec<u8> {
        let mut block = self.encode();
        block.resize(SECOND_COPY_OFFSET as usize, 0);
        block.extend_from_slice(&self.encode());
        block
    }

    fn decode(octets: &[u8]) -> Result<Self, StoreError> {
        let mut cursor = Cursor(octets);
        let magic = cursor.take(SEGMENT_MAGIC.len())?;
        let version = cursor.u16()?;
        cursor.take(2)?;
        let (log_id, first_seq) = (cursor.u64()?, cursor.u64()?);
        let number = cursor.u32()?;
        let continues = Position { segment: cursor.u32()?, offset: cursor.u32()? };
        let covered = octets.len() - cursor.0.len();
        if magic != SEGMENT_MAGIC
            || version != SEGMENT_VERSION
            || cursor.u32()? != crc32c::crc32c(&octets[..covered])
        {
            return Err(StoreError::damaged("a segment header"));
        }
        Ok(SegmentHeader { log_id, number, first_seq, continues })
    }
}

/// The header of segment `number`, where it reads as one.
pub(super) fn read_segment_header(file: &dyn DiskFile, number: u32) -> Option<SegmentHeader> {
    [0, SECOND_COPY_OFFSET].into_iter().find_map(|offset| {
        let mut octets = [0; SEGMENT_HEADER_OCTETS];
        file.read_at(&mut octets, offset).ok()?;
        SegmentHeader::decode(&octets).ok().filter(|header| header.number == number)
    })
}

/// What stands before a group.
#[derive(Clone, Copy, Debug)]
pub(super) struct GroupHeader {
    pub(super) segment: u32,
    pub(super) seq: u64,
    pub(super) len: u32,
}

impl GroupHeader {
    /// Header and group as they are written.
    pub(super) fn frame(self, log_id: u64, octets: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(GROUP_HEADER_OCTETS + octets.len());
        out.extend_from_slice(&self.encode(log_id, octets));
        out.extend_from_slice(octets);
        out
    }

    fn encode(self, log_id: u64, octets: &[u8]) -> [u8; GROUP_HEADER_OCTETS] {
        let mut header = [0; GROUP_HEADER_OCTETS];
        header[0..4].copy_from_slice(&GROUP_MAGIC.to_le_bytes());
        header[8..12].copy_from_slice(&self.len.to_le_bytes());
        header[12..16].copy_from_slice(&self.segment.to_le_bytes());
        header[16..24].copy_from_slice(&self.seq.to_le_bytes());
        let crc = checksum(log_id, &header[8..], octets);
        header[4..8].copy_from_slice(&crc.to_le_bytes());
        header
    }
}

fn checksum(log_id: u64, header: &[u8], octets: &[u8]) -> u32 {
    let seeded = crc32c::crc32c(&log_id.to_le_bytes());
    crc32c::crc32c_append(crc32c::crc32c_append(seeded, header), octets)
}

/// What a group of `len` octets takes, header and filling included.
pub(super) fn framed_octets(len: usize) -> u64 {
    ((len + GROUP_HEADER_OCTETS) as u64).next_multiple_of(u64::from(ALIGN_OCTETS))
}

/// A group that read well.
pub(super) struct ReadGroup {
    pub(super) seq: u64,
    pub(super) octets: Vec<u8>,
}

/// The group at `offset`, or `None` where there is no whole one.
pub(super) fn read_group(
    file: &dyn DiskFile,
    log_id: u64,
    segment: u32,
    offset: u32,
    size: u64,
) -> Result<Option<ReadGroup>, StoreError> {
    let offset = u64::from(offset);
    if offset + GROUP_HEADER_OCTETS as u64 > size {
        return Ok(None);
    }
    let mut header = [0; GROUP_HEADER_OCTETS];
    // what cannot be read is no group: a bad sector must not keep the rest from being found
    if file.read_at(&mut header, offset).is_err() {
        return Ok(None);
    }
    let mut cursor = Cursor(&header);
    let (magic, crc, len) = (cursor.u32()?, cursor.u32()?, cursor.u32()? as usize);
    let (in_segment, seq) = (cursor.u32()?, cursor.u64()?);
    let plausible = magic == GROUP_MAGIC && in_segment == segment && len <= GROUP_MAX_OCTETS;
    if !plausible || offset + (GROUP_HEADER_OCTETS + len) as u64 > size {
        return Ok(None);
    }
    let mut octets = vec![0; len];
    if file.read_at(&mut octets, offset + GROUP_HEADER_OCTETS as u64).is_err() {
        return Ok(None);
    }
    let right = checksum(log_id, &header[8..], &octets) == crc;
    #[cfg(test)]
    let right = right || SKIP_CHECKSUM.get();
    Ok(right.then_some(ReadGroup { seq, octets }))
}

#[cfg(test)]
thread_local! {
    /// A defect that a test plants.
    pub(super) static SKIP_CHECKSUM: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// The first whole group numbered `seq` or above at or after `from`, before `limit`.
pub(super) fn find_group(
    file: &dyn DiskFile,
    log_id: u64,
    segment: u32,
    from: u32,
    limit: u32,
    seq: u64,
) -> Result<Option<u32>, StoreError> {
    let mut offset = from;
    while offset < limit {
        let group = read_group(file, log_id, segment, offset, u64::from(limit))?;
        if group.is_some_and(|group| group.seq >= seq) {
            return Ok(Some(offset));
        }
        offset = offset.saturating_add(ALIGN_OCTETS);
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_header_reads_back_and_notices_every_flipped_bit() {
        let header = SegmentHeader {
            log_id: 9,
            number: 3,
            first_seq: 77,
            continues: Position { segment: 1, offset: 8192 },
        };
        let octets = header.encode();
        assert_eq!(octets.len(), SEGMENT_HEADER_OCTETS);
        assert_eq!(SegmentHeader::decode(&octets).ok(), Some(header));
        for bit in 0..octets.len() * 8 {
            let mut rotten = octets.clone();
            rotten[bit / 8] ^= 1 << (bit % 8);
            assert!(SegmentHeader::decode(&rotten).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn another_logs_groups_do_not_count() {
        let framed = GroupHeader { segment: 1, seq: 1, len: 4 }.frame(1, b"mail");
        let disk = super::super::disk::LossyDisk::new();
        let file = super::super::disk::Disk::create(&disk, "log/x", 8192).expect("made");
        file.write_at(&framed, 0).expect("written");
        assert!(read_group(&*file, 1, 1, 0, 8192).expect("reads").is_some());
        assert!(read_group(&*file, 2, 1, 0, 8192).expect("reads").is_none());
    }
}
