//! Mail that is signed on its way in, and the commands that make and replace the keys.
#![allow(clippy::expect_used, reason = "what a test cannot do without fails it")]

mod support;

use std::collections::HashSet;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;

use barid::authentication::{Algorithm, Key, MadeKey, Selector, Verdict, verify};
use barid::mail::{Address, Domain, Recipient, ReversePath};
use barid::net::{DnsSettings, HickoryResolver};
use barid::sim::{Behaviour, Letter, SendError, Sender};
use serde_json::Value;
use support::{Place, Relay, Variation, World, eventually};

const NAME: &str = "mail._domainkey.sender.test";

/// A destination, a key, and a DNS that shows its record.
async fn world_with_key() -> (World, MadeKey) {
    let made = MadeKey::generate(Algorithm::Rsa).expect("made");
    let (domain, selector) = (Domain::parse("sender.test"), Selector::parse("mail"));
    let key = Key::from_pem(domain.expect("a domain"), selector.expect("a selector"), &made.pem);
    let record = key.expect("reads").record();
    let picky = Behaviour { unknown_prefix: Some("nobody".into()), ..Behaviour::default() };
    let world = World::build_with(&[("there.test", picky)], &[(NAME, &record)]).await;
    (world, made)
}

fn import(place: &Place, made: &MadeKey) {
    // the tests do not wait for a first start
    std::fs::create_dir_all(place.data()).expect("made");
    let file = place.config().with_file_name("mail.private");
    std::fs::write(&file, &made.pem).expect("written");
    let file = file.to_str().expect("a path");
    let (status, out, err) = place.barid(&["dkim", "import", "sender.test", "mail", file]);
    assert!(
        status.success() && out.starts_with(&format!("{NAME}. 3600 IN TXT \"v=DKIM1; k=rsa; p=")),
        "{out}{err}"
    );
}

async fn started(place: &Place) -> Relay {
    let relay = place.start().await;
    relay.logged(&["event=dkim_key", "domain=sender.test", "selector=mail", "stage=active"]).await;
    relay
}

fn letter(from: &str, body: &str) -> Letter {
    let address = |text: &str| Address::parse(text).expect("an address");
    Letter {
        from: ReversePath::Address(address("app@sender.test")),
        recipients: vec![Recipient::plain(address("u@there.test"))],
        content: format!("From: {from}\r\nSubject: signed\r\n\r\n{body}").into_bytes(),
    }
}

async fn send(to: SocketAddr, letter: &Letter) -> Result<(), SendError> {
    Sender::connect(to).await.expect("connects").send(letter).await
}

fn json(place: &Place, words: &[&str]) -> Vec<Value> {
    let (status, out, err) = place.barid(&[words, &["--json"]].concat());
    assert!(status.success(), "{words:?}: {out}{err}");
    out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_of_any_size_is_signed_and_verifies_where_it_arrives() {
    let (world, made) = world_with_key().await;
    let more = "[dkim]\nfallback_domain = \"sender.test\"";
    let place = Place::new(&world, &Variation { more, ..Variation::default() });
    import(&place, &made);
    let relay = started(&place).await;
    let resolver = HickoryResolver::new(&DnsSettings {
        servers: vec![world.dns],
        validates: false,
        ..DnsSettings::default()
    });
    let resolver = resolver.expect("a resolver");
    let domain = Domain::parse("sender.test").expect("a domain");
    let ours = HashSet::from([(domain, Selector::parse("mail").expect("a selector"))]);
    let line = "a line of text with  two spaces and one at its end \r\n";
    for (number, lines) in [1, 4_000, 12_000, 60_000].into_iter().enumerate() {
        send(relay.smtp, &letter("app@sender.test", &line.repeat(lines))).await.expect("accepted");
        let arrived = eventually("its arrival", || {
            let mut arrived = world.arrived();
            (arrived.len() == number + 1).then(|| arrived.pop()).flatten()
        });
        let (message, _) = arrived.await;
        assert!(
            message.starts_with(
                "DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed;\r\n\td=sender.test;\r\n\ts=mail;"
            ),
            "{lines} lines"
        );
        let verdicts = verify(message.as_bytes(), &ours, &resolver).await;
        assert!(matches!(&verdicts[..], [(_, Verdict::Pass)]), "{lines} lines: {verdicts:?}");
    }
    let (_, metrics) = relay.get("/metrics");
    assert!(metrics.contains("barid_dkim_signatures_total{algorithm=\"rsa\"} 4\n"));
    // what the relay writes itself is signed too
    let to_nobody = Letter {
        recipients: vec![Recipient::plain(Address::parse("nobody@there.test").expect("an address"))],
        ..letter("app@sender.test", "x\r\n")
    };
    send(relay.smtp, &to_nobody).await.expect("accepted");
    let (report, _) = eventually("the report", || world.arrived().into_iter().nth(4)).await;
    assert!(report.contains("report-type=delivery-status"), "{report}");
    let verdicts = verify(report.as_bytes(), &ours, &resolver).await;
    // its own signature, and not that of the message that it gives back
    assert!(matches!(&verdicts[..], [(_, Verdict::Pass)]), "{verdicts:?}");
    assert!(metrics.contains("barid_dkim_keys{stage=\"active\"} 1\n"));
    assert!(relay.terminate().await.success());
    assert!(place.barid(&["spool", "verify"]).0.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_without_a_key_is_taken_unless_keys_are_required() {
    let (world, made) = world_with_key().await;
    let place = Place::new(&world, &Variation { more: "[dkim]\nrequired = false", ..Variation::default() });
    import(&place, &made);
    let relay = started(&place).await;
    send(relay.smtp, &letter("someone@elsewhere.test", "x\r\n")).await.expect("accepted");
    let (message, _) = eventually("its arrival", || world.arrived().pop()).await;
    assert!(message.starts_with("Received:"), "{message}");
    place.edit("required = false", "required = true");
    let (status, out, err) = place.barid(&["reload"]);
    assert!(status.success() && out.contains("changed: dkim.required"), "{out}{err}");
    let refused = send(relay.smtp, &letter("someone@elsewhere.test", "x\r\n")).await;
    let Err(SendError::Refused(reply)) = refused else { panic!("{refused:?}") };
    assert!(reply.to_string().starts_with("550 5.7.20 "), "{reply}");
    send(relay.smtp, &letter("app@sub.sender.test", "x\r\n")).await.expect("its parent's key signs");
    place.edit("required = true", "required = true\nfallback_domain = \"sender.test\"");
    assert!(place.barid(&["reload"]).0.success());
    send(relay.smtp, &letter("someone@elsewhere.test", "x\r\n")).await.expect("signed for another");
    let arrived = eventually("all three", || Some(world.arrived()).filter(|all| all.len() == 3)).await;
    assert!(arrived[1..].iter().all(|(message, _)| message.contains("\td=sender.test;")));
    let (_, metrics) = relay.get("/metrics");
    assert!(metrics.contains("barid_dkim_unsigned_total{outcome=\"taken\"} 1\n"));
    assert!(metrics.contains("barid_dkim_unsigned_total{outcome=\"refused\"} 1\n"));
    assert!(relay.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_made_listed_tested_and_retired_by_commands() {
    let (world, made) = world_with_key().await;
    let place = Place::new(&world, &Variation::default());
    let (status, _, err) = place.barid(&["dkim", "list"]);
    assert!(status.code() == Some(1) && err.contains("made by the first start"), "{err}");
    std::fs::create_dir(place.data()).expect("made");
    // before there is any relay
    let (status, out, err) = place.barid(&["dkim", "generate", "Sender.Test"]);
    assert!(status.success(), "{err}");
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines.len(), 2, "{out}");
    assert!(lines[0].contains("-rsa._domainkey.sender.test. 3600 IN TXT \"v=DKIM1; k=rsa; p="), "{out}");
    assert!(
        lines[1].contains("-ed25519._domainkey.sender.test. 3600 IN TXT \"v=DKIM1; k=ed25519; p="),
        "{out}"
    );
    assert!(err.contains("put these records into the DNS"), "{err}");
    assert_eq!(place.barid(&["dkim", "show", "sender.test"]).1, out);
    let key = json(&place, &["dkim", "list"]).remove(0);
    let file = place
        .data()
        .join("dkim/sender.test")
        .join(format!("{}.pem", key["selector"].as_str().expect("named")));
    assert_eq!(std::fs::metadata(file).expect("there").permissions().mode() & 0o777, 0o600);
    for (words, want) in [
        (&["dkim", "generate", "sender.test"][..], "has an rsa key already"),
        (&["dkim", "rotate", "sender.test"], "has no key that signs"),
        (&["dkim", "rotate", "other.test"], "has no key that signs"),
        (&["dkim", "show", "other.test"], "has no keys"),
        (&["dkim", "generate", "[127.0.0.1]"], "no domain that could have a record"),
        (&["dkim", "generate", "a.test", "--selector", "x"], "say which with --algorithm"),
        (&["dkim", "generate", "a.test", "--selector", "../x", "--algorithm", "rsa"], "is no selector"),
        (&["dkim", "retire", "sender.test", "nobody"], "has no key with the selector nobody"),
        (&["dkim", "import", "sender.test", "x", "/dev/null"], "holds no private key"),
    ] {
        let (status, out, err) = place.barid(words);
        assert!(status.code() == Some(1) && err.contains(want), "{words:?}: {out}{err}");
    }
    import(&place, &made);
    let relay = started(&place).await;
    // the relay that runs hears of a key that is made
    let (status, _, err) = place.barid(&["dkim", "generate", "other.test", "--algorithm", "ed25519"]);
    assert!(status.success(), "{err}");
    relay.logged(&["event=dkim_key", "domain=other.test", "stage=published"]).await;
    let record = std::fs::read_to_string(place.data().join("operators.log")).expect("a record");
    assert!(record.contains("\"dkim/wake\"") && record.contains("other.test"), "{record}");
    let tested = json(&place, &["dkim", "test", "sender.test"]);
    let told: Vec<(&str, &str)> = tested
        .iter()
        .map(|key| (key["dns"].as_str().expect("told"), key["verdict"].as_str().expect("told")))
        .collect();
    assert_eq!(told, [("missing", "fail"), ("missing", "fail"), ("right", "pass")]);
    let (status, _, err) = place.barid(&["dkim", "retire", "sender.test", "mail"]);
    assert!(status.code() == Some(1) && err.contains("the last rsa key that signs for sender.test"), "{err}");
    let (status, out, err) = place.barid(&["dkim", "retire", "sender.test", "mail", "--force"]);
    assert!(status.success() && out.contains("its record has to stay until 20"), "{out}{err}");
    relay.logged(&["event=dkim_key", "selector=mail", "stage=retiring"]).await;
    let stages: Vec<Value> = json(&place, &["dkim", "list", "sender.test"]);
    assert_eq!(stages.iter().filter(|key| key["stage"] == "retiring").count(), 1);
    assert!(relay.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_whose_keys_do_not_read_does_not_start() {
    let (world, made) = world_with_key().await;
    let place = Place::new(&world, &Variation::default());
    import(&place, &made);
    let relay = started(&place).await;
    assert!(relay.terminate().await.success());
    let file = place.data().join("dkim/sender.test/mail.pem");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).expect("set");
    let (status, _, err) = place.barid(&["serve"]);
    assert!(!status.success() && err.contains("mail.pem may be read by others than its owner"), "{err}");
}
