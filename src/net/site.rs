//! Where mail for a domain goes (RFC 5321 5.1): its hosts in order, and the name of their set.
//!
//! A *site* is the MX set of a domain: ten thousand domains on one MX set are one site, and share its
//! connections and its limits.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use super::dns::{DnsError, Mx, Resolver};
use crate::mail::Domain;

/// Hosts of a domain that are tried at most.
pub const HOSTS_MAX: usize = 10;
/// Addresses of a host that are tried at most.
pub const ADDRESSES_MAX: usize = 4;

/// The name of a set of hosts.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Site(Box<str>);

impl Site {
    /// The site of hosts in order of preference.
    pub fn of(hosts: &[Host]) -> Self {
        let names: Vec<&str> = hosts.iter().map(|host| &*host.name).collect();
        Site(names.join(",").into())
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The same hosts as something that mail with other demands does not share.
    pub fn marked(self, mark: &str) -> Self {
        Site(format!("{} ({mark})", self.0).into())
    }

    /// The site of a configured host.
    pub fn fixed(via: SocketAddr) -> Self {
        Site(via.to_string().into())
    }
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A host to be tried, with its addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Its name, or its address where it has none.
    pub name: Box<str>,
    /// Its MX preference: lower is tried first, equals in random order.
    pub preference: u16,
    /// Its addresses in the order in which they are tried; at most [`ADDRESSES_MAX`].
    pub addresses: Vec<SocketAddr>,
}

/// Why mail for a domain goes nowhere now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// The domain does not exist, or has neither MX nor address.
    #[error("the domain does not exist or takes no mail")]
    NoSuchDomain,
    /// A null MX (RFC 7505).
    #[error("the domain says that it takes no mail")]
    NullMx,
    /// The MX set leads only to addresses that mail may not be sent to.
    #[error("the domain's mail hosts have no address that may be used")]
    NoUsableAddress,
    /// We are the domain's best mail host ourselves, and it is none of ours.
    #[error("mail for the domain loops back to this server")]
    LoopsBack,
    /// The domain's MTA-STS policy lists none of its mail hosts. May pass.
    #[error("none of the domain's mail hosts is one that its MTA-STS policy lists")]
    NoneListed,
    /// The DNS says that the domain does not exist, but does not give an answer for others either.
    #[error("the DNS denies the domain, and everything else as well")]
    Doubted,
    /// The DNS did not answer. May pass.
    #[error("{0}")]
    Dns(DnsError),
}

impl RouteError {
    /// Whether it is a property of the domain, not of the moment.
    pub fn is_permanent(&self) -> bool {
        // filters answer with such addresses in place of what they hide: that may pass as well
        use RouteError::{Dns, Doubted, NoUsableAddress, NoneListed};
        !matches!(self, Dns(_) | Doubted | NoUsableAddress | NoneListed)
    }
}

/// What is known of addresses and names.
pub trait Judge: Send + Sync {
    /// Whether mail may go to an address.
    fn may_use(&self, ip: IpAddr) -> bool;
    /// Whether a mail host is this server.
    fn is_self(&self, host: &Domain, addresses: &[SocketAddr]) -> bool;
}

/// Finds the hosts of a domain.
pub async fn find_site(
    resolver: &dyn Resolver,
    domain: &Domain,
    port: u16,
    judge: &dyn Judge,
) -> Result<Vec<Host>, RouteError> {
    if let Some(ip) = domain.as_literal() {
        let addresses = usable(vec![ip], port, judge);
        if judge.is_self(domain, &addresses) {
            return Err(RouteError::LoopsBack);
        }
        return if addresses.is_empty() {
            Err(RouteError::NoUsableAddress)
        } else {
            Ok(vec![Host { name: domain.as_str().into(), preference: 0, addresses }])
        };
    }
    let mut mx = match resolver.mx(domain).await {
        Ok(mx) => mx,
        // implicit MX: the domain itself
        Err(DnsError::NoRecords) => vec![Mx { preference: 0, host: Some(domain.clone()) }],
        Err(DnsError::NoSuchName) => return Err(RouteError::NoSuchDomain),
        Err(error) => return Err(RouteError::Dns(error)),
    };
    if let [Mx { host: None, .. }] = mx.as_slice() {
        return Err(RouteError::NullMx);
    }
    mx.sort_unstable();
    resolve_hosts(resolver, mx, port, judge).await
}

async fn resolve_hosts(
    resolver: &dyn Resolver,
    mx: Vec<Mx>,
    port: u16,
    judge: &dyn Judge,
) -> Result<Vec<Host>, RouteError> {
    let (mut hosts, mut passing, mut any_address) = (Vec::<Host>::new(), None, false);
    let named = mx.into_iter().filter_map(|mx| Some((mx.preference, mx.host?)));
    let mut is_ours = false;
    for (preference, name) in named.take(HOSTS_MAX) {
        // only hosts that are better than ourselves are nearer to the destination (RFC 5321 5.1)
        if judge.is_self(&name, &[]) {
            hosts.retain(|host| host.preference < preference);
            is_ours = true;
            break;
        }
        match resolver.addresses(&name).await {
            Ok(addresses) => {
                any_address |= !addresses.is_empty();
                let addresses = usable(addresses, port, judge);
                if judge.is_self(&name, &addresses) {
                    hosts.retain(|host| host.preference < preference);
                    is_ours = true;
                    break;
                }
                if !addresses.is_empty() {
                    hosts.push(Host { name: name.as_str().into(), preference, addresses });
                }
            }
            Err(error) if error.is_denial() => {}
            Err(error) => passing = Some(error),
        }
    }
    match (hosts.is_empty(), passing) {
        (false, _) => Ok(hosts),
        (true, Some(error)) => Err(RouteError::Dns(error)),
        (true, None) if is_ours => Err(RouteError::LoopsBack),
        (true, None) if any_address => Err(RouteError::NoUsableAddress),
        (true, None) => Err(RouteError::NoSuchDomain),
    }
}

fn usable(addresses: Vec<IpAddr>, port: u16, judge: &dyn Judge) -> Vec<SocketAddr> {
    let usable = addresses.into_iter().filter(|ip| judge.may_use(*ip)).take(ADDRESSES_MAX);
    usable.map(|ip| SocketAddr::new(ip, port)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::dns::{Lookup, Txt};
    use super::*;
    use std::collections::HashMap;
    use std::future::Future;
    use std::pin::Pin;

    type Answer<T> = Result<Vec<T>, DnsError>;

    /// A DNS made of maps.
    #[derive(Default)]
    struct Maps {
        mx: HashMap<&'static str, Answer<(u16, &'static str)>>,
        addresses: HashMap<&'static str, Answer<&'static str>>,
    }

    impl Resolver for Maps {
        fn mx<'a>(&'a self, domain: &'a Domain) -> Lookup<'a, Vec<Mx>> {
            let found = self.mx.get(domain.as_str()).cloned().unwrap_or(Err(DnsError::NoSuchName));
            let mx = |(preference, host): (u16, &str)| Mx { preference, host: Domain::parse(host).ok() };
            Box::pin(async move { found.map(|records| records.into_iter().map(mx).collect()) })
        }

        fn addresses<'a>(&'a self, host: &'a Domain) -> Lookup<'a, Vec<IpAddr>> {
            let found = self.addresses.get(host.as_str()).cloned().unwrap_or(Err(DnsError::NoSuchName));
            Box::pin(async move { found.map(|ips| ips.iter().filter_map(|ip| ip.parse().ok()).collect()) })
        }

        fn txt<'a>(&'a self, _: &'a Domain) -> Lookup<'a, Txt> {
            Box::pin(std::future::ready(Err(DnsError::NoRecords)))
        }

        fn uncached(&self) -> &dyn Resolver {
            self
        }

        fn answers_above<'a>(&'a self, _: &'a Domain) -> Pin<Box<dyn Future<Output = bool> + Send + 'a>> {
            Box::pin(std::future::ready(true))
        }
    }

    /// This server is `us.example`, and also listens at 192.0.2.77.
    struct Us;

    impl Judge for Us {
        fn may_use(&self, ip: IpAddr) -> bool {
            !ip.is_loopback()
        }

        fn is_self(&self, host: &Domain, addresses: &[SocketAddr]) -> bool {
            host.as_str() == "us.example" || addresses.iter().any(|at| at.to_string() == "192.0.2.77:25")
        }
    }

    fn failed() -> DnsError {
        DnsError::ServerFailed
    }

    #[tokio::test]
    async fn hosts_come_in_order_and_failures_are_told_apart() {
        let maps = Maps {
            mx: HashMap::from([
                ("two.example", Ok(vec![(20, "b.example"), (10, "a.example")])),
                ("implicit.example", Err(DnsError::NoRecords)),
                ("null.example", Ok(vec![(0, "")])),
                ("servfail.example", Err(failed())),
                ("half.example", Ok(vec![(10, "gone.example"), (20, "a.example")])),
                ("waits.example", Ok(vec![(10, "slow.example")])),
                ("own.example", Ok(vec![(10, "loop.example")])),
                ("empty.example", Ok(vec![(10, "gone.example")])),
                ("backup.example", Ok(vec![(10, "a.example"), (20, "b.example"), (20, "us.example")])),
                ("ours.example", Ok(vec![(10, "us.example"), (20, "b.example")])),
                ("other-name.example", Ok(vec![(10, "alias.example")])),
            ]),
            addresses: HashMap::from([
                ("a.example", Ok(vec!["192.0.2.1", "2001:db8::1"])),
                ("b.example", Ok(vec!["192.0.2.2", "127.0.0.1"])),
                ("implicit.example", Ok(vec!["192.0.2.3"])),
                ("slow.example", Err(failed())),
                ("loop.example", Ok(vec!["127.0.0.1"])),
                ("us.example", Ok(vec!["192.0.2.76"])),
                ("alias.example", Ok(vec!["192.0.2.77"])),
            ]),
        };
        for (domain, want) in [
            ("two.example", Ok("a.example=192.0.2.1:25+[2001:db8::1]:25 b.example=192.0.2.2:25")),
            ("implicit.example", Ok("implicit.example=192.0.2.3:25")),
            ("half.example", Ok("a.example=192.0.2.1:25+[2001:db8::1]:25")),
            ("[192.0.2.9]", Ok("[192.0.2.9]=192.0.2.9:25")),
            ("[127.0.0.1]", Err(RouteError::NoUsableAddress)),
            ("null.example", Err(RouteError::NullMx)),
            ("nowhere.example", Err(RouteError::NoSuchDomain)),
            ("empty.example", Err(RouteError::NoSuchDomain)),
            ("own.example", Err(RouteError::NoUsableAddress)),
            ("backup.example", Ok("a.example=192.0.2.1:25+[2001:db8::1]:25")),
            ("ours.example", Err(RouteError::LoopsBack)),
            ("other-name.example", Err(RouteError::LoopsBack)),
            ("[192.0.2.77]", Err(RouteError::LoopsBack)),
            ("servfail.example", Err(RouteError::Dns(failed()))),
            ("waits.example", Err(RouteError::Dns(failed()))),
        ] {
            let domain = Domain::parse(domain).expect("a domain");
            let hosts = find_site(&maps, &domain, 25, &Us).await;
            let told = hosts.map(|hosts| {
                let host = |host: &Host| {
                    let addresses: Vec<String> = host.addresses.iter().map(ToString::to_string).collect();
                    format!("{}={}", host.name, addresses.join("+"))
                };
                hosts.iter().map(host).collect::<Vec<_>>().join(" ")
            });
            assert_eq!(told, want.map(str::to_owned), "{domain}");
        }
    }
}
