//! Which keys sign which mail.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::author::author_domain;
use super::fields::cover;
use super::key::Key;
use super::selector::Selector;
use super::signature::{Pending, SigningError};
use crate::clock::Timestamp;
use crate::mail::Domain;

/// The keys that sign now, by domain.
#[derive(Debug, Default)]
pub struct Signers {
    by_domain: Arc<HashMap<Domain, Vec<Arc<Key>>>>,
    /// Domains that have keys which do not sign yet.
    coming: Arc<HashSet<Domain>>,
    fallback: Option<Domain>,
}

/// What becomes of a message.
pub enum Choice {
    /// These keys sign it.
    Signed(Box<Pending>),
    /// A key for it is on its way into the DNS.
    Later,
    /// No key is for it.
    Never,
}

/// A whole message, where it is signed.
pub enum Whole {
    /// It is.
    Signed(Vec<u8>),
    /// A key for it is on its way into the DNS.
    Later,
    /// No key is for it.
    Never,
}

impl Signers {
    /// Signs with these keys; for authors whose domain has none, with those of `fallback`.
    pub fn new(keys: impl IntoIterator<Item = Arc<Key>>, fallback: Option<Domain>) -> Self {
        let mut by_domain: HashMap<Domain, Vec<Arc<Key>>> = HashMap::new();
        for key in keys {
            by_domain.entry(key.domain().clone()).or_default().push(key);
        }
        Signers { by_domain: Arc::new(by_domain), coming: Arc::default(), fallback }
    }

    /// The same, and these domains have keys that do not sign yet.
    #[must_use]
    pub fn and_coming(self, coming: impl IntoIterator<Item = Domain>) -> Self {
        Signers { coming: Arc::new(coming.into_iter().collect()), ..self }
    }

    /// The same keys, and those of another domain for all other mail.
    #[must_use]
    pub fn with_fallback(&self, fallback: Option<Domain>) -> Self {
        Signers { by_domain: self.by_domain.clone(), coming: self.coming.clone(), fallback }
    }

    /// Domain and selector of each key.
    pub fn names(&self) -> HashSet<(Domain, Selector)> {
        let keys = self.by_domain.values().flatten();
        keys.map(|key| (key.domain().clone(), key.selector().clone())).collect()
    }

    /// Begins to sign a message with this header. Its author's keys are those of the domain in From, or of the nearest
    /// one above it that has any (which DMARC takes for the author's, RFC 9989 3.2.10), where the sender `may_sign` for
    /// that; else those for everybody sign it. A key that is still on its way changes nothing for the mail that others
    /// sign meanwhile.
    pub fn begin(&self, header: &[u8], may_sign: &dyn Fn(&Domain) -> bool, now: Timestamp) -> Choice {
        if self.by_domain.is_empty() && self.coming.is_empty() {
            return Choice::Never;
        }
        let author = author_domain(header).filter(may_sign);
        let names = std::iter::successors(author.as_ref().map(Domain::as_str), |name| {
            name.split_once('.').map(|(_, above)| above)
        });
        // a domain is stored as it was parsed, and so is what is left of one
        let domains = names.filter_map(|name| Domain::parse(name).ok()).chain(self.fallback.clone());
        let mut is_coming = false;
        for domain in domains {
            if let Some(keys) = self.by_domain.get(&domain) {
                return Choice::Signed(Box::new(Pending::new(keys.clone(), cover(header), now)));
            }
            is_coming |= self.coming.contains(&domain);
        }
        if is_coming { Choice::Later } else { Choice::Never }
    }

    /// A whole message of the relay's own, signed. It takes as long as the keys do.
    pub fn sign_whole(&self, content: &[u8], now: Timestamp) -> Result<Whole, SigningError> {
        let Some(end) = memchr::memmem::find(content, b"\r\n\r\n") else { return Ok(Whole::Never) };
        let (header, body) = (&content[..end + 2], &content[end + 4..]);
        let mut pending = match self.begin(header, &|_| true, now) {
            Choice::Signed(pending) => pending,
            Choice::Later => return Ok(Whole::Later),
            Choice::Never => return Ok(Whole::Never),
        };
        pending.body(body);
        let (mut signed, _) = pending.sign()?;
        signed.extend_from_slice(content);
        Ok(Whole::Signed(signed))
    }
}
