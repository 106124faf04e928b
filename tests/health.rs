//! `/healthz` and `/readyz`: what a supervisor, a load balancer and a person are told.
#![allow(clippy::expect_used, reason = "what a test cannot do without fails it")]

mod support;

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use barid::sim::dns::{DnsServer, Failure, Zone};
use barid::sim::{Behaviour, Sender};
use serde_json::{Value, json};
use support::{Place, Relay, Variation, World, eventually, letter};

async fn send(relay: &Relay, to: &str) {
    let mut sender = Sender::connect(relay.smtp).await.expect("connects");
    sender.send(&letter(&[to], "health")).await.expect("accepted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_works_is_healthy_and_ready_in_text_and_json() {
    let world = World::build(&[]).await;
    let place = Place::new(&world, &Variation::default());
    let relay = place.start().await;
    for path in ["/healthz", "/readyz"] {
        let (status, text) = relay.get(path);
        assert_eq!(status, 200, "{text}");
        let (status, text) = relay.get(&format!("{path}?format=json"));
        let told: Value = serde_json::from_str(&text).expect("is JSON");
        assert!(status == 200 && told["findings"].is_array(), "{text}");
    }
    assert_eq!(relay.get("/readyz").1, "ok\n");
    assert!(relay.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_is_told_to_stop_is_not_ready_and_says_so_until_it_is_done() {
    let slow = Behaviour { latency: Duration::from_millis(2500), ..Behaviour::default() };
    let world = World::build(&[("slow.test", slow)]).await;
    let place = Place::new(&world, &Variation::default());
    let relay = place.start().await;
    send(&relay, "you@slow.test").await;
    eventually("an attempt", || {
        let (_, metrics) = relay.get("/metrics");
        metrics.contains("barid_outbound_connections_open 1\n").then_some(())
    })
    .await;
    relay.tell_to_stop();
    relay.logged(&["event=stopping"]).await;
    let told = eventually("the drain", || {
        let (status, text) = relay.get("/readyz?format=json");
        (status == 503).then(|| serde_json::from_str::<Value>(&text).expect("is JSON"))
    });
    let why = "told to stop; what is under way is finished";
    let finding = |level: &str| json!({ "check": "draining", "level": level, "why": why });
    assert_eq!(told.await, json!({ "status": "failing", "findings": [finding("failing")] }));
    let (status, text) = relay.get("/healthz");
    assert!(status == 200 && text.contains(&format!("warning draining: {why}\n")), "{status} {text}");
    assert!(relay.ended().await.success());
    assert_eq!(world.arrived().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_doubted_resolver_is_told_of_and_is_no_reason_to_restart() {
    let mut world = World::build(&[]).await;
    // it denies everything, even the root
    let barren = Arc::new(Zone::new().failing(".", Failure::Nxdomain));
    let dns = DnsServer::bind((Ipv4Addr::LOCALHOST, 0).into(), barren).await.expect("a DNS");
    world.dns = dns.local_addr();
    tokio::spawn(dns.run());
    let place = Place::new(&world, &Variation::default());
    let relay = place.start().await;
    send(&relay, "you@lost.test").await;
    relay.logged(&["event=resolver_doubted"]).await;
    let (status, text) = relay.get("/healthz");
    assert!(status == 200 && text.starts_with("warning\n") && text.contains("warning resolver: "), "{text}");
    let (status, text) = relay.get("/readyz");
    assert_eq!((status, text.as_str()), (200, "ok\n"));
    relay.kill();
}
