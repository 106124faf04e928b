//! The manager: which domains are due. Parent of domains and paths.

mod actor;
mod inbox;

pub(super) use actor::{DomainRetired, FindPath, PathRetired, Tick};
pub use actor::{Drain, Outbound};
pub use inbox::AlarmInbox;
