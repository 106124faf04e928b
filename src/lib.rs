//! Barid.
pub mod clock;
pub mod mail;
pub mod observe;
pub mod store;
pub mod smtp;
pub mod queue;
pub mod dsn;
pub mod net;
