//! What a domain does outside its actor: each step is a task that ends in telling the actor.

use std::sync::Arc;
use std::time::Duration;

use super::block::{Block, Blocker};
use crate::clock::Timestamp;
use crate::egress::{Closure, Receiver};
use crate::mail::{Domain, Verdict};
use crate::net::RouteError;
use crate::outbound::conclude::{circumstances, conclude, hold_damaged, tell_delay, unreached};
use crate::outbound::lane::{Credit, Work};
use crate::outbound::path::{PathHandle, Pushed};
use crate::outbound::recent::Remark;
use crate::outbound::rest;
use crate::outbound::route::Route;
use crate::outbound::settle::Tried;
use crate::outbound::sluice::Sluice;
use crate::outbound::{Deps, doubt, standing};
use crate::queue::{self, Destination, Page, PageRequest, Queued, Rest, SweepPlace, Turns};
use crate::store::{Batch, Haste, StoreError};
use crate::transport::{Avoided, Sts};
use crate::work::Permit;

/// Copies that a domain's own limit lets go at once.
const ADMITTED_AT_ONCE: usize = 64;
/// How long a domain waits for its turn before it looks whether there is anything else to do.
const ADMISSION_PATIENCE: Duration = Duration::from_secs(60);
/// One sweep in so many is thorough: a long line takes seconds to read.
const THOROUGH_ONE_IN: u8 = 6;
/// Copies looked at in one piece of a sweep.
const SWEEP_COPIES: usize = 200;

/// Waits until the domain's own limit lets copies go: one for each slot of its pace, at once as many as
/// are free.
pub(super) async fn admit(sluice: &Sluice) -> Vec<Permit> {
    let Some(first) = sluice.enter().await else { return Vec::new() };
    if !sluice.pace.slot(ADMISSION_PATIENCE).await {
        return Vec::new();
    }
    let mut admitted = vec![first];
    while admitted.len() < ADMITTED_AT_ONCE {
        // a place without a slot is given back
        let Some(place) = sluice.try_enter() else { break };
        if !sluice.pace.slot(Duration::ZERO).await {
            break;
        }
        admitted.push(place);
    }
    admitted
}

/// Reads a page and hands it to the path, a credit with each copy.
pub(super) async fn page(
    deps: &Deps,
    request: PageRequest,
    credits: Vec<Credit>,
    path: &PathHandle,
) -> Result<(Turns, bool, Option<Timestamp>), StoreError> {
    let leases = deps.leases.clone();
    let mut page = deps.store.read(move |reader| request.read(reader, &leases)).await?;
    set_aside(deps, &mut page).await?;
    let works =
        page.leased.into_iter().zip(credits).map(|(leased, credit)| Work { leased, credit, comebacks: 0 });
    let works: Vec<Work> = works.collect();
    if !works.is_empty() {
        path.do_send(Pushed(works));
    }
    Ok((page.turns, page.is_end, page.next_due))
}

/// Takes out of the line what does not read.
async fn set_aside(deps: &Deps, page: &mut Page) -> Result<(), StoreError> {
    for (leased, error) in std::mem::take(&mut page.damaged) {
        hold_damaged(deps, leased, &error).await;
    }
    for (key, error) in std::mem::take(&mut page.unreadable) {
        tracing::error!(event = "held", reason = "unreadable", error = %error);
        let mut batch = Batch::new();
        queue::set_aside(&mut batch, &key);
        deps.store.submit(batch, Haste::Soon, Box::new(|_| {})).await?;
    }
    Ok(())
}

/// Settles what is due and past its time, as nothing can be sent, and tells senders that it takes long;
/// settles everything where the domain takes no mail at all.
pub(super) async fn sweep(
    deps: &Arc<Deps>,
    (domain, route): (&Domain, Option<&Route>),
    everything: Option<RouteError>,
) -> Result<(), StoreError> {
    let mut place = SweepPlace::new(fastrand::u8(..THOROUGH_ONE_IN) == 0);
    loop {
        let (of, shared, all) = (domain.clone(), deps.clone(), everything.is_some());
        let read = deps.store.read(move |reader| {
            let settings = shared.settings.now();
            let given = circumstances(&shared, &settings);
            let is_wanted =
                |queued: &Queued| all || given.is_expired(queued) || given.is_delay_notice_due(queued);
            let wanted = (SWEEP_COPIES, &is_wanted as &dyn Fn(&Queued) -> bool);
            let orders = shared.orders.now();
            let of = (&of, given.now, &*orders);
            let piece = queue::sweep_piece(reader, &shared.leases, of, &mut place, wanted)?;
            Ok((piece, place))
        });
        let (piece, gone_on) = read.await?;
        place = gone_on;
        let Some(piece) = piece else { return Ok(()) };
        for leased in piece.leased {
            let arrived = leased.queued.envelope.arrived;
            // of the site, not of some other copy, and while this one waited
            let is_its = |remark: &Remark| remark.id.is_none() && remark.at >= arrived;
            let of_site = |route: &Route| deps.recent.of(route.site.as_str()).into_iter().find(is_its);
            let closed = route.and_then(|route| deps.standing.closed(deps.clock.now(), &route.receiver));
            let reply = match (&everything, closed) {
                (None, Some(closed)) => {
                    unreached(451, (4, 7, 0), format!("put off for too long: {}", closed.why))
                }
                _ => no_way(everything.as_ref(), route.and_then(of_site).as_ref()),
            };
            let verdicts = vec![reply; leased.queued.envelope.recipients.len()];
            let content = leased.body.clone();
            let tried = Tried { verdicts: &verdicts, remote: None, content: content.as_deref() };
            let settings = deps.settings.now();
            if everything.is_none() && !circumstances(deps, &settings).is_expired(&leased.queued) {
                tell_delay(deps, leased, tried).await;
                continue;
            }
            conclude(deps, leased, tried).await;
        }
    }
}

/// Holds what is due, as its receiver blocks all of it: not one of them is tried for that.
pub(super) async fn park(deps: &Deps, domain: &Domain, receiver: &Receiver) -> Result<(), StoreError> {
    let reason = standing::reason(receiver);
    let (mut place, mut parked) = (SweepPlace::new(true), 0);
    loop {
        let (of, leases, orders, now) =
            (domain.clone(), deps.leases.clone(), deps.orders.now(), deps.clock.now());
        let read = deps.store.read(move |reader| {
            let all: (usize, &dyn Fn(&Queued) -> bool) = (SWEEP_COPIES, &|_| true);
            let piece = queue::sweep_piece(reader, &leases, (&of, now, &*orders), &mut place, all)?;
            Ok((piece, place))
        });
        let (piece, gone_on) = read.await?;
        place = gone_on;
        let Some(mut piece) = piece else { break };
        set_aside(deps, &mut piece).await?;
        if piece.leased.is_empty() {
            continue;
        }
        let mut batch = Batch::new();
        piece.leased.iter().for_each(|leased| queue::hold(&mut batch, &leased.queued, &reason, now));
        deps.store.commit_with(batch, Haste::Soon).await?;
        for leased in &piece.leased {
            tracing::info!(event = "held", reason, id = %leased.queued.envelope.id);
        }
        parked += piece.leased.len();
    }
    if parked > 0 {
        tracing::info!(event = "parked", domain = %domain, reason, messages = parked);
    }
    Ok(())
}

/// Why nothing could be sent. What its hosts said or lacked last is the better part of that: a policy that they do not
/// keep is another matter than a line that is down.
fn no_way(error: Option<&RouteError>, last: Option<&Remark>) -> Verdict {
    match error {
        Some(error @ RouteError::NullMx) => unreached(556, (5, 1, 10), error.to_string()),
        Some(error @ RouteError::LoopsBack) => unreached(554, (5, 4, 6), error.to_string()),
        Some(error) => unreached(550, (5, 1, 2), error.to_string()),
        None => {
            let (code, told) = last.map_or(((4, 4, 1), String::new()), |last| {
                let passing = last.reply.enhanced.filter(|enhanced| enhanced.class == 4);
                let code = passing.map_or((4, 4, 1), |it| (it.class, it.subject, it.detail));
                (code, format!("; the last, {}: {}", last.host, last.reply.text))
            });
            unreached(451, code, format!("the domain's mail hosts could not be used for too long{told}"))
        }
    }
}

/// Finds the way; where there is none, how often in a row there was none before.
pub(super) async fn resolve(deps: &Deps, domain: &Domain) -> Result<Route, (RouteError, u32)> {
    // never closed: there is always a place in the end
    let _place = deps.places.look_ups.acquire().await;
    match doubt::resolve(deps, domain).await {
        Ok(route) => Ok(route),
        Err(error) => {
            if error == RouteError::NoneListed {
                count_none_listed(deps, domain).await;
            }
            let known = rest::recall(deps, &Destination::domain(domain)).await;
            Err((error, known.map_or(0, |rest| rest.failures)))
        }
    }
}

/// Mail finds none of the domain's hosts in its policy: that is told like a session that failed. Where none is due,
/// nobody failed.
async fn count_none_listed(deps: &Deps, domain: &Domain) {
    let Some(known) = deps.transport.policies().good(domain) else { return };
    let (of, orders, now) = (domain.clone(), deps.orders.now(), deps.clock.now());
    let due = deps.store.read(move |reader| queue::earliest_due(reader, &of, (&orders, now))).await;
    if due.is_ok_and(|due| due.is_some_and(|due| due <= now)) {
        let (tally, sts) = (deps.transport.tally(), Sts::Known(known));
        tally.avoid(deps.clock.shown(), domain, &sts, "", Avoided::NoneListed);
    }
}

/// Lets the domain's alarm ring when the first of its rows is due, even one that is being tried now;
/// where the domain is blocked, not before that ends.
pub(super) async fn move_alarm(
    deps: &Deps,
    domain: &Domain,
    block: Option<Block>,
    route: Option<&Route>,
) -> Result<(), StoreError> {
    let (of, orders, now) = (domain.clone(), deps.orders.now(), deps.clock.now());
    let stopping = orders.stopping(domain, now).cloned();
    let (seen, earliest) = deps
        .store
        .read(move |reader| {
            let seen = reader.seq();
            Ok((seen, queue::earliest_due(reader, &of, (&orders, now))?))
        })
        .await?;
    let (mut batch, name) = (Batch::new(), Destination::domain(domain));
    let mut to = earliest;
    let under = match block {
        // nobody waits: nothing is to be remembered
        _ if earliest.is_none() => {
            name.open(&mut batch);
            None
        }
        Some(Block { until, by: Blocker::Name { failures } }) => {
            name.shut(&mut batch, &Rest { until, since: deps.clock.now(), failures });
            Some(name.curfew(until))
        }
        Some(Block { until, by: Blocker::Path }) => route.map(|route| route.destination().curfew(until)),
        Some(Block { until, by: Blocker::Receiver }) => {
            route.map(|route| standing::destination(&route.receiver, Closure::Pause).curfew(until))
        }
        // it ends when the order is lifted, also where that is at a time that was named
        Some(Block { by: Blocker::Order, .. }) => {
            stopping.map(|order| order.destination().curfew(Timestamp::MAX))
        }
        Some(Block { until, by: Blocker::Crowd | Blocker::Fault }) => {
            to = earliest.map(|due| due.max(until));
            None
        }
        None => {
            name.open(&mut batch);
            None
        }
    };
    queue::move_alarm(&mut batch, domain, seen, to, under);
    deps.store.submit(batch, Haste::Soon, Box::new(|_| {})).await
}
