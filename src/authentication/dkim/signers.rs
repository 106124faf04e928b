//! Which keys sign which mail.

use std::collections::HashMap;
use std::sync::Arc;

use super::author::author_domain;
use super::fields::cover;
use super::key::Key;
use super::signature::Pending;
use crate::clock::Timestamp;
use crate::mail::Domain;

/// The keys that sign now, by domain.
#[derive(Debug, Default)]
pub struct Signers {
    by_domain: Arc<HashMap<Domain, Vec<Arc<Key>>>>,
    fallback: Option<Domain>,
}

impl Signers {
    /// Signs with these keys; for authors whose domain has none, with those of `fallback`.
    pub fn new(keys: impl IntoIterator<Item = Arc<Key>>, fallback: Option<Domain>) -> Self {
        let mut by_domain: HashMap<Domain, Vec<Arc<Key>>> = HashMap::new();
        for key in keys {
            by_domain.entry(key.domain().clone()).or_default().push(key);
        }
        Signers { by_domain: Arc::new(by_domain), fallback }
    }

    /// The same keys, and those of another domain for all other mail.
    #[must_use]
    pub fn with_fallback(&self, fallback: Option<Domain>) -> Self {
        Signers { by_domain: self.by_domain.clone(), fallback }
    }

    /// Whether no mail is signed at all.
    pub fn is_empty(&self) -> bool {
        self.by_domain.is_empty()
    }

    /// The keys for mail of an author: those of the domain, or of the nearest one above it that has any (which DMARC
    /// takes for the author's, RFC 9989 3.2.10), or those for everybody.
    fn keys_for(&self, author: Option<&Domain>) -> Option<&Vec<Arc<Key>>> {
        let mut name = author.map(Domain::as_str);
        while let Some(domain) = name {
            // a domain is stored as it was parsed, and so is what is left of one
            if let Some(keys) = Domain::parse(domain).ok().and_then(|domain| self.by_domain.get(&domain)) {
                return Some(keys);
            }
            name = domain.split_once('.').map(|(_, above)| above);
        }
        self.by_domain.get(self.fallback.as_ref()?)
    }

    /// Begins to sign a message with this header; nothing where no key is for it.
    pub fn begin(&self, header: &[u8], now: Timestamp) -> Option<Pending> {
        if self.is_empty() {
            return None;
        }
        let keys = self.keys_for(author_domain(header).as_ref())?;
        Some(Pending::new(keys.clone(), cover(header), now))
    }
}
