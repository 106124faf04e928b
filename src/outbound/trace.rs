//! The way of a message to an address, found and tried without sending one.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::BytesMut;
use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::route::Route;
use super::{Deps, doubt};
use crate::egress::Receiver;
use crate::mail::{Address, Domain, Reply, ReversePath};
use crate::net::{Dialled, DnsError, Handshake, Host, Pkix, RouteError, Site, Stream};
use crate::smtp::ReplyReader;
use crate::transport::{self, Demand, Proof, Stance, Sts, Unproven};

/// How long a server may take for each answer: somebody is watching.
const PATIENCE: Duration = Duration::from_secs(30);
const READ_OCTETS: usize = 1 << 10;

/// Where mail for a domain goes.
#[derive(Clone, Debug)]
pub struct Way {
    /// The set of hosts: what limits and connections belong to.
    pub site: Site,
    /// Whether it is a configured route.
    pub is_fixed: bool,
    /// Whose limit counts for all sites together, where one is configured.
    pub provider: Option<Box<str>>,
    /// Who receives there, as far as being kept away goes.
    pub receiver: Receiver,
    /// The hosts, best first.
    pub hosts: Vec<Host>,
    /// What they must prove.
    pub stance: Stance,
    /// The policy that the domain publishes.
    pub sts: Sts,
}

/// Finds the way of a domain's mail.
pub async fn find_way(deps: &Deps, domain: &Domain) -> Result<Way, RouteError> {
    // as for mail: a denial counts only with proof
    let route = doubt::resolve(deps, domain).await?;
    let is_fixed = deps.settings.now().routes.fixed(domain).is_some();
    let provider = route.provider.as_ref().and_then(|sluice| sluice.provider.as_ref());
    let provider = provider.map(|provider| provider.name.clone());
    let hosts = route.hosts.to_vec();
    let Route { site, receiver, stance, sts, .. } = route;
    Ok(Way { site, is_fixed, provider, receiver, hosts, stance, sts })
}

/// What was said, and what was heard.
#[derive(Clone, Debug, Serialize)]
pub struct Exchange {
    /// Our command; nothing before the greeting.
    pub said: String,
    /// The reply's lines, or what happened instead.
    pub heard: Vec<String>,
}

/// A session with one host, as far as RCPT.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Probe {
    /// What went to and fro.
    pub exchanges: Vec<Exchange>,
    /// The version and cipher of TLS, where the session went on under it.
    pub tls: Option<String>,
    /// What is known of the server's certificate.
    pub certificate: Option<String>,
    /// What the server has shown of who it is, where mail may go to it.
    pub proof: Option<&'static str>,
    /// Why mail may not go to it, which has not proven what it must.
    pub unproven: Option<String>,
    /// Whether the server would take a message for the address.
    pub is_accepted: bool,
}

impl Probe {
    fn note(&mut self, said: String, heard: String) {
        self.exchanges.push(Exchange { said, heard: vec![heard] });
    }
}

/// What a host must prove, for mail to a domain.
pub async fn demand_of(deps: &Deps, way: &Way, host: &Host, address: SocketAddr) -> Result<Demand, DnsError> {
    transport::demand(&*deps.resolver, &way.stance, &host.name, address.port()).await
}

/// A message that is not sent.
#[derive(Clone, Copy, Debug)]
pub struct Pretended<'a> {
    /// From whom.
    pub from: &'a ReversePath,
    /// To whom.
    pub to: &'a Address,
}

/// Speaks to a host as if a message were to be sent, and takes leave before its content. Where TLS does not work
/// and need not it is tried in clear, as for mail (RFC 7435).
pub async fn probe(
    deps: &Deps,
    (host, address): (&Host, SocketAddr),
    demand: &Demand,
    message: Pretended<'_>,
) -> Probe {
    let mut talk = match Talk::begin(deps, address, Probe::default()).await {
        Ok(talk) => talk,
        Err(probe) => return probe,
    };
    let uses_tls = demand.tries_tls() && deps.tls.now().is_some();
    let goes_on = talk.as_far_as_rcpt(deps, (host, demand), message, uses_tls).await;
    if let (Err(Broken::Tls), true) = (goes_on, demand.allows_clear()) {
        talk = match Talk::begin(deps, address, talk.probe).await {
            Ok(talk) => talk,
            Err(probe) => return probe,
        };
        // where it breaks is in the exchanges
        let _ = talk.as_far_as_rcpt(deps, (host, demand), message, false).await;
    }
    talk.probe
}

/// Why a talk goes no further; what happened stands in its exchanges.
enum Broken {
    Talk,
    Tls,
}

struct Talk {
    stream: Box<dyn Stream>,
    input: BytesMut,
    reader: ReplyReader,
    probe: Probe,
}

impl Talk {
    async fn begin(deps: &Deps, address: SocketAddr, mut probe: Probe) -> Result<Self, Probe> {
        let dialled = timeout(deps.settings.now().connect_timeout, deps.dial.dial(address)).await;
        match dialled.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(Dialled { stream, .. }) => {
                Ok(Talk { stream, input: BytesMut::new(), reader: ReplyReader::default(), probe })
            }
            Err(error) => {
                probe.note(format!("connect to {address}"), format!("no connection: {error}"));
                Err(probe)
            }
        }
    }

    async fn as_far_as_rcpt(
        &mut self,
        deps: &Deps,
        (host, demand): (&Host, &Demand),
        Pretended { from, to }: Pretended<'_>,
        uses_tls: bool,
    ) -> Result<(), Broken> {
        let greeting = self.ask(String::new()).await?.0;
        if greeting.code != 220 {
            return self.ask("QUIT".into()).await.map(drop);
        }
        let mut lines = self.greet(deps).await?;
        let is_named = |line: &str, word: &str| {
            line.split(' ').next().is_some_and(|first| first.eq_ignore_ascii_case(word))
        };
        let offers = |lines: &[Box<str>], word: &str| lines.iter().any(|line| is_named(line, word));
        let domain = to.domain();
        let starts = uses_tls && offers(&lines, "STARTTLS");
        let judged = match starts {
            true => self.start_tls(deps, (host, demand), domain).await?,
            false => None,
        };
        if judged.as_ref().is_some_and(Result::is_ok) {
            lines = self.greet(deps).await?;
        }
        match judged.unwrap_or_else(|| demand.judge_clear()) {
            Ok(proof) => self.probe.proof = Some(proof.as_str()),
            Err(fault) => {
                self.probe.unproven = Some(fault.to_string());
                return self.ask("QUIT".into()).await.map(drop);
            }
        }
        let is_ascii = to.is_ascii() && from.address().is_none_or(Address::is_ascii);
        if !is_ascii && !offers(&lines, "SMTPUTF8") {
            let why = "nothing is said: the server does not offer it (5.6.7)";
            self.probe.note("an address needs SMTPUTF8".into(), why.into());
            return self.ask("QUIT".into()).await.map(drop);
        }
        let utf8 = if is_ascii { "" } else { " SMTPUTF8" };
        let sender = self.ask(format!("MAIL FROM:<{from}>{utf8}")).await?.0;
        if sender.code == 250 {
            let recipient = self.ask(format!("RCPT TO:<{to}>")).await?.0;
            self.probe.is_accepted = matches!(recipient.code, 250 | 251);
        }
        self.ask("RSET".into()).await?;
        self.ask("QUIT".into()).await.map(drop)
    }

    /// EHLO, or HELO where that is not known; gives the lines of the answer.
    async fn greet(&mut self, deps: &Deps) -> Result<Vec<Box<str>>, Broken> {
        let (reply, lines) = self.ask(format!("EHLO {}", deps.settings.now().hostname)).await?;
        if reply.code == 250 {
            return Ok(lines);
        }
        let (reply, _) = self.ask(format!("HELO {}", deps.settings.now().hostname)).await?;
        if reply.code == 250 { Ok(Vec::new()) } else { Err(Broken::Talk) }
    }

    /// Goes on under TLS; gives what that proves, or nothing where the server would not after all.
    async fn start_tls(
        &mut self,
        deps: &Deps,
        (host, demand): (&Host, &Demand),
        domain: &Domain,
    ) -> Result<Option<Result<Proof, Unproven>>, Broken> {
        let tls = deps.tls.now();
        let Some(tls) = tls.as_ref() else { return Ok(None) };
        if self.ask("STARTTLS".into()).await?.0.code != 220 {
            return Ok(None);
        }
        let stream = std::mem::replace(&mut self.stream, Box::new(tokio::io::empty()));
        let name = demand.server_name(&host.name);
        // the one that takes any certificate: whoever looks on wants to know what is wrong with it
        let shaken = match timeout(PATIENCE, tls.any.connect(stream, name)).await {
            Ok(shaken) => shaken.map_err(|error| error.to_string()),
            Err(_) => Err("no end of it in 30 seconds".to_owned()),
        };
        match shaken {
            Ok(Handshake { stream, facts, chain }) => {
                (self.stream, self.input) = (stream, BytesMut::new());
                self.probe.tls = Some(format!("{} {}", facts.version.as_str(), facts.cipher));
                self.probe.certificate = Some(match facts.pkix {
                    Pkix::Valid | Pkix::NotEvaluated => "proves the name".into(),
                    Pkix::Invalid(fault) => fault.to_string(),
                });
                let of_domain = deps.resolver.next_hop_names(domain).await.unwrap_or_default();
                let names: Vec<&str> =
                    [&*host.name].into_iter().chain(of_domain.iter().map(Domain::as_str)).collect();
                Ok(Some(demand.judge(&facts, &chain, &names, &deps.clock)))
            }
            Err(error) => {
                let then = if demand.allows_clear() {
                    "again in clear, as nothing forbids it"
                } else {
                    "no mail goes there"
                };
                self.probe.note("TLS handshake".into(), format!("failed: {error}; {then}"));
                Err(Broken::Tls)
            }
        }
    }

    /// Says a command and hears the reply to it.
    async fn ask(&mut self, said: String) -> Result<(Reply, Vec<Box<str>>), Broken> {
        let heard = match timeout(PATIENCE, self.exchange(&said)).await {
            Ok(heard) => heard,
            Err(_) => Err("no answer in 30 seconds".to_owned()),
        };
        let lines = match &heard {
            Ok((reply, lines)) => lines.iter().map(|line| format!("{} {line}", reply.code)).collect(),
            Err(why) => vec![why.clone()],
        };
        self.probe.exchanges.push(Exchange { said, heard: lines });
        heard.map_err(|_| Broken::Talk)
    }

    async fn exchange(&mut self, said: &str) -> Result<(Reply, Vec<Box<str>>), String> {
        let told = |error: io::Error| format!("the connection broke: {error}");
        if !said.is_empty() {
            self.stream.write_all(format!("{said}\r\n").as_bytes()).await.map_err(told)?;
            self.stream.flush().await.map_err(told)?;
        }
        loop {
            if let Some(whole) = self.reader.next(&mut self.input).map_err(|error| error.to_string())? {
                return Ok((whole.reply, whole.lines));
            }
            self.input.reserve(READ_OCTETS);
            if self.stream.read_buf(&mut self.input).await.map_err(told)? == 0 {
                return Err("the server closed the connection".into());
            }
        }
    }
}
