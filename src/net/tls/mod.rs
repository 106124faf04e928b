//! TLS round a stream, both ways (STARTTLS, RFC 3207; RFC 8314 where it comes first).
//!
//! Owns certificates and keys, the two handshakes, sessions that are resumed, and what is recorded of a
//! connection. Promises TLS 1.2 or later, that the holder of a certificate has proven to hold its key even
//! where nobody asks who signed it, and that a stream which comes out of here needs no flush before a read. Never decides
//! whether mail may go over what was found, never falls back to plain text, and reads no configuration.
//!
//! A handshake is CPU work on the task's own thread, some 0.2 ms for a server and twice that for a client that
//! judges a chain: too little to be worth another thread's wake-up. Whoever waits for one sets the time-out.

mod certificate;
mod client;
mod dane;
mod described;
mod facts;
mod pkix;
mod self_signed;
mod server;
mod stream;
#[cfg(test)]
mod tests;
mod verifier;

use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::UnixTime;
use rustls::time_provider::TimeProvider;

pub use certificate::{CertificateError, Identity};
pub use client::{ClientTls, Handshake, TlsError, TlsPolicy};
pub use dane::{Chain, DaneFault};
pub use described::Described;
pub use facts::{Fingerprint, Pkix, PkixFault, TlsFacts, TlsVersion};
pub use pkix::Roots;
pub use server::{ClientCertificates, ServerTls};

use crate::clock::Clock;

/// The cryptography, by constructor: a process-wide default would be a global.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// Our clock, for the age of tickets and certificates.
#[derive(Debug)]
struct Time(Clock);

impl Time {
    fn now(&self) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_millis(self.0.shown().as_millis()))
    }
}

impl TimeProvider for Time {
    fn current_time(&self) -> Option<UnixTime> {
        Some(self.now())
    }
}
