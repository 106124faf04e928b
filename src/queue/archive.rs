//! Copies on their way to another host: a stream of envelopes with their bodies, checked by sums.
//!
//! ```text
//! barid export 1\n
//! u128 the export's own id
//! M  u32 length, head: u64 since when it is held, u8 length, reason, u64 id, the envelope's row
//!    pieces of the body: u32 length, octets; the last is empty
//!    + for a whole copy, - for one whose body turned out to be damaged; u32 CRC-32C of head and body
//! E  u64 copies, u64 busy, u64 damaged      the last: all is there
//! F  u32 length, text                       the last: it failed
//! ```
//!
//! Numbers are big-endian. The envelope has the form of its row in the store, which names its version.

use std::io::{self, Read};

use super::{Held, Queued, keys, record};
use crate::clock::Timestamp;
use crate::mail::{Envelope, MessageId};
use crate::store::{Batch, NewBody, Reader, StoreError};

const MAGIC: &[u8] = b"barid export 1\n";
/// An envelope with 100,000 long recipients stays below this.
const HEAD_MAX_OCTETS: u32 = 64 << 20;
/// A piece of a body that is longer is damage.
const PIECE_MAX_OCTETS: u32 = 4 << 20;
const REASON_MAX_OCTETS: usize = u8::MAX as usize;

/// How many copies a stream holds, and how many were left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Those in it.
    pub copies: u64,
    /// Those that were being tried.
    pub busy: u64,
    /// Those that do not read.
    pub damaged: u64,
}

/// Why a stream does not read.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// It is something else.
    #[error("this is no export of Barid's, or of a newer version")]
    Foreign,
    /// It ends too early, or a sum is wrong.
    #[error("the export is damaged or cut off behind message {0}; make it again")]
    Damaged(u64),
    /// Whoever made it says that it failed.
    #[error("the export failed: {0}")]
    Failed(String),
    /// It could not be read.
    #[error("reading the export: {0}")]
    Io(#[from] io::Error),
    /// What its content is handed to failed.
    #[error("{0}")]
    Taker(String),
}

/// What an export is known by: two of the same are one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArchiveId(pub u128);

/// What a stream begins with.
pub fn begin(id: ArchiveId) -> Vec<u8> {
    [MAGIC, &id.0.to_be_bytes()].concat()
}

/// What stands before a copy's body, and the sum so far. That it is held for the sake of an export is no
/// business of whoever takes it in.
pub fn head(copy: &Queued) -> (Vec<u8>, u32) {
    let held = copy.held.as_ref().filter(|_| !copy.is_exported());
    let (reason, since) = held.map_or(("", None), |held| (&*held.reason, held.since));
    let reason = &reason.as_bytes()[..reason.len().min(REASON_MAX_OCTETS)];
    let (since, id) = (since.unwrap_or(Timestamp::ZERO).as_millis(), copy.envelope.id.as_u64());
    let row = record::encode(copy);
    let head = [&since.to_be_bytes()[..], &[reason.len() as u8], reason, &id.to_be_bytes(), &row].concat();
    let crc = crc32c::crc32c(&head);
    ([&b"M"[..], &(head.len() as u32).to_be_bytes(), &head].concat(), crc)
}

/// What stands before a piece of a body.
pub fn piece(octets: &[u8]) -> [u8; 4] {
    (octets.len() as u32).to_be_bytes()
}

/// What stands behind a body, by the sum of head and body.
pub fn tail(is_whole: bool, crc: u32) -> Vec<u8> {
    let state = if is_whole { b"+" } else { b"-" };
    [&[0; 4][..], state, &crc.to_be_bytes()].concat()
}

/// The last of a stream.
pub fn end(totals: Totals) -> Vec<u8> {
    let Totals { copies, busy, damaged } = totals;
    [&b"E"[..], &copies.to_be_bytes(), &busy.to_be_bytes(), &damaged.to_be_bytes()].concat()
}

/// The last of a stream that failed.
pub fn failed(why: &str) -> Vec<u8> {
    [&b"F"[..], &(why.len() as u32).to_be_bytes(), why.as_bytes()].concat()
}

/// How many copies of an export are in this store, or were. Blocking.
pub fn imported(reader: &Reader, archive: ArchiveId) -> Result<u64, StoreError> {
    let row = reader.get(&keys::imported(archive.0))?;
    Ok(row.and_then(|row| row.value[..].try_into().ok()).map_or(0, u64::from_be_bytes))
}

/// Notes that so many copies of an export are in the store with this batch.
pub fn note_imported(batch: &mut Batch, archive: ArchiveId, count: u64) {
    batch.put(keys::imported(archive.0), count.to_be_bytes().to_vec());
}

/// A copy out of a stream, without its body.
#[derive(Debug)]
pub struct Entry(Queued);

impl Entry {
    /// The length of its body.
    pub fn body_octets(&self) -> u64 {
        self.0.envelope.size_octets
    }

    /// Adds the copy under a new id, with its age, its attempts and its time to live; where it was held, it is.
    pub fn enqueue(self, batch: &mut Batch, id: MessageId, body: NewBody, now: Timestamp) {
        let Queued { envelope, due, expires, held, .. } = self.0;
        super::enqueue(batch, vec![(Envelope { id, ..envelope.clone() }, due)], body, expires);
        if let Some(Held { reason, since, .. }) = held {
            let envelope = Envelope { id, ..envelope };
            let copy = Queued { envelope, due, expires, shared_body: None, held: None };
            super::hold(batch, &copy, &reason, since.unwrap_or(now));
        }
    }
}

/// Takes what is read of a body, piece by piece.
pub type BodyTaker<'a> = &'a mut dyn FnMut(&[u8]) -> Result<(), String>;

/// A stream that is read. Blocking.
pub struct Archive<R> {
    input: R,
    id: ArchiveId,
    read: u64,
    crc: u32,
}

impl<R: Read> Archive<R> {
    /// Reads the beginning.
    pub fn open(mut input: R) -> Result<Self, ArchiveError> {
        let (mut magic, mut id) = ([0; MAGIC.len()], [0; 16]);
        let is_ours = input.read_exact(&mut magic).is_ok() && magic == *MAGIC;
        if !is_ours || input.read_exact(&mut id).is_err() {
            return Err(ArchiveError::Foreign);
        }
        Ok(Archive { input, id: ArchiveId(u128::from_be_bytes(id)), read: 0, crc: 0 })
    }

    /// What it is known by.
    pub fn id(&self) -> ArchiveId {
        self.id
    }

    fn exactly<const N: usize>(&mut self) -> Result<[u8; N], ArchiveError> {
        let mut octets = [0; N];
        self.input.read_exact(&mut octets).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => ArchiveError::Damaged(self.read),
            _ => ArchiveError::Io(error),
        })?;
        Ok(octets)
    }

    fn vec(&mut self, limit_octets: u32) -> Result<Vec<u8>, ArchiveError> {
        let length = u32::from_be_bytes(self.exactly()?);
        if length > limit_octets {
            return Err(ArchiveError::Damaged(self.read));
        }
        let mut octets = Vec::new();
        // grows with what is there, whatever length was said
        let read = (&mut self.input).take(u64::from(length)).read_to_end(&mut octets)?;
        if read == length as usize { Ok(octets) } else { Err(ArchiveError::Damaged(self.read)) }
    }

    /// The next copy; its body must be read before the one after. At the end, what the stream says of itself.
    pub fn next_entry(&mut self) -> Result<Result<Entry, Totals>, ArchiveError> {
        match self.exactly::<1>()? {
            [b'M'] => self.entry().map(Ok),
            [b'E'] => {
                let mut number = || self.exactly().map(u64::from_be_bytes);
                let totals = Totals { copies: number()?, busy: number()?, damaged: number()? };
                if totals.copies == self.read {
                    Ok(Err(totals))
                } else {
                    Err(ArchiveError::Damaged(self.read))
                }
            }
            [b'F'] => {
                let text = self.vec(HEAD_MAX_OCTETS)?;
                Err(ArchiveError::Failed(String::from_utf8_lossy(&text).into_owned()))
            }
            _ => Err(ArchiveError::Damaged(self.read)),
        }
    }

    fn entry(&mut self) -> Result<Entry, ArchiveError> {
        let head = self.vec(HEAD_MAX_OCTETS)?;
        self.crc = crc32c::crc32c(&head);
        parse_head(&head).map(Entry).ok_or(ArchiveError::Damaged(self.read))
    }

    /// Reads the body of the copy that was read last; whether it is whole. One that is not must not be taken.
    pub fn body(&mut self, take: BodyTaker<'_>) -> Result<bool, ArchiveError> {
        loop {
            let piece = self.vec(PIECE_MAX_OCTETS)?;
            if piece.is_empty() {
                break;
            }
            self.crc = crc32c::crc32c_append(self.crc, &piece);
            take(&piece).map_err(ArchiveError::Taker)?;
        }
        let ([state], crc) = (self.exactly()?, u32::from_be_bytes(self.exactly()?));
        if crc != self.crc || !matches!(state, b'+' | b'-') {
            return Err(ArchiveError::Damaged(self.read));
        }
        self.read += u64::from(state == b'+');
        Ok(state == b'+')
    }
}

fn parse_head(head: &[u8]) -> Option<Queued> {
    let (since, rest) = head.split_first_chunk::<8>()?;
    let (length, rest) = rest.split_first()?;
    let (reason, rest) = rest.split_at_checked(usize::from(*length))?;
    let (id, row) = rest.split_first_chunk::<8>()?;
    let id = MessageId::from_u64(u64::from_be_bytes(*id));
    let mut copy = record::decode(id, row).ok()?;
    let since = Some(u64::from_be_bytes(*since)).filter(|since| *since > 0).map(Timestamp::from_millis);
    let reason = std::str::from_utf8(reason).ok()?;
    copy.held = (!reason.is_empty()).then(|| Held { reason: reason.into(), since, before: None });
    Some(copy)
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::queued;
    use super::*;

    const ID: ArchiveId = ArchiveId(7);

    fn stream() -> Vec<u8> {
        let mut octets = begin(ID);
        let bodies = [&b"one\r\n"[..], &[b'x'; 100_000], b"half"];
        let reasons = [None, Some("operator"), Some("exported-7")];
        for ((id, body), reason) in (7..).zip(bodies).zip(reasons) {
            let since = Some(Timestamp::from_millis(44));
            let held = reason.map(|reason: &str| Held { reason: reason.into(), since, before: None });
            let copy = Queued { held, ..queued(id, "c@d.example", 5) };
            let (head, crc) = head(&copy);
            octets.extend_from_slice(&head);
            octets.extend_from_slice(&piece(body));
            octets.extend_from_slice(body);
            octets.extend_from_slice(&tail(body != b"half", crc32c::crc32c_append(crc, body)));
        }
        octets.extend_from_slice(&end(Totals { copies: 2, busy: 1, damaged: 1 }));
        octets
    }

    /// The id of each copy, why it is held, the length of its body, and whether that is whole.
    type Copies = Vec<(u64, Option<String>, usize, bool)>;

    fn read(octets: &[u8]) -> Result<(Copies, Totals), ArchiveError> {
        let (mut archive, mut read) = (Archive::open(octets)?, Vec::new());
        assert_eq!(archive.id(), ID);
        loop {
            match archive.next_entry()? {
                Err(totals) => return Ok((read, totals)),
                Ok(entry) => {
                    let mut length = 0;
                    let mut take = |piece: &[u8]| {
                        length += piece.len();
                        Ok(())
                    };
                    let is_whole = archive.body(&mut take)?;
                    let id = entry.0.envelope.id.as_u64();
                    read.push((id, entry.0.held().map(str::to_owned), length, is_whole));
                }
            }
        }
    }

    #[test]
    fn what_was_written_is_read() {
        let (copies, totals) = read(&stream()).expect("reads");
        let held = Some("operator".to_owned());
        assert_eq!(copies, [(7, None, 5, true), (8, held, 100_000, true), (9, None, 4, false)]);
        assert_eq!(totals, Totals { copies: 2, busy: 1, damaged: 1 });
    }

    #[test]
    fn what_is_cut_off_or_changed_is_never_taken_for_whole() {
        let whole = stream();
        let step = |at: &usize| *at < 400 || *at > whole.len() - 60 || at.is_multiple_of(997);
        for at in (0..whole.len()).filter(step) {
            assert!(read(&whole[..at]).is_err(), "cut at {at}");
            let (mut changed, start) = (whole.clone(), MAGIC.len()..MAGIC.len() + 16);
            changed[at] ^= 1;
            let is_unchecked = start.contains(&at) || at >= whole.len() - 16;
            assert!(is_unchecked || read(&changed).is_err(), "changed at {at}");
        }
        let told = read(&[begin(ID), failed("no room")].concat()).expect_err("failed").to_string();
        assert_eq!(told, "the export failed: no room");
    }
}
