//! hickory behind the port.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError as Said, NetError};
use hickory_resolver::proto::dnssec::{Proof, TrustAnchors};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use hickory_resolver::system_conf::read_system_conf;
use hickory_resolver::{Resolver as Hickory, TokioResolver};
use tokio::time::Instant;

use super::denials::Denials;
use super::meters::Meters;
use super::proofs;
use super::resolver::{self, DnsError, Mx, Resolver, Txt};
use super::tlsa::Tlsa;
use super::validating::Validating;
use crate::mail::Domain;
use crate::work::Live;

/// Answers kept in memory.
const CACHE_MAX_ANSWERS: u64 = 4096;
/// Answers are kept to their TTL, but no longer than this (validated ones for a day); that there is none, no longer
/// than this.
const KEPT_MAX: Duration = Duration::from_secs(3600);
const NONE_KEPT_MAX: Duration = Duration::from_secs(300);
/// A denial that does not say how long it is good is kept for so long.
const NONE_KEPT_LEAST: Duration = Duration::from_secs(10);
/// Zones above a name that are asked whether they are there.
const ZONES_ABOVE_MAX: usize = 3;

/// Which servers are asked, and how.
#[derive(Clone, Debug)]
pub struct DnsSettings {
    /// The servers; the system's where there are none.
    pub servers: Vec<SocketAddr>,
    /// How long one try may take.
    pub timeout: Duration,
    /// Whether answers are validated, where that can be.
    pub validates: bool,
    /// A file with the keys of the root, as DNSKEY records; those of the Internet where there is none.
    pub trust_anchor: Option<PathBuf>,
}

impl Default for DnsSettings {
    fn default() -> Self {
        DnsSettings {
            servers: Vec::new(),
            timeout: Duration::from_secs(5),
            validates: true,
            trust_anchor: None,
        }
    }
}

/// Whether the answers of the servers that are asked can be validated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Validation {
    /// It was not asked for: nothing is validated, and nothing secure.
    NotWanted,
    /// They can: the root's were, and so all are.
    Proven,
    /// They cannot, for this reason: nothing is validated, and nothing secure.
    Missing(Box<str>),
    /// The root's records did not come.
    Unknown(DnsError),
}

/// The two ways of asking the same servers.
#[derive(Clone)]
struct Ways {
    plain: TokioResolver,
    validating: Validating,
}

/// hickory-resolver: answers are cached to their TTL, negative ones too.
///
/// It begins without validation. [`HickoryResolver::prove`] finds out whether what the servers send can be
/// validated; from then on everything is, or nothing: where signatures do not come through, each answer would be
/// bogus.
pub struct HickoryResolver {
    ways: Live<Ways>,
    validation: Live<Validation>,
    denials: Denials,
    meters: Meters,
    /// One without a cache; none where this is it.
    uncached: Option<Box<HickoryResolver>>,
}

impl HickoryResolver {
    /// A resolver; fails where the system's configuration, or the trust anchor, cannot be read.
    pub fn new(settings: &DnsSettings) -> Result<Self, DnsError> {
        let begins = match settings.validates {
            true => Validation::Unknown(DnsError::TimedOut),
            false => Validation::NotWanted,
        };
        let (meters, validation) = (Meters::default(), Live::new(begins));
        let anchors = Arc::new(trust_anchors(settings)?);
        let one = |cached: u64, uncached| -> Result<Self, DnsError> {
            let ways = ways(settings, cached, anchors.clone()).map_err(|error| failed(&error))?;
            let (validation, meters) = (validation.clone(), meters.clone());
            Ok(HickoryResolver {
                ways: ways.into(),
                validation,
                denials: Denials::default(),
                meters,
                uncached,
            })
        };
        let uncached = one(0, None)?;
        one(CACHE_MAX_ANSWERS, Some(Box::new(uncached)))
    }

    /// Asks other servers from now on, as another would; questions that are under way get their answers. Whether
    /// their answers can be validated must be [proven](Self::prove) anew.
    pub fn become_like(&self, other: &HickoryResolver) {
        self.ways.replace((*other.ways.now()).clone());
        self.denials.forget();
        if (other.validation() == Validation::NotWanted) != (self.validation() == Validation::NotWanted) {
            self.validation.replace(other.validation());
        }
        if let (Some(own), Some(other)) = (&self.uncached, &other.uncached) {
            own.become_like(other);
        }
    }

    /// What is known of validation.
    pub fn validation(&self) -> Validation {
        (*self.validation.now()).clone()
    }

    /// Finds out whether answers can be validated, by those of the root. What does not come leaves things as they
    /// are: else whoever can keep answers back could end validation.
    pub async fn prove(&self) -> Validation {
        if self.validation() == Validation::NotWanted {
            return Validation::NotWanted;
        }
        let asked = self.uncached.as_deref().unwrap_or(self).ways.now();
        let found = asked.validating.lookup(Name::root(), RecordType::SOA).await;
        let validation = match found.map(|found| found.answers().to_vec()) {
            Ok(answers) if proofs::is_secure(&Name::root(), &answers, is_soa) => Validation::Proven,
            Ok(_) => Validation::Missing("the root's records are not signed".into()),
            Err(error) => match failed(&error) {
                DnsError::Bogus => Validation::Missing(
                    "the root's records come without their signatures, or fail validation: the servers may not \
                     know DNSSEC, or the trust anchor is another root's"
                        .into(),
                ),
                error if error.is_denial() => Validation::Missing("the servers know no root".into()),
                error => Validation::Unknown(error),
            },
        };
        let keeps = matches!(validation, Validation::Unknown(_)) && self.validation() == Validation::Proven;
        if !keeps {
            self.validation.replace(validation.clone());
        }
        validation
    }

    async fn has_soa(&self, mut name: Name) -> bool {
        name.set_fqdn(true);
        let found = self.ask(name, RecordType::SOA).await;
        found.is_ok_and(|found| found.iter().any(|record| record.record_type() == RecordType::SOA))
    }

    async fn look_up(&self, name: Name, kind: RecordType) -> Result<Lookup, NetError> {
        let ways = self.ways.now();
        match *self.validation.now() == Validation::Proven {
            true => ways.validating.lookup(name, kind).await,
            false => ways.plain.lookup(name, kind).await,
        }
    }

    /// Asks, and counts how that went.
    async fn ask(&self, name: Name, kind: RecordType) -> Result<Vec<Record>, DnsError> {
        let (asked_at, question) = (Instant::now(), (name, kind));
        let answer = match self.denials.get(&question) {
            Some(denial) => Err(denial),
            None => match self.look_up(question.0.clone(), kind).await {
                Ok(found) if found.answers().is_empty() => Err(DnsError::NoRecords),
                Ok(found) => Ok(found.answers().to_vec()),
                Err(error) => Err(self.denied(question, &error)),
            },
        };
        self.meters.asked(&answer, asked_at.elapsed());
        answer
    }

    /// What a failure means. Denials are kept, for as long as their zone says (RFC 2308 5).
    fn denied(&self, question: (Name, RecordType), error: &NetError) -> DnsError {
        let means = failed(error);
        if means.is_denial() && self.uncached.is_some() {
            let time = denied_for(error).unwrap_or(NONE_KEPT_LEAST).min(NONE_KEPT_MAX);
            self.denials.keep(question, means.clone(), time);
        }
        means
    }

    async fn records(&self, name: &Domain, kind: RecordType) -> Result<Vec<Record>, DnsError> {
        self.ask(absolute(name)?, kind).await
    }
}

/// No search list may turn a recipient's domain into a local one.
fn absolute(name: &Domain) -> Result<Name, DnsError> {
    let mut name =
        Name::from_ascii(name.as_str()).map_err(|error| DnsError::Failed(error.to_string().into()))?;
    name.set_fqdn(true);
    Ok(name)
}

/// Names as mail has them.
fn domains(names: Vec<&Name>) -> Vec<Domain> {
    names.iter().filter_map(|name| Domain::parse(name.to_ascii().trim_end_matches('.')).ok()).collect()
}

fn is_soa(data: &RData) -> bool {
    matches!(data, RData::SOA(_))
}

/// The root's keys, by which everything is validated.
fn trust_anchors(settings: &DnsSettings) -> Result<TrustAnchors, DnsError> {
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

/// Which servers are asked, and how.
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

fn ways(settings: &DnsSettings, cached: u64, anchors: Arc<TrustAnchors>) -> Result<Ways, NetError> {
    let (config, options) = how(settings, cached).map_err(|error| NetError::from(error.to_string()))?;
    let mut plain = Hickory::builder_with_config(config.clone(), TokioRuntimeProvider::default());
    *plain.options_mut() = options.clone();
    Ok(Ways { plain: plain.build()?, validating: Validating::new(config, options, anchors)? })
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

fn failed(error: &NetError) -> DnsError {
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
        // a zone that signs nothing proves no denial, and need not
        NetError::Dns(Said::Nsec { response, proof: Proof::Insecure, .. }) => {
            match response.metadata.response_code {
                ResponseCode::NXDomain => DnsError::NoSuchName,
                _ => DnsError::NoRecords,
            }
        }
        NetError::Dns(Said::Nsec { .. }) => DnsError::Bogus,
        error => DnsError::Failed(error.to_string().into()),
    }
}

/// How long a denial may be kept.
fn denied_for(error: &NetError) -> Option<Duration> {
    let of_soa = |ttl: u32, data: &RData| match data {
        RData::SOA(soa) => Some(seconds(soa.minimum.min(ttl))),
        _ => None,
    };
    match error {
        NetError::Dns(Said::NoRecordsFound(found)) => {
            found.soa.as_ref().map(|soa| seconds(soa.data.minimum.min(soa.ttl)))
        }
        NetError::Dns(Said::Nsec { response, .. }) => {
            response.authorities.iter().find_map(|record| of_soa(record.ttl, &record.data))
        }
        _ => None,
    }
}

impl Resolver for HickoryResolver {
    fn mx<'a>(&'a self, domain: &'a Domain) -> resolver::Lookup<'a, Vec<Mx>> {
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

    fn addresses<'a>(&'a self, host: &'a Domain) -> resolver::Lookup<'a, Vec<IpAddr>> {
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

    fn txt<'a>(&'a self, name: &'a Domain) -> resolver::Lookup<'a, Txt> {
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

    fn next_hop_names<'a>(&'a self, domain: &'a Domain) -> resolver::Lookup<'a, Vec<Domain>> {
        Box::pin(async move {
            let records = self.records(domain, RecordType::MX).await?;
            Ok(domains(proofs::next_hop_names(&absolute(domain)?, &records)))
        })
    }

    fn tlsa_bases<'a>(&'a self, host: &'a Domain) -> resolver::Lookup<'a, Vec<Domain>> {
        Box::pin(async move {
            let found = tokio::join!(self.records(host, RecordType::A), self.records(host, RecordType::AAAA));
            let records = match found {
                (Err(error), Err(other)) => return Err(if error.is_denial() { other } else { error }),
                (v4, v6) => [v4.unwrap_or_default(), v6.unwrap_or_default()].concat(),
            };
            let host = absolute(host)?;
            Ok(domains(proofs::tlsa_bases(&host, &records)))
        })
    }

    fn tlsa<'a>(&'a self, name: &'a Domain) -> resolver::Lookup<'a, Vec<Tlsa>> {
        Box::pin(async move {
            let records = self.records(name, RecordType::TLSA).await?;
            if !proofs::is_secure(&absolute(name)?, &records, |data| matches!(data, RData::TLSA(_))) {
                return Err(DnsError::NoRecords);
            }
            let tlsa = |record: &Record| match &record.data {
                RData::TLSA(tlsa) => Some(Tlsa {
                    usage: tlsa.cert_usage.into(),
                    selector: tlsa.selector.into(),
                    matching: tlsa.matching.into(),
                    data: tlsa.cert_data.clone().into(),
                }),
                _ => None,
            };
            Ok(records.iter().filter_map(tlsa).collect())
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
            assert_eq!(failed(&error), want);
            assert!(!want.is_denial());
        }
        let refused = failed(&NetError::Dns(Said::ResponseCode(ResponseCode::Refused)));
        assert!(matches!(refused, DnsError::Failed(_)), "{refused:?}");
    }
}
