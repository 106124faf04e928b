//! A ledger of message ids: one id a line, appended.
//!
//! Owns the file and the lines not yet in it. Promises that only whole lines
//! are handed to the system, so a reader may take a last line without its end
//! for one that was never finished. The first failure is kept and told at the
//! next [`Ledger::flush`].
//!
//! Never syncs: it outlives its process, not its machine.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write as _},
    path::Path,
};

use anyhow::{Context as _, Result};

/// How often the owner of a ledger should flush it.
pub(crate) const FLUSH_EVERY_MILLIS: u64 = 100;
/// Lines gathered beyond this are written before their time.
const BUFFER_BYTES: usize = 256 << 10;

/// An open ledger, or, without a file, one that forgets.
pub(crate) struct Ledger {
    file: Option<File>,
    lines: Vec<u8>,
    failure: Option<io::Error>,
}

impl Ledger {
    pub(crate) fn open(path: Option<&Path>) -> Result<Self> {
        let open = |path: &Path| {
            let file = OpenOptions::new().append(true).create(true).open(path);
            file.with_context(|| format!("cannot open the ledger {}", path.display()))
        };
        Ok(Self { file: path.map(open).transpose()?, lines: Vec::new(), failure: None })
    }

    /// Enters an id.
    pub(crate) fn note(&mut self, id: &str) {
        if self.file.is_none() {
            return;
        }
        self.lines.extend_from_slice(id.as_bytes());
        self.lines.push(b'\n');
        if self.lines.len() >= BUFFER_BYTES {
            self.write();
        }
    }

    /// Hands all lines to the system.
    pub(crate) fn flush(&mut self) -> Result<()> {
        self.write();
        self.failure.take().map_or(Ok(()), Err).context("cannot write the ledger")
    }

    fn write(&mut self) {
        let Some(file) = &mut self.file else { return };
        if !self.lines.is_empty()
            && let Err(error) = file.write_all(&self.lines)
        {
            self.failure.get_or_insert(error);
        }
        self.lines.clear();
    }
}
