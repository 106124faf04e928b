//! The keys of the queue's rows. Numbers are big-endian, so that rows sort by them.

use super::Queued;
use crate::clock::Timestamp;
use crate::mail::{Class, ClientName, Domain, MessageId};
use crate::store::Key;

pub(super) const MESSAGE: u8 = b'm';
pub(super) const HELD: u8 = b'h';
pub(super) const CLIENT_COUNTS: &[u8] = b"cc";
pub(super) const DOMAIN_COUNTS: &[u8] = b"cd";
pub(super) const AGE_COUNTS: &[u8] = b"ca";
pub(super) const AGE_COUNTS_END: &[u8] = b"cb";
/// Ages are counted in steps of 2^14 milliseconds.
const AGE_STEP_BITS: u32 = 14;

pub(super) fn message(id: MessageId) -> Key {
    numbered(MESSAGE, id)
}

pub(super) fn shared_body(id: MessageId) -> Key {
    numbered(b'b', id)
}

fn numbered(prefix: u8, id: MessageId) -> Key {
    let mut key = [prefix; 9];
    key[1..].copy_from_slice(&id.as_u64().to_be_bytes());
    key.into()
}

pub(super) fn message_id(key: &[u8]) -> Option<MessageId> {
    let id = key.strip_prefix(&[MESSAGE])?;
    Some(MessageId::from_u64(u64::from_be_bytes(id.try_into().ok()?)))
}

pub(super) fn domain_count(domain: &Domain) -> Key {
    [DOMAIN_COUNTS, domain.as_str().as_bytes()].concat().into()
}

pub(super) fn client_count(client: &ClientName) -> Key {
    [CLIENT_COUNTS, client.as_str().as_bytes()].concat().into()
}

/// How many copies of a class that came in at about the same time wait.
pub(super) fn age_count(class: Class, arrived: Timestamp) -> Key {
    let step = arrived.as_millis() >> AGE_STEP_BITS;
    [AGE_COUNTS, &[class_octet(class)], &step.to_be_bytes()].concat().into()
}

/// The class that an age is counted for, and until when its copies came in.
pub(super) fn counted_age(key: &[u8]) -> Option<(Class, Timestamp)> {
    let rest = key.strip_prefix(AGE_COUNTS)?;
    let step = u64::from_be_bytes(rest.get(1..)?.try_into().ok()?);
    Some((class_of(rest)?, Timestamp::from_millis((step + 1) << AGE_STEP_BITS)))
}

/// `s<domain>\0`: everything that waits for a domain. No domain and no client holds an octet zero.
pub(super) fn line_of(domain: &Domain) -> Vec<u8> {
    [b"s", domain.as_str().as_bytes(), b"\0"].concat()
}

/// Behind everything that waits for a domain.
pub(super) fn line_end(domain: &Domain) -> Key {
    [b"s", domain.as_str().as_bytes(), b"\x01"].concat().into()
}

fn class_octet(class: Class) -> u8 {
    match class {
        Class::Transactional => 1,
        Class::Normal => 2,
        Class::Bulk => 3,
    }
}

/// The class of a sub-line.
pub(super) fn class_of(lane: &[u8]) -> Option<Class> {
    let octet = *lane.first()?;
    Class::ALL.into_iter().find(|class| class_octet(*class) == octet)
}

/// The client of a sub-line.
pub(super) fn client_of(lane: &[u8]) -> Option<ClientName> {
    ClientName::parse(std::str::from_utf8(lane.get(1..)?).ok()?)
}

pub(super) fn waiting(queued: &Queued, domain: &Domain) -> Key {
    let Queued { envelope, due, .. } = queued;
    let mut key = line_of(domain);
    key.push(class_octet(envelope.class));
    key.extend_from_slice(envelope.client.as_str().as_bytes());
    key.push(0);
    key.extend_from_slice(&due.as_millis().to_be_bytes());
    key.extend_from_slice(&envelope.id.as_u64().to_be_bytes());
    key.into()
}

/// What stands in a waiting row's key behind its line.
pub(super) struct Place<'a> {
    /// Class and client: one sub-line.
    pub(super) lane: &'a [u8],
    pub(super) due: Timestamp,
    pub(super) id: MessageId,
}

pub(super) fn place<'a>(key: &'a [u8], line: &[u8]) -> Option<Place<'a>> {
    let rest = key.strip_prefix(line)?;
    let (head, id) = rest.split_at_checked(rest.len().checked_sub(8)?)?;
    let (head, due) = head.split_at_checked(head.len().checked_sub(8)?)?;
    Some(Place {
        lane: head.strip_suffix(b"\0")?,
        due: Timestamp::from_millis(u64::from_be_bytes(due.try_into().ok()?)),
        id: MessageId::from_u64(u64::from_be_bytes(id.try_into().ok()?)),
    })
}

/// How much of an export from elsewhere is here.
pub(super) fn imported(archive: u128) -> Key {
    [&b"i"[..], &archive.to_be_bytes()].concat().into()
}

/// The id at the end of a row's key: that of a message, a waiting or a held row.
pub(super) fn id_at_end(key: &[u8]) -> Option<MessageId> {
    Some(MessageId::from_u64(u64::from_be_bytes(*key.last_chunk()?)))
}

/// `h<reason>\0`: everything that is held for it; with an end of 1, behind all of that.
pub(super) fn held_for(reason: &str, end: u8) -> Key {
    [&[HELD], reason.as_bytes(), &[end]].concat().into()
}

/// Why a row is held.
pub(super) fn reason_of(key: &[u8]) -> Option<&str> {
    let rest = key.strip_prefix(&[HELD])?;
    std::str::from_utf8(&rest[..rest.iter().position(|octet| *octet == 0)?]).ok()
}

/// The one row beside its envelope by which a copy is found.
pub(super) fn standing(queued: &Queued, domain: &Domain) -> Key {
    match &queued.held {
        None => waiting(queued, domain),
        Some(why) => held(queued, domain, &why.reason),
    }
}

/// Class and arrival of a copy whose envelope does not read, by the key of its waiting row: an id is made of
/// the time at which it was given.
pub(super) fn class_and_arrival(waiting: &[u8]) -> Option<(Class, Timestamp)> {
    let domain = waiting.iter().position(|octet| *octet == 0)?;
    let id = waiting.last_chunk::<8>()?;
    Some((class_of(&waiting[domain + 1..])?, MessageId::from_u64(u64::from_be_bytes(*id)).given_at()))
}

/// Held under the reason `unreadable`, with all that the waiting row's key says.
pub(super) fn set_aside(waiting: &[u8]) -> Key {
    [b"hunreadable\0", waiting].concat().into()
}

pub(super) fn held(queued: &Queued, domain: &Domain, reason: &str) -> Key {
    let due = queued.due.as_millis().to_be_bytes();
    let id = queued.envelope.id.as_u64().to_be_bytes();
    [b"h", reason.as_bytes(), b"\0", due.as_slice(), domain.as_str().as_bytes(), b"\0", id.as_slice()]
        .concat()
        .into()
}
