//! Content, by DATA and in chunks, taken as it is and with line ends mended: the same however it arrives; what
//! has no fault is clean; what is stuffed ends where it ends, and decodes to itself.
//!
//! Input: options (1: line ends are mended; above: octets of a line), three sizes of pieces, then what arrives.
#![no_main]

use barid::smtp::{ContentDecoder, ContentFault, ContentRules, DotStuffer};
use barid_fuzz::{has_clean_line_ends, pieces};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some(([options, sizes @ ..], arrives)) = input.split_first_chunk::<4>() else { return };
    let rules = ContentRules { line_max_octets: usize::from(options >> 1) * 8, normalizes: options & 1 == 1 };
    let whole = || std::iter::once(arrives);

    let data = by_data(rules, whole());
    assert_eq!(by_data(rules, pieces(sizes, arrives)), data);
    assert!(data.ends_at.is_none_or(|end| end <= arrives.len()));
    check(rules, &data);
    assert!(data.ends_at.is_none() || data.content.is_empty() || data.content.ends_with(b"\r\n"));

    let chunks = by_chunks(rules, whole());
    assert_eq!(by_chunks(rules, pieces(sizes, arrives)), chunks);
    check(rules, &chunks);

    // whatever it is, it must not end early, nor be changed on its way
    for content in [arrives, &data.content, &chunks.content] {
        check_stuffed(sizes, content);
    }
});

#[derive(Debug, PartialEq, Eq)]
struct Taken {
    content: Vec<u8>,
    fault: Option<ContentFault>,
    /// How many octets were taken up to the end, where there was one.
    ends_at: Option<usize>,
}

fn by_data<'a>(rules: ContentRules, pieces: impl Iterator<Item = &'a [u8]>) -> Taken {
    let (mut decoder, mut content, mut used) = (ContentDecoder::new(rules), Vec::new(), 0);
    for piece in pieces {
        let fed = decoder.feed(piece, &mut content);
        used += fed.used;
        if fed.ended {
            return Taken { content, fault: decoder.fault(), ends_at: Some(used) };
        }
        assert_eq!(fed.used, piece.len(), "all is taken where there is no end");
    }
    Taken { content, fault: decoder.fault(), ends_at: None }
}

fn by_chunks<'a>(rules: ContentRules, pieces: impl Iterator<Item = &'a [u8]>) -> Taken {
    let (mut decoder, mut content) = (ContentDecoder::new(rules), Vec::new());
    pieces.for_each(|piece| decoder.feed_chunk(piece, &mut content));
    decoder.end_chunks(&mut content);
    Taken { content, fault: decoder.fault(), ends_at: None }
}

fn check(rules: ContentRules, taken: &Taken) {
    let Taken { content, fault, .. } = taken;
    let shown = content.escape_ascii();
    let is_clean = has_clean_line_ends(content);
    let mut lines = content.split(|octet| *octet == b'\n');
    let length = |line: &[u8]| line.strip_suffix(b"\r").unwrap_or(line).len();
    let has_long_line = lines.any(|line| length(line) > rules.line_max_octets);
    assert!(is_clean || !rules.normalizes, "{shown}");
    // neither is what is wrong passed over, nor what is right refused
    assert_eq!(fault.is_some(), !is_clean || content.contains(&0) || has_long_line, "{fault:?} {shown}");
    assert!(!rules.normalizes || *fault != Some(ContentFault::BareLineEnd), "{shown}");
    if fault.is_none() {
        // what was taken is taken again, unchanged
        assert_eq!(&by_chunks(rules, std::iter::once(&content[..])).content, content);
    }
}

fn check_stuffed(sizes: &[u8], content: &[u8]) {
    let stuffed = |pieces: &mut dyn Iterator<Item = &[u8]>| {
        let (mut stuffer, mut wire) = (DotStuffer::default(), Vec::new());
        pieces.for_each(|piece| stuffer.stuff(piece, &mut wire));
        stuffer.finish(&mut wire);
        wire
    };
    let wire = stuffed(&mut std::iter::once(content));
    assert_eq!(stuffed(&mut pieces(sizes, content)), wire, "{}", content.escape_ascii());
    let rules = ContentRules { line_max_octets: usize::MAX, normalizes: false };
    let back = by_data(rules, std::iter::once(&wire[..]));
    assert_eq!(back.ends_at, Some(wire.len()), "{}", content.escape_ascii());
    let has_end = content.is_empty() || content.ends_with(b"\r\n");
    let end: &[u8] = if has_end { b"" } else { b"\r\n" };
    assert_eq!(back.content, [content, end].concat());
}
