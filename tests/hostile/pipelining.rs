//! Commands that come too early, glued together or torn apart, in no order and in no language.

use crate::peer::{Peer, Then, play};
use crate::siege::Siege;

const SESSION: &str = "EHLO c\r\nMAIL FROM:<app@sender.test>\r\nRCPT TO:<taken@prompt.test>\r\nDATA\r\n\
                       Subject: x\r\n\r\n..\r\n.\r\nRSET\r\nNOOP\r\nQUIT\r\n";
const ITS_CODES: [u16; 8] = [220, 250, 250, 250, 354, 250, 250, 250];

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_the_same_however_it_is_cut() {
    let siege = Siege::begin("").await;
    let want = [&ITS_CODES[..], &[221]].concat();
    // all of it before the banner, in one segment
    let codes = play(siege.relay.smtp, SESSION.as_bytes(), Then::TheyClose).await;
    assert_eq!(codes, want);
    // and in segments of one octet
    let mut peer = Peer::connect(siege.relay.smtp).await;
    peer.say_by_octets(SESSION.as_bytes()).await;
    assert_eq!(peer.codes_to_end().await, want);
    // a hundred messages in one segment, or as many as it takes
    let (mail, _) = SESSION.split_once("RSET").expect("there is one");
    let (greeting, transaction) = mail.split_at("EHLO c\r\n".len());
    let session = format!("{greeting}{}QUIT\r\n", transaction.repeat(100));
    let codes = play(siege.relay.smtp, session.as_bytes(), Then::TheyClose).await;
    assert_eq!(codes, [&[220, 250][..], &[250, 250, 354, 250].repeat(100), &[221]].concat());
    let arrived = siege.end("pipelining").await;
    assert_eq!(arrived.len(), 102);
    assert!(
        arrived
            .iter()
            .all(|(got, to)| to == "taken@prompt.test" && got.ends_with(b"Subject: x\r\n\r\n.\r\n"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn words_that_are_none_are_refused_and_break_nothing() {
    let siege = Siege::begin("").await;
    for (said, want) in [
        // 8 bits, in and out of UTF-8 (RFC 6531 3.2)
        (&b"NO\xd6P\r\nNOOP\r\n"[..], &[500, 250][..]),
        (b"EHLO \xff\r\nNOOP\r\n", &[500, 250]),
        ("EHLO \u{fc}.example\r\nNOOP\r\n".as_bytes(), &[501, 250]),
        ("\u{ff2d}\u{ff21}\u{ff29}\u{ff2c} FROM:<a@b.example>\r\nNOOP\r\n".as_bytes(), &[500, 250]),
        (b"EHLO c\r\nMAIL FROM:<\xfc@sender.test>\r\nNOOP\r\n", &[250, 500, 250]),
        ("EHLO c\r\nMAIL FROM:<\u{fc}@sender.test>\r\nNOOP\r\n".as_bytes(), &[250, 553, 250]),
        ("EHLO c\r\nMAIL FROM:<\u{fc}@sender.test> SMTPUTF8\r\nRSET\r\n".as_bytes(), &[250, 250, 250]),
        (
            "EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<\u{fc}@prompt.test>\r\nNOOP\r\n".as_bytes(),
            &[250, 250, 553, 250],
        ),
        ("EHLO c\r\nMAIL FROM:<a@b.example> S\u{130}ZE=1\r\nNOOP\r\n".as_bytes(), &[250, 555, 250]),
        // control characters
        (b"NO\0OP\r\nNOOP\r\n", &[501, 250]),
        (b"NOOP \x08\x1b[2J\r\nNOOP\r\n", &[501, 250]),
        (b"EHLO c\r\nMAIL FROM:<a\0@b.example>\r\nNOOP\r\n", &[250, 501, 250]),
        (b"\x85NOOP\xc2\x85NOOP\r\nNOOP\r\n", &[500, 250]),
        (b"NOOP\x0bNOOP\x0cNOOP\r\nNOOP\r\n", &[501, 250]),
        // addresses that would be more than one
        (b"EHLO c\r\nMAIL FROM:<a@b.example><c@d.example>\r\nNOOP\r\n", &[250, 501, 250]),
        (b"EHLO c\r\nMAIL FROM:<a@b.example>,<c@d.example>\r\nNOOP\r\n", &[250, 501, 250]),
        (b"EHLO c\r\nMAIL FROM:<\"a@b.example>\r\nNOOP\r\n", &[250, 501, 250]),
        (b"EHLO c\r\nMAIL FROM:<a b@c.example>\r\nNOOP\r\n", &[250, 501, 250]),
        (b"EHLO c\r\nMAIL FROM:<a@b.example> SIZE=99999999999999999999\r\nNOOP\r\n", &[250, 552, 250]),
        // empty, and blank
        (b"\r\n\r\n \r\nNOOP\r\n", &[500, 500, 500, 250]),
    ] {
        let codes = play(siege.relay.smtp, &[said, b"QUIT\r\n"].concat(), Then::TheyClose).await;
        assert_eq!(codes, [&[220], want, &[221]].concat(), "{}", said.escape_ascii());
    }
    // what others may read as two lines ends the session: nothing behind it counts
    for said in ["NOOP\nNOOP\r\n", "NOOP\rNOOP\r\n", "NOOP\r\r\nNOOP\r\n", "\nNOOP\r\n", "NOOP\n\rNOOP\r\n"] {
        let codes = play(siege.relay.smtp, said.as_bytes(), Then::TheyClose).await;
        assert_eq!(codes, [220, 500], "{said:?}");
    }
    // other protocols
    let post = "POST / HTTP/1.1\r\nHost: relay.test:25\r\nContent-Length: 999\r\n\r\n";
    for said in [
        "GET / HTTP/1.1\r\nHost: relay.test\r\n\r\n",
        &format!("{post}{SESSION}"),
        "OPTIONS * HTTP/1.1\r\n\r\n",
        "CONNECT mail.example:25 HTTP/1.1\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "USER anonymous\r\nPASS x\r\n",
    ] {
        let codes = play(siege.relay.smtp, said.as_bytes(), Then::TheyClose).await;
        assert_eq!(codes, [220, 421], "{said:?}");
    }
    assert_eq!(siege.end("words").await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn noise_is_answered_by_refusals_alone() {
    let siege = Siege::begin("").await;
    for seed in 0..100 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut noise: Vec<u8> = (0..random.usize(1..8000)).map(|_| random.u8(..)).collect();
        if seed % 2 == 0 {
            // whole lines, so that it is not over at the first
            noise.retain(|octet| !matches!(octet, b'\r' | b'\n'));
            noise = noise.chunks(60).flat_map(|line| [line, b"\r\n"].concat()).collect();
        }
        let codes = play(siege.relay.smtp, &noise, Then::WeShut).await;
        let (banner, refusals) = codes.split_first().expect("a banner");
        assert_eq!(*banner, 220, "seed {seed}");
        assert!(refusals.iter().all(|code| matches!(code, 421 | 500 | 501)), "seed {seed}: {refusals:?}");
    }
    assert_eq!(siege.end("noise").await, []);
}
