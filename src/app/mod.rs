//! The program: configuration, start, shutdown, the admin listener, the command line, the demo.
//!
//! Owns the file format and the wiring: it turns the file into each room's settings, and is the only
//! room besides the actors' shells that knows actix. Nothing imports it.

mod admin;
mod certificates;
mod cli;
mod config;
mod control;
mod demo;
mod gauges;
mod health;
mod notify;
mod offline;
mod parts;
mod relay;
mod reload;
mod serve;
mod spool;
mod validation;

pub use cli::run;
