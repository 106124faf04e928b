//! Blocks: runs of rows that stand in the index as one entry.
//!
//! sled keeps some 700 octets in memory for each page of 8 to 16 entries. With a row an entry a million
//! queued messages took 115 MiB; with a block an entry, a tenth of that.
//!
//! A block begins at a *fence*, the entry's key: it holds every row from there up to the next fence.
//! Rows only ever move to a block with a higher fence (by a split), so that who reads forward while a
//! table goes in sees some rows twice, but misses none.
//!
//! ```text
//! block = *( shared(u16) rest-len(u16) row-len(u32) rest row )   ; key = first `shared` octets of the last key, rest
//! ```

use super::error::StoreError;
use super::row::{Cursor, Key, Row};

/// Rows of a block.
pub(super) const BLOCK_ROWS_MAX: usize = 16;
/// A block with more rows than one is not larger than this: each change writes all of it again.
const BLOCK_MAX_OCTETS: usize = 4 << 10;

/// The rows of a block, in order.
pub(super) type BlockRows = Vec<(Key, Row)>;

pub(super) fn encode(rows: &[(Key, Row)]) -> Vec<u8> {
    let mut out = Vec::with_capacity(rows.len() * 96);
    let mut last: &[u8] = &[];
    for (key, row) in rows {
        let shared = last.iter().zip(key.iter()).take_while(|(a, b)| a == b).count();
        let (rest, row) = (&key[shared..], row.encode());
        out.extend_from_slice(&(shared as u16).to_le_bytes());
        out.extend_from_slice(&(rest.len() as u16).to_le_bytes());
        out.extend_from_slice(&(row.len() as u32).to_le_bytes());
        out.extend_from_slice(rest);
        out.extend_from_slice(&row);
        last = key;
    }
    out
}

/// Visits the rows of a block in order, as far as `visit` says true.
pub(super) fn visit(
    octets: &[u8],
    mut visit: impl FnMut(&[u8], &[u8]) -> Result<bool, StoreError>,
) -> Result<(), StoreError> {
    let (mut cursor, mut key) = (Cursor(octets), Vec::with_capacity(64));
    while !cursor.0.is_empty() {
        let (shared, rest, row) = (cursor.u16()?, cursor.u16()?, cursor.u32()?);
        if usize::from(shared) > key.len() {
            return Err(StoreError::damaged("a block of the index"));
        }
        key.truncate(usize::from(shared));
        key.extend_from_slice(cursor.take(usize::from(rest))?);
        if !visit(&key, cursor.take(row as usize)?)? {
            break;
        }
    }
    Ok(())
}

pub(super) fn decode(octets: &[u8]) -> Result<BlockRows, StoreError> {
    let mut rows = Vec::with_capacity(BLOCK_ROWS_MAX);
    visit(octets, |key, row| {
        rows.push((key.into(), Row::decode(row)?));
        Ok(true)
    })?;
    Ok(rows)
}

/// The row under a key.
pub(super) fn find(octets: &[u8], wanted: &[u8]) -> Result<Option<Row>, StoreError> {
    let mut found = None;
    visit(octets, |key, row| {
        if key == wanted {
            found = Some(Row::decode(row)?);
        }
        Ok(key < wanted)
    })?;
    Ok(found)
}

/// Puts changes into a block's rows, both in order; gives the blocks that come of it. The first one
/// stands at the old fence.
pub(super) fn change<'a>(rows: BlockRows, changes: &[(&'a [u8], Option<&'a Row>)]) -> Vec<BlockRows> {
    let grows_at_its_end =
        rows.last().zip(changes.first()).is_none_or(|((last, _), (first, _))| &**last < *first);
    let mut changed = Vec::with_capacity(rows.len() + changes.len());
    let mut changes = changes.iter().peekable();
    let put = |changed: &mut BlockRows, (key, row): &(&[u8], Option<&Row>)| {
        let stays = row.map(|row| ((*key).into(), Row { cached: None, ..row.clone() }));
        changed.extend(stays);
    };
    for (key, row) in rows {
        while let Some(change) = changes.next_if(|(changed, _)| *changed < &*key) {
            put(&mut changed, change);
        }
        match changes.next_if(|(changed, _)| *changed == &*key) {
            Some(change) => put(&mut changed, change),
            None => changed.push((key, row)),
        }
    }
    changes.for_each(|change| put(&mut changed, change));
    split(changed, grows_at_its_end)
}

/// Mail comes in the order of its ids: where rows follow at the end, blocks are filled; elsewhere halves
/// leave room for more.
fn split(rows: BlockRows, fill: bool) -> Vec<BlockRows> {
    if rows.is_empty() {
        return Vec::new();
    }
    let pieces = rows.len().div_ceil(BLOCK_ROWS_MAX);
    let size = if fill { BLOCK_ROWS_MAX } else { rows.len().div_ceil(pieces) };
    let mut blocks = Vec::with_capacity(pieces);
    let (mut block, mut octets): (BlockRows, _) = (Vec::with_capacity(size), 0);
    for (key, row) in rows {
        let more = key.len() + row.value.len();
        if block.len() >= size || (octets + more > BLOCK_MAX_OCTETS && !block.is_empty()) {
            blocks.push(std::mem::take(&mut block));
            octets = 0;
        }
        octets += more;
        block.push((key, row));
    }
    blocks.push(block);
    blocks
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn row(home: u32) -> Row {
        Row { home, blob: None, value: Bytes::from(vec![7; home as usize % 9]), cached: None }
    }

    fn rows(numbers: impl IntoIterator<Item = u32>) -> BlockRows {
        numbers
            .into_iter()
            .map(|number| (format!("key{number:04}").into_bytes().into(), row(number)))
            .collect()
    }

    #[test]
    fn a_block_reads_back_whole_and_by_key() {
        let rows = rows([1, 2, 30, 31]);
        let octets = encode(&rows);
        assert_eq!(decode(&octets).expect("reads"), rows);
        assert_eq!(find(&octets, b"key0030").expect("reads"), Some(row(30)));
        assert_eq!(find(&octets, b"key0003").expect("reads"), None);
    }

    #[test]
    fn damage_is_told_and_no_panic() {
        let octets = encode(&rows([1, 2]));
        for cut in 1..octets.len() {
            let _ = decode(&octets[..cut]);
        }
        assert!(decode(&[9, 0, 0, 0, 0, 0, 0, 0]).is_err(), "a key that shares with none");
    }

    #[test]
    fn large_rows_make_small_blocks() {
        let large = Row { value: Bytes::from(vec![7; 3000]), ..row(1) };
        let changes: Vec<(Key, Row)> = rows(0..5).into_iter().map(|(key, _)| (key, large.clone())).collect();
        let changes: Vec<(&[u8], Option<&Row>)> =
            changes.iter().map(|(key, row)| (&**key, Some(row))).collect();
        let sizes: Vec<usize> = change(rows(9..20), &changes).iter().map(Vec::len).collect();
        assert_eq!((sizes[..4].to_vec(), sizes.iter().sum::<usize>()), (vec![1; 4], 16));
    }

    #[test]
    fn appended_rows_fill_blocks_and_others_leave_room() {
        let full = rows(0..16);
        let new = row(99);
        let sizes = |blocks: Vec<BlockRows>| blocks.iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(sizes(change(full.clone(), &[(b"key9999", Some(&new))])), [16, 1]);
        assert_eq!(sizes(change(full.clone(), &[(b"key0003x", Some(&new))])), [9, 8]);
        assert_eq!(sizes(change(full.clone(), &[(b"key0003", None)])), [15]);
        let none: Vec<(Key, Option<&Row>)> = full.iter().map(|(key, _)| (key.clone(), None)).collect();
        let none: Vec<(&[u8], Option<&Row>)> = none.iter().map(|(key, row)| (&**key, *row)).collect();
        assert_eq!(sizes(change(full, &none)), [0; 0]);
    }
}
