//! Emptying the log's oldest segment: what still lives there is written again at the head.
//!
//! Runs beside the writer and hands it ordinary batches that nobody waits for, so accepting mail never
//! stops for it. Whatever changes meanwhile wins: the writer re-homes a row only as it is then.

use super::batch::{Batch, Op};
use super::error::StoreError;
use super::group::Entries;
use super::reader::Reader;
use super::row::Blob;

/// Rows are moved in batches of about this size.
const BATCH_GOAL_OCTETS: usize = 1 << 20;

/// Moves everything that lives in `segment` by batches that `commit` has written; gives how many octets
/// that were.
pub(super) fn empty_segment(
    reader: &Reader,
    segment: u32,
    commit: &mut dyn FnMut(Batch) -> Result<(), StoreError>,
) -> Result<u64, StoreError> {
    let (mut moved, mut batch) = (0, Batch::new());
    let mut hand_over = |batch: &mut Batch| {
        moved += batch.weight_octets() as u64;
        if batch.is_empty() { Ok(()) } else { commit(std::mem::take(batch)) }
    };
    reader.log.read_segment(segment, &mut |group| {
        for entry in Entries::new(group.octets, group.place.start) {
            let key = entry?.key;
            let Some(op) = rehome(reader, key, segment)? else { continue };
            batch.push(op);
            if batch.weight_octets() >= BATCH_GOAL_OCTETS {
                hand_over(&mut batch)?;
            }
        }
        Ok(())
    })?;
    hand_over(&mut batch)?;
    Ok(moved)
}

/// The change that moves one row out of `segment`, where any part of it lives there.
pub(super) fn rehome(reader: &Reader, key: &[u8], segment: u32) -> Result<Option<Op>, StoreError> {
    let Some(row) = reader.get(key)? else { return Ok(None) };
    let body_there = matches!(row.blob, Some(Blob::Log { at, .. }) if at.segment == segment);
    if row.home != segment && !body_there {
        return Ok(None);
    }
    let body = match row.blob {
        Some(Blob::Log { at, len, crc }) if body_there => Some((reader.log.read(at, len)?, crc)),
        _ => None,
    };
    Ok(Some(Op::Rehome { key: key.into(), from: segment, body }))
}
