//! A key that signs.

use std::fmt;

use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::KeyPair as _;
use mail_auth::common::crypto::{DkimKey, Ed25519Key, RsaKey, SigningKey as _};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;

use super::algorithm::Algorithm;
use super::record;
use super::selector::Selector;
use crate::mail::Domain;

/// Why a key cannot sign.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file holds no private key in PEM.
    #[error("holds no private key in PEM: {0}")]
    Pem(Box<str>),
    /// The key is neither RSA nor Ed25519, or is broken.
    #[error("is no Ed25519 key, and no RSA key of 2048 bits or more: {0}")]
    Unusable(Box<str>),
    /// It could not be made.
    #[error("no key could be made")]
    NotMade,
}

/// A private key as it is kept.
pub struct MadeKey {
    /// How it signs.
    pub algorithm: Algorithm,
    /// The key, in PEM.
    pub pem: String,
}

impl MadeKey {
    /// A new one: RSA with 2048 bits, which fits every verifier and a record of two strings.
    pub fn generate(algorithm: Algorithm) -> Result<Self, KeyError> {
        let der = match algorithm {
            Algorithm::Rsa => {
                let key = RsaKeyPair::generate(KeySize::Rsa2048).map_err(|_| KeyError::NotMade)?;
                let der: Pkcs8V1Der<'_> = key.as_der().map_err(|_| KeyError::NotMade)?;
                der.as_ref().to_vec()
            }
            Algorithm::Ed25519 => Ed25519Key::generate_pkcs8().map_err(|_| KeyError::NotMade)?,
        };
        Ok(MadeKey { algorithm, pem: pem::encode(&pem::Pem::new("PRIVATE KEY", der)) })
    }

    /// One that somebody else made: PKCS #8 or PKCS #1, in PEM.
    pub fn read(text: &str) -> Result<Self, KeyError> {
        let (key, _) = parse(text)?;
        Ok(MadeKey { algorithm: algorithm_of(&key), pem: text.to_owned() })
    }
}

fn algorithm_of(key: &DkimKey) -> Algorithm {
    match key {
        DkimKey::Rsa(_) => Algorithm::Rsa,
        DkimKey::Ed25519(_) => Algorithm::Ed25519,
    }
}

/// The key, and its public half as the DNS shows it.
fn parse(text: &str) -> Result<(DkimKey, Vec<u8>), KeyError> {
    let der = PrivateKeyDer::from_pem_slice(text.as_bytes())
        .map_err(|error| KeyError::Pem(error.to_string().into()))?;
    if let PrivateKeyDer::Pkcs8(der) = &der
        && let Ok(key) = Ed25519Key::from_pkcs8_maybe_unchecked_der(der.secret_pkcs8_der())
    {
        let public = key.public_key();
        return Ok((DkimKey::Ed25519(key), public));
    }
    let unusable = |why: &dyn fmt::Display| KeyError::Unusable(why.to_string().into());
    let pair = match &der {
        PrivateKeyDer::Pkcs8(der) => RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()),
        PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der()),
        _ => return Err(unusable(&"it is of another kind")),
    };
    let pair = pair.map_err(|error| unusable(&error))?;
    let public: PublicKeyX509Der<'_> = pair.public_key().as_der().map_err(|error| unusable(&error))?;
    let public = public.as_ref().to_vec();
    let key = RsaKey::from_key_der(der).map_err(|error| unusable(&error))?;
    Ok((DkimKey::Rsa(key), public))
}

/// A key that signs for a domain.
pub struct Key {
    domain: Domain,
    selector: Selector,
    pub(super) inner: DkimKey,
    public: Vec<u8>,
    /// Octets of each signature.
    pub(super) signature_octets: usize,
}

impl Key {
    /// The key of a PEM text. Signs once, so that one which cannot is found out here.
    pub fn from_pem(domain: Domain, selector: Selector, text: &str) -> Result<Self, KeyError> {
        let (inner, public) = parse(text)?;
        let trial = inner.sign(&b""[..]).map_err(|error| KeyError::Unusable(error.to_string().into()))?;
        Ok(Key { domain, selector, inner, public, signature_octets: trial.len() })
    }

    /// For whom it signs (`d=`).
    pub fn domain(&self) -> &Domain {
        &self.domain
    }

    /// Its name (`s=`).
    pub fn selector(&self) -> &Selector {
        &self.selector
    }

    /// How it signs.
    pub fn algorithm(&self) -> Algorithm {
        algorithm_of(&self.inner)
    }

    /// What the DNS is to show.
    pub fn record(&self) -> String {
        record::text_of(self.algorithm(), &self.public)
    }

    /// The same, as a line of a zone file.
    pub fn zone_line(&self) -> String {
        record::zone_line(&format!("{}._domainkey.{}", self.selector, self.domain), &self.record())
    }

    pub(super) fn compare(&self, record: &[u8]) -> record::Says {
        record::compare(record, self.algorithm(), &self.public)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} key {} of {}", self.algorithm(), self.selector, self.domain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(pem: &str) -> Result<Key, KeyError> {
        let domain = Domain::parse("a.example").expect("a domain");
        Key::from_pem(domain, Selector::parse("s").expect("a selector"), pem)
    }

    #[test]
    fn keys_that_are_made_can_be_read_again() {
        for (algorithm, octets, begins) in [
            (Algorithm::Rsa, 256, "v=DKIM1; k=rsa; p=MIIB"),
            (Algorithm::Ed25519, 64, "v=DKIM1; k=ed25519; p="),
        ] {
            let made = MadeKey::generate(algorithm).expect("made");
            let read = key(&made.pem).expect("reads");
            assert_eq!((read.algorithm(), read.signature_octets), (algorithm, octets));
            assert!(read.record().starts_with(begins), "{}", read.record());
            assert_eq!(read.compare(read.record().as_bytes()), record::Says::This);
            assert_eq!(record::Says::of_any(read.record().as_bytes()), record::Says::Other);
            assert_eq!(MadeKey::read(&made.pem).expect("reads").algorithm, algorithm);
        }
    }

    #[test]
    fn an_rsa_key_may_stand_in_the_dns_without_its_wrapper() {
        use base64::Engine as _;
        let read = key(&MadeKey::generate(Algorithm::Rsa).expect("made").pem).expect("reads");
        let bare = base64::engine::general_purpose::STANDARD.encode(&read.public[24..]);
        assert!(bare.starts_with("MIIBCgKCAQEA"), "{bare}");
        assert_eq!(read.compare(format!("v=DKIM1; p={bare}").as_bytes()), record::Says::This);
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let other = rcgen::KeyPair::generate().expect("makes").serialize_pem();
        assert!(matches!(key(&other), Err(KeyError::Unusable(_))));
        assert!(matches!(key("nothing"), Err(KeyError::Pem(_))));
        assert!(!format!("{:?}", key("nothing").map(drop)).contains("nothing"), "a key is not told");
    }
}
