//! Clients by network, and the sender domains that they own.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::Allowance;
use crate::mail::{Class, ClientName, Domain, DomainError};
use crate::net::Fingerprint;

/// `example.net`, `*.example.net` (any domain below it) or `*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DomainPattern {
    /// Every domain.
    Any,
    /// This one.
    Exactly(Domain),
    /// Those below this one, not itself.
    Below(Domain),
}

impl DomainPattern {
    /// Reads a pattern.
    pub fn parse(text: &str) -> Result<Self, DomainError> {
        match text.strip_prefix("*.") {
            Some(parent) => Ok(DomainPattern::Below(Domain::parse(parent)?)),
            None if text == "*" => Ok(DomainPattern::Any),
            None => Ok(DomainPattern::Exactly(Domain::parse(text)?)),
        }
    }

    /// Whether a domain matches.
    pub fn matches(&self, domain: &Domain) -> bool {
        match self {
            DomainPattern::Any => true,
            DomainPattern::Exactly(exactly) => exactly == domain,
            DomainPattern::Below(parent) => {
                let head = domain.as_str().strip_suffix(parent.as_str());
                head.is_some_and(|head| head.ends_with('.'))
            }
        }
    }
}

impl fmt::Display for DomainPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DomainPattern::Any => f.write_str("*"),
            DomainPattern::Exactly(domain) => domain.fmt(f),
            DomainPattern::Below(parent) => write!(f, "*.{parent}"),
        }
    }
}

/// Somebody who hands mail over.
#[derive(Clone, Debug)]
pub struct Client {
    /// The name in logs, metrics and the queue.
    pub name: ClientName,
    /// Where they come from.
    pub networks: Vec<IpNet>,
    /// The domains that they may send from.
    pub sender_domains: Vec<DomainPattern>,
    /// How urgent their mail is; where nothing is said here, each message may say it itself.
    pub class: Option<Class>,
    /// Certificates by which they are known, wherever they come from.
    pub certificates: Vec<Fingerprint>,
    /// Whether bare line ends in their mail are put right.
    pub normalizes: bool,
    /// Connections that they may have at once.
    pub connections_max: Option<usize>,
    /// Messages that they may hand over.
    pub allowance: Option<Arc<Allowance>>,
}

impl Client {
    /// Whether they may send from a domain.
    pub fn owns(&self, domain: &Domain) -> bool {
        self.sender_domains.iter().any(|pattern| pattern.matches(domain))
    }
}

/// All clients.
#[derive(Clone, Debug, Default)]
pub struct Clients(Vec<Arc<Client>>);

impl Clients {
    /// The list.
    pub fn new(clients: Vec<Client>) -> Self {
        Clients(clients.into_iter().map(Arc::new).collect())
    }

    /// The same, with what is left of the allowances of those that were there before.
    #[must_use]
    pub fn after(self, before: &Clients) -> Self {
        let continued = |client: Arc<Client>| {
            let same = before.0.iter().find(|known| known.name == client.name);
            let known = same.and_then(|known| known.allowance.as_ref());
            match (known, &client.allowance) {
                (Some(known), Some(new)) => {
                    let allowance = Some(new.after(known));
                    Arc::new(Client { allowance, ..(*client).clone() })
                }
                _ => client,
            }
        };
        Clients(self.0.into_iter().map(continued).collect())
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Client> {
        self.0.iter().map(AsRef::as_ref)
    }

    /// Whether somebody is known by a certificate, so that strangers must be let as far as TLS.
    pub fn any_by_certificate(&self) -> bool {
        self.0.iter().any(|client| !client.certificates.is_empty())
    }

    /// The client who holds a certificate.
    pub fn by_certificate(&self, certificate: Fingerprint) -> Option<Arc<Client>> {
        self.0.iter().find(|client| client.certificates.contains(&certificate)).cloned()
    }

    /// The client at an address: where several networks hold it, the narrowest counts.
    pub fn at(&self, ip: IpAddr) -> Option<Arc<Client>> {
        let ip = ip.to_canonical();
        let networks = self.0.iter().flat_map(|client| client.networks.iter().map(move |net| (net, client)));
        let holding = networks.filter(|(net, _)| net.contains(&ip));
        holding.max_by_key(|(net, _)| net.prefix_len()).map(|(_, client)| client.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(name: &str, networks: &[&str], domains: &[&str]) -> Client {
        Client {
            name: ClientName::parse(name).expect("a name"),
            networks: networks.iter().map(|net| net.parse().expect("a network")).collect(),
            sender_domains: domains
                .iter()
                .map(|text| DomainPattern::parse(text).expect("a pattern"))
                .collect(),
            class: None,
            certificates: Vec::new(),
            normalizes: false,
            connections_max: None,
            allowance: None,
        }
    }

    #[test]
    fn the_narrowest_network_counts_and_strangers_are_nobody() {
        let clients = Clients::new(vec![
            client("office", &["192.0.2.0/24", "2001:db8::/32"], &[]),
            client("printer", &["192.0.2.7/32"], &[]),
        ]);
        for (ip, want) in [
            ("192.0.2.1", Some("office")),
            ("192.0.2.7", Some("printer")),
            ("::ffff:192.0.2.7", Some("printer")),
            ("2001:db8::9", Some("office")),
            ("198.51.100.1", None),
        ] {
            let found = clients.at(ip.parse().expect("an address"));
            assert_eq!(found.as_ref().map(|client| client.name.as_str()), want, "{ip}");
        }
    }

    #[test]
    fn patterns_match_whole_labels() {
        let client = client("apps", &[], &["example.net", "*.example.org"]);
        for (domain, owns) in [
            ("example.net", true),
            ("Example.NET", true),
            ("a.example.net", false),
            ("a.example.org", true),
            ("example.org", false),
            ("badexample.org", false),
        ] {
            assert_eq!(client.owns(&Domain::parse(domain).expect("a domain")), owns, "{domain}");
        }
    }
}
