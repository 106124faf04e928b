//! A running relay reads its configuration again: what may change does, mail under way is not lost, and a
//! broken file changes nothing.
#![allow(clippy::expect_used, reason = "what a test cannot do without fails it")]

mod support;

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use barid::net::{Fingerprint, Identity};
use barid::sim::{Behaviour, SendError, Sender};
use support::{Place, Relay, Variation, World, eventually, letter, under_tls};

async fn send(to: SocketAddr, recipient: &str, subject: &str) -> Result<(), SendError> {
    Sender::connect(to).await?.send(&letter(&[recipient], subject)).await
}

/// Reloads; gives what the log says of it.
async fn reload(relay: &Relay, nth: usize) -> String {
    relay.hang_up();
    let told = || {
        let lines = relay.log();
        let is_end =
            |line: &&String| line.contains("event=reloaded") || line.contains("event=reload_refused");
        lines.iter().filter(is_end).nth(nth).cloned()
    };
    eventually("the end of the reload", told).await
}

fn is_refused(sent: Result<(), SendError>, text: &str) -> bool {
    matches!(sent, Err(SendError::Refused(reply)) if reply.to_string().contains(text))
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_change_for_new_sessions_and_those_under_way_end_as_they_began() {
    let world = World::build(&[("prompt.test", Behaviour::default())]).await;
    let place = Place::new(&world, &Variation::default());
    let relay = place.start().await;
    let mut under_way = Sender::connect(relay.smtp).await.expect("connects");
    place.edit("127.0.0.0/8", "192.0.2.0/24");
    let told = reload(&relay, 0).await;
    assert!(told.contains("changed=client[apps].networks"), "{told}");
    assert!(is_refused(send(relay.smtp, "you@prompt.test", "stranger").await, "554 5.7.1"));
    under_way.send(&letter(&["you@prompt.test"], "under way")).await.expect("accepted");
    place.edit("192.0.2.0/24", "127.0.0.0/8");
    place.edit("sender_domains = [\"*\"]", "sender_domains = [\"other.test\"]");
    reload(&relay, 1).await;
    assert!(is_refused(send(relay.smtp, "you@prompt.test", "not mine").await, "you may not send from"));
    eventually("the message of the session under way", || world.arrived().pop()).await;
    assert!(relay.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_that_waits_goes_by_a_new_route_once() {
    let slow = Behaviour { latency: Duration::from_millis(100), ..Behaviour::default() };
    let world = World::build(&[("routed.test", slow.clone()), ("slow.test", slow)]).await;
    // nobody listens there once the socket is dropped
    let dead = TcpListener::bind("127.0.0.1:0").expect("a socket").local_addr().expect("an address");
    let route = format!("[[route]]\ndomains = [\"routed.test\"]\nvia = \"{dead}\"");
    let variation = Variation { more: Box::leak(route.into_boxed_str()), ..Variation::default() };
    let place = Place::new(&world, &variation);
    let relay = place.start().await;
    for number in 0..5 {
        send(relay.smtp, "you@routed.test", &format!("routed {number}")).await.expect("accepted");
        send(relay.smtp, "you@slow.test", &format!("slow {number}")).await.expect("accepted");
    }
    relay.logged(&["event=unreachable"]).await;
    place.edit(&dead.to_string(), &world.mail.to_string());
    let told = reload(&relay, 0).await;
    assert!(told.contains("changed=route[0].via"), "{told}");
    eventually("all ten", || (world.arrived().len() >= 10).then_some(())).await;
    assert!(relay.terminate().await.success());
    let subjects: std::collections::BTreeSet<String> = world
        .arrived()
        .iter()
        .filter_map(|(content, _)| content.split("Subject: ").nth(1)?.lines().next().map(str::to_owned))
        .collect();
    assert_eq!((world.arrived().len(), subjects.len()), (10, 10), "each once: {subjects:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_file_changes_nothing_and_all_its_faults_are_told() {
    let world = World::build(&[("prompt.test", Behaviour::default())]).await;
    let place = Place::new(&world, &Variation::default());
    let relay = place.start().await;
    place.edit("127.0.0.0/8", "127.0.0.0/99");
    place.edit("sender_domains = [\"*\"]", "sender_domains = [\"other.test\"]\nclas = \"bulk\"");
    let told = reload(&relay, 0).await;
    assert!(told.contains("event=reload_refused faults=2"), "{told}");
    relay.logged(&["event=config_fault", "line 11: client[apps].networks: `127.0.0.0/99`"]).await;
    relay.logged(&["event=config_fault", "did you mean `class`?"]).await;
    send(relay.smtp, "you@prompt.test", "as before").await.expect("accepted");
    eventually("the message", || world.arrived().pop()).await;
    // mended, it counts
    place.edit("127.0.0.0/99", "127.0.0.0/8");
    place.edit("clas =", "class =");
    reload(&relay, 1).await;
    assert!(is_refused(send(relay.smtp, "you@prompt.test", "not mine").await, "you may not send from"));
    assert!(relay.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_change_at_once_and_what_needs_a_restart_is_told() {
    let world = World::build(&[("prompt.test", Behaviour::default())]).await;
    let place = Place::new(&world, &Variation { more: "[limits]\nconnections = 1", ..Variation::default() });
    let relay = place.start().await;
    let first = Sender::connect(relay.smtp).await.expect("connects");
    assert!(is_refused(Sender::connect(relay.smtp).await.map(drop), "421 4.7.0"));
    place.edit("connections = 1", "connections = 2\nmessage_size = \"64KiB\"");
    place.edit("relay.test", "other.test");
    let told = reload(&relay, 0).await;
    let want = "changed=\"limits.connections limits.message_size\" needs_restart=hostname";
    assert!(told.contains(want), "{told}");
    let mut second = Sender::connect(relay.smtp).await.expect("there is a second place");
    let mut large = letter(&["you@prompt.test"], "large");
    large.content.extend_from_slice("a line of content\r\n".repeat(5000).as_bytes());
    assert!(is_refused(second.send(&large).await, "552"));
    drop(first);
    assert!(relay.terminate().await.success());
}

/// The certificate that is shown to whoever says STARTTLS.
async fn shown_certificate(relay: &Relay) -> Fingerprint {
    under_tls(relay).await.facts.certificate.expect("one is shown")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_certificate_is_shown_though_no_setting_changed() {
    let world = World::build(&[]).await;
    let dirs =
        [tempfile::TempDir::new().expect("a directory"), tempfile::TempDir::new().expect("a directory")];
    let files = dirs.each_ref().map(|dir| {
        Identity::self_signed("relay.test", dir.path()).expect("made");
        dir.path().join("self-signed-relay.test.pem")
    });
    let more =
        format!("[tls]\ncertificates = [{{ chain = {0:?}, key = {0:?} }}]", files[0].display().to_string());
    let place =
        Place::new(&world, &Variation { more: Box::leak(more.into_boxed_str()), ..Variation::default() });
    let relay = place.start().await;
    let first = shown_certificate(&relay).await;
    assert_eq!(shown_certificate(&relay).await, first);
    std::fs::rename(&files[1], &files[0]).expect("renewed");
    let told = reload(&relay, 0).await;
    assert!(told.contains("changed=\"\""), "{told}");
    let renewed = shown_certificate(&relay).await;
    assert_ne!(renewed, first);
    // one that is broken is not taken
    std::fs::write(&files[0], "no certificate").expect("written");
    let told = reload(&relay, 1).await;
    assert!(told.contains("event=reload_refused faults=1"), "{told}");
    assert_eq!(shown_certificate(&relay).await, renewed);
    assert!(relay.terminate().await.success());
}
