//! Too much of everything: lines, recipients, commands, headers.

use crate::peer::{Then, play};
use crate::siege::Siege;

const OPEN: &str = "EHLO c\r\nMAIL FROM:<app@sender.test>\r\nRCPT TO:<never@prompt.test>\r\nDATA\r\n";
/// The replies to that, greeting included.
const OPENED: [u16; 5] = [220, 250, 250, 250, 354];
const MIB: usize = 1 << 20;
/// How often each side sends everything.
const ROUNDS: usize = 8;

/// A name, a session that ends by itself or in QUIT, and the codes of all replies.
type Flood = (&'static str, String, Vec<u16>);

/// Content that is refused, and the session goes on.
fn of_content() -> Vec<Flood> {
    let field = format!("X-Filler: {}\r\n", "x".repeat(500));
    let received = "Received: from a by b; Thu, 1 Jan 2026 00:00:00 +0000\r\n";
    let flood = |(name, content, code): (&'static str, String, u16)| {
        let session = format!("{OPEN}{content}\r\n.\r\nNOOP\r\nQUIT\r\n");
        (name, session, [&OPENED[..], &[code, 250, 221]].concat())
    };
    let contents = [
        ("a line of 1 MiB", "a".repeat(MIB), 550),
        ("a header line of 1 MiB", format!("Subject: {}\r\n\r\nbody", "a".repeat(MIB)), 550),
        ("a header of 1 MiB", format!("{}\r\nbody", field.repeat(MIB / field.len() + 1)), 552),
        ("a header of 1 MiB without an end", field.repeat(MIB / field.len() + 1), 552),
        ("200 relays", format!("{}\r\nbody", received.repeat(200)), 554),
        ("1 MiB of LF", "\n".repeat(MIB), 550),
        ("1 MiB of CR", "\r".repeat(MIB), 550),
        ("1 MiB of NUL", "\0".repeat(MIB), 550),
        ("1 MiB of false ends", "\n.\n".repeat(MIB / 3), 550),
    ];
    contents.into_iter().map(flood).collect()
}

/// Commands that lead to nothing, for which the session is ended.
fn of_commands() -> Vec<Flood> {
    let flood = |(name, session, same, last): (&'static str, String, Vec<u16>, u16)| {
        (name, session, [&[220], &same[..], &[last]].concat())
    };
    let opened = |said: String| format!("EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<never@prompt.test>\r\n{said}");
    let sessions = [
        ("unknown", "XYZZY\r\n".repeat(10_000), [500].repeat(9), 421),
        ("NOOP", "NOOP\r\n".repeat(10_000), [250].repeat(99), 421),
        ("RSET", "RSET\r\n".repeat(10_000), [250].repeat(99), 421),
        ("VRFY", "VRFY x\r\n".repeat(10_000), [252].repeat(99), 421),
        ("HELP", "HELP\r\n".repeat(10_000), [214].repeat(99), 421),
        ("EHLO", "EHLO c\r\n".repeat(10_000), [250].repeat(100), 421),
        ("malformed", "MAIL\r\n".repeat(10_000), [501].repeat(19), 421),
        ("out of order", "DATA\r\n".repeat(10_000), [503].repeat(19), 421),
        ("chunks out of order", "BDAT 6\r\nNOOP\r\n".repeat(10_000), [503].repeat(19), 421),
        ("empty chunks", opened("BDAT 0\r\n".repeat(10_000)), [250].repeat(3 + 99), 421),
        // lines without an end, and one that has it too late
        ("a line of 1 MiB", "a".repeat(MIB), vec![], 500),
        ("an address of 1 MiB", format!("MAIL FROM:<{}@sender.test>\r\n", "a".repeat(MIB)), vec![], 500),
        ("1 MiB of CR", "\r".repeat(MIB), vec![], 500),
        ("1 MiB of NUL", "\0".repeat(MIB), vec![], 500),
    ];
    sessions.into_iter().map(flood).collect()
}

async fn check(siege: &Siege, (name, session, want): &Flood) {
    let codes = play(siege.relay.smtp, session.as_bytes(), Then::TheyClose).await;
    assert_eq!(&codes, want, "{name}");
}

#[tokio::test(flavor = "multi_thread")]
async fn content_that_is_too_much_is_refused_and_the_session_is_in_step() {
    let siege = Siege::begin("").await;
    for flood in of_content() {
        check(&siege, &flood).await;
    }
    assert_eq!(siege.end("too much content").await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_that_lead_to_nothing_end_some_time() {
    let siege = Siege::begin("").await;
    for flood in of_commands() {
        check(&siege, &flood).await;
    }
    assert_eq!(siege.end("endless commands").await, []);
}

/// Everything above from all sides, again and again: others wait for nothing, and memory comes back.
#[tokio::test(flavor = "multi_thread")]
async fn all_floods_at_once_are_nobodys_trouble() {
    let siege = Siege::begin("").await;
    let floods = [of_content(), of_commands()].concat();
    let flood_from = |side: usize| {
        let (siege, floods) = (&siege, &floods);
        async move {
            for round in 0..ROUNDS {
                // each side begins elsewhere
                for number in 0..floods.len() {
                    check(siege, &floods[(number + 3 * side + round) % floods.len()]).await;
                }
            }
        }
    };
    tokio::join!(flood_from(0), flood_from(1), flood_from(2), flood_from(3), siege.others_are_served(10));
    assert_eq!(siege.end("all floods at once").await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_thousand_recipients_are_a_thousand() {
    let siege = Siege::begin("").await;
    let recipients: String =
        (0..100_000).map(|number| format!("RCPT TO:<u{number}@prompt.test>\r\n")).collect();
    let session = format!(
        "EHLO c\r\nMAIL FROM:<app@sender.test>\r\n{recipients}RSET\r\n\
         MAIL FROM:<app@sender.test>\r\nRCPT TO:<taken@prompt.test>\r\nDATA\r\nSubject: x\r\n.\r\nQUIT\r\n"
    );
    let (codes, ()) =
        tokio::join!(play(siege.relay.smtp, session.as_bytes(), Then::TheyClose), siege.others_are_served(1));
    let verdicts = [[250].repeat(1000), [452].repeat(99_000)].concat();
    let want = [&[220, 250, 250], &verdicts[..], &[250, 250, 250, 354, 250, 221]].concat();
    assert!(codes == want, "{} codes, the last of them {:?}", codes.len(), codes.last());
    let arrived = siege.end("recipients").await;
    assert_eq!(arrived.into_iter().map(|(_, to)| to).collect::<Vec<_>>(), ["taken@prompt.test"]);
}
