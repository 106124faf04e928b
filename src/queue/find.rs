//! Looking for copies: by id, by domain, by the reason for which they are held, or one after the other.
//!
//! Listing by sender or recipient reads every row of its range. So a walk goes in pieces, each of which
//! reads no more rows than it was asked to; between two pieces others have the reader.

use std::collections::VecDeque;
use std::ops::Bound;

use super::lease::{Lease, Leases};
use super::{Held, Queued, keys, record};
use crate::clock::Timestamp;
use crate::mail::{ClientName, Domain, MessageId};
use crate::store::{Key, Reader, StoreError};

/// Reasons for holding that are looked through at most; there are a handful, and one for each export.
const REASONS_MAX: usize = 4096;

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
    /// Whether it names nothing but a domain or a client, or nothing at all: one row can stand for that.
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

    /// Whether something is to be done with a copy: what was handed over to another host is meant only by its
    /// id or by that reason.
    pub fn means(&self, copy: &Queued) -> bool {
        let is_named = self.reason.is_some() || !self.ids.is_empty();
        (is_named || !copy.is_exported()) && self.matches(copy)
    }
}

/// In which order a walk goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The quickest: what is moved meanwhile may be seen twice, or not at all.
    Any,
    /// By id, which never changes: each copy is seen once, whatever is done with it.
    Steady,
}

/// What was found to be done something with.
#[derive(Debug, Default)]
pub struct LeasedPiece {
    /// Copies, with their leases.
    pub found: Vec<(Queued, Lease)>,
    /// Those that somebody is trying now.
    pub busy: Vec<MessageId>,
    /// Those whose envelopes do not read.
    pub damaged: Vec<MessageId>,
}

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

/// A copy as it was found to stand.
enum Standing {
    Found(Box<Queued>),
    /// There is no such copy.
    Gone,
    /// It is there, and does not read or stands nowhere.
    Damaged,
}

impl Walk {
    /// Before the first copy. Blocking: for a reader thread.
    pub fn new(reader: &Reader, filter: Filter, order: Order) -> Result<Self, StoreError> {
        let mut reasons = reasons(reader)?;
        // the one that is named counts, however many there are
        reasons.extend(filter.reason.iter().map(|reason| reason.as_str().into()));
        let held = |reason: &str| (keys::held_for(reason, 0), keys::held_for(reason, 1));
        let mut ranges = VecDeque::new();
        match (&filter.reason, &filter.domain) {
            _ if !filter.ids.is_empty() => {}
            // what is done with a held copy leaves its place in this range, or the range
            (Some(reason), _) => ranges.push_back(held(reason)),
            (None, Some(domain)) if order == Order::Any => {
                ranges.push_back((keys::line_of(domain).into(), keys::line_end(domain)));
                ranges.extend(reasons.iter().map(|reason| held(reason)));
            }
            (None, _) => ranges.push_back(([keys::MESSAGE].into(), [keys::MESSAGE + 1].into())),
        }
        Ok(Walk { ids: filter.ids.iter().copied().collect(), ranges, reasons, filter })
    }

    /// Whether everything was looked at.
    pub fn is_over(&self) -> bool {
        self.ids.is_empty() && self.ranges.is_empty()
    }

    /// The copies among the next `rows_max` rows that match, only to be looked at. Blocking.
    pub fn piece(&mut self, reader: &Reader, rows_max: usize) -> Result<Vec<Queued>, StoreError> {
        let mut found = Vec::new();
        for id in self.next_ids(reader, rows_max)? {
            // it may move between two looks: it is looked for once more
            let standing = match self.read(reader, id)? {
                Standing::Damaged => self.read(reader, id)?,
                standing => standing,
            };
            if let Standing::Found(copy) = standing
                && self.filter.matches(&copy)
            {
                found.push(*copy);
            }
        }
        Ok(found)
    }

    /// The same of what something may be done with, each with its lease. Blocking.
    pub fn lease_piece(
        &mut self,
        reader: &Reader,
        leases: &Leases,
        rows_max: usize,
    ) -> Result<LeasedPiece, StoreError> {
        let mut piece = LeasedPiece::default();
        for id in self.next_ids(reader, rows_max)? {
            // first the lease: nobody else moves or settles it from here on
            let lease = leases.take(id);
            match (self.read(reader, id)?, lease) {
                (Standing::Found(copy), Some(lease)) if self.filter.means(&copy) => {
                    piece.found.push((*copy, lease));
                }
                (Standing::Found(copy), None) if self.filter.means(&copy) => piece.busy.push(id),
                (Standing::Found(_) | Standing::Gone, _) => {}
                // whoever has it may be moving it: it cannot be said whether it is meant
                (Standing::Damaged, None) => piece.busy.push(id),
                (Standing::Damaged, Some(_)) => piece.damaged.push(id),
            }
        }
        Ok(piece)
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

    fn read(&mut self, reader: &Reader, id: MessageId) -> Result<Standing, StoreError> {
        match read(reader, id, &self.reasons)? {
            // perhaps for a reason that is new
            Standing::Damaged => {
                self.reasons = reasons(reader)?;
                read(reader, id, &self.reasons)
            }
            standing => Ok(standing),
        }
    }
}

fn read(reader: &Reader, id: MessageId, reasons: &[Box<str>]) -> Result<Standing, StoreError> {
    let Some(row) = reader.get(&keys::message(id))? else { return Ok(Standing::Gone) };
    let Ok(mut copy) = record::decode(id, &row.value) else { return Ok(Standing::Damaged) };
    let Some(domain) = copy.domain().cloned() else { return Ok(Standing::Damaged) };
    if reader.get(&keys::waiting(&copy, &domain))?.is_some() {
        return Ok(Standing::Found(Box::new(copy)));
    }
    for reason in reasons {
        if let Some(row) = reader.get(&keys::held(&copy, &domain, reason))? {
            copy.held = Some(held(reason, &row.value));
            return Ok(Standing::Found(Box::new(copy)));
        }
    }
    Ok(Standing::Damaged)
}

/// A held row says since when, and what it was held for before it was exported.
fn held(reason: &str, value: &[u8]) -> Held {
    let (since, before) = match value.split_first_chunk() {
        Some((since, before)) => (Some(Timestamp::from_millis(u64::from_be_bytes(*since))), before),
        None => (None, &[][..]),
    };
    let before = std::str::from_utf8(before).ok().filter(|before| !before.is_empty());
    Held { reason: reason.into(), since, before: before.map(Into::into) }
}

/// A copy, if it is in the queue. Blocking.
pub fn find(reader: &Reader, id: MessageId) -> Result<Option<Queued>, StoreError> {
    let mut walk = Walk::new(reader, Filter { ids: vec![id], ..Filter::default() }, Order::Any)?;
    Ok(walk.piece(reader, 1)?.pop())
}

/// All reasons for which something is held. Blocking.
fn reasons(reader: &Reader) -> Result<Vec<Box<str>>, StoreError> {
    let (mut reasons, mut from) = (Vec::new(), Key::from([keys::HELD]));
    while reasons.len() < REASONS_MAX {
        let rows = reader.scan(Bound::Excluded(&from), &[keys::HELD + 1], 1)?;
        let Some(reason) = rows.first().and_then(|(key, _)| keys::reason_of(key)) else { break };
        from = keys::held_for(reason, 1);
        reasons.push(reason.into());
    }
    Ok(reasons)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::super::record::tests::queued;
    use super::*;
    use crate::clock::Clock;
    use crate::queue::{count, enqueue, hold, release, remove};
    use crate::store::{Batch, LossyDisk, MemoryIndex, MemoryLog, NewBody, Store, WriterSettings};

    async fn store_with(copies: &[(u64, &str)]) -> Store {
        let parts = (Box::new(MemoryLog::new()), Arc::new(LossyDisk::new()), Arc::new(MemoryIndex::new()));
        let settings = WriterSettings::default();
        let opened = Store::open_on(parts.0, parts.1, parts.2, settings, Clock::System, Box::new(|_| {}));
        let store = opened.expect("opens").0;
        for (id, to) in copies {
            let (mut batch, copy) = (Batch::new(), queued(*id, to, 50));
            let body = NewBody::Octets(b"body".as_slice().into());
            enqueue(&mut batch, vec![(copy.envelope, copy.due)], body, copy.expires);
            store.commit(batch).await.expect("commits");
        }
        store
    }

    fn found(store: &Store, filter: Filter) -> Vec<(u64, Option<String>)> {
        let mut walk = Walk::new(store.reader(), filter, Order::Any).expect("begins");
        let mut found = Vec::new();
        while !walk.is_over() {
            // pieces of one row: no copy is seen twice or missed between two
            let piece = walk.piece(store.reader(), 1).expect("reads");
            let told = |copy: &Queued| (copy.envelope.id.as_u64(), copy.held().map(str::to_owned));
            found.extend(piece.iter().map(told));
        }
        found
    }

    fn of_domain(name: &str) -> Filter {
        Filter { domain: Domain::parse(name).ok(), ..Filter::default() }
    }

    fn by_id(id: u64) -> Filter {
        Filter { ids: vec![MessageId::from_u64(id)], ..Filter::default() }
    }

    fn one(store: &Store, id: u64) -> Queued {
        find(store.reader(), MessageId::from_u64(id)).expect("reads").expect("is there")
    }

    async fn change(store: &Store, change: impl FnOnce(&mut Batch)) {
        let mut batch = Batch::new();
        change(&mut batch);
        store.commit(batch).await.expect("commits");
    }

    #[tokio::test]
    async fn copies_are_found_where_they_stand() {
        let store = store_with(&[(1, "a@a.example"), (2, "b@b.example"), (3, "c@a.example")]).await;
        let now = Timestamp::from_millis(100);
        change(&store, |batch| hold(batch, &one(&store, 3), "operator", now)).await;
        let held = Some("operator".to_owned());
        assert_eq!(found(&store, Filter::default()), [(1, None), (2, None), (3, held.clone())]);
        assert_eq!(found(&store, of_domain("a.example")), [(1, None), (3, held.clone())]);
        assert_eq!(found(&store, by_id(2)), [(2, None)]);
        let reason = |reason: &str| Filter { reason: Some(reason.into()), ..Filter::default() };
        assert_eq!(found(&store, reason("operator")), [(3, held)]);
        assert_eq!(found(&store, reason("oper")), []);
        for (from, to, want) in [(Some("A@B"), None, 3), (Some("<>"), None, 0), (None, Some("b@"), 1)] {
            let filter =
                Filter { from: from.map(str::to_owned), to: to.map(str::to_owned), ..Filter::default() };
            assert_eq!(found(&store, filter).len(), want, "{from:?} {to:?}");
        }
        let older =
            |millis| Filter { arrived_before: Some(Timestamp::from_millis(millis)), ..Filter::default() };
        assert_eq!((found(&store, older(5)).len(), found(&store, older(6)).len()), (0, 3));
    }

    #[tokio::test]
    async fn a_held_copy_has_one_row_and_leaves_none_behind() {
        let store = store_with(&[(1, "a@a.example")]).await;
        let (then, now) = (Timestamp::from_millis(1000), Timestamp::from_millis(61_000));
        let expires = one(&store, 1).expires;
        change(&store, |batch| hold(batch, &one(&store, 1), "operator", then)).await;
        change(&store, |batch| hold(batch, &one(&store, 1), "exported", now)).await;
        assert_eq!(reasons(store.reader()).expect("reads"), ["exported".into()]);
        // what was held before it was exported is held for that reason again
        change(&store, |batch| release(batch, &one(&store, 1), now)).await;
        assert_eq!(one(&store, 1).held(), Some("operator"));
        change(&store, |batch| release(batch, &one(&store, 1), now)).await;
        let released = one(&store, 1);
        assert_eq!((released.held(), released.due), (None, now));
        assert_eq!(released.expires, expires.after(Duration::from_secs(60)), "its age did not count");
        assert!(reasons(store.reader()).expect("reads").is_empty());
        change(&store, |batch| hold(batch, &released, "operator", now)).await;
        assert_eq!(reasons(store.reader()).expect("reads"), ["operator".into()]);
        change(&store, |batch| remove(batch, &one(&store, 1))).await;
        assert_eq!(count(store.reader()).expect("reads"), 0);
        assert!(reasons(store.reader()).expect("reads").is_empty());
        let rows = store.reader().scan(Bound::Unbounded, &[0xff], 99).expect("reads");
        let left: Vec<_> = rows.iter().map(|(key, _)| String::from_utf8_lossy(key)).collect();
        let is_of_queue = |key: &&std::borrow::Cow<'_, str>| key.starts_with(['m', 's', 'h', 'b']);
        assert_eq!(left.iter().filter(is_of_queue).count(), 0, "{left:?}");
    }

    #[tokio::test]
    async fn what_is_being_tried_is_left_alone() {
        let store = store_with(&[(1, "a@a.example"), (2, "b@a.example")]).await;
        let leases = Leases::default();
        let lease = leases.take(MessageId::from_u64(1)).expect("free");
        let mut walk = Walk::new(store.reader(), Filter::default(), Order::Steady).expect("begins");
        let LeasedPiece { found, busy, .. } = walk.lease_piece(store.reader(), &leases, 9).expect("reads");
        assert_eq!((found.len(), found[0].0.envelope.id.as_u64()), (1, 2));
        assert_eq!(busy, [MessageId::from_u64(1)]);
        assert!(leases.holds(MessageId::from_u64(2)));
        drop((lease, found));
        assert_eq!(leases.count(), 0);
    }
    #[tokio::test]
    async fn what_was_handed_over_is_meant_only_by_name() {
        let store = store_with(&[(1, "a@a.example"), (2, "b@a.example")]).await;
        let now = Timestamp::from_millis(1000);
        change(&store, |batch| hold(batch, &one(&store, 1), "exported-7", now)).await;
        let meant = |filter: Filter| {
            let mut walk = Walk::new(store.reader(), filter, Order::Steady).expect("begins");
            let piece = walk.lease_piece(store.reader(), &Leases::default(), 9).expect("reads");
            piece.found.iter().map(|(copy, _)| copy.envelope.id.as_u64()).collect::<Vec<_>>()
        };
        let reason = Filter { reason: Some("exported-7".into()), ..Filter::default() };
        assert_eq!((meant(Filter::default()), meant(of_domain("a.example"))), (vec![2], vec![2]));
        assert_eq!((meant(by_id(1)), meant(reason)), (vec![1], vec![1]));
    }

    #[tokio::test]
    async fn whoever_reads_what_is_due_does_not_get_what_was_held_meanwhile() {
        let store = store_with(&[(1, "a@a.example"), (2, "b@a.example")]).await;
        let (domain, leases) = (Domain::parse("a.example").expect("a domain"), Leases::default());
        // the rows of a page are read, then one is held, then its copies are taken
        let rows = crate::queue::turns::whole_line(store.reader(), &domain).expect("reads");
        change(&store, |batch| hold(batch, &one(&store, 1), "operator", Timestamp::from_millis(60))).await;
        let lanes = crate::queue::turns::sub_lines_of(rows.as_ref().expect("few"), &domain).expect("lanes");
        let chunk = crate::queue::page::Chunk {
            domain: &domain,
            lane: &lanes[0].lane,
            now: Timestamp::from_millis(100),
            flushed: None,
            short: rows.as_ref(),
            after: None,
            copies_max: 9,
        };
        let mut page = crate::queue::Page::default();
        chunk.read(store.reader(), &leases, &mut page).expect("reads");
        let ids: Vec<u64> = page.leased.iter().map(|leased| leased.queued.envelope.id.as_u64()).collect();
        assert_eq!(ids, [2]);
    }
}
