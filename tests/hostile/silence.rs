//! Clients that trickle, fall silent, half close or reset: what was not ended is never delivered, and nobody
//! waits for ever.

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, interval, timeout};

use crate::peer::{Peer, Then, all_read, play, within_span};
use crate::siege::Siege;

/// Long enough for the normal client on a slow machine, short enough for a test.
const SHORT_SPANS: &str =
    "[limits]\ncommand_timeout = \"3s\"\ncontent_timeout = \"3s\"\ncontent_per_second = \"1KiB\"\n";
const TIMEOUT: Duration = Duration::from_secs(3);
/// Between two octets: far less than a time-out.
const TRICKLE: Duration = Duration::from_millis(50);
/// By then whoever trickles must be gone, on a slow machine too.
const GONE_WITHIN: Duration = Duration::from_secs(15);
/// Who takes no octet for so long is stuck.
const STUCK: Duration = Duration::from_millis(500);
/// More than all buffers between two programs.
const KERNEL_BUFFERS_MAX_OCTETS: usize = 128 << 20;

const OPEN: &str = "EHLO c\r\nMAIL FROM:<app@sender.test>\r\nRCPT TO:<never@prompt.test>\r\n";
const TAKEN: &str = "EHLO c\r\nMAIL FROM:<app@sender.test>\r\nRCPT TO:<taken@prompt.test>\r\n";

/// Says something, then an octet a time: cut off with 421, not before its time and not long after.
async fn trickle(siege: &Siege, name: &str, said: &str, want: &[u16], octet: u8) {
    let begun = Instant::now();
    let mut peer = Peer::connect(siege.relay.smtp).await;
    peer.say(said.as_bytes()).await;
    assert_eq!(peer.codes(want.len()).await, want, "{name}");
    let (mut octets, mut ticks) = (0, interval(TRICKLE));
    let cut_off = async {
        loop {
            tokio::select! {
                reply = peer.reply() => return reply.unwrap_or_default(),
                _ = ticks.tick() => {}
            }
            peer.say(&[octet]).await;
            octets += 1;
        }
    };
    let reply = within_span(GONE_WITHIN, name, cut_off).await;
    assert!(reply.starts_with("421 4.4.2 "), "{name}: {reply}");
    assert!(begun.elapsed() >= TIMEOUT && octets > 5, "{name}: {:?}, {octets} octets", begun.elapsed());
    assert_eq!(peer.reply().await, None, "{name}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trickle_of_octets_renews_nothing() {
    let siege = Siege::begin(SHORT_SPANS).await;
    let data = format!("{OPEN}DATA\r\nSubject: slow\r\n\r\n");
    let chunk = format!("{OPEN}BDAT 9999 LAST\r\nSubject: slow\r\n\r\n");
    let late = format!("{OPEN}DATA\r\na\n");
    let half_an_end = format!("{data}.\r");
    // what was earned by a large message is not for the chunk that nobody wants behind it
    let large = "0123456789abcdef0123456789abcdef\r\n".repeat(2000);
    let earned = format!("{TAKEN}DATA\r\n{large}.\r\nBDAT 99999\r\n");
    let opened = [220, 250, 250, 250];
    let in_data = [220, 250, 250, 250, 354];
    let behind_mail = [220, 250, 250, 250, 354, 250];
    tokio::join!(
        trickle(&siege, "the first command", "", &[220], b'N'),
        trickle(&siege, "a command", "EHLO c\r\nNO", &[220, 250], b'O'),
        trickle(&siege, "behind a recipient", OPEN, &opened, b'R'),
        trickle(&siege, "content", &data, &in_data, b'a'),
        trickle(&siege, "content that is refused", &late, &in_data, b'a'),
        trickle(&siege, "dots", &data, &in_data, b'.'),
        trickle(&siege, "a chunk", &chunk, &opened, b'a'),
        trickle(&siege, "a chunk out of order", "EHLO c\r\nBDAT 99999\r\n", &[220, 250], b'a'),
        trickle(&siege, "a chunk behind a large message", &earned, &behind_mail, b'a'),
        fall_silent(&siege, "", &[220]),
        fall_silent(&siege, OPEN, &opened),
        fall_silent(&siege, &data, &in_data),
        fall_silent(&siege, &half_an_end, &in_data),
    );
    let arrived = siege.end("trickles").await;
    assert_eq!(arrived.len(), 1);
    assert_eq!(arrived[0].1, "taken@prompt.test");
}

/// Says something and no more: 421, and the end.
async fn fall_silent(siege: &Siege, said: &str, want: &[u16]) {
    let mut peer = Peer::connect(siege.relay.smtp).await;
    peer.say(said.as_bytes()).await;
    assert_eq!(peer.codes_to_end().await, [want, &[421]].concat(), "{said:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn half_closed_is_answered_where_the_message_has_ended_and_forgotten_where_not() {
    let siege = Siege::begin("").await;
    let data = format!("{OPEN}DATA\r\nSubject: half\r\n\r\nhalf");
    let taken = format!("{TAKEN}DATA\r\nSubject: whole\r\n\r\nwhole\r\n.\r\n");
    for (said, want) in [
        (String::new(), vec![220]),
        ("EHLO c\r\nNOO".into(), vec![220, 250]),
        ("EHLO c\r\nNOOP\r".into(), vec![220, 250]),
        (OPEN.into(), vec![220, 250, 250, 250]),
        (format!("{OPEN}DATA\r\n"), vec![220, 250, 250, 250, 354]),
        (data.clone(), vec![220, 250, 250, 250, 354]),
        (format!("{data}\r\n"), vec![220, 250, 250, 250, 354]),
        (format!("{data}\r\n."), vec![220, 250, 250, 250, 354]),
        (format!("{data}\r\n.\r"), vec![220, 250, 250, 250, 354]),
        (format!("{data}\r\n.\n"), vec![220, 250, 250, 250, 354]),
        (format!("{data}\n\r\n.\r\n"), vec![220, 250, 250, 250, 354, 550]),
        (taken.clone(), vec![220, 250, 250, 250, 354, 250]),
        (format!("{taken}MAIL FROM:<app@sender.test>\r\n"), vec![220, 250, 250, 250, 354, 250, 250]),
        (format!("{TAKEN}BDAT 16 LAST\r\nSubject: whole\r\n"), vec![220, 250, 250, 250, 250]),
    ] {
        let codes = play(siege.relay.smtp, said.as_bytes(), Then::WeShut).await;
        assert_eq!(codes, want, "{said:?}");
    }
    // the last words alone, after everything else was answered
    let mut peer = Peer::connect(siege.relay.smtp).await;
    peer.say(format!("{TAKEN}DATA\r\nSubject: whole\r\n.").as_bytes()).await;
    assert_eq!(peer.codes(5).await, [220, 250, 250, 250, 354]);
    all_read(std::slice::from_ref(&peer)).await;
    peer.say(b"\r\n").await;
    peer.stream.shutdown().await.expect("shut down");
    assert_eq!(peer.codes_to_end().await, [250]);
    let arrived = siege.end("half-closed").await;
    assert_eq!(arrived.len(), 4);
    assert!(arrived.iter().all(|(_, to)| to == "taken@prompt.test"));
}

/// Who does not read replies is not read either, so that neither pile up here.
#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_read_is_not_read_either() {
    let siege = Siege::begin("").await;
    let recipients = "RCPT TO:<never@prompt.test>\r\n".repeat(40_000);
    let mut deaf = Vec::new();
    for _ in 0..4 {
        let mut peer = Peer::connect(siege.relay.smtp).await;
        peer.say(b"EHLO c\r\nMAIL FROM:<app@sender.test>\r\n").await;
        let mut taken = 0;
        // the kernel's buffers hold some, and then nobody takes any more
        while let Ok(written) = timeout(STUCK, peer.stream.write(recipients.as_bytes())).await {
            taken += written.expect("the connection stands");
            assert!(taken < KERNEL_BUFFERS_MAX_OCTETS, "the relay reads without end");
        }
        deaf.push(peer);
    }
    siege.others_are_served(3).await;
    drop(deaf);
    assert_eq!(siege.end("deaf clients").await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_leaves_nothing() {
    let siege = Siege::begin("").await;
    let large = "0123456789abcdef0123456789abcdef\r\n".repeat(40_000);
    for said in [
        "",
        "EHLO c\r\nMAIL",
        OPEN,
        &format!("{OPEN}DATA\r\n"),
        &format!("{OPEN}DATA\r\nSubject: reset\r\n\r\nhalf\r\n."),
        &format!("{OPEN}DATA\r\nSubject: reset\r\n\r\nhalf\r\n.\r"),
        // large enough for a file of its own
        &format!("{OPEN}DATA\r\nSubject: reset\r\n\r\n{large}"),
        &format!("{OPEN}BDAT {}\r\n{large}", large.len()),
        &format!("{OPEN}BDAT 9999999 LAST\r\n{large}"),
    ] {
        let mut peer = Peer::connect(siege.relay.smtp).await;
        peer.say(said.as_bytes()).await;
        all_read(std::slice::from_ref(&peer)).await;
        peer.stream.set_zero_linger().expect("set");
    }
    siege.others_are_served(1).await;
    assert_eq!(siege.end("resets").await, []);
}
