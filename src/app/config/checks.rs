//! What no single setting can be wrong about: how those of a section go together.

use super::node::Place;
use super::reader::Reader;
use super::schema::{
    CertificateSection, ClientSection, DomainLimitSection, ProviderSection, TlsMode, TlsPolicySection,
    TlsReportsSection,
};
use crate::mail::{Address, Domain};
use crate::net::Identity;

pub(super) fn is_known(client: &ClientSection, at: Option<Place>, reader: &mut Reader<'_>) {
    if client.networks.is_empty() && client.certificates.is_empty() {
        let remedy = "give it `networks` or `certificates`";
        reader.fault_at(at, None, "is known by nothing, so it may not send", remedy);
    }
}

/// Looks at the files too: a relay that does not start for them is found out before it is restarted.
pub(super) fn serves(certificate: &CertificateSection, at: Option<Place>, reader: &mut Reader<'_>) {
    if let Err(error) = Identity::from_files(&certificate.chain, &certificate.key) {
        reader.fault_at(at, None, &format!("does not serve: {error}"), "");
    }
}

/// RFC 8460 5.3: who submits a report is who answers for it.
pub(super) fn is_of_one_domain(reports: &TlsReportsSection, at: Option<Place>, reader: &mut Reader<'_>) {
    if let (Some(from), Some(contact)) = (&reports.from, &reports.contact)
        && from.domain() != contact.domain()
    {
        reader.fault_at(at, None, "names two domains", "let `from` and `contact` be at one");
    }
    let is_plain = |address: &Address| address.is_ascii() && address.domain().as_literal().is_none();
    if !reports.from.iter().chain(&reports.contact).all(is_plain) {
        reader.fault_at(
            at,
            None,
            "names an address that not everybody can write to",
            "use ASCII and a domain",
        );
    }
}

pub(super) fn is_host_and_new(name: &Domain, before: &[Domain]) -> bool {
    name.as_literal().is_none() && !before.contains(name)
}

pub(super) fn is_whole(policy: &TlsPolicySection, at: Option<Place>, reader: &mut Reader<'_>) {
    match (policy.mode == TlsMode::Fingerprint, policy.certificates.is_empty()) {
        (true, true) => reader.fault_at(at, None, "names no certificate", "give it `certificates`"),
        (false, false) => {
            reader.fault_at(
                at,
                None,
                "names certificates that are not looked at",
                "say mode = \"fingerprint\"",
            );
        }
        _ => {}
    }
}

pub(super) fn limits_something(provider: &ProviderSection, at: Option<Place>, reader: &mut Reader<'_>) {
    if (provider.connections, provider.rate, provider.messages_per_connection) == (None, None, None) {
        let remedy = "give it `connections`, `rate` or `messages_per_connection`";
        reader.fault_at(at, None, "limits nothing", remedy);
    }
}

pub(super) fn domain_limits_something(
    limit: &DomainLimitSection,
    at: Option<Place>,
    reader: &mut Reader<'_>,
) {
    if (limit.connections, limit.rate) == (None, None) {
        reader.fault_at(at, None, "limits nothing", "give it `connections` or `rate`");
    }
}
