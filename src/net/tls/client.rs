//! The client's side of a handshake.
//!
//! One policy has one configuration, which all connections share: their sessions are resumed by the server's
//! name. Two policies share nothing, so no session that was begun without proof is ever taken for proven.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::pki_types::{DnsName, ServerName};
use rustls::{ALL_VERSIONS, ClientConfig};
use tokio_rustls::TlsConnector;

use super::certificate::CertificateError;
use super::dane::Chain;
use super::facts::{Pkix, PkixFault, TlsFacts, is_resumed};
use super::pkix::{Judge, Roots};
use super::stream::{Covered, UNSENT_MAX_OCTETS};
use super::verifier::ServersCertificate;
use super::{Time, provider};
use crate::clock::Clock;
use crate::net::Stream;

/// Sessions that may be resumed: eight for each of 512 servers, whose oldest goes first. One is some 2 KiB.
const SESSIONS_MAX: usize = 4096;

/// What a server must prove during the handshake. Whether TLSA records, or a fingerprint, name its certificate is
/// asked of its [`Chain`] afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsPolicy {
    /// Nothing but that it holds the key of whatever certificate it shows (RFC 7435). What the certificate
    /// proves is recorded.
    Opportunistic,
    /// Its name, by a known root.
    Verified,
}

/// Why there is no connection under TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The connection broke. It may pass; but some servers that cannot do TLS close in place of an alert.
    #[error("the TLS handshake broke off: {0}")]
    Io(io::Error),
    /// The two sides do not agree, or the server's octets are no TLS.
    #[error("the TLS handshake failed: {0}")]
    Handshake(Box<str>),
    /// The server does not prove its name, and should.
    #[error("{0}")]
    Untrusted(PkixFault),
    /// The host has no name that a certificate could be for.
    #[error("no certificate can be for this host name")]
    NoName,
}

impl TlsError {
    /// Whether TLS itself failed, rather than the connection under it.
    pub fn is_of_tls(&self) -> bool {
        !matches!(self, TlsError::Io(_))
    }

    fn of(error: io::Error, policy: TlsPolicy) -> Self {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(rustls::Error::InvalidCertificate(fault)) if policy == TlsPolicy::Verified => {
                TlsError::Untrusted(PkixFault::of(fault))
            }
            Some(fault) => TlsError::Handshake(fault.to_string().into()),
            None => TlsError::Io(error),
        }
    }
}

/// What a handshake led to.
pub struct Handshake {
    /// What goes on under TLS.
    pub stream: Box<dyn Stream>,
    /// What is known of it.
    pub facts: TlsFacts,
    /// The certificates that the server showed, in the first handshake where the session was resumed.
    pub chain: Chain,
}

/// Makes handshakes. Clones share sessions and verdicts.
#[derive(Clone)]
pub struct ClientTls {
    connector: TlsConnector,
    policy: TlsPolicy,
    judge: Arc<Judge>,
}

impl ClientTls {
    /// A client with a policy; servers are judged by `roots` under either.
    pub fn new(policy: TlsPolicy, roots: &Roots, clock: Clock) -> Result<Self, CertificateError> {
        let judge = Arc::new(Judge::new(roots, clock.clone())?);
        let demands = (policy == TlsPolicy::Verified).then(|| judge.clone());
        let builder = ClientConfig::builder_with_details(provider(), Arc::new(Time(clock)))
            .with_protocol_versions(ALL_VERSIONS)
            .map_err(|error| CertificateError::Broken { error: error.to_string().into() })?;
        let mut config = builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(ServersCertificate::new(demands)))
            .with_no_client_auth();
        config.resumption = Resumption::in_memory_sessions(SESSIONS_MAX);
        Ok(ClientTls { connector: TlsConnector::from(Arc::new(config)), policy, judge })
    }

    /// Makes the handshake with a host, whose name goes into SNI (RFC 6066 3) where it is one of the DNS. What the
    /// server said before must have been thrown away by then (RFC 3207 4.2).
    ///
    /// It takes as long as the server likes: the caller sets the time-out.
    pub async fn connect(&self, stream: Box<dyn Stream>, host: &str) -> Result<Handshake, TlsError> {
        let name = server_name(host).ok_or(TlsError::NoName)?;
        let connecting = self.connector.connect(name.clone(), stream);
        let mut stream = connecting.await.map_err(|error| TlsError::of(error, self.policy))?;
        stream.get_mut().1.set_buffer_limit(Some(UNSENT_MAX_OCTETS));
        let connection = stream.get_ref().1;
        let shown = connection.peer_certificates().unwrap_or_default();
        let pkix = match shown {
            [own, issuers @ ..] => self.judge.judge(own, issuers, &name),
            [] => Pkix::Invalid(PkixFault::Unfit),
        };
        // a session may be resumed after its certificate has expired
        if let (TlsPolicy::Verified, Pkix::Invalid(fault)) = (self.policy, pkix) {
            return Err(TlsError::Untrusted(fault));
        }
        let facts = TlsFacts::of(connection, is_resumed(connection.handshake_kind()), pkix);
        let chain = Chain(shown.to_vec());
        Ok(Handshake { stream: Box::new(Covered::new(stream)), facts, chain })
    }
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTls").field("policy", &self.policy).finish_non_exhaustive()
    }
}

/// The name that a certificate must be for: that of the DNS without its root dot, or an address, which may be
/// an address literal of mail (RFC 5321 4.1.3).
pub(super) fn server_name(host: &str) -> Option<ServerName<'static>> {
    let literal = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let address = match literal.and_then(|literal| literal.get(..5).zip(literal.get(5..))) {
        Some((tag, rest)) if tag.eq_ignore_ascii_case("IPv6:") => {
            rest.parse::<Ipv6Addr>().ok().map(IpAddr::V6)
        }
        _ => literal.unwrap_or(host).parse().ok(),
    };
    match address {
        Some(address) => Some(ServerName::IpAddress(address.into())),
        None => {
            let name = host.strip_suffix('.').unwrap_or(host);
            DnsName::try_from(name.to_ascii_lowercase()).ok().map(ServerName::DnsName)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_have_the_names_that_certificates_are_for() {
        for (host, want) in [
            ("MX.example.org", Some("mx.example.org")),
            ("mx.example.org.", Some("mx.example.org")),
            ("xn--mller-kva.example", Some("xn--mller-kva.example")),
            ("192.0.2.1", Some("192.0.2.1")),
            ("[192.0.2.1]", Some("192.0.2.1")),
            ("[IPv6:2001:db8::1]", Some("2001:db8::1")),
            ("[ipv6:2001:db8::1]", Some("2001:db8::1")),
            ("2001:db8::1", Some("2001:db8::1")),
            ("", None),
            ("a b", None),
            ("[tag:x]", None),
            ("mx..example.org", None),
        ] {
            let name = server_name(host);
            assert_eq!(name.as_ref().map(|name| name.to_str()).as_deref(), want, "{host}");
            let is_address = want.is_some_and(|want| want.parse::<IpAddr>().is_ok());
            assert_eq!(matches!(name, Some(ServerName::IpAddress(_))), is_address, "{host}");
        }
    }
}
