//! What taking mail in counts.

use std::collections::BTreeMap;

use metrics::{Counter, Gauge, counter, gauge};

use crate::accounts::{Client, Clients};
use crate::observe::names;

/// Handles, looked up once.
pub(super) struct Meters {
    pub(super) connections: Counter,
    pub(super) open: Gauge,
    /// Messages and octets, by client.
    accepted: BTreeMap<Box<str>, (Counter, Counter)>,
}

impl Meters {
    pub(super) fn new(clients: &Clients) -> Self {
        let of = |client: &Client| {
            let name = client.name.as_str();
            let messages = counter!(names::ACCEPTED, "client" => name.to_owned());
            (name.into(), (messages, counter!(names::ACCEPTED_BYTES, "client" => name.to_owned())))
        };
        Meters {
            connections: counter!(names::CONNECTIONS, "role" => "relay"),
            open: gauge!(names::CONNECTIONS_OPEN, "role" => "relay"),
            accepted: clients.iter().map(of).collect(),
        }
    }

    /// A client's message was taken.
    pub(super) fn accepted(&self, client: &str, octets: u64) {
        if let Some((messages, all_octets)) = self.accepted.get(client) {
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
