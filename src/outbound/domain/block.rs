//! Why nothing goes to a domain now.

use crate::clock::Timestamp;

/// Why nothing goes now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) until: Timestamp,
    pub(super) by: Blocker,
}

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Blocker {
    /// The path, which is down.
    Path,
    /// The receiver, which wants nothing for a while.
    Receiver,
    /// The name, which gave no route so often in a row.
    Name { failures: u32 },
    /// Others, who wait for the path's first session.
    Crowd,
    /// Ourselves, after a fault.
    Fault,
    /// An operator.
    Order,
}

impl Blocker {
    /// In words.
    pub(super) fn reason(self) -> &'static str {
        match self {
            Blocker::Path => "the destination is down",
            Blocker::Receiver => "the receiver wants nothing for a while",
            Blocker::Name { .. } => "the DNS gives no way to it",
            Blocker::Crowd => "it is not known yet whether the destination is up",
            Blocker::Fault => "a fault of our own",
            Blocker::Order => "an operator stopped it",
        }
    }

    /// Whether another way may be free of it.
    pub(super) fn is_of_way(self) -> bool {
        match self {
            Blocker::Path | Blocker::Receiver | Blocker::Name { .. } | Blocker::Crowd => true,
            Blocker::Fault | Blocker::Order => false,
        }
    }

    /// Whether the alarm keeps silent for as long: its end is told by a curfew that is lifted.
    pub(super) fn silences_alarm(self) -> bool {
        match self {
            Blocker::Path | Blocker::Receiver | Blocker::Order => true,
            Blocker::Name { .. } | Blocker::Crowd | Blocker::Fault => false,
        }
    }
}
