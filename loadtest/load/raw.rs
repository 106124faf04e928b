//! What the disk itself costs: an append and an fdatasync, now and again.
//!
//! Owns a thread and its file, which goes when the measurement ends. Promises
//! that its rest between two syncs is the same whatever they take.

use std::{
    fs::File,
    io::Write as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow};

use crate::process;

const APPENDED_BYTES: usize = 4096;
const REST: Duration = Duration::from_millis(10);

pub(crate) struct RawSync {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<std::io::Result<Vec<u32>>>,
    path: PathBuf,
}

impl RawSync {
    /// Begins, in a file of its own in a directory.
    pub(crate) fn start(directory: &Path) -> Result<Self> {
        let path = directory.join("raw-sync");
        let file = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || measure(file, &stopped));
        Ok(Self { stop, thread, path })
    }

    /// Ends; the microseconds of each append with its sync.
    pub(crate) fn finish(self) -> Result<Vec<u32>> {
        self.stop.store(true, Ordering::SeqCst);
        let measured = self.thread.join().map_err(|_| anyhow!("the raw syncs failed"))?;
        // a file left behind is no failure of the measurement
        let _ = std::fs::remove_file(&self.path);
        measured.context("cannot append")
    }
}

fn measure(mut file: File, stop: &AtomicBool) -> std::io::Result<Vec<u32>> {
    let (octets, mut micros) = ([b'x'; APPENDED_BYTES], Vec::new());
    while !stop.load(Ordering::SeqCst) {
        let started = process::monotonic_ns();
        file.write_all(&octets)?;
        file.sync_data()?;
        micros.push(u32::try_from((process::monotonic_ns() - started) / 1000).unwrap_or(u32::MAX));
        thread::sleep(REST);
    }
    Ok(micros)
}
