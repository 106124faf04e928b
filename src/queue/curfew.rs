//! Destinations that are down: a fact with a row of its own, which charges no message.
//!
//! While the row is there, mail for the domains behind it wakes nobody before the time that their
//! alarms were given; when the destination is found to be up, the row goes and the alarms are lifted.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Bound;

use bytes::Bytes;

use crate::clock::Timestamp;
use crate::mail::Domain;
use crate::store::{Batch, Curfew, Key, Op, Reader, StoreError, curfew_key};

/// A longer name of a site is cut, and a hash of the whole set behind it.
const NAME_MAX_OCTETS: usize = 512;
/// Alarms lifted in one batch.
const LIFTED_PER_BATCH: usize = 500;
/// What the names of receivers begin with that block all mail.
const BLOCKS: &[u8] = b"rb";
/// The first octet of a row in this form.
const VERSION: u8 = 1;

/// Something that mail waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination(Bytes);

/// How long a destination that is down is left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rest {
    /// When it is looked at again.
    pub until: Timestamp,
    /// Since when this rest lasts.
    pub since: Timestamp,
    /// How often in a row it was found to be down.
    pub failures: u32,
}

impl Rest {
    /// A row of another form says as much as none: it is found out anew.
    fn read(value: &[u8]) -> Option<Self> {
        let (until, since, failures) = postcard::from_bytes(value.strip_prefix(&[VERSION])?).ok()?;
        let (until, since) = (Timestamp::from_millis(until), Timestamp::from_millis(since));
        Some(Rest { until, since, failures })
    }
}

/// Rows of sites (true) or of names in the DNS, behind the one named, and how many of them rest at a time.
pub(super) fn resting(
    reader: &Reader,
    (is_site, now): (bool, Timestamp),
    after: Option<&Key>,
    limit: usize,
) -> Result<(u64, Option<Key>), StoreError> {
    let first = curfew_key(if is_site { b"s" } else { b"d" });
    let mut end = first.clone();
    end.push(0xff);
    let rows = reader.scan(Bound::Excluded(after.map_or(&first[..], |key| &key[..])), &end, limit)?;
    let rests = |value: &[u8]| Rest::read(value).is_some_and(|rest| rest.until > now);
    let count = rows.iter().filter(|(_, row)| rests(&row.value)).count();
    Ok((count as u64, rows.into_iter().last().map(|(key, _)| key)))
}

impl Destination {
    /// A set of mail hosts, by its name.
    pub fn site(name: &str) -> Self {
        let name = match name.get(..NAME_MAX_OCTETS) {
            Some(beginning) => {
                // should a later compiler hash differently, a rest is forgotten, and nothing else
                let mut hasher = DefaultHasher::new();
                name.hash(&mut hasher);
                format!("s{beginning}#{:016x}", hasher.finish())
            }
            None => format!("s{name}"),
        };
        Destination(name.into())
    }

    /// The name of a domain in the DNS.
    pub fn domain(domain: &Domain) -> Self {
        Destination(format!("d{}", domain.as_str()).into())
    }

    /// A receiver that keeps mail away for a while.
    pub fn pausing(name: &str) -> Self {
        Destination(format!("rp{name}").into())
    }

    /// A receiver that blocks all mail: known until somebody notes that it is open, however long that is.
    pub fn blocking(name: &str) -> Self {
        Destination([BLOCKS, name.as_bytes()].concat().into())
    }

    /// All of the one kind or the other, by their names; up to `limit`. Blocking.
    pub fn receivers(
        reader: &Reader,
        are_blocking: bool,
        limit: usize,
    ) -> Result<Vec<(Box<str>, Rest)>, StoreError> {
        let first = if are_blocking { curfew_key(BLOCKS) } else { curfew_key(b"rp") };
        let mut end = first.clone();
        end.push(0xff);
        let rows = reader.scan(Bound::Excluded(&first), &end, limit)?;
        let known = |(key, row): &(Key, crate::store::Row)| {
            let name = std::str::from_utf8(key.get(first.len()..)?).ok()?;
            Some((name.into(), Rest::read(&row.value)?))
        };
        Ok(rows.iter().filter_map(known).collect())
    }

    /// One with a name that others have no say in.
    pub(super) fn named(name: Bytes) -> Self {
        Destination(name)
    }

    /// Its name, short enough for a key.
    pub fn name(&self) -> &[u8] {
        &self.0
    }

    /// The curfew of the alarms of domains that wait for it.
    pub fn curfew(&self, until: Timestamp) -> Curfew {
        Curfew { name: self.0.clone(), until }
    }

    /// Notes that it is down.
    pub fn shut(&self, batch: &mut Batch, rest: &Rest) {
        // growing a Vec is all that this can fail at
        let row = (rest.until.as_millis(), rest.since.as_millis(), rest.failures);
        let value = postcard::to_extend(&row, vec![VERSION]).unwrap_or_default();
        batch.put(curfew_key(&self.0), value);
    }

    /// Notes that it is up, or that nothing is known.
    pub fn open(&self, batch: &mut Batch) {
        batch.delete(curfew_key(&self.0));
    }

    /// What is known of it; nothing where it is not known to be down. Blocking: for a reader thread.
    pub fn rest(&self, reader: &Reader) -> Result<Option<Rest>, StoreError> {
        Ok(reader.get(&curfew_key(&self.0))?.and_then(|row| Rest::read(&row.value)))
    }

    /// Forgets destinations that nobody waits for and that were last looked at before `before`: up to
    /// `limit` rows are read behind the one named; gives the last of them, or nothing at the end. Blocking.
    pub fn forget_old(
        reader: &Reader,
        batch: &mut Batch,
        before: Timestamp,
        after: Option<Key>,
        limit: usize,
    ) -> Result<Option<Key>, StoreError> {
        let (start, mut end) = (curfew_key(b""), curfew_key(b""));
        end.extend_from_slice(&[0xff]);
        let rows = reader.scan(Bound::Excluded(after.as_deref().unwrap_or(&start)), &end, limit)?;
        for (key, _) in &rows {
            let destination = Destination(Bytes::copy_from_slice(&key[start.len()..]));
            if destination.0.starts_with(BLOCKS) {
                continue;
            }
            let is_old = destination.rest(reader)?.is_none_or(|rest| rest.until < before);
            if is_old && reader.alarms_under(&destination.0, 1)?.is_empty() {
                destination.open(batch);
            }
        }
        Ok(rows.last().map(|(key, _)| key.clone()))
    }

    /// Lets alarms ring that kept silent while it was down; false where there are none, or where it is
    /// down again. Blocking.
    pub fn lift(&self, reader: &Reader, batch: &mut Batch, now: Timestamp) -> Result<bool, StoreError> {
        if self.rest(reader)?.is_some() {
            return Ok(false);
        }
        let names = reader.alarms_under(&self.0, LIFTED_PER_BATCH)?;
        let found = !names.is_empty();
        for name in names {
            batch.push(Op::AlarmLift { name, curfew: self.0.clone(), at: now });
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::clock::Clock;
    use crate::store::{LossyDisk, MemoryIndex, MemoryLog, Store, WriterSettings};

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    #[tokio::test]
    async fn what_is_down_is_known_until_it_is_up_or_nobody_waits_for_it() {
        let (log, disk, index) = (MemoryLog::new(), LossyDisk::new(), MemoryIndex::new());
        let parts = (Box::new(log), Arc::new(disk), Arc::new(index));
        let settings = WriterSettings::default();
        let opened = Store::open_on(parts.0, parts.1, parts.2, settings, Clock::System, Box::new(|_| {}));
        let store = opened.expect("opens").0;
        let (awaited, left) = (Destination::site(&"mx.example,".repeat(99)), Destination::site("mx.example"));
        let rest = Rest { until: at(90), since: at(9), failures: 3 };
        let mut batch = Batch::new();
        awaited.shut(&mut batch, &rest);
        left.shut(&mut batch, &rest);
        let under = Some(awaited.curfew(at(90)));
        let name = Bytes::from_static(b"d.example");
        batch.push(Op::AlarmMove { name, seen: u64::MAX, to: Some(at(5)), under });
        store.commit(batch).await.expect("commits");
        assert_eq!(left.rest(store.reader()).expect("reads"), Some(rest));
        for before in [90, 91] {
            let mut batch = Batch::new();
            let last =
                Destination::forget_old(store.reader(), &mut batch, at(before), None, 9).expect("reads");
            assert_eq!(
                Destination::forget_old(store.reader(), &mut batch, at(before), last, 9).ok(),
                Some(None)
            );
            store.commit(batch).await.expect("commits");
        }
        assert_eq!(left.rest(store.reader()).expect("reads"), None);
        assert_eq!(awaited.rest(store.reader()).expect("reads"), Some(rest), "mail waits for it");
        let mut batch = Batch::new();
        assert!(!awaited.lift(store.reader(), &mut batch, at(7)).expect("reads"), "it is down");
        awaited.open(&mut batch);
        store.commit(batch).await.expect("commits");
        let mut batch = Batch::new();
        assert!(awaited.lift(store.reader(), &mut batch, at(7)).expect("reads"));
        store.commit(batch).await.expect("commits");
        assert_eq!(store.reader().alarms(Timestamp::MAX, None, 9).expect("reads")[0].0, at(7));
    }
}
