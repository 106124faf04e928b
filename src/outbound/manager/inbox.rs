//! Alarms on their way from the store's writer to the manager.
//!
//! The writer must not wait, and a mailbox is no bound: so alarms gather here by domain, and at most
//! one note is under way. Where too many domains gather, they are forgotten here, as the index knows
//! them all.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use crate::clock::Timestamp;
use crate::mail::Domain;
use crate::queue;
use crate::store::Rung;

/// Domains that may gather.
const DOMAINS_MAX: usize = 10_000;

/// The inbox. Clones share it.
#[derive(Clone, Default)]
pub struct AlarmInbox(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    alarms: BTreeMap<Bytes, (Timestamp, bool)>,
    overflown: bool,
    noted: bool,
    note: Option<Box<dyn Fn() + Send>>,
}

/// What gathered.
#[derive(Debug, Default)]
pub(super) struct Alarms {
    pub(super) domains: Vec<(Domain, Timestamp, bool)>,
    /// Whether more gathered than there was room for.
    pub(super) overflown: bool,
}

impl AlarmInbox {
    /// Takes alarms from the writer.
    pub fn put(&self, alarms: &[Rung]) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for Rung { name, at, is_urgent } in alarms {
            if let Some(known) = state.alarms.get_mut(name) {
                *known = (known.0.min(*at), known.1 || *is_urgent);
            } else if state.alarms.len() < DOMAINS_MAX {
                state.alarms.insert(name.clone(), (*at, *is_urgent));
            } else {
                state.overflown = true;
            }
        }
        if !state.noted
            && let Some(note) = &state.note
        {
            note();
            state.noted = true;
        }
    }

    /// Whom to tell that there is something.
    pub(super) fn tell(&self, note: Box<dyn Fn() + Send>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).note = Some(note);
    }

    /// Empties it.
    pub(super) fn take(&self) -> Alarms {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.noted = false;
        let overflown = std::mem::take(&mut state.overflown);
        let alarms = std::mem::take(&mut state.alarms);
        drop(state);
        let told = |(name, (at, is_urgent)): (Bytes, _)| Some((queue::alarm_domain(&name)?, at, is_urgent));
        let domains = alarms.into_iter().filter_map(told);
        Alarms { domains: domains.collect(), overflown }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn alarms_gather_under_one_note_and_the_earliest_counts() {
        let inbox = AlarmInbox::default();
        let notes = Arc::new(AtomicUsize::new(0));
        let counted = notes.clone();
        inbox.tell(Box::new(move || _ = counted.fetch_add(1, Ordering::SeqCst)));
        let alarm = |at| Rung {
            name: Bytes::from_static(b"a.example"),
            at: Timestamp::from_millis(at),
            is_urgent: at == 7,
        };
        inbox.put(&[alarm(9)]);
        inbox.put(&[alarm(5), alarm(7)]);
        assert_eq!(notes.load(Ordering::SeqCst), 1);
        let alarms = inbox.take();
        let domain = Domain::parse("a.example").expect("a domain");
        assert_eq!(alarms.domains, [(domain, Timestamp::from_millis(5), true)]);
        inbox.put(&[alarm(1)]);
        assert_eq!(notes.load(Ordering::SeqCst), 2);
    }
}
