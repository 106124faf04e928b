//! What an operator does with the relay that runs, by its commands.
#![allow(clippy::expect_used, reason = "what a test cannot do without fails it")]

mod support;

use std::net::SocketAddr;
use std::path::Path;

use barid::sim::{Behaviour, Sender};
use serde_json::Value;
use support::{Place, Relay, Variation, World, eventually, letter, run_barid};

fn stubborn() -> Behaviour {
    Behaviour { put_off_times: 1, ..Behaviour::default() }
}

async fn send(to: SocketAddr, recipient: &str, subject: &str) {
    let mut sender = Sender::connect(to).await.expect("connects");
    sender.send(&letter(&[recipient], subject)).await.expect("accepted");
}

/// Runs a command with `--json`; gives its lines.
fn json(place: &Place, words: &[&str]) -> Vec<Value> {
    let (status, out, err) = place.barid(&[words, &["--json"]].concat());
    assert!(status.success(), "{words:?}: {out}{err}");
    out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// The messages in the queue, by subject's order of arrival: id and state.
fn listed(place: &Place, select: &[&str]) -> Vec<(String, String)> {
    let lines = json(place, &[&["queue", "ls"], select].concat());
    let text = |row: &Value, key: &str| row[key].as_str().unwrap_or_default().to_owned();
    lines.iter().map(|row| (text(row, "id"), text(row, "state"))).collect()
}

/// A relay where `count` messages for a destination wait after a deferral.
async fn with_waiting(world: &World, count: usize) -> (Place, Relay) {
    let place = Place::new(world, &Variation::default());
    let text = std::fs::read_to_string(place.config()).expect("readable");
    std::fs::write(place.config(), text.replace("retry = [\"100ms\"]", "retry = [\"1h\"]")).expect("written");
    let relay = place.start().await;
    for number in 0..count {
        send(relay.smtp, &format!("u{number}@slow.test"), &format!("letter {number}")).await;
    }
    eventually("deferrals", || {
        let deferred = relay.log().iter().filter(|line| line.contains("event=deferred")).count();
        (deferred == count).then_some(())
    })
    .await;
    eventually("all of them wait", || {
        let all = listed(&place, &[]);
        (all.len() == count && all.iter().all(|(_, state)| state == "waiting")).then_some(())
    })
    .await;
    (place, relay)
}

#[tokio::test(flavor = "multi_thread")]
async fn why_a_message_waits_is_told() {
    let world = World::build(&[("slow.test", stubborn())]).await;
    let (place, relay) = with_waiting(&world, 1).await;
    let (id, _) = listed(&place, &["--to", "U0@"]).pop().expect("one");
    let (status, out, err) = place.barid(&["queue", "show", &id]);
    assert!(status.success(), "{err}");
    assert!(out.contains("because    it waits for its next try after a deferral"), "{out}");
    assert!(out.contains("last reply mx.slow.test: 45"), "{out}");
    let (_, out, _) = place.barid(&["domain", "show", "slow.test"]);
    assert!(out.contains("last reply") && out.contains("site         mx.slow.test"), "{out}");
    // an order is told before anything else
    let (_, out, _) = place.barid(&["domain", "suspend", "slow.test", "--for", "2h"]);
    assert!(out.starts_with("all mail for slow.test is suspended until 20"), "{out}");
    let shown = json(&place, &["queue", "show", &id]);
    let why = shown[0]["waits_for"][0].as_str().expect("a reason");
    assert!(why.starts_with("an operator's order: all mail for slow.test is suspended until "), "{why}");
    // and the message itself
    let (_, out, _) = place.barid(&["queue", "show", "--content", &id]);
    assert!(out.starts_with("Received: ") && out.ends_with("\r\nand an end\r\n"), "{out}");
    assert!(relay.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_domain_is_drained_after_an_outage_by_one_command() {
    let world = World::build(&[("slow.test", stubborn())]).await;
    let (place, relay) = with_waiting(&world, 3).await;
    let (status, out, err) = place.barid(&["queue", "flush", "--domain", "slow.test"]);
    assert!(status.success() && out == "all mail for slow.test is tried at once\n", "{out}{err}");
    eventually("all three", || (world.arrived().len() == 3).then_some(())).await;
    assert!(relay.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn single_messages_are_held_released_flushed_and_removed() {
    let world = World::build(&[("slow.test", stubborn())]).await;
    let (place, relay) = with_waiting(&world, 4).await;
    let ids: Vec<String> = listed(&place, &[]).into_iter().map(|(id, _)| id).collect();
    // a dry run names it and changes nothing
    let dry = json(&place, &["queue", "rm", "--to", "u0@", "--dry-run"]);
    assert_eq!((dry[0]["id"].as_str(), dry[1]["messages"].as_u64()), (Some(&*ids[0]), Some(1)));
    assert_eq!(listed(&place, &[]).len(), 4);
    assert_eq!(json(&place, &["queue", "rm", "--to", "u0@"])[1]["messages"], 1);
    assert_eq!(json(&place, &["queue", "hold", "--id", &ids[1], "--id", &ids[2]])[2]["messages"], 2);
    assert_eq!(listed(&place, &["--reason", "operator"]).len(), 2);
    // what is held is not flushed, neither by its id nor with its domain
    let (status, out, err) = place.barid(&["queue", "flush", "--id", &ids[1]]);
    assert!(status.code() == Some(1) && out.contains("1 were not in a state for it"), "{out}{err}");
    json(&place, &["queue", "flush", "--id", &ids[3]]);
    eventually("the flushed one", || (world.arrived().len() == 1).then_some(())).await;
    assert_eq!(json(&place, &["queue", "release", "--id", &ids[1]])[1]["messages"], 1);
    eventually("the released one", || (world.arrived().len() == 2).then_some(())).await;
    let left = eventually("one is left", || Some(listed(&place, &[])).filter(|left| left.len() == 1)).await;
    assert_eq!(left, [(ids[2].clone(), "held".to_owned())]);
    assert!(relay.terminate().await.success());
    // held it stays, over a restart too
    let relay = place.start().await;
    assert_eq!(listed(&place, &[]), left);
    let (status, out, _) = place.barid(&["queue", "rm", "--id", &ids[0]]);
    assert!(status.code() == Some(1) && out.starts_with("0 messages"), "{out}");
    assert!(relay.terminate().await.success());
    let record = std::fs::read_to_string(place.data().join("operators.log")).expect("a record");
    let lines: Vec<Value> = record.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let removed = lines.iter().position(|line| line["command"] == "queue/rm").expect("recorded");
    assert_eq!(lines[removed]["request"]["select"]["to"], "u0@");
    assert_eq!(lines[removed + 1]["outcome"]["done"]["messages"], 1);
    assert!(!record.contains("\"dry_run\":true"), "a dry run is no act");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_given_up_by_an_operator_is_told() {
    let world = World::build(&[("slow.test", stubborn())]).await;
    let (place, relay) = with_waiting(&world, 1).await;
    let (status, out, err) =
        place.barid(&["queue", "bounce", "--domain", "slow.test", "--text", "moved to other.test"]);
    assert!(status.success() && out.starts_with("1 messages"), "{out}{err}");
    let (report, to) = eventually("the report", || world.arrived().pop()).await;
    assert_eq!(to, ["app@sender.test"]);
    assert!(report.contains("moved to other.test") && report.contains("Subject: letter 0"), "{report}");
    eventually("an empty queue", || listed(&place, &[]).is_empty().then_some(())).await;
    assert!(relay.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clients_mail_is_held_and_released_by_one_order() {
    let world = World::build(&[("prompt.test", Behaviour::default())]).await;
    let place = Place::new(&world, &Variation::default());
    let relay = place.start().await;
    let (_, out, _) = place.barid(&["queue", "hold", "--client", "apps"]);
    assert_eq!(out, "all mail of client apps is held, and what arrives too\n");
    send(relay.smtp, "you@prompt.test", "later").await;
    let (id, _) = eventually("it waits", || listed(&place, &[]).pop()).await;
    let shown = json(&place, &["queue", "show", &id]);
    assert_eq!(shown[0]["waits_for"][0], "an operator's order: all mail of client apps is held");
    assert!(world.arrived().is_empty());
    let orders = json(&place, &["queue", "orders"]);
    assert_eq!((&orders[0]["order"], &orders[0]["client"]), (&"held".into(), &"apps".into()));
    let (_, out, _) = place.barid(&["queue", "release", "--client", "apps", "--dry-run"]);
    assert!(out.starts_with("all mail of client apps would be let go"), "{out}");
    let (_, out, _) = place.barid(&["queue", "flush", "--domain", "prompt.test"]);
    assert!(out.contains("still stopped: all mail of client apps (held)"), "{out}");
    let (_, out, _) = place.barid(&["queue", "release", "--client", "apps"]);
    assert!(out.starts_with("all mail of client apps is let go"), "{out}");
    eventually("the message", || world.arrived().pop()).await;
    assert!(relay.terminate().await.success());
}

fn export(place: &Place, file: &Path, more: &[&str]) -> Value {
    let file = file.to_str().expect("a path");
    json(place, &[&["queue", "export", "--all", file], more].concat()).pop().expect("an end")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_is_evacuated_to_another_and_nothing_is_sent_twice() {
    let world = World::build(&[("slow.test", stubborn())]).await;
    let (place, relay) = with_waiting(&world, 3).await;
    let large = {
        let mut large = letter(&["large@slow.test"], "large");
        large.content.extend(b"0123456789\r\n".repeat(60_000));
        large
    };
    Sender::connect(relay.smtp).await.expect("connects").send(&large).await.expect("accepted");
    eventually("it waits too", || {
        (listed(&place, &[]).iter().filter(|(_, state)| state == "waiting").count() == 4).then_some(())
    })
    .await;
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("evacuated.barid");
    let exported = export(&place, &file, &[]);
    let reason = exported["reason"].as_str().expect("a reason").to_owned();
    assert_eq!((&exported["messages"], listed(&place, &["--reason", &reason]).len()), (&4.into(), 4));
    // what is in a file is in no other one, and only its own reason means it
    let again = dir.path().join("again.barid");
    assert_eq!(export(&place, &again, &[])["messages"], 0);
    assert_eq!(json(&place, &["queue", "rm", "--to", "@slow.test"]).pop().expect("an end")["messages"], 0);
    // a flush here sends nothing of it
    json(&place, &["queue", "flush", "--all"]);
    let other = Place::new(&world, &Variation::default());
    let there = other.start().await;
    let (status, out, err) = other.barid(&["queue", "import", file.to_str().expect("a path")]);
    assert!(status.success() && out == "4 messages were imported\n", "{out}{err}");
    let (status, out, err) = other.barid(&["queue", "import", file.to_str().expect("a path")]);
    assert!(
        status.success() && out.starts_with("0 messages were imported; 4 of this file had"),
        "{out}{err}"
    );
    json(&other, &["queue", "flush", "--all"]);
    let arrived = eventually("all four", || Some(world.arrived()).filter(|all| all.len() == 4)).await;
    assert!(arrived.iter().any(|(content, _)| content.ends_with(&*String::from_utf8_lossy(&large.content))));
    assert_eq!(json(&place, &["queue", "rm", "--reason", &reason]).pop().expect("an end")["messages"], 4);
    assert!(relay.terminate().await.success() && there.terminate().await.success());
    for place in [&place, &other] {
        let (status, out, _) = place.barid(&["spool", "verify", "--json"]);
        assert!(status.success() && out.contains("\"bodies\":0"), "{out}");
    }
    assert_eq!(world.arrived().len(), 4, "each once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_is_evacuated_while_no_relay_runs() {
    let world = World::build(&[("slow.test", stubborn())]).await;
    let (place, relay) = with_waiting(&world, 2).await;
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("evacuated.barid");
    let path = file.to_str().expect("a path");
    let (status, _, err) = place.barid(&["queue", "export", "--all", "--offline", path]);
    assert!(!status.success() && err.contains("a relay that runs has it"), "{err}");
    assert!(relay.terminate().await.success());
    let exported = export(&place, &file, &["--offline"]);
    assert_eq!(exported["messages"], 2);
    let reason = exported["reason"].as_str().expect("a reason").to_owned();
    let other = Place::new(&world, &Variation::default());
    // a file that was cut off is refused before any of it is taken
    let cut = dir.path().join("cut.barid");
    let octets = std::fs::read(&file).expect("readable");
    std::fs::write(&cut, &octets[..octets.len() - 30]).expect("written");
    let (status, _, err) = other.barid(&["queue", "import", "--offline", cut.to_str().expect("a path")]);
    assert!(!status.success() && err.contains("damaged or cut off"), "{err}");
    let (status, out, err) = other.barid(&["queue", "import", "--offline", path]);
    assert!(status.success() && out == "2 messages were imported\n", "{out}{err}");
    let there = other.start().await;
    json(&other, &["queue", "flush", "--all"]);
    eventually("both", || (world.arrived().len() == 2).then_some(())).await;
    assert!(there.terminate().await.success());
    // the old host has them still, and does not send them
    let relay = place.start().await;
    assert_eq!(listed(&place, &["--reason", &reason]).len(), 2);
    assert!(relay.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_that_is_taken_back_sends_nothing_that_was_held_before() {
    let world = World::build(&[("slow.test", stubborn())]).await;
    let (place, relay) = with_waiting(&world, 2).await;
    let (suspect, _) = listed(&place, &["--to", "u0@"]).pop().expect("one");
    json(&place, &["queue", "hold", "--id", &suspect]);
    let dir = tempfile::tempdir().expect("a directory");
    let exported = export(&place, &dir.path().join("all.barid"), &[]);
    assert_eq!(exported["messages"], 2);
    json(&place, &["queue", "release", "--reason", exported["reason"].as_str().expect("a reason")]);
    eventually("the other one", || (world.arrived().len() == 1).then_some(())).await;
    let left = eventually("one is left", || Some(listed(&place, &[])).filter(|left| left.len() == 1)).await;
    assert_eq!(left, [(suspect.clone(), "held".to_owned())]);
    assert_eq!(listed(&place, &["--reason", "operator"]).len(), 1);
    // ids may come from another program
    let mut rm = std::process::Command::new(env!("CARGO_BIN_EXE_barid"));
    rm.args(["queue", "rm", "--id", "-", "--config"]).arg(place.config());
    rm.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut rm = rm.spawn().expect("runs");
    std::io::Write::write_all(&mut rm.stdin.take().expect("piped"), suspect.as_bytes()).expect("written");
    assert!(rm.wait().expect("ends").success());
    assert!(listed(&place, &[]).is_empty());
    assert!(relay.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_in_the_file_does_not_take_the_commands_away() {
    let world = World::build(&[]).await;
    let place = Place::new(&world, &Variation::default());
    let relay = place.start().await;
    let right = std::fs::read_to_string(place.config()).expect("readable");
    std::fs::write(place.config(), format!("nonsense = 1\n{right}")).expect("written");
    let (status, out, err) = place.barid(&["queue", "hold", "--client", "apps"]);
    assert!(status.success() && err.contains("barid config check"), "{out}{err}");
    let (status, out, err) = place.barid(&["reload"]);
    assert!(status.code() == Some(1) && out.contains("nonsense") && err.contains("goes on"), "{out}{err}");
    std::fs::write(place.config(), right.replace("[delivery]", "[delivery]\nexpire_after = \"3d\""))
        .expect("written");
    let (status, out, err) = place.barid(&["reload"]);
    assert!(status.success() && out == "changed: delivery.expire_after\n", "{out}{err}");
    assert!(relay.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_way_to_an_address_is_traced_without_sending() {
    let picky = Behaviour { unknown_prefix: Some("nobody".into()), ..Behaviour::default() };
    let world = World::build(&[("picky.test", picky)]).await;
    let place = Place::new(&world, &Variation::default());
    let relay = place.start().await;
    let (status, out, err) = place.barid(&["trace", "you@picky.test", "--probe", "--from", "me@sender.test"]);
    assert!(status.success(), "{out}{err}");
    for part in [
        "> EHLO relay.test",
        "> MAIL FROM:<me@sender.test>",
        "> RCPT TO:<you@picky.test>",
        "> RSET",
        "the address is taken",
    ] {
        assert!(out.contains(part), "{part} in {out}");
    }
    let (status, out, _) = place.barid(&["trace", "nobody@picky.test", "--probe"]);
    assert!(status.code() == Some(1) && out.contains("< 550") && out.contains("no host takes"), "{out}");
    let (status, out, _) = place.barid(&["trace", "you@nowhere.test"]);
    assert!(status.code() == Some(1) && out.contains("no way: "), "{out}");
    assert!(world.arrived().is_empty());
    assert!(relay.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_sends_most_and_where_most_waits_is_told() {
    let world = World::build(&[("slow.test", stubborn())]).await;
    let (place, relay) = with_waiting(&world, 3).await;
    let lines = json(&place, &["stats"]);
    assert_eq!(
        (&lines[0]["client"], &lines[0]["accepted"], &lines[0]["queued"]),
        (&"apps".into(), &3.into(), &3.into())
    );
    assert_eq!((&lines[1]["domain"], &lines[1]["queued"]), (&"slow.test".into(), &3.into()));
    let end = lines.last().expect("an end");
    assert_eq!((&end["queued"], &end["since_start"]["deferred_recipients"]), (&3.into(), &3.into()));
    let (_, out, _) = place.barid(&["domain", "ls"]);
    assert!(out.contains("slow.test") && out.ends_with("1 of 1 domains\n"), "{out}");
    assert!(relay.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_wrongly_is_answered_clearly() {
    let world = World::build(&[]).await;
    let place = Place::new(&world, &Variation::default());
    // nobody is there
    for words in [
        &["queue", "ls"][..],
        &["stats"],
        &["domain", "ls"],
        &["trace", "a@b.example"],
        &["queue", "flush", "--all"],
    ] {
        let (status, _, err) = place.barid(words);
        assert_eq!(status.code(), Some(69), "{words:?}: {err}");
        assert!(err.contains("no relay answers at") && err.contains("admin.sock"), "{err}");
    }
    let relay = place.start().await;
    for (words, want) in [
        (&["queue", "rm"][..], "or --all"),
        (&["queue", "rm", "--all", "--domain", "a.example"], "--all means everything"),
        (&["queue", "show", "xyz"], "no id of a message"),
        (&["queue", "show", "0000000000000001"], "is in the queue"),
        (&["queue", "ls", "--domain", "a..b"], "`a..b`"),
        (&["trace", "nobody"], "`nobody`"),
        (&["domain", "show", "-"], "`-`"),
    ] {
        let (status, out, err) = place.barid(words);
        assert!(status.code() == Some(1) && err.contains(want), "{words:?}: {out}{err}");
    }
    use std::os::unix::fs::PermissionsExt as _;
    let socket = std::fs::metadata(place.data().join("admin.sock")).expect("a socket");
    assert_eq!(socket.permissions().mode() & 0o777, 0o600);
    assert!(relay.terminate().await.success());
}

#[test]
fn each_command_has_examples_a_page_and_completions() {
    for words in [
        &["queue", "ls"][..],
        &["queue", "show"],
        &["queue", "flush"],
        &["queue", "hold"],
        &["queue", "release"],
        &["queue", "rm"],
        &["queue", "bounce"],
        &["queue", "export"],
        &["queue", "import"],
        &["domain", "ls"],
        &["domain", "show"],
        &["domain", "suspend"],
        &["domain", "resume"],
        &["trace"],
        &["stats"],
        &["man"],
        &["completions"],
    ] {
        let (status, out, _) = run_barid(&[words, &["--help"]].concat());
        assert!(status.success() && out.contains("Example"), "{words:?}: {out}");
    }
    let dir = tempfile::tempdir().expect("a directory");
    let (status, _, err) = run_barid(&["man", "--dir", dir.path().to_str().expect("a path")]);
    assert!(status.success(), "{err}");
    for page in ["barid.1", "barid-queue-ls.1", "barid-domain-show.1", "barid-trace.1"] {
        let text = std::fs::read_to_string(dir.path().join(page)).expect(page);
        assert!(text.contains(".SH NAME"), "{page}");
    }
    for shell in ["bash", "zsh", "fish"] {
        let (status, out, _) = run_barid(&["completions", shell]);
        assert!(status.success() && out.contains("suspend"), "{shell}");
    }
}
