//! The DANE records of a mail host (RFC 7672 2.2).

use std::sync::Arc;

use crate::mail::Domain;
use crate::net::{DnsError, Resolver, Tlsa};

/// What a host's zone says of its certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dane {
    /// Nothing, or nothing that is secure.
    Absent,
    /// Records by which nobody can judge: there is TLS, and it must be used (RFC 7672 2.2.3, 3.1.3).
    Unusable {
        /// The name that they stand under, without port and protocol.
        base: Domain,
        /// All of them.
        records: Arc<[Tlsa]>,
    },
    /// Records to judge it by.
    Usable {
        /// The name that they stand under, without port and protocol.
        base: Domain,
        /// All of them, unusable ones too.
        records: Arc<[Tlsa]>,
    },
}

/// Finds the records of a host at a port. An error keeps the host out: whoever can suppress an answer must not be
/// able to end DANE (RFC 7672 2.1.2).
pub async fn find_dane(resolver: &dyn Resolver, host: &Domain, port: u16) -> Result<Dane, DnsError> {
    if host.as_literal().is_some() {
        return Ok(Dane::Absent);
    }
    let bases = match resolver.tlsa_bases(host).await {
        Ok(bases) => bases,
        Err(error) if error.is_denial() => return Ok(Dane::Absent),
        Err(error) => return Err(error),
    };
    for base in bases {
        // a name too long to have records has none
        let Ok(name) = Domain::parse(&format!("_{port}._tcp.{base}")) else { continue };
        match resolver.tlsa(&name).await {
            Ok(records) => {
                let (is_usable, records) = (records.iter().any(Tlsa::is_usable), records.into());
                return Ok(match is_usable {
                    true => Dane::Usable { base, records },
                    false => Dane::Unusable { base, records },
                });
            }
            Err(error) if error.is_denial() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Dane::Absent)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{Lookup, Mx, Txt};
    use std::collections::HashMap;
    use std::future::{Future, ready};
    use std::net::IpAddr;
    use std::pin::Pin;

    /// A DNS made of maps.
    #[derive(Default)]
    struct Maps {
        bases: HashMap<&'static str, Result<Vec<&'static str>, DnsError>>,
        tlsa: HashMap<&'static str, Result<Vec<Tlsa>, DnsError>>,
    }

    impl Resolver for Maps {
        fn mx<'a>(&'a self, _: &'a Domain) -> Lookup<'a, Vec<Mx>> {
            Box::pin(ready(Err(DnsError::NoRecords)))
        }

        fn addresses<'a>(&'a self, _: &'a Domain) -> Lookup<'a, Vec<IpAddr>> {
            Box::pin(ready(Err(DnsError::NoRecords)))
        }

        fn txt<'a>(&'a self, _: &'a Domain) -> Lookup<'a, Txt> {
            Box::pin(ready(Err(DnsError::NoRecords)))
        }

        fn uncached(&self) -> &dyn Resolver {
            self
        }

        fn answers_above<'a>(&'a self, _: &'a Domain) -> Pin<Box<dyn Future<Output = bool> + Send + 'a>> {
            Box::pin(ready(true))
        }

        fn tlsa_bases<'a>(&'a self, host: &'a Domain) -> Lookup<'a, Vec<Domain>> {
            let found = self.bases.get(host.as_str()).cloned().unwrap_or(Err(DnsError::NoSuchName));
            let parse = |names: Vec<&str>| names.iter().filter_map(|name| Domain::parse(name).ok()).collect();
            Box::pin(ready(found.map(parse)))
        }

        fn tlsa<'a>(&'a self, name: &'a Domain) -> Lookup<'a, Vec<Tlsa>> {
            let found = self.tlsa.get(name.as_str()).cloned();
            Box::pin(ready(found.unwrap_or(Err(DnsError::NoRecords))))
        }
    }

    #[tokio::test]
    async fn the_first_name_with_records_counts_and_failures_are_none() {
        let usable = Tlsa { usage: 3, selector: 1, matching: 1, data: [7; 32].into() };
        let unusable = Tlsa { usage: 1, ..usable.clone() };
        let maps = Maps {
            bases: HashMap::from([
                ("plain.example", Ok(vec!["plain.example"])),
                ("insecure.example", Ok(vec![])),
                ("alias.example", Ok(vec!["end.example", "alias.example"])),
                ("both.example", Ok(vec!["plain.example", "alias.example"])),
                ("odd.example", Ok(vec!["odd.example"])),
                ("bogus.example", Err(DnsError::Bogus)),
                ("halfway.example", Ok(vec!["servfail.example", "plain.example"])),
            ]),
            tlsa: HashMap::from([
                ("_25._tcp.plain.example", Ok(vec![unusable.clone(), usable.clone()])),
                ("_25._tcp.alias.example", Ok(vec![usable.clone()])),
                ("_25._tcp.odd.example", Ok(vec![unusable.clone()])),
                ("_25._tcp.insecure.example", Ok(vec![usable.clone()])),
                ("_25._tcp.servfail.example", Err(DnsError::ServerFailed)),
            ]),
        };
        for (host, want) in [
            ("plain.example", Ok("usable plain.example 2")),
            ("alias.example", Ok("usable alias.example 1")),
            ("both.example", Ok("usable plain.example 2")),
            ("odd.example", Ok("unusable odd.example 1")),
            ("insecure.example", Ok("absent")),
            ("nowhere.example", Ok("absent")),
            ("[192.0.2.1]", Ok("absent")),
            ("bogus.example", Err(DnsError::Bogus)),
            ("halfway.example", Err(DnsError::ServerFailed)),
        ] {
            let found = find_dane(&maps, &Domain::parse(host).expect("a name"), 25).await;
            let told = found.map(|dane| match dane {
                Dane::Absent => "absent".to_owned(),
                Dane::Usable { base, records } => format!("usable {base} {}", records.len()),
                Dane::Unusable { base, records } => format!("unusable {base} {}", records.len()),
            });
            assert_eq!(told, want.map(str::to_owned), "{host}");
        }
        let other_port = find_dane(&maps, &Domain::parse("plain.example").expect("a name"), 26).await;
        assert_eq!(other_port, Ok(Dane::Absent));
    }
}
