//! Message content between DATA and its final dot (RFC 5321 4.1.1.4, 4.5.2), both ways.
//!
//! Coming in, only CRLF.CRLF ends it. A bare CR or LF, or a NUL, spoils the message, not the session:
//! the decoder reads on to the true end, so that what a smuggler hid behind a false end stays content.

/// Why content cannot be taken, though it was read to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContentFault {
    /// CR without LF, or LF without CR.
    #[error("a bare CR or LF; lines must end in CRLF")]
    BareLineEnd,
    /// An octet zero.
    #[error("a NUL")]
    Nul,
    /// Over [`ContentRules::line_max_octets`].
    #[error("a line that is too long")]
    LongLine,
}

/// What is asked of content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContentRules {
    /// Octets of a line, without its end.
    pub line_max_octets: usize,
    /// Whether a bare CR or LF becomes the CRLF that was meant, instead of spoiling the message. It never ends
    /// content, whatever stands around it.
    pub normalizes: bool,
}

/// Where the decoder stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum At {
    /// Behind a CRLF, or at the very start.
    #[default]
    LineStart,
    /// Behind a dot that began a line.
    Dot,
    /// Behind `.` CR at the start of a line.
    DotCr,
    Text,
    /// Behind a CR that may be half of a CRLF.
    TextCr,
}

/// What one call took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fed {
    /// Octets of the input that were used up.
    pub used: usize,
    /// Whether the final dot was among them.
    pub ended: bool,
}

/// Takes content apart: removes dot-stuffing, finds the end, notices what may not be in mail.
///
/// Behind a bare line end that becomes a CRLF no dot means anything: it may neither be stuffed nor end
/// content, for others read that place otherwise.
#[derive(Debug)]
pub struct ContentDecoder {
    rules: ContentRules,
    at: At,
    line_octets: usize,
    fault: Option<ContentFault>,
}

impl ContentDecoder {
    /// One that stands at the beginning.
    pub fn new(rules: ContentRules) -> Self {
        ContentDecoder { rules, at: At::LineStart, line_octets: 0, fault: None }
    }

    /// The first fault seen so far.
    pub fn fault(&self) -> Option<ContentFault> {
        self.fault
    }

    /// Decodes what follows DATA and appends it to `content`.
    pub fn feed(&mut self, input: &[u8], content: &mut Vec<u8>) -> Fed {
        let mut used = 0;
        while let Some(&octet) = input.get(used) {
            match (self.at, octet) {
                (At::LineStart, b'.') => (self.at, used) = (At::Dot, used + 1),
                (At::LineStart, _) => self.at = At::Text,
                (At::Dot, b'\r') => (self.at, used) = (At::DotCr, used + 1),
                // a stuffed dot, or one that a careless client did not stuff: it goes (RFC 5321 4.5.2)
                (At::Dot, _) => self.at = At::Text,
                (At::DotCr, b'\n') => return Fed { used: used + 1, ended: true },
                (At::TextCr, b'\n') => {
                    self.end_line(content);
                    (self.at, used) = (At::LineStart, used + 1);
                }
                (At::DotCr | At::TextCr, _) => {
                    self.bare(b'\r', content);
                    self.at = At::Text;
                }
                (At::Text, _) => used += self.text(&input[used..], content),
            }
        }
        Fed { used, ended: false }
    }

    /// Takes a piece of a chunk (RFC 3030 2), where no dot means anything, and appends it to `content`.
    pub fn feed_chunk(&mut self, input: &[u8], content: &mut Vec<u8>) {
        let mut used = 0;
        while let Some(&octet) = input.get(used) {
            match (self.at, octet) {
                (At::TextCr, b'\n') => {
                    self.end_line(content);
                    (self.at, used) = (At::Text, used + 1);
                }
                (At::TextCr, _) => {
                    self.bare(b'\r', content);
                    self.at = At::Text;
                }
                _ => {
                    self.at = At::Text;
                    used += self.text(&input[used..], content);
                }
            }
        }
    }

    /// The last chunk has ended.
    pub fn end_chunks(&mut self, content: &mut Vec<u8>) {
        if self.at == At::TextCr {
            self.bare(b'\r', content);
        }
    }

    /// A run of text up to and including the next octet that matters.
    fn text(&mut self, input: &[u8], content: &mut Vec<u8>) -> usize {
        let end = memchr::memchr3(b'\r', b'\n', 0, input);
        let run = &input[..end.unwrap_or(input.len())];
        content.extend_from_slice(run);
        self.line_octets += run.len();
        if self.line_octets > self.rules.line_max_octets {
            self.spoil(ContentFault::LongLine);
        }
        let Some(end) = end else { return input.len() };
        match input[end] {
            b'\r' => self.at = At::TextCr,
            b'\n' => self.bare(b'\n', content),
            _ => {
                self.spoil(ContentFault::Nul);
                content.push(0);
            }
        }
        end + 1
    }

    fn end_line(&mut self, content: &mut Vec<u8>) {
        content.extend_from_slice(b"\r\n");
        self.line_octets = 0;
    }

    fn bare(&mut self, octet: u8, content: &mut Vec<u8>) {
        if self.rules.normalizes {
            return self.end_line(content);
        }
        self.spoil(ContentFault::BareLineEnd);
        content.push(octet);
    }

    fn spoil(&mut self, fault: ContentFault) {
        self.fault.get_or_insert(fault);
    }
}

/// Stuffs dots into content that goes out, piece by piece, and ends it.
#[derive(Debug)]
pub struct DotStuffer {
    /// The last two octets written, as far as they matter.
    behind_crlf: bool,
    behind_cr: bool,
}

impl Default for DotStuffer {
    fn default() -> Self {
        DotStuffer { behind_crlf: true, behind_cr: false }
    }
}

impl DotStuffer {
    /// Appends the next piece to `out`.
    pub fn stuff(&mut self, content: &[u8], out: &mut Vec<u8>) {
        let Some(&last) = content.last() else { return };
        if self.behind_crlf && content[0] == b'.' {
            out.push(b'.');
        }
        // "\r\n" may be split over two pieces
        if self.behind_cr && content.starts_with(b"\n.") {
            out.extend_from_slice(b"\n.");
            self.note_end(last, content);
            return self.stuff_rest(&content[1..], out);
        }
        self.note_end(last, content);
        self.stuff_rest(content, out);
    }

    fn note_end(&mut self, last: u8, content: &[u8]) {
        self.behind_crlf = content.ends_with(b"\r\n") || (content == b"\n" && self.behind_cr);
        self.behind_cr = last == b'\r';
    }

    fn stuff_rest(&self, mut rest: &[u8], out: &mut Vec<u8>) {
        while let Some(at) = memchr::memmem::find(rest, b"\r\n.") {
            out.extend_from_slice(&rest[..at + 3]);
            out.push(b'.');
            rest = &rest[at + 3..];
        }
        out.extend_from_slice(rest);
    }

    /// Appends the final dot; content that lacks a last CRLF gets one.
    pub fn finish(self, out: &mut Vec<u8>) {
        out.extend_from_slice(if self.behind_crlf { b".\r\n" } else { b"\r\n.\r\n" });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STRICT: ContentRules = ContentRules { line_max_octets: 6, normalizes: false };
    const LENIENT: ContentRules = ContentRules { normalizes: true, ..STRICT };

    /// Decodes in the chunks given; what comes out, the fault, and what was left over.
    fn decode(input: &[u8], chunk: usize) -> (Vec<u8>, Option<ContentFault>, Option<usize>) {
        decode_by(STRICT, input, chunk)
    }

    fn decode_by(
        rules: ContentRules,
        input: &[u8],
        chunk: usize,
    ) -> (Vec<u8>, Option<ContentFault>, Option<usize>) {
        let (mut decoder, mut content, mut used) = (ContentDecoder::new(rules), Vec::new(), 0);
        for piece in input.chunks(chunk.max(1)) {
            let fed = decoder.feed(piece, &mut content);
            used += fed.used;
            if fed.ended {
                return (content, decoder.fault(), Some(used));
            }
        }
        (content, decoder.fault(), None)
    }

    #[test]
    fn only_crlf_dot_crlf_ends_content() {
        use ContentFault::{BareLineEnd, LongLine, Nul};
        for (input, content, fault, ends) in [
            ("a\r\n.\r\n", "a\r\n", None, true),
            (".\r\n", "", None, true),
            ("..\r\n.\r\n", ".\r\n", None, true),
            (".a\r\n.\r\n", "a\r\n", None, true),
            ("a\r\n..b\r\n.\r\n", "a\r\n.b\r\n", None, true),
            ("a\n.\r\nb\r\n.\r\n", "a\n.\r\nb\r\n", Some(BareLineEnd), true),
            ("a\n.\nb\r\n.\r\n", "a\n.\nb\r\n", Some(BareLineEnd), true),
            ("a\r\n.\nb\r\n.\r\n", "a\r\n\nb\r\n", Some(BareLineEnd), true),
            ("a\r\n.\rb\r\n.\r\n", "a\r\n\rb\r\n", Some(BareLineEnd), true),
            ("a\r.\r\n.\r\n", "a\r.\r\n", Some(BareLineEnd), true),
            ("a\r.\r", "a\r.", Some(BareLineEnd), false),
            ("a\r\r\n.\r\n", "a\r\r\n", Some(BareLineEnd), true),
            ("a\0b\r\n.\r\n", "a\0b\r\n", Some(Nul), true),
            ("a\r\n.", "a\r\n", None, false),
            ("a\r\n.\r", "a\r\n", None, false),
            ("a.\r\n", "a.\r\n", None, false),
            ("123456\r\n.\r\n", "123456\r\n", None, true),
            ("1234567\r\n.\r\n", "1234567\r\n", Some(LongLine), true),
        ] {
            for chunk in 1..=input.len() {
                let (got, why, end) = decode(input.as_bytes(), chunk);
                assert_eq!(
                    (String::from_utf8_lossy(&got).as_ref(), why, end.is_some()),
                    (content, fault, ends),
                    "{input:?} in chunks of {chunk}"
                );
            }
        }
    }

    #[test]
    fn what_was_meant_as_a_line_end_becomes_one_and_ends_nothing() {
        use ContentFault::{LongLine, Nul};
        for (input, content, fault) in [
            ("a\nb\r\n.\r\n", "a\r\nb\r\n", None),
            ("a\rb\r\n.\r\n", "a\r\nb\r\n", None),
            ("a\n.\r\nb\r\n.\r\n", "a\r\n.\r\nb\r\n", None),
            ("a\n.\nb\r\n.\r\n", "a\r\n.\r\nb\r\n", None),
            ("a\r\n.\nb\r\n.\r\n", "a\r\n\r\nb\r\n", None),
            ("a\r\n.\rb\r\n.\r\n", "a\r\n\r\nb\r\n", None),
            ("a\r\r\n.\r\n", "a\r\n\r\n", None),
            ("a\n..b\r\n.\r\n", "a\r\n..b\r\n", None),
            ("a\0\n\r\n.\r\n", "a\0\r\n\r\n", Some(Nul)),
            ("1234567\n\r\n.\r\n", "1234567\r\n\r\n", Some(LongLine)),
        ] {
            for chunk in 1..=input.len() {
                let (got, why, end) = decode_by(LENIENT, input.as_bytes(), chunk);
                assert_eq!(
                    (String::from_utf8_lossy(&got).as_ref(), why, end),
                    (content, fault, Some(input.len())),
                    "{input:?} in chunks of {chunk}"
                );
            }
        }
    }

    #[test]
    fn dots_mean_nothing_in_chunks() {
        use ContentFault::{BareLineEnd, LongLine, Nul};
        for (rules, input, content, fault) in [
            (STRICT, "a\r\n.\r\n..b\r\n", "a\r\n.\r\n..b\r\n", None),
            (STRICT, "no end", "no end", None),
            (STRICT, "a\nb", "a\nb", Some(BareLineEnd)),
            (STRICT, "a\rb", "a\rb", Some(BareLineEnd)),
            (STRICT, "a\r", "a\r", Some(BareLineEnd)),
            (STRICT, "a\0", "a\0", Some(Nul)),
            (STRICT, "1234567", "1234567", Some(LongLine)),
            (LENIENT, "a\nb\rc\r", "a\r\nb\r\nc\r\n", None),
        ] {
            for chunk in 1..=input.len() {
                let (mut decoder, mut got) = (ContentDecoder::new(rules), Vec::new());
                input.as_bytes().chunks(chunk).for_each(|piece| decoder.feed_chunk(piece, &mut got));
                decoder.end_chunks(&mut got);
                assert_eq!(
                    (String::from_utf8_lossy(&got).as_ref(), decoder.fault()),
                    (content, fault),
                    "{input:?} in chunks of {chunk}"
                );
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_stuffed_decodes_to_itself(lines in prop::collection::vec("[.a]{0,4}", 0..12), chunk in 1..9_usize) {
            let content: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
            let (mut stuffer, mut wire) = (DotStuffer::default(), Vec::new());
            for piece in content.as_bytes().chunks(chunk) {
                stuffer.stuff(piece, &mut wire);
            }
            stuffer.finish(&mut wire);
            let (decoded, fault, end) = decode(&wire, chunk);
            prop_assert_eq!((decoded, fault, end), (content.into_bytes(), None, Some(wire.len())));
        }

        #[test]
        fn any_chunking_decodes_alike(input in prop::collection::vec(prop::sample::select(b".\r\na\0".to_vec()), 0..40), chunk in 1..9_usize) {
            prop_assert_eq!(decode(&input, chunk), decode(&input, input.len().max(1)));
        }
    }
}
