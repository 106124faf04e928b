//! The path: one site, from one source. Grants credits, opens connections, knows up from down.

mod actor;
mod core;
mod demand;
mod stint;

pub(super) use actor::{AskCredits, AskUrgently, Path, PathHandle, Pushed, StopPath};
