//! A DNS made of maps, for tests.

use std::collections::HashMap;
use std::future::{Future, ready};
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::resolver::{DnsError, Lookup, Mx, Resolver, Txt};
use super::tlsa::Tlsa;
use crate::mail::Domain;

const TTL: Duration = Duration::from_secs(3600);

type Answers<T> = Mutex<HashMap<String, Result<T, DnsError>>>;

/// Answers by name. A name that is not there is denied.
#[derive(Default)]
pub struct Maps {
    txt: Answers<String>,
    bases: Answers<Vec<Domain>>,
    tlsa: Answers<Vec<Tlsa>>,
}

fn put<T>(answers: &Answers<T>, name: &str, answer: Result<T, DnsError>) {
    answers.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), answer);
}

fn find<T: Clone>(answers: &Answers<T>, name: &Domain, denial: DnsError) -> Result<T, DnsError> {
    let answers = answers.lock().unwrap_or_else(PoisonError::into_inner);
    answers.get(name.as_str()).cloned().unwrap_or(Err(denial))
}

impl Maps {
    /// A TXT record.
    pub fn put_txt(&self, name: &str, answer: Result<&str, DnsError>) {
        put(&self.txt, name, answer.map(str::to_owned));
    }

    /// The names that a host's TLSA records may stand under.
    pub fn put_bases(&self, host: &str, answer: Result<&[&str], DnsError>) {
        let names = |names: &[&str]| names.iter().filter_map(|name| Domain::parse(name).ok()).collect();
        put(&self.bases, host, answer.map(names));
    }

    /// TLSA records.
    pub fn put_tlsa(&self, name: &str, answer: Result<&[Tlsa], DnsError>) {
        put(&self.tlsa, name, answer.map(<[Tlsa]>::to_vec));
    }
}

impl Resolver for Maps {
    fn mx<'a>(&'a self, _: &'a Domain) -> Lookup<'a, Vec<Mx>> {
        Box::pin(ready(Err(DnsError::NoRecords)))
    }

    fn addresses<'a>(&'a self, _: &'a Domain) -> Lookup<'a, Vec<IpAddr>> {
        Box::pin(ready(Err(DnsError::NoRecords)))
    }

    fn txt<'a>(&'a self, name: &'a Domain) -> Lookup<'a, Txt> {
        let txt = |text: String| Txt { texts: vec![text.into_bytes().into()], ttl: TTL };
        Box::pin(ready(find(&self.txt, name, DnsError::NoSuchName).map(txt)))
    }

    fn uncached(&self) -> &dyn Resolver {
        self
    }

    fn answers_above<'a>(&'a self, _: &'a Domain) -> Pin<Box<dyn Future<Output = bool> + Send + 'a>> {
        Box::pin(ready(true))
    }

    fn tlsa_bases<'a>(&'a self, host: &'a Domain) -> Lookup<'a, Vec<Domain>> {
        Box::pin(ready(find(&self.bases, host, DnsError::NoSuchName)))
    }

    fn tlsa<'a>(&'a self, name: &'a Domain) -> Lookup<'a, Vec<Tlsa>> {
        Box::pin(ready(find(&self.tlsa, name, DnsError::NoRecords)))
    }
}
