//! What a running relay exposes.

use std::collections::{BTreeMap, BTreeSet};

use barid::mail::Reply;
use barid::observe::names::METRICS;
use barid::observe::{Kind, Values};
use barid::sim::{Behaviour, Sender};

use crate::support::{Place, Relay, Variation, World, eventually, letter};
use crate::usage;

/// The sum over the series of a name that have these labels.
type Wanted = (&'static str, &'static [(&'static str, &'static str)], f64);

/// A scrape, taken apart.
struct Scrape {
    /// By family.
    kinds: BTreeMap<String, String>,
    /// Names that have a line of help.
    helped: BTreeSet<String>,
    series: Vec<Series>,
}

#[derive(Debug)]
struct Series {
    name: String,
    labels: Vec<(String, String)>,
    value: f64,
}

impl Scrape {
    fn of(relay: &Relay) -> Self {
        let (status, text) = relay.get("/metrics");
        assert_eq!(status, 200);
        let mut scrape = Scrape { kinds: BTreeMap::new(), helped: BTreeSet::new(), series: Vec::new() };
        for line in text.lines().filter(|line| !line.is_empty()) {
            match line.split(' ').collect::<Vec<_>>()[..] {
                ["#", "TYPE", name, kind] => _ = scrape.kinds.insert(name.to_owned(), kind.to_owned()),
                ["#", "HELP", name, ..] => _ = scrape.helped.insert(name.to_owned()),
                _ => scrape.series.push(series(line)),
            }
        }
        scrape
    }

    /// The sum over the series of a name that have all these labels.
    fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let has = |series: &&Series| {
            let is =
                |(name, value): &(&str, &str)| series.labels.iter().any(|(n, v)| n == name && v == value);
            series.name == name && labels.iter().all(is)
        };
        self.series.iter().filter(has).map(|series| series.value).sum()
    }
}

/// One line; no label value of ours holds a comma or a quote.
fn series(line: &str) -> Series {
    let (front, value) = line.rsplit_once(' ').expect("a value");
    let (name, labels) = front.split_once('{').unwrap_or((front, "}"));
    let labels = labels.trim_end_matches('}').split(',').filter(|label| !label.is_empty());
    let label = |label: &str| {
        let (name, value) = label.split_once('=').expect("a label");
        (name.to_owned(), value.trim_matches('"').to_owned())
    };
    Series {
        name: name.to_owned(),
        labels: labels.map(label).collect(),
        value: value.parse().expect("a number"),
    }
}

/// Mail that is delivered, deferred, bounced, refused, and waits.
async fn busy(place: &Place) -> Relay {
    let relay = place.start().await;
    let send = async |to: &[&str], from: &str| {
        let mut letter = letter(to, "counted");
        letter.from =
            barid::mail::ReversePath::Address(barid::mail::Address::parse(from).expect("an address"));
        Sender::connect(relay.smtp).await.expect("connects").send(&letter).await
    };
    for to in ["a@prompt.test", "b@prompt.test", "c@moody.test", "nobody@moody.test", "d@gone.test"] {
        send(&[to], "app@sender.test").await.expect("accepted");
    }
    assert!(send(&["a@prompt.test"], "app@foreign.test").await.is_err(), "not its domain");
    relay
}

async fn world() -> World {
    let moody = Behaviour { put_off_times: 1, unknown_prefix: Some("nobody".into()), ..Behaviour::default() };
    let blocked = Reply::parse("550 5.7.1 your IP is blocked using zen.spamhaus.org").expect("a reply");
    let strict = Behaviour { refuses: Some((3, blocked)), ..Behaviour::default() };
    World::build(&[("prompt.test", Behaviour::default()), ("moody.test", moody), ("strict.test", strict)])
        .await
}

fn variation() -> Variation {
    // whoever accepted connections on this port is gone
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let gone = format!(
        "[[route]]\ndomains = [\"gone.test\"]\nvia = \"{}\"\n\
         [[provider]]\nname = \"moody\"\nmx = [\"*.moody.test\"]\nconnections = 3\n",
        silent.local_addr().expect("bound")
    );
    Variation {
        sender_domains: Some("sender.test"),
        delivery: "idle_timeout = \"100ms\"",
        more: gone.leak(),
        ..Variation::default()
    }
}

/// One that is shown in place of Barid's own.
fn certificate() -> tempfile::NamedTempFile {
    let made = rcgen::generate_simple_self_signed(["relay.test".to_owned()]).expect("makes");
    // nobody else may read it
    let file = tempfile::NamedTempFile::new().expect("a file");
    let text = format!("{}{}", made.cert.pem(), made.signing_key.serialize_pem());
    std::fs::write(file.path(), text).expect("writes");
    file
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_exposed_is_declared_and_what_is_declared_is_exposed() {
    let world = world().await;
    let place = Place::new(&world, &variation());
    let certificate = certificate();
    let file = certificate.path().display();
    let mut text = std::fs::read_to_string(place.config()).expect("reads");
    text.push_str(&format!("\n[[tls.certificates]]\nchain = \"{file}\"\nkey = \"{file}\"\n"));
    std::fs::write(place.config(), text).expect("writes");
    let relay = busy(&place).await;
    relay.logged(&["event=delivered"]).await;
    relay.logged(&["event=bounced", "meaning="]).await;
    for number in 0..3 {
        let letter = letter(&[&format!("u{number}@strict.test")], "blocked");
        Sender::connect(relay.smtp).await.expect("connects").send(&letter).await.expect("accepted");
    }
    relay.logged(&["event=receiver_blocks"]).await;
    // what is looked at now and again has been looked at
    let scrape = eventually("a look at the process", || {
        Some(Scrape::of(&relay)).filter(|scrape| scrape.sum("process_threads", &[]) > 0.0)
    });
    let scrape = scrape.await;
    for (name, kind) in &scrape.kinds {
        let declared = METRICS.iter().find(|metric| metric.name == name);
        let declared = declared.unwrap_or_else(|| panic!("{name} is exposed and not declared"));
        let wanted = match declared.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        assert_eq!(kind, wanted, "{name}");
        assert!(scrape.helped.contains(name), "{name} has no help");
    }
    for metric in METRICS {
        assert!(scrape.kinds.contains_key(metric.name), "{} is declared and not exposed", metric.name);
    }
    for series in &scrape.series {
        let metric = usage::metric(&series.name).unwrap_or_else(|| panic!("{series:?}"));
        let own: Vec<_> = series.labels.iter().filter(|(name, _)| name != "le").collect();
        assert_eq!(own.len(), metric.labels.len(), "{series:?}");
        for (name, value) in own {
            let label = metric.labels.iter().find(|label| label.name == name);
            let label = label.unwrap_or_else(|| panic!("{series:?} has a label that is not declared"));
            let Values::Closed(values) = label.values else { continue };
            assert!(values.contains(&value.as_str()), "{series:?} has a value that is not declared");
        }
    }
    relay.kill();
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_is_counted_by_what_became_of_it() {
    let world = world().await;
    let place = Place::new(&world, &variation());
    let relay = busy(&place).await;
    for part in ["to=a@prompt.test", "to=b@prompt.test", "to=c@moody.test"] {
        relay.logged(&["event=delivered", part]).await;
    }
    relay.logged(&["event=unreachable"]).await;
    // of five that were accepted one waits for a destination that is gone
    let wanted: &[Wanted] = &[
        ("barid_accepted_messages_total", &[("client", "apps"), ("class", "normal")], 5.0),
        ("barid_accept_seconds_count", &[], 5.0),
        ("barid_refused_total", &[("reason", "sender")], 1.0),
        ("barid_attempts_total", &[("provider", "moody"), ("outcome", "deferred")], 1.0),
        ("barid_attempts_total", &[("provider", "moody"), ("outcome", "bounced")], 1.0),
        ("barid_attempts_total", &[("provider", "moody"), ("outcome", "delivered")], 1.0),
        // and the report to the sender
        ("barid_attempts_total", &[("provider", "other"), ("outcome", "delivered")], 3.0),
        ("barid_delivery_seconds_count", &[("class", "normal")], 4.0),
        ("barid_bounced_recipients_total", &[], 1.0),
        ("barid_deferred_recipients_total", &[], 1.0),
        ("barid_outbound_connections_total", &[("outcome", "failed")], 1.0),
        ("barid_outbound_connection_messages_count", &[], 1.0),
        ("barid_queued_messages", &[], 1.0),
        ("barid_waiting_messages", &[("class", "normal")], 1.0),
        ("barid_waiting_messages", &[], 1.0),
        ("barid_destinations_down", &[("kind", "site")], 1.0),
        ("barid_held_messages", &[], 0.0),
        ("barid_store_failing", &[], 0.0),
        ("barid_panics_total", &[], 0.0),
    ];
    let told = |scrape: &Scrape| -> Vec<String> {
        let off = wanted.iter().filter(|(name, labels, value)| {
            let sum = scrape.sum(name, labels);
            // how many connections were needed is left to chance
            if name.starts_with("barid_outbound_") { sum < *value } else { sum != *value }
        });
        off.map(|(name, labels, value)| format!("{name} {labels:?} {value} {}", scrape.sum(name, labels)))
            .collect()
    };
    let mut last = Vec::new();
    let counted = eventually("all of the numbers", || {
        let scrape = Scrape::of(&relay);
        let off = told(&scrape);
        if last != off {
            // a failed test shows what was off in the end
            eprintln!("off: {off:?}");
            last.clone_from(&off);
        }
        off.is_empty().then_some(scrape)
    });
    let scrape = counted.await;
    for positive in [
        "barid_dns_look_ups_total",
        "barid_dns_seconds_count",
        "barid_memory_allocated_bytes",
        "barid_disk_free_bytes",
        "barid_store_log_bytes",
        "barid_store_index_bytes",
        "barid_manager_delay_seconds_count",
        "barid_copies_in_memory_limit",
        "barid_outbound_connections_limit",
        "process_open_fds",
        "process_start_time_seconds",
        "barid_build_info",
    ] {
        assert!(scrape.sum(positive, &[]) > 0.0, "{positive}");
    }
    relay.kill();
}
