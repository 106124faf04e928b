//! Replies of remote servers: the same however they arrive, within their limits, and fit to be logged.
//!
//! Input: three sizes of pieces, then what arrives.
#![no_main]

use std::time::Duration;

use barid::dsn::greylisted_for;
use barid::mail::Reply;
use barid::smtp::{REPLY_LINES_MAX, REPLY_TEXT_MAX_OCTETS, ReplyError, ReplyReader};
use barid_fuzz::pieces;
use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;

type Heard = (Vec<(Reply, Vec<Box<str>>)>, Option<ReplyError>);

fuzz_target!(|input: &[u8]| {
    let Some((sizes, arrives)) = input.split_first_chunk::<3>() else { return };
    let (replies, error) = hear(std::iter::once(arrives));
    for (reply, lines) in &replies {
        check(reply, lines);
    }
    assert_eq!(hear(pieces(sizes, arrives)), (replies, error));
});

fn hear<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Heard {
    let (mut reader, mut input, mut replies) = (ReplyReader::default(), BytesMut::new(), Vec::new());
    for piece in pieces {
        input.extend_from_slice(piece);
        loop {
            match reader.next(&mut input) {
                Ok(None) => break,
                Ok(Some(whole)) => replies.push((whole.reply, whole.lines)),
                Err(error) => return (replies, Some(error)),
            }
        }
    }
    (replies, None)
}

fn check(reply: &Reply, lines: &[Box<str>]) {
    assert!((200..600).contains(&reply.code) && (1..=REPLY_LINES_MAX).contains(&lines.len()));
    assert!(reply.text.len() <= REPLY_TEXT_MAX_OCTETS);
    let told = reply.to_string();
    assert!(!told.chars().any(char::is_control) && !lines.iter().any(|line| line.contains(char::is_control)));
    let (again, _) = hear(std::iter::once(format!("{told}\r\n").as_bytes()));
    assert_eq!(
        again.first().map(|(again, _)| (again.code, again.severity())),
        Some((reply.code, reply.severity()))
    );
    let usual = Duration::from_secs(300);
    if let Some(wait) = greylisted_for(reply, usual) {
        assert!((10..=3600).contains(&wait.as_secs()), "{wait:?}");
    }
}
