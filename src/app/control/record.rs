//! The record of what operators did: `data_dir/operators.log`, one JSON object a line, synced.
//!
//! A change is written down before it is made and again when it has ended, under one number: no message is
//! removed without a line that says who did it.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};

use super::iso;
use super::server::Outcome;
use crate::clock::Clock;

/// The file, in the data directory.
const FILE: &str = "operators.log";
/// Tells changes of one process apart.
static NUMBER: AtomicU64 = AtomicU64::new(1);

/// Who asked.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Operator {
    /// The user, by number.
    pub(super) uid: u32,
    /// The process.
    pub(super) pid: Option<i32>,
}

/// A change that has begun.
pub(super) struct Record {
    clock: Clock,
    file: PathBuf,
    number: u64,
}

impl Record {
    /// Writes down what is going to be done. Where that fails it is not done.
    pub(super) async fn begin(
        (data_dir, clock): (&Path, &Clock),
        operator: Operator,
        command: &str,
        request: &Value,
    ) -> Result<Self, String> {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let file = data_dir.join(FILE);
        let Operator { uid, pid } = operator;
        let (process, at) = (std::process::id(), iso(clock.now()));
        let line = json!({
            "at": at, "event": "begun", "process": process, "number": number,
            "uid": uid, "pid": pid, "command": command, "request": request,
        });
        tracing::info!(event = "operator", uid, command, request = %request);
        write(file.clone(), line).await.map_err(|error| {
            format!("nothing was done: the record {} cannot be written: {error}", file.display())
        })?;
        Ok(Record { clock: clock.clone(), file, number })
    }

    /// Writes down how it ended.
    pub(super) async fn end(self, outcome: Outcome) -> Outcome {
        let told = match &outcome {
            Ok(end) => json!({ "done": end }),
            Err(why) => json!({ "failed": why }),
        };
        let (process, at) = (std::process::id(), iso(self.clock.now()));
        let line = json!({
            "at": at, "event": "ended", "process": process, "number": self.number, "outcome": told,
        });
        if let Err(error) = write(self.file, line).await {
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
