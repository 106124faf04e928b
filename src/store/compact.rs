//! Emptying the log's oldest segment: what still lives there is written again at the head.
//!
//! Runs beside the writer and hands it ordinary batches that nobody waits for, so accepting mail never
//! stops for it. Whatever changes meanwhile wins: the writer re-homes a row only as it is then.

use crossbeam::channel::{Sender, bounded};

use super::batch::{Batch, Haste, Op};
use super::error::StoreError;
use super::group::Entries;
use super::reader::Reader;
use super::row::Blob;
use super::threads::{Request, Submission};

/// Rows are moved in batches of about this size.
const BATCH_GOAL_OCTETS: usize = 1 << 20;

/// Moves everything that lives in `segment`; gives how many octets that were.
pub(super) fn empty_segment(
    reader: &Reader,
    segment: u32,
    writer: &Sender<Request>,
) -> Result<u64, StoreError> {
    let mut moved = 0;
    let mut batch = Batch::new();
    reader.log.read_segment(segment, &mut |group| {
        for entry in Entries::new(group.octets, group.place.start) {
            let key = entry?.key;
            let Some(op) = rehome(reader, key, segment)? else { continue };
            batch.push(op);
            if batch.weight_octets() >= BATCH_GOAL_OCTETS {
                moved += commit(writer, std::mem::take(&mut batch))?;
            }
        }
        Ok(())
    })?;
    Ok(moved + commit(writer, batch)?)
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

fn commit(writer: &Sender<Request>, batch: Batch) -> Result<u64, StoreError> {
    let octets = batch.weight_octets() as u64;
    if batch.is_empty() {
        return Ok(0);
    }
    let (tell, outcome) = bounded(1);
    let done = Box::new(move |result: Result<u64, StoreError>| {
        // the receiver is gone only where this thread is
        let _ = tell.send(result);
    });
    let request = Request::Commit(Submission { batch, haste: Haste::Soon, done });
    writer.send(request).map_err(|_| StoreError::Closed)?;
    outcome.recv().map_err(|_| StoreError::Closed)??;
    Ok(octets)
}
