//! How many connections there are, in all and from each address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::accounts::Client;
use crate::mail::ClientName;

/// How many there may be.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    /// In all.
    pub total_max: usize,
    /// From one address.
    pub per_address_max: usize,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        ConnectionLimits { total_max: 4000, per_address_max: 200 }
    }
}

/// The count. Clones share it. Grows with open connections only.
#[derive(Clone, Debug)]
pub struct Connections {
    by_address: Arc<Mutex<HashMap<IpAddr, usize>>>,
    by_client: Arc<Mutex<HashMap<ClientName, usize>>>,
    /// A place for each stranger: they must not take those of clients.
    strangers: Arc<Semaphore>,
}

impl Default for Connections {
    fn default() -> Self {
        let strangers = Arc::new(Semaphore::new(STRANGERS_MAX));
        Connections { by_address: Arc::default(), by_client: Arc::default(), strangers }
    }
}

/// Connections of those who may yet show a client's certificate.
const STRANGERS_MAX: usize = 100;

/// What a connection holds while it is open.
#[derive(Debug)]
pub(super) struct Places {
    _any: Place,
    /// Among its client's, where these are limited.
    pub(super) client: Option<ClientPlace>,
    /// Among those of strangers, where it is one's.
    pub(super) stranger: Option<OwnedSemaphorePermit>,
}

/// One connection's place among its client's; dropped, the place is free.
#[derive(Debug)]
pub(super) struct ClientPlace {
    connections: Connections,
    client: ClientName,
}

/// One connection's place; dropped, the place is free.
#[derive(Debug)]
pub struct Place {
    connections: Connections,
    ip: IpAddr,
}

impl Connections {
    /// A place for a connection, where the limits leave one.
    pub fn enter(&self, ip: IpAddr, limits: ConnectionLimits) -> Option<Place> {
        let mut counts = self.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        let from_here = counts.get(&ip).copied().unwrap_or(0);
        // summing is cheap: there are few addresses among a smart host's clients
        if from_here >= limits.per_address_max || counts.values().sum::<usize>() >= limits.total_max {
            return None;
        }
        counts.insert(ip, from_here + 1);
        Some(Place { connections: self.clone(), ip })
    }

    /// All places that a connection needs, where the limits leave them.
    pub(super) fn welcome(
        &self,
        ip: IpAddr,
        client: Option<&Client>,
        limits: ConnectionLimits,
    ) -> Option<Places> {
        let any = self.enter(ip, limits)?;
        let (client, stranger) = match client {
            Some(client) => (self.enter_as(client)?, None),
            None => (None, Some(self.strangers.clone().try_acquire_owned().ok()?)),
        };
        Some(Places { _any: any, client, stranger })
    }

    /// A place among a client's connections: none to hold where these are not limited, nothing where there is
    /// none.
    pub(super) fn enter_as(&self, client: &Client) -> Option<Option<ClientPlace>> {
        let Some(most) = client.connections_max else { return Some(None) };
        let mut counts = self.by_client.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(client.name.clone()).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Some(ClientPlace { connections: self.clone(), client: client.name.clone() }))
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.by_address.lock().unwrap_or_else(PoisonError::into_inner).values().sum()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.connections.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.ip) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.ip);
            }
        }
    }
}

impl Drop for ClientPlace {
    fn drop(&mut self) {
        let mut counts = self.connections.by_client.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.client) {
            *count -= 1;
            // a reload may have made it nobody's name
            if *count == 0 {
                counts.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_limited_and_come_back() {
        let connections = Connections::default();
        let limits = ConnectionLimits { total_max: 3, per_address_max: 2 };
        let [a, b]: [IpAddr; 2] = ["192.0.2.1", "192.0.2.2"].map(|ip| ip.parse().expect("ip"));
        let first = connections.enter(a, limits);
        let second = connections.enter(a, limits);
        assert!(first.is_some() && second.is_some());
        assert!(connections.enter(a, limits).is_none(), "two from one address are enough");
        let third = connections.enter(b, limits);
        assert!(third.is_some() && connections.enter(b, limits).is_none(), "three in all are enough");
        drop(first);
        assert!(connections.enter(b, limits).is_some());
    }
}
