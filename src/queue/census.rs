//! How much waits or is held for whom, by the counters beside the rows.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Bound;

use super::keys;
use crate::mail::{ClientName, Domain};
use crate::store::{Reader, StoreError};

/// Counters read at a time.
const SCAN_ROWS: usize = 512;
/// Clients that are told apart; the configuration knows fewer.
const CLIENTS_MAX: usize = 10_000;

/// How many copies are in the queue for a domain.
pub fn count_of_domain(reader: &Reader, domain: &Domain) -> Result<u64, StoreError> {
    reader.count(&keys::domain_count(domain))
}

/// The domains with the most copies, at most `limit` of them, and how many there are in all. Blocking, and as
/// long as the list of domains; its memory is that of what it gives.
pub fn largest_domains(reader: &Reader, limit: usize) -> Result<(Vec<(Domain, u64)>, u64), StoreError> {
    let mut largest = BinaryHeap::new();
    let mut all = 0;
    each(reader, keys::DOMAIN_COUNTS, &mut |name, count| {
        all += 1;
        if let Ok(domain) = Domain::parse(name) {
            largest.push(Reverse((count, Reverse(domain.as_str().to_owned()))));
        }
        if largest.len() > limit {
            largest.pop();
        }
        true
    })?;
    let ordered = largest.into_sorted_vec().into_iter();
    let parsed =
        ordered.filter_map(|Reverse((count, Reverse(name)))| Some((Domain::parse(&name).ok()?, count)));
    Ok((parsed.collect(), all))
}

/// All clients that have copies in the queue, and how many.
pub fn clients(reader: &Reader) -> Result<Vec<(ClientName, u64)>, StoreError> {
    let mut clients = Vec::new();
    each(reader, keys::CLIENT_COUNTS, &mut |name, count| {
        clients.extend(ClientName::parse(name).map(|client| (client, count)));
        clients.len() < CLIENTS_MAX
    })?;
    Ok(clients)
}

/// Visits counters that are not zero, until `visit` has seen enough.
fn each(reader: &Reader, prefix: &[u8], visit: &mut dyn FnMut(&str, u64) -> bool) -> Result<(), StoreError> {
    let (mut from, mut end) = (prefix.to_vec(), prefix.to_vec());
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    loop {
        let rows = reader.scan(Bound::Excluded(&from), &end, SCAN_ROWS)?;
        let Some((last, _)) = rows.last() else { return Ok(()) };
        from = last.to_vec();
        for (key, row) in &rows {
            let count = row.value[..].try_into().map_or(0, u64::from_le_bytes);
            let name = std::str::from_utf8(&key[prefix.len()..]).unwrap_or_default();
            if count > 0 && !visit(name, count) {
                return Ok(());
            }
        }
    }
}
