//! What the relay shows of itself: metrics, the log, health.
//!
//! Owns the names of all metrics and what they mean, and the form of log lines. Promises that logging
//! never blocks: lines that find no room are counted and dropped. Never decides anything.

mod logger;
pub mod names;

pub use logger::{LogFormat, LogGuard, LogTarget, start_log};
