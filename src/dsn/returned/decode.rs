//! Octets of mail become text: transfer encodings, characters, HTML.
//!
//! Owns these decodings. Promises that every input gives a text, no longer than some times the input:
//! what is broken stays as it is. Never fetches a charset's table; what a report needs is ASCII.

use std::borrow::Cow;

/// RFC 2045 6.8; other characters are passed over, as it demands.
pub(super) fn base64(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut held) = (0u32, 0);
    for octet in text {
        let six = match octet {
            b'A'..=b'Z' => octet - b'A',
            b'a'..=b'z' => octet - b'a' + 26,
            b'0'..=b'9' => octet - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            b'=' => break,
            _ => continue,
        };
        bits = (bits << 6 | u32::from(six)) & 0xffff;
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push((bits >> held & 0xff) as u8);
        }
    }
    out
}

/// RFC 2045 6.7; what is no encoding stays as it is.
pub(super) fn quoted_printable(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    for line in text.split_inclusive(|octet| *octet == b'\n') {
        let content = line.trim_ascii_end();
        let soft = content.strip_suffix(b"=");
        escapes(soft.unwrap_or(content), b'=', &mut out);
        if soft.is_none() && line.ends_with(b"\n") {
            out.push(b'\n');
        }
    }
    out
}

fn escapes(text: &[u8], mark: u8, out: &mut Vec<u8>) {
    let digit =
        |octet: Option<&u8>| (*octet? as char).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut at = 0;
    while let Some(octet) = text.get(at) {
        let pair = (digit(text.get(at + 1)), digit(text.get(at + 2)));
        if let (true, (Some(high), Some(low))) = (*octet == mark, pair) {
            out.push(high << 4 | low);
            at += 3;
        } else {
            out.push(*octet);
            at += 1;
        }
    }
}

/// UTF-8 where it is, else each octet one character: reports of any charset keep their ASCII. Runs of
/// ISO-2022 between escapes are left out, for their octets look like ASCII and mean something else.
pub(super) fn characters(octets: &[u8]) -> String {
    let mut plain = Cow::Borrowed(octets);
    if octets.contains(&0x1b) {
        plain = Cow::Owned(without_iso_2022(octets));
    }
    match std::str::from_utf8(&plain) {
        Ok(text) => text.to_owned(),
        Err(_) => plain.iter().map(|octet| char::from(*octet)).collect(),
    }
}

/// RFC 1468: `ESC ( B` and `ESC ( J` come back to ASCII, `ESC $` leaves it; so does every line end.
fn without_iso_2022(octets: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(octets.len());
    let mut foreign = false;
    let mut at = 0;
    while let Some(octet) = octets.get(at) {
        match (octet, octets.get(at + 1)) {
            (0x1b, Some(b'$')) => (foreign, at) = (true, at + 3),
            (0x1b, Some(b'(')) => (foreign, at) = (false, at + 3),
            (b'\n', _) => {
                foreign = false;
                out.push(b'\n');
                at += 1;
            }
            _ => {
                if !foreign && *octet != 0x1b {
                    out.push(*octet);
                }
                at += 1;
            }
        }
    }
    out
}

/// Leaves out tags, but not addresses in angle brackets; elements that stand on lines of their own begin
/// a line.
pub(super) fn without_tags(html: &str) -> String {
    let mut out = String::with_capacity(html.len());
    let mut rest = html;
    let mut hidden = false;
    while let Some(open) = rest.find('<') {
        if !hidden {
            out.push_str(&entities(&rest[..open]).replace(['\r', '\n'], " "));
        }
        // a "<" that nothing closes is looked for only once
        let Some(close) = rest[open..].find('>').map(|close| open + close) else {
            rest = &rest[open + 1..];
            break;
        };
        let tag = &rest[open + 1..close];
        let name = tag.split(|c: char| !c.is_ascii_alphanumeric() && c != '/').next().unwrap_or_default();
        let name = name.to_ascii_lowercase();
        match name.as_str() {
            "style" | "script" => hidden = true,
            "/style" | "/script" => hidden = false,
            "br" | "p" | "/p" | "div" | "/div" | "tr" | "/tr" | "li" | "td" | "pre" | "/pre" | "br/" => {
                out.push('\n')
            }
            _ if tag.contains('@') && !tag.contains(['=', ' ']) => out.push_str(&rest[open..=close]),
            _ => {}
        }
        rest = &rest[close + 1..];
    }
    if !hidden {
        out.push_str(&entities(rest));
    }
    out
}

fn entities(text: &str) -> Cow<'_, str> {
    if !text.contains('&') {
        return Cow::Borrowed(text);
    }
    let mut plain = text.to_owned();
    for (entity, meaning) in [
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&nbsp;", " "),
        ("&quot;", "\""),
        ("&#39;", "'"),
        ("&#64;", "@"),
        ("&amp;", "&"),
    ] {
        plain = plain.replace(entity, meaning);
    }
    Cow::Owned(plain)
}

/// ABNF: `encoded-word = "=?" charset "?" encoding "?" encoded-text "?="` (RFC 2047 2).
pub(super) fn words(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    let mut rest = value;
    while let Some(open) = rest.find("=?") {
        out.push_str(&rest[..open]);
        let mut pieces = rest[open + 2..].splitn(4, '?');
        let word = (pieces.next(), pieces.next(), pieces.next(), pieces.next());
        let (Some(_), Some(encoding), Some(text), Some(behind)) = word else {
            rest = &rest[open..];
            break;
        };
        match (encoding, behind.strip_prefix('=')) {
            ("B" | "b", Some(after)) => {
                out.push_str(&characters(&base64(text.as_bytes())));
                rest = after;
            }
            ("Q" | "q", Some(after)) => {
                let mut octets = Vec::new();
                escapes(text.replace('_', " ").as_bytes(), b'=', &mut octets);
                out.push_str(&characters(&octets));
                rest = after;
            }
            _ => {
                out.push_str("=?");
                rest = &rest[open + 2..];
            }
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encoded_words_are_read_and_broken_ones_kept() {
        for (value, want) in [
            ("=?utf-8?B?aGk=?= x", "hi x"),
            ("=?iso-8859-15?Q?a_=28b=29?=", "a (b)"),
            ("=?utf-8?X?a?=", "=?utf-8?X?a?="),
            ("a =? b", "a =? b"),
        ] {
            assert_eq!(words(value), want);
        }
    }
}
