//! What a session goes by. A reload puts other rules in their place; sessions that are under way keep theirs.

use super::connections::ConnectionLimits;
use super::meters::Accepted;
use super::patience::Patience;
use crate::accounts::Clients;
use crate::net::ServerTls;

/// The rules.
#[derive(Debug)]
pub struct Rules {
    /// Who may send.
    pub clients: Clients,
    /// For those who say STARTTLS.
    pub tls: Option<ServerTls>,
    /// How long is waited for a client.
    pub patience: Patience,
    /// How many connections.
    pub limits: ConnectionLimits,
    pub(super) accepted: Accepted,
}

impl Rules {
    /// For these clients; without TLS, with the usual limits.
    pub fn new(clients: Clients) -> Self {
        Rules {
            accepted: Accepted::new(&clients),
            clients,
            tls: None,
            patience: Patience::default(),
            limits: ConnectionLimits::default(),
        }
    }
}
