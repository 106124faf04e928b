//! How we stand with those whom mail is sent to: who keeps us away now, and until when.
//!
//! Owns what a receiver's refusals mean for all other mail on the way to it. Promises that a refusal closes no more
//! than the way it was said on, and that a time ends every closure; never decides about the message that was refused
//! (that is settled where it was sent from), and reads no clock and no store.

mod standing;

pub use standing::{Closed, Closure, Heard, Receiver, Standings, UNKNOWN};
