//! The admin socket: `data_dir/admin.sock`, by which `barid` commands reach the relay that runs.
//!
//! Owns the socket, its requests and answers, and the record of what operators did. Promises that only who
//! may open the socket (0600) is heard; that what changes something is written to the record; that a long
//! listing keeps neither the relay nor its memory busy. Decides nothing about mail: that is done by the
//! rooms it asks.

pub(super) mod call;
mod cert;
mod domains;
pub(super) mod export;
pub(super) mod import;
mod pieces;
mod queue;
mod record;
mod server;
mod stats;
mod tlsrpt;
mod trace;
pub(super) mod wire;

pub(super) use queue::filter;
pub(super) use record::RecordBook;
pub(super) use server::{Control, start};

use crate::clock::Timestamp;

/// The socket, in the data directory.
pub(super) const SOCKET: &str = "admin.sock";

/// A failure of the store, in words.
fn store_error(error: crate::store::StoreError) -> String {
    format!("the store: {error}")
}

/// A time as people and programs read it (RFC 3339), in UTC; nothing for one that never comes.
pub(super) fn iso(at: Timestamp) -> Option<String> {
    let millis = i64::try_from(at.as_millis()).ok()?;
    Some(jiff::Timestamp::from_millisecond(millis).ok()?.to_string())
}
