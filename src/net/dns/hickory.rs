//! hickory behind the port.

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use hickory_resolver::net::{DnsError as Said, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use tokio::time::Instant;

use super::denials::Denials;
use super::failures::{denied_for, failed};
use super::meters::Meters;
use super::proofs::{Found, waive};
use super::resolver::{DnsError, Lookup, Mx, Resolver, Txt};
use super::servers::{DnsSettings, NONE_KEPT_MAX, Ways, absolute, trust_anchors};
use super::tlsa::Tlsa;
use crate::mail::Domain;
use crate::work::Live;

/// Answers kept in memory.
const CACHE_MAX_ANSWERS: u64 = 4096;
/// A denial that does not say how long it is good is kept for so long.
const NONE_KEPT_LEAST: Duration = Duration::from_secs(10);
/// Zones above a name that are asked whether they are there.
const ZONES_ABOVE_MAX: usize = 3;
/// So often in a row the root's records may make no sense before that is taken for more than an accident.
const ROOT_FAILURES_MAX: u32 = 3;
/// Questions that are asked to get from a name to the end of its aliases.
const STEPS_MAX: usize = 8;

/// Whether the answers of the servers that are asked can be validated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Validation {
    /// It was not asked for: nothing is validated, and nothing secure.
    NotWanted,
    /// They can: the root's were, and so all are.
    Proven,
    /// They cannot, for this reason: nothing is validated, and nothing secure.
    Missing(Box<str>),
    /// The root's records have not come yet. Everything is validated: who keeps them back must not end DANE.
    Unknown(DnsError),
}

impl Validation {
    fn validates(&self) -> bool {
        matches!(self, Validation::Proven | Validation::Unknown(_))
    }
}

/// hickory-resolver: answers are cached to their TTL, negative ones too.
///
/// [`HickoryResolver::prove`] finds out whether what the servers send can be validated. Where signatures do not come
/// through, nothing is: each answer would be bogus. Once it was proven that they do, everything is validated until
/// other servers are asked.
pub struct HickoryResolver {
    ways: Live<Ways>,
    validation: Live<Validation>,
    settings: Live<DnsSettings>,
    denials: Denials,
    meters: Meters,
    /// How often other servers have come to be asked.
    generation: AtomicU64,
    /// How often in a row the root's records made no sense.
    failures: AtomicU32,
    /// One without a cache; none where this is it.
    uncached: Option<Box<HickoryResolver>>,
}

fn begins(settings: &DnsSettings) -> Validation {
    if settings.validates { Validation::Unknown(DnsError::TimedOut) } else { Validation::NotWanted }
}

impl HickoryResolver {
    /// A resolver; fails where the system's configuration, or the trust anchor, cannot be read.
    pub fn new(settings: &DnsSettings) -> Result<Self, DnsError> {
        let (meters, validation) = (Meters::default(), Live::new(begins(settings)));
        let (anchors, settings) = (Arc::new(trust_anchors(settings)?), Live::new(settings.clone()));
        let one = |cached: u64, uncached| -> Result<Self, DnsError> {
            Ok(HickoryResolver {
                ways: Ways::new(&settings.now(), cached, anchors.clone())?.into(),
                validation: validation.clone(),
                settings: settings.clone(),
                denials: Denials::default(),
                meters: meters.clone(),
                generation: AtomicU64::new(0),
                failures: AtomicU32::new(0),
                uncached,
            })
        };
        let uncached = one(0, None)?;
        one(CACHE_MAX_ANSWERS, Some(Box::new(uncached)))
    }

    /// Asks as another would from now on; questions that are under way get their answers. Where that means other
    /// servers, it must be [proven](Self::prove) anew that their answers can be validated.
    pub fn become_like(&self, other: &HickoryResolver) {
        let (before, after) = (self.settings.now(), other.settings.now());
        let asks_the_same = before == after && self.ways.now().ask_the_same(&other.ways.now());
        self.ways.replace((*other.ways.now()).clone());
        if let (Some(own), Some(other)) = (&self.uncached, &other.uncached) {
            own.ways.replace((*other.ways.now()).clone());
        }
        if !asks_the_same {
            self.generation.fetch_add(1, Ordering::SeqCst);
            self.failures.store(0, Ordering::SeqCst);
            self.hold(begins(&after));
        }
        self.settings.replace((*after).clone());
        self.denials.forget();
    }

    /// What is known of validation.
    pub fn validation(&self) -> Validation {
        (*self.validation.now()).clone()
    }

    /// What was held for true of another way of asking is not.
    fn hold(&self, validation: Validation) {
        self.validation.replace(validation);
        self.denials.forget();
    }

    /// Finds out whether answers can be validated, by those of the root; gives what was found now. Where that was
    /// proven before it stays so: else whoever can spoil one answer could end it.
    pub async fn prove(&self) -> Validation {
        let holds = self.validation();
        if holds == Validation::NotWanted {
            return holds;
        }
        let generation = self.generation.load(Ordering::SeqCst);
        let found = self.look_at_root().await;
        // what was found of servers that are asked no more says nothing of those that are
        let is_news = generation == self.generation.load(Ordering::SeqCst);
        if is_news && self.validation() != Validation::Proven && holds != found {
            self.hold(found.clone());
        }
        found
    }

    async fn look_at_root(&self) -> Validation {
        let ways = self.uncached.as_deref().unwrap_or(self).ways.now();
        match ways.validating.passes_signatures().await {
            Ok(true) => {}
            Ok(false) => return Validation::Missing("the root's records come without signatures".into()),
            // who refuses knows what is asked: servers of one's own zones alone, say
            Err(NetError::Dns(Said::ResponseCode(code))) if code != ResponseCode::ServFail => {
                return Validation::Missing(format!("the servers do not tell of the root: {code}").into());
            }
            Err(error) => return self.no_root(failed(&error)),
        }
        let mut root = Found::nothing(Name::root());
        let taken = match ways.look_up(true, Name::root(), RecordType::SOA).await {
            Ok(found) => root.take(found.answers(), RecordType::SOA),
            Err(error) => Err(failed(&error)),
        };
        match taken {
            Ok(_) if root.is_secure() => {
                self.failures.store(0, Ordering::SeqCst);
                Validation::Proven
            }
            Ok(_) => self.no_root(DnsError::Bogus),
            Err(error) => self.no_root(error),
        }
    }

    /// What it means that the root's records make no sense: an accident, a few times; then servers that do not know
    /// the root, or not this one. That they did not come means nothing.
    fn no_root(&self, error: DnsError) -> Validation {
        if error == DnsError::TimedOut {
            return Validation::Unknown(error);
        }
        let failures = self.failures.fetch_add(1, Ordering::SeqCst) + 1;
        match error {
            error if error.is_denial() => Validation::Missing("the servers know no root".into()),
            error if failures < ROOT_FAILURES_MAX => Validation::Unknown(error),
            DnsError::Bogus => Validation::Missing(
                "the root's records fail validation: is the trust anchor that of another root, the clock wrong?".into(),
            ),
            error => Validation::Missing(format!("the root's records: {error}").into()),
        }
    }

    async fn has_soa(&self, mut name: Name) -> bool {
        name.set_fqdn(true);
        let found = self.ask(name, RecordType::SOA).await;
        found.is_ok_and(|found| found.iter().any(|record| record.record_type() == RecordType::SOA))
    }

    /// Asks, and counts how that went.
    async fn ask(&self, name: Name, kind: RecordType) -> Result<Vec<Record>, DnsError> {
        let (asked_at, question) = (Instant::now(), (name, kind));
        let answer = match self.denials.get(&question) {
            Some(denial) => Err(denial),
            None => self.ask_anew(question).await,
        };
        self.meters.asked(&answer, asked_at.elapsed());
        answer
    }

    async fn ask_anew(&self, question: (Name, RecordType)) -> Result<Vec<Record>, DnsError> {
        let ways = self.ways.now();
        let validates = self.validation.now().validates();
        match ways.look_up(validates, question.0.clone(), question.1).await {
            Ok(found) if found.answers().is_empty() => Err(DnsError::NoRecords),
            Ok(found) => {
                let mut records = found.answers().to_vec();
                if !validates {
                    waive(&mut records);
                }
                Ok(records)
            }
            Err(error) => Err(self.denied(question, &error)),
        }
    }

    /// What a failure means. Denials are kept.
    fn denied(&self, question: (Name, RecordType), error: &NetError) -> DnsError {
        let means = failed(error);
        if means.is_denial() && self.uncached.is_some() {
            let time = denied_for(error).unwrap_or(NONE_KEPT_LEAST).min(NONE_KEPT_MAX);
            self.denials.keep(question, means.clone(), time);
        }
        means
    }

    /// The records of a name, at the end of its aliases.
    async fn find(&self, name: &Domain, kind: RecordType) -> Result<Found, DnsError> {
        let mut found = Found::nothing(absolute(name)?);
        for _ in 0..STEPS_MAX {
            let answers = self.ask(found.end.clone(), kind).await?;
            if found.take(&answers, kind)? {
                return Ok(found);
            }
            // the end is known already, and came without what leads there
            let from = found.end.clone();
            let aliases = self.ask(from.clone(), RecordType::CNAME).await;
            found.take(
                &aliases.map_err(|error| if error.is_denial() { DnsError::Bogus } else { error })?,
                kind,
            )?;
            if found.end == from {
                return Err(DnsError::Bogus);
            }
        }
        Err(DnsError::Failed("there are too many aliases".into()))
    }
}

/// Names as mail has them.
fn domains(names: Vec<&Name>) -> Vec<Domain> {
    names.iter().filter_map(|name| Domain::parse(name.to_ascii().trim_end_matches('.')).ok()).collect()
}

impl Resolver for HickoryResolver {
    fn mx<'a>(&'a self, domain: &'a Domain) -> Lookup<'a, Vec<Mx>> {
        Box::pin(async move {
            let found = self.find(domain, RecordType::MX).await?;
            let mx = found.records.iter().filter_map(|record| match &record.data {
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
            let (v4, v6) = tokio::join!(self.find(host, RecordType::A), self.find(host, RecordType::AAAA));
            let address = |record: &Record| match &record.data {
                RData::A(a) => Some(IpAddr::V4(a.0)),
                RData::AAAA(aaaa) => Some(IpAddr::V6(aaaa.0)),
                _ => None,
            };
            match (v4, v6) {
                (Err(error), Err(other)) => Err(if error.is_denial() { other } else { error }),
                (v4, v6) => {
                    let both = [v4, v6].into_iter().flatten().flat_map(|found| found.records);
                    Ok(both.filter_map(|record| address(&record)).collect())
                }
            }
        })
    }

    fn txt<'a>(&'a self, name: &'a Domain) -> Lookup<'a, Txt> {
        Box::pin(async move {
            let records = self.find(name, RecordType::TXT).await?.records;
            let ttl = records.iter().map(|record| record.ttl).min().unwrap_or(0);
            let text = |record: &Record| match &record.data {
                RData::TXT(txt) => Some(txt.txt_data.concat().into_boxed_slice()),
                _ => None,
            };
            let texts = records.iter().filter_map(text).collect();
            Ok(Txt { texts, ttl: Duration::from_secs(ttl.into()) })
        })
    }

    fn next_hop_names<'a>(&'a self, domain: &'a Domain) -> Lookup<'a, Vec<Domain>> {
        Box::pin(async move {
            let found = self.find(domain, RecordType::MX).await?;
            Ok(if found.is_secure() { domains(found.names()) } else { Vec::new() })
        })
    }

    fn tlsa_bases<'a>(&'a self, host: &'a Domain) -> Lookup<'a, Vec<Domain>> {
        Box::pin(async move {
            let found = tokio::join!(self.find(host, RecordType::A), self.find(host, RecordType::AAAA));
            let (v4, v6) = match found {
                (Err(error), Err(other)) => return Err(if error.is_denial() { other } else { error }),
                (v4, v6) => (v4.ok(), v6.ok()),
            };
            // one family that is secure is enough to ask
            let bases =
                [&v4, &v6].into_iter().flatten().map(Found::tlsa_bases).find(|bases| !bases.is_empty());
            Ok(domains(bases.unwrap_or_default()))
        })
    }

    fn tlsa<'a>(&'a self, name: &'a Domain) -> Lookup<'a, Vec<Tlsa>> {
        Box::pin(async move {
            let found = self.find(name, RecordType::TLSA).await?;
            if !found.is_secure() {
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
            Ok(found.records.iter().filter_map(tlsa).collect())
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
