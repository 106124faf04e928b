//! What operators ask of single copies and of all of somebody's.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};

use super::domains::{lift, order, what_stops};
use super::iso;
use super::server::{Control, Out, Outcome, parse};
use super::wire::{QueueRequest, Selection};
use crate::clock::{Clock, Timestamp};
use crate::mail::{ClientName, Domain, MessageId};
use crate::outbound;
use crate::queue::{self, Filter, Kind, Lease, Queued, Target, Walk};
use crate::store::{Batch, BodyReader, StoreError};

/// Rows read at a time: others have the reader in between.
const PIECE_ROWS: usize = 256;
/// Octets of a body sent at a time.
const PIECE_OCTETS: usize = 256 << 10;
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

fn told(error: &StoreError) -> String {
    format!("the store: {error}")
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
    let envelope = &copy.envelope;
    let is_sent = control.deps.leases.holds(envelope.id);
    let state = match copy.held() {
        _ if is_sent => "sending",
        Some(_) => "held",
        None => "waiting",
    };
    let to: Vec<String> = envelope.recipients.iter().map(|to| to.address.to_string()).collect();
    json!({
        "id": envelope.id.to_string(),
        "state": state,
        "reason": copy.held(),
        "client": envelope.client.as_str(),
        "class": envelope.class.as_str(),
        "from": envelope.reverse_path.to_string(),
        "to": to,
        "size": envelope.size_octets,
        "arrived": iso(envelope.arrived),
        "due": iso(copy.due),
        "expires": iso(copy.expires),
        "attempts": envelope.attempts,
        "tried": (envelope.attempts > 0).then(|| iso(envelope.tried)),
    })
}

async fn begin(control: &Control, filter: Filter) -> Result<Walk, String> {
    control.deps.store.read(move |reader| Walk::new(reader, filter)).await.map_err(|error| told(&error))
}

/// `queue ls`.
pub(super) async fn list(control: &Control, request: QueueRequest, out: &Out) -> Outcome {
    let mut walk = begin(control, filter(&request.select, &control.deps.clock)?).await?;
    let (limit, mut listed) = (request.limit.unwrap_or(u64::MAX), 0);
    while !walk.is_over() {
        let read = control.deps.store.read(move |reader| {
            let found = walk.piece(reader, PIECE_ROWS)?;
            Ok((walk, found))
        });
        let (next, found) = read.await.map_err(|error| told(&error))?;
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
    found.map_err(|error| told(&error))?.ok_or_else(|| format!("no message {id} is in the queue (any more)"))
}

/// `queue show`.
pub(super) async fn show(control: &Control, request: QueueRequest) -> Outcome {
    let copy = one(control, &request).await?;
    let mut shown = row(control, &copy);
    let Some(domain) = copy.domain() else { return Ok(shown) };
    let remarks = control.deps.recent.of(domain.as_str());
    let last = remarks.iter().find(|remark| remark.id == Some(copy.envelope.id)).or(remarks.first());
    let last = last.map(|remark| {
        json!({
            "at": iso(remark.at),
            "of_this_message": remark.id == Some(copy.envelope.id),
            "host": remark.host,
            "reply": remark.reply.to_string(),
        })
    });
    let why = if copy.held().is_some() || control.deps.leases.holds(copy.envelope.id) {
        Vec::new()
    } else {
        let mut why = what_stops(control, domain, Some(&copy.envelope.client)).await?;
        if copy.due > control.deps.clock.now() {
            let after = if copy.envelope.attempts > 0 { "its next try after a deferral" } else { "its time" };
            why.push(format!("it waits for {after}"));
        }
        why
    };
    if let Some(object) = shown.as_object_mut() {
        object.insert("waits_for".into(), json!(why));
        object.insert("last_reply".into(), json!(last));
    }
    Ok(shown)
}

/// `queue show --content`: the message as it will be sent.
pub(super) async fn content(control: Arc<Control>, request: Bytes, out: Arc<Out>) -> Outcome {
    let copy = one(&control, &parse(&request)?).await?;
    let key = copy.body_key();
    let body = control.deps.store.read(move |reader| {
        let row = reader.get(&key)?;
        row.map_or(Ok(None), |row| reader.body(&key, &row))
    });
    let mut body = body.await.map_err(|error| told(&error))?.ok_or("its body is missing")?;
    while let Some(piece) = next_piece(&mut body).await? {
        out.octets(&piece).await?;
    }
    Ok(Value::Null)
}

/// The next octets of a body; nothing at its end.
pub(super) async fn next_piece(body: &mut BodyReader) -> Result<Option<Bytes>, String> {
    match body {
        BodyReader::Octets(octets) => {
            let piece = octets.split_to(octets.len().min(PIECE_OCTETS));
            Ok((!piece.is_empty()).then_some(piece))
        }
        BodyReader::File(file) => {
            let mut reading = file.clone();
            let read = tokio::task::spawn_blocking(move || {
                let piece = reading.read(PIECE_OCTETS);
                (reading, piece)
            });
            let (after, piece) = read.await.map_err(|error| error.to_string())?;
            *file = after;
            let piece = piece.map_err(|error| told(&error))?;
            Ok((!piece.is_empty()).then_some(piece))
        }
    }
}

/// How many copies something was done with.
#[derive(Default)]
struct Tally {
    done: u64,
    /// Those that are being tried now.
    busy: u64,
    /// Those with which it makes no sense: held ones that are flushed, and the like.
    passed_over: u64,
}

/// Does something with all that is meant: by one row for a whole domain or client, else with each copy.
pub(super) async fn act(control: &Control, act: Act, request: QueueRequest, out: &Out) -> Outcome {
    let mut filter = filter(&request.select, &control.deps.clock)?;
    let ordered =
        if filter.is_whole_lines() { whole(control, act, &filter, request.dry_run).await? } else { None };
    if let (Some(ordered), false) = (&ordered, act == Act::Release) {
        return Ok(json!({ "order": ordered }));
    }
    if act == Act::Release && filter.reason.is_none() && filter.ids.is_empty() {
        // what is held for other reasons is let go by name only
        filter.reason = Some(BY_OPERATOR.into());
    }
    let mut tally = Tally::default();
    let mut walk = begin(control, filter).await?;
    while !walk.is_over() {
        let leases = control.deps.leases.clone();
        let read = control.deps.store.read(move |reader| {
            let found = walk.lease_piece(reader, &leases, PIECE_ROWS)?;
            Ok((walk, found))
        });
        let (next, (found, busy)) = read.await.map_err(|error| told(&error))?;
        walk = next;
        tally.busy += busy.len() as u64;
        for id in busy {
            out.row(&json!({ "id": id.to_string(), "busy": true })).await?;
        }
        let (meant, senseless): (Vec<_>, Vec<_>) =
            found.into_iter().partition(|(copy, _)| makes_sense(act, copy));
        tally.passed_over += senseless.len() as u64;
        drop(senseless);
        for (copy, _) in &meant {
            out.row(&row_of_act(copy)).await?;
        }
        tally.done += meant.len() as u64;
        if !request.dry_run {
            carry_out(control, act, meant, request.text.as_deref()).await?;
        }
        out.flush().await?;
    }
    let Tally { done, busy, passed_over } = tally;
    Ok(json!({
        "order": ordered, "messages": done, "busy": busy, "passed_over": passed_over, "dry_run": request.dry_run,
    }))
}

fn row_of_act(copy: &Queued) -> Value {
    let to: Vec<String> = copy.envelope.recipients.iter().map(|to| to.address.to_string()).collect();
    json!({ "id": copy.envelope.id.to_string(), "from": copy.envelope.reverse_path.to_string(), "to": to })
}

fn makes_sense(act: Act, copy: &Queued) -> bool {
    match act {
        Act::Flush | Act::Hold => copy.held().is_none(),
        Act::Release => copy.held().is_some(),
        Act::Remove | Act::Bounce => true,
    }
}

/// What one row can say of a domain, a client or everything, that is said by one row.
async fn whole(
    control: &Control,
    act: Act,
    filter: &Filter,
    dry_run: bool,
) -> Result<Option<String>, String> {
    let target = match (&filter.domain, &filter.client) {
        (Some(domain), _) => Target::Domain(domain.clone()),
        (None, Some(client)) => Target::Client(client.clone()),
        (None, None) => Target::Everything,
    };
    match act {
        Act::Flush => order(control, Kind::Flush, target, None, dry_run).await.map(Some),
        Act::Hold => order(control, Kind::Hold, target, None, dry_run).await.map(Some),
        Act::Release => lift(control, Kind::Hold, target, dry_run).await,
        Act::Remove | Act::Bounce => Ok(None),
    }
}

/// The leases end when it is durable.
async fn carry_out(
    control: &Control,
    act: Act,
    copies: Vec<(Queued, Lease)>,
    text: Option<&str>,
) -> Result<(), String> {
    let (deps, now) = (&control.deps, control.deps.clock.now());
    if act == Act::Bounce {
        for (copy, lease) in copies {
            let given_up = outbound::give_up(deps, copy, lease, text.unwrap_or(GIVEN_UP)).await;
            given_up.map_err(|error| told(&error))?;
        }
        return Ok(());
    }
    let mut batch = Batch::new();
    for (copy, _) in &copies {
        match act {
            Act::Flush => queue::reschedule(&mut batch, copy, copy.envelope.clone(), now),
            Act::Hold => queue::hold(&mut batch, copy, BY_OPERATOR, now),
            Act::Release => queue::release(&mut batch, copy, now),
            Act::Remove | Act::Bounce => queue::remove(&mut batch, copy),
        }
    }
    if !batch.is_empty() {
        deps.store.commit(batch).await.map_err(|error| told(&error))?;
    }
    Ok(())
}
