//! What operators ask of destinations: how their mail goes, what stops it, and to stop it.

use std::time::Duration;

use serde_json::{Value, json};

use super::server::{Control, Out, Outcome};
use super::wire::DomainRequest;
use super::{iso, store_error};
use crate::clock::Timestamp;
use crate::egress::{Closed, Closure, Receiver};
use crate::mail::{ClientName, Domain};
use crate::net::RouteError;
use crate::outbound::{self, Lift, Look, Looked, Operate, Remark, Way};
use crate::queue::{self, Destination, Kind, Largest, Order, Rest, Target};

/// Domains listed where nothing is said.
const LISTED: u64 = 100;
/// Domains listed at most.
const LISTED_MAX: u64 = 100_000;

fn domain(text: Option<&String>) -> Result<Domain, String> {
    let text = text.ok_or("name a domain")?;
    Domain::parse(text).map_err(|error| format!("`{text}`: {error}"))
}

/// `domain ls`: those with the most mail.
pub(super) async fn list(control: &Control, request: DomainRequest, out: &Out) -> Outcome {
    let (domains, all) = largest(control, request.limit.unwrap_or(LISTED)).await?;
    for (domain, messages) in &domains {
        let now = control.deps.clock.now();
        let (of, orders) = (domain.clone(), control.deps.orders.now());
        let due =
            control.deps.store.read(move |reader| queue::earliest_due(reader, &of, (&orders, now))).await;
        let stopped = control.deps.orders.now().stopping(domain, now).map(kind_of);
        let due = due.map_err(store_error)?.and_then(iso);
        out.row(
            &json!({ "domain": domain.as_str(), "messages": messages, "next_due": due, "stopped": stopped }),
        )
        .await?;
    }
    Ok(json!({ "listed": domains.len(), "domains": all }))
}

/// The domains with the most mail, and how many there are.
pub(super) async fn largest(control: &Control, limit: u64) -> Result<(Vec<(Domain, u64)>, u64), String> {
    let mut largest = Largest::new(usize::try_from(limit.min(LISTED_MAX)).unwrap_or_default());
    let mut goes_on = true;
    while goes_on {
        let read = control.deps.store.read(move |reader| {
            let goes_on = largest.piece(reader)?;
            Ok((largest, goes_on))
        });
        (largest, goes_on) = read.await.map_err(store_error)?;
    }
    Ok(largest.finish())
}

/// What operators ordered to be stopped, as far as it is meant.
pub(super) fn orders(control: &Control, is_meant: impl Fn(&Target) -> bool) -> Vec<Value> {
    let now = control.deps.clock.now();
    let set = control.deps.orders.now();
    let stops = set.iter().filter(|order| {
        now < order.until && matches!(order.kind, Kind::Suspend | Kind::Hold) && is_meant(&order.target)
    });
    let told = |order: &Order| {
        let (domain, client) = match &order.target {
            Target::Everything => (None, None),
            Target::Domain(domain) => (Some(domain.as_str()), None),
            Target::Client(client) => (None, Some(client.as_str())),
        };
        let until = (order.until != Timestamp::MAX).then(|| iso(order.until)).flatten();
        json!({
            "order": kind_of(order), "of": name(&order.target), "domain": domain, "client": client,
            "since": iso(order.since), "until": until,
        })
    };
    stops.map(told).collect()
}

fn kind_of(order: &Order) -> &'static str {
    match order.kind {
        Kind::Suspend => "suspended",
        Kind::Hold => "held",
        Kind::Flush => "flushed",
        Kind::Spare => "spared",
    }
}

fn told_remark(remark: &Remark) -> Value {
    json!({
        "at": iso(remark.at),
        "id": remark.id.map(|id| id.to_string()),
        "host": remark.host,
        "reply": remark.reply.to_string(),
    })
}

fn told_rest(rest: &Rest) -> Value {
    json!({ "next_probe": iso(rest.until), "since": iso(rest.since), "failures": rest.failures })
}

fn told_closed(closed: &Closed) -> Value {
    let Closed { closure, since, until, times, why } = closed;
    json!({
        "how": closure.as_str(), "since": iso(*since), "until": iso(*until), "times": times, "why": why,
    })
}

/// Opens the ways to receivers of this name, or to those that mail is held for, which a reason names; who they were.
pub(super) async fn open(control: &Control, name: &str) -> Result<Vec<String>, String> {
    let all = control.deps.standing.all_closed(control.deps.clock.now());
    let mut opened = Vec::new();
    for (receiver, _) in all.into_iter().filter(|(receiver, _)| receiver.name() == name) {
        let closed = outbound::open_receiver(&control.deps, &receiver).await.map_err(store_error)?;
        opened.extend(closed.map(|closed| format!("{receiver} ({})", closed.closure.as_str())));
    }
    Ok(opened)
}

/// What is known of one domain.
pub(super) struct Known {
    pub(super) way: Result<Way, RouteError>,
    looked: Looked,
    /// Rests of its name and of its site.
    rests: Vec<(&'static str, Rest)>,
    messages: u64,
}

/// Looks at a domain: its way, what its actors are about, its rests.
pub(super) async fn know(control: &Control, domain: &Domain) -> Result<Known, String> {
    let deps = &control.deps;
    let way = outbound::find_way(deps, domain).await;
    let site = way.as_ref().ok().map(|way| way.site.clone());
    let look = Look { domain: domain.clone(), site: site.clone() };
    let looked = control.manager.send(look).await.map_err(|_| "nobody sends any more".to_owned())?;
    let of = domain.clone();
    let read = deps.store.read(move |reader| {
        let mut rests = Vec::new();
        let places = [
            ("name", Some(Destination::domain(&of))),
            ("site", site.map(|site| Destination::site(site.as_str()))),
        ];
        for (what, place) in places {
            let rest = place.map_or(Ok(None), |place| place.rest(reader))?;
            rests.extend(rest.map(|rest| (what, rest)));
        }
        Ok((rests, queue::count_of_domain(reader, &of)?))
    });
    let (rests, messages) = read.await.map_err(store_error)?;
    Ok(Known { way, looked, rests, messages })
}

/// Reasons for which mail of a domain, and of a client where one is named, does not go now, in words.
pub(super) fn what_stops(
    control: &Control,
    (domain, known): (&Domain, &Known),
    client: Option<&ClientName>,
) -> Vec<String> {
    let now = control.deps.clock.now();
    let is_meant = |target: &Target| match target {
        Target::Everything => true,
        Target::Domain(meant) => meant == domain,
        Target::Client(meant) => client == Some(meant),
    };
    let text = |order: &Value, key: &str| order[key].as_str().map(str::to_owned);
    let mut why: Vec<String> = orders(control, is_meant)
        .iter()
        .map(|order| {
            let until = text(order, "until").map_or(String::new(), |until| format!(" until {until}"));
            let (of, what) = (text(order, "of"), text(order, "order"));
            format!("an operator's order: {} is {}{until}", of.unwrap_or_default(), what.unwrap_or_default())
        })
        .collect();
    if let Err(error) = &known.way {
        why.push(format!("no way to {domain}: {error}"));
    }
    why.extend(known.rests.iter().filter(|(_, rest)| now < rest.until).map(|(what, rest)| {
        let next = iso(rest.until).unwrap_or_default();
        format!("the {what} failed {} times in a row; next probe at {next}", rest.failures)
    }));
    if let Some((receiver, closed)) = closed(control, known) {
        let (what, until) = (closed.closure, iso(closed.until).unwrap_or_default());
        why.push(match what {
            Closure::Pause => format!("{receiver} wants nothing before {until}: {}", closed.why),
            Closure::Block => {
                format!("{receiver} blocks our mail, tried again after {until}: {}", closed.why)
            }
        });
    }
    if let Some((_, reason)) = known.looked.domain.as_ref().and_then(|look| look.blocked) {
        why.push(reason.to_owned());
    }
    why.extend(known.looked.path.as_ref().and_then(|path| path.limit(true)));
    why
}

/// What keeps a domain's mail away from its receiver.
fn closed(control: &Control, known: &Known) -> Option<(Receiver, Closed)> {
    let of = &known.way.as_ref().ok()?.receiver;
    let all = control.deps.standing.all_closed(control.deps.clock.now());
    all.into_iter().find(|(receiver, _)| receiver == of)
}

/// `domain show`.
pub(super) async fn show(control: &Control, request: DomainRequest) -> Outcome {
    let domain = domain(request.domain.as_ref())?;
    let known = know(control, &domain).await?;
    let (now, orders) = (control.deps.clock.now(), control.deps.orders.now());
    let given = self::orders(control, |target| match target {
        Target::Everything => true,
        Target::Domain(meant) => *meant == domain,
        Target::Client(_) => false,
    });
    let of = domain.clone();
    let due = control.deps.store.read(move |reader| queue::earliest_due(reader, &of, (&orders, now))).await;
    let site = known.way.as_ref().ok().map(|way| way.site.as_str().to_owned());
    let recent = &control.deps.recent;
    let at_site = site.as_deref().map_or(Vec::new(), |site| recent.of(site));
    let remarks: Vec<Value> = recent.of(domain.as_str()).iter().chain(&at_site).map(told_remark).collect();
    let look = known.looked.domain.as_ref();
    let path = known.looked.path.as_ref();
    let rests: serde_json::Map<String, Value> =
        known.rests.iter().map(|(what, rest)| ((*what).to_owned(), told_rest(rest))).collect();
    Ok(json!({
        "domain": domain.as_str(),
        "messages": known.messages,
        "next_due": due.map_err(store_error)?.and_then(iso),
        "doing": look.map_or("nothing is due", |look| look.doing),
        "blocked": look.and_then(|look| look.blocked).map(|(until, why)| {
            json!({ "until": iso(until), "why": why })
        }),
        "receiver": known.way.as_ref().ok().map(|way| way.receiver.to_string()),
        "closed": closed(control, &known).map(|(_, closed)| told_closed(&closed)),
        "orders": given,
        "rests": rests,
        "site": site,
        "no_way": known.way.as_ref().err().map(ToString::to_string),
        "provider": known.way.as_ref().ok().and_then(|way| way.provider.clone()),
        "limit": path.and_then(|path| path.limit(known.messages > 0)),
        "path": path,
        "last_replies": remarks,
    }))
}

/// Gives an order; tells it in words.
pub(super) async fn order(
    control: &Control,
    kind: Kind,
    target: Target,
    until: Option<Timestamp>,
    dry_run: bool,
) -> Result<String, String> {
    let is = if dry_run { "would be" } else { "is" };
    let what = match kind {
        Kind::Suspend => "suspended",
        Kind::Hold => "held, and what arrives too",
        Kind::Flush => "tried at once",
        Kind::Spare => "spared",
    };
    let told = format!("{} {is} {what}", name(&target));
    if !dry_run {
        let given = Operate(Order::new(kind, target, control.deps.clock.now(), until));
        let given = control.manager.send(given).await.map_err(|_| "nobody sends any more".to_owned())?;
        given.map_err(|error| error.to_string())?;
    }
    Ok(told)
}

/// Lifts an order; tells it in words, or nothing where there was none.
pub(super) async fn lift(
    control: &Control,
    kind: Kind,
    target: Target,
    dry_run: bool,
) -> Result<Option<String>, String> {
    let told = format!("{} {} let go", name(&target), if dry_run { "would be" } else { "is" });
    let there_is = || {
        let orders = control.deps.orders.now();
        orders.iter().any(|order| order.kind == kind && order.target == target)
    };
    let lifted = if dry_run {
        there_is()
    } else {
        let lift = Lift { kind, target };
        let lifted = control.manager.send(lift).await.map_err(|_| "nobody sends any more".to_owned())?;
        lifted.map_err(|error| error.to_string())?
    };
    Ok(lifted.then_some(told))
}

fn name(target: &Target) -> String {
    match target {
        Target::Everything => "all mail".into(),
        Target::Domain(domain) => format!("all mail for {domain}"),
        Target::Client(client) => format!("all mail of client {client}"),
    }
}

/// `domain suspend`.
pub(super) async fn suspend(control: &Control, request: DomainRequest) -> Outcome {
    let domain = domain(request.domain.as_ref())?;
    let until = request.for_seconds.map(|time| control.deps.clock.now().after(Duration::from_secs(time)));
    let told = order(control, Kind::Suspend, Target::Domain(domain), until, false).await?;
    Ok(json!({ "order": told, "until": until.and_then(iso) }))
}

/// `domain resume`: whatever stopped it, and what waits is tried at once. That its receiver keeps us away is forgotten.
pub(super) async fn resume(control: &Control, request: DomainRequest) -> Outcome {
    let domain = domain(request.domain.as_ref())?;
    let opened = match outbound::find_way(&control.deps, &domain).await {
        Ok(way) => open(control, way.receiver.name()).await?,
        Err(_) => Vec::new(),
    };
    let target = Target::Domain(domain);
    let mut lifted = false;
    for kind in [Kind::Suspend, Kind::Hold] {
        lifted |= lift(control, kind, target.clone(), false).await?.is_some();
    }
    let still = orders(control, |other| *other == Target::Everything);
    let told = order(control, Kind::Flush, target, None, false).await?;
    Ok(json!({
        "order": told, "was_stopped": lifted, "opened": opened, "still_stopped_by": still,
    }))
}
