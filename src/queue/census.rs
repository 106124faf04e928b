//! How much waits, since when, and how much is held: read from counters, so that five million copies are
//! counted as fast as five.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::{curfew, keys};
use crate::clock::Timestamp;
use crate::mail::Class;
use crate::store::{Key, Reader, StoreError};

/// Rows read in one piece.
const PIECE_ROWS: usize = 1024;
/// Held copies, and destinations that are down, are counted one by one, up to so many of each kind.
pub const COUNTED_MAX: u64 = 10_000;

/// Copies of one class that wait or are being tried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// How many there are.
    pub copies: u64,
    /// The oldest came in at this time or at most 16 seconds before.
    pub oldest: Option<Timestamp>,
}

/// What is counted next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Waiting,
    Held,
    Sites,
    Names,
    Done,
}

/// A count that is made piece by piece, so that others get at the reader in between.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Census {
    /// What waits, by class.
    pub waiting: BTreeMap<Class, Waiting>,
    /// Copies that are held, by reason; up to [`COUNTED_MAX`] of each.
    pub held: BTreeMap<Box<str>, u64>,
    /// Sets of mail hosts that do not answer, up to [`COUNTED_MAX`].
    pub sites_down: u64,
    /// Domains whose way is not found in the DNS, up to [`COUNTED_MAX`].
    pub names_down: u64,
    now: Timestamp,
    stage: Stage,
    /// The last row that was read in this stage.
    after: Option<Key>,
}

impl Census {
    /// Nothing is counted yet.
    pub fn begin(now: Timestamp) -> Self {
        Census {
            waiting: BTreeMap::new(),
            held: BTreeMap::new(),
            sites_down: 0,
            names_down: 0,
            now,
            stage: Stage::Waiting,
            after: None,
        }
    }

    /// Whether everything was counted.
    pub fn is_done(&self) -> bool {
        self.stage == Stage::Done
    }

    /// Reads the next piece. Blocking: for a reader thread.
    pub fn go_on(mut self, reader: &Reader) -> Result<Self, StoreError> {
        self.after = match self.stage {
            Stage::Waiting => self.count_waiting(reader)?,
            Stage::Held => self.count_held(reader)?,
            Stage::Sites => self.count_down(reader, true)?,
            Stage::Names => self.count_down(reader, false)?,
            Stage::Done => None,
        };
        if self.after.is_none() {
            self.stage = match self.stage {
                Stage::Waiting => Stage::Held,
                Stage::Held => Stage::Sites,
                Stage::Sites => Stage::Names,
                Stage::Names | Stage::Done => Stage::Done,
            };
        }
        Ok(self)
    }

    /// The last row that was read; nothing at the end. So do the others.
    fn count_waiting(&mut self, reader: &Reader) -> Result<Option<Key>, StoreError> {
        let from = self.after.as_deref().unwrap_or(keys::AGE_COUNTS);
        let rows = reader.scan(Bound::Excluded(from), keys::AGE_COUNTS_END, PIECE_ROWS)?;
        for (key, row) in &rows {
            let Some((class, arrived)) = keys::counted_age(key) else { continue };
            let waiting = self.waiting.entry(class).or_default();
            waiting.copies += row.value[..].try_into().map_or(0, u64::from_le_bytes);
            // in order of arrival
            waiting.oldest.get_or_insert(arrived);
        }
        Ok(rows.into_iter().last().map(|(key, _)| key))
    }

    fn count_held(&mut self, reader: &Reader) -> Result<Option<Key>, StoreError> {
        let first = [keys::HELD];
        let from = self.after.as_deref().unwrap_or(&first);
        let rows = reader.scan(Bound::Excluded(from), &[keys::HELD + 1], PIECE_ROWS)?;
        for (key, _) in &rows {
            let Some(reason) = keys::reason_of(key) else { continue };
            let count = self.held.entry(reason.into()).or_default();
            if *count >= COUNTED_MAX {
                // on behind all others with this reason
                return Ok(Some([&first[..], reason.as_bytes(), b"\x01"].concat().into()));
            }
            *count += 1;
        }
        Ok(rows.into_iter().last().map(|(key, _)| key))
    }

    fn count_down(&mut self, reader: &Reader, are_sites: bool) -> Result<Option<Key>, StoreError> {
        let (count, last) = curfew::resting(reader, (are_sites, self.now), self.after.as_ref(), PIECE_ROWS)?;
        let down = if are_sites { &mut self.sites_down } else { &mut self.names_down };
        *down += count;
        Ok(last.filter(|_| *down < COUNTED_MAX))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::super::record::tests::queued;
    use super::super::{Destination, Queued, Rest, enqueue, hold, remove, reschedule, set_aside};
    use super::*;
    use crate::clock::Clock;
    use crate::mail::Domain;
    use crate::store::{Batch, LossyDisk, MemoryIndex, MemoryLog, NewBody, Store, WriterSettings};

    fn store() -> Store {
        let (log, disk, index) = (MemoryLog::new(), LossyDisk::new(), MemoryIndex::new());
        let parts = (Box::new(log), Arc::new(disk), Arc::new(index));
        let settings = WriterSettings { memtable_octets: 1, ..WriterSettings::default() };
        let opened = Store::open_on(parts.0, parts.1, parts.2, settings, Clock::System, Box::new(|_| {}));
        opened.expect("opens").0
    }

    fn copy(class: Class, number: u64, arrived_s: u64) -> Queued {
        let mut copy = queued((arrived_s * 1000) << 18 | number, "x@d.example", 10);
        (copy.envelope.class, copy.shared_body) = (class, None);
        copy.envelope.arrived = Timestamp::from_millis(arrived_s * 1000);
        copy
    }

    fn census(store: &Store, now_s: u64) -> Census {
        let mut census = Census::begin(Timestamp::from_millis(now_s * 1000));
        while !census.is_done() {
            census = census.go_on(store.reader()).expect("reads");
        }
        census
    }

    /// Number and age of what waits, at a time; what is held.
    fn told(store: &Store, now_s: u64) -> String {
        let (census, now) = (census(store, now_s), Timestamp::from_millis(now_s * 1000));
        let waiting = census.waiting.iter().map(|(class, Waiting { copies, oldest })| {
            let age = oldest.map_or(0, |oldest| now.since(oldest).as_secs());
            format!("{} {copies} {age} ", class.as_str())
        });
        let held = census.held.iter().map(|(reason, count)| format!("{reason} {count} "));
        waiting.chain(held).collect::<String>().trim_end().to_owned()
    }

    #[tokio::test]
    async fn what_waits_is_counted_by_class_with_the_age_of_the_oldest() {
        let store = store();
        assert_eq!(told(&store, 0), "");
        let copies: Vec<Queued> = (0..2000)
            .map(|number| copy(Class::Bulk, number, 1000 + 20 * number))
            .chain([copy(Class::Transactional, 1, 5), copy(Class::Transactional, 2, 160_000)])
            .collect();
        for some in copies.chunks(500) {
            let mut batch = Batch::new();
            for copy in some {
                let body = NewBody::Octets(Bytes::from_static(b"x"));
                enqueue(&mut batch, vec![(copy.envelope.clone(), copy.due)], body, copy.expires);
            }
            store.commit(batch).await.expect("commits");
        }
        assert_eq!(told(&store, 161_000), "transactional 2 160983 bulk 2000 159984");
        let mut batch = Batch::new();
        remove(&mut batch, &copies[2000]);
        hold(&mut batch, &copies[2001], "damaged", Timestamp::ZERO);
        reschedule(&mut batch, &copies[0], copies[0].envelope.clone(), Timestamp::from_millis(99));
        let domain = copies[1].domain().expect("has one");
        set_aside(&mut batch, &keys::waiting(&copies[1], domain));
        store.commit(batch).await.expect("commits");
        assert_eq!(told(&store, 161_000), "bulk 1999 159984 damaged 1 unreadable 1");
    }

    #[tokio::test]
    async fn destinations_are_down_until_their_rest_ends() {
        let (store, mut batch) = (store(), Batch::new());
        let name = Domain::parse("d.example").expect("a domain");
        for (destination, until_s) in [
            (Destination::site("a.example"), 20),
            (Destination::site("b.example"), 30),
            (Destination::domain(&name), 30),
        ] {
            let until = Timestamp::from_millis(until_s * 1000);
            destination.shut(&mut batch, &Rest { until, since: Timestamp::ZERO, failures: 1 });
        }
        store.commit(batch).await.expect("commits");
        for (now_s, down) in [(9, (2, 1)), (20, (1, 1)), (30, (0, 0))] {
            let census = census(&store, now_s);
            assert_eq!((census.sites_down, census.names_down), down, "at {now_s}");
        }
    }

    #[tokio::test]
    async fn very_many_held_copies_are_not_all_counted() {
        let store = store();
        let mut batch = Batch::new();
        for number in 0..COUNTED_MAX + 100 {
            hold(&mut batch, &copy(Class::Normal, number, 5), "damaged", Timestamp::ZERO);
        }
        hold(&mut batch, &copy(Class::Normal, 1, 5), "other", Timestamp::ZERO);
        store.commit(batch).await.expect("commits");
        let held: Vec<(Box<str>, u64)> = census(&store, 9).held.into_iter().collect();
        assert_eq!(held, [("damaged".into(), COUNTED_MAX), ("other".into(), 1)]);
    }
}
