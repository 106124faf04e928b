//! The words that every room speaks: addresses, envelopes, replies, ids.
//!
//! Owns values that cannot be wrong once parsed: a [`Domain`] is always a lower-case A-label name or
//! an address literal, an [`Address`] always fits RFC 5321's limits. Promises no I/O, no clock, no
//! knowledge of storage formats. Never serialises itself: records on disk are types of their own.

mod address;
mod date;
mod domain;
mod envelope;
mod id;
mod notification;
mod outcome;
mod reply;
mod verdict;

pub use address::{Address, AddressError, LOCAL_PART_MAX_OCTETS, PATH_MAX_OCTETS, ReversePath};
pub use date::rfc5322_date;
pub use domain::{DOMAIN_MAX_OCTETS, Domain, DomainError};
pub use envelope::{BodyKind, Class, ClientName, Envelope, Recipient, TlsWish};
pub use id::{MessageId, MessageIds};
pub use notification::{Notify, Return, Xtext};
pub use outcome::{Outcome, OutcomeSink};
pub use reply::{EnhancedStatus, Reply, Severity};
pub use verdict::{Scope, Stage, Verdict};
