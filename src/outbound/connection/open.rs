//! Opening a session: dialling, TLS, and what the host must prove before mail goes to it.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::BytesMut;
use tokio::time::timeout;

use super::{Connection, READ_OCTETS, REPLY_TIMEOUT, network_reply};
use crate::mail::{Domain, EnhancedStatus, Reply, TlsWish};
use crate::net::{Chain, ClientTls, DaneFault, Dialled, Handshake, Host, PkixFault, TlsError, TlsFacts};
use crate::outbound::{Deps, Tls, meters};
use crate::smtp::{Client, ClientEvent};
use crate::transport::{self, Avoided, Demand, Ended, Proof, Session, Stance, Sts, Unproven};

/// A whole TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(60);

/// Why no session could be opened at any address of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::outbound) struct Unreachable {
    /// The last host tried.
    pub(in crate::outbound) host: Box<str>,
    /// What it said, or what happened, as a reply.
    pub(in crate::outbound) reply: Reply,
    /// Whether it is good enough for others than the message that was to go first: its certificate is for other names
    /// than those of that one's domain, or does not keep what it demands.
    pub(in crate::outbound) serves_others: bool,
    /// What hosts said themselves to the connection, or to our name.
    pub(in crate::outbound) refusals: Vec<(Box<str>, Reply)>,
}

/// What a session is opened under.
#[derive(Clone, Copy, Debug)]
pub(in crate::outbound) struct Terms<'a> {
    /// What hosts must prove.
    pub(in crate::outbound) stance: &'a Stance,
    /// The policy that their domain publishes.
    pub(in crate::outbound) sts: &'a Sts,
    /// Whose mail goes first: a certificate may be for that name in place of the host's (RFC 7672 3.2.2).
    pub(in crate::outbound) domain: Option<&'a Domain>,
    /// What its sender wants of TLS.
    pub(in crate::outbound) wish: TlsWish,
}

/// What hosts must prove whose mail's sender waives whatever their domain publishes.
const WAIVED: &Stance = &Stance::undemanding();

impl Terms<'_> {
    fn stance(&self) -> &Stance {
        // no TLS at all is the operator's word, not the domain's
        let is_waived = self.wish == TlsWish::Waived && self.stance.tries_tls();
        if is_waived { WAIVED } else { self.stance }
    }

    /// Whose session with a host it is, where it is counted: hosts that have no name are the operator's own choice.
    fn counted(&self, host: &str) -> Option<&Domain> {
        self.domain.filter(|_| self.wish != TlsWish::Waived && !host.starts_with('['))
    }
}

/// Why no session opened at an address.
enum NotOpened {
    /// It said that it takes nothing.
    Closing(Reply),
    /// What happened, as a reply.
    Refused(Reply),
    /// It offers TLS, and TLS does not work there.
    BrokenTls(Reply),
    /// Its certificate is for other names than those of the domain.
    Misnamed(Reply),
}

impl NotOpened {
    fn reply(self) -> Reply {
        match self {
            NotOpened::Closing(reply)
            | NotOpened::Refused(reply)
            | NotOpened::BrokenTls(reply)
            | NotOpened::Misnamed(reply) => reply,
        }
    }
}

impl From<Reply> for NotOpened {
    fn from(reply: Reply) -> Self {
        NotOpened::Refused(reply)
    }
}

/// One host, at one address, and what it must prove.
#[derive(Clone, Copy)]
struct Goal<'a> {
    host: &'a str,
    address: SocketAddr,
    demand: &'a Demand,
    terms: Terms<'a>,
}

impl Goal<'_> {
    /// Counts how the session went, for whoever wants to hear of it. Where the sender waived the domain's policy it is
    /// none of these, and so reports of them are not told of (RFC 8460 3).
    fn count(&self, deps: &Deps, from: Option<IpAddr>, ended: Ended<'_>) {
        let Some(domain) = self.terms.counted(self.host) else { return };
        let (host, address, sts) = (self.host, self.address.ip(), self.terms.sts);
        let session = Session { domain, sts, host, address, from };
        deps.transport.tally().note(deps.clock.shown(), session, self.demand, ended);
    }
}

impl Connection {
    /// Opens a session with the first host that takes one and proves what it must.
    pub(in crate::outbound) async fn open(
        deps: &Deps,
        order: &[(&Host, SocketAddr)],
        terms: Terms<'_>,
    ) -> Result<Self, Unreachable> {
        let nowhere = Reply::new(451, EnhancedStatus::new(4, 4, 4), "no host to try");
        let mut refusals = Vec::new();
        let mut last =
            Unreachable { host: "".into(), reply: nowhere, serves_others: false, refusals: Vec::new() };
        let mut unfit: Option<Connection> = None;
        for (host, address) in order {
            let is_first =
                order.iter().find(|(other, _)| other.name == host.name).is_some_and(|(_, at)| at == address);
            match Self::open_at(deps, &host.name, (*address, is_first), terms).await {
                Ok(connection) if terms.wish == TlsWish::Required && !connection.keeps_demands() => {
                    if let Some(other) = unfit.replace(connection) {
                        other.close().await;
                    }
                }
                Ok(connection) => {
                    meters::proven(connection.proof.as_str());
                    return Ok(connection);
                }
                Err(why) => {
                    let serves_others = matches!(why, NotOpened::Misnamed(_));
                    let is_said = matches!(why, NotOpened::Closing(_));
                    let reply = why.reply();
                    refusals.extend(is_said.then(|| (host.name.clone(), reply.clone())));
                    tracing::debug!(event = "host_failed", host = %host.name, address = %address, reply = %reply);
                    last =
                        Unreachable { host: host.name.clone(), reply, serves_others, refusals: Vec::new() };
                }
            }
        }
        match unfit {
            // some host may keep what is demanded, and could not be reached: the message waits for it, and no other
            Some(connection) if !last.host.is_empty() => {
                connection.close().await;
                Err(Unreachable { serves_others: true, refusals, ..last })
            }
            Some(mut connection) => {
                connection.has_no_better = true;
                Ok(connection)
            }
            None => Err(Unreachable { refusals, ..last }),
        }
    }

    /// By TLS where it is offered, and works; else in clear, where nothing forbids that (RFC 7435). Where TLS was
    /// found not to work, and need not, that is not found out anew each time.
    async fn open_at(
        deps: &Deps,
        host: &str,
        (address, is_first_address): (SocketAddr, bool),
        terms: Terms<'_>,
    ) -> Result<Self, NotOpened> {
        let looked_up = transport::demand(&*deps.resolver, terms.stance(), host, address.port()).await;
        let demand = &looked_up.map_err(|error| {
            if let Some(domain) = terms.counted(host).filter(|_| is_first_address) {
                let (tally, now) = (deps.transport.tally(), deps.clock.shown());
                tally.avoid(now, domain, terms.sts, host, Avoided::Tlsa(&error));
            }
            network_reply(3, format!("looking up the TLSA records of {host}: {error}"))
        })?;
        let goal = Goal { host, address, demand, terms };
        let tls = deps.tls.now();
        let is_known_broken =
            || terms.wish != TlsWish::Required && deps.hosts.has_broken_tls(deps.clock.now(), address);
        let is_tried = demand.tries_tls() && !(demand.allows_clear() && is_known_broken());
        match Self::open_by(deps, goal, (*tls).as_ref().filter(|_| is_tried)).await {
            Ok(connection) => {
                if demand.tries_tls() && !is_tried {
                    goal.count(
                        deps,
                        connection.from,
                        Ended::Broken("TLS did not work there a short while ago"),
                    );
                }
                Ok(connection)
            }
            Err(NotOpened::BrokenTls(reply)) if demand.allows_clear() => {
                tracing::info!(event = "tls_failed", host, address = %address, reply = %reply);
                let opened = Self::open_by(deps, goal, None).await;
                // a host that is merely going down has no TLS either, and is not to be taken at that word
                if opened.is_ok() {
                    deps.hosts.note_broken_tls(deps.clock.now(), address);
                }
                opened
            }
            failed => failed,
        }
    }

    /// A connection to an address, before anything is said.
    async fn dial(deps: &Deps, goal: Goal<'_>, tries_tls: bool) -> Result<Self, Reply> {
        let (settings, address) = (deps.settings.now(), goal.address);
        let Dialled { stream, from } = match timeout(settings.connect_timeout, deps.dial.dial(address)).await
        {
            Ok(Ok(dialled)) => dialled,
            failed => {
                deps.hosts.note_dead(deps.clock.now(), address);
                let why = failed.map_or("timed out".into(), |result| {
                    result.err().map_or(String::new(), |error| error.to_string())
                });
                return Err(network_reply(1, format!("connecting to {address}: {why}")));
            }
        };
        Ok(Connection {
            stream,
            client: Client::by_tls(settings.hostname.as_str(), tries_tls),
            input: BytesMut::with_capacity(READ_OCTETS),
            output: Vec::new(),
            host: goal.host.into(),
            address,
            from,
            transactions: 0,
            told: deps.meters.connection_messages.clone(),
            tls: None,
            stance: goal.terms.stance().clone(),
            proof: Proof::Clear,
            has_no_better: false,
            bound_to: None,
        })
    }

    async fn open_by(deps: &Deps, goal: Goal<'_>, tls: Option<&Tls>) -> Result<Self, NotOpened> {
        let mut connection = Self::dial(deps, goal, tls.is_some()).await?;
        loop {
            match (connection.next_event(REPLY_TIMEOUT).await, tls) {
                (Ok(ClientEvent::StartTls), Some(tls)) => connection.start_tls(deps, goal, tls).await?,
                (Ok(ClientEvent::Ready), tls) => {
                    deps.hosts.note_alive(goal.address);
                    if tls.is_some() && connection.tls.is_none() {
                        goal.count(deps, connection.from, Ended::NoStartTls);
                    }
                    if let Some(facts) = &connection.tls {
                        goal.count(deps, connection.from, Ended::Secured(facts.pkix));
                    }
                    return connection.ready(goal).await;
                }
                (Ok(ClientEvent::Closing(reply)), _) => return Err(NotOpened::Closing(reply)),
                (Ok(_), _) => {
                    return Err(network_reply(5, "the session began with a verdict".into()).into());
                }
                // in TLS 1.3 a server may refuse when our side has done its part
                (Err(error), _) if connection.tls.is_some() => {
                    return Err(connection.broken(deps, goal, &error.to_string()));
                }
                (Err(error), _) => {
                    deps.hosts.note_dead(deps.clock.now(), goal.address);
                    return Err(network_reply(2, format!("greeting: {error}")).into());
                }
            }
        }
    }

    /// The session, which is up, where it may be used.
    async fn ready(mut self, goal: Goal<'_>) -> Result<Self, NotOpened> {
        if self.tls.is_none()
            && let Err(fault) = goal.demand.judge_clear()
        {
            self.close().await;
            return Err(refused(goal, &fault).into());
        }
        self.client.note_surplus(&self.input);
        let surplus = || network_reply(5, "the server said more than it was asked".into()).into();
        if self.is_usable() { Ok(self) } else { Err(surplus()) }
    }

    /// Goes on over TLS. What came behind the leave to do so was said by nobody we can know (RFC 3207 6).
    async fn start_tls(&mut self, deps: &Deps, goal: Goal<'_>, tls: &Tls) -> Result<(), NotOpened> {
        if !self.input.is_empty() {
            return Err(self.broken(deps, goal, "the server said more than it was asked"));
        }
        let stream = std::mem::replace(&mut self.stream, Box::new(tokio::io::empty()));
        let name = goal.demand.server_name(goal.host);
        let Handshake { stream, facts, chain } =
            match timeout(HANDSHAKE_TIMEOUT, tls.towards(goal.demand).connect(stream, name)).await {
                Ok(Ok(shaken)) => shaken,
                Ok(Err(TlsError::Untrusted(fault))) => {
                    meters::handshake("failed");
                    let fault = goal.demand.untrusted(fault);
                    goal.count(deps, self.from, Ended::Unproven(&fault));
                    return Err(refused(goal, &fault).into());
                }
                Ok(Err(error)) => return Err(self.broken(deps, goal, &error.to_string())),
                Err(_) => return Err(self.broken(deps, goal, "the handshake timed out")),
            };
        meters::handshake(facts.version.as_str());
        let judged = judge(deps, goal, (&facts, &chain)).await;
        (self.proof, self.bound_to) = judged.map_err(|fault| {
            goal.count(deps, self.from, Ended::Unproven(&fault));
            misnamed(goal, &fault)
        })?;
        tracing::debug!(
            event = "tls",
            host = &*self.host,
            version = facts.version.as_str(),
            cipher = facts.cipher,
            resumed = facts.resumed,
            pkix = ?facts.pkix,
            proof = self.proof.as_str(),
        );
        (self.stream, self.tls) = (stream, Some(facts));
        self.client.tls_started();
        Ok(())
    }

    /// TLS does not work here.
    fn broken(&self, deps: &Deps, goal: Goal<'_>, why: &str) -> NotOpened {
        meters::handshake("failed");
        goal.count(deps, self.from, Ended::Broken(why));
        NotOpened::BrokenTls(network_reply(7, format!("TLS: {why}")))
    }
}

impl Tls {
    /// The one that asks in the handshake what is demanded, so that a server that fails reads why in its log.
    fn towards(&self, demand: &Demand) -> &ClientTls {
        if matches!(demand, Demand::Verified { .. }) { &self.verified } else { &self.any }
    }
}

/// A host that has not proven what it must is not spoken to any further (RFC 3463 3.8: 4.7.4 and 4.7.5).
fn refused(goal: Goal<'_>, fault: &Unproven) -> Reply {
    tracing::info!(event = "unproven", host = goal.host, address = %goal.address, why = %fault);
    meters::unproven(goal.demand.as_str());
    let detail = if matches!(fault, Unproven::NoTls(_)) { 4 } else { 5 };
    Reply::new(451, EnhancedStatus::new(4, 7, detail), fault.to_string())
}

/// The same, told apart where the host may be good enough for other domains.
fn misnamed(goal: Goal<'_>, fault: &Unproven) -> NotOpened {
    let reply = refused(goal, fault);
    match fault {
        Unproven::Dane(DaneFault::Authority(PkixFault::WrongName)) => NotOpened::Misnamed(reply),
        _ => NotOpened::Refused(reply),
    }
}

/// What a handshake proves; and for whose mail alone, where it is by that domain's name (RFC 7672 3.2.2).
async fn judge(
    deps: &Deps,
    goal: Goal<'_>,
    (facts, chain): (&TlsFacts, &Chain),
) -> Result<(Proof, Option<Domain>), Unproven> {
    let by = |names: &[&str]| goal.demand.judge(facts, chain, names, &deps.clock);
    match (by(&[goal.host]), goal.terms.domain) {
        (Err(Unproven::Dane(fault)), Some(domain)) => {
            // what does not come is no name
            let names = deps.resolver.next_hop_names(domain).await.unwrap_or_default();
            let names: Vec<&str> = names.iter().map(Domain::as_str).collect();
            by(&names).map(|proof| (proof, Some(domain.clone()))).map_err(|_| Unproven::Dane(fault))
        }
        (judged, _) => judged.map(|proof| (proof, None)),
    }
}
