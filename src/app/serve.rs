//! `barid serve`.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::config::Config;
use super::notify::ServiceManager;
use super::relay::{self, Relay};
use crate::clock::Clock;
use crate::observe::{LogFormat, LogTarget, note_panics, start_log};

/// Attempts and sessions may take this long to end; the unit's TimeoutStopSec leaves time to close the store.
const GRACE: Duration = Duration::from_secs(60);

/// Files that are no connections: of the log, the index and large bodies, and sockets for questions to the DNS.
const OWN_FILES: usize = 512;

/// Runs the relay until it is told to stop.
pub(super) fn serve(config: &Path, format: LogFormat) -> anyhow::Result<()> {
    let mut config = Config::load(config)?;
    let _log = start_log(tracing::Level::INFO, format, LogTarget::Stderr, Clock::System)?;
    config.files_max = raise_file_limit();
    if let Some(files) = config.files_max {
        keep_to(files, &mut config);
    }
    let metrics = relay::record_metrics()?;
    note_panics();
    let manager = ServiceManager::from_environment();
    manager.starting();
    run_system(async move {
        let mut signals = Signals::listen()?;
        let mut hangups = signal(SignalKind::hangup()).context("listening for SIGHUP")?;
        let relay = Relay::start(config, metrics, Arc::new(|_| {})).await?;
        for address in &relay.relay_addresses {
            tracing::info!(event = "listening", role = "relay", address = %address);
        }
        for address in &relay.admin_addresses {
            tracing::info!(event = "listening", role = "admin", address = %address);
        }
        if let Some(socket) = &relay.socket {
            tracing::info!(event = "listening", role = "control", path = %socket.display());
        }
        manager.ready();
        loop {
            tokio::select! {
                () = signals.told_to_stop() => break,
                _ = hangups.recv() => relay.reload_soon(),
                () = relay.failed() => bail!("the store or the manager has ended; the next start finds everything again from the log"),
            }
        }
        tracing::info!(event = "stopping");
        manager.stopping();
        tokio::select! {
            stopped = relay.stop(GRACE) => stopped?,
            // told twice: what is not finished is found again at the next start
            () = signals.told_to_stop() => tracing::warn!(event = "stopped_at_once"),
        }
        tracing::info!(event = "stopped");
        Ok(())
    })
}

/// As many file descriptors as the system lets us have: each connection is one. Gives how many that is, where
/// there is a limit.
fn raise_file_limit() -> Option<usize> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(event = "file_limit_not_raised", error = %error);
    }
    let limit = getrlimit(Resource::Nofile).current?;
    Some(usize::try_from(limit).unwrap_or(usize::MAX))
}

/// Shares file descriptors out, where there are fewer than the configured connections may take: clients beyond
/// are told so, and the mail of those inside still finds files to be kept in.
pub(super) fn keep_to(files: usize, config: &mut Config) {
    let (inbound, outbound) = (&mut config.connections.total_max, &mut config.outbound.connections_max);
    let Some((taken, sent)) = shares(files, (*inbound, *outbound)) else { return };
    (*inbound, *outbound) = (taken, sent);
    tracing::warn!(
        event = "file_limit_low",
        files,
        connections = taken,
        delivery_connections = sent,
        remedy = "raise LimitNOFILE= (ulimit -n), or lower limits.connections and delivery.connections",
    );
}

/// How many connections from clients, and to servers, so many files are enough for; nothing where they are
/// enough for all that are wanted.
fn shares(files: usize, (inbound, outbound): (usize, usize)) -> Option<(usize, usize)> {
    let wanted = inbound.saturating_add(outbound);
    let left = files - OWN_FILES.min(files / 2);
    let share = |of: usize| usize::try_from(left as u128 * of as u128 / wanted as u128).unwrap_or(of).max(1);
    (left < wanted).then(|| (share(inbound), share(outbound)))
}

/// SIGTERM and SIGINT; none that comes between two looks is lost.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// From now on they do not end the process by themselves.
    pub(super) fn listen() -> anyhow::Result<Self> {
        let terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
        let interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
        Ok(Signals { terminate, interrupt })
    }

    /// Returns at the next one.
    pub(super) async fn told_to_stop(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Runs a future on an actix system over a multi-thread tokio runtime: actors on this thread, sessions
/// on all.
pub(super) fn run_system<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    // actix takes the runtime from a closure that it calls once
    let slot = std::sync::Mutex::new(Some(runtime));
    let system = actix::System::with_tokio_rt(move || {
        let mut slot = slot.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        #[allow(clippy::expect_used, reason = "called once, with the runtime made above")]
        slot.take().expect("the runtime is taken once")
    });
    system.block_on(work)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_few_files_are_shared_out_and_some_are_kept_for_ourselves() {
        for (files, want) in [
            (1 << 20, None),
            (5512, None),
            (5511, Some((3999, 999))),
            (1024, Some((409, 102))),
            (128, Some((51, 12))),
            (2, Some((1, 1))),
        ] {
            assert_eq!(shares(files, (4000, 1000)), want, "{files}");
        }
    }
}
