//! Reading a remote server's replies (RFC 5321 4.2.1).

use bytes::{Buf, BytesMut};

use crate::mail::{EnhancedStatus, Reply};

/// A reply may have this many lines.
pub const REPLY_LINES_MAX: usize = 128;
/// A reply may have this many octets in all.
pub const REPLY_MAX_OCTETS: usize = 16 << 10;

/// So much of a reply's text is kept.
pub const REPLY_TEXT_MAX_OCTETS: usize = 512;

/// Why a remote's octets are no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError {
    /// No three digits, or something other than space or hyphen behind them.
    #[error("the remote server sent something that is no reply")]
    Malformed,
    /// Lines of one reply with different codes.
    #[error("the lines of the remote server's reply disagree")]
    Disagree,
    /// Over [`REPLY_LINES_MAX`] or [`REPLY_MAX_OCTETS`].
    #[error("the remote server's reply is too long")]
    TooLong,
}

/// One whole reply: the parsed form, and its lines for extensions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WholeReply {
    /// Code, enhanced status and joined text.
    pub reply: Reply,
    /// The text of each line, made printable.
    pub lines: Vec<Box<str>>,
}

/// Puts replies together from what arrives.
#[derive(Debug, Default)]
pub struct ReplyReader {
    code: Option<u16>,
    lines: Vec<Box<str>>,
    octets: usize,
}

impl ReplyReader {
    /// The next whole reply off the front of `input`, if it has arrived.
    pub fn next(&mut self, input: &mut BytesMut) -> Result<Option<WholeReply>, ReplyError> {
        loop {
            let Some(end) = memchr::memchr(b'\n', input) else {
                let too_long = self.octets + input.len() > REPLY_MAX_OCTETS;
                return if too_long { Err(ReplyError::TooLong) } else { Ok(None) };
            };
            let line = input.split_to(end);
            input.advance(1);
            self.octets += line.len() + 1;
            if self.octets > REPLY_MAX_OCTETS || self.lines.len() >= REPLY_LINES_MAX {
                return Err(ReplyError::TooLong);
            }
            // a bare LF is wrong, but from a server it cannot smuggle anything to us
            let is_last = self.take_line(line.strip_suffix(b"\r").unwrap_or(&line))?;
            if is_last {
                return Ok(Some(self.finish()));
            }
        }
    }

    /// ABNF: `Reply-code [ "-" / SP textstring ]`.
    fn take_line(&mut self, line: &[u8]) -> Result<bool, ReplyError> {
        let (digits, rest) = line.split_at_checked(3).ok_or(ReplyError::Malformed)?;
        let code = match digits {
            [first @ b'2'..=b'5', second @ b'0'..=b'9', third @ b'0'..=b'9'] => {
                u16::from(first - b'0') * 100 + u16::from(second - b'0') * 10 + u16::from(third - b'0')
            }
            _ => return Err(ReplyError::Malformed),
        };
        if self.code.is_some_and(|before| before != code) {
            return Err(ReplyError::Disagree);
        }
        self.code = Some(code);
        let (is_last, text) = match rest.split_first() {
            None => (true, rest),
            Some((b' ', text)) => (true, text),
            Some((b'-', text)) => (false, text),
            Some(_) => return Err(ReplyError::Malformed),
        };
        self.lines.push(printable(text));
        Ok(is_last)
    }

    fn finish(&mut self) -> WholeReply {
        let ReplyReader { code, lines, .. } = std::mem::take(self);
        let enhanced =
            lines.first().and_then(|line| EnhancedStatus::parse_prefix(line)).map(|(code, _)| code);
        let bare = |line: &str| match EnhancedStatus::parse_prefix(line) {
            Some((code, rest)) if Some(code) == enhanced => rest.to_owned(),
            _ => line.to_owned(),
        };
        let mut text = lines.iter().map(|line| bare(line)).collect::<Vec<_>>().join(" ");
        // it is logged, reported and perhaps kept a thousandfold
        text.truncate(text.floor_char_boundary(REPLY_TEXT_MAX_OCTETS));
        WholeReply { reply: Reply { code: code.unwrap_or(0), enhanced, text: text.into() }, lines }
    }
}

/// A stranger's text without control characters.
fn printable(text: &[u8]) -> Box<str> {
    let text = String::from_utf8_lossy(text);
    text.trim().chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(input: &str) -> Result<Option<String>, ReplyError> {
        let mut input = BytesMut::from(input);
        ReplyReader::default().next(&mut input).map(|whole| whole.map(|whole| whole.reply.to_string()))
    }

    #[test]
    fn replies_of_one_and_many_lines() {
        for (input, want) in [
            ("250 ok\r\n", "250 ok"),
            ("250\r\n", "250 "),
            (
                "550-5.1.1 The account\r\n550-5.1.1 does not\r\n550 5.1.1 exist\r\n",
                "550 5.1.1 The account does not exist",
            ),
            ("421 4.7.0 go\u{7}away\r\n", "421 4.7.0 go?away"),
            ("250 bare lf\n", "250 bare lf"),
        ] {
            assert_eq!(read(input), Ok(Some(want.to_owned())), "{input:?}");
        }
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let told = read(&format!("550 {}\r\n", "ü".repeat(400))).expect("is a reply").expect("is whole");
        assert_eq!(told.len(), "550 ".len() + REPLY_TEXT_MAX_OCTETS);
        let odd = read(&format!("550 a{}\r\n", "ü".repeat(400))).expect("is a reply").expect("is whole");
        assert_eq!(odd.len(), "550 ".len() + REPLY_TEXT_MAX_OCTETS - 1);
    }

    #[test]
    fn half_a_reply_is_none_yet() {
        assert_eq!(read("250-ok\r\n250"), Ok(None));
    }

    #[test]
    fn what_is_no_reply_is_an_error() {
        for (input, want) in [
            ("hello\r\n", ReplyError::Malformed),
            ("25\r\n", ReplyError::Malformed),
            ("150 what\r\n", ReplyError::Malformed),
            ("250_ok\r\n", ReplyError::Malformed),
            ("250-a\r\n550 b\r\n", ReplyError::Disagree),
            (&"250-a\r\n".repeat(REPLY_LINES_MAX + 1), ReplyError::TooLong),
            (&format!("250 {}", "a".repeat(REPLY_MAX_OCTETS)), ReplyError::TooLong),
        ] {
            assert_eq!(read(input), Err(want));
        }
    }
}
