//! How sessions went under TLS, told to the domains that ask for it (TLS-RPT, RFC 8460).
//!
//! ```text
//! Tally (memory) -> every half a minute, and at a stop: a row for each day and domain that asks
//!   -> after midnight and some hours: a report by mail (with the row's change in one batch), or by HTTPS
//! ```

mod json;
mod message;
mod reporter;
mod row;
mod rua;
mod sending;
#[cfg(test)]
mod tests;
mod writing;

pub use reporter::{ReportParts, ReportSettings, TlsReports, Waiting};
