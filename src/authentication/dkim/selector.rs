//! The name of a key below its domain (RFC 6376 3.1).

use std::fmt;

use crate::clock::Timestamp;
use crate::mail::{Domain, DomainError};

/// A selector: one label or several, in lower case.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Selector(Box<str>);

/// Why a text is no selector.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no selector: labels of letters, digits and hyphens, with dots between them")]
pub struct SelectorError(Box<str>);

impl Selector {
    /// ABNF: `selector = sub-domain *( "." sub-domain )` (RFC 6376 3.1).
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let is_name = !text.starts_with('[') && !text.ends_with('.') && text.is_ascii();
        match Domain::parse(text) {
            Ok(name) if is_name => Ok(Selector(name.as_str().into())),
            _ => Err(SelectorError(text.into())),
        }
    }

    /// The one that a key is given which is made now: `20261126-ed25519`, and `20261126-ed25519-2` for the second
    /// of a day.
    pub(super) fn dated(now: Timestamp, algorithm: &str, number: u32) -> Self {
        let day = day_of(now);
        let count = if number > 1 { format!("-{number}") } else { String::new() };
        Selector(format!("{day}-{algorithm}{count}").into())
    }

    /// Where its record is.
    pub fn record_name(&self, domain: &Domain) -> Result<Domain, DomainError> {
        Domain::parse(&format!("{self}._domainkey.{domain}"))
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn day_of(now: Timestamp) -> String {
    let second =
        i64::try_from(now.as_secs()).ok().and_then(|second| jiff::Timestamp::from_second(second).ok());
    let day = second.unwrap_or_default().to_zoned(jiff::tz::TimeZone::UTC);
    day.strftime("%Y%m%d").to_string()
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_are_labels() {
        for good in ["a", "20261126-rsa", "march.2005.reykjavik", "S1"] {
            assert!(Selector::parse(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "a.", "a..b", "-a", "[127.0.0.1]", "ä", "a b", "../../etc", &"x".repeat(64)] {
            assert!(Selector::parse(bad).is_err(), "{bad}");
        }
        let now = Timestamp::from_millis(1_795_000_000_000);
        assert_eq!(Selector::dated(now, "rsa", 1).as_str(), "20261118-rsa");
        assert_eq!(Selector::dated(now, "rsa", 2).as_str(), "20261118-rsa-2");
    }
}
