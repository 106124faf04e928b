//! Quoted-printable (RFC 2045 6.7): how a report says what is beyond ASCII to servers without 8BITMIME. A report
//! that its sender's server cannot take is lost, for nobody is told of that.

/// Octets of an encoded line, without its CRLF.
const LINE_MAX_OCTETS: usize = 76;

/// Text with CRLF line ends, in octets that every server takes.
pub(super) fn quoted_printable(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + text.len() / 8);
    for (number, line) in text.split(|octet| *octet == b'\n').enumerate() {
        if number > 0 {
            out.extend_from_slice(b"\r\n");
        }
        encode_line(line.strip_suffix(b"\r").unwrap_or(line), &mut out);
    }
    out
}

fn encode_line(line: &[u8], out: &mut Vec<u8>) {
    let mut width = 0;
    for (at, octet) in line.iter().enumerate() {
        let is_last = at + 1 == line.len();
        // white space at the end of a line may be lost on the way
        let is_plain =
            matches!(octet, b'!'..=b'<' | b'>'..=b'~') || (matches!(octet, b' ' | b'\t') && !is_last);
        let octets = if is_plain { 1 } else { 3 };
        if width + octets >= LINE_MAX_OCTETS {
            out.extend_from_slice(b"=\r\n");
            width = 0;
        }
        if is_plain {
            out.push(*octet);
        } else {
            out.extend_from_slice(format!("={octet:02X}").as_bytes());
        }
        width += octets;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_beyond_ascii_is_written_in_it() {
        for (text, want) in [
            ("plain\r\ntext\r\n", "plain\r\ntext\r\n"),
            ("Empf\u{e4}nger = 1\r\n", "Empf=C3=A4nger =3D 1\r\n"),
            ("space at the end \r\n\r\n", "space at the end=20\r\n\r\n"),
        ] {
            assert_eq!(String::from_utf8_lossy(&quoted_printable(text.as_bytes())), want);
        }
        let long = quoted_printable("\u{fc}".repeat(200).as_bytes());
        assert!(long.is_ascii() && long.split(|octet| *octet == b'\n').all(|line| line.len() <= 77));
    }
}
