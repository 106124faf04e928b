//! `stats`: what is in the queue and what went through, in numbers.

use std::collections::BTreeMap;

use serde_json::json;

use super::domains::{largest, orders};
use super::server::{Control, Out, Outcome};
use super::wire::StatsRequest;
use super::{iso, store_error};
use crate::app::gauges;
use crate::observe::names;
use crate::queue;

/// Domains and clients told where nothing is said.
const TOLD: u64 = 10;

/// Sends a row for each of the clients and domains with the most mail, then the sums.
pub(super) async fn stats(control: &Control, request: StatsRequest, out: &Out) -> Outcome {
    let limit = usize::try_from(request.limit.unwrap_or(TOLD)).unwrap_or(usize::MAX);
    let deps = &control.deps;
    let read = deps.store.read(|reader| Ok((queue::count(reader)?, queue::clients(reader)?))).await;
    let (messages, queued) = read.map_err(store_error)?;
    let census = gauges::census(&deps.store, &deps.clock).await.map_err(store_error)?;
    let (domains, _) = largest(control, request.limit.unwrap_or(TOLD)).await?;
    let text = control.metrics.render();
    let metrics = Exposed(&text);
    let accepted = metrics.by(names::ACCEPTED, "client");
    let mut clients: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for (client, messages) in accepted {
        clients.entry(client).or_default().0 = messages as u64;
    }
    for (client, messages) in queued {
        clients.entry(client.to_string()).or_default().1 = messages;
    }
    let mut clients: Vec<_> = clients.into_iter().collect();
    clients.sort_by_key(|(_, (accepted, queued))| std::cmp::Reverse((*accepted, *queued)));
    for (client, (accepted, queued)) in clients.into_iter().take(limit) {
        out.row(&json!({ "client": client, "accepted": accepted, "queued": queued })).await?;
    }
    for (domain, messages) in domains {
        out.row(&json!({ "domain": domain.as_str(), "queued": messages })).await?;
    }
    let count = |name| metrics.sum(name) as u64;
    Ok(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "started": iso(deps.started),
        "queued": messages,
        "held": census.held,
        "leased": deps.leases.count(),
        "since_start": {
            "accepted_messages": count(names::ACCEPTED),
            "accepted_bytes": count(names::ACCEPTED_BYTES),
            "refused": count(names::REFUSED),
            "attempts": count(names::ATTEMPTS),
            "delivered_recipients": count(names::DELIVERED),
            "deferred_recipients": count(names::DEFERRED),
            "bounced_recipients": count(names::BOUNCED),
        },
        "connections_in": count(names::CONNECTIONS_OPEN),
        "connections_out": count(names::REMOTE_CONNECTIONS_OPEN),
        "domains_active": count(names::DOMAINS_ACTIVE),
        "paths_active": count(names::PATHS_ACTIVE),
        "orders": orders(control, |_| true),
        "destinations_down": census.sites_down + census.names_down,
        "log_bytes": count(names::STORE_LOG_BYTES),
        "disk_free_bytes": count(names::DISK_FREE_BYTES),
        "store_ailment": deps.store.ailment(),
    }))
}

/// Metrics in the text format of Prometheus: what a scrape would say now.
struct Exposed<'a>(&'a str);

impl Exposed<'_> {
    fn samples<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (&'a str, f64)> {
        self.0.lines().filter_map(move |line| {
            let rest = line.strip_prefix(name)?;
            let (labels, value) = match rest.strip_prefix('{') {
                Some(rest) => rest.rsplit_once("} ")?,
                None => ("", rest.strip_prefix(' ')?),
            };
            Some((labels, value.trim().parse().ok()?))
        })
    }

    fn sum(&self, name: &str) -> f64 {
        self.samples(name).map(|(_, value)| value).sum()
    }

    /// The values by one label.
    fn by(&self, name: &str, label: &str) -> BTreeMap<String, f64> {
        let mut values = BTreeMap::new();
        for (labels, value) in self.samples(name) {
            let of = labels.split(',').find_map(|pair| {
                let (key, value) = pair.split_once('=')?;
                (key == label).then(|| value.trim_matches('"').to_owned())
            });
            *values.entry(of.unwrap_or_default()).or_default() += value;
        }
        values
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_read_as_prometheus_reads_them() {
        let text = "# TYPE a counter\na{client=\"x\",class=\"bulk\"} 3\na{client=\"y\"} 4.5\nab 9\nb 2\n";
        let metrics = Exposed(text);
        assert_eq!((metrics.sum("a"), metrics.sum("b"), metrics.sum("c")), (7.5, 2.0, 0.0));
        assert_eq!(
            metrics.by("a", "client").into_iter().collect::<Vec<_>>(),
            [("x".to_owned(), 3.0), ("y".to_owned(), 4.5)]
        );
    }
}
