//! What a mail host must prove before mail goes to it: DANE (RFC 7672), MTA-STS (RFC 8461), what the operator
//! demands, or nothing (RFC 7435).
//!
//! ```text
//! domain -> stance (what all of its hosts must prove: the operator's word, its MTA-STS policy)
//!   host -> demand (what this one must: DANE where it has usable records, else as the stance has it)
//!   connection -> proof (what it has shown)
//! ```
//!
//! Owns the policies that domains publish, and keeps them across restarts; and counts how sessions went, for those
//! who want to hear of it (RFC 8460). Promises that a demand is never lowered
//! because an answer failed: DANE records that cannot be looked up keep the host out, and a policy that was read
//! holds until it runs out, whatever its domain's DNS and web server say meanwhile. Never opens a connection for
//! mail, and never decides what a failure means for a message.

mod dane;
mod demand;
mod stance;
mod sts;
mod tally;

use std::path::Path;
use std::sync::Arc;

pub use dane::{Dane, find_dane};
pub use demand::{Demand, Proof, Unproven, demand};
pub use stance::{Floor, Mode, Stance};
pub use sts::{
    FetchError, Fetches, Fetching, HttpsFetcher, Mode as StsMode, NeverFetched, NoPolicy, Policies, Policy,
    Sts,
};
pub use tally::{
    Avoided, Counted, Day, DomainCounts, Ended, Failure, FailureCount, FailureKind, PolicyCounts, PolicyKind,
    PolicyUsed, Session, Tally,
};

use crate::clock::Clock;
use crate::mail::Domain;
use crate::net::Resolver;

/// What domains demand, as far as it is known, and how sessions went.
pub struct Transport {
    policies: Policies,
    tally: Arc<Tally>,
}

impl Transport {
    /// With policies that are fetched by `fetcher`, and kept in a directory where one is given.
    pub fn new(fetcher: Arc<dyn Fetches>, clock: Clock, directory: Option<&Path>) -> Self {
        Transport { policies: Policies::new(fetcher, clock, directory), tally: Arc::default() }
    }

    /// The policies that are known.
    pub fn policies(&self) -> &Policies {
        &self.policies
    }

    /// How sessions went.
    pub fn tally(&self) -> &Arc<Tally> {
        &self.tally
    }

    /// What the hosts of a domain must prove, and the policy that it publishes, which also says which hosts may be
    /// its own. What the operator orders goes before it where it says less.
    pub async fn stance(
        &self,
        resolver: &dyn Resolver,
        domain: &Domain,
        order: Option<&Mode>,
    ) -> (Stance, Sts) {
        if order.is_some_and(|mode| !mode.heeds_policies()) || domain.as_literal().is_some() {
            return (Stance::ordered(order, false), Sts::NotAsked);
        }
        let sts = self.policies.find(resolver, domain).await;
        (Stance::ordered(order, sts.is_enforced()), sts)
    }
}
