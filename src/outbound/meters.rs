//! What sending counts.

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

use crate::observe::names;

/// Handles, looked up once a session.
pub(super) struct Meters {
    pub(super) attempts: Counter,
    pub(super) delivered: Counter,
    pub(super) deferred: Counter,
    pub(super) bounced: Counter,
    pub(super) delivery_seconds: Histogram,
    pub(super) open: Gauge,
}

impl Default for Meters {
    fn default() -> Self {
        Meters {
            attempts: counter!(names::ATTEMPTS),
            delivered: counter!(names::DELIVERED),
            deferred: counter!(names::DEFERRED),
            bounced: counter!(names::BOUNCED),
            delivery_seconds: histogram!(names::DELIVERY_SECONDS),
            open: gauge!(names::REMOTE_CONNECTIONS_OPEN),
        }
    }
}

/// A connection that was tried, by how that went.
pub(super) fn connection(outcome: &'static str) {
    counter!(names::REMOTE_CONNECTIONS, "outcome" => outcome).increment(1);
}

/// The circuit breaker opened or closed for a kind of refusal.
pub(super) fn breaker(is_open: bool) {
    let open = gauge!(names::BREAKERS_OPEN);
    if is_open { open.increment(1.0) } else { open.decrement(1.0) }
}

/// A TLS handshake ended, with this version or not at all.
pub(super) fn handshake(result: &'static str) {
    counter!(names::TLS_HANDSHAKES, "direction" => "out", "result" => result).increment(1);
}
