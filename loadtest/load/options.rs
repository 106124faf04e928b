//! What the command line asks for.
//!
//! Owns the options and their bounds. Promises that options which pass
//! [`Options::check`] describe a run that can be made: a loopback target, and
//! messages large enough for their head.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;

use crate::{message::Template, quantity};

/// The most digits the number within an id can have.
const NUMBER_DIGITS: usize = 20;
const RUN_ID_DIGITS: usize = 8;

/// Sends a bounded load of mail to a relay on this machine and tells what was
/// accepted.
#[derive(Debug, Parser)]
#[command(name = "barid-load", version)]
pub(crate) struct Options {
    /// Where to send; only loopback addresses
    #[arg(long, default_value = "127.0.0.1:2525")]
    pub(crate) target: SocketAddr,
    /// Concurrent sessions
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    pub(crate) sessions: u32,
    /// Messages to send
    #[arg(long, default_value_t = 20_000)]
    pub(crate) messages: u64,
    /// Octets of each message as sent, dot-stuffing not counted
    #[arg(long, default_value_t = 4096)]
    pub(crate) size: usize,
    /// Recipient domains, d1.load.test and so on, in turn
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) domains: u64,
    /// Messages sent over one connection
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) per_connection: u64,
    /// Start no more messages than this, such as 500/s
    #[arg(long, value_parser = quantity::rate)]
    pub(crate) rate: Option<f64>,
    /// Append the id of each accepted message to this file
    #[arg(long)]
    pub(crate) ledger: Option<PathBuf>,
    /// Connect from this address
    #[arg(long)]
    pub(crate) source: Option<IpAddr>,
    /// Write each accepted id and the monotonic nanoseconds of its final dot to
    /// this file
    #[arg(long)]
    pub(crate) stamps: Option<PathBuf>,
    /// Measure an append and an fdatasync in this directory every ten
    /// milliseconds meanwhile
    #[arg(long)]
    pub(crate) raw_sync: Option<PathBuf>,
    /// Say NOOP every five milliseconds meanwhile, in a session of its own, and
    /// measure how long the replies take
    #[arg(long)]
    pub(crate) noop: bool,
    /// What the ids begin with; random by default
    #[arg(long, default_value_t = random_run_id())]
    pub(crate) run_id: String,
    /// Ask for TLS with STARTTLS and take any certificate; a server without it
    /// is no server
    #[arg(long)]
    pub(crate) starttls: bool,
    /// Send a message again, under a new id, when the connection breaks or a
    /// 4xx arrives
    #[arg(long)]
    pub(crate) retry: bool,
    /// How long one message may take over all its attempts
    #[arg(long, default_value = "120s", value_parser = quantity::duration)]
    pub(crate) timeout: Duration,
    /// Print the summary as one line of JSON
    #[arg(long)]
    pub(crate) json: bool,
}

impl Options {
    pub(crate) fn check(&self, template: &Template) -> Result<()> {
        ensure!(
            self.target.ip().is_loopback(),
            "{} is not a loopback address: this load is for a relay on the same machine only",
            self.target.ip()
        );
        let longest = format!("{}-{}", self.run_id, "9".repeat(NUMBER_DIGITS));
        let fits = template.message(&longest, self.size, &mut Vec::new());
        fits.map(drop).context("--run-id and --size do not make a message")
    }
}

fn random_run_id() -> String {
    (0..RUN_ID_DIGITS).map(|_| fastrand::digit(16)).collect()
}
