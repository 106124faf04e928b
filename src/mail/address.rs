//! Mailbox addresses and reverse-paths (RFC 5321 4.1.2), in the form in which they travel.
//!
//! The local part is kept octet for octet as it was written: only its own domain may interpret it.

use std::fmt;

use super::domain::{Domain, DomainError};

/// RFC 5321 4.5.3.1.1.
pub const LOCAL_PART_MAX_OCTETS: usize = 64;
/// RFC 5321 4.5.3.1.3, without the angle brackets.
pub const PATH_MAX_OCTETS: usize = 254;

/// `Local-part "@" ( Domain / address-literal )`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    local: Box<str>,
    domain: Domain,
}

/// Why a text is no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// No `@` outside quotes.
    #[error("the address has no domain")]
    NoDomain,
    /// Neither `Dot-string` nor `Quoted-string`.
    #[error("the local part is malformed")]
    BadLocalPart,
    /// Over [`LOCAL_PART_MAX_OCTETS`] or [`PATH_MAX_OCTETS`].
    #[error("the address is too long")]
    TooLong,
    /// Behind the `@` stands no domain.
    #[error("{0}")]
    Domain(#[from] DomainError),
}

impl Address {
    /// Parses an address without angle brackets. Its local part may hold characters beyond ASCII (RFC 6531
    /// 3.3), which [`Address::is_ascii`] tells; a domain in Unicode becomes A-labels.
    ///
    /// ABNF: `Mailbox = Local-part "@" ( Domain / address-literal )` (RFC 5321 4.1.2)
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        if text.len() > PATH_MAX_OCTETS {
            return Err(AddressError::TooLong);
        }
        // the local part may hold a quoted "@"; the domain never does
        let (local, domain) = text.rsplit_once('@').ok_or(AddressError::NoDomain)?;
        if local.len() > LOCAL_PART_MAX_OCTETS {
            return Err(AddressError::TooLong);
        }
        if !is_dot_string(local) && !is_quoted_string(local) {
            return Err(AddressError::BadLocalPart);
        }
        let domain = Domain::parse(domain)?;
        // A-labels are longer than what they were written as
        if local.len() + 1 + domain.as_str().len() > PATH_MAX_OCTETS {
            return Err(AddressError::TooLong);
        }
        Ok(Address { local: local.into(), domain })
    }

    /// The local part, quotes included.
    pub fn local(&self) -> &str {
        &self.local
    }

    /// Whether servers without SMTPUTF8 take it.
    pub fn is_ascii(&self) -> bool {
        self.local.is_ascii()
    }

    /// The domain.
    pub fn domain(&self) -> &Domain {
        &self.domain
    }
}

/// ABNF: `Dot-string = Atom *("." Atom)` (RFC 5321 4.1.2), `atext` of RFC 5322 3.2.3 and
/// `UTF8-non-ascii` (RFC 6531 3.3).
fn is_dot_string(local: &str) -> bool {
    local.split('.').all(|atom| !atom.is_empty() && atom.chars().all(is_atext))
}

fn is_atext(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c) || is_beyond_ascii(c)
}

/// What may stand in an address of the characters beyond ASCII: no control and no space of any kind, some of
/// which others take for the end of a line.
fn is_beyond_ascii(c: char) -> bool {
    !c.is_ascii() && !c.is_control() && !c.is_whitespace()
}

/// ABNF: `Quoted-string = DQUOTE *QcontentSMTP DQUOTE` (RFC 5321 4.1.2).
fn is_quoted_string(local: &str) -> bool {
    let Some(inner) = local.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
        return false;
    };
    let mut characters = inner.chars();
    while let Some(c) = characters.next() {
        let good = match c {
            '\\' => matches!(characters.next(), Some(' '..='~')),
            '"' => false,
            other => matches!(other, ' '..='~') || is_beyond_ascii(other),
        };
        if !good {
            return false;
        }
    }
    true
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.local, self.domain)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({self})")
    }
}

/// Whom a bounce goes to: an address, or nobody (`<>`).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ReversePath {
    /// `<>`: this mail is never bounced.
    Null,
    /// The sender.
    Address(Address),
}

impl ReversePath {
    /// The sender, if there is one.
    pub fn address(&self) -> Option<&Address> {
        match self {
            ReversePath::Null => None,
            ReversePath::Address(address) => Some(address),
        }
    }
}

impl fmt::Display for ReversePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReversePath::Null => Ok(()),
            ReversePath::Address(address) => address.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_keep_the_local_part_and_normalise_the_domain() {
        for (text, local, domain) in [
            ("Ann.Lee@Example.NET", "Ann.Lee", "example.net"),
            ("\"a@b\\\" c\"@example.net", "\"a@b\\\" c\"", "example.net"),
            ("zoë@Bücher.example", "zoë", "xn--bcher-kva.example"),
            ("\"zo ë\"@example.net", "\"zo ë\"", "example.net"),
            ("a+tag!#$%&'*/=?^_`{|}~-@[192.0.2.1]", "a+tag!#$%&'*/=?^_`{|}~-", "[192.0.2.1]"),
        ] {
            let address = Address::parse(text).expect(text);
            assert_eq!((address.local(), address.domain().as_str()), (local, domain));
        }
    }

    #[test]
    fn what_is_no_address_says_why() {
        let long_local = format!("{}@example.net", "a".repeat(65));
        let long_path = format!("a@{}example.net", "abcdefg.".repeat(32));
        let long_in_a_labels = format!("abcdefgh@{}example.net", "ü.".repeat(30));
        assert!(long_in_a_labels.len() < PATH_MAX_OCTETS);
        for (text, why) in [
            ("ann", AddressError::NoDomain),
            ("@example.net", AddressError::BadLocalPart),
            ("a..b@example.net", AddressError::BadLocalPart),
            ("a b@example.net", AddressError::BadLocalPart),
            ("\"a\"b\"@example.net", AddressError::BadLocalPart),
            ("\"a\\\"@example.net", AddressError::BadLocalPart),
            ("\"@example.net", AddressError::BadLocalPart),
            ("a\u{85}b@example.net", AddressError::BadLocalPart),
            ("a\u{2028}b@example.net", AddressError::BadLocalPart),
            ("\"a\u{2029}b\"@example.net", AddressError::BadLocalPart),
            ("ann@", AddressError::Domain(DomainError::EmptyLabel)),
            (long_local.as_str(), AddressError::TooLong),
            (long_path.as_str(), AddressError::TooLong),
            (long_in_a_labels.as_str(), AddressError::TooLong),
        ] {
            assert_eq!(Address::parse(text), Err(why), "{text}");
        }
    }
}
