//! Copies on their way to another host: a stream of envelopes with their bodies, checked by sums.
//!
//! ```text
//! barid export 1\n
//! M  u32 length, head: u64 id, u8 length, reason for which it is held, the envelope's row
//!    u64 length, body
//!    u32 CRC-32C of head and body
//! E  u64 copies, u64 busy, u64 damaged      the last: all is there
//! F  u32 length, text                       the last: it failed
//! ```
//!
//! Numbers are big-endian. The envelope has the form of its row in the store, which names its version.

use std::io::{self, Read};

use super::{Queued, record};
use crate::clock::Timestamp;
use crate::mail::{Envelope, MessageId};
use crate::store::{Batch, NewBody};

/// What a stream begins with.
pub const MAGIC: &[u8] = b"barid export 1\n";
/// An envelope with 100,000 long recipients stays below this.
const HEAD_MAX_OCTETS: u32 = 64 << 20;
const REASON_MAX_OCTETS: usize = u8::MAX as usize;

/// How many copies a stream holds, and how many were left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Those in it.
    pub copies: u64,
    /// Those that were being tried.
    pub busy: u64,
    /// Those whose bodies do not read.
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

/// What stands before a copy's body, and the sum so far.
pub fn head(copy: &Queued, body_octets: u64) -> (Vec<u8>, u32) {
    let reason = copy.held().unwrap_or_default();
    let reason = &reason.as_bytes()[..reason.len().min(REASON_MAX_OCTETS)];
    let row = record::encode(copy);
    let id = copy.envelope.id.as_u64().to_be_bytes();
    let head = [&id[..], &[reason.len() as u8], reason, &row].concat();
    let crc = crc32c::crc32c(&head);
    let length = (head.len() as u32).to_be_bytes();
    ([&b"M"[..], &length, &head, &body_octets.to_be_bytes()].concat(), crc)
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

/// A copy out of a stream, without its body.
#[derive(Debug)]
pub struct Entry {
    copy: Queued,
    /// The length of its body.
    pub body_octets: u64,
}

impl Entry {
    /// Adds the copy under a new id, with its age, its attempts and its time to live; where it was held, it is.
    pub fn enqueue(self, batch: &mut Batch, id: MessageId, body: NewBody, now: Timestamp) {
        let Queued { envelope, due, expires, held, .. } = self.copy;
        super::enqueue(batch, vec![(Envelope { id, ..envelope.clone() }, due)], body, expires);
        if let Some((reason, _)) = held {
            let copy =
                Queued { envelope: Envelope { id, ..envelope }, due, expires, shared_body: None, held: None };
            super::hold(batch, &copy, &reason, now);
        }
    }
}

/// Takes what is read of a body, piece by piece.
pub type BodyTaker<'a> = &'a mut dyn FnMut(&[u8]) -> Result<(), String>;

/// A stream that is read. Blocking.
pub struct Archive<R> {
    input: R,
    read: u64,
    crc: u32,
}

impl<R: Read> Archive<R> {
    /// Reads the beginning.
    pub fn open(mut input: R) -> Result<Self, ArchiveError> {
        let mut magic = [0; MAGIC.len()];
        let is_ours = input.read_exact(&mut magic).is_ok() && magic == *MAGIC;
        if is_ours { Ok(Archive { input, read: 0, crc: 0 }) } else { Err(ArchiveError::Foreign) }
    }

    fn exactly<const N: usize>(&mut self) -> Result<[u8; N], ArchiveError> {
        let mut octets = [0; N];
        self.fill(&mut octets)?;
        Ok(octets)
    }

    fn fill(&mut self, octets: &mut [u8]) -> Result<(), ArchiveError> {
        self.input.read_exact(octets).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => ArchiveError::Damaged(self.read),
            _ => ArchiveError::Io(error),
        })
    }

    fn vec(&mut self, length: u32) -> Result<Vec<u8>, ArchiveError> {
        if length > HEAD_MAX_OCTETS {
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
                let length = u32::from_be_bytes(self.exactly()?);
                Err(ArchiveError::Failed(String::from_utf8_lossy(&self.vec(length)?).into_owned()))
            }
            _ => Err(ArchiveError::Damaged(self.read)),
        }
    }

    fn entry(&mut self) -> Result<Entry, ArchiveError> {
        let damaged = ArchiveError::Damaged(self.read);
        let length = u32::from_be_bytes(self.exactly()?);
        let head = self.vec(length)?;
        self.crc = crc32c::crc32c(&head);
        let body_octets = u64::from_be_bytes(self.exactly()?);
        let parts = head.split_first_chunk::<8>().and_then(|(id, rest)| {
            let (length, rest) = rest.split_first()?;
            Some((id, rest.split_at_checked(usize::from(*length))?))
        });
        let Some((id, (reason, row))) = parts else { return Err(damaged) };
        let id = MessageId::from_u64(u64::from_be_bytes(*id));
        let (Ok(mut copy), Ok(reason)) = (record::decode(id, row), std::str::from_utf8(reason)) else {
            return Err(damaged);
        };
        copy.held = (!reason.is_empty()).then(|| (reason.into(), None));
        Ok(Entry { copy, body_octets })
    }

    /// Reads the body of the copy that was read last.
    pub fn body(&mut self, entry: &Entry, take: BodyTaker<'_>) -> Result<(), ArchiveError> {
        let mut left = entry.body_octets;
        let mut piece = vec![0; 64 << 10];
        while left > 0 {
            let length = usize::try_from(left).unwrap_or(usize::MAX).min(piece.len());
            self.fill(&mut piece[..length])?;
            self.crc = crc32c::crc32c_append(self.crc, &piece[..length]);
            take(&piece[..length]).map_err(ArchiveError::Taker)?;
            left -= length as u64;
        }
        let crc = u32::from_be_bytes(self.exactly()?);
        if crc != self.crc {
            return Err(ArchiveError::Damaged(self.read));
        }
        self.read += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::queued;
    use super::*;

    fn stream() -> Vec<u8> {
        let mut octets = MAGIC.to_vec();
        for (id, reason, body) in [(7, None, &b"one\r\n"[..]), (9, Some("operator"), &[b'x'; 100_000])] {
            let held = reason.map(|reason: &str| (reason.into(), None));
            let copy = Queued { held, ..queued(id, "c@d.example", 5) };
            let (head, crc) = head(&copy, body.len() as u64);
            octets.extend_from_slice(&head);
            octets.extend_from_slice(body);
            octets.extend_from_slice(&crc32c::crc32c_append(crc, body).to_be_bytes());
        }
        octets.extend_from_slice(&end(Totals { copies: 2, busy: 1, damaged: 0 }));
        octets
    }

    /// The id of each copy, why it is held, and the length of its body.
    type Copies = Vec<(u64, Option<String>, usize)>;

    fn read(octets: &[u8]) -> Result<(Copies, Totals), ArchiveError> {
        let (mut archive, mut read) = (Archive::open(octets)?, Vec::new());
        loop {
            match archive.next_entry()? {
                Err(totals) => return Ok((read, totals)),
                Ok(entry) => {
                    let mut length = 0;
                    let mut take = |piece: &[u8]| {
                        length += piece.len();
                        Ok(())
                    };
                    archive.body(&entry, &mut take)?;
                    let id = entry.copy.envelope.id.as_u64();
                    read.push((id, entry.copy.held().map(str::to_owned), length));
                }
            }
        }
    }

    #[test]
    fn what_was_written_is_read() {
        let (copies, totals) = read(&stream()).expect("reads");
        assert_eq!(copies, [(7, None, 5), (9, Some("operator".into()), 100_000)]);
        assert_eq!(totals, Totals { copies: 2, busy: 1, damaged: 0 });
    }

    #[test]
    fn what_is_cut_off_or_changed_is_never_taken_for_whole() {
        let whole = stream();
        let step = |at: &usize| *at < 400 || *at > whole.len() - 60 || at.is_multiple_of(997);
        for at in (0..whole.len()).filter(step) {
            assert!(read(&whole[..at]).is_err(), "cut at {at}");
            let mut changed = whole.clone();
            changed[at] ^= 1;
            let is_of_totals = at >= whole.len() - 16;
            assert!(is_of_totals || read(&changed).is_err(), "changed at {at}");
        }
        let told = read(&[MAGIC, &failed("no room")].concat()).expect_err("failed").to_string();
        assert_eq!(told, "the export failed: no room");
    }
}
