//! What was counted of one domain in a day, as a report has it (RFC 8460 4.4).

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// Policies of a domain in a day: beyond these, sessions count for the last one of their kind.
const POLICIES_MAX: usize = 8;
/// Different failures under one policy: beyond these they are told by their kind alone.
const FAILURES_MAX: usize = 32;
/// A longer reason is cut.
const WHY_MAX_OCTETS: usize = 200;
/// Of a longer list of records, lines or hosts the rest is left out.
const LIST_MAX_OCTETS: usize = 4 << 10;
/// What an entry takes beside its texts, about.
const ENTRY_OCTETS: usize = 160;

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

impl PolicyUsed {
    /// One that publishes nothing, or nothing that is known.
    pub fn bare(kind: PolicyKind, domain: &str) -> Self {
        PolicyUsed { kind, domain: domain.to_owned(), strings: Vec::new(), hosts: Vec::new() }
    }

    /// One with these records or lines, and hosts.
    pub fn published(
        kind: PolicyKind,
        domain: &str,
        strings: impl Iterator<Item = String>,
        hosts: impl Iterator<Item = String>,
    ) -> Self {
        PolicyUsed { kind, domain: domain.to_owned(), strings: as_fits(strings), hosts: as_fits(hosts) }
    }

    fn octets(&self) -> usize {
        let texts = self.strings.iter().chain(&self.hosts).map(String::len).sum::<usize>();
        ENTRY_OCTETS + self.domain.len() + texts
    }
}

fn as_fits(list: impl Iterator<Item = String>) -> Vec<String> {
    let mut octets = 0;
    let fits = |text: &String| {
        octets += text.len();
        octets <= LIST_MAX_OCTETS
    };
    list.take_while(fits).collect()
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

    /// Gives how many octets it takes more.
    fn add(&mut self, mut failure: Failure, sessions: u64) -> usize {
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
            Some(at) => {
                self.failures[at].sessions += sessions;
                0
            }
            None => {
                let octets = ENTRY_OCTETS + failure.host.len() + failure.why.len();
                self.failures.push(FailureCount { failure, sessions });
                octets
            }
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
    /// Counts one; gives how many octets that takes more.
    pub fn note(&mut self, policy: PolicyUsed, failure: Option<Failure>) -> usize {
        let (counts, octets) = self.under(policy);
        match failure {
            None => {
                counts.successful += 1;
                octets
            }
            Some(failure) => octets + counts.add(failure, 1),
        }
    }

    /// Adds others; gives how many octets that takes more.
    pub fn merge(&mut self, other: DomainCounts) -> usize {
        let mut more = 0;
        for theirs in other.policies {
            let (counts, octets) = self.under(theirs.policy);
            more += octets;
            counts.successful += theirs.successful;
            for FailureCount { failure, sessions } in theirs.failures {
                more += counts.add(failure, sessions);
            }
        }
        more
    }

    /// Those that kept their policy, and those that did not.
    pub fn totals(&self) -> (u64, u64) {
        let successful = self.policies.iter().map(|counts| counts.successful).sum();
        (successful, self.policies.iter().map(PolicyCounts::failed).sum())
    }

    fn under(&mut self, policy: PolicyUsed) -> (&mut PolicyCounts, usize) {
        let known = self.policies.iter().position(|counts| counts.policy == policy);
        let at = known.or_else(|| {
            let is_alike = |counts: &PolicyCounts| counts.policy.kind == policy.kind;
            if self.policies.len() < POLICIES_MAX { None } else { self.policies.iter().rposition(is_alike) }
        });
        let at = at.unwrap_or(self.policies.len());
        let mut octets = 0;
        if at == self.policies.len() {
            octets = policy.octets();
            self.policies.push(PolicyCounts { policy, successful: 0, failures: Vec::new() });
        }
        (&mut self.policies[at], octets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(kind: PolicyKind, domain: &str) -> PolicyUsed {
        let lines = (0..1000).map(|number| format!("line {number}"));
        PolicyUsed::published(kind, domain, lines, std::iter::empty())
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
        let lists = twice.policies.iter().map(|counts| counts.policy.strings.concat().len());
        assert!(lists.max() <= Some(LIST_MAX_OCTETS));
    }
}
