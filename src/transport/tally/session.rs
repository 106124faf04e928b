//! What a session means for the counts of its domain.

use std::net::IpAddr;

use super::counts::{Failure, FailureKind, PolicyKind, PolicyUsed};
use crate::mail::Domain;
use crate::net::{DaneFault, DnsError, HttpsError, Pkix, PkixFault, Tlsa};
use crate::transport::{Demand, FetchError, NoPolicy, Policy, Sts, StsMode, Unproven};

/// A session with a mail host, as far as TLS goes.
#[derive(Clone, Copy, Debug)]
pub struct Session<'a> {
    /// Whose mail it was opened for.
    pub domain: &'a Domain,
    /// The policy that this domain publishes.
    pub sts: &'a Sts,
    /// The host.
    pub host: &'a str,
    /// Its address.
    pub address: IpAddr,
    /// Ours, where it is known.
    pub from: Option<IpAddr>,
}

/// How it went.
#[derive(Clone, Copy, Debug)]
pub enum Ended<'a> {
    /// The host offers no TLS.
    NoStartTls,
    /// The handshake failed, for this reason.
    Broken(&'a str),
    /// The host has not proven what it must.
    Unproven(&'a Unproven),
    /// It goes on under TLS; what the certificate proves of the host's name.
    Secured(Pkix),
}

/// Why a host was not even spoken to.
#[derive(Clone, Copy, Debug)]
pub enum Avoided<'a> {
    /// Its TLSA records did not come.
    Tlsa(&'a DnsError),
    /// The domain's policy lists none of its mail hosts.
    NoneListed,
}

impl Session<'_> {
    /// Under which policy it counts, and as which failure; under none where it failed by our own rules alone.
    pub(super) fn judge(&self, demand: &Demand, ended: Ended<'_>) -> Option<(PolicyUsed, Option<Failure>)> {
        let policy = self.policy(demand);
        let is_our_rule = matches!(ended, Ended::Unproven(Unproven::Pkix { .. } | Unproven::Fingerprint));
        if is_our_rule && policy.kind == PolicyKind::NotFound {
            return None;
        }
        let found = match ended {
            Ended::NoStartTls => Some((FailureKind::NoStartTls, String::new())),
            Ended::Broken(why) => Some((FailureKind::Validation, why.to_owned())),
            Ended::Unproven(fault) => Some((kind_of(fault), fault.to_string())),
            Ended::Secured(_) if matches!(demand, Demand::Unusable { .. }) => {
                Some((FailureKind::TlsaInvalid, "no TLSA record can be used".to_owned()))
            }
            Ended::Secured(pkix) if policy.kind == PolicyKind::Sts => self.against_policy(pkix),
            Ended::Secured(_) => None,
        };
        let failure = found.map(|(kind, why)| self.failure(kind, why));
        Some((policy, failure))
    }

    fn policy(&self, demand: &Demand) -> PolicyUsed {
        match (demand, in_use(self.sts)) {
            (Demand::Dane { base, records } | Demand::Unusable { base, records }, _) => tlsa(base, records),
            (_, Some(policy)) => sts(self.domain, policy),
            (_, None) => PolicyUsed::bare(PolicyKind::NotFound, self.domain.as_str()),
        }
    }

    /// What a policy says of a session that it may not have been able to stop: it may be in testing.
    fn against_policy(&self, pkix: Pkix) -> Option<(FailureKind, String)> {
        let is_listed = in_use(self.sts).is_some_and(|policy| policy.lists(self.host));
        match pkix {
            _ if !is_listed => {
                Some((FailureKind::HostMismatch, "the policy does not list the host".to_owned()))
            }
            Pkix::Invalid(fault) => Some((of_pkix(fault), fault.to_string())),
            Pkix::Valid | Pkix::NotEvaluated => None,
        }
    }

    fn failure(&self, kind: FailureKind, why: String) -> Failure {
        Failure { kind, host: self.host.into(), address: Some(self.address), from: self.from, why }
    }
}

/// The policy, where it demands anything.
fn in_use(sts: &Sts) -> Option<&Policy> {
    sts.policy().filter(|policy| policy.mode != StsMode::None)
}

/// What is wrong with the policy that a domain announces, where it has none that holds.
pub(super) fn policy_failure(domain: &Domain, found: &Sts) -> Option<(PolicyUsed, Failure)> {
    let Sts::None(why) = found else { return None };
    let kind = match why {
        NoPolicy::NotPublished | NoPolicy::Dns(_) => return None,
        NoPolicy::Record(_) | NoPolicy::Malformed(_) => FailureKind::StsInvalid,
        NoPolicy::Fetch(error) => of_fetch(error),
    };
    let policy = PolicyUsed::bare(PolicyKind::Sts, domain.as_str());
    // that it is not asked again yet is no other failure
    let why = match why {
        NoPolicy::Fetch(FetchError::Lately(before)) => NoPolicy::Fetch((**before).clone()).to_string(),
        why => why.to_string(),
    };
    Some((policy, Failure { why, ..Failure::of(kind) }))
}

fn of_fetch(error: &FetchError) -> FailureKind {
    match error {
        FetchError::Https(HttpsError::Untrusted(_)) => FailureKind::StsWebPki,
        FetchError::Lately(before) => of_fetch(before),
        _ => FailureKind::StsFetch,
    }
}

/// Counts for a host that was avoided; none where that says nothing of anybody's policy.
pub(super) fn avoided(
    domain: &Domain,
    sts_found: &Sts,
    host: &str,
    why: Avoided<'_>,
) -> Option<(PolicyUsed, Failure)> {
    match why {
        // a resolver that validates answers SERVFAIL to what is bogus
        Avoided::Tlsa(error @ (DnsError::Bogus | DnsError::ServerFailed)) => {
            let policy = PolicyUsed::bare(PolicyKind::Tlsa, host);
            let failure = Failure::of(FailureKind::DnssecInvalid);
            Some((policy, Failure { host: host.into(), why: error.to_string(), ..failure }))
        }
        Avoided::Tlsa(_) => None,
        Avoided::NoneListed => {
            let policy = sts(domain, in_use(sts_found)?);
            let why = "the policy lists none of the domain's mail hosts".to_owned();
            Some((policy, Failure { why, ..Failure::of(FailureKind::HostMismatch) }))
        }
    }
}

fn tlsa(base: &Domain, records: &[Tlsa]) -> PolicyUsed {
    let records = records.iter().map(ToString::to_string);
    PolicyUsed::published(PolicyKind::Tlsa, base.as_str(), records, std::iter::empty())
}

fn sts(domain: &Domain, policy: &Policy) -> PolicyUsed {
    let head = ["version: STSv1".to_owned(), format!("mode: {}", policy.mode.as_str())];
    let hosts = policy.mx.iter().map(|host| format!("mx: {host}"));
    let strings = head.into_iter().chain(hosts).chain([format!("max_age: {}", policy.max_age.as_secs())]);
    let hosts = policy.mx.iter().map(ToString::to_string);
    PolicyUsed::published(PolicyKind::Sts, domain.as_str(), strings, hosts)
}

fn kind_of(fault: &Unproven) -> FailureKind {
    match fault {
        Unproven::NoTls(_) => FailureKind::NoStartTls,
        Unproven::Pkix { fault, .. } | Unproven::Dane(DaneFault::Authority(fault)) => of_pkix(*fault),
        Unproven::Fingerprint | Unproven::Dane(DaneFault::NoMatch) => FailureKind::Validation,
    }
}

fn of_pkix(fault: PkixFault) -> FailureKind {
    match fault {
        PkixFault::WrongName => FailureKind::HostMismatch,
        PkixFault::Expired | PkixFault::NotYetValid => FailureKind::Expired,
        PkixFault::NotTrusted => FailureKind::NotTrusted,
        PkixFault::BadSignature | PkixFault::Unfit => FailureKind::Validation,
    }
}
