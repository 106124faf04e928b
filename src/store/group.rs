//! The form of a record group inside the log, and its reading back.
//!
//! A group is what one sync makes durable: puts and deletes of whole rows, each body behind its row.
//! It holds no increments and no conditions, so replay is idempotent. Reading never trusts: a length
//! that points outside is damage, not a panic.
//!
//! ```text
//! group  = *entry
//! entry  = kind(u8) key-len(u16) key [ value-len(u32) value body ]      ; kind 0 = delete
//! body   = nothing                                                      ; kind 1
//!        / len(u32) crc(u32) octets                                     ; kind 2, here
//!        / segment(u32) offset(u32) len(u32) crc(u32)                   ; kind 3, elsewhere in the log
//!        / len(u64) crc(u32)                                            ; kind 4, in a file
//! ```

use super::error::StoreError;
use super::row::{Blob, Cursor, Position};

const DELETE: u8 = 0;
const BARE: u8 = 1;
const BODY_HERE: u8 = 2;
const BODY_IN_LOG: u8 = 3;
const BODY_IN_FILE: u8 = 4;

/// A group while it is put together; kept and cleared, so that its room is allocated once.
#[derive(Default)]
pub(super) struct GroupBuilder {
    octets: Vec<u8>,
}

impl GroupBuilder {
    /// The group as it will be logged.
    pub(super) fn octets(&self) -> &[u8] {
        &self.octets
    }

    pub(super) fn clear(&mut self) {
        self.octets.clear();
    }

    /// Gives room back that one unusually large group needed.
    pub(super) fn shrink_to(&mut self, octets: usize) {
        self.octets.shrink_to(octets);
    }

    pub(super) fn delete(&mut self, key: &[u8]) {
        self.head(DELETE, key);
    }

    /// A row whose body, if it owns one, is written already.
    pub(super) fn put(&mut self, key: &[u8], value: &[u8], blob: Option<Blob>) {
        match blob {
            None => self.row(BARE, key, value),
            Some(Blob::Log { at, len, crc }) => {
                self.row(BODY_IN_LOG, key, value);
                for number in [at.segment, at.offset, len, crc] {
                    self.octets.extend_from_slice(&number.to_le_bytes());
                }
            }
            Some(Blob::File { len, crc }) => {
                self.row(BODY_IN_FILE, key, value);
                self.octets.extend_from_slice(&len.to_le_bytes());
                self.octets.extend_from_slice(&crc.to_le_bytes());
            }
        }
    }

    /// A row and its body with its checksum; gives the body's offset inside the group.
    pub(super) fn put_with_body(&mut self, key: &[u8], value: &[u8], body: &[u8], crc: u32) -> usize {
        self.row(BODY_HERE, key, value);
        self.octets.extend_from_slice(&(body.len() as u32).to_le_bytes());
        self.octets.extend_from_slice(&crc.to_le_bytes());
        let offset = self.octets.len();
        self.octets.extend_from_slice(body);
        offset
    }

    fn row(&mut self, kind: u8, key: &[u8], value: &[u8]) {
        self.head(kind, key);
        self.octets.extend_from_slice(&(value.len() as u32).to_le_bytes());
        self.octets.extend_from_slice(value);
    }

    fn head(&mut self, kind: u8, key: &[u8]) {
        self.octets.push(kind);
        self.octets.extend_from_slice(&(key.len() as u16).to_le_bytes());
        self.octets.extend_from_slice(key);
    }
}

/// One entry of a group read back.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry<'a> {
    pub(super) key: &'a [u8],
    /// `None` for a delete.
    pub(super) put: Option<PutEntry<'a>>,
}

/// The row of an entry.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PutEntry<'a> {
    pub(super) value: &'a [u8],
    pub(super) blob: Option<Blob>,
}

/// Reads a group's entries; `start` is where the group stands in the log.
pub(super) struct Entries<'a> {
    start: Position,
    len: usize,
    cursor: Cursor<'a>,
}

impl<'a> Entries<'a> {
    pub(super) fn new(octets: &'a [u8], start: Position) -> Self {
        Entries { start, len: octets.len(), cursor: Cursor(octets) }
    }

    fn read(&mut self) -> Result<Entry<'a>, StoreError> {
        let kind = self.cursor.u8()?;
        let key_len = self.cursor.u16()?;
        let key = self.cursor.take(usize::from(key_len))?;
        if kind == DELETE {
            return Ok(Entry { key, put: None });
        }
        let value_len = self.cursor.u32()?;
        let value = self.cursor.take(value_len as usize)?;
        let blob = self.read_blob(kind)?;
        Ok(Entry { key, put: Some(PutEntry { value, blob }) })
    }

    fn read_blob(&mut self, kind: u8) -> Result<Option<Blob>, StoreError> {
        Ok(match kind {
            BARE => None,
            BODY_HERE => {
                let (len, crc) = (self.cursor.u32()?, self.cursor.u32()?);
                let offset = self.start.offset + (self.len - self.cursor.0.len()) as u32;
                self.cursor.take(len as usize)?;
                Some(Blob::Log { at: Position { offset, ..self.start }, len, crc })
            }
            BODY_IN_LOG => {
                let at = Position { segment: self.cursor.u32()?, offset: self.cursor.u32()? };
                Some(Blob::Log { at, len: self.cursor.u32()?, crc: self.cursor.u32()? })
            }
            BODY_IN_FILE => Some(Blob::File { len: self.cursor.u64()?, crc: self.cursor.u32()? }),
            _ => return Err(StoreError::damaged("a record of an unknown kind")),
        })
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<Entry<'a>, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.cursor.0.is_empty() {
            return None;
        }
        let entry = self.read();
        if entry.is_err() {
            self.cursor.0 = &[];
        }
        Some(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_read_back_and_bodies_know_their_place() {
        let mut group = GroupBuilder::default();
        let elsewhere = Blob::Log { at: Position { segment: 1, offset: 77 }, len: 5, crc: 6 };
        let file = Blob::File { len: 1 << 40, crc: 9 };
        let crc = crc32c::crc32c(b"the body");
        let offset = group.put_with_body(b"m1", b"envelope", b"the body", crc);
        group.put(b"m2", b"", None);
        group.put(b"m3", b"x", Some(elsewhere));
        group.put(b"m4", b"y", Some(file));
        group.delete(b"m5");
        let start = Position { segment: 3, offset: 4096 };
        let read: Vec<_> = Entries::new(group.octets(), start).collect::<Result<_, _>>().expect("reads");
        assert_eq!(&group.octets()[offset..offset + 8], b"the body");
        let here = Blob::Log { at: Position { segment: 3, offset: 4096 + offset as u32 }, len: 8, crc };
        let blobs: Vec<_> = read.iter().map(|e| e.put.as_ref().map(|p| p.blob)).collect();
        assert_eq!(blobs, [Some(Some(here)), Some(None), Some(Some(elsewhere)), Some(Some(file)), None]);
    }

    #[test]
    fn any_octets_are_read_without_a_panic() {
        let mut rng = fastrand::Rng::with_seed(7);
        for _ in 0..2_000 {
            let octets: Vec<u8> = (0..rng.usize(..200)).map(|_| rng.u8(..8)).collect();
            let _ = Entries::new(&octets, Position::default()).count();
        }
    }
}
