//! Who may hand mail over, and which domains they may send from.
//!
//! Owns the list of clients. Promises that an address belongs to at most one client, the one with the
//! narrowest network, and that nobody relays who is on no list. Never looks at a message.

mod allowance;
mod client;

pub use allowance::Allowance;
pub use client::{Client, Clients, DomainPattern};
