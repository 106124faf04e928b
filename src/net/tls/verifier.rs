//! What the library asks during a handshake, and our answers.
//!
//! Signatures over the handshake are verified in every case: whatever a certificate says of its holder, the
//! holder has its key. Who signed the certificate is asked only where the policy says so, and that of a client
//! never: its fingerprint is compared afterwards with those that are known.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};

use super::facts::{Pkix, PkixFault};
use super::pkix::Judge;
use super::provider;

/// Any server's certificate, or one that proves its name.
#[derive(Debug)]
pub(super) struct ServersCertificate {
    /// Whoever judges it in the handshake already, so that the server reads why in its log.
    demands: Option<Arc<Judge>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServersCertificate {
    pub(super) fn new(demands: Option<Arc<Judge>>) -> Self {
        ServersCertificate { demands, algorithms: provider().signature_verification_algorithms }
    }
}

impl ServerCertVerifier for ServersCertificate {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        issuers: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.demands.as_ref().map(|judge| judge.judge(own, issuers, name)) {
            Some(Pkix::Invalid(fault)) => Err(Error::InvalidCertificate(in_alert(fault))),
            _ => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// The library's word for a fault, which becomes the alert that the server is sent.
fn in_alert(fault: PkixFault) -> CertificateError {
    match fault {
        PkixFault::WrongName => CertificateError::NotValidForName,
        PkixFault::Expired => CertificateError::Expired,
        PkixFault::NotYetValid => CertificateError::NotValidYet,
        PkixFault::NotTrusted => CertificateError::UnknownIssuer,
        PkixFault::BadSignature => CertificateError::BadSignature,
        PkixFault::Unfit => CertificateError::InvalidPurpose,
    }
}

/// Any client's certificate, or none.
#[derive(Debug)]
pub(super) struct ClientsCertificate(WebPkiSupportedAlgorithms);

impl ClientsCertificate {
    pub(super) fn new() -> Self {
        ClientsCertificate(provider().signature_verification_algorithms)
    }
}

impl ClientCertVerifier for ClientsCertificate {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    /// Naming no issuer asks for whatever there is.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _own: &CertificateDer<'_>,
        _issuers: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
