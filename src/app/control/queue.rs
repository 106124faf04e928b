//! What operators ask of single copies and of all of somebody's.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};

use super::domains::{know, lift, open, order, orders, what_stops};
use super::server::{Control, Gone, Out, Outcome, parse};
use super::wire::{QueueRequest, Selection};
use super::{iso, store_error};
use crate::clock::{Clock, Timestamp};
use crate::mail::{ClientName, Domain, MessageId};
use crate::outbound;
use crate::queue::{self, BLOCKED, Filter, Kind, Lease, LeasedPiece, Queued, Target, Walk, WalkOrder};
use crate::store::{Batch, BodyReader, Haste};

/// Rows read at a time: others have the reader in between.
const PIECE_ROWS: usize = 256;
/// Octets of a body sent at a time.
const PIECE_OCTETS: usize = 256 << 10;
/// Envelopes are rewritten together up to about this size.
const BATCH_OCTETS: usize = 4 << 20;
/// Why a copy is held that an operator took out of the line.
const BY_OPERATOR: &str = "operator";
/// What a sender reads where an operator gives no text.
const GIVEN_UP: &str = "given up by the administrator of the relay";

/// What is done with copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// Tried at once.
    Flush,
    /// Taken out of the line.
    Hold,
    /// Put back into it.
    Release,
    /// Removed, and nobody told.
    Remove,
    /// Given up, and the sender told.
    Bounce,
}

/// Reads a selection.
pub(in crate::app) fn filter(select: &Selection, clock: &Clock) -> Result<Filter, String> {
    let id = |text: &String| -> Result<MessageId, String> {
        let id = (text.len() <= 16).then(|| text.parse().ok()).flatten();
        id.ok_or_else(|| format!("`{text}` is no id of a message; `barid queue ls` shows them"))
    };
    let domain = |text: &String| Domain::parse(text).map_err(|error| format!("`{text}`: {error}"));
    let client = |text: &String| {
        ClientName::parse(text).ok_or_else(|| format!("`{text}` is no client's name; see [[client]]"))
    };
    let before = |seconds: u64| {
        let age = Duration::from_secs(seconds).as_millis();
        Timestamp::from_millis(clock.now().as_millis().saturating_sub(u64::try_from(age).unwrap_or(u64::MAX)))
    };
    Ok(Filter {
        ids: select.ids.iter().map(id).collect::<Result<_, _>>()?,
        domain: select.domain.as_ref().map(domain).transpose()?,
        client: select.client.as_ref().map(client).transpose()?,
        from: select.from.clone(),
        to: select.to.clone(),
        arrived_before: select.older_seconds.map(before),
        reason: select.reason.clone(),
    })
}

/// One copy, in words for programs.
fn row(control: &Control, copy: &Queued) -> Value {
    let (deps, envelope) = (&control.deps, &copy.envelope);
    let (now, orders) = (deps.clock.now(), deps.orders.now());
    let is_stopped = copy.domain().is_some_and(|domain| orders.stops(domain, &envelope.client, now));
    let state = match copy.held() {
        Some(_) => "held",
        None if deps.leases.holds(envelope.id) => "sending",
        None if is_stopped => "stopped",
        None => "waiting",
    };
    let last = copy.domain().and_then(|domain| deps.recent.of_copy(domain.as_str(), envelope.id));
    json!({
        "id": envelope.id.to_string(),
        "state": state,
        "reason": copy.held(),
        "client": envelope.client.as_str(),
        "class": envelope.class.as_str(),
        "from": envelope.reverse_path.to_string(),
        "to": recipients(copy),
        "size": envelope.size_octets,
        "arrived": iso(envelope.arrived),
        "due": iso(copy.due),
        "expires": iso(copy.expires),
        "attempts": envelope.attempts,
        "tried": (envelope.attempts > 0).then(|| iso(envelope.tried)),
        "last_reply": last.map(|remark| remark.reply.to_string()),
    })
}

fn recipients(copy: &Queued) -> Vec<String> {
    copy.envelope.recipients.iter().map(|to| to.address.to_string()).collect()
}

async fn begin(control: &Control, filter: Filter, order: WalkOrder) -> Result<Walk, String> {
    let begun = control.deps.store.read(move |reader| Walk::new(reader, filter, order)).await;
    begun.map_err(store_error)
}

async fn look_on(control: &Control, mut walk: Walk) -> Result<(Walk, Vec<Queued>), String> {
    let read = control.deps.store.read(move |reader| {
        let found = walk.piece(reader, PIECE_ROWS)?;
        Ok((walk, found))
    });
    read.await.map_err(store_error)
}

/// `queue ls`.
pub(super) async fn list(control: &Control, request: QueueRequest, out: &Out) -> Outcome {
    let mut walk = begin(control, filter(&request.select, &control.deps.clock)?, WalkOrder::Any).await?;
    let (limit, mut listed) = (request.limit.unwrap_or(u64::MAX), 0);
    while !walk.is_over() {
        let (next, found) = look_on(control, walk).await?;
        walk = next;
        for copy in &found {
            if listed == limit {
                return Ok(json!({ "listed": listed, "more": true }));
            }
            out.row(&row(control, copy)).await?;
            listed += 1;
        }
        out.flush().await?;
    }
    Ok(json!({ "listed": listed, "more": false }))
}

async fn one(control: &Control, request: &QueueRequest) -> Result<Queued, String> {
    let [id] = filter(&request.select, &control.deps.clock)?.ids[..] else {
        return Err("name one id; `barid queue ls` shows them".into());
    };
    let found = control.deps.store.read(move |reader| queue::find(reader, id)).await;
    found.map_err(store_error)?.ok_or_else(|| format!("no message {id} is in the queue (any more)"))
}

/// `queue show`.
pub(super) async fn show(control: &Control, request: QueueRequest) -> Outcome {
    let copy = one(control, &request).await?;
    let (mut shown, id, deps) = (row(control, &copy), copy.envelope.id, &control.deps);
    let Some(domain) = copy.domain() else { return Ok(shown) };
    let last = deps.recent.of_copy(domain.as_str(), id);
    let last = last.or_else(|| deps.recent.of(domain.as_str()).into_iter().next());
    let last = last.map(|remark| {
        json!({
            "at": iso(remark.at),
            "of_this_message": remark.id == Some(id),
            "host": remark.host,
            "reply": remark.reply.to_string(),
        })
    });
    let mut why = Vec::new();
    if copy.held().is_none() && !deps.leases.holds(id) {
        let known = know(control, domain).await?;
        why = what_stops(control, (domain, &known), Some(&copy.envelope.client));
        if copy.due > deps.clock.now() {
            let after = if copy.envelope.attempts > 0 { "its next try after a deferral" } else { "its time" };
            why.push(format!("it waits for {after}"));
        }
    }
    if let Some(object) = shown.as_object_mut() {
        object.insert("waits_for".into(), json!(why));
        object.insert("last_reply".into(), json!(last));
    }
    Ok(shown)
}

/// The message of `queue show --content`, as it will be sent.
pub(super) async fn content(control: &Control, request: &Bytes) -> Result<BodyReader, String> {
    let copy = one(control, &parse(request)?).await?;
    control.deps.store.read(move |reader| queue::body(reader, &copy)).await.map_err(store_error)
}

/// Sends it.
pub(super) async fn send_content(mut body: BodyReader, out: &Out) -> Result<(), String> {
    while let Some(piece) = body.next_piece(PIECE_OCTETS).await.map_err(store_error)? {
        out.octets(&piece).await?;
    }
    Ok(())
}

/// `queue orders`: what operators ordered for whole domains, clients or everything.
pub(super) async fn list_orders(control: &Control, out: &Out) -> Outcome {
    let orders = orders(control, |_| true);
    for order in &orders {
        out.row(order).await?;
    }
    Ok(json!({ "listed": orders.len() }))
}

/// How many copies something was done with.
#[derive(Default)]
struct Tally {
    done: u64,
    /// Those that are being tried now.
    busy: u64,
    /// Those that do not read.
    damaged: u64,
    /// Those with which it makes no sense: held ones that are flushed, and the like.
    passed_over: u64,
}

impl Tally {
    fn tell(&self, dry_run: bool) -> Value {
        let Tally { done, busy, damaged, passed_over } = self;
        json!({
            "messages": done, "busy": busy, "damaged": damaged, "passed_over": passed_over, "dry_run": dry_run,
        })
    }
}

/// Does something with all that is meant: by one row for a whole domain or client, else with each copy.
pub(super) async fn act(
    control: &Control,
    act: Act,
    (request, number): (QueueRequest, Option<u64>),
    out: &Out,
) -> Outcome {
    let mut filter = filter(&request.select, &control.deps.clock)?;
    let is_whole = filter.is_whole_lines() && !matches!(act, Act::Remove | Act::Bounce);
    let ordered =
        if is_whole { by_order(control, act, &filter, request.dry_run).await? } else { Value::Null };
    if is_whole && act != Act::Release {
        return Ok(ordered);
    }
    if act == Act::Release && filter.reason.is_none() && filter.ids.is_empty() {
        // what is held for other reasons is let go by name only
        filter.reason = Some(BY_OPERATOR.into());
    }
    if act == Act::Release && !request.dry_run {
        open_ways(control, &filter).await?;
    }
    let told = if request.dry_run {
        name_each(control, act, filter, out).await?
    } else {
        let mut tally = Tally::default();
        let acted = each(control, (act, number), filter, (&request, &mut tally), out).await;
        let told = tally.tell(false);
        acted.map_err(|why| format!("{why}; before: {told}"))?;
        told
    };
    Ok(merge(told, ordered))
}

/// Opens the ways to receivers that mail is held for which is released: else it would be held again at once.
async fn open_ways(control: &Control, filter: &Filter) -> Result<(), String> {
    let mut reasons: BTreeSet<String> = filter.reason.iter().cloned().collect();
    for id in filter.ids.clone() {
        let found =
            control.deps.store.read(move |reader| queue::find(reader, id)).await.map_err(store_error)?;
        reasons.extend(found.and_then(|copy| copy.held().map(str::to_owned)));
    }
    for receiver in reasons.iter().filter_map(|reason| reason.strip_prefix(BLOCKED)) {
        open(control, receiver).await?;
    }
    Ok(())
}

fn merge(mut told: Value, more: Value) -> Value {
    if let (Some(told), Value::Object(more)) = (told.as_object_mut(), more) {
        told.extend(more);
    }
    told
}

/// A row says it for all copies, and for those that come.
async fn by_order(control: &Control, act: Act, filter: &Filter, dry_run: bool) -> Outcome {
    let target = match (&filter.domain, &filter.client) {
        (Some(domain), _) => Target::Domain(domain.clone()),
        (None, Some(client)) => Target::Client(client.clone()),
        (None, None) => Target::Everything,
    };
    let told = match act {
        Act::Flush => Some(order(control, Kind::Flush, target.clone(), None, dry_run).await?),
        Act::Hold => Some(order(control, Kind::Hold, target.clone(), None, dry_run).await?),
        _ => lift(control, Kind::Hold, target.clone(), dry_run).await?,
    };
    // who is let go, or is to be tried, may be stopped by other orders
    let meant = |of: &Target| match (&target, of) {
        (_, Target::Everything) | (Target::Everything, _) => true,
        (Target::Domain(_), Target::Client(_)) => true,
        (meant, of) => meant == of,
    };
    let still = if act == Act::Hold { Vec::new() } else { orders(control, meant) };
    Ok(json!({ "order": told, "dry_run": dry_run, "still_stopped_by": still }))
}

/// A dry run: names what is meant, and touches nothing.
async fn name_each(control: &Control, act: Act, filter: Filter, out: &Out) -> Outcome {
    let mut tally = Tally::default();
    let mut walk = begin(control, filter.clone(), WalkOrder::Steady).await?;
    while !walk.is_over() {
        let (next, found) = look_on(control, walk).await?;
        walk = next;
        for copy in found.iter().filter(|copy| filter.means(copy)) {
            if !makes_sense(act, copy, control.deps.clock.now()) {
                tally.passed_over += 1;
                continue;
            }
            let is_busy = control.deps.leases.holds(copy.envelope.id);
            *(if is_busy { &mut tally.busy } else { &mut tally.done }) += 1;
            out.row(&row_of_act(copy, is_busy)).await?;
        }
        out.flush().await?;
    }
    Ok(tally.tell(true))
}

/// Copy by copy, under their leases; these end before anybody is told.
async fn each(
    control: &Control,
    (act, number): (Act, Option<u64>),
    filter: Filter,
    (request, tally): (&QueueRequest, &mut Tally),
    out: &Out,
) -> Result<(), String> {
    let began = control.deps.clock.now();
    let mut walk = begin(control, filter, WalkOrder::Steady).await?;
    while !walk.is_over() {
        control.go_on()?;
        let leases = control.deps.leases.clone();
        let read = control.deps.store.read(move |reader| {
            let piece = walk.lease_piece(reader, &leases, PIECE_ROWS)?;
            Ok((walk, piece))
        });
        let (next, LeasedPiece { found, busy, damaged }) = read.await.map_err(store_error)?;
        walk = next;
        let (meant, senseless): (Vec<_>, Vec<_>) =
            found.into_iter().partition(|(copy, _)| makes_sense(act, copy, began));
        tally.busy += busy.len() as u64;
        tally.damaged += damaged.len() as u64;
        tally.passed_over += senseless.len() as u64;
        drop(senseless);
        let rows: Vec<Value> = meant.iter().map(|(copy, _)| row_of_act(copy, false)).collect();
        carry_out(control, (act, number), meant, (request.text.as_deref(), tally)).await?;
        tell(rows, busy, out).await?;
    }
    Ok(())
}

async fn tell(rows: Vec<Value>, busy: Vec<MessageId>, out: &Out) -> Result<(), Gone> {
    for row in &rows {
        out.row(row).await?;
    }
    for id in busy {
        out.row(&json!({ "id": id.to_string(), "busy": true })).await?;
    }
    out.flush().await
}

fn row_of_act(copy: &Queued, is_busy: bool) -> Value {
    json!({
        "id": copy.envelope.id.to_string(), "from": copy.envelope.reverse_path.to_string(),
        "to": recipients(copy), "busy": is_busy,
    })
}

/// What is due already need not be flushed one by one: it waits for something else.
fn makes_sense(act: Act, copy: &Queued, began: Timestamp) -> bool {
    match act {
        Act::Flush => copy.held().is_none() && copy.due > began,
        Act::Hold => copy.held().is_none(),
        Act::Release => copy.held().is_some(),
        Act::Remove | Act::Bounce => true,
    }
}

/// The leases end when it is durable.
async fn carry_out(
    control: &Control,
    (act, number): (Act, Option<u64>),
    copies: Vec<(Queued, Lease)>,
    (text, tally): (Option<&str>, &mut Tally),
) -> Result<(), String> {
    let mut copies = copies.into_iter().peekable();
    while copies.peek().is_some() {
        let (mut batch, mut in_batch) = (Batch::new(), Vec::new());
        while batch.weight_octets() < BATCH_OCTETS
            && let Some((copy, lease)) = copies.next()
        {
            tracing::info!(event = act.as_str(), id = %copy.envelope.id, number);
            if act == Act::Bounce {
                let given_up = outbound::give_up(&control.deps, copy, lease, text.unwrap_or(GIVEN_UP)).await;
                given_up.map_err(store_error)?;
                tally.done += 1;
                continue;
            }
            write(&mut batch, act, &copy, control.deps.clock.now());
            in_batch.push(lease);
        }
        if !batch.is_empty() {
            // what makes room is written though the disk be full
            let haste = if act == Act::Remove { Haste::Soon } else { Haste::Now };
            control.deps.store.commit_with(batch, haste).await.map_err(store_error)?;
            tally.done += in_batch.len() as u64;
        }
    }
    Ok(())
}

fn write(batch: &mut Batch, act: Act, copy: &Queued, now: Timestamp) {
    match act {
        Act::Flush => queue::reschedule(batch, copy, copy.envelope.clone(), now),
        Act::Hold => queue::hold(batch, copy, BY_OPERATOR, now),
        Act::Release => queue::release(batch, copy, now),
        Act::Remove | Act::Bounce => queue::remove(batch, copy),
    }
}

impl Act {
    /// In the log.
    fn as_str(self) -> &'static str {
        match self {
            Act::Flush => "flushed",
            Act::Hold => "held",
            Act::Release => "released",
            Act::Remove => "removed",
            Act::Bounce => "given_up",
        }
    }
}
