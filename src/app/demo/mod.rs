//! `barid demo`: the main job on embedded defaults, against a world that misbehaves.
//!
//! Everything is real but the world: the relay listens, stores durably and delivers by MX over TCP; the
//! DNS and the destinations are simulated on loopback. Nothing leaves the machine, nothing is left
//! behind.

mod world;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use self::world::World;
use super::config::Config;
use super::relay::{self, Relay};
use super::serve::{Signals, run_system};
use crate::clock::Clock;
use crate::mail::{Outcome, OutcomeSink};
use crate::observe::{LogFormat, LogTarget, start_log};
use crate::sim::Sender;

/// Recipients that do not exist.
const UNKNOWN_RECIPIENTS: u64 = 20;
/// Connections over which the messages are handed over.
const SENDERS: u64 = 10;
/// The demo gives up after this.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often the bar moves.
const LOOK: Duration = Duration::from_millis(50);
const GRACE: Duration = Duration::from_secs(10);

#[derive(Args)]
pub(super) struct Options {
    /// Ends after the summary instead of staying up.
    #[arg(long)]
    once: bool,
    /// Messages to recipients that exist.
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    messages: u64,
}

/// Attempts by how they ended.
#[derive(Default)]
struct Tally {
    delivered: AtomicU64,
    deferred: AtomicU64,
    bounced: AtomicU64,
}

impl Tally {
    fn note(&self, outcome: &Outcome) {
        let count = match outcome {
            Outcome::Delivered { .. } => &self.delivered,
            Outcome::Deferred { .. } | Outcome::Held { .. } => &self.deferred,
            Outcome::Bounced { .. } => &self.bounced,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

pub(super) fn demo(options: &Options) -> anyhow::Result<()> {
    let _log = start_log(tracing::Level::WARN, LogFormat::Logfmt, LogTarget::Nowhere, Clock::System)?;
    let metrics = relay::record_metrics()?;
    let data =
        tempfile::Builder::new().prefix("barid-demo-").tempdir().context("making a temporary directory")?;
    run_system(async {
        let mut signals = Signals::listen()?;
        let tally = Arc::new(Tally::default());
        let world = World::build(options.messages).await?;
        let config = world.configuration(data.path());
        let config = Config::parse("the demo's configuration", &config)?;
        let noted = tally.clone();
        let sink: OutcomeSink = Arc::new(move |outcome| noted.note(outcome));
        let relay = Relay::start(config, metrics, sink).await?;
        introduce(&relay, &world, options);
        let outcome = tokio::select! {
            outcome = show(&relay, &world, &tally, options) => outcome,
            () = signals.told_to_stop() => Ok(()),
        };
        relay.stop(GRACE).await?;
        outcome
    })
}

async fn show(relay: &Relay, world: &World, tally: &Tally, options: &Options) -> anyhow::Result<()> {
    run(relay, world, tally, options).await?;
    if !options.once {
        invite(relay);
        // until Ctrl-C ends it all
        std::future::pending::<()>().await;
    }
    Ok(())
}

fn introduce(relay: &Relay, world: &World, options: &Options) {
    println!(
        "A relay with an empty queue, and {} domains with mail hosts of their own:",
        world.domains().len()
    );
    for domain in world.domains() {
        println!("  {:<22} {}", domain.name, domain.mood);
    }
    let messages = options.messages;
    println!("Handing over {messages} messages, and {UNKNOWN_RECIPIENTS} to recipients that do not exist.");
    for address in &relay.relay_addresses {
        println!("  SMTP     {address}");
    }
    for address in &relay.admin_addresses {
        println!("  metrics  http://{address}/metrics");
    }
}

async fn run(relay: &Relay, world: &World, tally: &Tally, options: &Options) -> anyhow::Result<()> {
    let clock = Clock::System;
    let started = clock.instant();
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} delivered, {elapsed}")?;
    let bar = ProgressBar::new(options.messages).with_style(style);
    hand_over(relay, world, options.messages).await?;
    let accepted_after = clock.instant().duration_since(started);
    let waited = tokio::time::timeout(PATIENCE, async {
        let mut looks = tokio::time::interval(LOOK);
        loop {
            looks.tick().await;
            world.look();
            bar.set_position(world.good_arrivals());
            let is_done = world.good_arrivals() >= options.messages && world.reports() >= UNKNOWN_RECIPIENTS;
            if is_done && tally.bounced.load(Ordering::Relaxed) >= UNKNOWN_RECIPIENTS {
                return;
            }
        }
    });
    let timely = waited.await.is_ok();
    bar.finish_and_clear();
    let took = clock.instant().duration_since(started);
    let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
    println!(
        "accepted   {} in {:.2} s, each durable before its 250",
        options.messages + UNKNOWN_RECIPIENTS,
        accepted_after.as_secs_f64()
    );
    println!("deferred   {} attempts, tried again", count(&tally.deferred));
    println!(
        "bounced    {} recipients, {} reports returned to the sender",
        count(&tally.bounced),
        world.reports()
    );
    println!("duplicates {}", world.duplicates());
    println!("took       {:.2} s", took.as_secs_f64());
    println!("delivered {} of {}", world.good_arrivals(), options.messages);
    if !timely {
        bail!("not everything was delivered and reported within {} s", PATIENCE.as_secs());
    }
    if world.duplicates() > 0 {
        bail!("{} messages were delivered more than once", world.duplicates());
    }
    Ok(())
}

async fn hand_over(relay: &Relay, world: &World, messages: u64) -> anyhow::Result<()> {
    let address = *relay.relay_addresses.first().context("the relay listens nowhere")?;
    let letters = world.letters(messages, UNKNOWN_RECIPIENTS);
    let share = letters.len().div_ceil(SENDERS as usize);
    let mut senders = tokio::task::JoinSet::new();
    for letters in letters.chunks(share) {
        let letters = letters.to_vec();
        senders.spawn(async move {
            let mut sender = Sender::connect(address).await?;
            for letter in &letters {
                sender.send(letter).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(sent) = senders.join_next().await {
        sent?.context("handing mail over to the relay")?;
    }
    Ok(())
}

fn invite(relay: &Relay) {
    let port = relay.relay_addresses.first().map_or(0, std::net::SocketAddr::port);
    println!();
    println!("The relay stays up; try it, then press Ctrl-C:");
    println!("  swaks --server 127.0.0.1:{port} --from me@sender.test --to you@prompt.test");
    println!("  telnet 127.0.0.1 {port}");
}
