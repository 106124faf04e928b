//! Parts of the relay that follow from the configuration alone: made at the start, and anew by a reload.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;

use super::certificates::{Gathered, Shown, gather};
use super::config::{Config, RelayListener};
use crate::authentication::KeeperSettings;
use crate::clock::Clock;
use crate::gate::GateSettings;
use crate::inbound::{Door, Rules};
use crate::net::{ClientCertificates, ClientTls, Roots, ServerTls, TlsPolicy};
use crate::outbound::Tls;
use crate::smtp::ServerSettings;

/// What the gate goes by.
pub(super) fn gate_settings(config: &Config) -> GateSettings {
    GateSettings {
        hostname: config.hostname.clone(),
        expire_after: config.outbound.expire_after,
        refuses_unsigned: config.dkim.is_required,
    }
}

/// How long the record of a key has to stay: as long as mail is tried, and a week for those who look at it late.
/// Where the configuration has faults, as long as mail is tried without a word.
pub(super) fn kept_after_retiring(config: Option<&Config>) -> Duration {
    let tried = config.map_or(Duration::from_secs(5 * 86_400), |config| config.outbound.expire_after);
    tried + Duration::from_secs(7 * 86_400)
}

/// What the keeper of keys goes by.
pub(super) fn keeper_settings(config: &Config) -> KeeperSettings {
    KeeperSettings {
        every: config.dkim.check_interval,
        keep: kept_after_retiring(Some(config)),
        fallback: config.dkim.fallback.clone(),
    }
}

/// What sessions go by, and the certificates that are shown in them.
pub(super) fn rules(config: &Config, clock: &Clock, former: &[Shown]) -> anyhow::Result<(Rules, Gathered)> {
    let gathered = gather(config, former).context("reading tls.certificates")?;
    let identities = gathered.shown.iter().map(|one| one.identity.clone()).collect();
    let asked = if config.clients.any_by_certificate() {
        ClientCertificates::Asked
    } else {
        ClientCertificates::NotAsked
    };
    let mut rules = Rules::new(config.clients.clone());
    rules.tls = Some(ServerTls::new(identities, asked, clock.clone())?);
    (rules.patience, rules.limits) = (config.patience, config.connections);
    Ok((rules, gathered))
}

/// What is said and believed at a listener.
pub(super) fn door_of(config: &Config, listener: &RelayListener) -> Door {
    let server = ServerSettings {
        hostname: config.hostname.clone(),
        limits: config.limits,
        tls: listener.tls,
        has_chunking: true,
    };
    Door { server: Arc::new(server), proxies: listener.proxies.clone() }
}

/// For remote servers.
pub(super) fn client_tls(config: &Config, clock: &Clock) -> anyhow::Result<Tls> {
    let roots = Roots::with_files(&config.tls.extra_ca).context("reading tls.extra_ca")?;
    let by = |policy| ClientTls::new(policy, &roots, clock.clone());
    Ok(Tls { any: by(TlsPolicy::Opportunistic)?, verified: by(TlsPolicy::Verified)? })
}
