//! Whether answers of the DNS are validated, and who hears of it.

use std::sync::Arc;
use std::time::Duration;

use metrics::gauge;
use tokio::sync::watch;

use crate::net::{HickoryResolver, Validation};
use crate::observe::names;

/// How often it is looked whether it is so still; sooner where it is not known.
const EVERY: Duration = Duration::from_secs(3600);
const WHILE_UNKNOWN: Duration = Duration::from_secs(30);
/// How long the start waits for an answer: mail that left before would leave without DANE.
const AT_START: Duration = Duration::from_secs(3);

/// Finds out at the start, as long as that does not take long.
pub(super) async fn prove_at_start(resolver: &HickoryResolver) {
    if tokio::time::timeout(AT_START, resolver.prove()).await.is_err() {
        tracing::warn!(event = "dnssec_unknown", why = "the DNS does not answer; it is asked again");
    }
    tell(resolver);
}

/// Finds out, and says so where it has changed.
pub(super) async fn prove(resolver: &HickoryResolver) {
    let before = resolver.validation();
    resolver.prove().await;
    if resolver.validation() != before {
        tell(resolver);
    }
}

/// Finds out now and again.
pub(super) async fn watch(resolver: Arc<HickoryResolver>, mut stopping: watch::Receiver<bool>) {
    loop {
        let is_unknown = matches!(resolver.validation(), Validation::Unknown(_));
        let rest = if is_unknown { WHILE_UNKNOWN } else { EVERY };
        tokio::select! {
            () = tokio::time::sleep(rest) => prove(&resolver).await,
            () = async { drop(stopping.wait_for(|is_stopping| *is_stopping).await) } => return,
        }
    }
}

/// Why answers are not validated that should be.
pub(super) fn ailment(resolver: &HickoryResolver) -> Option<String> {
    match resolver.validation() {
        Validation::Proven | Validation::NotWanted => None,
        Validation::Missing(why) => {
            Some(format!("answers of the DNS are not validated, so DANE is off: {why}"))
        }
        Validation::Unknown(error) => Some(format!(
            "whether answers of the DNS can be validated is not known yet, so DANE is off: {error}"
        )),
    }
}

fn tell(resolver: &HickoryResolver) {
    let ailment = ailment(resolver);
    gauge!(names::DNSSEC_MISSING).set(if ailment.is_some() { 1.0 } else { 0.0 });
    match (resolver.validation(), ailment) {
        (_, Some(why)) => tracing::warn!(event = "dnssec_missing", why),
        (Validation::NotWanted, None) => tracing::info!(event = "dnssec_not_wanted"),
        (_, None) => tracing::info!(event = "dnssec_proven"),
    }
}
