//! Signatures of one message: all its keys share what is hashed.

use std::sync::Arc;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mail_auth::common::crypto::SigningKey as _;

use super::algorithm::Algorithm;
use super::canonical::{RelaxedBody, relax_field};
use super::fields::Covered;
use super::key::Key;
use crate::clock::Timestamp;

/// Lines are folded so that none is longer, but for a name that is.
const LINE_OCTETS: usize = 76;
const NAME: &str = "DKIM-Signature";
/// Octets of a SHA-256.
const HASH_OCTETS: usize = 32;

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
    body: RelaxedBody,
    hash: digest::Context,
    now: Timestamp,
}

impl Pending {
    pub(super) fn new(keys: Vec<Arc<Key>>, covered: Covered, now: Timestamp) -> Self {
        let hash = digest::Context::new(&digest::SHA256);
        Pending { keys, covered, body: RelaxedBody::default(), hash, now }
    }

    /// How many octets the signatures will have: a place for them may be kept free before the body is known.
    pub fn octets(&self) -> usize {
        let field = |key: &Arc<Key>| {
            let value = self.value_before(key, &[0; HASH_OCTETS]);
            field(&value, &vec![0; key.signature_octets]).len()
        };
        self.keys.iter().map(field).sum()
    }

    /// More of the body.
    pub fn body(&mut self, octets: &[u8]) {
        self.body.take(octets, &mut |relaxed| self.hash.update(relaxed));
    }

    /// The fields to be put before the message, and how each was signed. Takes a fraction of a millisecond: not
    /// for an arbiter.
    pub fn sign(mut self) -> Result<(Vec<u8>, Vec<Algorithm>), SigningError> {
        std::mem::take(&mut self.body).finish(&mut |relaxed| self.hash.update(relaxed));
        let hash = self.hash.clone().finish();
        let (mut fields, mut algorithms) = (Vec::with_capacity(1024), Vec::with_capacity(self.keys.len()));
        for key in &self.keys {
            let value = self.value_before(key, hash.as_ref());
            fields.extend_from_slice(field(&value, &self.signature(key, &value)?).as_bytes());
            algorithms.push(key.algorithm());
        }
        Ok((fields, algorithms))
    }

    /// Over what is covered, and the field itself up to where its signature will be (RFC 6376 3.7).
    fn signature(&self, key: &Key, value: &str) -> Result<Vec<u8>, SigningError> {
        let mut signed = self.covered.canonical.clone();
        relax_field(NAME.as_bytes(), value.as_bytes(), &mut signed);
        // its own line end does not count
        signed.truncate(signed.len() - 2);
        key.inner.sign(&signed[..]).map_err(|error| SigningError {
            key: format!("{} of {}", key.selector(), key.domain()).into(),
            why: error.to_string().into(),
        })
    }

    /// The value of the field up to `b=`, which comes last: some verifiers do not take away white space behind it.
    fn value_before(&self, key: &Key, hash: &[u8]) -> String {
        let algorithm = match key.algorithm() {
            Algorithm::Rsa => "rsa-sha256",
            Algorithm::Ed25519 => "ed25519-sha256",
        };
        let (domain, selector, time) = (key.domain(), key.selector(), self.now.as_secs());
        format!(
            " v=1; a={algorithm}; c=relaxed/relaxed;\r\n\td={domain};\r\n\ts={selector}; t={time};\r\n\th={};\r\n\t\
             bh={};\r\n\tb=",
            folded_names(&self.covered.names),
            STANDARD.encode(hash),
        )
    }
}

/// The whole field.
fn field(value: &str, signature: &[u8]) -> String {
    let mut field = format!("{NAME}:{value}");
    let text = STANDARD.encode(signature);
    // the first line has `b=` in it already
    let (first, rest) = text.split_at(text.len().min(LINE_OCTETS - 3));
    field.push_str(first);
    for line in rest.as_bytes().chunks(LINE_OCTETS - 1) {
        field.push_str("\r\n\t");
        // base64 is ASCII
        field.extend(line.iter().map(|octet| char::from(*octet)));
    }
    field.push_str("\r\n");
    field
}

fn folded_names(names: &[String]) -> String {
    let mut text = String::with_capacity(16 * names.len());
    // behind `h=`, and before the semicolon
    let mut left = LINE_OCTETS - 4;
    for (number, name) in names.iter().enumerate() {
        if number > 0 {
            text.push(':');
            if name.len() + 1 > left {
                text.push_str("\r\n\t");
                left = LINE_OCTETS - 1;
            }
        }
        text.push_str(name);
        left = left.saturating_sub(name.len() + 1);
    }
    text
}
