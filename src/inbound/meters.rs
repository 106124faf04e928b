//! What taking mail in counts.

use std::collections::BTreeMap;
use std::fmt;

use metrics::{Counter, Gauge, counter, gauge};

use crate::accounts::{Client, Clients};
use crate::observe::names;

/// Handles, looked up once.
pub(super) struct Meters {
    pub(super) connections: Counter,
    pub(super) open: Gauge,
}

impl Default for Meters {
    fn default() -> Self {
        Meters {
            connections: counter!(names::CONNECTIONS, "role" => "relay"),
            open: gauge!(names::CONNECTIONS_OPEN, "role" => "relay"),
        }
    }
}

/// Messages and octets that were taken, by client.
pub(super) struct Accepted(BTreeMap<Box<str>, (Counter, Counter)>);

impl fmt::Debug for Accepted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Accepted {
    pub(super) fn new(clients: &Clients) -> Self {
        let of = |client: &Client| {
            let name = client.name.as_str();
            let messages = counter!(names::ACCEPTED, "client" => name.to_owned());
            (name.into(), (messages, counter!(names::ACCEPTED_BYTES, "client" => name.to_owned())))
        };
        Accepted(clients.iter().map(of).collect())
    }

    /// A client's message was taken.
    pub(super) fn count(&self, client: &str, octets: u64) {
        if let Some((messages, all_octets)) = self.0.get(client) {
            messages.increment(1);
            all_octets.increment(octets);
        }
    }
}

/// A TLS handshake ended, with this version or not at all.
pub(super) fn handshake(result: &'static str) {
    counter!(names::TLS_HANDSHAKES, "direction" => "in", "result" => result).increment(1);
}

/// A refusal, by a reason from a closed list.
pub(super) fn refused(reason: &'static str) {
    counter!(names::REFUSED, "reason" => reason).increment(1);
}
