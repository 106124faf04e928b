//! Planned faults, for tests: panics of actors, and defects planted to see that they would be noticed.
//! Outside tests there is nothing here.

#[cfg(test)]
use std::cell::Cell;
#[cfg(test)]
use std::collections::BTreeMap;
use std::fmt::Debug;
#[cfg(test)]
use std::sync::atomic::{AtomicU64, Ordering};
#[cfg(test)]
use std::sync::{Arc, Mutex, PoisonError};

/// Which events actors panic at: none, but in tests.
#[derive(Clone, Default)]
pub struct Faults {
    #[cfg(test)]
    reached: Arc<AtomicU64>,
    /// The event to panic at; none is planned at 0.
    #[cfg(test)]
    panics_at: u64,
    /// Or the how-manieth of which kind.
    #[cfg(test)]
    panics_at_kind: Option<(String, u64)>,
    /// How often each kind of event was reached, where that is counted.
    #[cfg(test)]
    kinds: Option<Arc<Mutex<BTreeMap<String, u64>>>>,
}

impl Faults {
    /// Panics at the event numbered `at`, from 1, once.
    #[cfg(test)]
    pub fn one(at: u64) -> Self {
        Faults { panics_at: at, ..Faults::default() }
    }

    /// Panics, besides, at the event of this kind numbered `at`, from 1.
    #[cfg(test)]
    pub fn and_at_kind(self, kind: &str, at: u64) -> Self {
        Faults { panics_at_kind: Some((kind.to_owned(), at)), ..self }.counting_kinds()
    }

    /// Counts kinds of events: slow, as each is written out for it.
    #[cfg(test)]
    pub fn counting_kinds(self) -> Self {
        Faults { kinds: Some(Arc::default()), ..self }
    }

    /// The kinds of events that actors have handled, and how often.
    #[cfg(test)]
    pub fn kinds(&self) -> BTreeMap<String, u64> {
        let kinds =
            self.kinds.iter().map(|kinds| kinds.lock().unwrap_or_else(PoisonError::into_inner).clone());
        kinds.flatten().collect()
    }

    /// How many events actors have handled.
    #[cfg(test)]
    pub fn reached(&self) -> u64 {
        self.reached.load(Ordering::SeqCst)
    }

    /// Whether the event to panic at was handled.
    #[cfg(test)]
    pub fn has_struck(&self) -> bool {
        self.panics_at > 0 && self.reached() >= self.panics_at
    }

    /// Whether that of the kind named was.
    #[cfg(test)]
    pub fn has_struck_kind(&self) -> bool {
        let at_kind = self.panics_at_kind.as_ref();
        at_kind.is_some_and(|(kind, at)| self.kinds().get(kind).is_some_and(|count| count >= at))
    }

    /// An actor is about to handle an event.
    #[cfg(not(test))]
    #[inline]
    pub(super) fn reach(&self, _actor: &str, _event: &dyn Debug) {}

    /// An actor is about to handle an event.
    #[cfg(test)]
    pub(super) fn reach(&self, actor: &str, event: &dyn Debug) {
        let number = self.reached.fetch_add(1, Ordering::SeqCst) + 1;
        let is_planned = self.kinds.as_ref().is_some_and(|kinds| self.is_planned(kinds, actor, event));
        if number == self.panics_at || is_planned {
            // not a panic!: that would print a trace for each of thousands
            std::panic::resume_unwind(Box::new("as planned"));
        }
    }

    /// Counts an event by its kind; whether it is the one to panic at.
    #[cfg(test)]
    fn is_planned(&self, kinds: &Mutex<BTreeMap<String, u64>>, actor: &str, event: &dyn Debug) -> bool {
        // a kind of event is the first word of what it looks like
        let event = format!("{event:?}");
        let kind =
            event.trim_matches('"').split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default();
        let kind = format!("{actor} {kind}");
        let mut kinds = kinds.lock().unwrap_or_else(PoisonError::into_inner);
        let count = kinds.entry(kind.clone()).or_default();
        *count += 1;
        self.panics_at_kind.as_ref() == Some(&(kind, *count))
    }
}

/// What may be planted, each against something that must always hold.
#[cfg(test)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Defect {
    /// What was heard of a delivery is not written.
    ForgetsResults,
    /// Connections need no place.
    IgnoresPlaces,
    /// An unreachable host costs an attempt.
    ChargesWaiting,
    /// An unreachable host is a verdict.
    BouncesOnOutage,
    /// That all mail of this source is blocked is a verdict on the message.
    BouncesOnBlock,
    /// Lines that begin with a dot are sent as they are.
    LeavesDots,
    /// Reports go to the null reverse-path, that is to whoever is named postmaster.
    ReportsToNobody,
    /// Decisions depend on more than state, event and time.
    ThrowsDice,
}

#[cfg(test)]
thread_local! {
    static PLANTED: Cell<Option<Defect>> = const { Cell::new(None) };
}

/// Plants a defect in everything that this thread runs.
#[cfg(test)]
pub fn plant(defect: Option<Defect>) {
    PLANTED.set(defect);
}

/// Whether it is planted here.
#[cfg(test)]
pub(super) fn has(defect: Defect) -> bool {
    PLANTED.get() == Some(defect)
}
