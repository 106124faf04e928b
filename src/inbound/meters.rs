//! What taking mail in counts.

use std::collections::BTreeMap;
use std::fmt;

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

use crate::accounts::{Client, Clients};
use crate::mail::Class;
use crate::observe::names;

/// Handles, looked up once.
pub(super) struct Meters {
    pub(super) connections: Counter,
    pub(super) open: Gauge,
    pub(super) accept_seconds: Histogram,
}

impl Default for Meters {
    fn default() -> Self {
        Meters {
            connections: counter!(names::CONNECTIONS, "role" => "relay"),
            open: gauge!(names::CONNECTIONS_OPEN, "role" => "relay"),
            accept_seconds: histogram!(names::ACCEPT_SECONDS),
        }
    }
}

/// Messages and octets that were taken, by client.
pub(super) struct Accepted(BTreeMap<Box<str>, OfClient>);

/// What one client handed over.
struct OfClient {
    messages: BTreeMap<Class, Counter>,
    octets: Counter,
}

impl fmt::Debug for Accepted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl OfClient {
    /// Begins at zero for the class that all of a client's mail has, or for each where messages may say.
    fn new(client: &Client) -> Self {
        let name = client.name.as_str();
        let classes = Class::ALL.into_iter().filter(|class| client.class.is_none_or(|only| only == *class));
        let messages = |class: Class| {
            let count = counter!(names::ACCEPTED, "client" => name.to_owned(), "class" => class.as_str());
            (class, count)
        };
        OfClient {
            messages: classes.map(messages).collect(),
            octets: counter!(names::ACCEPTED_BYTES, "client" => name.to_owned()),
        }
    }
}

impl Accepted {
    pub(super) fn new(clients: &Clients) -> Self {
        let of = |client: &Client| (client.name.as_str().into(), OfClient::new(client));
        Accepted(clients.iter().map(of).collect())
    }

    /// A client's message was taken.
    pub(super) fn count(&self, client: &str, class: Class, octets: u64) {
        let Some(of) = self.0.get(client) else { return };
        of.octets.increment(octets);
        if let Some(messages) = of.messages.get(&class) {
            messages.increment(1);
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
