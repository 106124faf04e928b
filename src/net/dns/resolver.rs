//! The resolver as a port.

use std::future::{Future, ready};
use std::net::IpAddr;
use std::pin::Pin;
use std::time::Duration;

use super::tlsa::Tlsa;
use crate::mail::Domain;

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DnsError {
    /// The name does not exist.
    #[error("the name does not exist")]
    NoSuchName,
    /// The name exists, but has no records of this type.
    #[error("the name has no such record")]
    NoRecords,
    /// The server could not give an answer (SERVFAIL). May pass.
    #[error("the DNS server failed")]
    ServerFailed,
    /// No answer came in time. May pass.
    #[error("the DNS did not answer in time")]
    TimedOut,
    /// The answer is not what its zone signed. May pass.
    #[error("the DNS answer is bogus: it fails DNSSEC validation")]
    Bogus,
    /// The server refused, or its answer made no sense. May pass.
    #[error("no answer from the DNS: {0}")]
    Failed(Box<str>),
}

impl DnsError {
    /// Whether the DNS said that there is nothing, rather than nothing.
    pub fn is_denial(&self) -> bool {
        matches!(self, DnsError::NoSuchName | DnsError::NoRecords)
    }
}

/// One MX record.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mx {
    /// Lower is tried first.
    pub preference: u16,
    /// The host; `None` for the root, which says that no mail is taken (RFC 7505).
    pub host: Option<Domain>,
}

/// The TXT records of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Txt {
    /// Each record, its strings put together (RFC 6376 3.6.2.2).
    pub texts: Vec<Box<[u8]>>,
    /// How long they may be kept.
    pub ttl: Duration,
}

/// An answer on its way.
pub type Lookup<'a, T> = Pin<Box<dyn Future<Output = Result<T, DnsError>> + Send + 'a>>;

/// What the relay asks of the DNS.
pub trait Resolver: Send + Sync {
    /// The MX records of a domain, in any order.
    fn mx<'a>(&'a self, domain: &'a Domain) -> Lookup<'a, Vec<Mx>>;
    /// The IPv4 addresses of a host, then its IPv6 addresses.
    fn addresses<'a>(&'a self, host: &'a Domain) -> Lookup<'a, Vec<IpAddr>>;
    /// The TXT records of a name.
    fn txt<'a>(&'a self, name: &'a Domain) -> Lookup<'a, Txt>;
    /// The same, asked anew.
    fn uncached(&self) -> &dyn Resolver;
    /// Whether a zone above the name gives an answer now, asked anew. Where none does, not even the root,
    /// that a name does not exist says more about the resolver than about the name.
    fn answers_above<'a>(&'a self, domain: &'a Domain) -> Pin<Box<dyn Future<Output = bool> + Send + 'a>>;

    /// The names of a domain that certificates of its mail hosts may be for: its own, and that at the end of its
    /// aliases. None where its MX records, or these aliases, are not secure (RFC 7672 2.2.1, 3.2.2).
    fn next_hop_names<'a>(&'a self, _: &'a Domain) -> Lookup<'a, Vec<Domain>> {
        Box::pin(ready(Ok(Vec::new())))
    }

    /// The names that a host's TLSA records may stand under, first choice first; none where it is not proven that
    /// the host's addresses are its own, so that records about it could not be either (RFC 7672 2.2.2).
    fn tlsa_bases<'a>(&'a self, _: &'a Domain) -> Lookup<'a, Vec<Domain>> {
        Box::pin(ready(Ok(Vec::new())))
    }

    /// The TLSA records of a name, in the order of the answer; [`DnsError::NoRecords`] where they are not secure.
    fn tlsa<'a>(&'a self, _: &'a Domain) -> Lookup<'a, Vec<Tlsa>> {
        Box::pin(ready(Err(DnsError::NoRecords)))
    }
}
