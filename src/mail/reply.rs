//! SMTP replies (RFC 5321 4.2) and enhanced status codes (RFC 3463).

use std::fmt;

/// The first digit of a final reply, as far as it decides what happens next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// 2xx.
    Success,
    /// 4xx; a 3xx too, where it decides anything: it is leave to go on, never acceptance.
    Transient,
    /// 5xx.
    Permanent,
}

/// `class "." subject "." detail` (RFC 3463 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EnhancedStatus {
    /// 2, 4 or 5.
    pub class: u8,
    /// What it is about: address, mailbox, mail system, network, protocol, content, policy.
    pub subject: u16,
    /// Which fault it is.
    pub detail: u16,
}

impl EnhancedStatus {
    /// The code with these numbers.
    pub const fn new(class: u8, subject: u16, detail: u16) -> Self {
        EnhancedStatus { class, subject, detail }
    }

    /// Parses a code at the start of a reply's text; gives the rest behind it as well.
    ///
    /// ABNF: `status-code = class "." subject "." detail` (RFC 3463 2)
    pub fn parse_prefix(text: &str) -> Option<(Self, &str)> {
        let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
        let mut numbers = word.splitn(3, '.');
        let class = match numbers.next()? {
            "2" => 2,
            "4" => 4,
            "5" => 5,
            _ => return None,
        };
        let subject = parse_three_digits(numbers.next()?)?;
        let detail = parse_three_digits(numbers.next()?)?;
        Some((EnhancedStatus { class, subject, detail }, rest))
    }
}

fn parse_three_digits(digits: &str) -> Option<u16> {
    let plain = !digits.is_empty() && digits.len() <= 3 && digits.bytes().all(|d| d.is_ascii_digit());
    if plain { digits.parse().ok() } else { None }
}

impl fmt::Display for EnhancedStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.class, self.subject, self.detail)
    }
}

/// A reply: three digits and text. The text has no line ends, no control characters; several lines
/// stand joined by one space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// 200 to 599.
    pub code: u16,
    /// The enhanced status, where the reply carries one.
    pub enhanced: Option<EnhancedStatus>,
    /// The text behind both.
    pub text: Box<str>,
}

impl Reply {
    /// A reply of our own.
    pub fn new(code: u16, enhanced: EnhancedStatus, text: impl Into<Box<str>>) -> Self {
        Reply { code, enhanced: Some(enhanced), text: text.into() }
    }

    /// Reads one as logs have it, all of its lines in one: three digits, perhaps an enhanced status, and text.
    pub fn parse(text: &str) -> Option<Self> {
        let (code, rest) = text.trim().split_at_checked(3)?;
        let is_code = code.bytes().all(|digit| digit.is_ascii_digit())
            && !rest.starts_with(|c: char| c.is_ascii_digit());
        let code = code.parse().ok().filter(|code| is_code && (200..600).contains(code))?;
        let rest = rest.trim_start_matches('-').trim_start();
        let (enhanced, text) =
            EnhancedStatus::parse_prefix(rest).map_or((None, rest), |(it, rest)| (Some(it), rest));
        Some(Reply { code, enhanced, text: text.into() })
    }

    /// What the first digit says.
    pub fn severity(&self) -> Severity {
        match self.code {
            200..300 => Severity::Success,
            300..500 => Severity::Transient,
            _ => Severity::Permanent,
        }
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.enhanced {
            Some(enhanced) => write!(f, "{} {} {}", self.code, enhanced, self.text),
            None => write!(f, "{} {}", self.code, self.text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_is_read_as_logs_have_it() {
        for (text, want) in [
            ("550 5.1.1 no such user", Some("550 5.1.1 no such user")),
            ("421 4.7.0", Some("421 4.7.0 ")),
            (" 452-too many ", Some("452 too many")),
            ("550", Some("550 ")),
            ("5501 x", None),
            ("199 x", None),
            ("no", None),
            ("55\u{e9} x", None),
        ] {
            assert_eq!(Reply::parse(text).map(|reply| reply.to_string()).as_deref(), want, "{text}");
        }
    }

    #[test]
    fn enhanced_codes_are_read_only_where_they_stand() {
        let code = |class, subject, detail| Some(EnhancedStatus::new(class, subject, detail));
        for (text, want, rest) in [
            ("5.1.1 no such user", code(5, 1, 1), "no such user"),
            ("4.7.650 slow down", code(4, 7, 650), "slow down"),
            ("2.0.0", code(2, 0, 0), ""),
            ("3.1.1 odd class", None, ""),
            ("5.1 too short", None, ""),
            ("5.1.1000 too long", None, ""),
            ("5.+1.1 no digits", None, ""),
            ("user 5.1.1 unknown", None, ""),
        ] {
            let parsed = EnhancedStatus::parse_prefix(text);
            assert_eq!(parsed.map(|(c, _)| c), want, "{text}");
            assert_eq!(parsed.map_or("", |(_, r)| r), rest, "{text}");
        }
    }
}
