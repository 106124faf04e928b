//! Leases: which copies are being tried right now.
//!
//! A plain table outside all actors. A lease ends when its guard is dropped, on whatever way, a panic
//! included; so a dead actor or task strands nothing. The guard of a settled copy is dropped only when
//! its settlement is visible, so nobody can be handed a copy that was just delivered.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use crate::mail::MessageId;

/// The table. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Leases(Arc<Mutex<HashSet<MessageId>>>);

/// The right to try one copy.
#[derive(Debug)]
pub struct Lease {
    leases: Leases,
    id: MessageId,
}

impl Leases {
    /// A lease, unless somebody has it.
    pub fn take(&self, id: MessageId) -> Option<Lease> {
        let is_free = self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
        is_free.then(|| Lease { leases: self.clone(), id })
    }

    /// Whether somebody has it.
    pub fn holds(&self, id: MessageId) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(&id)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.leases.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_given_once_until_it_is_dropped() {
        let leases = Leases::default();
        let id = MessageId::from_u64(1);
        let lease = leases.take(id);
        assert!(lease.is_some() && leases.take(id).is_none());
        drop(lease);
        assert!(leases.take(id).is_some());
    }

    #[test]
    fn a_panic_ends_its_leases() {
        let leases = Leases::default();
        let id = MessageId::from_u64(1);
        let inside = leases.clone();
        let task = std::thread::spawn(move || {
            let _lease = inside.take(id);
            panic!("as planned");
        });
        assert!(task.join().is_err());
        assert!(leases.take(id).is_some());
    }
}
