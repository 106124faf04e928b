//! Domain names as mail uses them: lower-case A-labels, or an address literal in brackets.
//!
//! Promises that two spellings of one domain are one value, so that queues, limits and routes never
//! see `Example.NET` beside `example.net` or a U-label beside its A-label.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// RFC 5321 4.5.3.1.2: a domain has at most 255 octets.
pub const DOMAIN_MAX_OCTETS: usize = 255;
const LABEL_MAX_OCTETS: usize = 63;

/// A domain or address literal, normalised.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Domain(Box<str>);

/// Why a text is no domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DomainError {
    /// Nothing between the dots, or nothing at all.
    #[error("a domain label is empty")]
    EmptyLabel,
    /// Longer than [`DOMAIN_MAX_OCTETS`], or a label longer than 63.
    #[error("the domain or one of its labels is too long")]
    TooLong,
    /// A character that no host name may have.
    #[error("the domain has a character that no domain may have")]
    BadCharacter,
    /// Brackets around something that is no IP address.
    #[error("the address literal is no IP address")]
    BadLiteral,
}

impl Domain {
    /// Parses a domain (RFC 5321 `Domain`, RFC 5890 for U-labels) or an address literal in brackets.
    pub fn parse(text: &str) -> Result<Self, DomainError> {
        if let Some(literal) = text.strip_prefix('[') {
            let inner = literal.strip_suffix(']').ok_or(DomainError::BadLiteral)?;
            return Self::from_literal(inner);
        }
        let text = text.strip_suffix('.').unwrap_or(text);
        let name = if text.is_ascii() {
            text.to_ascii_lowercase()
        } else {
            idna::domain_to_ascii(text).map_err(|_| DomainError::BadCharacter)?
        };
        check_name(&name)?;
        Ok(Domain(name.into_boxed_str()))
    }

    fn from_literal(inner: &str) -> Result<Self, DomainError> {
        if let Ok(v4) = inner.parse::<Ipv4Addr>() {
            return Ok(Self::literal(IpAddr::V4(v4)));
        }
        // get() rather than indexing: the text may be anything, cut inside a character too
        let tagged = inner.get(..5).filter(|tag| tag.eq_ignore_ascii_case("ipv6:"));
        let v6 = tagged.and_then(|_| inner.get(5..)?.parse::<Ipv6Addr>().ok());
        v6.map(|v6| Self::literal(IpAddr::V6(v6))).ok_or(DomainError::BadLiteral)
    }

    /// The address literal of `ip` (RFC 5321 4.1.3).
    pub fn literal(ip: IpAddr) -> Self {
        Domain(
            match ip {
                IpAddr::V4(v4) => format!("[{v4}]"),
                IpAddr::V6(v6) => format!("[IPv6:{v6}]"),
            }
            .into_boxed_str(),
        )
    }

    /// The address, where this is a literal.
    pub fn as_literal(&self) -> Option<IpAddr> {
        let inner = self.0.strip_prefix('[')?.strip_suffix(']')?;
        inner.strip_prefix("IPv6:").unwrap_or(inner).parse().ok()
    }

    /// The normalised text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// RFC 5321 `sub-domain`, and the underscore that real host names have.
fn check_name(name: &str) -> Result<(), DomainError> {
    if name.len() > DOMAIN_MAX_OCTETS {
        return Err(DomainError::TooLong);
    }
    for label in name.split('.') {
        if label.is_empty() {
            return Err(DomainError::EmptyLabel);
        }
        if label.len() > LABEL_MAX_OCTETS {
            return Err(DomainError::TooLong);
        }
        let good = |octet: u8| octet.is_ascii_alphanumeric() || octet == b'-' || octet == b'_';
        if !label.bytes().all(good) || label.starts_with('-') || label.ends_with('-') {
            return Err(DomainError::BadCharacter);
        }
    }
    Ok(())
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Domain({})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_domain_are_one_value() {
        for (text, want) in [
            ("Example.NET", "example.net"),
            ("example.net.", "example.net"),
            ("BÜCHER.example", "xn--bcher-kva.example"),
            ("_dmarc.example", "_dmarc.example"),
            ("[127.0.0.1]", "[127.0.0.1]"),
            ("[ipv6:2001:DB8::1]", "[IPv6:2001:db8::1]"),
            ("localhost", "localhost"),
        ] {
            assert_eq!(Domain::parse(text).map(|d| d.to_string()).as_deref(), Ok(want), "{text}");
        }
    }

    #[test]
    fn what_is_no_domain_says_why() {
        let long_label = "a".repeat(64);
        let long_name = format!("{}.example", "a.".repeat(130));
        for (text, why) in [
            ("", DomainError::EmptyLabel),
            ("a..b", DomainError::EmptyLabel),
            (".example", DomainError::EmptyLabel),
            ("-a.example", DomainError::BadCharacter),
            ("a b.example", DomainError::BadCharacter),
            ("a\0.example", DomainError::BadCharacter),
            (long_label.as_str(), DomainError::TooLong),
            (long_name.as_str(), DomainError::TooLong),
            ("[1.2.3]", DomainError::BadLiteral),
            ("[1.2.3.4", DomainError::BadLiteral),
            ("[2001:db8::1]", DomainError::BadLiteral),
            ("[ipvé6:::1]", DomainError::BadLiteral),
        ] {
            assert_eq!(Domain::parse(text), Err(why), "{text}");
        }
    }

    #[test]
    fn a_literal_gives_its_address_back() {
        for ip in ["192.0.2.7", "2001:db8::7"] {
            let ip: IpAddr = ip.parse().expect("an address");
            assert_eq!(Domain::literal(ip).as_literal(), Some(ip));
        }
        assert_eq!(Domain::parse("example.net").expect("a domain").as_literal(), None);
    }
}
