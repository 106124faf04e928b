//! Whether answers of the DNS are validated, and who hears of it.

use std::sync::Arc;
use std::time::Duration;

use metrics::gauge;
use tokio::sync::watch;

use crate::net::{HickoryResolver, Validation};
use crate::observe::names;
use crate::work::Live;

/// How often it is looked whether it is so still; sooner where it is not; and soon where it is not known, for mail
/// may wait for it.
const EVERY: Duration = Duration::from_secs(3600);
const WHILE_MISSING: Duration = Duration::from_secs(60);
const WHILE_UNKNOWN: Duration = Duration::from_secs(2);
/// How long the start waits for an answer.
const AT_START: Duration = Duration::from_secs(3);

/// What was found last, beside what holds.
#[derive(Clone)]
pub(super) struct Watch {
    resolver: Arc<HickoryResolver>,
    found: Live<Validation>,
}

impl Watch {
    /// Finds out at the start, as long as that does not take long.
    pub(super) async fn begin(resolver: Arc<HickoryResolver>) -> Self {
        let found = resolver.validation().into();
        let watch = Watch { resolver, found };
        // where it takes longer everything is validated meanwhile
        let _ = tokio::time::timeout(AT_START, watch.prove()).await;
        watch.tell();
        watch
    }

    async fn prove(&self) {
        self.found.replace(self.resolver.prove().await);
    }

    /// Finds out anew: other servers may be asked now.
    pub(super) async fn again(&self) {
        self.prove().await;
        self.tell();
    }

    /// Finds out now and again.
    pub(super) async fn run(self, mut stopping: watch::Receiver<bool>) {
        loop {
            let ailment = self.ailment();
            let rest = match self.resolver.validation() {
                Validation::Unknown(_) => WHILE_UNKNOWN,
                _ if ailment.is_some() => WHILE_MISSING,
                _ => EVERY,
            };
            tokio::select! {
                () = tokio::time::sleep(rest) => self.prove().await,
                () = async { drop(stopping.wait_for(|is_stopping| *is_stopping).await) } => return,
            }
            if self.ailment() != ailment {
                self.tell();
            }
        }
    }

    /// Why answers are not validated that should be; or why all of them may be found bogus.
    pub(super) fn ailment(&self) -> Option<String> {
        match (self.resolver.validation(), (*self.found.now()).clone()) {
            (Validation::NotWanted, _) | (Validation::Proven, Validation::Proven | Validation::NotWanted) => {
                None
            }
            (Validation::Missing(why), _) => {
                Some(format!("answers of the DNS are not validated, so DANE is off: {why}"))
            }
            (Validation::Unknown(error), _) | (Validation::Proven, Validation::Unknown(error)) => {
                Some(format!("the DNS does not tell of its root, so that mail may wait: {error}"))
            }
            (Validation::Proven, Validation::Missing(why)) => {
                Some(format!("answers of the DNS fail validation that did not, so that mail waits: {why}"))
            }
        }
    }

    fn tell(&self) {
        let ailment = self.ailment();
        gauge!(names::DNSSEC_MISSING).set(if ailment.is_some() { 1.0 } else { 0.0 });
        match (self.resolver.validation(), ailment) {
            (_, Some(why)) => tracing::warn!(event = "dnssec_missing", why),
            (Validation::NotWanted, None) => tracing::info!(event = "dnssec_not_wanted"),
            (_, None) => tracing::info!(event = "dnssec_proven"),
        }
    }
}
