//! What several fuzz targets need: input that arrives in pieces, and what is asked of every line we write.

/// Cuts what arrives into pieces of one octet more than `sizes` say, round and round; leaves it whole where they say
/// nothing.
pub fn pieces<'a>(sizes: &[u8], mut rest: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    let mut sizes = sizes.iter().cycle();
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let size = sizes.next().map_or(rest.len(), |size| usize::from(*size) + 1);
        let (piece, behind) = rest.split_at(size.min(rest.len()));
        rest = behind;
        Some(piece)
    })
}

/// The lines of what a machine wrote, without their ends; panics where one ends in anything but CRLF or holds
/// something that another reader might take for a line's end.
pub fn lines(written: &[u8]) -> Vec<&str> {
    let text = std::str::from_utf8(written).expect("what we write is UTF-8");
    if text.is_empty() {
        return Vec::new();
    }
    let text = text.strip_suffix("\r\n").expect("the last line has an end");
    let lines: Vec<&str> = text.split("\r\n").collect();
    for line in &lines {
        assert!(!line.contains(['\r', '\n', '\0']), "{line:?}");
    }
    lines
}

/// Whether content has no line end but CRLF.
pub fn has_clean_line_ends(content: &[u8]) -> bool {
    let bare_lf = content.iter().enumerate().any(|(at, c)| *c == b'\n' && !content[..at].ends_with(b"\r"));
    let bare_cr =
        content.iter().enumerate().any(|(at, c)| *c == b'\r' && content.get(at + 1) != Some(&b'\n'));
    !bare_lf && !bare_cr
}
