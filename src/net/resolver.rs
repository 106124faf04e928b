//! The resolver as a port, and hickory behind it.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::time::Duration;

use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError as Said, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use hickory_resolver::{Resolver as Hickory, TokioResolver};
use tokio::time::Instant;

use super::meters::Meters;
use crate::mail::Domain;
use crate::work::Live;

/// Answers kept in memory.
const CACHE_MAX_ANSWERS: u64 = 4096;
/// Answers are kept to their TTL, but no longer than this; that there is none, no longer than this.
const KEPT_MAX: Duration = Duration::from_secs(3600);
const NONE_KEPT_MAX: Duration = Duration::from_secs(300);
/// Zones above a name that are asked whether they are there.
const ZONES_ABOVE_MAX: usize = 3;

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DnsError {
    /// The name does not exist.
    #[error("the name does not exist")]
    NoSuchName,
    /// The name exists, but has no records of this type.
    #[error("the name has no such record")]
    NoRecords,
    /// The server could not give an answer (SERVFAIL). May pass.
    #[error("the DNS server failed")]
    ServerFailed,
    /// No answer came in time. May pass.
    #[error("the DNS did not answer in time")]
    TimedOut,
    /// The answer is not what its zone signed. May pass.
    #[error("the DNS answer is bogus: it fails DNSSEC validation")]
    Bogus,
    /// The server refused, or its answer made no sense. May pass.
    #[error("no answer from the DNS: {0}")]
    Failed(Box<str>),
}

impl DnsError {
    /// Whether the DNS said that there is nothing, rather than nothing.
    pub fn is_denial(&self) -> bool {
        matches!(self, DnsError::NoSuchName | DnsError::NoRecords)
    }
}

/// One MX record.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mx {
    /// Lower is tried first.
    pub preference: u16,
    /// The host; `None` for the root, which says that no mail is taken (RFC 7505).
    pub host: Option<Domain>,
}

/// The TXT records of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Txt {
    /// Each record, its strings put together (RFC 6376 3.6.2.2).
    pub texts: Vec<Box<[u8]>>,
    /// How long they may be kept.
    pub ttl: Duration,
}

/// An answer on its way.
pub type Lookup<'a, T> = Pin<Box<dyn Future<Output = Result<T, DnsError>> + Send + 'a>>;

/// What the relay asks of the DNS.
pub trait Resolver: Send + Sync {
    /// The MX records of a domain, in any order.
    fn mx<'a>(&'a self, domain: &'a Domain) -> Lookup<'a, Vec<Mx>>;
    /// The IPv4 addresses of a host, then its IPv6 addresses.
    fn addresses<'a>(&'a self, host: &'a Domain) -> Lookup<'a, Vec<IpAddr>>;
    /// The TXT records of a name.
    fn txt<'a>(&'a self, name: &'a Domain) -> Lookup<'a, Txt>;
    /// The same, asked anew.
    fn uncached(&self) -> &dyn Resolver;
    /// Whether a zone above the name gives an answer now, asked anew. Where none does, not even the root,
    /// that a name does not exist says more about the resolver than about the name.
    fn answers_above<'a>(&'a self, domain: &'a Domain) -> Pin<Box<dyn Future<Output = bool> + Send + 'a>>;
}

/// Which servers are asked, and how.
#[derive(Clone, Debug)]
pub struct DnsSettings {
    /// The servers; the system's where there are none.
    pub servers: Vec<SocketAddr>,
    /// How long one try may take.
    pub timeout: Duration,
}

impl Default for DnsSettings {
    fn default() -> Self {
        DnsSettings { servers: Vec::new(), timeout: Duration::from_secs(5) }
    }
}

/// hickory-resolver: answers are cached to their TTL, negative ones too.
pub struct HickoryResolver {
    asked: Live<TokioResolver>,
    meters: Meters,
    /// One without a cache; none where this is it.
    uncached: Option<Box<HickoryResolver>>,
}

impl HickoryResolver {
    /// A resolver; fails where the system's configuration cannot be read.
    pub fn new(settings: &DnsSettings) -> Result<Self, DnsError> {
        let meters = Meters::default();
        let asked = build(settings, 0)?.into();
        let uncached = HickoryResolver { asked, meters: meters.clone(), uncached: None };
        let asked = build(settings, CACHE_MAX_ANSWERS)?.into();
        Ok(HickoryResolver { asked, meters, uncached: Some(Box::new(uncached)) })
    }

    /// Asks other servers from now on, as another would; questions that are under way get their answers.
    pub fn become_like(&self, other: &HickoryResolver) {
        self.asked.replace((*other.asked.now()).clone());
        if let (Some(own), Some(other)) = (&self.uncached, &other.uncached) {
            own.become_like(other);
        }
    }

    async fn has_soa(&self, mut name: Name) -> bool {
        name.set_fqdn(true);
        let found = self.ask(name, RecordType::SOA).await;
        found.is_ok_and(|found| found.iter().any(|record| record.record_type() == RecordType::SOA))
    }

    /// Asks, and counts how that went.
    async fn ask(&self, name: Name, kind: RecordType) -> Result<Vec<Record>, DnsError> {
        let asked_at = Instant::now();
        let answer = match self.asked.now().lookup(name, kind).await {
            Ok(found) if found.answers().is_empty() => Err(DnsError::NoRecords),
            Ok(found) => Ok(found.answers().to_vec()),
            Err(error) => Err(failed(error)),
        };
        self.meters.asked(&answer, asked_at.elapsed());
        answer
    }

    async fn records(&self, name: &Domain, kind: RecordType) -> Result<Vec<Record>, DnsError> {
        // absolute: no search list may turn a recipient's domain into a local one
        let mut name =
            Name::from_ascii(name.as_str()).map_err(|error| DnsError::Failed(error.to_string().into()))?;
        name.set_fqdn(true);
        self.ask(name, kind).await
    }
}

fn build(settings: &DnsSettings, cached: u64) -> Result<TokioResolver, DnsError> {
    let mut builder = if settings.servers.is_empty() {
        TokioResolver::builder_tokio().map_err(failed)?
    } else {
        let config = ResolverConfig::from_name_servers(name_servers(&settings.servers));
        Hickory::builder_with_config(config, TokioRuntimeProvider::default())
    };
    let options = builder.options_mut();
    options.cache_size = cached;
    options.positive_max_ttl = Some(KEPT_MAX);
    options.negative_max_ttl = Some(NONE_KEPT_MAX);
    options.timeout = settings.timeout;
    options.attempts = 2;
    builder.build().map_err(failed)
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

fn seconds(ttl: u32) -> Duration {
    Duration::from_secs(ttl.into())
}

fn failed(error: NetError) -> DnsError {
    if error.is_nx_domain() {
        return DnsError::NoSuchName;
    }
    if error.is_no_records_found() {
        return DnsError::NoRecords;
    }
    match error {
        NetError::Timeout => DnsError::TimedOut,
        NetError::Dns(Said::ResponseCode(ResponseCode::ServFail)) => DnsError::ServerFailed,
        NetError::Dns(Said::DnssecBogus) => DnsError::Bogus,
        error => DnsError::Failed(error.to_string().into()),
    }
}

impl Resolver for HickoryResolver {
    fn mx<'a>(&'a self, domain: &'a Domain) -> Lookup<'a, Vec<Mx>> {
        Box::pin(async move {
            let records = self.records(domain, RecordType::MX).await?;
            let mx = records.iter().filter_map(|record| match &record.data {
                RData::MX(mx) if mx.exchange.is_root() => Some(Mx { preference: mx.preference, host: None }),
                RData::MX(mx) => {
                    let host = Domain::parse(&mx.exchange.to_ascii()).ok()?;
                    Some(Mx { preference: mx.preference, host: Some(host) })
                }
                _ => None,
            });
            let mx: Vec<Mx> = mx.collect();
            if mx.is_empty() {
                // there are MX records, so the domain's own address is not meant (RFC 5321 5.1)
                return Err(DnsError::Failed("no MX record names a host".into()));
            }
            Ok(mx)
        })
    }

    fn addresses<'a>(&'a self, host: &'a Domain) -> Lookup<'a, Vec<IpAddr>> {
        Box::pin(async move {
            let (v4, v6) =
                tokio::join!(self.records(host, RecordType::A), self.records(host, RecordType::AAAA));
            let address = |record: &Record| match &record.data {
                RData::A(a) => Some(IpAddr::V4(a.0)),
                RData::AAAA(aaaa) => Some(IpAddr::V6(aaaa.0)),
                _ => None,
            };
            match (v4, v6) {
                (Err(error), Err(other)) => Err(if error.is_denial() { other } else { error }),
                (v4, v6) => {
                    let both = v4.unwrap_or_default().into_iter().chain(v6.unwrap_or_default());
                    Ok(both.filter_map(|record| address(&record)).collect())
                }
            }
        })
    }

    fn txt<'a>(&'a self, name: &'a Domain) -> Lookup<'a, Txt> {
        Box::pin(async move {
            let records = self.records(name, RecordType::TXT).await?;
            let ttl = records.iter().map(|record| record.ttl).min().unwrap_or(0);
            let text = |record: &Record| match &record.data {
                RData::TXT(txt) => Some(txt.txt_data.concat().into_boxed_slice()),
                _ => None,
            };
            let texts: Vec<Box<[u8]>> = records.iter().filter_map(text).collect();
            // an alias that leads to none
            if texts.is_empty() { Err(DnsError::NoRecords) } else { Ok(Txt { texts, ttl: seconds(ttl) }) }
        })
    }

    fn uncached(&self) -> &dyn Resolver {
        self.uncached.as_deref().unwrap_or(self)
    }

    fn answers_above<'a>(&'a self, domain: &'a Domain) -> Pin<Box<dyn Future<Output = bool> + Send + 'a>> {
        let asked = self.uncached.as_deref().unwrap_or(self);
        Box::pin(async move {
            let mut zone = Name::from_ascii(domain.as_str()).unwrap_or_default();
            for _ in 0..ZONES_ABOVE_MAX {
                zone = zone.base_name();
                if zone.is_root() {
                    break;
                }
                if asked.has_soa(zone.clone()).await {
                    return true;
                }
            }
            asked.has_soa(Name::root()).await
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_told_apart() {
        for (error, want) in [
            (NetError::Timeout, DnsError::TimedOut),
            (NetError::Dns(Said::ResponseCode(ResponseCode::ServFail)), DnsError::ServerFailed),
            (NetError::Dns(Said::DnssecBogus), DnsError::Bogus),
        ] {
            assert_eq!(failed(error), want);
            assert!(!want.is_denial());
        }
        let refused = failed(NetError::Dns(Said::ResponseCode(ResponseCode::Refused)));
        assert!(matches!(refused, DnsError::Failed(_)), "{refused:?}");
    }
}
