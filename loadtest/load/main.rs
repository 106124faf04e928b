//! `barid-load`: a bounded SMTP load for a relay on the same machine.
//!
//! Owns the run: its sessions, its ticker, its progress and its summary.
//! Promises exit code 0 only if every message was accepted, 1 if some were
//! not, 2 if there was no run.
//!
//! One thread serves all sessions: the load shares its machine with the server
//! it measures, so it must be cheap before it is fast.

mod connection;
#[path = "../ledger.rs"]
mod ledger;
mod letter;
#[path = "../message.rs"]
mod message;
mod noop;
mod options;
mod pace;
#[path = "../process.rs"]
mod process;
#[path = "../quantity.rs"]
mod quantity;
mod raw;
mod session;
mod tally;
mod tls;
#[path = "../wire.rs"]
mod wire;

use std::{cell::RefCell, process::ExitCode, rc::Rc, time::Duration};

use anyhow::{Context as _, Result};
use clap::Parser as _;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::{
    task::{JoinSet, LocalSet},
    time::{Instant, interval},
};

use ledger::{FLUSH_EVERY_MILLIS, Ledger};
use message::Template;
use noop::Noop;
use options::Options;
use pace::Pace;
use raw::RawSync;
use session::{Run, Session, State};
use tally::Tally;

/// The exit code of a run that could not be made.
const CANNOT_RUN: u8 = 2;

fn main() -> ExitCode {
    load(Options::parse()).unwrap_or_else(|error| {
        eprintln!("barid-load: {error:#}");
        ExitCode::from(CANNOT_RUN)
    })
}

fn load(options: Options) -> Result<ExitCode> {
    let template = Template::new();
    options.check(&template)?;
    process::raise_descriptor_limit();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let now = Instant::now();
    let state = State {
        tally: Tally::new(now),
        ledger: Ledger::open(options.ledger.as_deref())?,
        stamps: Ledger::open(options.stamps.as_deref())?,
        pace: Pace::new(options.rate, now),
        taken: 0,
        ids: 0,
    };
    let tls = options.starttls.then(tls::connector).transpose()?;
    let run = Rc::new(Run { options, template, tls, state: RefCell::new(state) });
    let raw_sync = run.options.raw_sync.as_deref().map(RawSync::start).transpose()?;
    let noop = run.options.noop.then(|| Noop::start(run.options.target)).transpose()?;
    LocalSet::new().block_on(&runtime, carry_out(Rc::clone(&run)))?;
    run.state.borrow_mut().tally.raw_sync_micros = raw_sync.map(RawSync::finish).transpose()?;
    run.state.borrow_mut().tally.noop_micros = noop.map(Noop::finish).transpose()?;
    Ok(conclude(&run))
}

/// Runs the sessions to their end, or until a signal asks for it.
async fn carry_out(run: Rc<Run>) -> Result<()> {
    let mut sessions = JoinSet::new();
    for _ in 0..u64::from(run.options.sessions).min(run.options.messages) {
        sessions.spawn_local(Session::new(Rc::clone(&run)).run());
    }
    let bar = progress_bar(run.options.messages)?;
    let mut ticker = interval(Duration::from_millis(FLUSH_EVERY_MILLIS));
    let asked = process::asked_to_end();
    tokio::pin!(asked);
    loop {
        tokio::select! {
            joined = sessions.join_next() => match joined {
                Some(ended) => ended.context("a session failed")?,
                None => break,
            },
            _ = ticker.tick() => {
                let mut state = run.state.borrow_mut();
                state.ledger.flush()?;
                state.stamps.flush()?;
                bar.set_position(state.tally.accepted() + state.tally.failed);
            }
            () = &mut asked => break,
        }
    }
    bar.finish_and_clear();
    run.state.borrow_mut().stamps.flush()?;
    run.state.borrow_mut().ledger.flush()
}

/// The bar on stderr; it hides itself where that is no terminal.
fn progress_bar(messages: u64) -> Result<ProgressBar> {
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} {per_sec} {eta}")
        .context("the progress bar is malformed")?;
    Ok(ProgressBar::new(messages).with_style(style))
}

/// Prints the summary; what was not accepted, even if never tried, failed.
fn conclude(run: &Run) -> ExitCode {
    let tally = &mut run.state.borrow_mut().tally;
    tally.failed = run.options.messages - tally.accepted();
    if run.options.json {
        println!("{}", tally.json(&run.options));
    } else {
        println!("{}", tally.text(&run.options));
    }
    if tally.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
