//! What was counted of one domain in a day, as a report has it (RFC 8460 4.4).

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// Policies of a domain in a day: beyond these, sessions count for the last one of their kind.
const POLICIES_MAX: usize = 16;
/// Different failures under one policy: beyond these they are told by their kind alone.
const FAILURES_MAX: usize = 64;
/// A longer reason is cut.
const WHY_MAX_OCTETS: usize = 200;

/// What kind of policy a session was judged by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PolicyKind {
    /// DANE records of the mail host.
    Tlsa,
    /// The domain's MTA-STS policy.
    Sts,
    /// None was found.
    NotFound,
}

impl PolicyKind {
    /// As reports have it.
    pub const fn as_str(self) -> &'static str {
        match self {
            PolicyKind::Tlsa => "tlsa",
            PolicyKind::Sts => "sts",
            PolicyKind::NotFound => "no-policy-found",
        }
    }
}

/// A policy that sessions were judged by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyUsed {
    /// Its kind.
    pub kind: PolicyKind,
    /// Whose it is: the domain's own, or the name that TLSA records stand under.
    pub domain: String,
    /// The records, or the policy's lines.
    pub strings: Vec<String>,
    /// The hosts that an MTA-STS policy lists.
    pub hosts: Vec<String>,
}

/// What went wrong (RFC 8460 4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailureKind {
    /// The host does not offer TLS.
    NoStartTls,
    /// Its certificate is for other names, or it is none that the policy lists.
    HostMismatch,
    /// Its certificate's time is over, or has not begun.
    Expired,
    /// No known root leads to its certificate.
    NotTrusted,
    /// Anything else.
    Validation,
    /// Of its TLSA records none can be used.
    TlsaInvalid,
    /// Its TLSA records cannot be validated.
    DnssecInvalid,
    /// The policy could not be fetched.
    StsFetch,
    /// The policy, or the record that announces it, is malformed.
    StsInvalid,
    /// The policy's web server does not prove its name.
    StsWebPki,
}

impl FailureKind {
    /// As reports have it.
    pub const fn as_str(self) -> &'static str {
        match self {
            FailureKind::NoStartTls => "starttls-not-supported",
            FailureKind::HostMismatch => "certificate-host-mismatch",
            FailureKind::Expired => "certificate-expired",
            FailureKind::NotTrusted => "certificate-not-trusted",
            FailureKind::Validation => "validation-failure",
            FailureKind::TlsaInvalid => "tlsa-invalid",
            FailureKind::DnssecInvalid => "dnssec-invalid",
            FailureKind::StsFetch => "sts-policy-fetch-error",
            FailureKind::StsInvalid => "sts-policy-invalid",
            FailureKind::StsWebPki => "sts-webpki-invalid",
        }
    }
}

/// Who failed, and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What went wrong.
    pub kind: FailureKind,
    /// The mail host; empty where it was none's fault.
    pub host: String,
    /// Its address.
    pub address: Option<IpAddr>,
    /// Ours.
    pub from: Option<IpAddr>,
    /// In words.
    pub why: String,
}

impl Failure {
    /// One of this kind, whoever it was.
    pub fn of(kind: FailureKind) -> Self {
        Failure { kind, host: String::new(), address: None, from: None, why: String::new() }
    }
}

/// Sessions that failed in the same way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailureCount {
    /// How.
    pub failure: Failure,
    /// How many.
    pub sessions: u64,
}

/// Sessions under one policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyCounts {
    /// Which.
    pub policy: PolicyUsed,
    /// Those that kept it.
    pub successful: u64,
    /// Those that did not.
    pub failures: Vec<FailureCount>,
}

impl PolicyCounts {
    /// Those that did not keep it.
    pub fn failed(&self) -> u64 {
        self.failures.iter().map(|count| count.sessions).sum()
    }

    fn add(&mut self, mut failure: Failure, sessions: u64) {
        let end = failure.why.floor_char_boundary(WHY_MAX_OCTETS);
        failure.why.truncate(end);
        let is_full = self.failures.len() >= FAILURES_MAX;
        let is_known = |failure: &Failure, counts: &[FailureCount]| {
            counts.iter().position(|count| count.failure == *failure)
        };
        if is_full && is_known(&failure, &self.failures).is_none() {
            failure = Failure::of(failure.kind);
        }
        match is_known(&failure, &self.failures) {
            Some(at) => self.failures[at].sessions += sessions,
            None => self.failures.push(FailureCount { failure, sessions }),
        }
    }
}

/// All sessions of a domain.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DomainCounts {
    /// By policy.
    pub policies: Vec<PolicyCounts>,
}

impl DomainCounts {
    /// Counts one.
    pub fn note(&mut self, policy: PolicyUsed, failure: Option<Failure>) {
        let counts = self.under(policy);
        match failure {
            None => counts.successful += 1,
            Some(failure) => counts.add(failure, 1),
        }
    }

    /// Adds others.
    pub fn merge(&mut self, other: DomainCounts) {
        for theirs in other.policies {
            let counts = self.under(theirs.policy);
            counts.successful += theirs.successful;
            for FailureCount { failure, sessions } in theirs.failures {
                counts.add(failure, sessions);
            }
        }
    }

    /// Those that kept their policy, and those that did not.
    pub fn totals(&self) -> (u64, u64) {
        let successful = self.policies.iter().map(|counts| counts.successful).sum();
        (successful, self.policies.iter().map(PolicyCounts::failed).sum())
    }

    fn under(&mut self, policy: PolicyUsed) -> &mut PolicyCounts {
        let known = self.policies.iter().position(|counts| counts.policy == policy);
        let at = known.or_else(|| {
            let is_alike = |counts: &PolicyCounts| counts.policy.kind == policy.kind;
            if self.policies.len() < POLICIES_MAX { None } else { self.policies.iter().rposition(is_alike) }
        });
        let at = at.unwrap_or(self.policies.len());
        if at == self.policies.len() {
            self.policies.push(PolicyCounts { policy, successful: 0, failures: Vec::new() });
        }
        &mut self.policies[at]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(kind: PolicyKind, domain: &str) -> PolicyUsed {
        PolicyUsed { kind, domain: domain.into(), strings: Vec::new(), hosts: Vec::new() }
    }

    fn failure(host: usize) -> Failure {
        Failure {
            host: format!("mx{host}.example"),
            why: "ä".repeat(150),
            ..Failure::of(FailureKind::Expired)
        }
    }

    #[test]
    fn sessions_add_up_however_many_hosts_and_policies_there_are() {
        let mut counts = DomainCounts::default();
        for number in 0..1000 {
            let base = format!("mx{number}.example");
            counts.note(policy(PolicyKind::Tlsa, &base), None);
            counts.note(policy(PolicyKind::Sts, "example"), Some(failure(number)));
        }
        let mut twice = counts.clone();
        twice.merge(counts);
        assert_eq!(twice.totals(), (2000, 2000));
        assert!(twice.policies.len() <= POLICIES_MAX + 2, "{}", twice.policies.len());
        let failures = twice.policies.iter().map(|counts| counts.failures.len()).max();
        assert_eq!(failures, Some(FAILURES_MAX + 1));
        let longest = twice.policies.iter().flat_map(|counts| &counts.failures);
        assert!(longest.map(|count| count.failure.why.len()).max() <= Some(WHY_MAX_OCTETS));
    }
}
