//! A receiver that blocks or pauses the relay's mail, as an operator meets it.
#![allow(clippy::expect_used, reason = "what a test cannot do without fails it")]

mod support;

use barid::mail::Reply;
use barid::sim::{Behaviour, Sender};
use support::{Place, Relay, Variation, World, eventually, letter};

const DATA: &str = r#"
[[provider]]
name = "strict"
title = "Somebody strict"
mx = ["mx.strict.test"]
source = "their page"
date = "2026-11"

[[provider.rule]]
id = "strict-block"
text = 'S3150'
meaning = "block"
scope = "source"
source = "their page"
date = "2026-11"

[[provider.rule]]
id = "strict-pause"
text = 'S775'
meaning = "reputation"
scope = "source"
pause = "30m"
source = "their page"
date = "2026-11"
"#;

fn refuses(times: u32, reply: &str) -> Behaviour {
    let reply = Reply::parse(reply).expect("a reply");
    Behaviour { refuses: Some((times, reply)), ..Behaviour::default() }
}

async fn start(world: &World) -> (Place, Relay) {
    let place = Place::new(world, &Variation::default());
    let data = place.data().with_file_name("providers.toml");
    std::fs::write(&data, DATA).expect("written");
    place.edit("[delivery]", &format!("[delivery]\nprovider_data = {:?}", data.display().to_string()));
    let relay = place.start().await;
    (place, relay)
}

async fn send(relay: &Relay, number: u32) {
    let mut sender = Sender::connect(relay.smtp).await.expect("connects");
    let to = format!("u{number}@strict.test");
    sender.send(&letter(&[&to], &format!("letter {number}"))).await.expect("accepted");
}

/// How many messages are held for a reason.
fn held(place: &Place, reason: &str) -> usize {
    let (status, out, err) = place.barid(&["queue", "ls", "--reason", reason, "--json"]);
    assert!(status.success(), "{err}");
    out.lines().filter(|line| line.contains("\"state\":\"held\"")).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_blocked_is_held_told_of_and_released_by_one_command() {
    let world =
        World::build(&[("strict.test", refuses(1, "550 5.7.1 part of your network is blocked (S3150)"))])
            .await;
    let (place, relay) = start(&world).await;
    send(&relay, 0).await;
    let line = relay.logged(&["event=receiver_blocks"]).await;
    assert!(line.contains("strict") && line.contains("S3150") && line.contains("strict-block"), "{line}");
    for number in 1..4 {
        send(&relay, number).await;
    }
    eventually("all are held", || (held(&place, "block:strict") == 4).then_some(())).await;
    let (_, health) = relay.get("/healthz");
    assert!(health.contains("warning receivers: strict has blocked our mail since 20"), "{health}");
    assert!(health.contains("`barid queue release --reason block:strict`"), "{health}");
    let (_, metrics) = relay.get("/metrics");
    assert!(metrics.contains("barid_receivers_closed{closure=\"block\"} 1\n"), "{metrics}");
    assert!(
        metrics.contains("barid_receiver_closures_total{receiver=\"strict\",closure=\"block\"} 1\n"),
        "{metrics}"
    );
    let (_, out, _) = place.barid(&["domain", "show", "strict.test"]);
    assert!(out.contains("closed       strict: block since 20"), "{out}");
    // a start forgets nothing
    assert!(relay.terminate().await.success());
    let relay = place.start().await;
    assert!(relay.get("/healthz").1.contains("strict has blocked our mail since 20"));
    assert_eq!((world.arrived().len(), held(&place, "block:strict")), (0, 4));
    // a dry run changes nothing; then all of it goes
    let (status, out, err) = place.barid(&["queue", "release", "--reason", "block:strict", "--dry-run"]);
    assert!(status.success() && out.contains("4 messages"), "{out}{err}");
    assert_eq!(held(&place, "block:strict"), 4);
    let (status, out, err) = place.barid(&["queue", "release", "--reason", "block:strict"]);
    assert!(status.success() && out.contains("4 messages"), "{out}{err}");
    eventually("all of it", || (world.arrived().len() == 4).then_some(())).await;
    assert!(!relay.get("/healthz").1.contains("strict"));
    assert!(!relay.log().iter().any(|line| line.contains("event=bounced")));
    assert!(relay.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_is_ended_by_the_operator() {
    let world = World::build(&[("strict.test", refuses(1, "451 4.7.650 too many complaints (S775)"))]).await;
    let (place, relay) = start(&world).await;
    send(&relay, 0).await;
    relay.logged(&["event=receiver_pauses"]).await;
    send(&relay, 1).await;
    let (_, out, _) = place.barid(&["domain", "show", "strict.test"]);
    assert!(out.contains("closed       strict: pause since 20"), "{out}");
    let (_, health) = relay.get("/healthz");
    assert!(health.contains("warning receivers: strict wants nothing before 20"), "{health}");
    assert_eq!(world.arrived().len(), 0);
    let (status, out, err) = place.barid(&["domain", "resume", "strict.test"]);
    assert!(status.success() && out.contains("; strict (pause) is open again"), "{out}{err}");
    eventually("both", || (world.arrived().len() == 2).then_some(())).await;
    assert!(relay.terminate().await.success());
}
