//! What is known of a connection after its handshake.

use std::fmt;

use aws_lc_rs::digest;
use rustls::{CertificateError, CommonState, HandshakeKind, ProtocolVersion};

const SHA256_OCTETS: usize = 32;

/// The protocol's version. Older ones are not spoken (RFC 8996).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsVersion {
    /// RFC 5246.
    V1_2,
    /// RFC 8446.
    V1_3,
}

impl TlsVersion {
    /// The name in logs, metrics and trace fields.
    pub const fn as_str(self) -> &'static str {
        match self {
            TlsVersion::V1_2 => "TLSv1.2",
            TlsVersion::V1_3 => "TLSv1.3",
        }
    }
}

impl fmt::Display for TlsVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The SHA-256 digest of a certificate in DER.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; SHA256_OCTETS]);

impl Fingerprint {
    /// Of a certificate in DER.
    pub fn of(certificate: &[u8]) -> Self {
        let mut octets = [0; SHA256_OCTETS];
        octets.copy_from_slice(digest::digest(&digest::SHA256, certificate).as_ref());
        Fingerprint(octets)
    }

    /// Reads 64 hexadecimal digits in either case, with or without colons between the octets: the form in
    /// which `openssl x509 -fingerprint -sha256` and Postfix write them.
    pub fn parse(text: &str) -> Option<Self> {
        let mut octets = [0; SHA256_OCTETS];
        let has_colons = text.contains(':');
        let mut rest = text;
        for (place, octet) in octets.iter_mut().enumerate() {
            if has_colons && place > 0 {
                rest = rest.strip_prefix(':')?;
            }
            let (digits, after) = rest.split_at_checked(2)?;
            if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return None;
            }
            (*octet, rest) = (u8::from_str_radix(digits, 16).ok()?, after);
        }
        rest.is_empty().then_some(Fingerprint(octets))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a certificate does not prove a name (RFC 5280 6, RFC 9525).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PkixFault {
    /// It is for other names.
    #[error("the certificate is for another name")]
    WrongName,
    /// Its time, or an issuer's, is over.
    #[error("the certificate has expired")]
    Expired,
    /// Its time, or an issuer's, has not begun.
    #[error("the certificate is not valid yet")]
    NotYetValid,
    /// No root that we know leads to it: self-signed, or the chain is not whole.
    #[error("the certificate leads to no known root")]
    NotTrusted,
    /// A signature in the chain is wrong.
    #[error("a signature in the certificate's chain is wrong")]
    BadSignature,
    /// It, or its chain, is not what it should be in some other way.
    #[error("the certificate does not serve for this")]
    Unfit,
}

impl PkixFault {
    /// From the verifier's word.
    pub(super) fn of(error: &CertificateError) -> Self {
        match error {
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                PkixFault::WrongName
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => PkixFault::Expired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                PkixFault::NotYetValid
            }
            CertificateError::UnknownIssuer => PkixFault::NotTrusted,
            CertificateError::BadSignature => PkixFault::BadSignature,
            _ => PkixFault::Unfit,
        }
    }
}

/// Whether a certificate proves the name that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pkix {
    /// It does: for exactly that name, by a known root.
    Valid,
    /// It does not.
    Invalid(PkixFault),
    /// Nobody asked: the server's side.
    NotEvaluated,
}

/// What is known of a connection after its handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFacts {
    /// The version agreed on.
    pub version: TlsVersion,
    /// The cipher suite, by its name in IANA's registry.
    pub cipher: &'static str,
    /// Whether an earlier session went on, without certificates on the wire.
    pub resumed: bool,
    /// What the remote server's certificate proves.
    pub pkix: Pkix,
    /// The other side's certificate, of the first handshake where the session was resumed. That the other
    /// side holds its key is proven; nothing else.
    pub certificate: Option<Fingerprint>,
}

impl TlsFacts {
    pub(super) fn of(connection: &CommonState, is_resumed: bool, pkix: Pkix) -> Self {
        let suite = connection.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str());
        let certificate = connection.peer_certificates().and_then(<[_]>::first);
        TlsFacts {
            version: match connection.protocol_version() {
                Some(ProtocolVersion::TLSv1_3) => TlsVersion::V1_3,
                _ => TlsVersion::V1_2,
            },
            cipher: suite.map_or("unknown", registered),
            resumed: is_resumed,
            pkix,
            certificate: certificate.map(|certificate| Fingerprint::of(certificate)),
        }
    }
}

/// rustls tells the suites of TLS 1.3 by a prefix of its own.
fn registered(name: &'static str) -> &'static str {
    match name {
        "TLS13_AES_128_GCM_SHA256" => "TLS_AES_128_GCM_SHA256",
        "TLS13_AES_256_GCM_SHA384" => "TLS_AES_256_GCM_SHA384",
        "TLS13_CHACHA20_POLY1305_SHA256" => "TLS_CHACHA20_POLY1305_SHA256",
        name => name,
    }
}

/// Whether a handshake went on with an earlier session.
pub(super) fn is_resumed(kind: Option<HandshakeKind>) -> bool {
    kind == Some(HandshakeKind::Resumed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_are_read_in_their_usual_forms() {
        // of the empty string, FIPS 180-4
        let plain = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let pairs: Vec<String> =
            plain.as_bytes().chunks(2).map(|pair| String::from_utf8_lossy(pair).to_uppercase()).collect();
        let fingerprint = Fingerprint::of(b"");
        assert_eq!(fingerprint.to_string(), plain);
        for text in [plain.to_owned(), plain.to_uppercase(), pairs.join(":")] {
            assert_eq!(Fingerprint::parse(&text), Some(fingerprint), "{text}");
        }
        let colons = pairs.join(":");
        for text in [
            "",
            &plain[2..],
            &format!("{plain}00"),
            &format!("{colons}:"),
            &format!(":{colons}"),
            &colons.replacen(':', "", 1),
            &plain.replace("e3", "+3"),
            &plain.replace("e3", "é"),
        ] {
            assert_eq!(Fingerprint::parse(text), None, "{text}");
        }
    }
}
