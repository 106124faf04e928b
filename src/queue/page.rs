//! Reading what is due for a domain, a page at a time, each copy with its lease.

use std::ops::Bound;

use bytes::Bytes;

use super::lease::{Lease, Leases};
use super::{Queued, keys, record};
use crate::clock::Timestamp;
use crate::mail::{Domain, MessageId};
use crate::store::{BodyReader, Key, Reader, StoreError};

/// Rows read from the index at a time.
const SCAN_ROWS: usize = 128;
/// Bodies up to this size come with the page; others are read when they are sent.
const BODY_WITH_PAGE_MAX_OCTETS: u64 = 16 << 10;

/// What is wanted.
#[derive(Clone, Debug)]
pub struct PageRequest {
    /// Whose mail.
    pub domain: Domain,
    /// The time.
    pub now: Timestamp,
    /// Where the last page ended; from the start of the line where there was none.
    pub after: Option<Key>,
    /// How many copies at most.
    pub copies_max: usize,
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
    /// Copies that are due.
    pub leased: Vec<Leased>,
    /// Copies that cannot be sent because they are damaged.
    pub damaged: Vec<(Leased, StoreError)>,
    /// Waiting rows whose envelope does not read, by key.
    pub unreadable: Vec<(Key, StoreError)>,
    /// What else is known.
    pub paged: Paged,
}

/// How far a page went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Paged {
    /// Where the next page begins; `None` when the end of the line was reached.
    pub after: Option<Key>,
    /// The earliest due that lies in the future, as far as this page saw.
    pub next_due: Option<Timestamp>,
}

impl PageRequest {
    /// Reads the page. Blocking: for a reader thread.
    pub fn read(&self, reader: &Reader, leases: &Leases) -> Result<Page, StoreError> {
        let line = keys::line_of(&self.domain);
        let end = [&line[..line.len() - 1], &[1]].concat();
        let mut page = Page::default();
        let mut from = self.after.clone().unwrap_or_else(|| line.clone().into());
        loop {
            let rows = reader.scan(Bound::Excluded(&from), &end, SCAN_ROWS.min(self.copies_max + 32))?;
            let Some((last, _)) = rows.last() else { return Ok(page) };
            let mut next_from = last.clone();
            for (key, _) in rows {
                let Some(place) = keys::place(&key, &line) else { continue };
                if place.due > self.now {
                    // nothing more in this sub-line: on to the next one
                    page.paged.next_due = earlier(page.paged.next_due, place.due);
                    next_from = [&line, place.lane, &[1]].concat().into();
                    break;
                }
                if let Some(lease) = leases.take(place.id) {
                    take(reader, &key, &place, lease, &mut page)?;
                }
                if page.leased.len() >= self.copies_max {
                    page.paged.after = Some(key);
                    return Ok(page);
                }
            }
            from = next_from;
        }
    }
}

/// Where the sub-line (class and client) of a waiting row's key ends.
pub fn behind_sub_line(domain: &Domain, key: &Key) -> Key {
    let line = keys::line_of(domain);
    match keys::place(key, &line) {
        Some(place) => [&line, place.lane, &[1]].concat().into(),
        None => key.clone(),
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
    let is_here = queued.domain().is_some_and(|domain| *keys::waiting(&queued, domain) == *key);
    if !is_here {
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

/// The earliest due of a domain's rows, leased ones too.
pub fn earliest_due(reader: &Reader, domain: &Domain) -> Result<Option<Timestamp>, StoreError> {
    let line = keys::line_of(domain);
    let end = [&line[..line.len() - 1], &[1]].concat();
    let (mut from, mut earliest) = (line.clone(), None);
    loop {
        let rows = reader.scan(Bound::Excluded(&from), &end, 1)?;
        let Some((key, _)) = rows.first() else { return Ok(earliest) };
        let Some(place) = keys::place(key, &line) else {
            return Err(StoreError::Damaged("a waiting row's key".into()));
        };
        earliest = earlier(earliest, place.due);
        from = [&line, place.lane, &[1]].concat();
    }
}

pub(super) fn browse(
    reader: &Reader,
    after: Option<MessageId>,
    limit: usize,
) -> Result<Vec<Queued>, StoreError> {
    let mut from = after.map_or_else(|| vec![keys::MESSAGE], |id| keys::message(id).to_vec());
    let mut copies = Vec::new();
    while copies.len() < limit {
        let rows = reader.scan(Bound::Excluded(&from), &[keys::MESSAGE + 1], SCAN_ROWS)?;
        let Some((last, _)) = rows.last() else { break };
        from = last.to_vec();
        let read =
            rows.iter().filter_map(|(key, row)| record::decode(keys::message_id(key)?, &row.value).ok());
        copies.extend(read);
    }
    copies.truncate(limit);
    Ok(copies)
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
    use std::sync::Arc;

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

    fn request(now: u64, after: Option<Key>, copies_max: usize) -> PageRequest {
        let domain = Domain::parse("d.example").expect("a domain");
        PageRequest { domain, now: Timestamp::from_millis(now), after, copies_max }
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
            let first = request(50, None, 1).read(store.reader(), &leases).expect("reads");
            assert_eq!(ids(&first), [2]);
            assert_eq!(first.leased[0].body.as_deref(), Some(b"body of 2".as_slice()));
            let second =
                request(50, first.paged.after.clone(), 10).read(store.reader(), &leases).expect("reads");
            assert_eq!((ids(&second), second.paged.next_due), (vec![1], Some(Timestamp::from_millis(99))));
            let again = request(50, None, 10).read(store.reader(), &leases).expect("reads");
            assert_eq!(ids(&again), [] as [u64; 0], "all leased");
            drop((first, second));
            let free = request(50, None, 10).read(store.reader(), &leases).expect("reads");
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
        let page = request(50, None, 10).read(store.reader(), &leases).expect("reads");
        assert_eq!((ids(&page), page.paged.next_due), (vec![], Some(Timestamp::from_millis(70))));
        let page = request(70, None, 10).read(store.reader(), &leases).expect("reads");
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
        let page = request(50, None, 10).read(store.reader(), &Leases::default()).expect("reads");
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
