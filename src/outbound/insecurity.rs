//! Messages that demand TLS all the way (REQUIRETLS, RFC 8689), and connections that do not keep that.

use super::Deps;
use super::conclude::unreached;
use super::route::Route;
use crate::mail::Verdict;
use crate::net::DnsError;
use crate::queue::Queued;
use crate::transport::Proof;

/// Why a connection does not keep what a message demands (RFC 8689 4.2.1): that its host has proven who it is, and that
/// it is known by proof to be the domain's. What may pass puts the message off.
pub(super) async fn insecurity(deps: &Deps, proof: Proof, route: &Route, queued: &Queued) -> Option<Verdict> {
    let refused = |(code, class), why: &str| {
        let text = format!("the message demands TLS all the way (REQUIRETLS), and {why}");
        Some(unreached(code, (class, 7, 10), text))
    };
    if !proof.is_of_identity() {
        return refused((550, 5), "its host does not prove who it is");
    }
    match is_found_by_proof(deps, proof, route, queued).await {
        Ok(true) => None,
        Ok(false) => refused((550, 5), "nothing proves that this is the domain's mail host"),
        Err(error) => refused((451, 4), &format!("its MX records: {error}")),
    }
}

/// Whether nobody on the way could have named another host.
async fn is_found_by_proof(
    deps: &Deps,
    proof: Proof,
    route: &Route,
    queued: &Queued,
) -> Result<bool, DnsError> {
    let Some(domain) = queued.domain() else { return Ok(false) };
    if route.sts.is_enforced() || deps.settings.now().routes.fixed(domain).is_some() {
        return Ok(true);
    }
    match deps.resolver.next_hop_names(domain).await {
        Ok(names) => Ok(!names.is_empty()),
        // no MX records: it is its own host, by a proof of its own
        Err(error) if error.is_denial() => Ok(proof == Proof::Dane),
        Err(error) => Err(error),
    }
}
