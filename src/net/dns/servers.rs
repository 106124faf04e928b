//! The servers that are asked, and the two ways of asking them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::dnssec::TrustAnchors;
use hickory_resolver::proto::rr::{Name, RecordType};
use hickory_resolver::system_conf::read_system_conf;
use hickory_resolver::{Resolver as Hickory, TokioResolver};

use super::failures::failed;
use super::resolver::DnsError;
use super::validating::Validating;
use crate::mail::Domain;

/// Answers are kept to their TTL, but no longer than this (validated ones for a day); that there is none, no longer
/// than this.
const KEPT_MAX: Duration = Duration::from_secs(3600);
pub(super) const NONE_KEPT_MAX: Duration = Duration::from_secs(300);

/// Which servers are asked, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsSettings {
    /// The servers; the system's where there are none.
    pub servers: Vec<SocketAddr>,
    /// How long one try may take.
    pub timeout: Duration,
    /// Whether answers are validated, where that can be.
    pub validates: bool,
    /// Domains of which nothing is validated, with all that is below them (RFC 7646): those of one's own network
    /// whose parents know nothing of them.
    pub insecure_domains: Vec<Domain>,
    /// A file with the keys of the root, as DNSKEY records; those of the Internet where there is none.
    pub trust_anchor: Option<PathBuf>,
}

impl Default for DnsSettings {
    fn default() -> Self {
        DnsSettings {
            servers: Vec::new(),
            timeout: Duration::from_secs(5),
            validates: true,
            insecure_domains: Vec::new(),
            trust_anchor: None,
        }
    }
}

/// The two ways of asking the same servers.
#[derive(Clone)]
pub(super) struct Ways {
    pub(super) plain: TokioResolver,
    pub(super) validating: Validating,
    /// The servers, as they are configured.
    asked: String,
}

impl Ways {
    /// With so many answers kept.
    pub(super) fn new(
        settings: &DnsSettings,
        cached: u64,
        anchors: Arc<TrustAnchors>,
    ) -> Result<Self, DnsError> {
        let (config, options) = how(settings, cached)?;
        let mut plain = Hickory::builder_with_config(config.clone(), TokioRuntimeProvider::default());
        *plain.options_mut() = options.clone();
        let insecure: Result<Vec<Name>, _> = settings.insecure_domains.iter().map(absolute).collect();
        // RFC 6761 6.3
        let localhost = Name::from_ascii("localhost.").ok();
        let insecure = insecure?.into_iter().chain(localhost).collect();
        let asked = format!("{:?}", config.name_servers());
        let validating = Validating::new(config, options, anchors, insecure);
        Ok(Ways {
            plain: plain.build().map_err(|error| failed(&error))?,
            validating: validating.map_err(|error| failed(&error))?,
            asked,
        })
    }

    /// Whether these ask the same servers as others.
    pub(super) fn ask_the_same(&self, other: &Ways) -> bool {
        self.asked == other.asked
    }

    pub(super) async fn look_up(
        &self,
        validates: bool,
        name: Name,
        kind: RecordType,
    ) -> Result<Lookup, NetError> {
        if validates { self.validating.lookup(name, kind).await } else { self.plain.lookup(name, kind).await }
    }
}

/// No search list may turn a recipient's domain into a local one.
pub(super) fn absolute(name: &Domain) -> Result<Name, DnsError> {
    let mut name =
        Name::from_ascii(name.as_str()).map_err(|error| DnsError::Failed(error.to_string().into()))?;
    name.set_fqdn(true);
    Ok(name)
}

/// The root's keys, by which everything is validated.
pub(super) fn trust_anchors(settings: &DnsSettings) -> Result<TrustAnchors, DnsError> {
    settings.trust_anchor.as_deref().map_or(Ok(TrustAnchors::default()), read_anchors)
}

/// Whether a file holds keys of the root.
pub fn check_trust_anchor(file: &Path) -> Result<(), DnsError> {
    read_anchors(file).map(drop)
}

fn read_anchors(file: &Path) -> Result<TrustAnchors, DnsError> {
    let unfit = |why: String| DnsError::Failed(format!("the trust anchor {}: {why}", file.display()).into());
    let anchors = TrustAnchors::from_file(file).map_err(|error| unfit(error.to_string()))?;
    // keys of the root alone: nothing else is looked for at the end of a chain
    if anchors.is_empty() { Err(unfit("holds no DNSKEY record of the root".into())) } else { Ok(anchors) }
}

fn how(settings: &DnsSettings, cached: u64) -> Result<(ResolverConfig, ResolverOpts), DnsError> {
    let (config, mut options) = if settings.servers.is_empty() {
        read_system_conf().map_err(|error| failed(&error))?
    } else {
        (ResolverConfig::from_name_servers(name_servers(&settings.servers)), ResolverOpts::default())
    };
    options.cache_size = cached;
    options.positive_max_ttl = Some(KEPT_MAX);
    options.negative_max_ttl = Some(NONE_KEPT_MAX);
    options.timeout = settings.timeout;
    options.attempts = 2;
    Ok((config, options))
}

fn name_servers(servers: &[SocketAddr]) -> Vec<NameServerConfig> {
    let server = |address: &SocketAddr| {
        let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
            connection.port = address.port();
            connection
        });
        NameServerConfig::new(address.ip(), true, connections.into())
    };
    servers.iter().map(server).collect()
}
