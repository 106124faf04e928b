//! The names of the simulated world: domains, their mail hosts, and a DNS that fails for a while.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::sleep;

use crate::mail::Domain;
use crate::net::{DnsError, Lookup, Mx, Resolver, Txt};

/// How the DNS answers for a domain now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mood {
    Answers,
    ServFail,
    Silent,
}

/// One domain.
#[derive(Clone, Debug)]
pub(super) struct Zone {
    /// Its hosts with their preferences; none: the name does not exist.
    pub(super) hosts: Vec<(u16, usize)>,
    pub(super) mood: Mood,
}

/// The DNS. Clones share it.
#[derive(Clone, Default)]
pub(super) struct Names(Arc<Mutex<BTreeMap<Domain, Zone>>>, Arc<AtomicBool>);

impl Names {
    pub(super) fn add(&self, domain: Domain, hosts: Vec<(u16, usize)>) {
        self.with(|zones| _ = zones.insert(domain, Zone { hosts, mood: Mood::Answers }));
    }

    pub(super) fn set_mood(&self, domain: &Domain, mood: Mood) {
        self.with(|zones| zones.get_mut(domain).into_iter().for_each(|zone| zone.mood = mood));
    }

    pub(super) fn heal(&self) {
        self.with(|zones| zones.values_mut().for_each(|zone| zone.mood = Mood::Answers));
    }

    fn with<T>(&self, step: impl FnOnce(&mut BTreeMap<Domain, Zone>) -> T) -> T {
        step(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

pub(super) fn host_name(number: usize) -> String {
    format!("mx{number}.example")
}

pub(super) fn host_address(number: usize) -> IpAddr {
    // beyond these, all names are those of the first host
    Ipv4Addr::new(192, 0, 2, u8::try_from(number).unwrap_or(0)).into()
}

pub(super) fn host_number(address: IpAddr) -> usize {
    match address {
        IpAddr::V4(v4) => usize::from(v4.octets()[3]),
        IpAddr::V6(_) => 255,
    }
}

impl Names {
    /// From now on every name is denied, or none that exists.
    pub(super) fn deny_all(&self, is_broken: bool) {
        self.1.store(is_broken, Ordering::SeqCst);
    }

    fn is_broken(&self) -> bool {
        self.1.load(Ordering::SeqCst)
    }
}

impl Resolver for Names {
    fn mx<'a>(&'a self, domain: &'a Domain) -> Lookup<'a, Vec<Mx>> {
        Box::pin(async move {
            sleep(Duration::from_millis(3)).await;
            if self.is_broken() {
                return Err(DnsError::NoSuchName);
            }
            let zone = self.with(|zones| zones.get(domain).cloned()).ok_or(DnsError::NoSuchName)?;
            match zone.mood {
                Mood::ServFail => return Err(DnsError::ServerFailed),
                Mood::Silent => {
                    sleep(Duration::from_secs(10)).await;
                    return Err(DnsError::TimedOut);
                }
                Mood::Answers if zone.hosts.is_empty() => return Err(DnsError::NoSuchName),
                Mood::Answers => {}
            }
            let mx = |(preference, host): (u16, usize)| {
                let host = Domain::parse(&host_name(host)).ok();
                Mx { preference, host }
            };
            Ok(zone.hosts.into_iter().map(mx).collect())
        })
    }

    fn addresses<'a>(&'a self, host: &'a Domain) -> Lookup<'a, Vec<IpAddr>> {
        Box::pin(async move {
            sleep(Duration::from_millis(2)).await;
            if self.is_broken() {
                return Err(DnsError::NoSuchName);
            }
            let number = host.as_str().strip_prefix("mx").and_then(|rest| rest.strip_suffix(".example"));
            let number = number.and_then(|number| number.parse().ok()).ok_or(DnsError::NoSuchName)?;
            Ok(vec![host_address(number)])
        })
    }

    fn txt<'a>(&'a self, _: &'a Domain) -> Lookup<'a, Txt> {
        Box::pin(std::future::ready(Err(DnsError::NoRecords)))
    }

    fn uncached(&self) -> &dyn Resolver {
        self
    }

    fn answers_above<'a>(&'a self, _: &'a Domain) -> Pin<Box<dyn Future<Output = bool> + Send + 'a>> {
        Box::pin(async move {
            sleep(Duration::from_millis(2)).await;
            !self.is_broken()
        })
    }
}
