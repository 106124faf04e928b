//! The leaves of a MIME message (RFC 2045, 2046), as far as reports need them.
//!
//! Owns where parts and fields begin and end. Promises time linear in the message, no recursion, and that
//! nothing is refused: what is broken is read as plain text. Never looks into an attached message: what a
//! bounce says stands outside of what it returns.

use std::borrow::Cow;

use super::decode;

/// Deeper multiparts are read as text.
const DEPTH_MAX_LEVELS: usize = 8;
/// Further parts are passed over.
const PARTS_MAX: usize = 64;
/// A header is read so far.
const HEADER_MAX_OCTETS: usize = 128 << 10;
/// One field's value is read so far.
const VALUE_MAX_OCTETS: usize = 8 << 10;
/// Text of one part is read so far.
pub(super) const TEXT_MAX_OCTETS: usize = 256 << 10;

/// A header and a body, not decoded.
#[derive(Clone, Debug)]
pub(super) struct Part<'a> {
    /// `type/subtype`, lower-case.
    pub(super) kind: String,
    /// The fields, with their line ends.
    pub(super) header: &'a [u8],
    /// What follows the empty line.
    pub(super) body: &'a [u8],
}

impl<'a> Part<'a> {
    /// Reads an entity; without a Content-Type it is plain text (RFC 2045 5.2).
    pub(super) fn read(entity: &'a [u8]) -> Self {
        let (header, body) = split_header(entity);
        let declared = field(header, "content-type").unwrap_or_default();
        let kind = declared.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let kind = if kind.contains('/') { kind } else { "text/plain".to_owned() };
        Part { kind, header, body }
    }

    /// A parameter of the Content-Type.
    pub(super) fn parameter(&self, name: &str) -> Option<String> {
        parameter(&field(self.header, "content-type")?, name)
    }

    /// Whether this is a message given back, or its header.
    pub(super) fn is_original(&self) -> bool {
        matches!(
            self.kind.as_str(),
            "message/rfc822"
                | "text/rfc822-headers"
                | "text/rfc822-header"
                | "message/rfc822-headers"
                | "message/global"
                | "message/global-headers"
                | "message/partial"
        )
    }

    /// The body as text: transfer encoding undone, characters as far as they are known, HTML without its
    /// tags.
    pub(super) fn text(&self) -> String {
        let body = &self.body[..self.body.len().min(TEXT_MAX_OCTETS)];
        let encoding = field(self.header, "content-transfer-encoding").unwrap_or_default();
        let octets = match encoding.trim().to_ascii_lowercase().as_str() {
            "base64" => Cow::Owned(decode::base64(body)),
            "quoted-printable" => Cow::Owned(decode::quoted_printable(body)),
            _ => Cow::Borrowed(body),
        };
        let text = decode::characters(&octets);
        if self.kind == "text/html" { decode::without_tags(&text) } else { text }
    }
}

/// All parts that have no parts, in the order in which they stand.
pub(super) fn leaves(message: &[u8]) -> Vec<Part<'_>> {
    let mut found = Vec::new();
    let mut waiting = vec![(message, 0)];
    while let Some((entity, depth)) = waiting.pop() {
        if found.len() >= PARTS_MAX {
            break;
        }
        let mut part = Part::read(entity);
        if !part.kind.starts_with("multipart/") {
            found.push(part);
            continue;
        }
        let boundary = part.parameter("boundary").filter(|_| depth < DEPTH_MAX_LEVELS);
        let children = boundary.map(|boundary| split_parts(part.body, &boundary)).unwrap_or_default();
        if children.is_empty() {
            part.kind = "text/plain".into();
            found.push(part);
            continue;
        }
        // backwards, for the last pushed is the next popped
        waiting.extend(children.into_iter().rev().map(|child| (child, depth + 1)));
    }
    found
}

/// ABNF: `body-part` between `dash-boundary` lines (RFC 2046 5.1.1); what stands before the first and
/// behind the last is no part.
fn split_parts<'a>(body: &'a [u8], boundary: &str) -> Vec<&'a [u8]> {
    let mut parts = Vec::new();
    let mut start = None;
    let mut at = 0;
    for line in body.split_inclusive(|octet| *octet == b'\n') {
        let behind = at + line.len();
        let delimiter = line.strip_prefix(b"--").and_then(|line| line.strip_prefix(boundary.as_bytes()));
        let rest = delimiter.map(<[u8]>::trim_ascii_end);
        if let Some(rest) = rest.filter(|rest| matches!(*rest, b"" | b"--")) {
            if let Some(start) = start.take() {
                parts.push(&body[start..at]);
            }
            if rest == b"--" || parts.len() >= PARTS_MAX {
                return parts;
            }
            start = Some(behind);
        }
        at = behind;
    }
    // cut off before its end
    parts.extend(start.map(|start| &body[start..]));
    parts
}

/// Splits at the empty line, which belongs to neither.
pub(super) fn split_header(entity: &[u8]) -> (&[u8], &[u8]) {
    let mut at = 0;
    for line in entity.split_inclusive(|octet| *octet == b'\n') {
        if matches!(line, b"\n" | b"\r\n") {
            return (&entity[..at.min(HEADER_MAX_OCTETS)], &entity[at + line.len()..]);
        }
        at += line.len();
    }
    (&entity[..at.min(HEADER_MAX_OCTETS)], &[])
}

/// The first field of this name (given in lower case), unfolded.
pub(super) fn field(header: &[u8], name: &str) -> Option<String> {
    fields(header).find(|(found, _)| found == name).map(|(_, value)| value)
}

/// Name in lower case and value of each field, unfolded (RFC 5322 2.2.3); other lines are passed over, an
/// mbox's `From ` among them. An empty line comes as an empty name.
pub(super) fn fields(header: &[u8]) -> impl Iterator<Item = (String, String)> + '_ {
    let mut lines = header.split(|octet| *octet == b'\n').peekable();
    std::iter::from_fn(move || {
        loop {
            let line = lines.next()?.trim_ascii_end();
            if line.is_empty() {
                return Some((String::new(), String::new()));
            }
            let Some(colon) = memchr::memchr(b':', line) else { continue };
            let name = line[..colon].trim_ascii_end();
            if name.is_empty() || !name.iter().all(u8::is_ascii_graphic) {
                continue;
            }
            let mut value = line[colon + 1..].trim_ascii().to_vec();
            let folded = |line: &&[u8]| line.first().is_some_and(|octet| b" \t".contains(octet));
            while let Some(line) = lines.next_if(folded) {
                let line = line.trim_ascii();
                if line.is_empty() {
                    // a line of blanks ends the fields of some reports
                    return Some((lower(name), decode::characters(&value)));
                }
                if value.len() < VALUE_MAX_OCTETS {
                    value.push(b' ');
                    value.extend_from_slice(line);
                }
            }
            value.truncate(VALUE_MAX_OCTETS);
            return Some((lower(name), decode::characters(&value)));
        }
    })
}

fn lower(name: &[u8]) -> String {
    String::from_utf8_lossy(name).to_ascii_lowercase()
}

/// ABNF: `parameter = attribute "=" value` (RFC 2045 5.1).
fn parameter(value: &str, name: &str) -> Option<String> {
    let mut rest = value.split_once(';')?.1;
    loop {
        let (attribute, behind) = rest.split_once('=')?;
        let behind = behind.trim_start();
        let (found, after) = match behind.strip_prefix('"') {
            Some(quoted) => unquote(quoted),
            None => {
                let end = behind.find(|c: char| c == ';' || c.is_whitespace()).unwrap_or(behind.len());
                (behind[..end].to_owned(), &behind[end..])
            }
        };
        let attribute = attribute.rsplit(';').next().unwrap_or_default().trim();
        if attribute.eq_ignore_ascii_case(name) {
            return Some(found);
        }
        rest = after;
    }
}

/// The inside of a quoted string, and what follows its end.
fn unquote(text: &str) -> (String, &str) {
    let mut inner = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (inner, &text[at + 1..]),
            '\\' => inner.extend(chars.next().map(|(_, c)| c)),
            _ => inner.push(c),
        }
    }
    (inner, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaves_come_in_order_and_attached_messages_stay_closed() {
        let message = b"Content-Type: multipart/mixed;\r\n\tboundary=\"a b\"\r\n\r\npreamble\r\n--a b\r\n\
        \r\none\r\n\
            --a b\r\nContent-Type: multipart/alternative; boundary=c\r\n\r\n--c\r\nContent-Type: text/html\r\n\r\n\
            <p>two</p>\r\n--c--\r\n--a b\r\nContent-Type: Message/RFC822\r\n\r\nSubject: x\r\n\r\n--c\r\n";
        let kinds: Vec<_> = leaves(message).into_iter().map(|part| part.kind).collect();
        assert_eq!(kinds, ["text/plain", "text/html", "message/rfc822"]);
    }

    #[test]
    fn bodies_become_text() {
        for (header, body, want) in [
            ("Content-Transfer-Encoding: base64", "aGkg\r\neW91", "hi you"),
            ("Content-Transfer-Encoding: quoted-printable", "a=3Db=\r\nc =zz\n", "a=bc =zz\n"),
            ("Content-Type: text/html", "a<br>b &lt;x@y&gt; <x@y.example>", "a\nb <x@y> <x@y.example>"),
            ("Content-Type: text/html", "a<b", "ab"),
            ("X: y", "\u{1b}$B%a@\u{1b}(B x@y.example", " x@y.example"),
            ("X: y", "grün", "grün"),
        ] {
            let entity = format!("{header}\r\n\r\n{body}");
            assert_eq!(Part::read(entity.as_bytes()).text(), want, "{header} {body}");
        }
    }

    #[test]
    fn nesting_and_counts_end_somewhere() {
        let mut deep = String::new();
        for level in 0..200 {
            deep += &format!("Content-Type: multipart/mixed; boundary=b{level}\n\n--b{level}\n");
        }
        assert_eq!(leaves(deep.as_bytes()).len(), 1);
        let wide = format!("Content-Type: multipart/mixed; boundary=b\n\n{}", "--b\n\nx\n".repeat(1000));
        assert!(leaves(wide.as_bytes()).len() <= PARTS_MAX);
    }
}
