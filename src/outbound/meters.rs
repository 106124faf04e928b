//! What sending counts.

use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use tokio::sync::Semaphore;

use super::Deps;
use crate::egress::Closure;
use crate::mail::{Class, Severity, Verdict};
use crate::observe::names;

/// The provider of sites that belong to none of those configured.
const OTHER: &str = "other";

/// Handles, looked up once.
pub struct Meters {
    pub(super) delivered: Counter,
    pub(super) deferred: Counter,
    pub(super) bounced: Counter,
    /// By class, in the order of [`Class::ALL`].
    delivery_seconds: [Histogram; 3],
    /// Of sites without a provider.
    pub(super) attempts: Attempts,
    opened: Counter,
    reused: Counter,
    failed: Counter,
    pub(super) connection_messages: Histogram,
    pub(super) open: Gauge,
    /// Connections that the windows of all paths allow.
    pub(super) windows: Gauge,
    domain_restarts: Counter,
    path_restarts: Counter,
    manager_delay_seconds: Histogram,
    levels: Levels,
}

/// What is looked at with each beat.
struct Levels {
    attempts: Gauge,
    idle: Gauge,
    connections_limit: Gauge,
    copies: Level,
    urgent_copies: Level,
    look_ups: Gauge,
}

/// Places taken, and places that there are.
struct Level {
    used: Gauge,
    limit: Gauge,
}

/// How transactions with the servers of a provider ended.
#[derive(Debug)]
pub(super) struct Attempts {
    delivered: Counter,
    deferred: Counter,
    bounced: Counter,
    lost: Counter,
}

impl Attempts {
    /// By its configured name.
    pub(super) fn with(provider: &str) -> Self {
        let of = |outcome: &'static str| counter!(names::ATTEMPTS, "provider" => provider.to_owned(), "outcome" => outcome);
        Attempts {
            delivered: of("delivered"),
            deferred: of("deferred"),
            bounced: of("bounced"),
            lost: of("lost"),
        }
    }

    /// The server judged: the worst that it said counts.
    pub(super) fn judged(&self, verdicts: &[Verdict]) {
        let count = if verdicts.iter().any(Verdict::is_final) {
            &self.bounced
        } else if verdicts.iter().any(|verdict| verdict.severity() != Severity::Success) {
            &self.deferred
        } else {
            &self.delivered
        };
        count.increment(1);
    }

    /// The connection broke before the server had judged.
    pub(super) fn lost(&self) {
        self.lost.increment(1);
    }
}

impl Default for Meters {
    fn default() -> Self {
        for closure in [Closure::Pause, Closure::Block] {
            // there from the start, so that the first one is seen as an increase
            counter!(names::CLOSURES, "receiver" => OTHER, "closure" => closure.as_str()).increment(0);
        }
        let connection = |outcome: &'static str| counter!(names::REMOTE_CONNECTIONS, "outcome" => outcome);
        let restarts = |actor: &'static str| counter!(names::RESTARTS, "actor" => actor);
        Meters {
            delivered: counter!(names::DELIVERED),
            deferred: counter!(names::DEFERRED),
            bounced: counter!(names::BOUNCED),
            delivery_seconds: Class::ALL
                .map(|class| histogram!(names::DELIVERY_SECONDS, "class" => class.as_str())),
            attempts: Attempts::with(OTHER),
            opened: connection("opened"),
            reused: connection("reused"),
            failed: connection("failed"),
            connection_messages: histogram!(names::CONNECTION_MESSAGES),
            open: gauge!(names::REMOTE_CONNECTIONS_OPEN),
            windows: gauge!(names::WINDOWS),
            domain_restarts: restarts("domain"),
            path_restarts: restarts("path"),
            manager_delay_seconds: histogram!(names::MANAGER_DELAY_SECONDS),
            levels: Levels::default(),
        }
    }
}

impl Default for Levels {
    fn default() -> Self {
        let copies = |kind: &'static str| Level {
            used: gauge!(names::COPIES_USED, "kind" => kind),
            limit: gauge!(names::COPIES_LIMIT, "kind" => kind),
        };
        Levels {
            attempts: gauge!(names::ATTEMPTS_OPEN),
            idle: gauge!(names::REMOTE_CONNECTIONS_IDLE),
            connections_limit: gauge!(names::REMOTE_CONNECTIONS_LIMIT),
            copies: copies("any"),
            urgent_copies: copies("urgent"),
            look_ups: gauge!(names::LOOK_UPS),
        }
    }
}

impl Level {
    fn set(&self, places: &Semaphore, limit: usize) {
        self.used.set(used(places, limit));
        self.limit.set(limit as f64);
    }
}

fn used(places: &Semaphore, limit: usize) -> f64 {
    limit.saturating_sub(places.available_permits()) as f64
}

impl Meters {
    /// A recipient was served, so long after their message was accepted.
    pub(super) fn delivered(&self, class: Class, delay: Duration) {
        self.delivered.increment(1);
        if let Some(seconds) = self.delivery_seconds.get(class as usize) {
            seconds.record(delay.as_secs_f64());
        }
    }

    /// A connection was opened.
    pub(super) fn connection_opened(&self) {
        self.opened.increment(1);
    }

    /// One that was kept is used again.
    pub(super) fn connection_reused(&self) {
        self.reused.increment(1);
    }

    /// None could be opened.
    pub(super) fn connection_failed(&self) {
        self.failed.increment(1);
    }

    /// A domain's actor ended unasked.
    pub(super) fn domain_died(&self) {
        self.domain_restarts.increment(1);
    }

    /// So did a path's.
    pub(super) fn path_died(&self) {
        self.path_restarts.increment(1);
    }

    /// The manager came to a beat that had waited so long; what else is to be seen now is noted with it.
    pub(super) fn beat(&self, deps: &Deps, waited: Duration) {
        self.manager_delay_seconds.record(waited.as_secs_f64());
        let (levels, places, settings) = (&self.levels, &deps.places, deps.settings.now());
        levels.attempts.set(deps.leases.count() as f64);
        levels.idle.set(deps.hosts.kept() as f64);
        levels.connections_limit.set(settings.connections_max as f64);
        levels.copies.set(&places.copies, settings.copies_max);
        levels.urgent_copies.set(&places.urgent_copies, settings.urgent_copies_max);
        levels.look_ups.set(used(&places.look_ups, settings.look_ups_max));
    }
}

/// The circuit breaker opened or closed for a kind of refusal.
pub(super) fn breaker(is_open: bool) {
    let open = gauge!(names::BREAKERS_OPEN);
    if is_open { open.increment(1.0) } else { open.decrement(1.0) }
}

/// A connection is up, and this is what it has shown of who is at the other end.
pub(super) fn proven(proof: &'static str) {
    counter!(names::CONNECTIONS_PROVEN, "proof" => proof).increment(1);
}

/// A server refused a recipient.
pub(super) fn refused(receiver: Option<&str>, meaning: &'static str) {
    let receiver = receiver.unwrap_or("other").to_owned();
    counter!(names::REPLIES, "receiver" => receiver, "meaning" => meaning).increment(1);
}

/// A receiver keeps us away from now on, in this way.
pub(super) fn closed(provider: &str, closure: &'static str) {
    counter!(names::CLOSURES, "receiver" => provider.to_owned(), "closure" => closure).increment(1);
}

/// So many receivers keep us away in this way.
pub(super) fn receivers_closed(closure: &'static str, count: usize) {
    gauge!(names::RECEIVERS_CLOSED, "closure" => closure).set(count as f64);
}

/// A host did not prove what it must, by this demand.
pub(super) fn unproven(demand: &'static str) {
    counter!(names::HOSTS_UNPROVEN, "demand" => demand).increment(1);
}

/// A TLS handshake ended, with this version or not at all.
pub(super) fn handshake(result: &'static str) {
    counter!(names::TLS_HANDSHAKES, "direction" => "out", "result" => result).increment(1);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::{EnhancedStatus, Reply, Stage};

    #[test]
    fn the_worst_that_was_said_counts() {
        let said = |code: u16| Verdict {
            reply: Reply::new(code, EnhancedStatus::new((code / 100) as u8, 1, 1), "said"),
            stage: Stage::Rcpt,
        };
        let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
        let attempts = metrics::with_local_recorder(&recorder, || Attempts::with("p"));
        for codes in [&[250, 250][..], &[250, 450], &[450, 550], &[550]] {
            attempts.judged(&codes.iter().map(|code| said(*code)).collect::<Vec<_>>());
        }
        let told = recorder.handle().render();
        for (outcome, count) in [("delivered", 1), ("deferred", 1), ("bounced", 2), ("lost", 0)] {
            let line = format!("barid_attempts_total{{provider=\"p\",outcome=\"{outcome}\"}} {count}");
            assert!(told.contains(&line), "{line} is not in {told}");
        }
    }
}
