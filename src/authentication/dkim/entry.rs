//! A key in the list, and how far it has come.

use serde::{Deserialize, Serialize};

use super::algorithm::Algorithm;
use super::selector::Selector;
use crate::clock::Timestamp;
use crate::mail::Domain;

/// What the DNS shows of a key, as far as that is certain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Seen {
    /// Its record.
    Right,
    /// No record of a key.
    Missing,
    /// That of another key, one that was revoked, or several.
    Other,
}

/// How far a key has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "stage")]
pub enum Stage {
    /// Its record is to be put into the DNS, which does not show it yet.
    Published,
    /// The DNS shows it, but some may not see that before `until`.
    Waiting {
        /// Milliseconds since 1970.
        until: u64,
    },
    /// It signs.
    Active {
        /// Milliseconds since 1970.
        since: u64,
    },
    /// It signs no more, but mail that it signed may still be on its way: its record stays.
    Retiring {
        /// Milliseconds since 1970.
        until: u64,
        /// Whether an operator took it out of service: it never signs again.
        #[serde(default)]
        is_withdrawn: bool,
    },
    /// The private key is gone; the record may go.
    Removed,
}

impl Stage {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Stage::Published => "published",
            Stage::Waiting { .. } => "waiting",
            Stage::Active { .. } => "active",
            Stage::Retiring { .. } => "retiring",
            Stage::Removed => "removed",
        }
    }

    /// All names, in the order in which keys go through them.
    pub const NAMES: [&'static str; 5] = ["published", "waiting", "active", "retiring", "removed"];
}

/// A key in the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// For whom it signs.
    pub domain: Domain,
    /// Its name.
    pub selector: Selector,
    /// How it signs.
    pub algorithm: Algorithm,
    /// When it was made.
    pub made: Timestamp,
    /// How far it has come.
    pub stage: Stage,
    /// What the DNS showed of it when that was last certain.
    pub seen: Option<Seen>,
}

impl Entry {
    pub(super) fn new(domain: Domain, selector: Selector, algorithm: Algorithm, now: Timestamp) -> Self {
        Entry { domain, selector, algorithm, made: now, stage: Stage::Published, seen: None }
    }

    pub(super) fn is(&self, domain: &Domain, selector: &Selector) -> bool {
        self.selector == *selector && self.domain == *domain
    }
}
