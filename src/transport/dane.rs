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
    use crate::net::Maps;

    #[tokio::test]
    async fn the_first_name_with_records_counts_and_failures_are_none() {
        let usable = Tlsa { usage: 3, selector: 1, matching: 1, data: [7; 32].into() };
        let unusable = Tlsa { usage: 1, ..usable.clone() };
        let maps = Maps::default();
        for (host, bases) in [
            ("plain.example", Ok(&["plain.example"][..])),
            ("insecure.example", Ok(&[])),
            ("alias.example", Ok(&["end.example", "alias.example"])),
            ("both.example", Ok(&["plain.example", "alias.example"])),
            ("odd.example", Ok(&["odd.example"])),
            ("bogus.example", Err(DnsError::Bogus)),
            ("halfway.example", Ok(&["servfail.example", "plain.example"])),
        ] {
            maps.put_bases(host, bases);
        }
        for (name, records) in [
            ("_25._tcp.plain.example", Ok(&[unusable.clone(), usable.clone()][..])),
            ("_25._tcp.alias.example", Ok(std::slice::from_ref(&usable))),
            ("_25._tcp.odd.example", Ok(std::slice::from_ref(&unusable))),
            ("_25._tcp.insecure.example", Ok(std::slice::from_ref(&usable))),
            ("_25._tcp.servfail.example", Err(DnsError::ServerFailed)),
        ] {
            maps.put_tlsa(name, records);
        }
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
