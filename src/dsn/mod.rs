//! Delivery status notifications, and what the replies mean that lead to them.
//!
//! Owns what a refusal is taken to mean, by rules that are data; and the form of reports (RFC 3464), those that are
//! written and those that come back. Promises clean CRLF lines and nothing of a stranger's text that could break a header; and that nothing a stranger
//! returns makes it panic, wait or grow. Never decides whether a report is owed, nor whether one that came
//! back is to be believed.

mod classify;
mod compose;
mod greylist;
mod quoted;
mod returned;

pub use classify::{
    Book, BookError, Classifier, Concern, Firing, Judgement, Meaning, Receiver, Remedy, Rule,
};
pub use compose::{Action, Entry, GIVEN_BACK_MAX_OCTETS, HEADERS_MAX_OCTETS, Report, compose};
pub use greylist::{greylisted_for, named_wait};
pub use returned::{
    Bounce, RECIPIENTS_MAX, RETURNED_MAX_OCTETS, ReportedAction, ReportedRecipient, Returned, parse_returned,
};
