//! The manager: which domains are due. Parent of domains and paths.

mod actor;
mod core;
mod inbox;

pub(super) use actor::{ChildSays, FindPath, Tick};
pub use actor::{Drain, Outbound, WaysChanged};
pub use inbox::AlarmInbox;
