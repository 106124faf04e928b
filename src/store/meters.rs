//! What the store counts. Names and meanings are declared in `observe`.

use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

use crate::observe::names;

pub(super) struct Meters {
    batches: Histogram,
    sync_seconds: Histogram,
    written: Counter,
    log: Gauge,
    live: Gauge,
}

/// The store began to fail, or recovered.
pub(super) fn failing(is_failing: bool) {
    gauge!(names::STORE_FAILING).set(if is_failing { 1.0 } else { 0.0 });
    if is_failing {
        counter!(names::STORE_FAILURES).increment(1);
    }
}

impl Default for Meters {
    fn default() -> Self {
        Meters {
            batches: histogram!(names::STORE_GROUP_BATCHES),
            sync_seconds: histogram!(names::STORE_COMMIT_SECONDS),
            written: counter!(names::STORE_WRITTEN_BYTES),
            log: gauge!(names::STORE_LOG_BYTES),
            live: gauge!(names::STORE_LIVE_BYTES),
        }
    }
}

impl Meters {
    pub(super) fn group(&self, batches: usize, octets: u64, took: Duration) {
        self.batches.record(batches as f64);
        self.sync_seconds.record(took.as_secs_f64());
        self.written.increment(octets);
    }

    pub(super) fn log(&self, octets: u64, live: u64) {
        self.log.set(octets as f64);
        self.live.set(live as f64);
    }
}
