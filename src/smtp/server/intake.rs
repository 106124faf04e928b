//! Content as it comes in, by DATA or in chunks (RFC 3030): decoded, counted, and no more of it kept than
//! there may be.

use bytes::{Buf, BytesMut};

use super::Fault;
use crate::smtp::command::Chunk;
use crate::smtp::content::{ContentDecoder, ContentRules};

/// The content of one message.
#[derive(Debug)]
pub(super) struct Intake {
    decoder: ContentDecoder,
    octets: u64,
    max_octets: u64,
    /// What is still to come of the chunk under way, and whether it is the last.
    chunk: Chunk,
}

impl Intake {
    pub(super) fn new(rules: ContentRules, max_octets: u64) -> Self {
        let chunk = Chunk { octets: 0, is_last: false };
        Intake { decoder: ContentDecoder::new(rules), octets: 0, max_octets, chunk }
    }

    /// Takes what follows DATA; whether that was its end.
    pub(super) fn take_data(&mut self, input: &mut BytesMut, content: &mut Vec<u8>) -> bool {
        let before = content.len();
        let fed = self.decoder.feed(input, content);
        input.advance(fed.used);
        self.count(before, content);
        fed.ended
    }

    pub(super) fn begin_chunk(&mut self, chunk: Chunk) {
        self.chunk = chunk;
    }

    /// Takes what there is of a chunk; the chunk where that was its end.
    pub(super) fn take_chunk(&mut self, input: &mut BytesMut, content: &mut Vec<u8>) -> Option<Chunk> {
        let piece = usize::try_from(self.chunk.octets).unwrap_or(usize::MAX).min(input.len());
        let before = content.len();
        self.decoder.feed_chunk(&input[..piece], content);
        input.advance(piece);
        self.chunk.octets -= piece as u64;
        let has_ended = self.chunk.octets == 0;
        if has_ended && self.chunk.is_last {
            self.decoder.end_chunks(content);
        }
        self.count(before, content);
        has_ended.then_some(self.chunk)
    }

    fn count(&mut self, before: usize, content: &mut Vec<u8>) {
        self.octets += (content.len() - before) as u64;
        if self.fault().is_some() {
            // it is read on to the end without being kept
            content.clear();
        }
    }

    /// Octets taken so far.
    pub(super) fn octets(&self) -> u64 {
        self.octets
    }

    /// Why it cannot be taken, as far as it is known.
    pub(super) fn fault(&self) -> Option<Fault> {
        let is_too_large = self.octets > self.max_octets;
        if is_too_large { Some(Fault::TooLarge) } else { self.decoder.fault().map(Fault::Content) }
    }
}
