//! Destinations that are down: a fact with a row of its own, which charges no message.
//!
//! While the row is there, mail for the domains behind it wakes nobody before the time that their
//! alarms were given; when the destination is found to be up, the row goes and the alarms are lifted.

use std::hash::{DefaultHasher, Hash, Hasher};

use bytes::Bytes;

use crate::clock::Timestamp;
use crate::mail::Domain;
use crate::store::{Batch, Curfew, Op, Reader, StoreError, curfew_key};

/// A longer name of a site is cut, and a hash of the whole set behind it.
const NAME_MAX_OCTETS: usize = 512;
/// Alarms lifted in one batch.
const LIFTED_PER_BATCH: usize = 500;
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
        let Some(row) = reader.get(&curfew_key(&self.0))? else { return Ok(None) };
        // a row of another form says as much as none: it is found out anew
        let octets = row.value.strip_prefix(&[VERSION]);
        let read: Option<(u64, u64, u32)> = octets.and_then(|octets| postcard::from_bytes(octets).ok());
        let rest = |(until, since, failures)| Rest {
            until: Timestamp::from_millis(until),
            since: Timestamp::from_millis(since),
            failures,
        };
        Ok(read.map(rest))
    }

    /// Lets alarms ring that kept silent while it was down; false where there are none. Blocking.
    pub fn lift(&self, reader: &Reader, batch: &mut Batch, now: Timestamp) -> Result<bool, StoreError> {
        let names = reader.alarms_under(&self.0, LIFTED_PER_BATCH)?;
        let found = !names.is_empty();
        for name in names {
            batch.push(Op::AlarmLift { name, curfew: self.0.clone(), at: now });
        }
        Ok(found)
    }
}
