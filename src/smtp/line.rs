//! Command lines: what stands before a CRLF, and nothing else.

use bytes::{Buf, Bytes, BytesMut};

/// RFC 5321 4.5.3.1.4 asks for 512 octets; extensions add parameters, and two paths fit with room.
pub const COMMAND_LINE_MAX_OCTETS: usize = 2048;

/// A whole line without its CRLF.
pub type Line = Bytes;

/// Why no line can be read any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// LF without CR before it: the peer may not mean what we would read (RFC 5321 2.3.8).
    #[error("a line ends in a bare LF")]
    BareLf,
    /// CR without LF behind it.
    #[error("a line has a bare CR")]
    BareCr,
    /// Longer than [`COMMAND_LINE_MAX_OCTETS`].
    #[error("a line is too long")]
    TooLong,
}

/// Takes the next line off the front of `input`; `None` where it has not arrived whole.
pub fn next_line(input: &mut BytesMut) -> Result<Option<Line>, LineError> {
    let window = &input[..input.len().min(COMMAND_LINE_MAX_OCTETS)];
    let Some(end) = memchr::memchr(b'\n', window) else {
        return if input.len() >= COMMAND_LINE_MAX_OCTETS { Err(LineError::TooLong) } else { Ok(None) };
    };
    match memchr::memchr(b'\r', &window[..end]) {
        None => return Err(LineError::BareLf),
        Some(cr) if cr + 1 != end => return Err(LineError::BareCr),
        Some(_) => {}
    }
    let line = input.split_to(end - 1).freeze();
    input.advance(2);
    Ok(Some(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_crlf_ends_a_line() {
        for (input, want) in [
            ("NOOP\r\nQUIT\r\n", Ok(Some("NOOP"))),
            ("\r\n", Ok(Some(""))),
            ("NOOP\r", Ok(None)),
            ("NOOP", Ok(None)),
            ("NOOP\n", Err(LineError::BareLf)),
            ("NO\rOP\r\n", Err(LineError::BareCr)),
            ("NOOP\r\r\n", Err(LineError::BareCr)),
        ] {
            let mut input = BytesMut::from(input);
            let line = next_line(&mut input);
            assert_eq!(line, want.map(|line| line.map(|line| Bytes::copy_from_slice(line.as_bytes()))));
        }
    }

    #[test]
    fn an_endless_line_ends_the_reading() {
        let mut input = BytesMut::from(&vec![b'a'; COMMAND_LINE_MAX_OCTETS][..]);
        assert_eq!(next_line(&mut input), Err(LineError::TooLong));
    }
}
