//! The built relay over real sockets: what is accepted arrives, once, or is reported.
#![allow(clippy::expect_used, reason = "what a test cannot do without fails it")]

mod support;

use std::time::Duration;

use barid::sim::{Behaviour, SendError, Sender};
use support::{Place, Variation, World, clock, eventually, letter};

fn prompt() -> Behaviour {
    Behaviour::default()
}

async fn send(to: std::net::SocketAddr, recipients: &[&str], subject: &str) -> Result<(), SendError> {
    Sender::connect(to).await?.send(&letter(recipients, subject)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_arrives_by_mx_octet_for_octet_behind_one_trace_field() {
    let world = World::build(&[("prompt.test", prompt())]).await;
    let place = Place::new(&world, &Variation::default());
    let relay = place.start().await;
    send(relay.smtp, &["you@prompt.test"], "hello").await.expect("accepted");
    let (content, to) = eventually("the message", || world.arrived().pop()).await;
    assert_eq!(to, ["you@prompt.test"]);
    let (trace, rest) = content.split_once("\r\nSubject:").expect("the header");
    assert!(
        trace.starts_with("Received: from app.example ([127.0.0.1])\r\n\tby relay.test with ESMTP id "),
        "{trace}"
    );
    assert_eq!(rest, " hello\r\n\r\n.dots\r\n..\r\nand an end\r\n");
    relay.logged(&["event=delivered", "to=you@prompt.test", "remote=mx.prompt.test"]).await;
    assert!(relay.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn recipients_of_several_domains_each_get_one_copy_of_one_body() {
    let world = World::build(&[("a.test", prompt()), ("b.test", prompt())]).await;
    let place = Place::new(&world, &Variation::default());
    let relay = place.start().await;
    send(relay.smtp, &["x@a.test", "y@b.test", "z@a.test"], "many").await.expect("accepted");
    let mut arrived = eventually("both copies", || Some(world.arrived()).filter(|all| all.len() == 2)).await;
    arrived.sort_by(|a, b| a.1.cmp(&b.1));
    let recipients: Vec<_> = arrived.iter().map(|(_, to)| to.join(" ")).collect();
    assert_eq!(recipients, ["x@a.test z@a.test", "y@b.test"]);
    let body = |content: &str| content.split_once("Subject:").map(|(_, body)| body.to_owned());
    assert_eq!(body(&arrived[0].0), body(&arrived[1].0));
    assert!(relay.terminate().await.success());
    // nothing is left behind, the shared body neither
    let (status, out, _) = place.barid(&["spool", "verify", "--json"]);
    assert!(status.success() && out.contains("\"bodies\":0"), "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_message_passes_through_a_file_of_its_own() {
    let world = World::build(&[("prompt.test", prompt())]).await;
    let place = Place::new(&world, &Variation::default());
    let relay = place.start().await;
    let mut large = letter(&["you@prompt.test"], "large");
    for line in 0..20_000 {
        large.content.extend_from_slice(format!(".line {line} of a large message\r\n").as_bytes());
    }
    Sender::connect(relay.smtp).await.expect("connects").send(&large).await.expect("accepted");
    let (content, _) = eventually("the message", || world.arrived().pop()).await;
    assert!(content.ends_with(&*String::from_utf8_lossy(&large.content)), "changed on the way");
    assert!(relay.terminate().await.success());
    assert_eq!(std::fs::read_dir(place.data().join("bodies")).expect("lists").count(), 0, "the file is gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_temporary_refusal_is_tried_again_and_a_final_one_reported() {
    let moody = Behaviour { put_off_times: 2, unknown_prefix: Some("nobody".into()), ..prompt() };
    let world = World::build(&[("moody.test", moody)]).await;
    let place = Place::new(&world, &Variation::default());
    let relay = place.start().await;
    send(relay.smtp, &["you@moody.test", "nobody@moody.test"], "both").await.expect("accepted");
    let arrived =
        eventually("message and report", || Some(world.arrived()).filter(|all| all.len() == 2)).await;
    let of = |to: &str| {
        arrived.iter().find(|(_, recipients)| recipients == &[to]).map(|(content, _)| content.clone())
    };
    assert!(of("you@moody.test").is_some_and(|content| content.contains("Subject: both")));
    let report = of("app@sender.test").expect("a report");
    for part in ["report-type=delivery-status", "Final-Recipient: rfc822; nobody@moody.test", "Status: 5.1.1"]
    {
        assert!(report.contains(part), "{part} is not in {report}");
    }
    assert!(relay.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_dropped_in_place_of_the_final_reply_costs_an_attempt_and_no_mail() {
    let drops = Behaviour { drop_first: 3, ..prompt() };
    let world = World::build(&[("drops.test", drops)]).await;
    let place = Place::new(&world, &Variation::default());
    let relay = place.start().await;
    for number in 0..10 {
        send(relay.smtp, &[&format!("u{number}@drops.test")], "drop").await.expect("accepted");
    }
    let arrived = eventually("all ten", || Some(world.arrived()).filter(|all| all.len() >= 10)).await;
    assert_eq!(relay.log().iter().filter(|line| line.contains("event=deferred")).count(), 3);
    let distinct: std::collections::BTreeSet<_> = arrived.iter().map(|(_, to)| to.clone()).collect();
    assert_eq!((arrived.len(), distinct.len()), (10, 10));
    assert!(relay.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_may_not_relay_and_clients_only_send_from_their_domains() {
    let world = World::build(&[("prompt.test", prompt())]).await;
    let refusal = |result: Result<(), SendError>| match result {
        Err(SendError::Refused(reply)) => reply.to_string(),
        other => panic!("not refused: {other:?}"),
    };
    let elsewhere = Variation { client_network: Some("192.0.2.0/24"), ..Variation::default() };
    let relay = Place::new(&world, &elsewhere).start_kept().await;
    let told = refusal(send(relay.smtp(), &["you@prompt.test"], "open relay").await);
    assert!(told.starts_with("554 5.7.1 relaying denied"), "{told}");
    let other_domain = Variation { sender_domains: Some("other.test"), ..Variation::default() };
    let relay = Place::new(&world, &other_domain).start_kept().await;
    let told = refusal(send(relay.smtp(), &["you@prompt.test"], "forged").await);
    assert!(told.starts_with("550 5.7.1 you may not send from this domain"), "{told}");
    assert!(world.arrived().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_accepted_survives_a_kill_and_waits_for_its_destination() {
    let mut world = World::build(&[("prompt.test", prompt())]).await;
    world.go_down().await;
    let place = Place::new(&world, &Variation::default());
    let relay = place.start().await;
    for number in 0..20 {
        send(relay.smtp, &[&format!("u{number}@prompt.test")], "durable").await.expect("accepted");
    }
    relay.logged(&["event=unreachable"]).await;
    let charged = relay.log().iter().any(|line| line.contains("event=deferred"));
    assert!(!charged, "waiting was charged as an attempt");
    relay.kill();
    let (status, out, _) = place.barid(&["spool", "verify", "--json"]);
    assert!(status.success() && out.contains("\"bodies\":20"), "{out}");
    world.come_back().await;
    let relay = place.start().await;
    let arrived = eventually("all twenty", || Some(world.arrived()).filter(|all| all.len() >= 20)).await;
    let distinct: std::collections::BTreeSet<_> = arrived.iter().map(|(_, to)| to.clone()).collect();
    assert_eq!((arrived.len(), distinct.len()), (20, 20));
    assert!(
        !relay.log().iter().any(|line| line.contains("event=deferred")),
        "waiting was charged as an attempt"
    );
    assert!(relay.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_index_is_found_again_from_the_log() {
    let mut world = World::build(&[("prompt.test", prompt())]).await;
    world.go_down().await;
    let place = Place::new(&world, &Variation::default());
    let relay = place.start().await;
    send(relay.smtp, &["you@prompt.test"], "kept").await.expect("accepted");
    assert!(relay.terminate().await.success());
    std::fs::remove_dir_all(place.data().join("index")).expect("the index goes");
    let (status, out, _) = place.barid(&["spool", "rebuild"]);
    assert!(status.success(), "{out}");
    world.come_back().await;
    let relay = place.start().await;
    eventually("the message", || world.arrived().pop()).await;
    assert!(relay.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_that_could_not_be_sent_in_time_is_reported() {
    let mut world = World::build(&[("prompt.test", prompt())]).await;
    world.go_down().await;
    // the sender's own host stays up
    let home = World::build(&[]).await;
    let route = format!("[[route]]\ndomains = [\"sender.test\"]\nvia = \"{}\"", home.mail);
    let variation =
        Variation { delivery: "expire_after = \"300ms\"", more: route.leak(), ..Variation::default() };
    let place = Place::new(&world, &variation);
    let relay = place.start().await;
    send(relay.smtp, &["you@prompt.test"], "late").await.expect("accepted");
    let (report, to) = eventually("the report", || home.arrived().pop()).await;
    assert_eq!(to, ["app@sender.test"]);
    assert!(
        report.contains("Final-Recipient: rfc822; you@prompt.test\r\nAction: failed\r\nStatus: 4.4.1"),
        "{report}"
    );
    assert!(report.contains("Subject: late"), "{report}");
    assert!(relay.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_that_a_policy_held_up_to_its_end_is_reported_with_the_reason() {
    let world = World::build(&[("prompt.test", prompt())]).await;
    // the sender's own host may be anybody
    let home = World::build(&[]).await;
    let route = format!("[[route]]\ndomains = [\"sender.test\"]\nvia = \"{}\"", home.mail);
    let policy = "[[tls.policies]]\ndomains = [\"prompt.test\"]\nmode = \"require\"";
    let variation = Variation {
        delivery: "expire_after = \"300ms\"",
        more: format!("{route}\n{policy}").leak(),
        ..Variation::default()
    };
    let place = Place::new(&world, &variation);
    let relay = place.start().await;
    send(relay.smtp, &["you@prompt.test"], "late").await.expect("accepted");
    let (report, _) = eventually("the report", || home.arrived().pop()).await;
    assert!(report.contains("you@prompt.test\r\nAction: failed\r\nStatus: 4.7.4"), "{report}");
    assert!(report.contains("TLS is demanded"), "{report}");
    assert!(relay.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dns_server_that_is_dead_is_passed_over_for_the_other() {
    let world = World::build(&[("prompt.test", prompt())]).await;
    // bound, and never answered
    let dead = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let variation = Variation { dns_before: dead.local_addr().ok(), ..Variation::default() };
    let place = Place::new(&world, &variation);
    let relay = place.start().await;
    send(relay.smtp, &["you@prompt.test"], "by the other").await.expect("accepted");
    eventually("the message", || world.arrived().pop()).await;
    assert!(relay.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_domain_that_does_not_exist_is_reported_at_once() {
    let world = World::build(&[("prompt.test", prompt())]).await;
    let place = Place::new(&world, &Variation::default());
    let relay = place.start().await;
    send(relay.smtp, &["you@nowhere.test"], "lost").await.expect("accepted");
    let (report, to) = eventually("the report", || world.arrived().pop()).await;
    assert_eq!(to, ["app@sender.test"]);
    assert!(
        report.contains("Final-Recipient: rfc822; you@nowhere.test\r\nAction: failed\r\nStatus: 5.1.2"),
        "{report}"
    );
    assert!(relay.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_is_under_way_is_finished_before_the_relay_stops() {
    let slow = Behaviour { latency: Duration::from_millis(2500), ..Behaviour::default() };
    let world = World::build(&[("slow.test", slow)]).await;
    let place = Place::new(&world, &Variation::default());
    let relay = place.start().await;
    send(relay.smtp, &["you@slow.test"], "late").await.expect("accepted");
    eventually("a connection", || metric(&relay, "barid_outbound_connections_open", 1)).await;
    relay.tell_to_stop();
    relay.logged(&["event=waiting", "1 remote session, 1 attempt"]).await;
    assert!(relay.ended().await.success());
    assert_eq!(world.arrived().len(), 1);
    // and it is not there any more
    let again = place.start().await;
    eventually("an empty queue", || metric(&again, "barid_queued_messages", 0)).await;
    assert!(again.terminate().await.success());
    assert_eq!(world.arrived().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_says_stop_twice_does_not_wait_and_loses_nothing() {
    let slow = Behaviour { latency: Duration::from_secs(20), ..Behaviour::default() };
    let world = World::build(&[("slow.test", slow)]).await;
    let place = Place::new(&world, &Variation::default());
    let relay = place.start().await;
    send(relay.smtp, &["you@slow.test"], "never").await.expect("accepted");
    relay.tell_to_stop();
    relay.logged(&["event=stopping"]).await;
    let asked = clock().now();
    relay.tell_to_stop();
    assert!(relay.ended().await.success());
    assert!(clock().now().since(asked) < Duration::from_secs(10));
    assert_eq!(world.arrived().len(), 0);
    let again = place.start().await;
    eventually("the message", || metric(&again, "barid_queued_messages", 1)).await;
    again.kill();
}

/// Whether a metric without labels has this value.
fn metric(relay: &support::Relay, name: &str, value: u64) -> Option<()> {
    let (_, text) = relay.get("/metrics");
    text.lines().any(|line| line == format!("{name} {value}")).then_some(())
}

#[tokio::test(flavor = "multi_thread")]
async fn health_and_metrics_are_served() {
    let world = World::build(&[("prompt.test", prompt())]).await;
    let place = Place::new(&world, &Variation::default());
    let relay = place.start().await;
    send(relay.smtp, &["you@prompt.test"], "counted").await.expect("accepted");
    relay.logged(&["event=delivered"]).await;
    // this DNS signs nothing, and the relay was not told that it need not
    let (status, told) = relay.get("/healthz");
    assert!(
        status == 200 && told.starts_with("warning\nwarning dnssec: ") && told.lines().count() == 2,
        "{told}"
    );
    place.edit("[dns]", "[dns]\ndnssec = false");
    relay.hang_up();
    eventually("health", || (relay.get("/healthz") == (200, "ok\n".to_owned())).then_some(())).await;
    assert_eq!(relay.get("/nothing").0, 404);
    let (status, metrics) = relay.get("/metrics");
    assert_eq!(status, 200);
    for line in [
        "barid_accepted_messages_total{client=\"apps\",class=\"normal\"} 1",
        "barid_delivered_recipients_total 1",
        "barid_store_commit_seconds_count",
    ] {
        assert!(metrics.contains(line), "{line} is not in {metrics}");
    }
    assert!(relay.terminate().await.success());
}

/// A relay with the place that it needs.
struct Kept {
    relay: support::Relay,
    _place: Place,
}

impl Kept {
    fn smtp(&self) -> std::net::SocketAddr {
        self.relay.smtp
    }
}

impl Place {
    async fn start_kept(self) -> Kept {
        Kept { relay: self.start().await, _place: self }
    }
}
