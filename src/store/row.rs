//! Rows: what the index holds, each with its home in the log and perhaps a body.
//!
//! A row's *home* is the segment in which it was last written; its body may live in an older one. A
//! segment may be freed when no row and no body lives in it any more.

use bytes::Bytes;

use super::error::StoreError;

/// A row's name. At most [`KEY_MAX_OCTETS`].
pub type Key = Box<[u8]>;

/// Longest key: a domain, a client and two numbers fit well.
pub const KEY_MAX_OCTETS: usize = 1024;

/// Where in the log something stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The segment's number, from 1.
    pub segment: u32,
    /// Octets from the segment's start.
    pub offset: u32,
}

/// Where a row's body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blob {
    /// In the log.
    Log {
        /// Its first octet.
        at: Position,
        /// Octets.
        len: u32,
        /// CRC-32C of the octets.
        crc: u32,
    },
    /// In a file of its own, named after the row's key.
    File {
        /// Octets.
        len: u64,
        /// CRC-32C of the octets.
        crc: u32,
    },
}

impl Blob {
    /// Its length in octets.
    pub fn len_octets(&self) -> u64 {
        match self {
            Blob::Log { len, .. } => u64::from(*len),
            Blob::File { len, .. } => *len,
        }
    }
}

/// One row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The segment in which it was last written.
    pub home: u32,
    /// Its body, if it owns one.
    pub blob: Option<Blob>,
    /// What its owner put there.
    pub value: Bytes,
    /// The body's octets, while they happen to be in memory.
    pub(super) cached: Option<Bytes>,
}

impl Row {
    /// The form in which the index holds it: `home`, the body's place, the value.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(24 + self.value.len());
        match self.blob {
            None => out.push(0),
            Some(Blob::Log { at, len, crc }) => {
                out.push(1);
                for number in [at.segment, at.offset, len, crc] {
                    out.extend_from_slice(&number.to_le_bytes());
                }
            }
            Some(Blob::File { len, crc }) => {
                out.push(2);
                out.extend_from_slice(&len.to_le_bytes());
                out.extend_from_slice(&crc.to_le_bytes());
            }
        }
        out.extend_from_slice(&self.home.to_le_bytes());
        out.extend_from_slice(&self.value);
        out
    }

    /// Reads [`Row::encode`] back.
    pub(super) fn decode(bytes: &[u8]) -> Result<Row, StoreError> {
        let mut cursor = Cursor(bytes);
        let blob = match cursor.u8()? {
            0 => None,
            1 => {
                let at = Position { segment: cursor.u32()?, offset: cursor.u32()? };
                Some(Blob::Log { at, len: cursor.u32()?, crc: cursor.u32()? })
            }
            2 => Some(Blob::File { len: cursor.u64()?, crc: cursor.u32()? }),
            _ => return Err(StoreError::damaged("a row of an unknown kind")),
        };
        let home = cursor.u32()?;
        Ok(Row { home, blob, value: Bytes::copy_from_slice(cursor.0), cached: None })
    }

    /// What it adds to which segment's living octets.
    pub(super) fn weights(&self, key: &[u8]) -> impl Iterator<Item = (u32, u64)> + use<> {
        let own = (self.home, (key.len() + self.value.len()) as u64);
        let body = match self.blob {
            Some(Blob::Log { at, len, .. }) => Some((at.segment, u64::from(len))),
            _ => None,
        };
        std::iter::once(own).chain(body)
    }
}

/// Reads little-endian numbers off the front of a slice; a short slice is damage, never a panic.
pub(super) struct Cursor<'a>(pub(super) &'a [u8]);

impl<'a> Cursor<'a> {
    pub(super) fn take(&mut self, len: usize) -> Result<&'a [u8], StoreError> {
        let (head, rest) =
            self.0.split_at_checked(len).ok_or_else(|| StoreError::damaged("a record ends early"))?;
        self.0 = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], StoreError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    pub(super) fn u8(&mut self) -> Result<u8, StoreError> {
        Ok(self.array::<1>()?[0])
    }

    pub(super) fn u16(&mut self) -> Result<u16, StoreError> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    pub(super) fn u32(&mut self) -> Result<u32, StoreError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(super) fn u64(&mut self) -> Result<u64, StoreError> {
        Ok(u64::from_le_bytes(self.array()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_reads_back_as_it_was_written() {
        let at = Position { segment: 7, offset: 4096 };
        for blob in [None, Some(Blob::Log { at, len: 9, crc: 3 }), Some(Blob::File { len: 1 << 33, crc: 5 })]
        {
            let row = Row { home: 7, blob, value: Bytes::from_static(b"value"), cached: None };
            let back = Row::decode(&row.encode()).expect("decodes");
            assert_eq!((back.home, back.blob, back.value), (row.home, row.blob, row.value));
        }
    }

    #[test]
    fn a_cut_row_is_damage_and_no_panic() {
        let at = Position { segment: 7, offset: 4096 };
        let row =
            Row { home: 7, blob: Some(Blob::Log { at, len: 9, crc: 3 }), value: Bytes::new(), cached: None };
        let whole = row.encode();
        for cut in 0..whole.len() {
            assert!(Row::decode(&whole[..cut]).is_err(), "cut at {cut}");
        }
    }
}
