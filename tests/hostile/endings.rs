//! Everything that some server or other takes for the end of DATA, with a second transaction hidden behind it
//! (SMTP smuggling, CVE-2023-51764 to 51766): only CRLF.CRLF ends content (RFC 5321 4.1.1.4).

use std::net::{Ipv4Addr, SocketAddr};

use barid::smtp::DotStuffer;

use crate::peer::{Peer, all_read};
use crate::plain;
use crate::siege::{Arrived, Siege};

/// A client whose line ends are put right.
const MENDED: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const ITS_SECTION: &str = "[[client]]\nname = \"mended\"\nnetworks = [\"127.0.0.2/32\"]\n\
                           sender_domains = [\"*\"]\nline_endings = \"normalize\"\n";

const BEFORE: &[u8] = b"Subject: hidden\r\n\r\nbefore";
const HIDDEN: &[u8] = b"MAIL FROM:<admin@sender.test>\r\nRCPT TO:<victim@prompt.test>\r\nDATA\r\n\
                        Subject: smuggled\r\n\r\nsmuggled";
const END: &[u8] = b"\r\n.\r\n";

/// What becomes of content.
#[derive(Clone, Copy, Debug)]
enum Fate {
    /// It is taken with this in the place of the variant.
    Taken(&'static [u8]),
    /// It is taken as it stands.
    Same,
    /// 550, and nothing of it is kept.
    Refused,
}

use Fate::{Refused, Same, Taken};

/// An ending that is none: the octets, what we make of them, and what we make of them for a client whose line
/// ends are put right.
type Variant = (&'static [u8], Fate, Fate);

/// Sixty of them: the number is part of the promise.
const VARIANTS: [Variant; 60] = [
    // CR and LF, alone and in the wrong company
    (b"\n.\n", Refused, Taken(b"\r\n.\r\n")),
    (b"\n.\r\n", Refused, Taken(b"\r\n.\r\n")),
    (b"\r\n.\n", Refused, Taken(b"\r\n\r\n")),
    (b"\r.\r", Refused, Taken(b"\r\n.\r\n")),
    (b"\r\n.\r", Refused, Taken(b"\r\n\r\n")),
    (b"\r.\n", Refused, Taken(b"\r\n.\r\n")),
    (b"\n.\r", Refused, Taken(b"\r\n.\r\n")),
    (b"\r.\r\n", Refused, Taken(b"\r\n.\r\n")),
    (b"\r\n.\r\r\n", Refused, Taken(b"\r\n\r\n\r\n")),
    (b"\r\n.\n\r\n", Refused, Taken(b"\r\n\r\n\r\n")),
    (b"\n\n.\n\n", Refused, Taken(b"\r\n\r\n.\r\n\r\n")),
    (b"\r\r.\r\r", Refused, Taken(b"\r\n\r\n.\r\n\r\n")),
    (b"\n\r.\n\r", Refused, Taken(b"\r\n\r\n.\r\n\r\n")),
    (b"\n.\n.\r\n", Refused, Taken(b"\r\n.\r\n.\r\n")),
    (b"\r\r\n..\r\r\n", Refused, Taken(b"\r\n\r\n.\r\n\r\n")),
    (b"\n..\n", Refused, Taken(b"\r\n..\r\n")),
    (b"\n..\r\n", Refused, Taken(b"\r\n..\r\n")),
    (b"\r\n..\n", Refused, Taken(b"\r\n.\r\n")),
    (b"\n", Refused, Taken(b"\r\n")),
    (b"\r", Refused, Taken(b"\r\n")),
    // NUL, which some drop and some stop at
    (b"\0.\r\n", Refused, Refused),
    (b"\r\n\0.\r\n", Refused, Refused),
    (b"\r\n.\0\r\n", Refused, Refused),
    (b"\r\n.\r\0\n", Refused, Refused),
    (b"\r\0\n.\r\0\n", Refused, Refused),
    (b"\r\n.\0", Refused, Refused),
    (b"\0.\0", Refused, Refused),
    (b"\r\0\n\0.\0\r\0\n\0", Refused, Refused),
    // what Unicode and some libraries call line ends: VT, FF, NEL, LS, PS
    (b"\x0b.\x0b", Same, Same),
    (b"\x0b.\r\n", Same, Same),
    (b"\r\n.\x0b\r\n", Taken(b"\r\n\x0b\r\n"), Taken(b"\r\n\x0b\r\n")),
    (b"\x0c.\x0c", Same, Same),
    (b"\x0c.\r\n", Same, Same),
    (b"\r\n.\x0c\r\n", Taken(b"\r\n\x0c\r\n"), Taken(b"\r\n\x0c\r\n")),
    (b"\xc2\x85.\xc2\x85", Same, Same),
    (b"\xc2\x85.\r\n", Same, Same),
    (b"\r\n.\xc2\x85", Taken(b"\r\n\xc2\x85"), Taken(b"\r\n\xc2\x85")),
    (b"\x85.\x85", Same, Same),
    (b"\x85.\r\n", Same, Same),
    (b"\r\n.\x85", Taken(b"\r\n\x85"), Taken(b"\r\n\x85")),
    (b"\xe2\x80\xa8.\xe2\x80\xa8", Same, Same),
    (b"\r\n.\xe2\x80\xa8", Taken(b"\r\n\xe2\x80\xa8"), Taken(b"\r\n\xe2\x80\xa8")),
    (b"\xe2\x80\xa9.\xe2\x80\xa9", Same, Same),
    (b"\r\n.\xe2\x80\xa9\r\n", Taken(b"\r\n\xe2\x80\xa9\r\n"), Taken(b"\r\n\xe2\x80\xa9\r\n")),
    (b"\x1c.\x1d\r\n", Same, Same),
    // CR, LF and dot in disguise: the eighth bit set, overlong, another script's dot, encoded
    (b"\x8d\x8a.\x8d\x8a", Same, Same),
    (b"\r\n\xae\r\n", Same, Same),
    (b"\xc0\x8d\xc0\x8a.\xc0\x8d\xc0\x8a", Same, Same),
    (b"\r\n\xe3\x80\x82\r\n", Same, Same),
    (b"\r\n=2E\r\n", Same, Same),
    (b"\r\n.=0D=0A", Taken(b"\r\n=0D=0A"), Taken(b"\r\n=0D=0A")),
    // a dot that is not alone
    (b"\r\n..\r\n", Taken(b"\r\n.\r\n"), Taken(b"\r\n.\r\n")),
    (b"\r\n...\r\n", Taken(b"\r\n..\r\n"), Taken(b"\r\n..\r\n")),
    (b"\r\n. \r\n", Taken(b"\r\n \r\n"), Taken(b"\r\n \r\n")),
    (b"\r\n.\t\r\n", Taken(b"\r\n\t\r\n"), Taken(b"\r\n\t\r\n")),
    (b"\r\n .\r\n", Same, Same),
    (b"\r\n.\x08\r\n", Taken(b"\r\n\x08\r\n"), Taken(b"\r\n\x08\r\n")),
    (b"\r\n\x08.\r\n", Same, Same),
    (b"\r\nx\x08.\r\n", Same, Same),
    (b".\r\n", Same, Same),
];

/// What stands in the place of a variant, where the message is taken.
fn became(variant: &'static [u8], fate: Fate) -> Option<&'static [u8]> {
    match fate {
        Refused => None,
        Same => Some(variant),
        Taken(became) => Some(became),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_but_crlf_dot_crlf_ends_a_message() {
    let siege = Siege::begin(ITS_SECTION).await;
    let (mut want, mut torn) = (Arrived::new(), Vec::new());
    for (number, (variant, strict, mended)) in VARIANTS.into_iter().enumerate() {
        for (from, fate) in [(Ipv4Addr::LOCALHOST, strict), (MENDED, mended)] {
            let became = became(variant, fate);
            for cut in ["whole", "torn"] {
                let to = format!("v{number}-{from}-{cut}@prompt.test");
                let mut peer = open((from, siege.relay.smtp), &to).await;
                if cut == "whole" {
                    peer.say(variant).await;
                    go_on(peer, variant, became.is_some()).await;
                } else {
                    torn.push((peer, variant, became.is_some()));
                }
                let content = became.map(|became| [BEFORE, became, HIDDEN, b"\r\n"].concat());
                want.extend(content.map(|content| (content, to)));
            }
        }
    }
    tear(torn).await;
    let mut got = siege.end("endings").await;
    got.sort_by(|a, b| a.1.cmp(&b.1));
    want.sort_by(|a, b| a.1.cmp(&b.1));
    assert_eq!(got.len(), want.len(), "one message for each that was taken, and no other");
    for ((got, to), (content, meant_for)) in got.iter().zip(&want) {
        assert_eq!(to, meant_for);
        assert!(got.ends_with(content), "{to}: {}", got.escape_ascii());
    }
}

/// A session that stands in content, before a variant.
async fn open((from, relay): (Ipv4Addr, SocketAddr), to: &str) -> Peer {
    let mut peer = Peer::connect_from(from, relay).await;
    let open = format!("EHLO enemy.test\r\nMAIL FROM:<app@sender.test>\r\nRCPT TO:<{to}>\r\nDATA\r\n");
    peer.say(open.as_bytes()).await;
    assert_eq!(peer.codes(5).await, [220, 250, 250, 250, 354], "{to}");
    peer.say(BEFORE).await;
    peer
}

/// Hides a transaction behind a variant: one final reply, and a session that is in step.
async fn go_on(mut peer: Peer, variant: &[u8], is_taken: bool) {
    peer.say(&[HIDDEN, END, b"NOOP\r\nQUIT\r\n"].concat()).await;
    let verdict = if is_taken { 250 } else { 550 };
    assert_eq!(peer.codes_to_end().await, [verdict, 250, 221], "{}", variant.escape_ascii());
}

/// Each variant in segments of one octet; all sessions keep step, so that one look tells whether the relay has
/// read them.
async fn tear(sessions: Vec<(Peer, &[u8], bool)>) {
    let (mut peers, variants): (Vec<Peer>, Vec<_>) =
        sessions.into_iter().map(|(peer, variant, is_taken)| (peer, (variant, is_taken))).unzip();
    let longest = variants.iter().map(|(variant, _)| variant.len()).max().unwrap_or(0);
    for place in 0..longest {
        all_read(&peers).await;
        for (peer, (variant, _)) in peers.iter_mut().zip(&variants) {
            peer.say(variant.get(place..=place).unwrap_or_default()).await;
        }
    }
    all_read(&peers).await;
    for (peer, (variant, is_taken)) in peers.into_iter().zip(variants) {
        go_on(peer, variant, is_taken).await;
    }
}

/// What was content when it came is content when it goes, for servers that read line ends in other ways too.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_hidden_leaves_as_more_than_one_message() {
    let (plain, on_the_wire) = plain::listen().await;
    let route = format!("{ITS_SECTION}[[route]]\ndomains = [\"plain.test\"]\nvia = \"{plain}\"\n");
    let siege = Siege::begin(route.leak()).await;
    let mut want = Vec::new();
    for (variant, strict, mended) in VARIANTS {
        for (from, fate) in [(Ipv4Addr::LOCALHOST, strict), (MENDED, mended)] {
            let Some(became) = became(variant, fate) else { continue };
            let mut peer = open((from, siege.relay.smtp), "you@plain.test").await;
            peer.say(variant).await;
            go_on(peer, variant, true).await;
            let content = [BEFORE, became, HIDDEN, b"\r\n"].concat();
            let mut stuffer = DotStuffer::default();
            let mut wire = Vec::new();
            stuffer.stuff(&content, &mut wire);
            want.push(wire[..wire.len() - 2].to_vec());
        }
    }
    assert_eq!(siege.end("hidden and sent on").await, []);
    let mut got = std::mem::take(&mut *on_the_wire.lock().expect("not poisoned"));
    // by the place of the variant: before it stand a date and an id
    for content in &mut got {
        let begins = content.windows(BEFORE.len()).position(|part| part == BEFORE);
        content.drain(..begins.expect("the subject"));
        let is_bare = |pair: &[u8]| (pair[0] == b'\r') != (pair[1] == b'\n');
        assert!(!content.windows(2).any(is_bare), "a bare CR or LF leaves: {}", content.escape_ascii());
        let mut lines = content.split(|octet| matches!(octet, b'\r' | b'\n'));
        assert!(!lines.any(|line| line == b"."), "a dot alone leaves: {}", content.escape_ascii());
    }
    got.sort();
    want.sort();
    assert!(got == want, "{} left, {} were taken", got.len(), want.len());
}

/// The test would notice: behind a true end, whatever stands before it, there is a transaction of its own.
#[tokio::test(flavor = "multi_thread")]
async fn what_follows_a_true_end_is_another_transaction() {
    let siege = Siege::begin(ITS_SECTION).await;
    for (before, verdict) in [("", 250), ("\r", 550), ("\n", 550), ("\0", 550), ("\r\n.x", 250)] {
        let mut peer = Peer::connect(siege.relay.smtp).await;
        peer.say(b"EHLO c\r\nMAIL FROM:<app@sender.test>\r\nRCPT TO:<first@prompt.test>\r\nDATA\r\n").await;
        assert_eq!(peer.codes(5).await, [220, 250, 250, 250, 354]);
        peer.say(&[BEFORE, before.as_bytes(), END, HIDDEN, END, b"QUIT\r\n"].concat()).await;
        let codes = peer.codes_to_end().await;
        assert_eq!(codes, [verdict, 250, 250, 354, 250, 221], "{before:?}");
    }
    let arrived = siege.end("true ends").await;
    let count = |to: &str| arrived.iter().filter(|(_, whom)| whom == to).count();
    assert_eq!((count("first@prompt.test"), count("victim@prompt.test")), (2, 5));
}
