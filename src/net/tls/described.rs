//! What a certificate says of itself (RFC 5280 4.1).

use std::fmt;

use aws_lc_rs::digest;
use x509_parser::extensions::GeneralName;
use x509_parser::parse_x509_certificate;

use super::certificate::Identity;
use crate::clock::Timestamp;

/// For which names it is, how long, and for which key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    /// Names of the DNS.
    pub names: Vec<String>,
    /// What it is called: the first of these, or, as old ones have it, by its subject alone.
    pub title: String,
    /// When it begins.
    pub not_before: Timestamp,
    /// When it ends.
    pub not_after: Timestamp,
    /// The SHA-256 digest of its key, in hexadecimal digits: what a TLSA record `3 1 1` holds (RFC 7671 5.1).
    pub key_digest: String,
}

impl Described {
    /// Reads it.
    pub(super) fn of(certificate: &[u8]) -> Result<Self, Box<str>> {
        let (_, certificate) = parse_x509_certificate(certificate).map_err(|error| error.to_string())?;
        let alternatives = certificate.subject_alternative_name().ok().flatten();
        let names = alternatives.map_or(&[][..], |names| &names.value.general_names).iter();
        let names = names.filter_map(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            _ => None,
        });
        let names: Vec<String> = names.collect();
        let subject = || certificate.subject().iter_common_name().find_map(|name| name.as_str().ok());
        let title = names.first().map(String::as_str).or_else(subject).unwrap_or("?").to_owned();
        let time =
            |seconds: i64| Timestamp::from_millis(u64::try_from(seconds).unwrap_or(0).saturating_mul(1000));
        let key = digest::digest(&digest::SHA256, certificate.public_key().raw);
        Ok(Described {
            names,
            title,
            not_before: time(certificate.validity().not_before.timestamp()),
            not_after: time(certificate.validity().not_after.timestamp()),
            key_digest: key.as_ref().iter().map(|octet| format!("{octet:02x}")).collect(),
        })
    }
}

impl Identity {
    /// What its certificate says of itself.
    pub fn described(&self) -> &Described {
        &self.described
    }
}

impl fmt::Display for Described {
    /// Its names, or what it is called.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.names.is_empty() { f.write_str(&self.title) } else { f.write_str(&self.names.join(" ")) }
    }
}
