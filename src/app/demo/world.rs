//! The demo's world: domains and their moods, the DNS that finds them, what was sent and what arrived.

use std::collections::{HashMap, HashSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;

use crate::mail::{Address, Domain, Recipient, ReversePath};
use crate::sim::dns::{DnsServer, Zone};
use crate::sim::{Behaviour, Letter, RemoteHost};

/// The header field by which a message is known again.
const MARK: &str = "X-Demo-Number";
const UNKNOWN_PREFIX: &str = "nobody";
const SENDER: &str = "app@sender.test";

/// One destination.
#[derive(Clone, Copy)]
pub(super) struct DemoDomain {
    pub(super) name: &'static str,
    pub(super) mood: &'static str,
    put_off_times: u32,
    drop_first: u32,
    latency_ms: u64,
}

const DOMAINS: [DemoDomain; 6] = [
    domain("prompt.test", "answers at once", 0, 0, 0),
    domain("put-off.test", "puts every recipient off once (451)", 1, 0, 0),
    domain("hesitates.test", "puts every recipient off twice (451)", 2, 0, 0),
    domain("drops.test", "drops the line instead of the first 25 final replies", 0, 25, 0),
    domain("slow.test", "answers 20 ms late", 0, 0, 20),
    domain("moody.test", "all of it at once", 1, 10, 5),
];

const fn domain(
    name: &'static str,
    mood: &'static str,
    put_off_times: u32,
    drop_first: u32,
    latency_ms: u64,
) -> DemoDomain {
    DemoDomain { name, mood, put_off_times, drop_first, latency_ms }
}

/// The running world.
pub(super) struct World {
    remote: RemoteHost,
    mail_port: u16,
    dns: SocketAddr,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    numbers: HashSet<String>,
    arrivals: u64,
    reports: u64,
}

impl World {
    /// Starts the DNS and the destinations on free loopback ports.
    pub(super) async fn build(messages: u64) -> anyhow::Result<Self> {
        let share = u32::try_from(messages).unwrap_or(u32::MAX) / DOMAINS.len() as u32;
        let mut behaviours = HashMap::new();
        let mut zone = Zone::new();
        for domain in DOMAINS {
            let behaviour = Behaviour {
                put_off_times: domain.put_off_times,
                // a demo of few messages shall not spend its time on one that is dropped again and again
                drop_first: domain.drop_first.min(share / 4),
                latency: Duration::from_millis(domain.latency_ms),
                unknown_prefix: Some(UNKNOWN_PREFIX.into()),
                refuses: None,
            };
            behaviours.insert(Domain::parse(domain.name)?, behaviour);
            let host = format!("mx.{}", domain.name);
            zone = zone.mx(domain.name, 10, &host).a(&host, Ipv4Addr::LOCALHOST);
        }
        zone = zone.mx("sender.test", 10, "mx.sender.test").a("mx.sender.test", Ipv4Addr::LOCALHOST);
        let dns = DnsServer::bind((Ipv4Addr::LOCALHOST, 0).into(), Arc::new(zone))
            .await
            .context("starting the DNS")?;
        let dns_address = dns.local_addr();
        tokio::spawn(dns.run());
        let remote = RemoteHost::new(Domain::parse("destinations.test")?, behaviours);
        let (socket, address) = RemoteHost::bind().await.context("starting the destinations")?;
        tokio::spawn(remote.clone().run(socket));
        Ok(World { remote, mail_port: address.port(), dns: dns_address, seen: Mutex::default() })
    }

    pub(super) fn domains(&self) -> &'static [DemoDomain] {
        &DOMAINS
    }

    /// The relay's configuration: what a user would write, but for ports and times.
    pub(super) fn configuration(&self, data_dir: &Path) -> String {
        format!(
            r#"
hostname = "relay.test"
data_dir = {:?}
[[listener]]
role = "relay"
address = "127.0.0.1:0"
[[listener]]
role = "admin"
address = "127.0.0.1:0"
[[client]]
name = "demo"
networks = ["127.0.0.0/8"]
sender_domains = ["*"]
[dns]
servers = ["{}"]
[delivery]
port = {}
allow_loopback = true
retry = ["1s"]
expire_after = "1h"
"#,
            data_dir.display().to_string(),
            self.dns,
            self.mail_port
        )
    }

    /// The letters, unknown recipients among them.
    pub(super) fn letters(&self, good: u64, unknown: u64) -> Vec<Letter> {
        let every = (good / unknown.max(1)).max(1);
        let mut letters = Vec::new();
        let mut lost = 0;
        for number in 0..good {
            let domain = DOMAINS[number as usize % DOMAINS.len()].name;
            letters.extend(letter(&format!("user{number}@{domain}"), &format!("good-{number}")));
            if number % every == every - 1 && lost < unknown {
                letters
                    .extend(letter(&format!("{UNKNOWN_PREFIX}{lost}@prompt.test"), &format!("lost-{lost}")));
                lost += 1;
            }
        }
        for lost in lost..unknown {
            letters.extend(letter(&format!("{UNKNOWN_PREFIX}{lost}@prompt.test"), &format!("lost-{lost}")));
        }
        letters
    }

    /// Takes in what has arrived.
    pub(super) fn look(&self) {
        let arrivals = self.remote.take_arrivals();
        let numbers = arrivals.header_values(MARK);
        let is_report = |recipients: &[Address]| recipients.iter().any(|to| to.to_string() == SENDER);
        let reports = arrivals.messages.iter().filter(|(_, recipients)| is_report(recipients)).count() as u64;
        let mut seen = self.seen();
        seen.reports += reports;
        seen.arrivals += arrivals.messages.len() as u64 - reports;
        seen.numbers.extend(numbers.into_iter().filter(|number| number.starts_with("good-")));
    }

    /// Different good messages that arrived.
    pub(super) fn good_arrivals(&self) -> u64 {
        self.seen().numbers.len() as u64
    }

    /// Messages that arrived more than once.
    pub(super) fn duplicates(&self) -> u64 {
        let seen = self.seen();
        seen.arrivals.saturating_sub(seen.numbers.len() as u64)
    }

    /// Failure reports that came back to the sender.
    pub(super) fn reports(&self) -> u64 {
        self.seen().reports
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn letter(to: &str, mark: &str) -> Option<Letter> {
    let content = format!(
        "From: <{SENDER}>\r\nTo: <{to}>\r\nSubject: demo {mark}\r\n{MARK}: {mark}\r\n\r\nA message of the demo.\r\n.\r\n"
    );
    let from = ReversePath::Address(Address::parse(SENDER).ok()?);
    Some(Letter {
        from,
        recipients: vec![Recipient::plain(Address::parse(to).ok()?)],
        content: content.into_bytes(),
    })
}
