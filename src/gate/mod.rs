//! The only way in: a message is stamped, split by domain and made durable, all in one batch.
//!
//! Owns what happens between "go ahead" and 250. Promises that [`Draft::commit`] returns only when
//! envelope and body are on the disk; that a message of any size takes a bounded piece of memory; that
//! a draft given up leaves nothing. Never decides who may send.

mod draft;
mod header;
mod stamp;

pub use draft::{Accepted, Draft, Gate, GateError, GateSettings, Mail};
pub use stamp::Origin;
