//! The world outside, made by hand: a DNS of maps, remote servers that misbehave on purpose, senders.
//!
//! Owns what demos and tests talk to in place of the real world. Promises that everything stays on
//! loopback and that misbehaviour is scripted, so that what must come of it can be said beforehand.
//! Never counts as a peer when interoperability is proven.

pub mod dns;
mod remote;
mod sender;
#[cfg(test)]
mod world;

pub use remote::{Arrivals, Behaviour, RemoteHost};
pub use sender::{Letter, SendError, Sender};
