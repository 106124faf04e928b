//! The header of a message that comes in: what it shows, and what a client of ours left out or wrote too long
//! (RFC 6409 8, RFC 5322 2.1.1).

use std::fmt::Write as _;

use crate::clock::Timestamp;
use crate::mail::{Domain, MessageId, rfc5322_date};

/// A header has at most so many octets; nobody's mail has a tenth of it.
pub(super) const HEADER_MAX_OCTETS: usize = 128 << 10;
/// RFC 5322 2.1.1, without the CRLF.
const LINE_MAX_OCTETS: usize = 998;

/// What a header shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Header {
    /// Its octets, without the empty line behind it.
    pub(super) octets: usize,
    /// Whether that line is there: else there may be more of it.
    pub(super) has_end: bool,
    /// Relays that the message has passed (RFC 5321 6.3).
    pub(super) received: usize,
    pub(super) is_ascii: bool,
    /// Whether it says `TLS-Required: No` (RFC 8689 3).
    pub(super) waives_tls: bool,
    has_date: bool,
    has_message_id: bool,
    has_long_line: bool,
    /// Whether the first line is a field, or the empty line that ends a header of none; else there is no
    /// header, and no such line.
    begins_with_field: bool,
    begins_with_end: bool,
}

/// The fields that a message lacks.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Missing {
    /// They stand before its own.
    pub(super) fields: String,
    /// Whether the empty line is lacking too that ends a header.
    lacks_end: bool,
}

impl Missing {
    /// What is to be put before the message; nothing where it lacks nothing.
    pub(super) fn text(&self) -> Option<String> {
        let text = format!("{}{}", self.fields, if self.lacks_end { "\r\n" } else { "" });
        (!text.is_empty()).then_some(text)
    }
}

/// Looks at the header of a message, as far as it is here.
pub(super) fn inspect(message: &[u8]) -> Header {
    let mut header = Header { is_ascii: true, ..Header::default() };
    while let Some(end) = memchr::memchr(b'\n', &message[header.octets..]) {
        let line = &message[header.octets..header.octets + end];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            (header.has_end, header.begins_with_end) = (true, header.octets == 0);
            break;
        }
        header.note(line);
        header.octets += end + 1;
    }
    if !header.has_end && header.octets < message.len() {
        header.note(&message[header.octets..]);
        header.octets = message.len();
    }
    if header.octets > 0 && !header.begins_with_field {
        // text from the first line on
        return Header { octets: 0, has_end: true, is_ascii: true, ..Header::default() };
    }
    header
}

/// How many octets of a message are the line that separates messages in a mailbox file, which some hand over
/// with it: it is none of the header's, and would make text of all that follows.
pub(super) fn mailbox_line(message: &[u8]) -> usize {
    let line = message.strip_prefix(b">").unwrap_or(message);
    let Some(end) = memchr::memchr(b'\n', message).filter(|_| line.starts_with(b"From ")) else { return 0 };
    let next = message[end + 1..].split(|octet| *octet == b'\n').next().unwrap_or_default();
    if field_name(next).is_some() { end + 1 } else { 0 }
}

impl Header {
    /// Whether the message ends in the middle of its header's last line.
    pub(super) fn lacks_line_end(&self, message: &[u8]) -> bool {
        !self.has_end && self.octets > 0 && !message.ends_with(b"\n")
    }

    fn note(&mut self, line: &[u8]) {
        self.has_long_line |= line.len() > LINE_MAX_OCTETS;
        self.is_ascii &= line.is_ascii();
        let Some(name) = field_name(line) else { return };
        self.begins_with_field |= self.octets == 0;
        match name.len() {
            8 if name.eq_ignore_ascii_case(b"received") => self.received += 1,
            4 if name.eq_ignore_ascii_case(b"date") => self.has_date = true,
            10 if name.eq_ignore_ascii_case(b"message-id") => self.has_message_id = true,
            12 if name.eq_ignore_ascii_case(b"tls-required") => {
                let value = line.splitn(2, |octet| *octet == b':').nth(1).unwrap_or_default();
                self.waives_tls |= value.trim_ascii().eq_ignore_ascii_case(b"no");
            }
            _ => {}
        }
    }

    /// The fields that every message must have and this one lacks.
    pub(super) fn missing(&self, hostname: &Domain, id: MessageId, now: Timestamp) -> Missing {
        let mut fields = String::new();
        // writing to a String cannot fail
        if !self.has_date {
            let _ = write!(fields, "Date: {}\r\n", rfc5322_date(now));
        }
        if !self.has_message_id {
            let _ = write!(fields, "Message-ID: <{id}@{hostname}>\r\n");
        }
        Missing { fields, lacks_end: !self.begins_with_field && !self.begins_with_end }
    }

    /// The header with its long lines folded where that changes nothing; nothing where none is too long.
    pub(super) fn folded(&self, message: &[u8]) -> Option<Vec<u8>> {
        if !self.has_long_line {
            return None;
        }
        let mut out = Vec::with_capacity(self.octets + self.octets / 256);
        for line in message[..self.octets].split_inclusive(|octet| *octet == b'\n') {
            fold_line(line, &mut out);
        }
        Some(out)
    }
}

/// ABNF: `field-name = 1*ftext` (RFC 5322 3.6.8), and the white space of obs-optional before the colon.
fn field_name(line: &[u8]) -> Option<&[u8]> {
    let colon = memchr::memchr(b':', line)?;
    let name = line[..colon].trim_ascii_end();
    let is_good = !name.is_empty() && name.iter().all(u8::is_ascii_graphic);
    is_good.then_some(name)
}

/// Breaks a line before white space, each piece as long as it may be; what has none is left as it is.
fn fold_line(line: &[u8], out: &mut Vec<u8>) {
    let is_space = |octet: &u8| matches!(octet, b' ' | b'\t');
    let mut rest = line;
    loop {
        let content = rest.trim_ascii_end().len();
        if content <= LINE_MAX_OCTETS {
            return out.extend_from_slice(rest);
        }
        // neither piece may be white space alone: some take that for the end of the header
        let begins = rest.iter().position(|octet| !is_space(octet)).unwrap_or(content);
        let fitting = (begins..=LINE_MAX_OCTETS).rev().find(|at| is_space(&rest[*at]));
        let Some(at) = fitting.or_else(|| (begins..content).find(|at| is_space(&rest[*at]))) else {
            return out.extend_from_slice(rest);
        };
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(b"\r\n");
        rest = &rest[at..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn missing(message: &str) -> String {
        let hostname = Domain::parse("r.example").expect("a name");
        let now = Timestamp::from_millis(1_795_000_000_000);
        let missing = inspect(message.as_bytes()).missing(&hostname, MessageId::from_u64(7), now);
        missing.text().unwrap_or_default()
    }

    const DATE: &str = "Date: Wed, 18 Nov 2026 11:06:40 +0000\r\n";
    const ID: &str = "Message-ID: <0000000000000007@r.example>\r\n";

    #[test]
    fn what_every_message_must_have_is_added_once() {
        for (message, want) in [
            ("Date: x\r\nMessage-ID: y\r\n\r\nhi\r\n", String::new()),
            ("date: x\r\nMESSAGE-ID : y\r\n\r\n", String::new()),
            ("Subject: x\r\n\r\nDate: y\r\n", format!("{DATE}{ID}")),
            ("Subject: x\r\n\tDate: y\r\nMessage-Id: z\r\n\r\n", DATE.to_owned()),
            ("Subject: no body", format!("{DATE}{ID}")),
            // text without a header, and nothing at all
            ("Hello there\r\nDate: x\r\n\r\n", format!("{DATE}{ID}\r\n")),
            ("\r\nhi\r\n", format!("{DATE}{ID}\r\n")),
            ("", format!("{DATE}{ID}\r\n")),
        ] {
            // a message that begins with the empty line has its end already
            let want = if message.starts_with('\r') { format!("{DATE}{ID}") } else { want };
            assert_eq!(missing(message), want, "{message:?}");
        }
    }

    #[test]
    fn only_no_waives_tls() {
        for (message, want) in [
            ("TLS-Required: No\r\n\r\n", true),
            ("A: b\r\ntls-required :\tno \r\n\r\n", true),
            ("TLS-Required: Yes\r\n\r\n", false),
            ("TLS-Required: No way\r\n\r\n", false),
            ("X-TLS-Required: No\r\n\r\n", false),
            ("A: b\r\n\r\nTLS-Required: No\r\n", false),
        ] {
            assert_eq!(inspect(message.as_bytes()).waives_tls, want, "{message:?}");
        }
    }

    #[test]
    fn the_line_of_a_mailbox_file_is_known() {
        for (message, want) in [
            ("From ann Mon Jan 1 2026\r\nFrom: ann\r\n\r\n", 25),
            (">From ann\r\nSubject: x\r\n", 11),
            ("From: ann\r\nSubject: x\r\n", 0),
            ("From here on\r\nthis is text\r\n", 0),
            ("From nowhere", 0),
        ] {
            assert_eq!(mailbox_line(message.as_bytes()), want, "{message:?}");
        }
    }

    #[test]
    fn only_the_header_is_looked_at() {
        let message =
            b"received: a\r\nX: y\r\nReceived: b\r\n\tReceived: folded\r\n\r\nReceived: b\xc3\xb6dy\r\n";
        let header = inspect(message);
        assert_eq!((header.received, header.is_ascii, header.has_end), (2, true, true));
        assert_eq!(&message[header.octets..header.octets + 2], b"\r\n");
        assert!(!inspect("Subject: hé\r\n\r\n".as_bytes()).is_ascii);
        assert!(!inspect(b"Subject: on and on").has_end);
    }

    #[test]
    fn long_lines_are_broken_before_white_space() {
        let (word, long) = ("x".repeat(600), "y".repeat(1200));
        for (line, want) in [
            (format!("To: {word} {word} {word}"), format!("To: {word}\r\n {word}\r\n {word}")),
            (format!("To: {long} {word}"), format!("To:\r\n {long}\r\n {word}")),
            (format!("X{long}: a"), format!("X{long}:\r\n a")),
            (format!("X:{long}"), format!("X:{long}")),
        ] {
            let message = format!("A: b\r\n{line}\r\nC: d\r\n\r\nbody {long} {long}\r\n");
            let folded = inspect(message.as_bytes()).folded(message.as_bytes()).expect("has a long line");
            assert_eq!(String::from_utf8_lossy(&folded), format!("A: b\r\n{want}\r\nC: d\r\n"));
        }
        assert_eq!(inspect(b"A: b\r\n\r\n").folded(b"A: b\r\n\r\n"), None);
    }

    proptest! {
        #[test]
        fn folding_changes_nothing_but_line_ends(words in prop::collection::vec("[a-z]{1,700}|[ \t]{1,1100}", 1..9)) {
            let message = format!("X: {}\r\n\r\n", words.join(" "));
            let header = inspect(message.as_bytes());
            if let Some(folded) = header.folded(message.as_bytes()) {
                let unfolded = String::from_utf8_lossy(&folded).replace("\r\n ", " ").replace("\r\n\t", "\t");
                prop_assert_eq!(unfolded.trim_end(), message.trim_end());
                for line in String::from_utf8_lossy(&folded).split("\r\n").filter(|line| !line.is_empty()) {
                    prop_assert!(!line.trim().is_empty(), "a line of white space");
                }
            }
        }
    }
}
