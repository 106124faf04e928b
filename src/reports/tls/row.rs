//! What is kept of a domain's day until it was reported: a row `rt<day><domain>`.

use std::ops::Bound;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::mail::Domain;
use crate::store::{Key, Reader, StoreError};
use crate::transport::{Day, DomainCounts};

const PREFIX: &[u8] = b"rt";
const PREFIX_END: &[u8] = b"ru";
const VERSION: u8 = 1;
/// Reports go out between these after midnight, each at a time of its own (RFC 8460 4.1): by then the day's last counts
/// have been written down.
const SPREAD: [Duration; 2] = [Duration::from_secs(600), Duration::from_secs(4 * 3600)];
/// What is so old is of no more use, though it was never tried.
const OF_USE_FOR: Duration = Duration::from_secs(3 * 86_400);
/// And are tried for so long (RFC 8460 5.5).
const TRIED_FOR: Duration = Duration::from_secs(86_400);
/// The first wait after a failure; each is twice as long as the one before.
const FIRST_WAIT: Duration = Duration::from_secs(300);
const WAIT_MAX: Duration = Duration::from_secs(4 * 3600);

/// A domain's day.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Row {
    /// When the report is due first, in milliseconds since 1970.
    due: u64,
    /// When it is tried next.
    next: u64,
    tries: u32,
    /// Addresses that have it.
    pub(super) told: Vec<String>,
    /// What it says.
    pub(super) counts: DomainCounts,
}

impl Row {
    /// An empty one, due some time after the day.
    pub(super) fn of(day: Day) -> Self {
        let [first, last] = SPREAD.map(|time| day.end().after(time).as_millis());
        let due = fastrand::u64(first..last);
        Row { due, next: due, tries: 0, told: Vec::new(), counts: DomainCounts::default() }
    }

    /// When it is tried next.
    pub(super) fn next(&self) -> Timestamp {
        Timestamp::from_millis(self.next)
    }

    /// Whether it is too late for it. What was due while the relay was down is tried all the same, for a while.
    pub(super) fn is_over(&self, day: Day, now: Timestamp) -> bool {
        let was_tried = self.tries > 0 && now.since(Timestamp::from_millis(self.due)) > TRIED_FOR;
        was_tried || now.since(day.end()) > OF_USE_FOR
    }

    /// It failed, and is tried again later.
    pub(super) fn put_off(&mut self, now: Timestamp) {
        if self.tries == 0 {
            // one that comes late is tried as long as one in time
            self.due = self.due.max(now.as_millis());
        }
        let wait = FIRST_WAIT.saturating_mul(1 << self.tries.min(10)).min(WAIT_MAX);
        self.tries += 1;
        self.next = now.after(wait).as_millis();
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        // what is made of numbers and texts alone can be written
        postcard::to_extend(self, vec![VERSION]).unwrap_or_default()
    }

    fn decode(value: &[u8]) -> Result<Self, StoreError> {
        let read = value.strip_prefix(&[VERSION]).and_then(|rest| postcard::from_bytes(rest).ok());
        read.ok_or_else(|| StoreError::Damaged("a tally of sessions cannot be read".into()))
    }
}

pub(super) fn key(day: Day, domain: &Domain) -> Key {
    [PREFIX, &day.number().to_be_bytes(), domain.as_str().as_bytes()].concat().into()
}

fn of_key(key: &[u8]) -> Option<(Day, Domain)> {
    let (day, domain) = key.strip_prefix(PREFIX)?.split_at_checked(4)?;
    let day = Day::from_number(u32::from_be_bytes(day.try_into().ok()?));
    Some((day, Domain::parse(std::str::from_utf8(domain).ok()?).ok()?))
}

/// The row of a domain's day, where there is one. One that cannot be read is none: nothing can be told of it.
pub(super) fn find(reader: &Reader, day: Day, domain: &Domain) -> Result<Option<Row>, StoreError> {
    match reader.get(&key(day, domain)) {
        Ok(row) => Ok(row.and_then(|row| Row::decode(&row.value).ok())),
        Err(StoreError::Damaged(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// One of all rows.
pub(super) type Found = ((Day, Domain), Result<Row, StoreError>);

/// Up to `limit` rows behind a key, in order of days; those before a day where one is named. None where there are no
/// more.
pub(super) fn page(
    reader: &Reader,
    behind: Option<&[u8]>,
    before: Option<Day>,
    limit: usize,
) -> Result<Vec<Found>, StoreError> {
    let from = behind.map_or(Bound::Included(PREFIX), Bound::Excluded);
    let to = before.map_or(PREFIX_END.to_vec(), |day| [PREFIX, &day.number().to_be_bytes()].concat());
    let rows = reader.scan(from, &to, limit)?;
    let found = rows.iter().filter_map(|(key, row)| Some((of_key(key)?, Row::decode(&row.value))));
    Ok(found.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_due_in_the_hours_after_midnight_and_tried_for_a_day() {
        let day = Day::from_number(20_000);
        for _ in 0..100 {
            let row = Row::of(day);
            assert!(row.next() >= day.end().after(SPREAD[0]) && row.next() < day.end().after(SPREAD[1]));
        }
        let (mut row, mut tries) = (Row::of(day), 0);
        let first = row.next();
        while !row.is_over(day, row.next()) {
            let now = row.next();
            row.put_off(now);
            assert!(row.next() >= now.after(FIRST_WAIT));
            tries += 1;
        }
        assert!((8..20).contains(&tries), "{tries}");
        assert!(row.next().since(first) >= TRIED_FOR);
        assert!(!Row::of(day).is_over(day, first.after(TRIED_FOR * 2)), "it was never tried");
        assert!(Row::of(day).is_over(day, first.after(TRIED_FOR * 3)), "and is too old now");
    }

    #[test]
    fn rows_and_keys_come_back_as_they_were() {
        let (day, domain) = (Day::from_number(20_000), Domain::parse("example.org").expect("a name"));
        let mut row = Row::of(day);
        row.told.push("mailto:a@b.example".into());
        assert_eq!(Row::decode(&row.encode()).expect("is whole"), row);
        assert_eq!(of_key(&key(day, &domain)), Some((day, domain)));
        for damaged in [&[][..], &[VERSION], &[VERSION + 1, 0, 0, 0, 0, 0]] {
            assert!(Row::decode(damaged).is_err());
        }
    }
}
