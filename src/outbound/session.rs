//! A session task: opens a connection, takes copies off its lane, sends and settles them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::Deps;
use super::conclude::{Advice, circumstances, conclude, hold_damaged};
use super::connection::{Age, Connection, Terms, Transacted};
use super::hosts::Place;
use super::insecurity::insecurity;
use super::lane::{Lane, Work};
use super::meters::Attempts;
use super::pace::Pace;
use super::reach::{Turn, find_connection};
use super::route::Route;
use super::settle::{Remote, Tried};
use crate::dsn;
use crate::egress::Receiver;
use crate::mail::{Envelope, Recipient, Return, Severity, TlsWish, Verdict};
use crate::observe::Raised;
use crate::queue::{self, Leased, Queued};
use crate::smtp::Outgoing;
use crate::store::{BodyReader, StoreError};

/// A session without work waits for so long, then leaves its connection to others.
const LINGER: Duration = Duration::from_millis(250);

/// A copy that so many connections died before is tried for good with the next.
const COMEBACKS_MAX: u8 = 2;
/// After so many messages it is looked whether others wait for the connection's place.
const TURN: u32 = 100;

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Parting {
    /// There was nothing more to send, or the connection had done its share.
    Peaceful,
    /// What it was to be opened for was gone before.
    Unneeded,
    /// It never opened.
    Unreachable,
    /// The server ended it with 421, after so many messages.
    SentAway {
        /// Those before the one that it did not want.
        messages: u32,
    },
}

/// What the path hears of a session before its end.
#[derive(Clone, Copy, Debug)]
pub(super) enum News {
    /// It is up.
    Opened,
    /// A message was refused because mail comes too fast.
    Throttled,
}

/// Runs a session to its end; `tell` hears what there is to tell before.
pub(super) async fn run(
    deps: Arc<Deps>,
    route: Route,
    lane: Arc<Lane>,
    tell: impl Fn(News) + Send + Sync,
) -> Parting {
    let _under_way = deps.work.begin("remote session");
    let found = tokio::select! {
        // in this order: what is left to chance here, no seed could repeat
        biased;
        // it would be opened for nothing
        () = lane.closed() => Err(Parting::Unneeded),
        found = find_connection(&deps, &route, &lane) => found,
    };
    let (mut connection, place, turn) = match found {
        Ok(found) => found,
        Err(parting) => return parting,
    };
    tell(News::Opened);
    let _counted = lane.enter();
    let provider = route.provider.as_ref().and_then(|sluice| sluice.provider.as_ref());
    let attempts = provider.map_or(&deps.meters.attempts, |provider| provider.attempts());
    let session = Session { deps: &deps, attempts, receiver: &route.receiver, tell: &tell };
    let in_use = Raised::by_one(&deps.meters.open);
    let is_alive = session.send_all(&mut connection, &route, &lane, (&place, turn)).await;
    drop(in_use);
    let messages = connection.transactions().saturating_sub(1);
    let is_dismissed = connection.is_dismissed();
    let is_spent = connection.transactions() >= most(&deps, (&route, &lane), &connection);
    let is_good = is_alive && connection.is_usable() && !is_spent;
    if is_good && !place.is_wanted(&deps) && !lane.is_closed() {
        deps.hosts.keep(deps.clock.now(), connection, place);
    } else {
        // the reply to QUIT may be late; others need not wait for it
        drop(place);
        connection.close().await;
    }
    if is_dismissed { Parting::SentAway { messages } } else { Parting::Peaceful }
}

/// Messages that a connection may bring.
fn most(deps: &Deps, (route, lane): (&Route, &Lane), connection: &Connection) -> u32 {
    let of_provider = route.provider.as_ref().map_or(u32::MAX, |provider| provider.stint());
    let most = deps.settings.now().messages_per_connection_max.min(of_provider);
    most.min(lane.stint()).min(connection.transactions_max())
}

/// What a connection has behind it when a copy is sent over it.
fn age(connection: &Connection, work: &Work, has_rested: bool) -> Age {
    match connection.transactions() {
        // what it is told now it is told as the first; and what came back before, for good
        0 => Age::Fresh,
        _ if work.comebacks >= COMEBACKS_MAX => Age::Fresh,
        _ if has_rested => Age::Rested,
        _ => Age::Busy,
    }
}

/// The next copy, and whether it had to be waited for.
async fn next_work(lane: &Lane) -> Option<(Work, bool)> {
    match lane.pop() {
        Some(work) => Some((work, false)),
        None => lane.next(LINGER).await.map(|work| (work, true)),
    }
}

/// Waits until a copy may go, and gives the one that is first then.
async fn in_time(
    deps: &Deps,
    route: &Route,
    (lane, place): (&Lane, &Place),
    (work, turn): (Work, Turn),
) -> Option<Work> {
    let of_provider = route.provider.as_ref().map(|provider| &provider.pace);
    let is_limited = |pace: &&Pace| pace.is_limited();
    if !lane.pace.is_limited() && !of_provider.as_ref().is_some_and(is_limited) {
        return Some(work);
    }
    // who has to wait for time does not keep a place that others could use
    if lane.pace.wait() > LINGER && place.is_wanted(deps) {
        lane.push_front(work);
        return None;
    }
    let turn = match (&route.provider, turn) {
        (Some(provider), None) => provider.try_line_up().map(Some),
        (_, turn) => Some(turn),
    };
    // others stand in line before their connections are opened: behind them
    let Some(_turn) = turn else {
        lane.push_front(work);
        return None;
    };
    let patience = deps.settings.now().idle_timeout;
    let waiting = lane.wait_for_time();
    let slot = async {
        lane.pace.slot(patience).await
            && match of_provider {
                Some(pace) => pace.slot(patience).await,
                None => true,
            }
    };
    let is_in_time = tokio::select! {
        // in this order: see above
        biased;
        () = lane.closed() => false,
        is_in_time = slot => is_in_time,
    };
    drop(waiting);
    if is_in_time {
        return Some(lane.exchange(work));
    }
    lane.push_front(work);
    None
}

/// What is told of a server.
fn told_of<'a>(connection: &'a Connection, receiver: &'a Receiver) -> Remote<'a> {
    Remote {
        host: connection.host(),
        receiver,
        tells: connection.tells_senders(),
        tls: connection.tls(),
        proof: connection.proof(),
    }
}

/// A copy for some of its recipients.
fn outgoing<'a>(envelope: &'a Envelope, recipients: &'a [Recipient]) -> Outgoing<'a> {
    Outgoing {
        from: &envelope.reverse_path,
        recipients,
        size_octets: envelope.size_octets,
        body: envelope.body,
        has_utf8_header: envelope.has_utf8_header,
        ret: envelope.ret,
        envelope_id: envelope.envelope_id.as_ref(),
        priority: envelope.priority,
        requires_tls: envelope.tls == TlsWish::Required,
    }
}

struct Session<'a> {
    deps: &'a Deps,
    attempts: &'a Attempts,
    receiver: &'a Receiver,
    tell: &'a (dyn Fn(News) + Send + Sync),
}

impl Session<'_> {
    /// Sends what is in the lane, and what comes while it waits for more; whether the connection is still
    /// alive then.
    async fn send_all(
        &self,
        connection: &mut Connection,
        route: &Route,
        lane: &Lane,
        (place, mut turn): (&Place, Turn),
    ) -> bool {
        let mut is_first = true;
        while connection.is_usable() && connection.transactions() < most(self.deps, (route, lane), connection)
        {
            let Some((work, waited)) = next_work(lane).await else { return true };
            let paced_at = Instant::now();
            let first = (work, turn.take());
            let Some(work) = in_time(self.deps, route, (lane, place), first).await else { return true };
            let (queued, Route { stance, sts, .. }) = (&work.leased.queued, route);
            let terms = Terms { stance, sts, domain: queued.domain(), wish: queued.envelope.tls };
            if !connection.may_carry(terms) {
                lane.push_front(work);
                return true;
            }
            if self.is_stopped(&work) {
                // its lease ends, and its domain's alarm is set behind the order
                continue;
            }
            if self.deps.standing.closed(self.deps.clock.now(), self.receiver).is_some() {
                // its lease ends; the path hears of it at its next tick
                return true;
            }
            let was_paced = paced_at.elapsed() >= LINGER;
            let has_rested = std::mem::take(&mut is_first) || waited || was_paced;
            let age = age(connection, &work, has_rested);
            if (age != Age::Fresh || was_paced) && connection.is_stale() {
                lane.push_front(work);
                return false;
            }
            if let Some(provider) = &route.provider {
                provider.sent();
            }
            if let Some(untouched) = self.send(connection, route, work, age).await {
                lane.push_front(untouched);
                return false;
            }
            // others have waited for a connection to this provider while this one had its turn
            if connection.transactions().is_multiple_of(TURN) && place.is_wanted(self.deps) {
                return false;
            }
        }
        true
    }

    /// Whether an operator's order came after it was read.
    fn is_stopped(&self, work: &Work) -> bool {
        let (orders, envelope) = (self.deps.orders.now(), &work.leased.queued.envelope);
        let domain = work.leased.queued.domain();
        domain.is_some_and(|domain| orders.stops(domain, &envelope.client, self.deps.clock.now()))
    }

    /// Settles a copy that must not go over this connection, or any other.
    async fn refuse(&self, remote: Remote<'_>, work: Work, verdict: Verdict) {
        let verdicts = vec![verdict; work.leased.queued.envelope.recipients.len()];
        let body = read_body(self.deps, &work.leased.queued).await.ok();
        let content = match body {
            Some(body) => for_report(body, &work.leased.queued.envelope).await,
            None => None,
        };
        drop(work.credit);
        let tried = Tried { verdicts: &verdicts, remote: Some(remote), content: content.as_deref() };
        conclude(self.deps, work.leased, tried).await;
    }

    /// Sends one copy and settles it. Gives it back where the connection was dead before it.
    async fn send(
        &self,
        connection: &mut Connection,
        route: &Route,
        mut work: Work,
        age: Age,
    ) -> Option<Work> {
        let body = match self.body(&mut work.leased).await {
            Ok(body) => body,
            Err(error) => {
                self.cannot_read(work.leased, &error).await;
                return None;
            }
        };
        if work.leased.queued.envelope.tls == TlsWish::Required
            && let Some(verdict) = insecurity(self.deps, connection.proof(), route, &work.leased.queued).await
        {
            self.refuse(told_of(connection, self.receiver), work, verdict).await;
            return None;
        }
        let envelope = &work.leased.queued.envelope;
        // where the server names a limit, the others are served when these are settled (RFC 9422)
        let some = &envelope.recipients[..envelope.recipients.len().min(connection.recipients_max())];
        let outgoing = outgoing(envelope, some);
        let verdicts = match connection.transact(outgoing, body.clone(), age).await {
            Transacted::Verdicts(verdicts) => {
                self.attempts.judged(&verdicts.recipients);
                verdicts.recipients
            }
            Transacted::Lost(verdict) => {
                self.attempts.lost();
                vec![verdict; some.len()]
            }
            Transacted::Untouched => {
                work.comebacks += 1;
                return Some(work);
            }
            Transacted::Damaged(error) => {
                self.cannot_read(work.leased, &error).await;
                return None;
            }
        };
        // the window is for what waits to be sent: this one is done, though its row is not yet
        drop(work.credit);
        let remote = told_of(connection, self.receiver);
        let content = if self.may_be_reported(&work.leased.queued, &verdicts, remote) {
            for_report(body, envelope).await
        } else {
            None
        };
        let tried = Tried { verdicts: &verdicts, remote: Some(remote), content: content.as_deref() };
        if conclude(self.deps, work.leased, tried).await == Advice::Slower {
            (self.tell)(News::Throttled);
        }
        None
    }

    /// Whether the sender may be told of it, so that the message is wanted once more.
    fn may_be_reported(&self, queued: &Queued, verdicts: &[Verdict], remote: Remote<'_>) -> bool {
        let wants_success = queued.envelope.recipients.iter().any(|to| to.notify.wants_success());
        let is_put_off = verdicts.iter().any(|verdict| verdict.severity() != Severity::Success);
        let is_late = || {
            let settings = self.deps.settings.now();
            let given = circumstances(self.deps, &settings);
            given.is_expired(queued) || given.is_delay_notice_due(queued)
        };
        verdicts.iter().any(Verdict::is_final)
            || (wants_success && !remote.tells)
            || (is_put_off && is_late())
    }

    async fn body(&self, leased: &mut Leased) -> Result<BodyReader, StoreError> {
        if let Some(octets) = leased.body.take() {
            return Ok(BodyReader::Octets(octets));
        }
        read_body(self.deps, &leased.queued).await
    }

    async fn cannot_read(&self, leased: Leased, error: &StoreError) {
        match error {
            StoreError::Damaged(_) => hold_damaged(self.deps, leased, error).await,
            // the store's trouble, not the copy's: its lease ends, and it waits on
            _ => tracing::error!(event = "body_unreadable", id = %leased.queued.envelope.id, error = %error),
        }
    }
}

/// A copy's body, from the store.
pub(super) async fn read_body(deps: &Deps, queued: &Queued) -> Result<BodyReader, StoreError> {
    let queued = queued.clone();
    deps.store.read(move |reader| queue::body(reader, &queued)).await
}

/// As much of a message as its header may take, for a report; or as much as may be given back.
pub(super) async fn for_report(body: BodyReader, envelope: &Envelope) -> Option<Bytes> {
    let is_small = envelope.size_octets <= dsn::GIVEN_BACK_MAX_OCTETS as u64;
    let gives_back = envelope.ret == Some(Return::Full) && is_small;
    let octets = if gives_back { dsn::GIVEN_BACK_MAX_OCTETS } else { dsn::HEADERS_MAX_OCTETS };
    match body {
        BodyReader::Octets(octets) => Some(octets),
        BodyReader::File(mut file) => {
            let read = tokio::task::spawn_blocking(move || file.read(octets));
            // a report without the header is better than none
            read.await.ok()?.ok()
        }
    }
}
