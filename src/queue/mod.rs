//! What waits: one row per copy, in the order in which it is due.
//!
//! Owns the rows of the queue and their forms, and the leases of what is being tried. Promises that a
//! copy stands in exactly one place (waiting or held) with its counters, changed in one batch; that a
//! leased copy is handed out to nobody else; that reading a page never reads more than it was asked
//! for. Never decides when to try or what a reply means.
//!
//! ```text
//! m<id>                                     the envelope; owns the body unless it is shared
//! b<id>                                     a body that several copies share, and how many
//! s<domain>\0<class><client>\0<due><id>     waiting
//! h<reason>\0<due><domain>\0<id>            held
//! cd<domain>, cc<client>                    how many copies wait or are held
//! i<archive>                                how many copies of an export from elsewhere were taken in
//! ca<class><time of arrival>                how many copies wait
//! alarm <domain>                            the earliest due of a domain, or before it
//! curfew s<site>, d<domain>                 a destination that is down, or whose name does not resolve
//! curfew rp<name>, rb<name>                 a receiver that wants nothing for a while, or blocks all mail
//! curfew os.., oh.., of.., ox..             an operator's order to suspend, hold or flush, and what follows a stop
//! ```

pub mod archive;
mod census;
mod curfew;
mod find;
mod keys;
mod largest;
mod lease;
mod orders;
mod page;
mod record;
mod sweep;
mod turns;

use bytes::Bytes;

pub use census::{COUNTED_MAX, Census, Waiting};
pub use curfew::{Destination, Rest};
pub use find::{Filter, LeasedPiece, Order as WalkOrder, Walk, find};
pub use largest::{Largest, clients, count_of_domain};
pub use lease::{Lease, Leases};
pub use orders::{Kind, ORDERS_MAX, Order, OrderSet, Orders, Target};
pub use page::{Leased, Page, PageRequest, earliest_due, is_flushed};
pub use sweep::{SweepPlace, sweep_piece};
pub use turns::Turns;

use crate::clock::Timestamp;
use crate::mail::{Class, ClientName, Domain, Envelope, MessageId};
use crate::store::{Batch, BodyReader, Curfew, Key, NewBody, Op, Reader, StoreError};

/// A copy as it stands in the queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queued {
    /// What is to be sent, and to whom.
    pub envelope: Envelope,
    /// When it is due.
    pub due: Timestamp,
    /// When it is given up, unless an attempt after that time succeeds.
    pub expires: Timestamp,
    /// The shared body, where this copy does not own one.
    shared_body: Option<MessageId>,
    /// Why it is held, and since when, where it does not wait.
    held: Option<Held>,
}

/// Why a copy does not wait.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Held {
    reason: Box<str>,
    since: Option<Timestamp>,
    /// Why it was held before it was exported.
    before: Option<Box<str>>,
}

impl Queued {
    /// Whether it is held because it was handed over to another host.
    pub fn is_exported(&self) -> bool {
        self.held().is_some_and(|reason| reason.starts_with(EXPORTED))
    }

    /// Why it is held, if it is.
    pub fn held(&self) -> Option<&str> {
        self.held.as_ref().map(|held| &*held.reason)
    }

    /// The domain of all its recipients.
    ///
    /// A copy has at least one recipient; one without would be nobody's.
    pub fn domain(&self) -> Option<&Domain> {
        self.envelope.recipients.first().map(|recipient| recipient.address.domain())
    }

    /// The key of the row that owns its body.
    pub fn body_key(&self) -> Key {
        match self.shared_body {
            Some(body) => keys::shared_body(body),
            None => keys::message(self.envelope.id),
        }
    }
}

/// The key of the row that will own the body of copies with these ids: known before they are queued,
/// as a large body's file is named after it.
pub fn body_owner(first: MessageId, copies: usize) -> Key {
    if copies > 1 { keys::shared_body(first) } else { keys::message(first) }
}

/// A copy's body. Blocking: for a reader thread.
pub fn body(reader: &Reader, queued: &Queued) -> Result<BodyReader, StoreError> {
    let key = queued.body_key();
    let row = reader.get(&key)?;
    let body = row.map_or(Ok(None), |row| reader.body(&key, &row))?;
    body.ok_or_else(|| StoreError::Damaged("the body is missing".into()))
}

/// Adds copies of one message, each with its own id and domain, that share one body.
pub fn enqueue(batch: &mut Batch, copies: Vec<(Envelope, Timestamp)>, body: NewBody, expires: Timestamp) {
    let shared_body = match copies.as_slice() {
        [] => return,
        [_] => None,
        [(first, _), ..] => {
            let count = Bytes::copy_from_slice(&(copies.len() as u64).to_le_bytes());
            batch.insert(keys::shared_body(first.id), count, Some(body.clone()));
            Some(first.id)
        }
    };
    for (envelope, due) in copies {
        let own = shared_body.is_none().then(|| body.clone());
        let queued = Queued { envelope, due, expires, shared_body, held: None };
        let Some(domain) = queued.domain() else { continue };
        batch.insert(keys::message(queued.envelope.id), record::encode(&queued), own);
        batch.insert(keys::waiting(&queued, domain), Bytes::new(), None);
        let is_urgent = queued.envelope.class == Class::Transactional;
        batch.push(Op::AlarmBy { name: alarm_name(domain), at: due, is_urgent });
        batch.add(keys::domain_count(domain), 1);
        batch.add(age_count(&queued), 1);
        batch.add(keys::client_count(&queued.envelope.client), 1);
    }
}

/// Puts a copy off, perhaps with fewer recipients and more attempts than before.
pub fn reschedule(batch: &mut Batch, before: &Queued, envelope: Envelope, due: Timestamp) {
    let Some(domain) = before.domain() else { return };
    batch.delete(keys::standing(before, domain));
    let after = Queued { envelope, due, held: None, ..before.clone() };
    batch.put(keys::message(after.envelope.id), record::encode(&after));
    batch.insert(keys::waiting(&after, domain), Bytes::new(), None);
    batch.alarm_by(alarm_name(domain), due);
    if before.held.is_some() {
        batch.add(age_count(before), 1);
    }
}

/// Removes a copy whose recipients have all come to their end.
pub fn remove(batch: &mut Batch, queued: &Queued) {
    let Some(domain) = queued.domain() else { return };
    batch.delete(keys::standing(queued, domain));
    batch.delete(keys::message(queued.envelope.id));
    if let Some(body) = queued.shared_body {
        batch.add(keys::shared_body(body), -1);
    }
    batch.add(keys::domain_count(domain), -1);
    if queued.held.is_none() {
        batch.add(age_count(queued), -1);
    }
    batch.add(keys::client_count(&queued.envelope.client), -1);
}

/// Takes a copy out of the line until somebody releases it. Where it is held already, the reason changes.
pub fn hold(batch: &mut Batch, queued: &Queued, reason: &str, now: Timestamp) {
    let Some(domain) = queued.domain() else { return };
    let since = queued.held.as_ref().and_then(|held| held.since).unwrap_or(now);
    batch.delete(keys::standing(queued, domain));
    // whoever takes an export back wants to know what was held before it
    let before = queued.held().filter(|_| reason.starts_with(EXPORTED)).unwrap_or_default();
    batch.put(keys::held(queued, domain, reason), held_value(since, before));
    if queued.held.is_none() {
        batch.add(age_count(queued), -1);
    }
}

/// Takes a copy out of the line as [`hold`] does, with what an attempt has left of it.
pub fn hold_remainder(
    batch: &mut Batch,
    queued: &Queued,
    envelope: Envelope,
    (reason, now): (&str, Timestamp),
) {
    batch.put(keys::message(envelope.id), record::encode(&Queued { envelope, ..queued.clone() }));
    hold(batch, queued, reason, now);
}

/// What the reasons begin with for which copies are held whose receiver blocks them; its name follows.
pub const BLOCKED: &str = "block:";

/// What the reasons begin with for which copies are held that were handed over to another host.
pub const EXPORTED: &str = "exported";

fn held_value(since: Timestamp, before: &str) -> Vec<u8> {
    [&since.as_millis().to_be_bytes()[..], before.as_bytes()].concat()
}

/// Puts a held copy back into the line, to be tried at once. While it was held its age did not count. One that
/// was held before it was exported is held for that reason again.
pub fn release(batch: &mut Batch, queued: &Queued, now: Timestamp) {
    let since = queued.held.as_ref().and_then(|held| held.since).unwrap_or(now);
    let before = queued.held.as_ref().and_then(|held| held.before.as_deref());
    if let (Some(reason), Some(domain)) = (before, queued.domain()) {
        batch.delete(keys::standing(queued, domain));
        batch.put(keys::held(queued, domain, reason), held_value(since, ""));
        return;
    }
    let before = Queued { expires: queued.expires.after(now.since(since)), ..queued.clone() };
    reschedule(batch, &before, queued.envelope.clone(), now);
}

/// Takes a waiting row out of the line whose envelope does not read; the envelope stays as it is.
pub fn set_aside(batch: &mut Batch, waiting: &Key) {
    batch.delete(waiting.clone());
    if let Some((class, arrived)) = keys::class_and_arrival(waiting) {
        batch.add(keys::age_count(class, arrived), -1);
    }
    batch.put(keys::set_aside(waiting), Bytes::new());
}

fn age_count(queued: &Queued) -> Key {
    keys::age_count(queued.envelope.class, queued.envelope.arrived)
}

/// Moves the alarm of a domain: nothing is due there before `to`, as far as group `seen` can tell, and
/// nothing goes before the curfew ends that it waits for.
pub fn move_alarm(
    batch: &mut Batch,
    domain: &Domain,
    seen: u64,
    to: Option<Timestamp>,
    under: Option<Curfew>,
) {
    batch.push(Op::AlarmMove { name: alarm_name(domain), seen, to, under });
}

/// Lets the alarm of a domain ring at a time, or before it.
pub fn alarm_by(batch: &mut Batch, domain: &Domain, at: Timestamp) {
    batch.alarm_by(alarm_name(domain), at);
}

fn alarm_name(domain: &Domain) -> Bytes {
    Bytes::copy_from_slice(domain.as_str().as_bytes())
}

/// The domain whose alarm it is.
pub fn alarm_domain(name: &[u8]) -> Option<Domain> {
    Domain::parse(std::str::from_utf8(name).ok()?).ok()
}

/// How many copies of a client's mail are in the queue.
pub fn count_of_client(reader: &Reader, client: &ClientName) -> Result<u64, StoreError> {
    reader.count(&keys::client_count(client))
}

/// How many copies are in the queue.
pub fn count(reader: &Reader) -> Result<u64, StoreError> {
    page::sum_counters(reader, keys::CLIENT_COUNTS)
}

/// The highest id in the queue; new ids must lie above it.
pub fn last_id(reader: &Reader) -> Result<MessageId, StoreError> {
    let last = reader.last(&[keys::MESSAGE], &[keys::MESSAGE + 1])?;
    let id = last.and_then(|(key, _)| keys::message_id(&key));
    Ok(id.unwrap_or(MessageId::from_u64(0)))
}
