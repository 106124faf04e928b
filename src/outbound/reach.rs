//! How a session comes by its connection: one that is kept, or a new one.

use super::Deps;
use super::conclude::conclude;
#[cfg(test)]
use super::conclude::unreached;
use super::connection::{Connection, Terms, Unreachable};
#[cfg(test)]
use super::faults;
use super::hosts::Place;
use super::lane::Lane;
use super::recent::Remark;
use super::route::Route;
use super::session::Parting;
use super::settle::Tried;
use super::standing;
use crate::mail::{Domain, Reply, TlsWish, Verdict};
use crate::work::Permit;

/// A place in the line of those that wait until the provider lets a message go.
pub(super) type Turn = Option<Permit>;

/// A connection that is kept, or else a new one; and the turn of its first message.
pub(super) async fn find_connection(
    deps: &Deps,
    route: &Route,
    lane: &Lane,
) -> Result<(Connection, Place, Turn), Parting> {
    // none is opened for what may not go
    if deps.standing.closed(deps.clock.now(), &route.receiver).is_some() {
        return Err(Parting::Unneeded);
    }
    let turn = match &route.provider {
        Some(provider) => provider.line_up().await,
        None => None,
    };
    let order = deps.hosts.in_order(deps.clock.now(), &route.hosts);
    let first = lane.first();
    while let Some((mut connection, place)) = deps.hosts.take(&order, terms_of(route, first.as_ref())) {
        if !connection.is_stale() {
            deps.meters.connection_reused();
            return Ok((connection, place, turn));
        }
    }
    let place = Place::take(deps, route.provider.as_ref()).await.ok_or(Parting::Unneeded)?;
    // the wait may have been long
    if lane.balance().0 == 0 {
        return Err(Parting::Unneeded);
    }
    // another copy may be first by now
    let first = lane.first();
    match Connection::open(deps, &order, terms_of(route, first.as_ref())).await {
        Ok(connection) => {
            deps.meters.connection_opened();
            Ok((connection, place, turn))
        }
        Err(unreachable) => {
            deps.meters.connection_failed();
            let Unreachable { host, reply, serves_others, refusals } = unreachable.clone();
            standing::heed_refusals(deps, &route.receiver, &refusals).await;
            let remark = Remark { at: deps.clock.now(), id: None, host, reply };
            deps.recent.note(route.site.as_str(), remark);
            tracing::info!(
                event = "unreachable",
                site = %route.site,
                host = %unreachable.host,
                reply = %unreachable.reply,
            );
            #[cfg(test)]
            plant_verdict(deps, lane).await;
            if let (true, Some(first)) = (serves_others, &first) {
                put_off(deps, lane, first, unreachable.reply).await;
                return Err(Parting::Unneeded);
            }
            Err(Parting::Unreachable)
        }
    }
}

/// Puts off the copy that no host is good enough for: that is no matter of the path, which may serve others well.
async fn put_off(deps: &Deps, lane: &Lane, (domain, wish): &(Domain, TlsWish), reply: Reply) {
    let Some(work) = lane.pop() else { return };
    let queued = &work.leased.queued;
    // another copy may be first by now
    if queued.domain() != Some(domain) || queued.envelope.tls != *wish {
        return lane.push_front(work);
    }
    let verdicts = vec![Verdict::ours(reply); queued.envelope.recipients.len()];
    drop(work.credit);
    conclude(deps, work.leased, Tried { verdicts: &verdicts, remote: None, content: None }).await;
}

/// What a connection is opened under, for the copy that goes first.
fn terms_of<'a>(route: &'a Route, first: Option<&'a (Domain, TlsWish)>) -> Terms<'a> {
    let (domain, wish) = first.map_or((None, TlsWish::Usual), |(domain, wish)| (Some(domain), *wish));
    Terms { stance: &route.stance, sts: &route.sts, domain, wish }
}

/// Planted defects: an outage counts as an attempt, or even as a verdict.
#[cfg(test)]
async fn plant_verdict(deps: &Deps, lane: &Lane) {
    let (charges, bounces) =
        (faults::has(faults::Defect::ChargesWaiting), faults::has(faults::Defect::BouncesOnOutage));
    if (charges || bounces)
        && let Some(work) = lane.pop()
    {
        let reply = unreached(if bounces { 550 } else { 451 }, (4, 4, 1), "planted".into());
        let verdicts = vec![reply; work.leased.queued.envelope.recipients.len()];
        let tried = Tried { verdicts: &verdicts, remote: None, content: None };
        conclude(deps, work.leased, tried).await;
    }
}
