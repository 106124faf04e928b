//! What goes over the admin socket: requests as JSON, answers as JSON lines.
//!
//! A request is `POST /v1/NAME` with a JSON object. An answer is one object a line; the last line is
//! `{"end": {...}}`, or `{"failed": "..."}`: an answer without such a line was cut off.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Which copies are meant; all that is said must hold.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(in crate::app) struct Selection {
    /// These, as 16 hexadecimal digits.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(in crate::app) ids: Vec<String>,
    /// Recipients in this domain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::app) domain: Option<String>,
    /// Handed over by this client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::app) client: Option<String>,
    /// Part of the sender's address; `<>` for reports.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::app) from: Option<String>,
    /// Part of a recipient's address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::app) to: Option<String>,
    /// Arrived at least so many seconds ago.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::app) older_seconds: Option<u64>,
    /// Held for this reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::app) reason: Option<String>,
}

/// What is to be done with copies.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(in crate::app) struct QueueRequest {
    pub(in crate::app) select: Selection,
    /// Only tells what would be done.
    pub(in crate::app) dry_run: bool,
    /// Copies listed at most.
    pub(in crate::app) limit: Option<u64>,
    /// What a report says to the sender.
    pub(in crate::app) text: Option<String>,
    /// Copies that are exported stay in the line.
    pub(in crate::app) keep: bool,
}

/// A domain, or a look at all of them.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(in crate::app) struct DomainRequest {
    pub(in crate::app) domain: Option<String>,
    /// For how long it is suspended.
    pub(in crate::app) for_seconds: Option<u64>,
    pub(in crate::app) limit: Option<u64>,
}

/// The way to an address.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(in crate::app) struct TraceRequest {
    pub(in crate::app) address: String,
    /// Whether the hosts are spoken to.
    pub(in crate::app) probe: bool,
    /// The sender named there; the null one otherwise.
    pub(in crate::app) from: Option<String>,
}

/// A report on TLS.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(in crate::app) struct TlsReportRequest {
    pub(in crate::app) domain: String,
    /// Its day; today otherwise.
    pub(in crate::app) day: Option<String>,
}

/// Certificates.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(in crate::app) struct CertificateRequest {
    /// Their names; all otherwise.
    pub(in crate::app) domains: Vec<String>,
    /// Whether for new keys.
    pub(in crate::app) new_key: bool,
}

/// How many the answers are about.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(in crate::app) struct StatsRequest {
    /// Domains and clients told at most.
    pub(in crate::app) limit: Option<u64>,
}

/// One line of an answer.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::app) enum Line {
    /// One of many.
    Row(Value),
    /// The last: how it ended.
    End(Value),
    /// The last: why it failed.
    Failed(String),
}
