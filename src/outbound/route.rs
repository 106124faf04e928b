//! Where mail for a domain goes: a fixed host where one is configured, else by MX.

use std::net::SocketAddr;
use std::sync::Arc;

use super::Deps;
use super::sluice::Sluice;
use crate::accounts::DomainPattern;
use crate::dsn::Classifier;
use crate::egress::Receiver;
use crate::mail::Domain;
use crate::net::{self, Host, Resolver, RouteError, Site};
use crate::queue::Destination;
use crate::transport::{Stance, Sts};

/// Mail for some domains goes to one host.
#[derive(Clone, Debug)]
pub struct FixedRoute {
    /// Which domains.
    pub domains: Vec<DomainPattern>,
    /// Where to.
    pub via: SocketAddr,
}

/// The configured routes; the first that matches counts.
#[derive(Clone, Debug, Default)]
pub struct Routes(pub Vec<FixedRoute>);

/// Where a domain's mail goes now.
#[derive(Clone, Debug)]
pub(super) struct Route {
    /// The set of hosts: what limits and connections belong to.
    pub(super) site: Site,
    /// In the order in which they are tried.
    pub(super) hosts: Arc<Vec<Host>>,
    /// Who receives there, as far as being kept away goes.
    pub(super) receiver: Receiver,
    /// Under whose hand it is, where that has a limit.
    pub(super) provider: Option<Arc<Sluice>>,
    /// What the hosts must prove.
    pub(super) stance: Stance,
    /// The policy that the domain publishes.
    pub(super) sts: Sts,
}

impl Route {
    /// The site as something that mail may wait for.
    pub(super) fn destination(&self) -> Destination {
        Destination::site(self.site.as_str())
    }
}

impl Routes {
    pub(super) fn fixed(&self, domain: &Domain) -> Option<SocketAddr> {
        let matching = |route: &&FixedRoute| route.domains.iter().any(|pattern| pattern.matches(domain));
        self.0.iter().find(matching).map(|route| route.via)
    }
}

/// Finds the way to a domain.
pub(super) async fn resolve(
    deps: &Deps,
    resolver: &dyn Resolver,
    domain: &Domain,
) -> Result<Route, RouteError> {
    let settings = deps.settings.now();
    let order = settings.tls.order(domain);
    if let Some(via) = settings.routes.fixed(domain) {
        let name = Domain::literal(via.ip()).as_str().into();
        let host = Host { name, preference: 0, addresses: vec![via] };
        let stance = Stance::by_order(order);
        let site = mark(Site::fixed(via), &stance);
        let receiver = receiver_of(&site);
        let hosts = Arc::new(vec![host]);
        return Ok(Route { site, hosts, receiver, provider: None, stance, sts: Sts::NotAsked });
    }
    let mut hosts = net::find_site(resolver, domain, settings.port, deps).await?;
    let (stance, sts) = deps.transport.stance(resolver, domain, order).await;
    hosts.retain(|host| sts.admits(&host.name));
    if hosts.is_empty() {
        return Err(RouteError::NoneListed);
    }
    let (provider, site) = (deps.sluices.provider(&hosts), mark(Site::of(&hosts), &stance));
    // by their names alone: what they must prove makes them no others
    let receiver = provider_of(&settings.classifier, &hosts[0].name);
    let receiver = receiver.unwrap_or_else(|| receiver_of(&Site::of(&hosts)));
    Ok(Route { site, hosts: Arc::new(hosts), receiver, provider, stance, sts })
}

/// The provider that a host belongs to, where what the host says is that provider's word.
pub(super) fn provider_of(classifier: &Classifier, host: &str) -> Option<Receiver> {
    let known = classifier.receiver(host).filter(|known| !known.is_shared)?;
    Some(Receiver::Provider(known.name.clone()))
}

/// Who receives at a site that is no known provider's.
fn receiver_of(site: &Site) -> Receiver {
    // its name as a destination is short enough for a key, and text as the site's is
    let name = Destination::site(site.as_str());
    Receiver::Site(String::from_utf8_lossy(&name.name()[1..]).into())
}

/// Domains of another stance than most have sites of their own: what is proven for the one is not for the other,
/// and a host that fails the one may be good enough for the other.
fn mark(site: Site, stance: &Stance) -> Site {
    if *stance == Stance::default() { site } else { site.marked(&stance.to_string()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_matching_route_counts() {
        let route = |pattern: &str, via: &str| FixedRoute {
            domains: vec![DomainPattern::parse(pattern).expect("a pattern")],
            via: via.parse().expect("an address"),
        };
        let routes = Routes(vec![route("*.example.net", "192.0.2.1:26"), route("*", "192.0.2.2:25")]);
        let via =
            |domain: &str| routes.fixed(&Domain::parse(domain).expect("a domain")).map(|via| via.port());
        assert_eq!((via("a.example.net"), via("example.net")), (Some(26), Some(25)));
    }
}
