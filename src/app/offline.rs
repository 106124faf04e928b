//! Exporting from and importing into the data directory of a relay that is not running.

use std::io::{Read, Write};
use std::path::Path;

use anyhow::{Context as _, anyhow};

use super::config::Config;
use super::control::export::{Export, Sink, archive_id, export_to};
use super::control::filter;
use super::control::import::{Imported, import_from};
use super::control::wire::QueueRequest;
use crate::clock::Clock;
use crate::mail::MessageIds;
use crate::queue::archive;
use crate::queue::{self, Leases};
use crate::store::Store;

struct ToFile<'a>(&'a mut (dyn Write + Send));

impl Sink for ToFile<'_> {
    async fn put(&mut self, octets: &[u8]) -> Result<(), String> {
        self.0.write_all(octets).map_err(|error| format!("writing: {error}"))
    }

    fn go_on(&self) -> Result<(), String> {
        Ok(())
    }
}

fn open(config: &Path) -> anyhow::Result<(Store, Clock)> {
    let (config, clock) = (Config::load(config)?, Clock::System);
    let opened = Store::open(&config.data_dir, config.store, clock.clone(), Box::new(|_| {}), &mut |_| {});
    let (store, _) = opened.with_context(|| {
        format!("opening the data directory {}; a relay that runs has it", config.data_dir.display())
    })?;
    Ok((store, clock))
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

/// Writes what is meant.
pub(super) fn export(
    config: &Path,
    request: QueueRequest,
    out: &mut (dyn Write + Send),
) -> anyhow::Result<()> {
    let (store, clock) = open(config)?;
    let filter = filter(&request.select, &clock).map_err(|why| anyhow!(why))?;
    let ids = MessageIds::above(queue::last_id(store.reader())?);
    let export = Export { filter, keep: request.keep, id: archive_id(&ids, &clock) };
    out.write_all(&archive::begin(export.id))?;
    let leases = Leases::default();
    let mut sink = ToFile(out);
    let exported = runtime()?.block_on(export_to(&store, &leases, &clock, export, &mut sink));
    store.close().context("closing the store")?;
    exported.map(drop).map_err(|why| anyhow!(why))
}

/// Takes all of a stream in; gives how many messages, and how many of the same export were there before.
pub(super) fn import(
    config: &Path,
    (input, is_again): (impl Read, bool),
    progress: &mut dyn FnMut(u64),
) -> anyhow::Result<(u64, u64)> {
    let (store, clock) = open(config)?;
    let ids = MessageIds::above(queue::last_id(store.reader())?);
    let runtime = runtime()?;
    let commit = |batch| runtime.block_on(store.commit(batch)).map(drop);
    let mut note = |count| {
        progress(count);
        Ok(())
    };
    let imported = import_from(&store, (&ids, &clock, is_again), input, &commit, &mut note);
    store.close().context("closing the store")?;
    match imported {
        Imported { messages, before, failed: None } => Ok((messages, before)),
        Imported { messages, before, failed: Some(why) } => {
            Err(anyhow!("{why}; {} messages are here: run it again for the rest", messages + before))
        }
    }
}
