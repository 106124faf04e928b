//! The server's side of a handshake.

use std::fmt;
use std::io;
use std::sync::Arc;

use rustls::client::verify_server_name;
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::pki_types::ServerName;
use rustls::server::{ClientHello, NoClientAuth, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ALL_VERSIONS, ServerConfig, SupportedProtocolVersion};
use tokio_rustls::TlsAcceptor;

use super::certificate::{CertificateError, Identity};
use super::facts::{Pkix, TlsFacts, is_resumed};
use super::stream::{Covered, UNSENT_MAX_OCTETS};
use super::verifier::ClientsCertificate;
use super::{Time, provider};
use crate::clock::Clock;
use crate::net::Stream;

/// Whether clients are asked who they are. Some stumble over the question, so where no certificate is
/// configured for anybody it is better not to ask.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientCertificates {
    /// They are not.
    #[default]
    NotAsked,
    /// They are, and may have none; any that they have is taken, and its fingerprint told.
    Asked,
}

/// Takes handshakes. Clones share certificates and ticket keys; new certificates make a new one, and
/// connections that are under way keep the old.
#[derive(Clone)]
pub struct ServerTls(TlsAcceptor);

impl ServerTls {
    /// A server with certificates: the one that is for the name which the client asks for, or else the first.
    ///
    /// Sessions are resumed by tickets (RFC 5077, RFC 8446 2.2) whose keys live in memory and change every six
    /// hours: nothing is kept for a client that does not come back.
    pub fn new(
        identities: Vec<Identity>,
        clients: ClientCertificates,
        clock: Clock,
    ) -> Result<Self, CertificateError> {
        Self::with_versions(identities, clients, clock, ALL_VERSIONS)
    }

    pub(super) fn with_versions(
        identities: Vec<Identity>,
        clients: ClientCertificates,
        clock: Clock,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Result<Self, CertificateError> {
        if identities.is_empty() {
            return Err(CertificateError::None);
        }
        let broken = |error: rustls::Error| CertificateError::Broken { error: error.to_string().into() };
        let builder = ServerConfig::builder_with_details(provider(), Arc::new(Time(clock)))
            .with_protocol_versions(versions)
            .map_err(broken)?;
        let builder = builder.with_client_cert_verifier(match clients {
            ClientCertificates::NotAsked => Arc::new(NoClientAuth),
            ClientCertificates::Asked => Arc::new(ClientsCertificate::new()),
        });
        let shown = identities.into_iter().map(|identity| Arc::new(identity.certified)).collect();
        let mut config = builder.with_cert_resolver(Arc::new(Shown(shown)));
        config.ticketer = Ticketer::new().map_err(broken)?;
        Ok(ServerTls(TlsAcceptor::from(Arc::new(config))))
    }

    /// Makes the handshake that the client begins. What arrived before must have been thrown away by then, or a
    /// man in the middle has put words into the client's mouth (RFC 3207 5, CVE-2011-0411).
    ///
    /// It takes as long as the client likes: the caller sets the time-out.
    pub async fn accept(&self, stream: Box<dyn Stream>) -> io::Result<(Box<dyn Stream>, TlsFacts)> {
        let mut stream = self.0.accept(stream).await?;
        stream.get_mut().1.set_buffer_limit(Some(UNSENT_MAX_OCTETS));
        let connection = stream.get_ref().1;
        let facts = TlsFacts::of(connection, is_resumed(connection.handshake_kind()), Pkix::NotEvaluated);
        Ok((Box::new(Covered::new(stream)), facts))
    }
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTls").finish_non_exhaustive()
    }
}

/// The certificates to choose from; at least one.
#[derive(Debug)]
struct Shown(Vec<Arc<CertifiedKey>>);

impl ResolvesServerCert for Shown {
    /// One of the kind that the client can verify, where there are several for the name. A name that is none of
    /// ours gets the first: mail hosts have many aliases, and most clients do not look.
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let serves =
            |shown: &&Arc<CertifiedKey>| shown.key.choose_scheme(hello.signature_schemes()).is_some();
        let name = hello.server_name().and_then(|name| ServerName::try_from(name).ok());
        let named =
            self.0.iter().filter(serves).find(|shown| name.as_ref().is_some_and(|name| is_for(shown, name)));
        named.or_else(|| self.0.iter().find(serves)).cloned()
    }
}

fn is_for(shown: &CertifiedKey, name: &ServerName<'_>) -> bool {
    let parsed = shown.cert.first().and_then(|certificate| ParsedCertificate::try_from(certificate).ok());
    parsed.is_some_and(|parsed| verify_server_name(&parsed, name).is_ok())
}
