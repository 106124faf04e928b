//! What taking mail in counts.

use metrics::{Counter, Gauge, counter, gauge};

use crate::observe::names;

/// Handles, looked up once.
pub(super) struct Meters {
    pub(super) connections: Counter,
    pub(super) open: Gauge,
    pub(super) accepted: Counter,
    pub(super) accepted_octets: Counter,
}

impl Default for Meters {
    fn default() -> Self {
        Meters {
            connections: counter!(names::CONNECTIONS, "role" => "relay"),
            open: gauge!(names::CONNECTIONS_OPEN, "role" => "relay"),
            accepted: counter!(names::ACCEPTED),
            accepted_octets: counter!(names::ACCEPTED_BYTES),
        }
    }
}

/// A refusal, by a reason from a closed list.
pub(super) fn refused(reason: &'static str) {
    counter!(names::REFUSED, "reason" => reason).increment(1);
}
