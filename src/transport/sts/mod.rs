//! MTA-STS (RFC 8461): policies that domains publish by HTTPS.
//!
//! Owns what is known of them, in memory and on the disk. Promises that a policy once read holds until it runs out,
//! whatever the domain's DNS or web server say or do not say then, unless they have a newer one. A domain of which
//! nothing is known and whose policy cannot be read has none (RFC 8461 3.3).

mod fetch;
mod policies;
mod policy;
mod record;
mod shelf;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub use fetch::{FetchError, Fetches, Fetching, HttpsFetcher, NeverFetched};
pub use policies::Policies;
pub use policy::{Mode, Policy};

use crate::clock::Timestamp;
use crate::mail::Domain;
use crate::net::DnsError;

/// A policy that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The version that the domain's record named then.
    pub id: Box<str>,
    /// When it was read last.
    pub read: Timestamp,
    /// The policy.
    pub policy: Policy,
}

impl Kept {
    /// Whether it holds.
    fn is_good(&self, now: Timestamp) -> bool {
        now.since(self.read) < self.policy.max_age
    }
}

/// Why a domain has no policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoPolicy {
    /// It publishes none.
    #[error("the domain publishes none")]
    NotPublished,
    /// Its record is none, or there are several.
    #[error("the domain's TXT record is malformed: {0}")]
    Record(&'static str),
    /// Its record did not come.
    #[error("looking up its TXT record: {0}")]
    Dns(DnsError),
    /// It could not be fetched.
    #[error("fetching it: {0}")]
    Fetch(FetchError),
    /// What was fetched is no policy.
    #[error("what the domain serves is no policy: {0}")]
    Malformed(&'static str),
}

/// What is known of a domain's policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sts {
    /// It was not asked for.
    NotAsked,
    /// There is none.
    None(NoPolicy),
    /// This one.
    Known(Arc<Kept>),
}

impl Sts {
    /// Whether mail may go to no host that does not fulfil it.
    pub fn is_enforced(&self) -> bool {
        self.policy().is_some_and(|policy| policy.mode == Mode::Enforce)
    }

    /// Whether a mail host may be the domain's.
    pub fn admits(&self, host: &str) -> bool {
        !self.is_enforced() || self.policy().is_some_and(|policy| policy.lists(host))
    }

    #[cfg(test)]
    pub(super) fn known(id: &str, read: Timestamp, policy: Policy) -> Self {
        Sts::Known(Arc::new(Kept { id: id.into(), read, policy }))
    }

    /// The policy, where there is one.
    pub fn policy(&self) -> Option<&Policy> {
        match self {
            Sts::Known(kept) => Some(&kept.policy),
            Sts::NotAsked | Sts::None(_) => None,
        }
    }
}

impl fmt::Display for Sts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Sts::NotAsked => f.write_str("not asked for"),
            Sts::None(why) => write!(f, "none: {why}"),
            Sts::Known(kept) => {
                let Policy { mode, mx, max_age } = &kept.policy;
                let (mode, hosts) = (mode.as_str(), mx.join(" "));
                write!(f, "{mode}, id {}, for {} s, mx {hosts}", kept.id, max_age.as_secs())
            }
        }
    }
}

/// The longest time that a policy holds (RFC 8461 3.2).
const MAX_AGE_MOST: Duration = Duration::from_secs(31_557_600);

/// The name of a domain's record; none where it would be too long.
fn record_name(domain: &Domain) -> Option<Domain> {
    Domain::parse(&format!("_mta-sts.{domain}")).ok()
}

/// The name of a domain's web server for its policy; none where it would be too long.
fn server_name(domain: &Domain) -> Option<Domain> {
    Domain::parse(&format!("mta-sts.{domain}")).ok()
}
