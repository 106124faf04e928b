//! What came of the load.
//!
//! Owns the counts and latencies of a run and their two printed forms. Four
//! octets are kept for each message accepted, so the percentiles are exact.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{connection::Trouble, options::Options, process};

/// How many troubles are described on stderr; the rest are only counted.
const TROUBLES_SHOWN: u64 = 5;

pub(crate) struct Tally {
    pub(crate) failed: u64,
    connections: u64,
    handshakes_full: u64,
    handshakes_resumed: u64,
    pub(crate) connection_errors: u64,
    pub(crate) retries: u64,
    refused_4xx: u64,
    refused_5xx: u64,
    troubles: u64,
    latencies_micros: Vec<u32>,
    /// What the disk itself took, where that was measured.
    pub(crate) raw_sync_micros: Option<Vec<u32>>,
    /// How long replies to NOOP took, where that was measured.
    pub(crate) noop_micros: Option<Vec<u32>>,
    started: Instant,
    ended: Instant,
}

impl Tally {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            failed: 0,
            connections: 0,
            handshakes_full: 0,
            handshakes_resumed: 0,
            connection_errors: 0,
            retries: 0,
            refused_4xx: 0,
            refused_5xx: 0,
            troubles: 0,
            latencies_micros: Vec::new(),
            raw_sync_micros: None,
            noop_micros: None,
            started: now,
            ended: now,
        }
    }

    /// A connection; whether it resumed a session, where it is under TLS.
    pub(crate) fn open(&mut self, is_resumed: Option<bool>) {
        self.connections += 1;
        match is_resumed {
            Some(true) => self.handshakes_resumed += 1,
            Some(false) => self.handshakes_full += 1,
            None => {}
        }
    }

    /// A 250 just now, after a final dot sent at `dot`.
    pub(crate) fn accept(&mut self, dot: Instant, now: Instant) {
        self.ended = now;
        let micros = self.ended.duration_since(dot).as_micros();
        self.latencies_micros.push(u32::try_from(micros).unwrap_or(u32::MAX));
    }

    pub(crate) fn accepted(&self) -> u64 {
        self.latencies_micros.len() as u64
    }

    /// Something other than the 250; the first few are told at once.
    pub(crate) fn trouble(&mut self, trouble: &Trouble, id: &str) {
        match trouble {
            Trouble::Broken(_) => self.connection_errors += 1,
            Trouble::Refused(reply) if reply.code < 500 => self.refused_4xx += 1,
            Trouble::Refused(_) => self.refused_5xx += 1,
        }
        self.troubles += 1;
        if self.troubles <= TROUBLES_SHOWN {
            eprintln!("{id}: {trouble}");
        } else if self.troubles == TROUBLES_SHOWN + 1 {
            eprintln!("further troubles are counted, not shown");
        }
    }

    fn elapsed(&self) -> Duration {
        self.ended.duration_since(self.started)
    }

    fn accepted_per_second(&self) -> f64 {
        let seconds = self.elapsed().as_secs_f64();
        if seconds > 0.0 { self.accepted() as f64 / seconds } else { 0.0 }
    }

    /// The latencies below which half, 95, 99 and all in a hundred lie.
    fn percentiles_millis(&mut self) -> [f64; 4] {
        percentiles_millis(&mut self.latencies_micros)
    }

    pub(crate) fn json(&mut self, options: &Options) -> Value {
        let [p50, p95, p99, max] = self.percentiles_millis();
        let raw_sync = self.raw_sync_micros.as_mut().map(|micros| percentiles_millis(micros));
        let noop = self.noop_micros.as_mut().map(|micros| percentiles_millis(micros));
        json!({
            "noop_p50_ms": noop.map(|[p50, ..]| p50),
            "noop_p99_ms": noop.map(|[.., p99, _]| p99),
            "noop_max_ms": noop.map(|[.., max]| max),
            "raw_sync_p50_ms": raw_sync.map(|[p50, ..]| p50),
            "raw_sync_p99_ms": raw_sync.map(|[.., p99, _]| p99),
            "run_id": options.run_id,
            "messages": options.messages,
            "size": options.size,
            "sessions": options.sessions,
            "accepted": self.accepted(),
            "failed": self.failed,
            "elapsed_seconds": self.elapsed().as_secs_f64(),
            "accepted_per_second": self.accepted_per_second(),
            "latency_p50_ms": p50,
            "latency_p95_ms": p95,
            "latency_p99_ms": p99,
            "latency_max_ms": max,
            "connections": self.connections,
            "handshakes_full": self.handshakes_full,
            "handshakes_resumed": self.handshakes_resumed,
            "connection_errors": self.connection_errors,
            "refused_4xx": self.refused_4xx,
            "refused_5xx": self.refused_5xx,
            "retries": self.retries,
            "cpu_seconds": process::cpu_seconds(),
        })
    }

    pub(crate) fn text(&mut self, options: &Options) -> String {
        let [p50, p95, p99, max] = self.percentiles_millis();
        format!(
            "run         {} ({} messages of {} octets, {} sessions)\n\
             accepted    {} in {:.2} s, {:.0}/s\n\
             failed      {}\n\
             latency     p50 {p50:.2} ms, p95 {p95:.2} ms, p99 {p99:.2} ms, max {max:.2} ms\n\
             connections {}, {} errors\n\
             handshakes  {} full, {} resumed\n\
             refused     {} with 4xx, {} with 5xx, {} retries\n\
             cpu         {:.2} s",
            options.run_id,
            options.messages,
            options.size,
            options.sessions,
            self.accepted(),
            self.elapsed().as_secs_f64(),
            self.accepted_per_second(),
            self.failed,
            self.connections,
            self.connection_errors,
            self.handshakes_full,
            self.handshakes_resumed,
            self.refused_4xx,
            self.refused_5xx,
            self.retries,
            process::cpu_seconds(),
        )
    }
}

fn percentiles_millis(micros: &mut [u32]) -> [f64; 4] {
    micros.sort_unstable();
    [50, 95, 99, 100].map(|percent| {
        let rank = (micros.len() * percent).div_ceil(100);
        let micros = rank.checked_sub(1).map_or(0, |place| micros[place]);
        f64::from(micros) / 1000.0
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_ranks() {
        let mut tally = Tally::new(Instant::now());
        assert_eq!(tally.percentiles_millis().map(f64::to_bits), [0; 4]);
        tally.latencies_micros = (1..=200).rev().map(|k| k * 1000).collect();
        let expected = [100.0, 190.0, 198.0, 200.0].map(f64::to_bits);
        assert_eq!(tally.percentiles_millis().map(f64::to_bits), expected);
    }
}
