//! How we stand with those whom mail is sent to: how much they take at once, who keeps us away now, and until when.
//!
//! Owns what a receiver's refusals mean for all other mail on the way to it: the rate and the number of connections that
//! are found out, and closures. Promises that a refusal slows or closes no more than the way it was said on, that a time
//! ends every closure, and that nothing snaps back; never decides about the message that was refused (that is settled
//! where it was sent from), and reads no clock and no store.

mod learned;
mod rate;
mod standing;
mod window;

pub use learned::{Learned, Notes};
pub use rate::{Found, Rate};
pub use standing::{Closed, Closure, Heard, PAUSE, Receiver, Standings};
pub use window::Window;
