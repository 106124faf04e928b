//! Whether the DNS is to be believed when it denies a domain.
//!
//! A broken resolver may deny every name, and each message would bounce. So that a name does not exist
//! counts only where a zone above it answers, before the name is asked for again and after it. Until then
//! the domain waits, and the operator hears of it once.

use std::sync::atomic::{AtomicBool, Ordering};

use metrics::{Gauge, gauge};

use super::Deps;
use super::route::{self, Route};
use crate::mail::Domain;
use crate::net::RouteError;
use crate::observe::names;

/// Whether the resolver is doubted.
pub struct Doubt {
    is_doubted: AtomicBool,
    doubted: Gauge,
}

impl Default for Doubt {
    fn default() -> Self {
        Doubt { is_doubted: AtomicBool::new(false), doubted: gauge!(names::RESOLVER_DOUBTED) }
    }
}

impl Doubt {
    /// Whether it is doubted now.
    pub fn is_doubted(&self) -> bool {
        self.is_doubted.load(Ordering::SeqCst)
    }

    /// Whether that was news, and the operator was told.
    fn note(&self, is_doubted: bool, domain: &Domain) -> bool {
        if self.is_doubted.swap(is_doubted, Ordering::SeqCst) == is_doubted {
            return false;
        }
        self.doubted.set(if is_doubted { 1.0 } else { 0.0 });
        if is_doubted {
            tracing::error!(
                event = "resolver_doubted",
                domain = %domain,
                why = "it denies the domain and everything above it; nothing is bounced for that reason now",
            );
        } else {
            tracing::info!(event = "resolver_trusted");
        }
        true
    }
}

/// The way to a domain, where a denial is believed only with proof.
pub(super) async fn resolve(deps: &Deps, domain: &Domain) -> Result<Route, RouteError> {
    match route::resolve(deps, &*deps.resolver, domain).await {
        // that we are the best host may rest on a better one's denial
        Err(RouteError::NoSuchDomain | RouteError::LoopsBack) => confirm(deps, domain).await,
        decided => {
            // what is remembered shows nothing: it is asked anew
            if deps.doubt.is_doubted() && decided.is_ok() && deps.resolver.answers_above(domain).await {
                deps.doubt.note(false, domain);
            }
            decided
        }
    }
}

async fn confirm(deps: &Deps, domain: &Domain) -> Result<Route, RouteError> {
    if !deps.resolver.answers_above(domain).await {
        deps.doubt.note(true, domain);
        return Err(RouteError::Doubted);
    }
    let again = route::resolve(deps, deps.resolver.uncached(), domain).await;
    // what failed between the two would have denied the name as well
    let is_denied = matches!(again, Err(RouteError::NoSuchDomain | RouteError::LoopsBack));
    if is_denied && !deps.resolver.answers_above(domain).await {
        deps.doubt.note(true, domain);
        return Err(RouteError::Doubted);
    }
    deps.doubt.note(false, domain);
    again
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operator_is_told_once_however_many_domains_are_denied() {
        let doubt = Doubt::default();
        let domain = |number: u32| Domain::parse(&format!("d{number}.example")).expect("a domain");
        let told = (0..100).filter(|number| doubt.note(true, &domain(*number))).count();
        assert_eq!((told, doubt.note(false, &domain(1)), doubt.note(false, &domain(2))), (1, true, false));
    }
}
