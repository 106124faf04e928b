//! What a short dialogue costs meanwhile: a NOOP and its reply, now and again.
//!
//! Owns a thread and a session of its own, which ends when the measurement
//! does. Promises that its rest between two questions is the same whatever
//! they take.

use std::{
    io::{BufRead as _, BufReader, Error, Write as _},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow};

use crate::process;

const REST: Duration = Duration::from_millis(5);
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Noop {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<std::io::Result<Vec<u32>>>,
}

impl Noop {
    /// Begins, in a session of its own.
    pub(crate) fn start(target: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(target).with_context(|| format!("cannot connect to {target}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        Ok(Self { stop, thread: thread::spawn(move || measure(&stream, &stopped)) })
    }

    /// Ends; the microseconds until each reply.
    pub(crate) fn finish(self) -> Result<Vec<u32>> {
        self.stop.store(true, Ordering::SeqCst);
        let measured = self.thread.join().map_err(|_| anyhow!("the NOOPs failed"))?;
        measured.context("the session of NOOPs")
    }
}

fn measure(stream: &TcpStream, stop: &AtomicBool) -> std::io::Result<Vec<u32>> {
    let (mut replies, mut line, mut micros) = (BufReader::new(stream), String::new(), Vec::new());
    let mut hear = |code: &str| loop {
        line.clear();
        replies.read_line(&mut line)?;
        match line.strip_prefix(code) {
            Some(rest) if rest.starts_with('-') => {}
            Some(_) => return Ok(()),
            None => return Err(Error::other(format!("{} in place of {code}", line.trim_end()))),
        }
    };
    let mut out = stream;
    hear("220")?;
    out.write_all(b"EHLO noop.load.test\r\n")?;
    hear("250")?;
    while !stop.load(Ordering::SeqCst) {
        let asked = process::monotonic_ns();
        out.write_all(b"NOOP\r\n")?;
        hear("250")?;
        micros.push(u32::try_from((process::monotonic_ns() - asked) / 1000).unwrap_or(u32::MAX));
        thread::sleep(REST);
    }
    Ok(micros)
}
