//! The built relay among enemies: whatever comes in over a socket, nothing is smuggled, no session gets out
//! of step, others are served meanwhile, and memory comes back.
#![allow(clippy::expect_used, reason = "what a test cannot do without fails it")]

#[path = "../support/mod.rs"]
mod support;

mod chunks;
mod crowd;
mod endings;
mod floods;
mod peer;
mod pipelining;
mod plain;
mod siege;
mod silence;
mod starttls;
