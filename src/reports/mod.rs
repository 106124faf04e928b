//! Reports to others on how mail for them went.
//!
//! Owns what is kept for them between two starts, and their sending. Promises that a report is told once to each who
//! wants it, whatever ends in between, unless whoever takes it fails in the act; that nobody is told who does not ask;
//! and that reports lead to no reports. Never decides how mail goes.

mod tls;

pub use tls::{ReportParts, ReportSettings, TlsReports, Waiting};
