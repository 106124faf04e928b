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
use crate::observe::{LogFormat, LogTarget, start_log};

/// Attempts and sessions may take this long to end; the unit's TimeoutStopSec leaves time to close the store.
const GRACE: Duration = Duration::from_secs(60);

/// Runs the relay until it is told to stop.
pub(super) fn serve(config: &Path, format: LogFormat) -> anyhow::Result<()> {
    let config = Config::load(config)?;
    let _log = start_log(tracing::Level::INFO, format, LogTarget::Stderr, Clock::System)?;
    raise_file_limit();
    let metrics = relay::record_metrics()?;
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
                () = relay.failed() => bail!("the store has ended; the next start finds everything again from its log"),
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

/// As many file descriptors as the system lets us have: each connection is one.
fn raise_file_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(event = "file_limit_not_raised", error = %error);
    }
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
