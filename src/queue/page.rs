//! Reading what is due for a domain, a page at a time, each copy with its lease.
//!
//! A domain's line has sub-lines, one for each class and client that has mail in it. Transactional mail
//! goes before normal, normal before bulk, without starving what comes behind; inside a class clients
//! take turns by octets.

use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;

use super::lease::{Lease, Leases};
use super::orders::OrderSet;
use super::turns::{SubLine, Turn, Turns, sub_lines, sub_lines_of, whole_line};
use super::{Queued, keys, record};
use crate::clock::Timestamp;
use crate::mail::{Class, Domain, MessageId};
use crate::store::{BodyReader, Key, Reader, Rows, StoreError};

/// Rows read from the index at a time.
const SCAN_ROWS: usize = 128;
/// Copies read from one sub-line before others have their turn.
const TURN_COPIES: usize = 8;
/// Of a page, so much (one part in this many) is kept for less urgent classes.
const SHARE_OF_OTHERS: usize = 8;
/// A small message costs a turn as much as one of this size.
const COST_MIN_OCTETS: u64 = 2048;
/// Bodies up to this size come with the page; others are read when they are sent.
const BODY_WITH_PAGE_MAX_OCTETS: u64 = 16 << 10;

/// What is wanted.
#[derive(Clone, Debug)]
pub struct PageRequest {
    /// Whose mail.
    pub domain: Domain,
    /// The time.
    pub now: Timestamp,
    /// How far this lap has come, and whose turn it is.
    pub turns: Turns,
    /// How many copies at most.
    pub copies_max: usize,
    /// Only mail that is at least so urgent.
    pub least: Class,
    /// What operators ordered.
    pub orders: Arc<OrderSet>,
    /// Whether this lap is for what they ordered to be tried, and is not due.
    pub is_flush: bool,
}

/// A copy to be tried, with the right to do so.
#[derive(Debug)]
pub struct Leased {
    /// The copy.
    pub queued: Queued,
    /// Held until its settlement is visible.
    pub lease: Lease,
    /// Its body, where that was at hand.
    pub body: Option<Bytes>,
}

/// One page.
#[derive(Debug, Default)]
pub struct Page {
    /// Copies that are due, in the order in which they should go.
    pub leased: Vec<Leased>,
    /// Copies that cannot be sent because they are damaged.
    pub damaged: Vec<(Leased, StoreError)>,
    /// Waiting rows whose envelope does not read, by key.
    pub unreadable: Vec<(Key, StoreError)>,
    /// How far the lap has come.
    pub turns: Turns,
    /// Whether everything that is due has been seen in this lap.
    pub is_end: bool,
    /// The earliest due that lies in the future, as far as this page saw.
    pub next_due: Option<Timestamp>,
}

impl PageRequest {
    /// Reads the page. Blocking: for a reader thread.
    pub fn read(mut self, reader: &Reader, leases: &Leases) -> Result<Page, StoreError> {
        let short = whole_line(reader, &self.domain)?;
        let lines = match &short {
            Some(rows) => sub_lines_of(rows, &self.domain)?,
            None => sub_lines(reader, &self.domain)?,
        };
        let lines: Vec<SubLine> = lines.into_iter().filter(|line| !self.is_stopped(line)).collect();
        self.turns.update(&lines);
        let mut page = Page::default();
        for line in lines.iter().filter(|line| line.first_due > self.now) {
            page.next_due = earlier(page.next_due, line.first_due);
        }
        let least = self.least;
        let wanted = || Class::ALL.into_iter().filter(move |class| *class <= least);
        for class in wanted() {
            let is_alone =
                wanted().filter(|other| *other > class).all(|other| self.turns.next_of(other).is_none());
            let kept = if is_alone { 0 } else { self.copies_max.div_ceil(SHARE_OF_OTHERS) };
            let limit = self.copies_max.saturating_sub(kept).max(page.leased.len() + 1).min(self.copies_max);
            self.read_class((reader, short.as_ref()), leases, class, limit, &mut page)?;
        }
        page.is_end = self.turns.open_lines() == 0;
        page.turns = self.turns;
        Ok(page)
    }

    fn is_stopped(&self, line: &SubLine) -> bool {
        let client = keys::client_of(&line.lane);
        client.is_some_and(|client| self.orders.stops_client_until(&client, self.now).is_some())
    }

    /// Before which a sub-line's copies must have been tried last to be tried now, though they are not due.
    fn flushed(&self, lane: &[u8]) -> Option<Timestamp> {
        let client = self.is_flush.then(|| keys::client_of(lane))??;
        self.orders.flushed(&self.domain, Some(&client), self.now)
    }

    fn read_class(
        &mut self,
        (reader, short): (&Reader, Option<&Rows>),
        leases: &Leases,
        class: Class,
        limit: usize,
        page: &mut Page,
    ) -> Result<(), StoreError> {
        while page.leased.len() < limit
            && let Some(lane) = self.turns.next_of(class)
        {
            let turn = self.turns.0.get(&lane).cloned().unwrap_or_default();
            let left = limit - page.leased.len();
            let is_only = self.turns.open_lines() == 1;
            let chunk = Chunk {
                domain: &self.domain,
                lane: &lane,
                now: self.now,
                flushed: self.flushed(&lane),
                short,
                after: turn.after,
                copies_max: if is_only { left } else { left.min(TURN_COPIES) },
            };
            let before = page.leased.len();
            let after = chunk.read(reader, leases, page)?;
            let cost = |leased: &Leased| leased.queued.envelope.size_octets.max(COST_MIN_OCTETS);
            let served = page.leased[before..].iter().map(cost).sum::<u64>();
            let served_octets = turn.served_octets.saturating_add(served);
            self.turns.0.insert(lane, Turn { is_read: after.is_none(), after, served_octets });
        }
        Ok(())
    }
}

/// A piece of one sub-line.
pub(super) struct Chunk<'a> {
    pub(super) domain: &'a Domain,
    pub(super) lane: &'a [u8],
    pub(super) now: Timestamp,
    pub(super) flushed: Option<Timestamp>,
    /// All rows of the line, where they are few.
    pub(super) short: Option<&'a Rows>,
    pub(super) after: Option<Key>,
    pub(super) copies_max: usize,
}

impl Chunk<'_> {
    fn rows(&self, reader: &Reader, from: &[u8], end: &[u8]) -> Result<Rows, StoreError> {
        match self.short {
            Some(rows) => {
                let here = rows.iter().filter(|(key, _)| &**key > from && &**key < end);
                Ok(here.cloned().collect())
            }
            None => reader.scan(Bound::Excluded(from), end, SCAN_ROWS.min(self.copies_max + 32)),
        }
    }

    /// Adds what is due to the page; gives where the next chunk begins, or nothing at the end.
    pub(super) fn read(
        mut self,
        reader: &Reader,
        leases: &Leases,
        page: &mut Page,
    ) -> Result<Option<Key>, StoreError> {
        let line = keys::line_of(self.domain);
        let (start, end) = ([&line, self.lane, &[0]].concat(), [&line, self.lane, &[1]].concat());
        let mut from = self.after.take().unwrap_or_else(|| start.into());
        let before = page.leased.len();
        loop {
            let rows = self.rows(reader, &from, &end)?;
            let Some((last, _)) = rows.last() else { return Ok(None) };
            let next_from = last.clone();
            for (key, _) in rows {
                let Some(place) = keys::place(&key, &line) else { continue };
                if place.due > self.now {
                    page.next_due = earlier(page.next_due, place.due);
                    match self.flushed {
                        None => return Ok(None),
                        Some(flushed) if is_tried_since(reader, place.id, flushed)? => continue,
                        Some(_) => {}
                    }
                }
                if let Some(lease) = leases.take(place.id) {
                    take(reader, &key, &place, lease, page)?;
                }
                if page.leased.len() - before >= self.copies_max {
                    return Ok(Some(key));
                }
            }
            from = next_from;
        }
    }
}

fn earlier(known: Option<Timestamp>, due: Timestamp) -> Option<Timestamp> {
    Some(known.map_or(due, |known| known.min(due)))
}

/// Looks again, now that nobody else can settle it: the scan may have seen an old row.
fn take(
    reader: &Reader,
    key: &[u8],
    place: &keys::Place<'_>,
    lease: Lease,
    page: &mut Page,
) -> Result<(), StoreError> {
    let message_key = keys::message(place.id);
    let Some(row) = reader.get(&message_key)? else { return Ok(()) };
    let queued = match record::decode(place.id, &row.value) {
        Ok(queued) => queued,
        Err(error) => {
            page.unreadable.push((key.into(), error));
            return Ok(());
        }
    };
    // the envelope of a copy that was held meanwhile is what it was: only the waiting row tells
    let is_here = queued.domain().is_some_and(|domain| *keys::waiting(&queued, domain) == *key);
    if !is_here || reader.get(key)?.is_none() {
        return Ok(());
    }
    let mut leased = Leased { queued, lease, body: None };
    let owner = leased.queued.body_key();
    let body = if *owner == *message_key { Some(row) } else { reader.get(&owner)? };
    let small =
        body.filter(|row| row.blob.is_some_and(|blob| blob.len_octets() <= BODY_WITH_PAGE_MAX_OCTETS));
    match small.map_or(Ok(None), |row| reader.body(&owner, &row)) {
        Ok(Some(BodyReader::Octets(octets))) => leased.body = Some(octets),
        Ok(_) => {}
        Err(error @ StoreError::Damaged(_)) => {
            page.damaged.push((leased, error));
            return Ok(());
        }
        // a passing fault: whoever sends it will look again
        Err(_) => {}
    }
    page.leased.push(leased);
    Ok(())
}

/// The earliest due of a domain's rows, leased ones too; of those that are stopped, when that ends.
pub fn earliest_due(
    reader: &Reader,
    domain: &Domain,
    (orders, now): (&OrderSet, Timestamp),
) -> Result<Option<Timestamp>, StoreError> {
    let due = |line: &SubLine| {
        let client = keys::client_of(&line.lane);
        let stopped = client.and_then(|client| orders.stops_client_until(&client, now));
        stopped.map_or(line.first_due, |until| line.first_due.max(until))
    };
    Ok(sub_lines(reader, domain)?.iter().map(due).min())
}

/// Whether mail of a domain was ordered to be tried.
pub fn is_flushed(
    reader: &Reader,
    domain: &Domain,
    (orders, now): (&OrderSet, Timestamp),
) -> Result<bool, StoreError> {
    if orders.flushed(domain, None, now).is_none() {
        return Ok(false);
    }
    let is_meant = |line: &SubLine| {
        let client = keys::client_of(&line.lane);
        client.is_some_and(|client| orders.flushed(domain, Some(&client), now).is_some())
    };
    Ok(sub_lines(reader, domain)?.iter().any(is_meant))
}

fn is_tried_since(reader: &Reader, id: MessageId, since: Timestamp) -> Result<bool, StoreError> {
    let row = reader.get(&keys::message(id))?;
    // one that does not read is found out when it is taken
    let queued = row.and_then(|row| record::decode(id, &row.value).ok());
    Ok(queued.is_some_and(|queued| queued.envelope.tried >= since))
}

/// The sum of all counters under a prefix.
pub(super) fn sum_counters(reader: &Reader, prefix: &[u8]) -> Result<u64, StoreError> {
    let mut end = prefix.to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    let (mut sum, mut from) = (0, prefix.to_vec());
    loop {
        let rows = reader.scan(Bound::Excluded(&from), &end, SCAN_ROWS)?;
        let Some((last, _)) = rows.last() else { return Ok(sum) };
        from = last.to_vec();
        sum +=
            rows.iter().map(|(_, row)| row.value[..].try_into().map_or(0, u64::from_le_bytes)).sum::<u64>();
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::queued;
    use super::*;
    use crate::clock::Clock;
    use crate::mail::Envelope;
    use crate::store::{Batch, LossyDisk, MemoryIndex, MemoryLog, NewBody, Store, WriterSettings};

    /// A store whose tables go to the index at every group or never, and what was put into it.
    fn store(memtable_octets: usize) -> Store {
        let settings = WriterSettings { memtable_octets, ..WriterSettings::default() };
        let (log, disk, index) = (MemoryLog::new(), LossyDisk::new(), MemoryIndex::new());
        let parts = (Box::new(log), Arc::new(disk), Arc::new(index));
        let opened = Store::open_on(parts.0, parts.1, parts.2, settings, Clock::System, Box::new(|_| {}));
        opened.expect("opens").0
    }

    fn add(batch: &mut Batch, id: u64, to: &str, due: u64) -> Queued {
        let template = queued(id, to, due);
        let envelope: Envelope = template.envelope.clone();
        let body = NewBody::Octets(Bytes::from(format!("body of {id}")));
        super::super::enqueue(batch, vec![(envelope, template.due)], body, template.expires);
        Queued { shared_body: None, ..template }
    }

    fn request(now: u64, turns: Turns, copies_max: usize) -> PageRequest {
        let domain = Domain::parse("d.example").expect("a domain");
        PageRequest {
            domain,
            now: Timestamp::from_millis(now),
            turns,
            copies_max,
            least: Class::Bulk,
            orders: Arc::default(),
            is_flush: false,
        }
    }

    fn ids(page: &Page) -> Vec<u64> {
        page.leased.iter().map(|leased| leased.queued.envelope.id.as_u64()).collect()
    }

    #[tokio::test]
    async fn a_page_holds_what_is_due_and_not_leased_in_order_of_due() {
        for memtable_octets in [1, usize::MAX] {
            let store = store(memtable_octets);
            for (id, to, due) in [
                (1, "x@d.example", 30),
                (2, "y@d.example", 10),
                (3, "z@e.example", 5),
                (4, "x@d.example", 99),
            ] {
                let mut batch = Batch::new();
                add(&mut batch, id, to, due);
                store.commit(batch).await.expect("commits");
            }
            let leases = Leases::default();
            let first = request(50, Turns::default(), 1).read(store.reader(), &leases).expect("reads");
            assert_eq!(ids(&first), [2]);
            assert_eq!(first.leased[0].body.as_deref(), Some(b"body of 2".as_slice()));
            let second = request(50, first.turns.clone(), 10).read(store.reader(), &leases).expect("reads");
            assert_eq!((ids(&second), second.next_due), (vec![1], Some(Timestamp::from_millis(99))));
            let again = request(50, Turns::default(), 10).read(store.reader(), &leases).expect("reads");
            assert_eq!(ids(&again), [] as [u64; 0], "all leased");
            drop((first, second));
            let free = request(50, Turns::default(), 10).read(store.reader(), &leases).expect("reads");
            assert_eq!(ids(&free), [2, 1]);
        }
    }

    #[tokio::test]
    async fn settled_and_rescheduled_copies_are_found_where_they_are_now() {
        let store = store(1);
        let mut batch = Batch::new();
        let (one, two) = (add(&mut batch, 1, "x@d.example", 10), add(&mut batch, 2, "x@d.example", 10));
        store.commit(batch).await.expect("commits");
        assert_eq!(super::super::count(store.reader()).expect("counts"), 2);
        let mut batch = Batch::new();
        super::super::remove(&mut batch, &one);
        super::super::reschedule(&mut batch, &two, two.envelope.clone(), Timestamp::from_millis(70));
        store.commit(batch).await.expect("commits");
        let leases = Leases::default();
        let page = request(50, Turns::default(), 10).read(store.reader(), &leases).expect("reads");
        assert_eq!((ids(&page), page.next_due), (vec![], Some(Timestamp::from_millis(70))));
        let page = request(70, Turns::default(), 10).read(store.reader(), &leases).expect("reads");
        assert_eq!(ids(&page), [2]);
        assert_eq!(super::super::count(store.reader()).expect("counts"), 1);
    }

    #[tokio::test]
    async fn copies_share_one_body_until_the_last_is_gone() {
        let store = store(1);
        let mut batch = Batch::new();
        let (a, b) = (queued(1, "x@d.example", 10), queued(2, "x@e.example", 10));
        let copies = vec![(a.envelope, a.due), (b.envelope, b.due)];
        super::super::enqueue(&mut batch, copies, NewBody::Octets(Bytes::from_static(b"shared")), a.expires);
        store.commit(batch).await.expect("commits");
        let page = request(50, Turns::default(), 10).read(store.reader(), &Leases::default()).expect("reads");
        let first = &page.leased[0];
        assert_eq!(first.body.as_deref(), Some(b"shared".as_slice()));
        let owner = first.queued.body_key();
        for (left, copy) in [
            (true, &first.queued),
            (false, &Queued { shared_body: first.queued.shared_body, ..queued(2, "x@e.example", 10) }),
        ] {
            let mut batch = Batch::new();
            super::super::remove(&mut batch, copy);
            store.commit(batch).await.expect("commits");
            assert_eq!(store.reader().get(&owner).expect("reads").is_some(), left);
        }
    }
}
