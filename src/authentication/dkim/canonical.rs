//! The relaxed forms of header and body (RFC 6376 3.4.2, 3.4.4): what white space may become on the way does not
//! matter to a signature.

fn is_space(octet: u8) -> bool {
    matches!(octet, b' ' | b'\t')
}

/// Appends a field: its name in lower case, its value unfolded and with single spaces.
pub(super) fn relax_field(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    out.extend(name.trim_ascii().iter().map(u8::to_ascii_lowercase));
    out.push(b':');
    let begins = out.len();
    let is_word = |word: &&[u8]| !word.is_empty();
    for word in value.split(|octet| is_space(*octet) || matches!(octet, b'\r' | b'\n')).filter(is_word) {
        if out.len() > begins {
            out.push(b' ');
        }
        out.extend_from_slice(word);
    }
    out.extend_from_slice(b"\r\n");
}

/// A body that comes in pieces, cut anywhere. Its lines end in CRLF; no other CR or LF is in it.
#[derive(Debug, Default)]
pub(super) struct RelaxedBody {
    /// Ends of lines that count only if something follows.
    ends: usize,
    /// Whether there was white space that counts only if something follows in its line.
    has_space: bool,
    /// Whether anything has counted yet.
    has_content: bool,
}

impl RelaxedBody {
    /// More of it; `write` is given the relaxed form, as far as that is certain.
    pub(super) fn take(&mut self, piece: &[u8], write: &mut impl FnMut(&[u8])) {
        let mut rest = piece;
        while let Some(first) = rest.first() {
            match first {
                b' ' | b'\t' => self.has_space = true,
                b'\n' => (self.ends, self.has_space) = (self.ends + 1, false),
                b'\r' => {}
                _ => {
                    let word = word_of(rest);
                    self.flush(write);
                    write(word);
                    rest = &rest[word.len()..];
                    continue;
                }
            }
            rest = &rest[1..];
        }
    }

    fn flush(&mut self, write: &mut impl FnMut(&[u8])) {
        (0..std::mem::take(&mut self.ends)).for_each(|_| write(b"\r\n"));
        if std::mem::take(&mut self.has_space) {
            write(b" ");
        }
        self.has_content = true;
    }

    /// Its end: empty lines there do not count, and a last line without its end has one. Nothing stays nothing.
    pub(super) fn finish(self, write: &mut impl FnMut(&[u8])) {
        if self.has_content {
            write(b"\r\n");
        }
    }
}

/// What stays as it is: up to the next octet that may not. Single spaces between words do.
fn word_of(rest: &[u8]) -> &[u8] {
    let mut end = 0;
    loop {
        let run = &rest[end..];
        end += run.iter().position(|octet| *octet <= b' ').unwrap_or(run.len());
        match rest.get(end..) {
            Some([b' ', next, ..]) if *next > b' ' => end += 1,
            // another control character is no white space
            Some([control, ..]) if !matches!(control, b' ' | b'\t' | b'\r' | b'\n') => end += 1,
            _ => return &rest[..end],
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn relaxed(pieces: &[&[u8]]) -> String {
        let (mut body, mut out) = (RelaxedBody::default(), Vec::new());
        pieces.iter().for_each(|piece| body.take(piece, &mut |octets| out.extend_from_slice(octets)));
        body.finish(&mut |octets| out.extend_from_slice(octets));
        String::from_utf8(out).expect("is text")
    }

    /// The same by the letter of RFC 6376 3.4.4.
    fn by_the_letter(body: &str) -> String {
        let squeeze = |line: &str| -> String {
            let words: Vec<&str> = line.split([' ', '\t']).filter(|word| !word.is_empty()).collect();
            let begins = if line.starts_with([' ', '\t']) && !words.is_empty() { " " } else { "" };
            format!("{begins}{}", words.join(" "))
        };
        let lines: Vec<String> = body.split("\r\n").map(squeeze).collect();
        let kept = lines.iter().rposition(|line| !line.is_empty()).map_or(0, |last| last + 1);
        lines[..kept].iter().map(|line| format!("{line}\r\n")).collect()
    }

    #[test]
    fn bodies_are_relaxed() {
        for (body, want) in [
            (" C \r\nD \t E\r\n\r\n\r\n", " C\r\nD E\r\n"),
            ("", ""),
            ("\r\n\r\n", ""),
            (" \r\n\t\r\n", ""),
            ("no end", "no end\r\n"),
            ("a\r\n \r\n\r\n", "a\r\n"),
            ("a\r\n \r\nb \t\r\n", "a\r\n\r\nb\r\n"),
            ("a\x0b\x0cb\x0c \r\n", "a\x0b\x0cb\x0c\r\n"),
        ] {
            assert_eq!(relaxed(&[body.as_bytes()]), want, "{body:?}");
            assert_eq!(by_the_letter(body), want, "{body:?}");
        }
    }

    #[test]
    fn fields_are_relaxed() {
        for (name, value, want) in [
            ("SubJect ", "  a \t b\r\n\t c \r\n", "subject:a b c\r\n"),
            ("X", "\r\n", "x:\r\n"),
            ("X", " a\x0cb", "x:a\x0cb\r\n"),
        ] {
            let mut out = Vec::new();
            relax_field(name.as_bytes(), value.as_bytes(), &mut out);
            assert_eq!(String::from_utf8_lossy(&out), want);
        }
    }

    proptest! {
        #[test]
        fn pieces_are_relaxed_as_the_whole_is(pieces in prop::collection::vec("(a|bc| |\t|\r\n|\x0c){0,9}", 0..9)) {
            let octets: Vec<&[u8]> = pieces.iter().map(|piece| piece.as_bytes()).collect();
            prop_assert_eq!(relaxed(&octets), by_the_letter(&pieces.concat()));
        }
    }
}
