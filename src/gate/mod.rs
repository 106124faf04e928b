//! The only way in: a message is stamped, split by domain and made durable, all in one batch.
//!
//! Owns what happens between "go ahead" and 250. Promises that [`Draft::commit`] returns only when
//! envelope and body are on the disk; that a message of any size takes a bounded piece of memory; that
//! a draft given up leaves nothing; that mail for which there is a key is signed, or not taken. Never decides who
//! may send.

mod draft;
mod header;
mod signing;
mod stamp;

pub use draft::{Accepted, Draft, Gate, GateError, GateSettings, Mail};
pub use signing::{Signing, Unsigned};
pub use stamp::Origin;
