//! What has arrived.
//!
//! Owns the set of ids seen, the counts of messages and the sink's ledger.
//! Promises that its memory grows with the number of ids and with nothing
//! else.

use std::{collections::HashSet, fs, path::Path, time::Duration};

use anyhow::{Context as _, Result};
use tokio::time::Instant;

use crate::{
    inspection::{Inspector, Verdict},
    ledger::Ledger,
    message::ID_BYTES,
    process,
};

/// How many damaged messages are described on stderr.
const DAMAGED_SHOWN: u64 = 5;
/// How many lost ids are named on stderr.
const LOST_SHOWN: usize = 5;

pub(crate) struct Arrivals {
    pub(crate) received: u64,
    pub(crate) duplicated: u64,
    pub(crate) damaged: u64,
    pub(crate) other: u64,
    pub(crate) ledger: Ledger,
    /// When each arrived, by the machine's monotonic clock.
    pub(crate) stamps: Option<Ledger>,
    inspector: Inspector,
    seen: HashSet<Box<str>>,
    span: Option<(Instant, Instant)>,
}

/// The arrivals against what the load saw accepted.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Comparison {
    pub(crate) accepted: u64,
    pub(crate) lost: u64,
    pub(crate) unknown: u64,
}

impl Arrivals {
    pub(crate) fn new(ledger: Ledger) -> Self {
        Self {
            received: 0,
            duplicated: 0,
            damaged: 0,
            other: 0,
            ledger,
            stamps: None,
            inspector: Inspector::new(),
            seen: HashSet::new(),
            span: None,
        }
    }

    /// Takes a message, without dot-stuffing, that arrived just now.
    pub(crate) fn take(&mut self, message: &[u8], now: Instant) {
        self.span = Some((self.span.map_or(now, |(first, _)| first), now));
        self.received += 1;
        match self.inspector.inspect(message) {
            Verdict::Intact(id) => self.enter(id),
            Verdict::Other => self.other += 1,
            Verdict::Damaged(id, why) => {
                self.damaged += 1;
                if self.damaged <= DAMAGED_SHOWN {
                    eprintln!("damaged: {}: {why}", id.unwrap_or("?").escape_debug());
                }
                // Damaged, but not lost. An id no load gives out was altered.
                if let Some(id) = id.filter(|id| id.len() <= ID_BYTES) {
                    self.enter(id);
                }
            }
        }
    }

    fn enter(&mut self, id: &str) {
        self.ledger.note(id);
        if let Some(stamps) = &mut self.stamps {
            stamps.note(&format!("{id} {}", process::monotonic_ns()));
        }
        if self.seen.contains(id) {
            self.duplicated += 1;
        } else {
            self.seen.insert(id.into());
        }
    }

    /// Hands what was noted to the system.
    pub(crate) fn flush(&mut self) -> Result<()> {
        self.stamps.as_mut().map_or(Ok(()), Ledger::flush)?;
        self.ledger.flush()
    }

    pub(crate) fn distinct(&self) -> u64 {
        self.seen.len() as u64
    }

    /// From the first arrival to the last.
    pub(crate) fn elapsed(&self) -> Duration {
        self.span.map_or(Duration::ZERO, |(first, last)| last - first)
    }

    /// Compares with the ledger of the load.
    pub(crate) fn compare(&self, path: &Path) -> Result<Comparison> {
        let ledger = fs::read_to_string(path);
        let ledger = ledger.with_context(|| format!("cannot read {}", path.display()))?;
        Ok(self.compare_lines(&ledger))
    }

    fn compare_lines(&self, ledger: &str) -> Comparison {
        // A line without an end was never finished, so its 250 is not certain.
        let finished = ledger.rfind('\n').map_or("", |end| &ledger[..end]);
        let accepted: HashSet<&str> = finished.lines().collect();
        let mut lost = 0;
        for id in accepted.iter().filter(|id| !self.seen.contains(**id)) {
            lost += 1;
            if lost <= LOST_SHOWN {
                eprintln!("lost: {}", id.escape_debug());
            }
        }
        let known = accepted.len() - lost;
        Comparison {
            accepted: accepted.len() as u64,
            lost: lost as u64,
            unknown: (self.seen.len() - known) as u64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrivals_are_compared() -> Result<()> {
        let mut arrivals = Arrivals::new(Ledger::open(None)?);
        for id in ["r-1", "r-2", "r-2", "r-9"] {
            arrivals.enter(id);
        }
        assert_eq!((arrivals.distinct(), arrivals.duplicated), (3, 1));
        let comparison = arrivals.compare_lines("r-1\nr-2\nr-3\nr-");
        assert_eq!(comparison, Comparison { accepted: 3, lost: 1, unknown: 1 });
        let comparison = arrivals.compare_lines("");
        assert_eq!(comparison, Comparison { accepted: 0, lost: 0, unknown: 3 });
        Ok(())
    }
}
