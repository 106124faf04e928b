//! Barid.
pub mod clock;
pub mod mail;
pub mod observe;
pub mod store;
pub mod smtp;
pub mod queue;
pub mod dsn;
pub mod net;
pub mod accounts;
pub mod gate;
pub mod inbound;
pub mod outbound;
pub mod app;
pub mod sim;
