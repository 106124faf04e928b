//! A chunk that nobody wants (RFC 3030 2): it follows its command all the same, and is read over to where the
//! next command is.

use bytes::{Buf, BytesMut};

use super::State;
use crate::mail::Reply;

/// The chunk, what is said at its end, and what follows then.
#[derive(Debug)]
pub(super) struct Unwanted {
    left: u64,
    skipped: u64,
    pub(super) reply: Reply,
    pub(super) then: State,
}

impl Unwanted {
    pub(super) fn new(octets: u64, reply: Reply, then: State) -> Self {
        Unwanted { left: octets, skipped: 0, reply, then }
    }

    /// Reads over what there is; whether that was its end.
    pub(super) fn skip(&mut self, input: &mut BytesMut) -> bool {
        let piece = usize::try_from(self.left).unwrap_or(usize::MAX).min(input.len());
        input.advance(piece);
        self.left -= piece as u64;
        self.skipped += piece as u64;
        self.left == 0
    }

    /// Octets read over so far.
    pub(super) fn skipped(&self) -> u64 {
        self.skipped
    }
}
