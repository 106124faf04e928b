//! What senders want of TLS (RFC 8689): mail that demands it goes to hosts that prove who they are and demand it in
//! turn, or comes back; mail that waives it gets through whatever is configured for its domain.
#![allow(clippy::expect_used, reason = "what a test cannot do without fails it")]

mod support;

use barid::net::Fingerprint;
use barid::sim::{Behaviour, Sender};
use support::{Place, Relay, Variation, World, letter, under_tls};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufStream};
use tokio::net::TcpStream;

/// A client that speaks TLS.
struct Client(BufStream<Box<dyn barid::net::Stream>>);

impl Client {
    /// Connects and says STARTTLS; the certificate that it is shown.
    async fn connect(relay: &Relay) -> (Self, Fingerprint) {
        let shaken = under_tls(relay).await;
        (Client(BufStream::new(shaken.stream)), shaken.facts.certificate.expect("one is shown"))
    }

    /// Says something; the last line of the reply.
    async fn say(&mut self, said: &str) -> String {
        self.0.write_all(format!("{said}\r\n").as_bytes()).await.expect("written");
        self.0.flush().await.expect("written");
        loop {
            let mut line = String::new();
            self.0.read_line(&mut line).await.expect("a reply");
            if line.as_bytes().get(3) != Some(&b'-') {
                return line;
            }
        }
    }

    /// Hands a message over that demands TLS all the way.
    async fn send_demanding(&mut self, to: &str) {
        for (said, want) in [
            ("EHLO client.test", "250"),
            ("MAIL FROM:<app@sender.test> REQUIRETLS", "250"),
            (&*format!("RCPT TO:<{to}>"), "250"),
            ("DATA", "354"),
            ("Subject: demanding\r\n\r\nhi\r\n.", "250"),
        ] {
            let reply = self.say(said).await;
            assert!(reply.starts_with(want), "{said}: {reply}");
        }
    }
}

/// A relay that sends everything to another, if that shows this certificate.
fn before(world: &World, next: &Relay, certificate: &str) -> Place {
    let place = Place::new(world, &Variation { more: "#more", ..Variation::default() });
    let route = format!("[[route]]\ndomains = [\"*\"]\nvia = \"{}\"", next.smtp);
    let policy = "[[tls.policies]]\ndomains = [\"*\"]\nmode = \"fingerprint\"";
    place.edit("#more", &format!("{route}\n{policy}\ncertificates = [\"{certificate}\"]"));
    place
}

const UNKNOWN: &str = "0d1f0b3bf1a5a5a0c0e9c7f34d7cd1a1f7f5ae1a3ed5cb7a9ff2cc7a1f6bb3e0";

#[tokio::test(flavor = "multi_thread")]
async fn what_is_demanded_is_kept_from_relay_to_relay_or_the_mail_comes_back() {
    let world = World::build(&[("clear.test", Behaviour::default())]).await;
    let last_place = Place::new(&world, &Variation::default());
    let last = last_place.start().await;
    let (_, shown) = Client::connect(&last).await;
    let first_place = before(&world, &last, &shown.to_string());
    let first = first_place.start().await;
    let (mut client, _) = Client::connect(&first).await;
    client.send_demanding("you@clear.test").await;
    // the host of the last step speaks no TLS
    first.logged(&["event=delivered", "to=you@clear.test", "proof=fingerprint"]).await;
    last.logged(&["event=bounced", "to=you@clear.test", "5.7.10", "REQUIRETLS"]).await;
    assert!(!world.arrived().iter().any(|(subject, _)| subject.contains("demanding")));
    // what demands nothing goes there
    let mut plain = Sender::connect(first.smtp).await.expect("connects");
    plain.send(&letter(&["you@clear.test"], "plain")).await.expect("accepted");
    last.logged(&["event=delivered", "to=you@clear.test", "proof=clear"]).await;
    assert!(first.terminate().await.success() && last.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_demand_in_clear_is_refused() {
    let world = World::build(&[]).await;
    let place = Place::new(&world, &Variation::default());
    let relay = place.start().await;
    let mut stream = BufStream::new(TcpStream::connect(relay.smtp).await.expect("connects"));
    let mut lines = vec![String::new()];
    stream.read_line(&mut lines[0]).await.expect("a greeting");
    let said = b"EHLO c\r\nMAIL FROM:<app@sender.test> REQUIRETLS\r\nQUIT\r\n";
    stream.write_all(said).await.expect("written");
    stream.flush().await.expect("written");
    while !lines.last().is_some_and(|line| line.starts_with("221") || line.is_empty()) {
        let mut line = String::new();
        stream.read_line(&mut line).await.expect("a reply");
        lines.push(line);
    }
    assert!(!lines.iter().any(|line| line.starts_with("250") && line.contains("REQUIRETLS")), "{lines:?}");
    assert!(lines.iter().any(|line| line.starts_with("530 5.7.10")), "{lines:?}");
    assert!(relay.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_waived_gets_through_where_the_host_proves_nothing() {
    let world = World::build(&[("clear.test", Behaviour::default())]).await;
    let last_place = Place::new(&world, &Variation::default());
    let last = last_place.start().await;
    let first_place = before(&world, &last, UNKNOWN);
    let first = first_place.start().await;
    let mut sender = Sender::connect(first.smtp).await.expect("connects");
    let mut waived = letter(&["waived@clear.test"], "waived");
    waived.content.splice(0..0, *b"TLS-Required: No\r\n");
    sender.send(&waived).await.expect("accepted");
    first.logged(&["event=delivered", "to=waived@clear.test", "proof=unproven"]).await;
    last.logged(&["event=delivered", "to=waived@clear.test"]).await;
    // what waives nothing does not go over the connection that is kept
    sender.send(&letter(&["usual@clear.test"], "usual")).await.expect("accepted");
    first.logged(&["event=unreachable", "4.7.5", "none of those that are configured"]).await;
    assert!(!first.log().iter().any(|line| line.contains("event=delivered") && line.contains("usual@")));
    assert!(first.terminate().await.success() && last.terminate().await.success());
}
