//! STARTTLS (RFC 3207) abused: what was said in the clear counts for nothing under TLS.

use barid::net::{ClientTls, Roots, Stream, TlsPolicy};
use tokio::io::AsyncWriteExt;

use crate::peer::{Peer, Then, play, within};
use crate::siege::Siege;
use crate::support::clock;

/// A connection that has said this in the clear, in one segment, and is under TLS behind the last of these
/// replies.
async fn under_tls(siege: &Siege, said: &[u8], want: &[u16]) -> Peer<Box<dyn Stream>> {
    let mut peer = Peer::connect(siege.relay.smtp).await;
    peer.say(said).await;
    assert_eq!(peer.codes(want.len()).await, want, "{}", said.escape_ascii());
    let roots = Roots::public();
    let tls = ClientTls::new(TlsPolicy::Opportunistic, &roots, clock()).expect("a client");
    let connected = within("TLS", tls.connect(Box::new(peer.stream), "relay.test")).await;
    Peer::over(connected.expect("TLS works").stream)
}

const INJECTED: &str = "MAIL FROM:<admin@sender.test>\r\nRCPT TO:<victim@prompt.test>\r\nDATA\r\n\
                        Subject: injected\r\n\r\ninjected\r\n.\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn what_was_said_in_the_clear_is_forgotten() {
    let siege = Siege::begin("").await;
    // commands behind STARTTLS in one segment (CVE-2011-0411)
    for injected in [INJECTED, "EHLO injected\r\n", "NOOP\r\nRSET\r\n", "NOOP", "\r\n", "QUIT\r\n"] {
        let said = format!("EHLO c\r\nSTARTTLS\r\n{injected}");
        let mut peer = under_tls(&siege, said.as_bytes(), &[220, 250, 220]).await;
        peer.say(
            b"NOOP\r\nRCPT TO:<victim@prompt.test>\r\nEHLO c\r\nRCPT TO:<victim@prompt.test>\r\nQUIT\r\n",
        )
        .await;
        assert_eq!(peer.codes_to_end().await, [250, 503, 250, 503, 221], "{injected:?}");
    }
    // neither does a greeting count, nor half a command that the other half would complete
    let mut peer = under_tls(&siege, b"EHLO c\r\nSTARTTLS\r\nMAIL FR", &[220, 250, 220]).await;
    peer.say(b"OM:<admin@sender.test>\r\nMAIL FROM:<app@sender.test>\r\nSTARTTLS\r\nQUIT\r\n").await;
    assert_eq!(peer.codes_to_end().await, [500, 503, 503, 221]);
    assert_eq!(siege.end("injected before TLS").await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn starttls_out_of_place_changes_nothing() {
    let siege = Siege::begin("").await;
    let open = "EHLO c\r\nMAIL FROM:<app@sender.test>\r\nRCPT TO:<taken@prompt.test>\r\n";
    for (said, want) in [
        ("EHLO c\r\nSTARTTLS now\r\nSTARTTLS TLSv1\r\nNOOP\r\n".to_owned(), vec![250, 501, 501, 250]),
        (
            format!("{open}STARTTLS\r\nDATA\r\nSubject: in the clear\r\n.\r\n"),
            vec![250, 250, 250, 503, 354, 250],
        ),
        (format!("{open}BDAT 3\r\na\r\nSTARTTLS\r\nRSET\r\n"), vec![250, 250, 250, 250, 503, 250]),
        (format!("{open}DATA\r\nSTARTTLS\r\n.\r\n"), vec![250, 250, 250, 354, 250]),
    ] {
        let codes = play(siege.relay.smtp, format!("{said}QUIT\r\n").as_bytes(), Then::TheyClose).await;
        assert_eq!(codes, [&[220][..], &want, &[221]].concat(), "{said:?}");
    }
    // twice; and it is not offered under TLS
    let mut peer = under_tls(&siege, b"STARTTLS\r\n", &[220, 220]).await;
    peer.say(b"EHLO c\r\nSTARTTLS\r\n").await;
    peer.say(open.as_bytes()).await;
    peer.say(b"STARTTLS\r\nDATA\r\nSubject: under TLS\r\n.\r\nQUIT\r\n").await;
    assert_eq!(peer.codes_to_end().await, [250, 503, 250, 250, 250, 503, 354, 250, 221]);
    let arrived = siege.end("STARTTLS out of place").await;
    assert_eq!(arrived.len(), 3);
    assert!(arrived.iter().all(|(_, to)| to == "taken@prompt.test"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_handshake_ends_the_connection_without_a_word_in_the_clear() {
    let siege = Siege::begin("").await;
    let mut random = fastrand::Rng::with_seed(7);
    let noise: Vec<u8> = (0..20_000).map(|_| random.u8(..)).collect();
    let half = [&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], &noise[..100]].concat();
    for hello in [
        &b""[..],
        b"\r\n",
        b"NOOP\r\nQUIT\r\n",
        INJECTED.as_bytes(),
        b"GET / HTTP/1.1\r\n\r\n",
        &[0; 20_000],
        &noise,
        &half,
        // the header of a record, and noise for a hello; an alert; SSL 2; a record of 64 KiB
        &[b"\x16\x03\x01\x10\x00", &noise[..4096]].concat(),
        b"\x15\x03\x01\x00\x02\x02\x28",
        b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10",
        &[b"\x16\x03\x03\xff\xff", &noise[..]].concat(),
    ] {
        let shown: String = hello.iter().take(40).map(|octet| format!("{octet:02x}")).collect();
        let mut peer = Peer::connect(siege.relay.smtp).await;
        peer.say(b"EHLO c\r\nSTARTTLS\r\n").await;
        assert_eq!(peer.codes(3).await, [220, 250, 220], "{shown}");
        peer.say(hello).await;
        // where it waits for the rest: there is none
        let _ = peer.stream.shutdown().await;
        let rest = peer.rest().await;
        // 21 is the type of an alert (RFC 8446 5.1)
        assert!(rest.first().is_none_or(|first| *first == 21), "{shown}: {}", rest.escape_ascii());
    }
    assert_eq!(siege.end("no handshakes").await, []);
}
