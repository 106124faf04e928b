//! What a sender wants to hear of their mail (RFC 3461 4): NOTIFY, ORCPT, RET and ENVID.
//!
//! ORCPT and ENVID travel as they were written: only whoever gave them interprets them.

use std::fmt;

/// ENVID has at most so many octets (RFC 3461 4.4).
const ENVELOPE_ID_MAX_OCTETS: usize = 100;
/// ORCPT has at most so many octets (RFC 3461 4.2).
const ORIGINAL_RECIPIENT_MAX_OCTETS: usize = 500;

/// Of what a sender wants to hear where a recipient is concerned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Notify {
    /// They did not say: of failure, and of delay if the relay sees fit.
    #[default]
    Unsaid,
    /// Of nothing.
    Never,
    /// Of these, and nothing else.
    On {
        /// That it was delivered, or handed to a server that tells no more.
        success: bool,
        /// That it was given up.
        failure: bool,
        /// That it takes long.
        delay: bool,
    },
}

impl Notify {
    /// Parses a value.
    ///
    /// ABNF: `notify-esmtp-value = "NEVER" / 1#notify-list-element` (RFC 3461 4.1)
    pub fn parse(text: &str) -> Option<Self> {
        if text.eq_ignore_ascii_case("NEVER") {
            return Some(Notify::Never);
        }
        let (mut success, mut failure, mut delay) = (false, false, false);
        for word in text.split(',') {
            match word.to_ascii_uppercase().as_str() {
                "SUCCESS" => success = true,
                "FAILURE" => failure = true,
                "DELAY" => delay = true,
                _ => return None,
            }
        }
        Some(Notify::On { success, failure, delay })
    }

    /// Whether they want to hear that it was given up.
    pub fn wants_failure(self) -> bool {
        matches!(self, Notify::Unsaid | Notify::On { failure: true, .. })
    }

    /// Whether they want to hear that it takes long.
    pub fn wants_delay(self) -> bool {
        matches!(self, Notify::Unsaid | Notify::On { delay: true, .. })
    }

    /// Whether they want to hear that it was delivered.
    pub fn wants_success(self) -> bool {
        matches!(self, Notify::On { success: true, .. })
    }
}

impl fmt::Display for Notify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Notify::On { success, failure, delay } = *self else { return f.write_str("NEVER") };
        let words = [(success, "SUCCESS"), (failure, "FAILURE"), (delay, "DELAY")];
        let said: Vec<&str> =
            words.into_iter().filter_map(|(is_said, word)| is_said.then_some(word)).collect();
        f.write_str(&said.join(","))
    }
}

/// How much of a message a report of failure gives back (RFC 3461 4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Return {
    /// All of it.
    Full,
    /// Its header.
    Headers,
}

impl Return {
    /// The word in `RET=`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Return::Full => "FULL",
            Return::Headers => "HDRS",
        }
    }
}

/// A text in xtext (RFC 3461 4): printable ASCII, `+` and two hex digits for everything else.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Xtext(Box<str>);

impl Xtext {
    /// An ENVID, if it may be one.
    ///
    /// ABNF: `envid-parameter = "ENVID=" xtext`
    pub fn envelope_id(text: &str) -> Option<Self> {
        (text.len() <= ENVELOPE_ID_MAX_OCTETS && is_xtext(text)).then(|| Xtext(text.into()))
    }

    /// An ORCPT, if it may be one.
    ///
    /// ABNF: `orcpt-parameter = "ORCPT=" original-recipient-address`,
    /// `original-recipient-address = addr-type ";" xtext` (RFC 3461 4.2); for the type `utf-8` an address in
    /// `utf-8-addr-xtext` or, in a session with SMTPUTF8, in UTF-8 (RFC 6533 3).
    pub fn original_recipient(text: &str) -> Option<Self> {
        let (kind, address) = text.split_once(';')?;
        let is_atom = !kind.is_empty() && kind.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-');
        let is_good =
            if kind.eq_ignore_ascii_case("utf-8") { is_utf8_xtext(address) } else { is_xtext(address) };
        if text.len() > ORIGINAL_RECIPIENT_MAX_OCTETS || !is_atom || address.is_empty() || !is_good {
            return None;
        }
        // it may have to travel in ASCII, which is longer
        Some(Xtext(text.into())).filter(|text| text.to_ascii().len() <= ORIGINAL_RECIPIENT_MAX_OCTETS)
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// As it may be sent to a server that was not told SMTPUTF8: what is beyond ASCII as `\x{HEX}`, which is
    /// only ever found in an address of the type `utf-8` (RFC 6533 3).
    pub fn to_ascii(&self) -> String {
        let escaped =
            |c: char| if c.is_ascii() { c.to_string() } else { format!("\\x{{{:X}}}", u32::from(c)) };
        self.0.chars().map(escaped).collect()
    }

    /// What it stands for, fit for a line of a header: what may not stand there is left as it was written.
    pub fn decoded(&self) -> String {
        let mut out = Vec::with_capacity(self.0.len());
        let mut rest = self.0.as_bytes();
        while let Some((&octet, behind)) = rest.split_first() {
            let hex = behind.get(..2).filter(|_| octet == b'+').and_then(|hex| std::str::from_utf8(hex).ok());
            match hex
                .and_then(|hex| u8::from_str_radix(hex, 16).ok())
                .filter(|octet| matches!(octet, 32..=126))
            {
                Some(plain) => {
                    out.push(plain);
                    rest = &behind[2..];
                }
                None => {
                    out.push(octet);
                    rest = behind;
                }
            }
        }
        String::from_utf8_lossy(&out).into_owned()
    }
}

impl fmt::Display for Xtext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Xtext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// ABNF: `xtext = *( xchar / hexchar )`, `hexchar = ASCII "+" immediately followed by two upper case hex digits`.
fn is_xtext(text: &str) -> bool {
    let mut octets = text.bytes();
    while let Some(octet) = octets.next() {
        let is_hex =
            |octet: Option<u8>| octet.is_some_and(|octet| matches!(octet, b'0'..=b'9' | b'A'..=b'F'));
        let is_good = match octet {
            b'+' => is_hex(octets.next()) && is_hex(octets.next()),
            b'=' => false,
            other => other.is_ascii_graphic(),
        };
        if !is_good {
            return false;
        }
    }
    true
}

/// ABNF: `utf-8-addr-xtext` or `utf-8-address`: also `\x{HEX}`, and characters beyond ASCII that are neither
/// controls nor spaces.
fn is_utf8_xtext(text: &str) -> bool {
    let is_plain = |c: char| !c.is_control() && !c.is_whitespace() && c != '=';
    text.chars().all(|c| if c.is_ascii() { c.is_ascii_graphic() && is_plain(c) } else { is_plain(c) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notify_is_read_and_said_again() {
        for (text, want, again) in [
            ("never", Some(Notify::Never), "NEVER"),
            (
                "success,FAILURE",
                Some(Notify::On { success: true, failure: true, delay: false }),
                "SUCCESS,FAILURE",
            ),
            ("DELAY", Some(Notify::On { success: false, failure: false, delay: true }), "DELAY"),
            ("", None, ""),
            ("NEVER,DELAY", None, ""),
            ("SOMETIMES", None, ""),
        ] {
            let parsed = Notify::parse(text);
            assert_eq!(parsed, want, "{text}");
            assert_eq!(parsed.map_or(String::new(), |notify| notify.to_string()), again);
        }
        assert!(
            Notify::Unsaid.wants_failure() && Notify::Unsaid.wants_delay() && !Notify::Unsaid.wants_success()
        );
        assert!(!Notify::Never.wants_failure() && !Notify::Never.wants_delay());
    }

    #[test]
    fn xtext_is_kept_as_written_and_decoded_for_eyes() {
        for (text, decoded) in [
            ("rfc822;ann@b.example", Some("rfc822;ann@b.example")),
            ("rfc822;a+2Bb@c.example", Some("rfc822;a+b@c.example")),
            ("rfc822;a+0D+0Ab@c.example", Some("rfc822;a+0D+0Ab@c.example")),
            ("utf-8;zo\\x{EB}@c.example", Some("utf-8;zo\\x{EB}@c.example")),
            ("utf-8;zoë@c.example", Some("utf-8;zoë@c.example")),
            ("rfc822;zoë@c.example", None),
            ("rfc822;a b", None),
            ("rfc822;a+2", None),
            ("rfc822;a+2b", None),
            ("rfc822;a=b", None),
            ("rfc822;", None),
            (";a@b.example", None),
            ("nobody", None),
        ] {
            let parsed = Xtext::original_recipient(text).map(|text| text.decoded());
            assert_eq!(parsed.as_deref(), decoded, "{text}");
        }
        let utf8 = Xtext::original_recipient("utf-8;zoë@c.example").expect("is one");
        assert_eq!(utf8.to_ascii(), "utf-8;zo\\x{EB}@c.example");
        assert!(Xtext::original_recipient(&format!("rfc822;{}", "a".repeat(500))).is_none());
        assert!(Xtext::original_recipient(&format!("utf-8;{}", "ë".repeat(82))).is_some());
        assert!(Xtext::original_recipient(&format!("utf-8;{}", "ë".repeat(83))).is_none());
        assert!(Xtext::envelope_id("QQ314159").is_some() && Xtext::envelope_id(&"a".repeat(101)).is_none());
    }
}
