//! What happened when: a line each second.
//!
//! Owns the timeline's file. Promises a line for every second that the sink
//! lived: the seconds since its start, the messages received so far, and the
//! times 421 was given.

use std::{
    fs::File,
    io::{self, Write as _},
    path::Path,
    time::Duration,
};

use anyhow::{Context as _, Result};
use tokio::time::{Instant, interval};

use crate::session::Sink;

const EVERY: Duration = Duration::from_secs(1);

/// Writes until it is dropped; for ever silent where no file is named.
pub(crate) async fn keep(sink: &Sink) -> Result<()> {
    let Some(path) = &sink.options.timeline else { return std::future::pending().await };
    let mut file = create(path)?;
    let (started, mut seconds) = (Instant::now(), interval(EVERY));
    loop {
        let now = seconds.tick().await;
        let elapsed = now.duration_since(started).as_secs();
        let received = sink.arrivals.borrow().received;
        line(&mut file, elapsed, received, sink.counts.given_421.get())
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
}

fn create(path: &Path) -> Result<File> {
    File::create(path).with_context(|| format!("cannot create {}", path.display()))
}

fn line(file: &mut File, elapsed: u64, received: u64, given_421: u64) -> io::Result<()> {
    file.write_all(format!("{elapsed} {received} {given_421}\n").as_bytes())
}
