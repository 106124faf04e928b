//! The load's messages: what the sender makes and the sink makes again.
//!
//! Owns the one rule by which a message follows from its id and size alone:
//!
//! ```text
//! X-Barid-Load: id=<id>; size=<bytes>
//! From, To, Subject, Date, Message-ID
//!
//! lines of the filler, from a place that depends on the id
//! ```
//!
//! Promises: a message is exactly `size` octets long from its first header
//! line on, contains no bare CR or LF, ends in CRLF, and in some places has
//! empty lines and lines that begin with dots. Making one copies prebuilt
//! octets and formats only the head.
//!
//! Never touches a socket, and knows nothing of dot-stuffing.

use std::{fmt, io::Write as _, iter};

/// What opens the head of every message, up to the id.
pub(crate) const MARK: &[u8] = b"X-Barid-Load: id=";
/// The longest id a message may bear.
pub(crate) const ID_BYTES: usize = 96;
/// The largest message either side will make.
pub(crate) const MESSAGE_BYTES: usize = 64 << 20;

/// The shortest body: it must end its last line.
const BODY_MIN_BYTES: usize = 2;
/// The filler's unit, which holds whole lines only.
const BLOCK_BYTES: usize = 64;
/// How many blocks go round; a prime, so that no size of message falls in step.
const RING_BLOCKS: usize = 1021;
/// One block in so many holds short, empty and dotted lines.
const DOTTED_BLOCK_EVERY: usize = 256;
/// That block, with every way in which a dot can begin a line.
const DOTTED_BLOCK: &[u8; BLOCK_BYTES] =
    b".\r\n..\r\n...\r\n\r\nFrom here on dots lead\r\n. a line\r\n\r\n..and end...\r\n";
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz ,.-+=";

/// Why an id and a size make no message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unfit {
    /// The id is empty, too long, or not of letters, digits, `.`, `_`, `-`.
    Id,
    /// The size is less than this, which the head alone takes.
    TooSmall(usize),
    /// The size is beyond [`MESSAGE_BYTES`].
    TooLarge,
}

impl fmt::Display for Unfit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id => {
                write!(formatter, "an id is 1 to {ID_BYTES} of letters, digits, '.', '_' and '-'")
            }
            Self::TooSmall(least) => write!(formatter, "the head alone takes {least} octets"),
            Self::TooLarge => write!(formatter, "a message has at most {MESSAGE_BYTES} octets"),
        }
    }
}

impl std::error::Error for Unfit {}

/// The filler all messages are cut from.
pub(crate) struct Template {
    ring: Vec<u8>,
}

impl Template {
    /// Builds the filler, the same one every time.
    pub(crate) fn new() -> Self {
        let mut ring = Vec::with_capacity(RING_BLOCKS * BLOCK_BYTES);
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        for block in 0..RING_BLOCKS {
            if block % DOTTED_BLOCK_EVERY == 1 {
                ring.extend_from_slice(DOTTED_BLOCK);
                continue;
            }
            for _ in 2..BLOCK_BYTES {
                // Xorshift: the two ends need the same octets, not good ones.
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                ring.push(ALPHABET[(state >> 59) as usize]);
            }
            ring.extend_from_slice(b"\r\n");
        }
        Self { ring }
    }

    /// Writes the head of message `id` into the emptied `head` and returns the
    /// pieces of the body that follows it.
    pub(crate) fn message<'a>(
        &'a self,
        id: &str,
        size: usize,
        head: &mut Vec<u8>,
    ) -> Result<impl Iterator<Item = &'a [u8]> + use<'a>, Unfit> {
        if size > MESSAGE_BYTES {
            return Err(Unfit::TooLarge);
        }
        write_head(id, size, head)?;
        let body = size.checked_sub(head.len()).filter(|body| *body >= BODY_MIN_BYTES);
        let body = body.ok_or(Unfit::TooSmall(head.len() + BODY_MIN_BYTES))?;
        Ok(self.body(id, body))
    }

    fn body(&self, id: &str, length: usize) -> impl Iterator<Item = &[u8]> + use<'_> {
        let start = hash(id) as usize % RING_BLOCKS * BLOCK_BYTES;
        let mut left = length - BODY_MIN_BYTES;
        let mut tail: &[u8] = b"\r\n";
        // A cut between CR and LF would leave a bare CR before the tail.
        if left > 0 && self.ring[(start + left - 1) % self.ring.len()] == b'\r' {
            left -= 1;
            tail = b"=\r\n";
        }
        let mut place = start;
        let slices = iter::from_fn(move || {
            let end = (place + left).min(self.ring.len());
            let slice = &self.ring[place..end];
            left -= slice.len();
            place = 0;
            (!slice.is_empty()).then_some(slice)
        });
        slices.chain(iter::once(tail))
    }
}

fn write_head(id: &str, size: usize, head: &mut Vec<u8>) -> Result<(), Unfit> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if id.is_empty() || id.len() > ID_BYTES || !id.bytes().all(plain) {
        return Err(Unfit::Id);
    }
    head.clear();
    head.extend_from_slice(MARK);
    write!(
        head,
        "{id}; size={size}\r\n\
         From: <load@sender.test>\r\n\
         To: undisclosed-recipients:;\r\n\
         Subject: load {id}\r\n\
         Date: Thu, 01 Jan 2026 00:00:00 +0000\r\n\
         Message-ID: <{id}@sender.test>\r\n\
         \r\n"
    )
    .map_err(|_| Unfit::TooLarge)
}

/// FNV-1a: it spreads the bodies' beginnings, so that the text of one message
/// ending up in another is noticed.
fn hash(id: &str) -> u32 {
    id.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(template: &Template, id: &str, size: usize) -> Result<Vec<u8>, Unfit> {
        let mut whole = Vec::new();
        let pieces = template.message(id, size, &mut whole)?;
        pieces.for_each(|piece| whole.extend_from_slice(piece));
        Ok(whole)
    }

    #[test]
    fn every_size_is_met_with_whole_lines() -> Result<(), Unfit> {
        let template = Template::new();
        let Err(Unfit::TooSmall(least)) = whole(&template, "run-1", 1) else {
            return Err(Unfit::Id);
        };
        for size in (300..700).chain([65_536, 65_537, 200_000]).filter(|size| *size > least) {
            let message = whole(&template, "run-1", size)?;
            assert_eq!(message.len(), size);
            assert!(message.ends_with(b"\r\n"));
            for (place, byte) in message.iter().enumerate() {
                let follows_cr = place > 0 && message[place - 1] == b'\r';
                assert_eq!(*byte == b'\n', follows_cr, "octet {place} of {size}");
            }
        }
        Ok(())
    }

    #[test]
    fn bodies_differ_by_id() -> Result<(), Unfit> {
        let template = Template::new();
        let tail = |id| whole(&template, id, 4096).map(|message| message[2048..].to_vec());
        assert_ne!(tail("run-1")?, tail("run-2")?);
        assert_eq!(tail("run-1")?, tail("run-1")?);
        Ok(())
    }

    #[test]
    fn unfit_orders_are_refused() {
        let template = Template::new();
        for id in ["", "a b", "a\r\nb", "a;b", &"x".repeat(ID_BYTES + 1)] {
            assert_eq!(whole(&template, id, 4096), Err(Unfit::Id), "{id:?}");
        }
        assert_eq!(whole(&template, "a", MESSAGE_BYTES + 1), Err(Unfit::TooLarge));
    }
}
