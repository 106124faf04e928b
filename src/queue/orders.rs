//! What operators ordered for mail that waits: stop it, or try it at once. One row for each order, never
//! one for each message.
//!
//! A domain that is stopped is like a destination that is down: the row is a curfew, and the domain's
//! alarm keeps silent under it until the order is lifted, by hand or at its end. A client's mail is passed
//! over wherever it is read. Mail that is stopped is not tried, and so does not expire; when it is let go,
//! its age does not count for as long as it was stopped.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use super::curfew::{Destination, Rest};
use crate::clock::Timestamp;
use crate::mail::{ClientName, Domain};
use crate::store::{Batch, Reader, StoreError, curfew_key};

/// Whoever is started later than this has nothing to do for an old order to try everything.
const FLUSH_LASTS: Duration = Duration::from_secs(3600);
/// Mail that was stopped is spared for no longer than this.
const SPARED_MAX: Duration = Duration::from_secs(7 * 86_400);
/// Orders there may be at once.
pub const ORDERS_MAX: usize = 10_000;
/// What the names of orders begin with, among those of all curfews.
const PREFIX: u8 = b'o';

/// Whose mail is meant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// All of it.
    Everything,
    /// A domain's.
    Domain(Domain),
    /// A client's.
    Client(ClientName),
}

/// What is ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Not to be tried for a while, or until it is resumed.
    Suspend,
    /// Not to be tried until it is released.
    Hold,
    /// To be tried at once, whatever else it waits for.
    Flush,
    /// Not to be given up for its age: it was stopped for as long.
    Spare,
}

/// An order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// What is ordered.
    pub kind: Kind,
    /// Whose mail is meant.
    pub target: Target,
    /// When it was given.
    pub since: Timestamp,
    /// When it ends by itself; [`Timestamp::MAX`] for never.
    pub until: Timestamp,
}

impl Order {
    /// An order from now on: a hold has no end, and a flush is over when everything was tried. What is spared
    /// for lack of an end is spared for nothing.
    pub fn new(kind: Kind, target: Target, now: Timestamp, until: Option<Timestamp>) -> Self {
        let until = match kind {
            Kind::Suspend => until.unwrap_or(Timestamp::MAX),
            Kind::Hold => Timestamp::MAX,
            Kind::Flush => now.after(FLUSH_LASTS),
            Kind::Spare => until.unwrap_or(now),
        };
        Order { kind, target, since: now, until }
    }

    /// Where it stands among the curfews.
    pub fn destination(&self) -> Destination {
        let kind = match self.kind {
            Kind::Suspend => b's',
            Kind::Hold => b'h',
            Kind::Flush => b'f',
            Kind::Spare => b'x',
        };
        let (of, name) = match &self.target {
            Target::Everything => (b'*', ""),
            Target::Domain(domain) => (b'd', domain.as_str()),
            Target::Client(client) => (b'c', client.as_str()),
        };
        Destination::named([&[PREFIX, kind, of], name.as_bytes()].concat().into())
    }

    fn parse(name: &[u8], rest: Rest) -> Option<Self> {
        let [PREFIX, kind, of, name @ ..] = name else { return None };
        let name = std::str::from_utf8(name).ok()?;
        let kind = match kind {
            b's' => Kind::Suspend,
            b'h' => Kind::Hold,
            b'f' => Kind::Flush,
            b'x' => Kind::Spare,
            _ => return None,
        };
        let target = match of {
            b'*' => Target::Everything,
            b'd' => Target::Domain(Domain::parse(name).ok()?),
            b'c' => Target::Client(ClientName::parse(name)?),
            _ => return None,
        };
        Some(Order { kind, target, since: rest.since, until: rest.until })
    }

    /// Writes it down.
    pub fn write(&self, batch: &mut Batch) {
        self.destination().shut(batch, &Rest { until: self.until, since: self.since, failures: 0 });
    }

    fn is_in_force(&self, now: Timestamp) -> bool {
        now < self.until
    }

    /// What follows when it ends: mail that was stopped is spared for as long again, up to a limit.
    pub fn sequel(&self, now: Timestamp) -> Option<Self> {
        if !matches!(self.kind, Kind::Suspend | Kind::Hold) {
            return None;
        }
        let until = now.after(now.since(self.since).min(SPARED_MAX));
        Some(Order::new(Kind::Spare, self.target.clone(), now, Some(until)))
    }
}

/// All orders, as they were at one moment.
#[derive(Clone, Debug, Default)]
pub struct OrderSet(BTreeMap<(Kind, Target), Order>);

impl OrderSet {
    /// Reads them. Blocking.
    pub fn read(reader: &Reader) -> Result<Self, StoreError> {
        let (mut from, end) = (curfew_key(&[PREFIX]).to_vec(), curfew_key(&[PREFIX + 1]));
        let skipped = curfew_key(b"").len();
        let mut orders = OrderSet::default();
        loop {
            let rows = reader.scan(Bound::Excluded(&from), &end, ORDERS_MAX)?;
            let Some((last, _)) = rows.last() else { return Ok(orders) };
            from = last.to_vec();
            for (key, _) in &rows {
                let name = &key[skipped..];
                let rest = Destination::named(name.to_vec().into()).rest(reader)?;
                if let Some(order) = rest.and_then(|rest| Order::parse(name, rest)) {
                    orders.insert(order);
                }
            }
        }
    }

    /// Adds an order, in place of the one of its kind that was there.
    pub fn insert(&mut self, order: Order) {
        self.0.insert((order.kind, order.target.clone()), order);
    }

    /// Takes an order out.
    pub fn remove(&mut self, kind: Kind, target: &Target) -> Option<Order> {
        self.0.remove(&(kind, target.clone()))
    }

    /// Those that have come to their end.
    pub fn over(&self, now: Timestamp) -> Vec<Order> {
        self.0.values().filter(|order| !order.is_in_force(now)).cloned().collect()
    }

    /// Whether there is one for the same, to be replaced.
    pub fn holds(&self, order: &Order) -> Option<&Order> {
        self.0.get(&(order.kind, order.target.clone()))
    }

    /// Whether a copy is not to be given up for its age.
    pub fn spares(&self, domain: &Domain, client: &ClientName, now: Timestamp) -> bool {
        if self.0.is_empty() {
            return false;
        }
        let targets = [Target::Everything, Target::Domain(domain.clone()), Target::Client(client.clone())];
        targets.iter().any(|target| self.get(Kind::Spare, target, now).is_some())
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Order> {
        self.0.values()
    }

    fn get(&self, kind: Kind, target: &Target, now: Timestamp) -> Option<&Order> {
        self.0.get(&(kind, target.clone())).filter(|order| order.is_in_force(now))
    }

    /// The order that stops a domain's mail altogether, if there is one.
    pub fn stopping(&self, domain: &Domain, now: Timestamp) -> Option<&Order> {
        if self.0.is_empty() {
            return None;
        }
        let targets = [Target::Everything, Target::Domain(domain.clone())];
        let mut orders = targets.iter().flat_map(|target| {
            [Kind::Hold, Kind::Suspend].into_iter().filter_map(|kind| self.get(kind, target, now))
        });
        orders.next()
    }

    /// Until when a client's mail is stopped, if it is.
    pub fn stops_client_until(&self, client: &ClientName, now: Timestamp) -> Option<Timestamp> {
        if self.0.is_empty() {
            return None;
        }
        let target = Target::Client(client.clone());
        let orders = [Kind::Hold, Kind::Suspend].into_iter().filter_map(|kind| self.get(kind, &target, now));
        orders.map(|order| order.until).max()
    }

    /// Whether a copy is not to be tried now.
    pub fn stops(&self, domain: &Domain, client: &ClientName, now: Timestamp) -> bool {
        self.stopping(domain, now).is_some() || self.stops_client_until(client, now).is_some()
    }

    /// When all mail of a client to a domain was last ordered to be tried; mail of any client where none is
    /// named.
    pub fn flushed(&self, domain: &Domain, client: Option<&ClientName>, now: Timestamp) -> Option<Timestamp> {
        let is_meant = |target: &Target| match target {
            Target::Everything => true,
            Target::Domain(meant) => meant == domain,
            Target::Client(meant) => client.is_none_or(|client| client == meant),
        };
        let flushes = self.0.values().filter(|order| order.kind == Kind::Flush && order.is_in_force(now));
        flushes.filter(|order| is_meant(&order.target)).map(|order| order.since).max()
    }
}

/// The orders that are in force, for all who read mail.
#[derive(Debug, Default)]
pub struct Orders {
    set: RwLock<Arc<OrderSet>>,
    /// Whoever holds it writes or ends an order: two at once could leave one here whose row is gone.
    turn: tokio::sync::Mutex<()>,
}

impl Orders {
    /// With these.
    pub fn new(set: OrderSet) -> Self {
        Orders { set: RwLock::new(Arc::new(set)), ..Orders::default() }
    }

    /// As they are now.
    pub fn now(&self) -> Arc<OrderSet> {
        self.set.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until nobody else writes or ends an order.
    pub async fn turn(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.turn.lock().await
    }

    /// Changes them.
    pub fn change<T>(&self, change: impl FnOnce(&mut OrderSet) -> T) -> T {
        let mut orders = self.set.write().unwrap_or_else(PoisonError::into_inner);
        change(Arc::make_mut(&mut orders))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domain(name: &str) -> Domain {
        Domain::parse(name).expect("a domain")
    }

    fn client(name: &str) -> ClientName {
        ClientName::parse(name).expect("a name")
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    #[test]
    fn each_order_means_whom_it_names_and_ends_in_time() {
        let (a, b, shop, news) = (domain("a.example"), domain("b.example"), client("shop"), client("news"));
        let mut orders = OrderSet::default();
        let suspended = Target::Domain(a.clone());
        orders.insert(Order::new(Kind::Suspend, suspended.clone(), at(1), Some(at(9))));
        orders.insert(Order::new(Kind::Hold, Target::Client(news.clone()), at(1), None));
        let stops = |orders: &OrderSet, now| {
            [(&a, &shop), (&b, &shop), (&b, &news)].map(|(domain, client)| orders.stops(domain, client, now))
        };
        assert_eq!(stops(&orders, at(8)), [true, false, true]);
        assert_eq!(stops(&orders, at(9)), [false, false, true]);
        assert_eq!(orders.stops_client_until(&news, at(9)), Some(Timestamp::MAX));
        orders.insert(Order::new(Kind::Hold, Target::Everything, at(2), None));
        assert_eq!(stops(&orders, at(3)), [true; 3]);
        orders.remove(Kind::Hold, &Target::Everything);
        orders.remove(Kind::Suspend, &suspended);
        assert_eq!(stops(&orders, at(3)), [false, false, true]);
    }

    #[test]
    fn a_flush_is_for_whom_it_names_and_is_forgotten() {
        let (a, shop) = (domain("a.example"), client("shop"));
        let mut orders = OrderSet::default();
        orders.insert(Order::new(Kind::Flush, Target::Client(shop.clone()), at(5), None));
        let flushed = |client, now| orders.flushed(&a, client, now);
        assert_eq!(flushed(Some(&shop), at(6)), Some(at(5)));
        let news = client("news");
        assert_eq!((flushed(Some(&news), at(6)), flushed(None, at(6))), (None, Some(at(5))));
        assert_eq!(flushed(Some(&shop), at(5).after(FLUSH_LASTS)), None);
    }

    #[test]
    fn an_order_is_read_as_it_was_written() {
        for target in [Target::Everything, Target::Domain(domain("a.example")), Target::Client(client("s"))] {
            for kind in [Kind::Suspend, Kind::Hold, Kind::Flush, Kind::Spare] {
                let order = Order::new(kind, target.clone(), at(3), Some(at(8)));
                let rest = Rest { until: order.until, since: order.since, failures: 0 };
                assert_eq!(Order::parse(order.destination().name(), rest), Some(order));
            }
        }
        let rest = Rest { until: at(1), since: at(0), failures: 1 };
        for name in [&b"smx.example"[..], b"o", b"oy*", b"osx", b"od"] {
            assert_eq!(Order::parse(name, rest), None);
        }
    }
}
