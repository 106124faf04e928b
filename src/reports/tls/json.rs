//! A report as JSON (RFC 8460 4.4).

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Map, Value, json};

use crate::mail::Domain;
use crate::transport::{Day, DomainCounts, FailureCount, PolicyCounts};

/// Whose report it is, and on what.
#[derive(Clone, Copy, Debug)]
pub(super) struct Subject<'a> {
    pub(super) organization: &'a str,
    pub(super) contact: &'a str,
    /// The domain that reports.
    pub(super) submitter: &'a Domain,
    pub(super) domain: &'a Domain,
    pub(super) day: Day,
}

impl Subject<'_> {
    /// The same for all who get it, whenever it is sent.
    pub(super) fn id(&self) -> String {
        format!("{}-{}@{}", self.day, self.domain, self.submitter)
    }

    /// The first and the last second of the day, since 1970.
    pub(super) fn seconds(&self) -> (u64, u64) {
        (self.day.start().as_secs(), self.day.end().as_secs() - 1)
    }
}

pub(super) fn report(of: &Subject<'_>, counts: &DomainCounts) -> Value {
    json!({
        "organization-name": of.organization,
        "date-range": {
            "start-datetime": format!("{}T00:00:00Z", of.day),
            "end-datetime": format!("{}T23:59:59Z", of.day),
        },
        "contact-info": of.contact,
        "report-id": of.id(),
        "policies": counts.policies.iter().map(policy).collect::<Vec<_>>(),
    })
}

fn policy(counts: &PolicyCounts) -> Value {
    let used = &counts.policy;
    let mut policy = Map::new();
    policy.insert("policy-type".into(), used.kind.as_str().into());
    if !used.strings.is_empty() {
        policy.insert("policy-string".into(), used.strings.clone().into());
    }
    policy.insert("policy-domain".into(), used.domain.clone().into());
    if !used.hosts.is_empty() {
        policy.insert("mx-host".into(), used.hosts.clone().into());
    }
    let mut told = json!({
        "policy": policy,
        "summary": {
            "total-successful-session-count": counts.successful,
            "total-failure-session-count": counts.failed(),
        },
    });
    if !counts.failures.is_empty() {
        told["failure-details"] = counts.failures.iter().map(failure).collect::<Vec<_>>().into();
    }
    told
}

/// What is not known is left out.
fn failure(FailureCount { failure, sessions }: &FailureCount) -> Value {
    let mut told = Map::new();
    told.insert("result-type".into(), failure.kind.as_str().into());
    let mut put = |key: &str, value: Option<String>| {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            told.insert(key.into(), value.into());
        }
    };
    put("sending-mta-ip", failure.from.map(|ip| ip.to_canonical().to_string()));
    put("receiving-mx-hostname", Some(failure.host.clone()));
    put("receiving-ip", failure.address.map(|ip| ip.to_canonical().to_string()));
    put("failure-reason-code", Some(failure.why.clone()));
    told.insert("failed-session-count".into(), (*sessions).into());
    told.into()
}

/// The same, compressed.
pub(super) fn compressed(report: &Value) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    // writing to memory cannot fail
    let _ = encoder.write_all(report.to_string().as_bytes());
    encoder.finish().unwrap_or_default()
}
