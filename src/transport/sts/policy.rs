//! A policy (RFC 8461 3.2).

use std::time::Duration;

use super::{MAX_AGE_MOST, NoPolicy};
use crate::mail::Domain;

/// Hosts that a policy lists at most: each is some 50 octets in memory.
const HOSTS_MAX: usize = 64;

/// What becomes of mail for a domain whose hosts do not fulfil its policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It does not go there.
    Enforce,
    /// It goes there, and that is reported.
    Testing,
    /// It goes there.
    None,
}

impl Mode {
    /// As policies have it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Mode::Enforce => "enforce",
            Mode::Testing => "testing",
            Mode::None => "none",
        }
    }
}

/// What a domain says of its mail hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// How it is meant.
    pub mode: Mode,
    /// Names of hosts, in lower case, or `*.` and what follows one label.
    pub mx: Vec<Box<str>>,
    /// How long it holds after it was read.
    pub max_age: Duration,
}

impl Policy {
    /// Reads one. What it does not know it passes over; of a key that stands twice the first counts, but for `mx`.
    ///
    /// ```text
    /// policy = "version: STSv1" *(EOL key *WSP ":" *WSP value *WSP)    EOL = [CR] LF
    /// ```
    pub fn parse(text: &[u8]) -> Result<Self, NoPolicy> {
        let malformed = |why| NoPolicy::Malformed(why);
        let text = std::str::from_utf8(text).map_err(|_| malformed("it is no text in UTF-8"))?;
        let (mut is_ours, mut mode, mut max_age, mut mx) = (false, None, None, Vec::new());
        for line in text.lines().map(str::trim_end).filter(|line| !line.is_empty()) {
            let (key, value) = line.split_once(':').ok_or(malformed("a line has no `key: value`"))?;
            let (key, value) = (key.trim_end(), value.trim_start());
            match key {
                "version" if value == "STSv1" => is_ours = true,
                "version" => return Err(malformed("it is of an unknown version")),
                "mode" if mode.is_none() => mode = Some(read_mode(value)?),
                "max_age" if max_age.is_none() => max_age = Some(read_age(value)?),
                "mx" if mx.len() < HOSTS_MAX => mx.push(read_host(value)?),
                "mx" => return Err(malformed("it lists too many hosts")),
                _ => {}
            }
        }
        if !is_ours {
            return Err(malformed("it has no `version: STSv1`"));
        }
        let mode = mode.ok_or(malformed("it has no mode"))?;
        let max_age = max_age.ok_or(malformed("it has no max_age"))?;
        if mx.is_empty() && mode != Mode::None {
            return Err(malformed("it lists no host"));
        }
        Ok(Policy { mode, mx, max_age })
    }

    /// Whether it lists a host, by name or by what follows its first label (RFC 8461 4.1).
    pub fn lists(&self, host: &str) -> bool {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        let above = host.split_once('.').map(|(_, above)| above);
        self.mx.iter().any(|pattern| match pattern.strip_prefix("*.") {
            Some(suffix) => above == Some(suffix),
            None => host == **pattern,
        })
    }
}

fn read_mode(value: &str) -> Result<Mode, NoPolicy> {
    match value {
        "enforce" => Ok(Mode::Enforce),
        "testing" => Ok(Mode::Testing),
        "none" => Ok(Mode::None),
        _ => Err(NoPolicy::Malformed("its mode is none of enforce, testing and none")),
    }
}

fn read_age(value: &str) -> Result<Duration, NoPolicy> {
    let is_number = (1..=10).contains(&value.len()) && value.bytes().all(|digit| digit.is_ascii_digit());
    match value.parse() {
        Ok(seconds) if is_number => Ok(Duration::from_secs(seconds).min(MAX_AGE_MOST)),
        _ => Err(NoPolicy::Malformed("its max_age is no number of seconds")),
    }
}

fn read_host(value: &str) -> Result<Box<str>, NoPolicy> {
    let (star, name) = match value.strip_prefix("*.") {
        Some(name) => ("*.", name),
        None => ("", value),
    };
    match Domain::parse(name.trim_end_matches('.')) {
        Ok(name) if name.as_literal().is_none() => Ok(format!("{star}{name}").into()),
        _ => Err(NoPolicy::Malformed("an mx is neither a host nor `*.` and a domain")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_read_with_what_later_versions_may_add() {
        let text = "version: STSv1\r\nmode: enforce\r\nmx: mail.example.com\r\nmx: *.example.NET\r\n\
                    new: x\r\nmode: none\r\nmx: backupmx.example.com\r\nmax_age: 604800\r\n";
        let policy = Policy::parse(text.as_bytes()).expect("a policy");
        assert_eq!((policy.mode, policy.max_age.as_secs()), (Mode::Enforce, 604_800));
        assert_eq!(Policy::parse(text.replace('\r', "").as_bytes()).as_ref(), Ok(&policy));
        for (host, want) in [
            ("mail.example.com", true),
            ("MAIL.example.com.", true),
            ("a.example.net", true),
            ("a.b.example.net", false),
            ("example.net", false),
            ("xexample.net", false),
            ("other.example.com", false),
            ("", false),
        ] {
            assert_eq!(policy.lists(host), want, "{host}");
        }
        let none =
            Policy::parse(b"version: STSv1\nmode: none\nmax_age: 99999999999").map(|none| none.max_age);
        assert!(none.is_err(), "eleven digits");
        let none = Policy::parse(b"version:STSv1\nmode:none\nmax_age:9999999999  \n").expect("a policy");
        assert_eq!((none.mx.len(), none.max_age), (0, MAX_AGE_MOST));
    }

    #[test]
    fn what_is_no_policy_is_none() {
        let good = "version: STSv1\nmode: testing\nmx: a.example\nmax_age: 1\n";
        assert!(Policy::parse(good.as_bytes()).is_ok());
        for (from, to) in [
            ("version: STSv1\n", ""),
            ("STSv1", "STSv2"),
            ("mode: testing\n", ""),
            ("testing", "Enforce"),
            ("max_age: 1\n", ""),
            ("max_age: 1", "max_age: -1"),
            ("max_age: 1", "max_age: "),
            ("mx: a.example\n", ""),
            ("a.example", "*"),
            ("a.example", "*.*.example"),
            ("a.example", "a.*.example"),
            ("a.example", "[192.0.2.1]"),
            ("mode: testing\n", "mode testing\n"),
        ] {
            let text = good.replacen(from, to, 1);
            assert!(matches!(Policy::parse(text.as_bytes()), Err(NoPolicy::Malformed(_))), "{text}");
        }
        assert!(Policy::parse(b"\xff").is_err() && Policy::parse(b"<html></html>").is_err());
        let many = format!("{good}{}", "mx: a.example\n".repeat(HOSTS_MAX));
        assert!(Policy::parse(many.as_bytes()).is_err());
    }
}
