//! What is signed: any header and body, the body cut anywhere. The room that signatures take is known before, cuts
//! change nothing, and what is written is lines that nobody can take for more.
#![no_main]

use std::sync::{Arc, LazyLock};

use barid::authentication::{Algorithm, Choice, Key, MadeKey, Pending, Selector, Signers};
use barid::clock::Timestamp;
use barid::mail::Domain;
use barid_fuzz::{lines, pieces};
use libfuzzer_sys::fuzz_target;

static SIGNERS: LazyLock<Signers> = LazyLock::new(|| {
    let domain = Domain::parse("a.example").expect("a domain");
    let selector = Selector::parse("s").expect("a selector");
    let made = MadeKey::generate(Algorithm::Ed25519).expect("made");
    let key = Key::from_pem(domain.clone(), selector, &made.pem).expect("reads");
    Signers::new([Arc::new(key)], Some(domain))
});

fn begin(header: &[u8]) -> Box<Pending> {
    let now = Timestamp::from_millis(1_795_000_000_000);
    match SIGNERS.begin(header, &|domain| domain.as_str() != "b.example", now) {
        Choice::Signed(pending) => pending,
        _ => panic!("the fallback signs everything"),
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((sizes, message)) = input.split_at_checked(4) else { return };
    let end = message.windows(4).position(|four| four == b"\r\n\r\n");
    let (header, body) = end.map_or((message, &b""[..]), |end| (&message[..end + 2], &message[end + 4..]));
    let (mut whole, mut cut) = (begin(header), begin(header));
    let room = whole.octets();
    whole.body(body);
    pieces(sizes, body).for_each(|piece| cut.body(piece));
    let (fields, algorithms) = whole.sign().expect("signs");
    assert_eq!((fields.len(), algorithms.len()), (room, 1));
    assert_eq!(cut.sign().expect("signs").0, fields);
    let lines = lines(&fields);
    assert!(lines[0].starts_with("DKIM-Signature: v=1; a=ed25519-sha256;"));
    for line in &lines[1..] {
        assert!(line.starts_with('\t') && line.len() > 1 && line.len() <= 998, "{line:?}");
    }
});
