//! The commands a sink understands.
//!
//! Owns the reading of one command line. Promises a [`Command`] for any
//! octets; what it does not know is [`Command::Unknown`]. Addresses are not
//! looked at: every recipient is welcome.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Ehlo,
    Helo,
    StartTls,
    /// With the size declared, if one is.
    Mail(Option<u64>),
    Rcpt,
    Data,
    /// A chunk of so many octets, and whether it is the last (RFC 3030).
    Bdat(u64, bool),
    Rset,
    Noop,
    Vrfy,
    Quit,
    Unknown,
}

impl Command {
    /// Reads a line, with or without its end.
    pub(crate) fn parse(line: &[u8]) -> Self {
        let line = line.trim_ascii_end();
        let mut words = line.split(|byte| *byte == b' ');
        let verb = words.next().unwrap_or_default();
        let is = |known: &[u8]| verb.eq_ignore_ascii_case(known);
        let path_follows = |word: &[u8]| {
            let rest = &line[verb.len()..];
            let (start, rest) = rest.split_at_checked(word.len()).unwrap_or((rest, &[]));
            start.eq_ignore_ascii_case(word) && rest.trim_ascii_start().starts_with(b"<")
        };
        match () {
            () if is(b"MAIL") && path_follows(b" FROM:") => Self::Mail(declared_size(words)),
            () if is(b"RCPT") && path_follows(b" TO:") => Self::Rcpt,
            () if is(b"DATA") => Self::Data,
            () if is(b"BDAT") => chunk(words).unwrap_or(Self::Unknown),
            () if is(b"EHLO") => Self::Ehlo,
            // no parameters (RFC 3207 4)
            () if is(b"STARTTLS") && words.next().is_none() => Self::StartTls,
            () if is(b"HELO") => Self::Helo,
            () if is(b"QUIT") => Self::Quit,
            () if is(b"RSET") => Self::Rset,
            () if is(b"NOOP") => Self::Noop,
            () if is(b"VRFY") => Self::Vrfy,
            () => Self::Unknown,
        }
    }
}

fn chunk<'a>(mut words: impl Iterator<Item = &'a [u8]>) -> Option<Command> {
    let size = std::str::from_utf8(words.next()?).ok()?.parse().ok()?;
    let is_last = match words.next() {
        None => false,
        Some(word) if word.eq_ignore_ascii_case(b"LAST") => true,
        Some(_) => return None,
    };
    Some(Command::Bdat(size, is_last))
}

/// The value of SIZE among the parameters; one too large to count is as large
/// as can be.
fn declared_size<'a>(mut words: impl Iterator<Item = &'a [u8]>) -> Option<u64> {
    let digits = words.find_map(|word| {
        let (keyword, value) = word.split_at_checked(5)?;
        keyword.eq_ignore_ascii_case(b"SIZE=").then_some(value)
    })?;
    let digits = std::str::from_utf8(digits).ok()?;
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read() {
        for (line, expected) in [
            (&b"ehlo a\r\n"[..], Command::Ehlo),
            (b"MAIL FROM:<a@b> BODY=8BITMIME SIZE=10\r\n", Command::Mail(Some(10))),
            (b"mail from: <>\r\n", Command::Mail(None)),
            (b"MAIL FROM:<> SIZE=99999999999999999999999", Command::Mail(Some(u64::MAX))),
            (b"RCPT TO:<a@b>\r\n", Command::Rcpt),
            (b"RCPT FROM:<a@b>\r\n", Command::Unknown),
            (b"MAIL\r\n", Command::Unknown),
            (b"bdat 7\r\n", Command::Bdat(7, false)),
            (b"BDAT 0 last\r\n", Command::Bdat(0, true)),
            (b"BDAT LAST\r\n", Command::Unknown),
            (b"DATA\n", Command::Data),
            (b"StartTLS\r\n", Command::StartTls),
            (b"STARTTLS now\r\n", Command::Unknown),
            (b"", Command::Unknown),
            (b"\xff\x00\r\n", Command::Unknown),
        ] {
            assert_eq!(Command::parse(line), expected, "{}", line.escape_ascii());
        }
    }
}
