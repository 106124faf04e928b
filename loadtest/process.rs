//! This process as the system sees it: its CPU time, its descriptors, its end.
//!
//! Owns nothing. Promises never to fail: a limit that cannot be raised stays.

use std::time::Duration;

use rustix::{
    process::{Resource, getrlimit, setrlimit},
    time::{ClockId, clock_gettime},
};
use tokio::signal::unix::{SignalKind, signal};

/// The CPU time this process has used so far.
pub(crate) fn cpu_seconds() -> f64 {
    let used = Duration::try_from(clock_gettime(ClockId::ProcessCPUTime));
    used.unwrap_or_default().as_secs_f64()
}

/// Nanoseconds of the machine's monotonic clock: the same for all processes.
pub(crate) fn monotonic_ns() -> u128 {
    Duration::try_from(clock_gettime(ClockId::Monotonic)).unwrap_or_default().as_nanos()
}

/// Raises the number of descriptors to what the system allows: each session
/// takes one.
pub(crate) fn raise_descriptor_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // The old limit may still do; if not, opening a socket will say so.
    let _ = setrlimit(Resource::Nofile, limit);
}

/// Waits until the process is asked to end, by SIGINT or SIGTERM.
pub(crate) async fn asked_to_end() {
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        // Without handlers the signals end the process by themselves.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
