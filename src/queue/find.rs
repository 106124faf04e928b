//! Looking for copies: by id, by domain, by the reason for which they are held, or one after the other.
//!
//! Listing by sender or recipient reads every row of its range. So a walk goes in pieces, each of which
//! reads no more rows than it was asked to; between two pieces others have the reader.

use std::collections::VecDeque;
use std::ops::Bound;

use super::lease::{Lease, Leases};
use super::{Queued, keys, record};
use crate::clock::Timestamp;
use crate::mail::{ClientName, Domain, MessageId};
use crate::store::{Key, Reader, StoreError};

/// Reasons for holding that are looked through at most; there are a handful.
const REASONS_MAX: usize = 256;

/// Which copies are meant. What is not said does not matter.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// These.
    pub ids: Vec<MessageId>,
    /// Recipients in this domain.
    pub domain: Option<Domain>,
    /// Handed over by this client.
    pub client: Option<ClientName>,
    /// The reverse-path holds this text; `<>` means the null one.
    pub from: Option<String>,
    /// A recipient holds this text.
    pub to: Option<String>,
    /// Arrived before this.
    pub arrived_before: Option<Timestamp>,
    /// Held for this reason.
    pub reason: Option<String>,
}

impl Filter {
    /// Whether it means everything.
    pub fn is_everything(&self) -> bool {
        self.is_whole_lines() && self.domain.is_none() && self.client.is_none()
    }

    /// Whether it names nothing but a domain or a client, which one row can stand for.
    pub fn is_whole_lines(&self) -> bool {
        let Filter { ids, domain, client, from, to, arrived_before, reason } = self;
        let names_copies = from.is_some() || to.is_some() || arrived_before.is_some() || reason.is_some();
        ids.is_empty() && !names_copies && (domain.is_none() || client.is_none())
    }

    /// Whether a copy is meant.
    pub fn matches(&self, copy: &Queued) -> bool {
        let envelope = &copy.envelope;
        let holds = |text: &str, part: &String| text.to_lowercase().contains(&part.to_lowercase());
        self.domain.as_ref().is_none_or(|domain| copy.domain() == Some(domain))
            && self.client.as_ref().is_none_or(|client| envelope.client == *client)
            && self.arrived_before.is_none_or(|before| envelope.arrived < before)
            && self.reason.as_deref().is_none_or(|reason| copy.held() == Some(reason))
            && self.from.as_ref().is_none_or(|from| match envelope.reverse_path.address() {
                None => from == "<>",
                Some(address) => holds(&address.to_string(), from),
            })
            && self.to.as_ref().is_none_or(|to| {
                envelope.recipients.iter().any(|recipient| holds(&recipient.address.to_string(), to))
            })
    }
}

/// Copies with their leases, and those that somebody is trying now.
pub type LeasedPiece = (Vec<(Queued, Lease)>, Vec<MessageId>);

/// How far a search has come.
#[derive(Clone, Debug)]
pub struct Walk {
    filter: Filter,
    /// Single copies that are still to be looked at.
    ids: VecDeque<MessageId>,
    /// Ranges of keys that end in an id, and where each goes on.
    ranges: VecDeque<(Key, Key)>,
    reasons: Vec<Box<str>>,
}

impl Walk {
    /// Before the first copy. Blocking: for a reader thread.
    pub fn new(reader: &Reader, filter: Filter) -> Result<Self, StoreError> {
        let reasons = reasons(reader)?;
        let held = |reason: &str| (keys::held_for(reason, 0), keys::held_for(reason, 1));
        let mut ranges = VecDeque::new();
        match (&filter.reason, &filter.domain) {
            _ if !filter.ids.is_empty() => {}
            (Some(reason), _) => ranges.push_back(held(reason)),
            (None, Some(domain)) => {
                let line = keys::line_of(domain);
                let mut end = line.clone();
                end.pop();
                end.push(1);
                ranges.push_back((line.into(), end.into()));
                ranges.extend(reasons.iter().map(|reason| held(reason)));
            }
            (None, None) => ranges.push_back(([keys::MESSAGE].into(), [keys::MESSAGE + 1].into())),
        }
        Ok(Walk { ids: filter.ids.iter().copied().collect(), ranges, reasons, filter })
    }

    /// Whether everything was looked at.
    pub fn is_over(&self) -> bool {
        self.ids.is_empty() && self.ranges.is_empty()
    }

    /// The copies among the next `rows_max` rows that are meant. Blocking.
    pub fn piece(&mut self, reader: &Reader, rows_max: usize) -> Result<Vec<Queued>, StoreError> {
        let mut found = Vec::new();
        for id in self.next_ids(reader, rows_max)? {
            let copy = read(reader, id, &self.reasons)?;
            found.extend(copy.filter(|copy| self.filter.matches(copy)));
        }
        Ok(found)
    }

    /// The same, each with its lease; and those that somebody is trying now.
    pub fn lease_piece(
        &mut self,
        reader: &Reader,
        leases: &Leases,
        rows_max: usize,
    ) -> Result<LeasedPiece, StoreError> {
        let (mut found, mut busy) = (Vec::new(), Vec::new());
        for copy in self.piece(reader, rows_max)? {
            let id = copy.envelope.id;
            let Some(lease) = leases.take(id) else {
                busy.push(id);
                continue;
            };
            // again, now that nobody else can settle it
            let copy = read(reader, id, &self.reasons)?.filter(|copy| self.filter.matches(copy));
            found.extend(copy.map(|copy| (copy, lease)));
        }
        Ok((found, busy))
    }

    fn next_ids(&mut self, reader: &Reader, rows_max: usize) -> Result<Vec<MessageId>, StoreError> {
        if !self.ids.is_empty() {
            return Ok(self.ids.drain(..rows_max.min(self.ids.len())).collect());
        }
        let Some((from, end)) = self.ranges.front_mut() else { return Ok(Vec::new()) };
        let rows = reader.scan(Bound::Excluded(&**from), end, rows_max)?;
        match rows.last() {
            Some((last, _)) => *from = last.clone(),
            None => _ = self.ranges.pop_front(),
        }
        Ok(rows.iter().filter_map(|(key, _)| keys::id_at_end(key)).collect())
    }
}

/// A copy as it stands. Blocking.
fn read(reader: &Reader, id: MessageId, reasons: &[Box<str>]) -> Result<Option<Queued>, StoreError> {
    let Some(row) = reader.get(&keys::message(id))? else { return Ok(None) };
    // an envelope that does not read is told of by `spool verify`
    let Ok(mut copy) = record::decode(id, &row.value) else { return Ok(None) };
    let Some(domain) = copy.domain().cloned() else { return Ok(None) };
    if reader.get(&keys::waiting(&copy, &domain))?.is_some() {
        return Ok(Some(copy));
    }
    for reason in reasons {
        if let Some(row) = reader.get(&keys::held(&copy, &domain, reason))? {
            copy.held = Some((reason.clone(), since(&row.value)));
            return Ok(Some(copy));
        }
    }
    // it moved between two looks: whoever moved it knows
    Ok(None)
}

/// A held row says since when.
fn since(value: &[u8]) -> Option<Timestamp> {
    value.try_into().ok().map(|octets| Timestamp::from_millis(u64::from_be_bytes(octets)))
}

/// A copy, if it is in the queue. Blocking.
pub fn find(reader: &Reader, id: MessageId) -> Result<Option<Queued>, StoreError> {
    read(reader, id, &reasons(reader)?)
}

/// All reasons for which something is held. Blocking.
pub fn reasons(reader: &Reader) -> Result<Vec<Box<str>>, StoreError> {
    let (mut reasons, mut from) = (Vec::new(), Key::from([keys::HELD]));
    while reasons.len() < REASONS_MAX {
        let rows = reader.scan(Bound::Excluded(&from), &[keys::HELD + 1], 1)?;
        let Some(reason) = rows.first().and_then(|(key, _)| keys::reason_of(key)) else { break };
        from = keys::held_for(reason, 1);
        reasons.push(reason.into());
    }
    Ok(reasons)
}

/// How many are held for a reason, up to a limit. Blocking.
pub fn count_held(reader: &Reader, reason: &str, limit: usize) -> Result<usize, StoreError> {
    let (mut from, end) = (keys::held_for(reason, 0), keys::held_for(reason, 1));
    let mut count = 0;
    while count < limit {
        let rows = reader.scan(Bound::Excluded(&from), &end, 1000)?;
        let Some((last, _)) = rows.last() else { break };
        (count, from) = (count + rows.len(), last.clone());
    }
    Ok(count)
}
