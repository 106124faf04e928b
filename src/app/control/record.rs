//! The record of what operators did: `data_dir/operators.log`, one JSON object a line, synced.
//!
//! A change is written down before it is made and again when it has ended, under one number: no message is
//! removed without a line that says who did it.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};

use super::iso;
use super::server::Outcome;
use crate::clock::Clock;

/// The file, in the data directory.
const FILE: &str = "operators.log";

/// Who asked, as far as the system knows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Operator {
    /// The user, by number.
    pub(super) uid: Option<u32>,
    /// The process.
    pub(super) pid: Option<i32>,
}

/// The record.
pub(in crate::app) struct RecordBook {
    clock: Clock,
    file: PathBuf,
    /// Tells changes of one process apart.
    number: AtomicU64,
}

/// A change that has begun.
pub(super) struct Record<'a> {
    book: &'a RecordBook,
    number: u64,
}

impl RecordBook {
    /// Kept in the data directory.
    pub(in crate::app) fn new(data_dir: &Path, clock: Clock) -> Self {
        // a number that no earlier process of this name and place has used
        let number = AtomicU64::new(clock.now().as_millis());
        RecordBook { file: data_dir.join(FILE), clock, number }
    }

    /// Writes down what is going to be done. Where that fails it is not done; but what may free room on a full
    /// disk is, for the log of the relay tells the same.
    pub(super) async fn begin(
        &self,
        operator: Operator,
        command: &str,
        request: &Value,
    ) -> Result<Record<'_>, String> {
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let Operator { uid, pid } = operator;
        let at = iso(self.clock.now());
        let line = json!({
            "at": at, "event": "begun", "number": number,
            "uid": uid, "pid": pid, "command": command, "request": request,
        });
        tracing::info!(event = "operator", uid, number, command, request = %request);
        match write(self.file.clone(), line).await {
            Err(error) if error.kind() == io::ErrorKind::StorageFull && FREES_ROOM.contains(&command) => {
                tracing::error!(event = "record_failed", error = %error);
            }
            Err(error) => {
                let file = self.file.display();
                return Err(format!("nothing was done: the record {file} cannot be written: {error}"));
            }
            Ok(()) => {}
        }
        Ok(Record { book: self, number })
    }
}

/// Commands that make room.
const FREES_ROOM: [&str; 2] = ["queue/rm", "queue/bounce"];

impl Record<'_> {
    /// Its number, for the log.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Writes down how it ended.
    pub(super) async fn end(self, outcome: Outcome) -> Outcome {
        let told = match &outcome {
            Ok(end) => json!({ "done": end }),
            Err(why) => json!({ "failed": why }),
        };
        let at = iso(self.book.clock.now());
        let line = json!({ "at": at, "event": "ended", "number": self.number, "outcome": told });
        if let Err(error) = write(self.book.file.clone(), line).await {
            tracing::error!(event = "record_failed", error = %error);
        }
        outcome
    }
}

async fn write(file: PathBuf, line: Value) -> std::io::Result<()> {
    let written = tokio::task::spawn_blocking(move || {
        let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(file)?;
        file.write_all(format!("{line}\n").as_bytes())?;
        file.sync_data()
    });
    written.await.unwrap_or_else(|_| Err(std::io::Error::other("interrupted")))
}
