//! Addresses that a text mentions.
//!
//! Owns telling an address from the marks around it. Promises `local@domain` in ASCII within RFC 5321's
//! limits, in time linear in the text.

use crate::mail::{LOCAL_PART_MAX_OCTETS, PATH_MAX_OCTETS};

/// An address and where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mention<'a> {
    /// The address, without brackets.
    pub(super) address: &'a str,
    /// Where it begins in the text.
    pub(super) start: usize,
    /// Where it ends.
    pub(super) end: usize,
}

/// All addresses of a text, in order.
pub(super) fn mentions(text: &str) -> impl Iterator<Item = Mention<'_>> {
    let octets = text.as_bytes();
    memchr::memchr_iter(b'@', octets).filter_map(move |at| {
        let from = at.saturating_sub(LOCAL_PART_MAX_OCTETS + 1);
        let local = octets[from..at].iter().rev().take_while(|octet| is_local(**octet)).count();
        let until = octets.len().min(at + PATH_MAX_OCTETS);
        let domain = octets[at + 1..until].iter().take_while(|octet| is_domain(**octet)).count();
        let mut start = at - local;
        let mut end = at + 1 + domain;
        // "SMTP=x@y", of X.400 addresses that hold one of ours, and "RCPT=x@y"
        if let Some(equals) = octets[start..at].iter().position(|octet| *octet == b'=') {
            let name = &octets[start..start + equals];
            if [&b"smtp"[..], b"rfc822", b"rcpt", b"to"].iter().any(|known| name.eq_ignore_ascii_case(known))
            {
                start += equals + 1;
            }
        }
        // quotes of a sentence, not of the address
        start += octets[start..at].iter().take_while(|octet| b"'`.*=-_".contains(octet)).count();
        end -= octets[at + 1..end].iter().rev().take_while(|octet| b".-".contains(octet)).count();
        let domain = &text[at + 1..end];
        let good = start < at
            && at - start <= LOCAL_PART_MAX_OCTETS
            && domain.contains('.')
            && !domain.contains("..")
            && !domain.starts_with('.')
            // a local part that is quoted, or the part behind a second "@", is none of ours
            && octets.get(end) != Some(&b'@');
        good.then(|| Mention { address: &text[start..end], start, end })
    })
}

fn is_local(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~.".contains(&octet)
}

fn is_domain(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || b"-._".contains(&octet)
}

/// The address with which a line begins, behind marks of lists and quotes.
pub(super) fn leading(line: &str) -> Option<Mention<'_>> {
    let first = mentions(line).next()?;
    let before = &line[..first.start];
    before.chars().all(|c| c.is_whitespace() || "<\"'[*>-(|•·:".contains(c)).then_some(first)
}

/// One address out of a field's value: what stands in brackets, else the first, else all of it.
pub(super) fn only(value: &str) -> &str {
    let value = value.trim();
    let value = match (value.find('<'), value.rfind('>')) {
        (Some(open), Some(close)) if open < close => &value[open + 1..close],
        _ => value.trim_matches(['<', '>']),
    };
    let value = value.trim();
    if value.contains(char::is_whitespace) {
        return mentions(value).next().map_or(value, |mention| mention.address);
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_told_from_what_surrounds_them() {
        for (text, want) in [
            ("<a@b.example>: no", &["a@b.example"][..]),
            ("to 'a+x@b.example', \"c@d.example\".", &["a+x@b.example", "c@d.example"]),
            ("dda:SMTP=a@b.example; on", &["a@b.example"]),
            ("[SMTP:a@b.example]", &["a@b.example"]),
            ("v+a=c.example@b.example", &["v+a=c.example@b.example"]),
            ("a@localhost, @b.example, a@.example, a@b..example", &[]),
        ] {
            let found: Vec<_> = mentions(text).map(|mention| mention.address).collect();
            assert_eq!(found, want, "{text}");
        }
    }

    #[test]
    fn lines_begin_with_addresses_behind_marks() {
        for (line, want) in [
            ("   * <a@b.example>: no", Some("a@b.example")),
            ("\t* [a@b.example]: 550", Some("a@b.example")),
            (">>> a@b.example <a@b.example>", Some("a@b.example")),
            ("To: a@b.example", None),
            (">>> RCPT TO:<a@b.example>", None),
        ] {
            assert_eq!(leading(line).map(|mention| mention.address), want, "{line}");
        }
    }
}
