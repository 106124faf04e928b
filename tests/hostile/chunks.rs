//! BDAT (RFC 3030) put to wrong uses: a chunk is content whatever it looks like, and nothing else is one.

use crate::peer::{Peer, Then, play};
use crate::siege::Siege;

/// Messages of at most 64 KiB, the least that may be configured.
const SMALL: &str = "[limits]\nmessage_size = \"64KiB\"\n";

const OPEN: &str = "EHLO c\r\nMAIL FROM:<app@sender.test>\r\nRCPT TO:<taken@prompt.test>\r\n";
/// The replies to that, greeting included.
const OPENED: [u16; 4] = [220, 250, 250, 250];
/// A transaction that must stay content, or be skipped.
const COMMANDS: &str = "\r\n.\r\nRSET\r\nMAIL FROM:<admin@sender.test>\r\nRCPT TO:<victim@prompt.test>\r\n\
                        BDAT 19 LAST\r\nSubject: smuggled\r\n";
const CHUNK_IN_DATA: &str = "Subject: x\r\n\r\nBDAT 5 LAST\r\nhello\r\n";

/// A chunk of this content.
fn chunk(content: &str, last: &str) -> String {
    format!("BDAT {}{last}\r\n{content}", content.len())
}

async fn check(siege: &Siege, session: String, then: Then, want: &[u16]) {
    let codes = play(siege.relay.smtp, session.as_bytes(), then).await;
    let shown: String = session.escape_debug().take(300).collect();
    assert_eq!(codes, want, "{shown}");
}

/// What is said behind [`OPEN`], ends in QUIT, and is answered so.
async fn check_open(siege: &Siege, said: &str, want: &[u16]) {
    check(siege, format!("{OPEN}{said}QUIT\r\n"), Then::TheyClose, &[&OPENED, want, &[221]].concat()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_is_content_wherever_it_comes_and_whatever_it_holds() {
    let siege = Siege::begin(SMALL).await;
    let evil = chunk(COMMANDS, "");
    for (session, want) in [
        (format!("{evil}NOOP\r\nQUIT\r\n"), vec![220, 503, 250, 221]),
        (format!("EHLO c\r\n{evil}NOOP\r\nQUIT\r\n"), vec![220, 250, 503, 250, 221]),
        (
            format!("EHLO c\r\nMAIL FROM:<app@sender.test>\r\n{evil}NOOP\r\nQUIT\r\n"),
            vec![220, 250, 250, 554, 250, 221],
        ),
        ("EHLO c\r\nBDAT 0\r\nBDAT 0 LAST\r\nQUIT\r\n".into(), vec![220, 250, 503, 503, 221]),
    ] {
        check(&siege, session, Then::TheyClose, &want).await;
    }
    for (said, want) in [
        // commands, and what would end DATA
        (format!("{evil}{}", chunk("end\r\n", " LAST")), vec![250, 250]),
        (format!("{}NOOP\r\n", chunk(COMMANDS, " last")), vec![250, 250]),
        // nothing at all, and a CRLF over two chunks
        ("BDAT 0\r\nBDAT 0\r\nBDAT 0 LAST\r\n".into(), vec![250, 250, 250]),
        (format!("{}{}", chunk("a\r", ""), chunk("\nb\r\n", " LAST")), vec![250, 250]),
        // twenty digits may be a small number
        ("BDAT 00000000000000000002 LAST\r\n\r\n".into(), vec![250]),
        // two ways of sending content do not mix
        (format!("{}DATA\r\n{}", chunk("a", ""), chunk("b\r\n", " LAST")), vec![250, 503, 250]),
        (format!("DATA\r\n{CHUNK_IN_DATA}.\r\nBDAT 6 LAST\r\nRSET\r\nNOOP\r\n"), vec![354, 250, 503, 250]),
    ] {
        check_open(&siege, &said, &want).await;
    }
    let torn = [chunk("\r\n.\r\nRSET\r\n", ""), chunk("torn\r\n", " LAST"), "QUIT\r\n".into()].concat();
    let mut peer = Peer::connect(siege.relay.smtp).await;
    peer.say(OPEN.as_bytes()).await;
    peer.say_by_octets(torn.as_bytes()).await;
    assert_eq!(peer.codes_to_end().await, [&OPENED[..], &[250, 250, 221]].concat(), "octet by octet");
    let arrived = siege.end("chunks are content").await;
    assert!(arrived.iter().all(|(_, to)| to == "taken@prompt.test"), "nothing was smuggled");
    assert_eq!(arrived.len(), 8);
    for part in [&format!("{COMMANDS}end\r\n"), "\r\n.\r\nRSET\r\ntorn\r\n", COMMANDS, CHUNK_IN_DATA] {
        let count = arrived.iter().filter(|(got, _)| got.ends_with(part.as_bytes())).count();
        assert_eq!(count, 1, "{part:?}");
    }
}

/// Sizes that are none: nobody can tell where the chunk ends, so nothing behind it may be read as commands.
#[tokio::test(flavor = "multi_thread")]
async fn behind_a_chunk_without_a_size_nothing_is_read() {
    let siege = Siege::begin(SMALL).await;
    for size in [
        "",
        " ",
        " -1",
        " +5",
        " x",
        " 0x10",
        " 1.5",
        " 5LAST",
        " 5 FIRST",
        " 5 LAST LAST",
        " 5 6",
        " LAST",
        " 5\u{8}",
        " \u{665}",
        " 000000000000000000005",
        "\t5",
        "5",
        ":5",
    ] {
        let session = format!("{OPEN}BDAT{size}\r\n{COMMANDS}NOOP\r\n");
        // without a space it is no BDAT by its grammar, but by its looks
        let code = if size.is_empty() || size.starts_with(' ') { 501 } else { 500 };
        check(&siege, session, Then::TheyClose, &[&OPENED[..], &[code]].concat()).await;
    }
    // sizes that no message can have: not even skipped
    for size in
        ["131074", "4294967296", "18446744073709551615", "18446744073709551616", "99999999999999999999"]
    {
        for before in ["", OPEN] {
            let session = format!("{before}BDAT {size} LAST\r\n{COMMANDS}NOOP\r\n");
            let opened = if before.is_empty() { &OPENED[..1] } else { &OPENED };
            check(&siege, session, Then::TheyClose, &[opened, &[421]].concat()).await;
        }
    }
    assert_eq!(siege.end("chunks without a size").await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_failed_takes_its_chunks_along() {
    let siege = Siege::begin(SMALL).await;
    let large = "0123456789\r\n".repeat(6000);
    let third = &large[..large.len() / 3 + 1];
    let rest = chunk(COMMANDS, "");
    let last = chunk(COMMANDS, " LAST");
    for (said, want) in [
        // refused chunks, and pipelined ones behind them
        (format!("{}{rest}{last}NOOP\r\n", chunk("a\nb", "")), vec![550, 503, 503, 250]),
        (format!("{}{rest}{last}NOOP\r\n", chunk("a\rb", "")), vec![550, 503, 503, 250]),
        (format!("{}{rest}{last}NOOP\r\n", chunk("a\0b", "")), vec![550, 503, 503, 250]),
        (format!("{}NOOP\r\n", chunk("a\r", " LAST")), vec![550, 250]),
        (format!("{}{}NOOP\r\n", chunk("a\r", ""), chunk("b", " LAST")), vec![250, 550, 250]),
        // too large in one chunk, and in several
        (format!("{}{last}NOOP\r\n", chunk(&large, "")), vec![552, 503, 250]),
        (format!("{}NOOP\r\n", chunk(&large, " LAST")), vec![552, 250]),
        (format!("{0}{0}{0}{last}NOOP\r\n", chunk(third, "")), vec![250, 250, 552, 503, 250]),
        // given up between chunks
        (format!("{rest}RSET\r\n{last}NOOP\r\n"), vec![250, 250, 503, 250]),
        (format!("{rest}EHLO again\r\n{last}NOOP\r\n"), vec![250, 250, 503, 250]),
        (format!("{rest}HELO again\r\n{last}NOOP\r\n"), vec![250, 250, 503, 250]),
    ] {
        check_open(&siege, &said, &want).await;
    }
    // commands that make no sense between chunks change nothing
    let between =
        "MAIL FROM:<admin@sender.test>\r\nRCPT TO:<victim@prompt.test>\r\nSTARTTLS\r\nDATA\r\nNOOP\r\n";
    let said = format!("{}{between}{}", chunk("Subject: ", ""), chunk("whole\r\n", " LAST"));
    check_open(&siege, &said, &[250, 503, 503, 503, 503, 250, 250]).await;
    // cut off by closing: in a chunk, between two, before the last octet
    for said in
        ["BDAT 100 LAST\r\nshort\r\n", "BDAT 7\r\nshort\r\n", "BDAT 8 LAST\r\nshort\r\n", "BDAT 7 LAST"]
    {
        let between = usize::from(said.starts_with("BDAT 7\r"));
        let want = [&OPENED[..], &[250][..between]].concat();
        check(&siege, format!("{OPEN}{said}"), Then::WeShut, &want).await;
    }
    let arrived = siege.end("failed chunks").await;
    assert_eq!(arrived.len(), 1);
    assert!(arrived[0].0.ends_with(b"Subject: whole\r\n"), "{}", arrived[0].0.escape_ascii());
}
