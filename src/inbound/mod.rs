//! Taking mail in: listeners, sessions, and who may do what.
//!
//! Owns the connections of clients. Promises that a client never waits for outbound work, that what it
//! may cost is limited by name, and that 250 after the content means durable. Never queues by itself:
//! everything goes through the gate.

mod connections;
mod listener;
mod meters;
mod patience;
mod proxied;
mod rules;
mod session;

pub use connections::{ConnectionLimits, Connections};
pub use listener::{Door, Inbound, Listener};
pub use patience::Patience;
pub use rules::Rules;
