//! Who has the most copies in the queue, by the counters beside the rows.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Bound;

use super::keys;
use crate::mail::{ClientName, Domain};
use crate::store::{Key, Reader, StoreError};

/// Counters read at a time.
const SCAN_ROWS: usize = 512;
/// Clients that are told apart; the configuration knows fewer.
const CLIENTS_MAX: usize = 10_000;

/// How many copies are in the queue for a domain.
pub fn count_of_domain(reader: &Reader, domain: &Domain) -> Result<u64, StoreError> {
    reader.count(&keys::domain_count(domain))
}

/// The domains with the most copies, found piece by piece.
#[derive(Debug)]
pub struct Largest {
    limit: usize,
    largest: BinaryHeap<Reverse<(u64, Reverse<String>)>>,
    all: u64,
    from: Option<Key>,
}

impl Largest {
    /// Before the first; at most `limit` of them are kept.
    pub fn new(limit: usize) -> Self {
        Largest { limit, largest: BinaryHeap::new(), all: 0, from: Some(keys::DOMAIN_COUNTS.into()) }
    }

    /// Looks at some more; false when all were seen. Blocking: for a reader thread.
    pub fn piece(&mut self, reader: &Reader) -> Result<bool, StoreError> {
        let Some(from) = self.from.take() else { return Ok(false) };
        let (counters, next) = counters(reader, keys::DOMAIN_COUNTS, &from)?;
        for (name, count) in counters {
            self.all += 1;
            self.largest.push(Reverse((count, Reverse(name))));
            if self.largest.len() > self.limit {
                self.largest.pop();
            }
        }
        self.from = next;
        Ok(self.from.is_some())
    }

    /// Those that were found, the largest first, and how many domains there are in all.
    pub fn finish(self) -> (Vec<(Domain, u64)>, u64) {
        let ordered = self.largest.into_sorted_vec().into_iter();
        let parsed =
            ordered.filter_map(|Reverse((count, Reverse(name)))| Some((Domain::parse(&name).ok()?, count)));
        (parsed.collect(), self.all)
    }
}

/// All clients that have copies in the queue, and how many.
pub fn clients(reader: &Reader) -> Result<Vec<(ClientName, u64)>, StoreError> {
    let (mut clients, mut from) = (Vec::new(), Some(Key::from(keys::CLIENT_COUNTS)));
    while let Some(at) = from.filter(|_| clients.len() < CLIENTS_MAX) {
        let (counters, next) = counters(reader, keys::CLIENT_COUNTS, &at)?;
        clients.extend(
            counters.into_iter().filter_map(|(name, count)| Some((ClientName::parse(&name)?, count))),
        );
        from = next;
    }
    Ok(clients)
}

/// Names, and their counters that are not zero.
type Counters = Vec<(String, u64)>;

/// Counters behind a key; where they go on, if they do.
fn counters(reader: &Reader, prefix: &[u8], from: &[u8]) -> Result<(Counters, Option<Key>), StoreError> {
    let mut end = prefix.to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    let rows = reader.scan(Bound::Excluded(from), &end, SCAN_ROWS)?;
    let counter = |(key, row): &(Key, crate::store::Row)| {
        let count = row.value[..].try_into().map_or(0, u64::from_le_bytes);
        let name = std::str::from_utf8(&key[prefix.len()..]).ok()?;
        (count > 0).then(|| (name.to_owned(), count))
    };
    Ok((rows.iter().filter_map(counter).collect(), rows.last().map(|(last, _)| last.clone())))
}
