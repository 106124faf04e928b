//! Metrics: what is exposed is declared, what is declared is shown, and the documentation says the same.
#![allow(clippy::expect_used, reason = "what a test cannot do without fails it")]

mod boards;
mod exposition;
mod reference;
mod rules;
#[path = "../support/mod.rs"]
mod support;
mod usage;
