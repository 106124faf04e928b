//! A header, field by field (RFC 5322 2.2).

/// Name and value of each field; the value with its folds, and the end of its last line. What has no colon is no
/// field.
pub(super) fn fields(header: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut rest = header;
    std::iter::from_fn(move || {
        (!rest.is_empty()).then(|| {
            let (field, after) = rest.split_at(end_of_field(rest));
            rest = after;
            field
        })
    })
    .filter_map(|field| {
        let colon = memchr::memchr(b':', field)?;
        Some((field[..colon].trim_ascii(), &field[colon + 1..]))
    })
}

/// Where the first field ends: before the first line that is not folded into it.
fn end_of_field(header: &[u8]) -> usize {
    let goes_on = |end: usize| matches!(header.get(end), Some(b' ' | b'\t'));
    let ends = memchr::memchr_iter(b'\n', header).map(|at| at + 1);
    ends.into_iter().find(|end| !goes_on(*end)).unwrap_or(header.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_keep_their_folds() {
        let header = b"From: a\r\n\tb\r\nNo field\r\n : folded\r\nTo : c\r\nX:y";
        let found: Vec<(&[u8], &[u8])> = fields(header).collect();
        let want: [(&[u8], &[u8]); 4] = [
            (b"From", b" a\r\n\tb\r\n"),
            (b"No field\r\n", b" folded\r\n"),
            (b"To", b" c\r\n"),
            (b"X", b"y"),
        ];
        assert_eq!(found.len(), want.len());
        for ((name, value), (wanted, content)) in found.into_iter().zip(want) {
            assert_eq!((name, value), (wanted.trim_ascii(), content));
        }
        assert_eq!(fields(b"").count(), 0);
    }
}
