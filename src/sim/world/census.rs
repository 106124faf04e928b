//! The counters of the queue against the queue itself.

use super::*;
use crate::queue::{Census, Filter, Queued, Walk, WalkOrder};
use crate::store::Reader;

/// An age is counted in steps of this.
const STEP: Duration = Duration::from_millis(1 << 14);

/// Rows looked at in one piece.
const PIECE: usize = 500;

/// All copies that wait or are held.
pub(super) fn all(reader: &Reader) -> Result<Vec<Queued>, StoreError> {
    let mut walk = Walk::new(reader, Filter::default(), WalkOrder::Any)?;
    let mut all = Vec::new();
    while !walk.is_over() {
        all.extend(walk.piece(reader, PIECE)?);
    }
    Ok(all)
}

/// What the counters have wrong about these copies, which are all there are; nothing where they do not read.
pub(super) fn miscount(reader: &Reader, queued: &[Queued]) -> Option<String> {
    let mut census = Census::begin(Timestamp::ZERO);
    while !census.is_done() {
        census = census.go_on(reader).ok()?;
    }
    let held: u64 = census.held.values().sum();
    let are_held = queued.iter().filter(|queued| queued.held().is_some()).count();
    if held != are_held as u64 {
        return Some(format!("{held} are counted as held, and {are_held} are"));
    }
    for class in Class::ALL {
        let of_class =
            || queued.iter().filter(|queued| queued.envelope.class == class && queued.held().is_none());
        let counted = census.waiting.get(&class).copied().unwrap_or_default();
        if counted.copies != of_class().count() as u64 {
            return Some(format!("{counted:?} of {class:?}; there are {}", of_class().count()));
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
