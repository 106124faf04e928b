//! What a world is given: its domains and hosts, and how the relay in it is set up.

use super::*;
use crate::dsn::{Book, Classifier};

/// Domains, and the hosts that take their mail.
pub(super) fn zones() -> Vec<(&'static str, Vec<(u16, usize)>)> {
    vec![
        ("a.example", vec![(10, 0)]),
        ("b.example", vec![(10, 0)]),
        ("c.example", vec![(10, 1), (20, 2)]),
        ("d.example", vec![(10, 3), (10, 4)]),
        ("e.example", vec![(10, DEAD_HOST), (20, 5)]),
        ("f.example", vec![(10, 5)]),
        ("sender.example", vec![(10, 6)]),
        ("dead.example", vec![(10, DEAD_HOST)]),
        ("nowhere.example", vec![]),
    ]
}

/// Whose mail an operator may mean.
pub(super) fn targets() -> Vec<Target> {
    let client = |name| Target::Client(ClientName::parse(name).expect("a name"));
    let mut targets = vec![Target::Everything, client("apps"), client("news")];
    targets.extend(zones().iter().map(|(name, _)| Target::Domain(domain(name))));
    targets
}

pub(super) fn settings(size: Size) -> Settings {
    let seconds = |waits: &[u64]| waits.iter().map(|wait| Duration::from_secs(*wait)).collect();
    Settings {
        hostname: domain("relay.example"),
        port: 25,
        allow_loopback: false,
        block_probe: REST_MAX,
        retry: RetrySchedule::new(seconds(&[10, 30, 60])).expect("has waits").with_rest_max(REST_MAX),
        expire_after: size.expiry,
        delay_notice_after: Some(ledger::NOTICE),
        tls: TlsOrders::default(),
        routes: Routes::default(),
        connections_per_site_max: 3,
        rate_per_site_max: None,
        caps: caps(),
        connections_max: 3,
        copies_max: 24,
        urgent_copies_max: 4,
        look_ups_max: 3,
        tick: Duration::from_secs(1),
        domains_max: 6,
        idle_timeout: Duration::from_secs(5),
        connect_timeout: Duration::from_secs(10),
        messages_per_connection_max: 20,
        classifier: classifier(),
    }
}

/// Two hosts belong to a receiver whose rules are known; the others say the same and are judged by rules for all.
fn classifier() -> Classifier {
    let rule = |of: &str, text: &str, meaning: &str| {
        format!(
            "[[{of}rule]]\nid = \"{of}{text}\"\ntext = '{text}'\nmeaning = \"{meaning}\"\nscope = \"source\"\n\
             pause = \"20s\"\nsource = \"here\"\ndate = \"now\"\n"
        )
    };
    let meanings = [("S3150", "block"), ("S775", "reputation"), ("too fast", "rate")];
    let of = |place: &str| meanings.map(|(text, meaning)| rule(place, text, meaning)).concat();
    let known = "[[provider]]\nname = \"known\"\ntitle = \"\"\nmx = [\"mx1.example\", \"mx2.example\"]\n\
                 source = \"here\"\ndate = \"now\"\n";
    let text = [known, &of("provider."), &of("")].concat();
    Classifier::new(Book::parse(&text).expect("reads"))
}

/// Some hosts are under one hand, and one domain has a limit of its own.
pub(super) fn caps() -> Caps {
    let patterns = |texts: &[&str]| -> Vec<DomainPattern> {
        texts.iter().map(|text| DomainPattern::parse(text).expect("a pattern")).collect()
    };
    let shared = Cap { connections_max: Some(1), per_second: Some(5.0), messages_per_connection: None };
    let own = Cap { connections_max: Some(1), per_second: Some(0.5), messages_per_connection: None };
    Caps {
        providers: vec![("shared".into(), patterns(&["mx1.example", "mx2.example"]), shared)],
        domains: vec![(patterns(&["b.example"]), own)],
    }
}
