//! What a refusal means: one engine, and rules that are data.
//!
//! ```text
//! Data (providers.toml: receivers, their rules; rules for all) -> Classifier
//!   reply, where it came, from which host -> Judgement (meaning, whom it concerns, what to do, by which rule)
//! ```
//!
//! The rules of the receiver that a host belongs to are tried first, then those for all; the first that matches counts.
//! Where none does, the reply's own digits say what can be known.

mod book;
mod classifier;
mod firing;
mod meaning;
mod rule;
#[cfg(test)]
mod tests;

pub use book::{Book, BookError, Receiver};
pub use classifier::{Classifier, Judgement};
pub use firing::Firing;
pub use meaning::{Concern, Meaning, Remedy};
pub use rule::Rule;
