//! A TLSA record (RFC 6698 2.1).

use std::fmt;

/// What a zone says of the certificate at one of its hosts.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tlsa {
    /// Whom the data is about: 2 for an authority (DANE-TA), 3 for the host itself (DANE-EE).
    pub usage: u8,
    /// Which part: 0 the whole certificate, 1 its public key.
    pub selector: u8,
    /// How the data stands for it: 0 by itself, 1 by its SHA-256, 2 by its SHA-512 digest.
    pub matching: u8,
    /// The part, or its digest.
    pub data: Box<[u8]>,
}

impl fmt::Display for Tlsa {
    /// As a zone file has it (RFC 6698 2.2).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {} ", self.usage, self.selector, self.matching)?;
        self.data.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}
