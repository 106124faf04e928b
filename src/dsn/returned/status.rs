//! Enhanced status codes and reply codes in what servers say (RFC 3463, RFC 5321 4.2).
//!
//! Owns which of several codes counts. Promises that a code is one that stands in the text, or, from
//! [`from_words`], one that the words mean beyond doubt. Never takes a piece of an IP address or a version
//! for a code.

use super::phrases::MEANINGS;
use crate::mail::EnhancedStatus;

/// A code in a text, and whether a reply code stands right before it.
#[derive(Clone, Copy, Debug)]
struct Stated {
    status: EnhancedStatus,
    replied: bool,
}

/// `X.0.0` says no more than its class (RFC 3463 3.1).
pub(super) fn is_generic(status: EnhancedStatus) -> bool {
    status.subject == 0 && status.detail == 0
}

/// The status that a text states. That of a reply goes before others, a specific one before a generic one;
/// and where it says only that time was up (X.4.7), a reply behind it says why.
pub(super) fn stated(text: &str) -> Option<EnhancedStatus> {
    let all: Vec<Stated> = codes(text).collect();
    let replied = || all.iter().filter(|code| code.replied && !is_generic(code.status));
    let expired = |status: EnhancedStatus| status.subject == 4 && status.detail == 7;
    let best = replied().find(|code| !expired(code.status)).or_else(|| replied().next());
    best.or_else(|| all.iter().find(|code| !is_generic(code.status)))
        .or_else(|| all.first())
        .map(|code| code.status)
}

/// The same, of those alone that stand behind a reply code.
pub(super) fn replied(text: &str) -> Option<EnhancedStatus> {
    codes(text).any(|code| code.replied).then(|| stated(text)).flatten()
}

/// Failures only: success is no news in a report of failure.
fn codes(text: &str) -> impl Iterator<Item = Stated> + '_ {
    let octets = text.as_bytes();
    memchr::memchr2_iter(b'4', b'5', octets).filter_map(move |at| {
        if at > 0 && (octets[at - 1].is_ascii_alphanumeric() || octets[at - 1] == b'.') {
            return None;
        }
        // five digits, two points and one more octet, which ends it
        let end = octets.len().min(at + 10);
        let length = octets[at..end].iter().take_while(|c| c.is_ascii_digit() || **c == b'.').count();
        let word = octets.get(at..at + length)?;
        let word = word.strip_suffix(b".").unwrap_or(word);
        if octets.get(at + word.len()).is_some_and(u8::is_ascii_alphanumeric) {
            return None;
        }
        let (status, _) = EnhancedStatus::parse_prefix(std::str::from_utf8(word).ok()?)?;
        let before = octets[..at].trim_ascii_end();
        let before =
            before.strip_suffix(b"-").or(before.strip_suffix(b":")).unwrap_or(before).trim_ascii_end();
        Some(Stated { status, replied: ends_with_reply(before) })
    })
}

fn ends_with_reply(text: &[u8]) -> bool {
    let digits = text.len() - text.iter().rev().take(4).take_while(|octet| octet.is_ascii_digit()).count();
    let code = &text[digits..];
    code.len() == 3 && matches!(code[0], b'4' | b'5') && code[1] < b'6'
}

/// The first reply code of failure: three digits that stand alone, not part of a number, name or address.
pub(super) fn reply_code(text: &str) -> Option<u16> {
    let octets = text.as_bytes();
    memchr::memchr2_iter(b'4', b'5', octets).find_map(|at| {
        let code = octets.get(at..at + 3)?;
        let plain = code.iter().all(u8::is_ascii_digit) && code[1] < b'6';
        let apart = |octet: Option<&u8>| octet.is_none_or(|octet| b" \t:;-<>[](),'\"".contains(octet));
        let before = at.checked_sub(1).and_then(|before| octets.get(before));
        // "-" begins a date or an id, but a continued reply ends with it
        let begins = apart(before) && before != Some(&b'-');
        if !plain || !begins || !apart(octets.get(at + 3)) {
            return None;
        }
        std::str::from_utf8(code).ok()?.parse().ok()
    })
}

/// What words alone say, where nobody stated a code.
pub(super) fn from_words(text: &str) -> Option<EnhancedStatus> {
    let text = text.to_lowercase();
    MEANINGS.iter().find(|(_, words)| words.are_in(&text)).map(|(status, _)| *status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_that_counts_is_found() {
        for (text, want) in [
            ("550 5.1.1 <x@y.example>... User unknown", Some("5.1.1")),
            ("550-5.7.26 Unauthenticated", Some("5.7.26")),
            ("550: 5.1.1 gone", Some("5.1.1")),
            ("Sorry, no mailbox here by that name. (#5.1.1)", Some("5.1.1")),
            ("5.3.0 - Other problem 550-'Unknown user'", Some("5.3.0")),
            ("5.0.0 then 550 5.2.2 full", Some("5.2.2")),
            ("5.1.1 and 452 4.2.2 full", Some("4.2.2")),
            ("554 4.4.7 Message expired.<421 4.4.2 Connection timed out>", Some("4.4.2")),
            ("4.4.7 expired", Some("4.4.7")),
            ("501 5.0.0 Invalid domain", Some("5.0.0")),
            ("ends with 5.1.1.", Some("5.1.1")),
            ("host 203.5.1.1, 5.1.1.4, v5.1.1, Version 4.0.994.63, (5.5.2653)", None),
            ("250 2.0.0 fine", None),
        ] {
            assert_eq!(stated(text).map(|status| status.to_string()).as_deref(), want, "{text}");
        }
    }

    #[test]
    fn reply_codes_stand_alone() {
        for (text, want) in [
            ("<<< 550 no", Some(550)),
            ("said: 451-greylisted", Some(451)),
            ("[550 5.1.1 User unknown]", Some(550)),
            ("id 5501, 192.0.2.550, 2024-550, e550", None),
            ("599 is none, 250 neither", None),
        ] {
            assert_eq!(reply_code(text), want, "{text}");
        }
    }
}
