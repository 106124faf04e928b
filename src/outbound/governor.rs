//! What was found out of how much destinations take: a provider's own rate, over all its sites; and the rows in which
//! that and the sites' outlast a restart.

use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Deps;
use crate::clock::Timestamp;
use crate::egress::{Learned, Notes, Rate};
use crate::queue::Destination;
use crate::store::{Batch, Haste, Key, Reader, StoreError};

/// What the keys of these rows begin with.
const PREFIX: &[u8] = b"g";
const PREFIX_END: &[u8] = b"h";

/// How fast a provider takes mail, over all its sites: found out like that of a site.
#[derive(Debug)]
pub(super) struct Governor {
    state: Mutex<State>,
    /// Messages that were ever sent there.
    sent: AtomicU64,
}

#[derive(Debug)]
struct State {
    rate: Rate,
    notes: Notes,
}

impl Governor {
    /// With a configured limit, a second.
    pub(super) fn new(cap: Option<f64>) -> Self {
        let state = State { rate: Rate::new(cap), notes: Notes::default() };
        Governor { state: Mutex::new(state), sent: AtomicU64::new(0) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another configured limit; how many messages a second may go.
    pub(super) fn limit(&self, cap: Option<f64>) -> Option<f64> {
        let mut state = self.state();
        state.rate.limit(cap);
        state.rate.per_second()
    }

    /// Goes on from what was found out before a restart; how many messages a second may go.
    fn recall(&self, now: Timestamp, learned: Learned) -> Option<f64> {
        let mut state = self.state();
        state.notes = Notes::of(now, learned);
        if let Some(found) = learned.rate {
            state.rate.recall(now, found);
        }
        state.rate.per_second()
    }

    /// Counts a message.
    pub(super) fn sent(&self) {
        self.sent.fetch_add(1, Ordering::Relaxed);
    }

    /// Messages a second that may go, and whether that was found out.
    pub(super) fn per_second(&self) -> (Option<f64>, bool) {
        let state = self.state();
        (state.rate.per_second(), state.rate.is_learned())
    }

    /// A message was refused for coming too fast.
    pub(super) fn throttled(&self, now: Timestamp) -> (Option<f64>, Option<Learned>) {
        self.change(now, |rate, sent| rate.refused(now, sent))
    }

    /// Time passes; whether messages wait for their time.
    pub(super) fn tick(&self, now: Timestamp, is_wanted: bool) -> (Option<f64>, Option<Learned>) {
        self.change(now, |rate, sent| rate.tick(now, sent, is_wanted))
    }

    /// How many messages a second may go then, and what is to be written down.
    fn change(&self, now: Timestamp, change: impl FnOnce(&mut Rate, u64)) -> (Option<f64>, Option<Learned>) {
        let mut state = self.state();
        change(&mut state.rate, self.sent.load(Ordering::Relaxed));
        let learned = Learned { rate: state.rate.found(), connections: None };
        (state.rate.per_second(), state.notes.due(now, learned, false))
    }
}

/// Where it is kept what a site takes.
pub(super) fn of_site(destination: &Destination) -> Key {
    [PREFIX, destination.name()].concat().into()
}

/// The same of a provider.
pub(super) fn of_provider(name: &str) -> Key {
    // no site's begins so
    [PREFIX, b"p", name.as_bytes()].concat().into()
}

/// What was found out of a destination.
pub(super) async fn recall(deps: &Deps, key: Key) -> Option<Learned> {
    let now = deps.clock.now();
    let known = deps.store.read(move |reader| read(reader, &key, now)).await;
    known.unwrap_or_else(|error| {
        tracing::error!(event = "learned_not_read", error = %error);
        None
    })
}

/// The same. Blocking.
fn read(reader: &Reader, key: &Key, now: Timestamp) -> Result<Option<Learned>, StoreError> {
    Ok(reader.get(key)?.and_then(|row| Learned::read(&row.value, now)))
}

/// What was found out of a provider, for its governor; how many messages a second may go. Blocking.
pub(super) fn recall_provider(
    reader: &Reader,
    (name, governor): (&str, &Governor),
    now: Timestamp,
) -> Result<Option<f64>, StoreError> {
    let learned = read(reader, &of_provider(name), now)?;
    Ok(learned.and_then(|learned| governor.recall(now, learned)))
}

/// Writes it down. Where that fails it is found out anew.
pub(super) async fn note(deps: &Deps, key: Key, learned: Learned) {
    let mut batch = Batch::new();
    if learned.is_anything() {
        batch.put(key, learned.write(deps.clock.now()));
    } else {
        batch.delete(key);
    }
    if let Err(error) = deps.store.submit(batch, Haste::Soon, Box::new(|_| {})).await {
        tracing::error!(event = "learned_not_noted", error = %error);
    }
}

/// Forgets what is too old to be gone by: up to `limit` rows are read behind the one named; gives the last of them, or
/// nothing at the end. Blocking.
pub(super) fn forget_old(
    reader: &Reader,
    batch: &mut Batch,
    now: Timestamp,
    after: Option<&Key>,
    limit: usize,
) -> Result<Option<Key>, StoreError> {
    let from = after.map_or(PREFIX, |key| &key[..]);
    let rows = reader.scan(Bound::Excluded(from), PREFIX_END, limit)?;
    let old = rows.iter().filter(|(_, row)| Learned::read(&row.value, now).is_none());
    old.for_each(|(key, _)| {
        batch.delete(key.clone());
    });
    Ok(rows.into_iter().last().map(|(key, _)| key))
}
