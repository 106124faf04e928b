//! `trace`: the way of mail to an address, and what the hosts there say.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::domains::{know, what_stops};
use super::server::{Control, Out, Outcome};
use super::wire::TraceRequest;
use crate::mail::{Address, ReversePath};
use crate::net::{DnsError, Host};
use crate::outbound::{self, Pretended, Way};
use crate::transport::Demand;

/// Hosts that are spoken to in one trace.
const PROBED_MAX: usize = 10;

/// The addresses of a way, in the order in which they are tried.
fn in_order(way: &Way) -> Vec<(&Host, SocketAddr)> {
    let addresses = way.hosts.iter().flat_map(|host| host.addresses.iter().map(move |at| (host, *at)));
    addresses.collect()
}

/// What a host must prove, and by which records.
fn demanded(demand: &Result<Demand, DnsError>) -> Value {
    match demand {
        Ok(Demand::Dane { base, records }) => {
            let records: Vec<String> = records.iter().map(ToString::to_string).collect();
            json!({ "by": "DANE", "base": base.as_str(), "records": records })
        }
        Ok(demand @ Demand::Unusable { base, records }) => {
            let records: Vec<String> = records.iter().map(ToString::to_string).collect();
            json!({ "by": demand.as_str(), "base": base.as_str(), "unusable_records": records })
        }
        Ok(Demand::Fingerprint(any)) => {
            let any: Vec<String> = any.iter().map(ToString::to_string).collect();
            json!({ "by": "fingerprint", "certificates": any })
        }
        Ok(demand) => json!({ "by": demand.as_str() }),
        Err(error) => json!({ "by": "unknown", "error": format!("its TLSA records: {error}") }),
    }
}

/// `trace`: the way to an address, step by step.
pub(super) async fn trace(control: &Control, request: TraceRequest, out: &Out) -> Outcome {
    let address = &request.address;
    let to = Address::parse(address).map_err(|error| format!("`{address}`: {error}"))?;
    let from = match request.from.as_deref() {
        None | Some("<>" | "") => ReversePath::Null,
        Some(text) => {
            ReversePath::Address(Address::parse(text).map_err(|error| format!("`{text}`: {error}"))?)
        }
    };
    let domain = to.domain();
    let known = know(control, domain).await?;
    let stops = what_stops(control, (domain, &known), None);
    let way = match known.way {
        Ok(way) => way,
        Err(error) => {
            return Ok(json!({
                "address": address, "domain": domain.as_str(), "no_way": error.to_string(),
                "is_permanent": error.is_permanent(), "stops": stops,
            }));
        }
    };
    let mut accepted = false;
    for (number, (host, at)) in in_order(&way).into_iter().enumerate() {
        let is_probed = request.probe && number < PROBED_MAX && !accepted;
        let demand = outbound::demand_of(&control.deps, &way, host, at).await;
        let probe = match &demand {
            Ok(demand) if is_probed => {
                let message = Pretended { from: &from, to: &to };
                Some(outbound::probe(&control.deps, (host, at), demand, message).await)
            }
            _ => None,
        };
        accepted |= probe.as_ref().is_some_and(|probe| probe.is_accepted);
        out.row(&json!({
            "host": host.name, "preference": host.preference, "address": at.to_string(),
            "demand": demanded(&demand), "probe": probe,
        }))
        .await?;
        out.flush().await?;
    }
    Ok(json!({
        "address": address,
        "domain": domain.as_str(),
        "route": if way.is_fixed { "configured" } else { "mx" },
        "site": way.site.as_str(),
        "provider": way.provider,
        "tls": way.stance.to_string(),
        "mta_sts": way.sts.to_string(),
        "stops": stops,
        "accepted": request.probe.then_some(accepted),
    }))
}
