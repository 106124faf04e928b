//! Signatures of one message: all its keys share what is hashed.

use std::sync::Arc;

use mail_auth::common::crypto::{Algorithm as Named, HashContext as _, HashImpl, Sha256, SigningKey as _};
use mail_auth::common::headers::{Writable, Writer};
use mail_auth::dkim::canonicalize::BodyHasher;
use mail_auth::dkim::{Canonicalization, Signature};

use super::fields::Covered;
use super::key::{Algorithm, Key};
use crate::clock::Timestamp;

const SHA256_OCTETS: usize = 32;

/// Why a message was not signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the key {key} did not sign: {why}")]
pub struct SigningError {
    key: Box<str>,
    why: Box<str>,
}

/// A message whose header is known and whose body is still to come.
pub struct Pending {
    keys: Vec<Arc<Key>>,
    covered: Covered,
    body: BodyHasher<<Sha256 as HashImpl>::Context>,
    now: Timestamp,
}

/// What is signed: the covered fields and the signature itself, without its value (RFC 6376 3.7).
struct Signed<'a> {
    fields: &'a [u8],
    signature: &'a Signature,
}

impl Writable for Signed<'_> {
    fn write(self, writer: &mut impl Writer) {
        writer.write(self.fields);
        self.signature.write(writer, false);
    }
}

impl Pending {
    pub(super) fn new(keys: Vec<Arc<Key>>, covered: Covered, now: Timestamp) -> Self {
        let body = BodyHasher::new(Sha256::hasher(), Canonicalization::Relaxed, 0);
        Pending { keys, covered, body, now }
    }

    /// How many octets the signatures will have: a place for them may be kept free before the body is known.
    pub fn octets(&self) -> usize {
        let empty = |key: &Arc<Key>| {
            let mut signature = self.template(key, vec![0; SHA256_OCTETS]);
            signature.b = vec![0; key.signature_octets];
            written(&signature).len()
        };
        self.keys.iter().map(empty).sum()
    }

    /// More of the body.
    pub fn body(&mut self, octets: &[u8]) {
        self.body.write(octets);
    }

    /// The fields to be put before the message, and how each was signed. Takes a fraction of a millisecond: not
    /// for an arbiter.
    pub fn sign(mut self) -> Result<(Vec<u8>, Vec<Algorithm>), SigningError> {
        let body = std::mem::replace(
            &mut self.body,
            BodyHasher::new(Sha256::hasher(), Canonicalization::Relaxed, 0),
        );
        let hash = body.finish().0.complete().as_ref().to_vec();
        let mut fields = Vec::with_capacity(1024);
        for key in &self.keys {
            let mut signature = self.template(key, hash.clone());
            let signed = Signed { fields: &self.covered.canonical, signature: &signature };
            signature.b = key.inner.sign(signed).map_err(|error| SigningError {
                key: format!("{} of {}", key.selector(), key.domain()).into(),
                why: error.to_string().into(),
            })?;
            fields.append(&mut written(&signature));
        }
        Ok((fields, self.keys.iter().map(|key| key.algorithm()).collect()))
    }

    fn template(&self, key: &Key, body_hash: Vec<u8>) -> Signature {
        Signature {
            v: 1,
            a: match key.algorithm() {
                Algorithm::Rsa => Named::RsaSha256,
                Algorithm::Ed25519 => Named::Ed25519Sha256,
            },
            d: key.domain().as_str().into(),
            s: key.selector().as_str().into(),
            h: self.covered.names.clone(),
            bh: body_hash,
            t: self.now.as_secs(),
            ch: Canonicalization::Relaxed,
            cb: Canonicalization::Relaxed,
            ..Signature::default()
        }
    }
}

fn written(signature: &Signature) -> Vec<u8> {
    let mut field = Vec::with_capacity(768);
    signature.write(&mut field, true);
    field
}
