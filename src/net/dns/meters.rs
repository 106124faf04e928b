//! What asking the DNS counts.

use std::time::Duration;

use metrics::{Counter, Histogram, counter, histogram};

use super::resolver::DnsError;
use crate::observe::names;

/// Handles, looked up once.
#[derive(Clone)]
pub(super) struct Meters {
    seconds: Histogram,
    found: Counter,
    no_name: Counter,
    no_records: Counter,
    server_failed: Counter,
    timeout: Counter,
    bogus: Counter,
    failed: Counter,
}

impl Default for Meters {
    fn default() -> Self {
        let of = |result: &'static str| counter!(names::DNS_LOOK_UPS, "result" => result);
        Meters {
            seconds: histogram!(names::DNS_SECONDS),
            found: of("found"),
            no_name: of("no_name"),
            no_records: of("no_records"),
            server_failed: of("server_failed"),
            timeout: of("timeout"),
            bogus: of("bogus"),
            failed: of("failed"),
        }
    }
}

impl Meters {
    /// A question was answered, or was not.
    pub(super) fn asked<T>(&self, answer: &Result<T, DnsError>, took: Duration) {
        self.seconds.record(took.as_secs_f64());
        let count = match answer {
            Ok(_) => &self.found,
            Err(DnsError::NoSuchName) => &self.no_name,
            Err(DnsError::NoRecords) => &self.no_records,
            Err(DnsError::ServerFailed) => &self.server_failed,
            Err(DnsError::TimedOut) => &self.timeout,
            Err(DnsError::Bogus) => &self.bogus,
            Err(DnsError::Failed(_)) => &self.failed,
        };
        count.increment(1);
    }
}
