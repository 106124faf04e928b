//! What the sink has to tell at its end.
//!
//! Owns the figures of a finished run, their two printed forms and the
//! judgement whether it went well.

use anyhow::Result;
use serde_json::{Value, json};

use crate::{arrivals::Comparison, process, session::Sink};

pub(crate) struct Summary<'a> {
    sink: &'a Sink,
    comparison: Option<Comparison>,
}

impl<'a> Summary<'a> {
    /// Takes stock, comparing ledgers if asked to.
    pub(crate) fn new(sink: &'a Sink) -> Result<Self> {
        let compare = sink.options.compare.as_deref();
        let comparison = compare.map(|path| sink.arrivals.borrow().compare(path)).transpose()?;
        Ok(Self { sink, comparison })
    }

    /// Whether all expected ids arrived, nothing accepted was lost, and nothing
    /// was damaged. Duplicates are no fault: a relay may send again what it
    /// cannot know to have arrived.
    pub(crate) fn is_good(&self) -> bool {
        let arrivals = self.sink.arrivals.borrow();
        let lost = self.comparison.as_ref().map_or(0, |comparison| comparison.lost);
        self.is_complete() && arrivals.damaged == 0 && lost == 0
    }

    fn is_complete(&self) -> bool {
        let distinct = self.sink.arrivals.borrow().distinct();
        self.sink.options.expect.is_none_or(|expected| distinct >= expected)
    }

    fn relayed_per_second(&self) -> f64 {
        let arrivals = self.sink.arrivals.borrow();
        let seconds = arrivals.elapsed().as_secs_f64();
        // The first arrival opens the span, so it is not part of what fills it.
        if seconds > 0.0 { (arrivals.received - 1) as f64 / seconds } else { 0.0 }
    }

    fn transactions_per_connection(&self) -> f64 {
        let counts = &self.sink.counts;
        counts.transactions.get() as f64 / counts.connections.get().max(1) as f64
    }

    pub(crate) fn json(&self) -> Value {
        let arrivals = self.sink.arrivals.borrow();
        let counts = &self.sink.counts;
        let comparison = self.comparison.as_ref();
        json!({
            "received": arrivals.received,
            "distinct": arrivals.distinct(),
            "duplicated": arrivals.duplicated,
            "damaged": arrivals.damaged,
            "other": arrivals.other,
            "expected": self.sink.options.expect,
            "complete": self.is_complete(),
            "accepted": comparison.map(|comparison| comparison.accepted),
            "lost": comparison.map(|comparison| comparison.lost),
            "unknown": comparison.map(|comparison| comparison.unknown),
            "elapsed_seconds": arrivals.elapsed().as_secs_f64(),
            "relayed_per_second": self.relayed_per_second(),
            "connections": counts.connections.get(),
            "transactions": counts.transactions.get(),
            "transactions_per_connection": self.transactions_per_connection(),
            "given_4xx": counts.given_4xx.get(),
            "given_421": counts.given_421.get(),
            "dropped": counts.dropped.get(),
            "handshakes_full": counts.handshakes_full.get(),
            "handshakes_resumed": counts.handshakes_resumed.get(),
            "handshakes_failed": counts.handshakes_failed.get(),
            "cpu_seconds": process::cpu_seconds(),
        })
    }

    pub(crate) fn text(&self) -> String {
        let arrivals = self.sink.arrivals.borrow();
        let counts = &self.sink.counts;
        let compared = self.comparison.as_ref().map_or("not compared".into(), |comparison| {
            format!(
                "{} lost of {} accepted, {} unknown",
                comparison.lost, comparison.accepted, comparison.unknown
            )
        });
        format!(
            "received    {} ({} distinct, {} duplicated, {} damaged, {} other)\n\
             ledger      {compared}\n\
             relayed     {:.0}/s over {:.2} s\n\
             connections {}, {:.2} transactions each\n\
             given       {} 4xx, {} 421; {} dropped\n\
             handshakes  {} full, {} resumed, {} failed\n\
             cpu         {:.2} s",
            arrivals.received,
            arrivals.distinct(),
            arrivals.duplicated,
            arrivals.damaged,
            arrivals.other,
            self.relayed_per_second(),
            arrivals.elapsed().as_secs_f64(),
            counts.connections.get(),
            self.transactions_per_connection(),
            counts.given_4xx.get(),
            counts.given_421.get(),
            counts.dropped.get(),
            counts.handshakes_full.get(),
            counts.handshakes_resumed.get(),
            counts.handshakes_failed.get(),
            process::cpu_seconds(),
        )
    }
}
