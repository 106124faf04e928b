//! What the relay shows of itself: metrics, the log, health.
//!
//! Owns the declarations of all metrics, and the form of log lines. Promises that logging
//! never blocks: lines that find no room are counted and dropped. Never decides anything.

mod logger;
mod metric;
pub mod names;
mod panics;
mod raised;

pub use logger::{LogFormat, LogGuard, LogTarget, start_log};
pub use metric::{Kind, Label, Metric, Unit, Values};
pub use panics::note_panics;
pub use raised::Raised;
