//! The counters of the queue against the queue itself.

use super::*;
use crate::queue::{Census, Queued};
use crate::store::Reader;

/// An age is counted in steps of this.
const STEP: Duration = Duration::from_millis(1 << 14);

/// What the counters have wrong about these copies, which are all there are; nothing where they do not read.
pub(super) fn miscount(reader: &Reader, queued: &[Queued]) -> Option<String> {
    let mut census = Census::begin(Timestamp::ZERO);
    while !census.is_done() {
        census = census.go_on(reader).ok()?;
    }
    let held: u64 = census.held.values().sum();
    for class in Class::ALL {
        let of_class = || queued.iter().filter(|queued| queued.envelope.class == class);
        let counted = census.waiting.get(&class).copied().unwrap_or_default();
        // none is held in these worlds, where nothing is damaged
        if counted.copies != of_class().count() as u64 || held > 0 {
            return Some(format!("{counted:?} of {class:?}, {held} held; there are {}", of_class().count()));
        }
        let oldest = of_class().map(|queued| queued.envelope.arrived).min();
        let is_right =
            |(counted, arrived): (Timestamp, Timestamp)| arrived < counted && counted.since(arrived) <= STEP;
        if counted.oldest.is_some() != oldest.is_some() || !counted.oldest.zip(oldest).is_none_or(is_right) {
            return Some(format!("the oldest of {class:?} is of {:?}, not {oldest:?}", counted.oldest));
        }
    }
    None
}
