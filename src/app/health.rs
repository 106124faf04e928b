//! Whether the relay can do its work (`/healthz`), and whether it takes mail now (`/readyz`).
//!
//! *Failing* is what keeps mail from being kept or sent at all, and answers 503. A *warning* is what a
//! person should hear of while mail still flows, or waits where it is safe: it answers 200, with the
//! reason. No check waits for anything: each reads what is known already.

use std::fmt::Write as _;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use actix::Addr;
use axum::http::StatusCode;
use serde::Serialize;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::certificates::CertificateKeeper;
use super::control::iso;
use super::gauges::{LastRoom, Room};
use super::validation;
use crate::egress::{Closed, Closure, Receiver};
use crate::outbound::{Deps, Outbound};
use crate::queue::BLOCKED;
use crate::store::Store;

/// The manager comes to a beat several times a second; one that is silent for so long is stuck.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// The disk is nearly full when less than this share of it is free, and less than so many octets.
const NEARLY_FULL_SHARE: u64 = 10;
const NEARLY_FULL_OCTETS: u64 = 20 << 30;

/// Receivers that keep us away which are told of by name.
const TOLD_MAX: usize = 10;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Level {
    /// All is well.
    Ok,
    /// Somebody should hear of it.
    Warning,
    /// The work cannot be done.
    Failing,
}

impl Level {
    fn as_str(self) -> &'static str {
        match self {
            Level::Ok => "ok",
            Level::Warning => "warning",
            Level::Failing => "failing",
        }
    }
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    check: &'static str,
    level: Level,
    why: String,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Report {
    status: Level,
    findings: Vec<Finding>,
}

impl Report {
    fn of(findings: Vec<Finding>) -> Self {
        let worst = findings.iter().map(|finding| finding.level).max();
        Report { status: worst.unwrap_or(Level::Ok), findings }
    }

    /// 503 where the work cannot be done.
    pub(super) fn code(&self) -> StatusCode {
        if self.status == Level::Failing { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK }
    }

    /// A line for the whole, and one for each finding.
    pub(super) fn text(&self) -> String {
        let mut text = format!("{}\n", self.status.as_str());
        for Finding { check, level, why } in &self.findings {
            // writing to a String cannot fail
            let _ = writeln!(text, "{} {check}: {}", level.as_str(), why.replace('\n', " "));
        }
        text
    }

    /// One object.
    pub(super) fn json(&self) -> String {
        // what is made of texts alone can be written
        format!("{}\n", serde_json::to_string(self).unwrap_or_default())
    }
}

/// What is looked at.
#[derive(Clone)]
pub(super) struct Health {
    pub(super) store: Store,
    pub(super) outbound: Addr<Outbound>,
    pub(super) deps: Arc<Deps>,
    pub(super) validation: validation::Watch,
    pub(super) certificates: Arc<CertificateKeeper>,
    /// The task that orders them and watches their files.
    pub(super) looked_after: AbortHandle,
    pub(super) room: LastRoom,
    /// Octets that the log needs to go on.
    pub(super) log_needs: u64,
    /// The tasks that take connections.
    pub(super) listeners: Arc<[AbortHandle]>,
    /// Whether the relay has been told to stop.
    pub(super) stopping: watch::Receiver<bool>,
}

impl Health {
    /// Whether the work can be done.
    pub(super) fn health(&self) -> Report {
        let told = [
            self.store(),
            self.manager(),
            self.disk(),
            self.resolver(),
            self.validation(),
            self.certificates(),
            self.clock(),
            self.breakers(),
            self.receivers(),
            self.draining(Level::Warning),
        ];
        Report::of(told.into_iter().flatten().collect())
    }

    /// Whether mail is taken now.
    pub(super) fn readiness(&self) -> Report {
        let told = [self.store(), self.disk(), self.listeners(), self.draining(Level::Failing)];
        Report::of(told.into_iter().flatten().collect())
    }

    fn store(&self) -> Option<Finding> {
        let why = self.store.ailment()?;
        Some(Finding { check: "store", level: Level::Failing, why })
    }

    fn manager(&self) -> Option<Finding> {
        let silent = self.deps.pulse.silent_for(self.deps.clock.instant()).unwrap_or_default();
        let why = if !self.outbound.connected() {
            "it has ended; nothing is sent until the relay is started again".to_owned()
        } else if silent > SILENCE_MAX {
            format!("it has been silent for {} seconds; nothing new is sent", silent.as_secs())
        } else {
            return None;
        };
        Some(Finding { check: "manager", level: Level::Failing, why })
    }

    fn disk(&self) -> Option<Finding> {
        judge_room(self.room.get()?, self.log_needs)
    }

    fn resolver(&self) -> Option<Finding> {
        let why = "the DNS denies everything; mail for domains that do not exist waits".to_owned();
        let finding = Finding { check: "resolver", level: Level::Warning, why };
        self.deps.doubt.is_doubted().then_some(finding)
    }

    fn validation(&self) -> Option<Finding> {
        let why = self.validation.ailment()?;
        Some(Finding { check: "dnssec", level: Level::Warning, why })
    }

    fn certificates(&self) -> Option<Finding> {
        let is_left_alone = self.looked_after.is_finished();
        let left_alone = (is_left_alone && !*self.stopping.borrow())
            .then(|| "nobody looks after them until the relay is started again".to_owned());
        let why = self.certificates.ailments().into_iter().chain(left_alone).collect::<Vec<_>>().join("; ");
        (!why.is_empty()).then_some(Finding { check: "certificates", level: Level::Warning, why })
    }

    fn clock(&self) -> Option<Finding> {
        let why = "wall time was set by more than an hour; nothing is given up for its age".to_owned();
        let finding = Finding { check: "clock", level: Level::Warning, why };
        self.deps.clock.has_jumped().then_some(finding)
    }

    fn breakers(&self) -> Option<Finding> {
        let breaker = self.deps.breaker.lock().unwrap_or_else(PoisonError::into_inner);
        let open = breaker.open().join(", ");
        let why = format!("refused from all sides, so not believed, and the mail waits: {open}");
        (!open.is_empty()).then_some(Finding { check: "breaker", level: Level::Warning, why })
    }

    fn receivers(&self) -> Option<Finding> {
        let now = self.deps.clock.now();
        let told = |(receiver, closed): &(Receiver, Closed)| {
            let shown = |at| iso(at).unwrap_or_default();
            let (since, next) = (shown(closed.since), shown(closed.until));
            let why = if closed.why.is_empty() { "before the last start" } else { &closed.why };
            match closed.closure {
                Closure::Pause => format!("{receiver} wants nothing before {next}: {why}"),
                Closure::Block => format!(
                    "{receiver} has blocked our mail since {since}: {why}; it is held, and released by \
                     `barid queue release --reason {BLOCKED}{receiver}`",
                ),
            }
        };
        let all = self.deps.standing.all_closed(now);
        let mut why: Vec<String> = all.iter().take(TOLD_MAX).map(told).collect();
        why.extend((all.len() > TOLD_MAX).then(|| format!("and {} more", all.len() - TOLD_MAX)));
        (!why.is_empty()).then(|| Finding { check: "receivers", level: Level::Warning, why: why.join("; ") })
    }

    fn listeners(&self) -> Option<Finding> {
        let ended = self.listeners.iter().filter(|listener| listener.is_finished()).count();
        let why = format!("{ended} of {} take no connections any more", self.listeners.len());
        let is_stopping = *self.stopping.borrow();
        (ended > 0 && !is_stopping).then_some(Finding { check: "listeners", level: Level::Failing, why })
    }

    fn draining(&self, level: Level) -> Option<Finding> {
        let why = "told to stop; what is under way is finished".to_owned();
        self.stopping.borrow().then_some(Finding { check: "draining", level, why })
    }
}

fn judge_room(room: Room, log_needs: u64) -> Option<Finding> {
    let is_nearly_full = room.free < room.size / NEARLY_FULL_SHARE && room.free < NEARLY_FULL_OCTETS;
    let level = if room.free < log_needs {
        Level::Failing
    } else if is_nearly_full {
        Level::Warning
    } else {
        return None;
    };
    let mebi = |octets: u64| octets >> 20;
    let why = format!(
        "{} MiB of {} MiB are free under data_dir; the log needs {} MiB to go on",
        mebi(room.free),
        mebi(room.size),
        mebi(log_needs)
    );
    Some(Finding { check: "disk", level, why })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_finding_is_the_status_and_only_failing_is_503() {
        let finding = |level| Finding { check: "disk", level, why: "a\nb".into() };
        let warning = Report::of(vec![finding(Level::Warning)]);
        assert_eq!(
            (warning.code(), warning.text().as_str()),
            (StatusCode::OK, "warning\nwarning disk: a b\n")
        );
        let both = Report::of(vec![finding(Level::Failing), finding(Level::Warning)]);
        assert_eq!(both.code(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(
            both.json(),
            "{\"status\":\"failing\",\"findings\":[{\"check\":\"disk\",\"level\":\"failing\",\"why\":\"a\\nb\"},\
             {\"check\":\"disk\",\"level\":\"warning\",\"why\":\"a\\nb\"}]}\n"
        );
        assert_eq!(Report::of(Vec::new()).text(), "ok\n");
    }

    #[test]
    fn a_disk_is_full_when_the_log_cannot_go_on_and_nearly_so_long_before() {
        let level = |free_mebi: u64, size_mebi: u64| {
            let room = Room { free: free_mebi << 20, size: size_mebi << 20 };
            judge_room(room, 128 << 20).map(|finding| finding.level)
        };
        assert_eq!(level(127, 1 << 20), Some(Level::Failing));
        assert_eq!(level(128, 1 << 10), None, "an eighth is free");
        assert_eq!(level(128, 1 << 11), Some(Level::Warning));
        assert_eq!(level(30 << 10, 1 << 20), None, "30 GiB are much, however large the disk is");
    }
}
