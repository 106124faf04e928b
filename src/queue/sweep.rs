//! Going through what is due for a domain without trying it.

use std::collections::BTreeSet;

use super::lease::Leases;
use super::orders::OrderSet;
use super::page::{Chunk, Page};
use super::turns::sub_lines;
use super::{Queued, keys};
use crate::clock::Timestamp;
use crate::mail::Domain;
use crate::store::{Key, Reader, StoreError};

/// Visits what is due for a domain, not stopped by an order, and satisfies `is_wanted`, up to `copies_max` in
/// each piece, and leases it. What came later expires later: behind a piece without any there is seldom one in
/// the sub-line, and it is left unless the sweep is a thorough one.
pub fn sweep_piece(
    reader: &Reader,
    leases: &Leases,
    (domain, now, orders): (&Domain, Timestamp, &OrderSet),
    place: &mut SweepPlace,
    (copies_max, is_wanted): (usize, &dyn Fn(&Queued) -> bool),
) -> Result<Option<Page>, StoreError> {
    for line in sub_lines(reader, domain)? {
        let client = keys::client_of(&line.lane);
        let is_stopped = client.is_some_and(|client| orders.stops(domain, &client, now));
        if is_stopped || place.done.contains(&line.lane) {
            continue;
        }
        let mut page = Page::default();
        let chunk = Chunk {
            domain,
            lane: &line.lane,
            now,
            flushed: None,
            short: None,
            after: place.after.take(),
            copies_max,
        };
        let after = chunk.read(reader, leases, &mut page)?;
        page.leased.retain(|leased| is_wanted(&leased.queued));
        match after {
            Some(after) if place.is_thorough || !page.leased.is_empty() => place.after = Some(after),
            _ => _ = place.done.insert(line.lane),
        }
        return Ok(Some(page));
    }
    Ok(None)
}

/// How far a sweep has come.
#[derive(Clone, Debug, Default)]
pub struct SweepPlace {
    is_thorough: bool,
    done: BTreeSet<Box<[u8]>>,
    after: Option<Key>,
}

impl SweepPlace {
    /// Before everything. A thorough sweep sees all that is due.
    pub fn new(is_thorough: bool) -> Self {
        SweepPlace { is_thorough, ..SweepPlace::default() }
    }
}
