//! Delivery status notifications: the mail that tells a sender what became of theirs.
//!
//! Owns the form of reports (RFC 3464). Promises clean CRLF lines and nothing of a stranger's text
//! that could break a header. Never decides whether a report is owed.

mod compose;
mod greylist;

pub use compose::{Action, Entry, HEADERS_MAX_OCTETS, RETURNED_MAX_OCTETS, Report, compose};
pub use greylist::greylisted_for;
