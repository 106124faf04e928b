//! Signatures as receivers see them.

mod lives;

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::clock::Timestamp;
use crate::mail::Domain;
use crate::net::{DnsError, Lookup, Mx, Resolver, Txt};

const START: Timestamp = Timestamp::from_millis(1_795_000_000_000);
const TTL: Duration = Duration::from_secs(3600);

/// TXT records by name; a name that is not there is denied.
#[derive(Default)]
struct Zone(Mutex<HashMap<String, Result<String, DnsError>>>);

impl Zone {
    fn put(&self, name: &str, answer: Result<&str, DnsError>) {
        self.0.lock().expect("not poisoned").insert(name.into(), answer.map(str::to_owned));
    }

    fn publish(&self, key: &Key) {
        self.put(&record_name(key), Ok(&key.record()));
    }

    fn take_away(&self, name: &str) {
        self.0.lock().expect("not poisoned").remove(name);
    }
}

fn record_name(key: &Key) -> String {
    key.selector().record_name(key.domain()).expect("a name").to_string()
}

impl Resolver for Zone {
    fn mx<'a>(&'a self, _: &'a Domain) -> Lookup<'a, Vec<Mx>> {
        Box::pin(std::future::ready(Err(DnsError::NoRecords)))
    }

    fn addresses<'a>(&'a self, _: &'a Domain) -> Lookup<'a, Vec<IpAddr>> {
        Box::pin(std::future::ready(Err(DnsError::NoRecords)))
    }

    fn txt<'a>(&'a self, name: &'a Domain) -> Lookup<'a, Txt> {
        let found = self.0.lock().expect("not poisoned").get(name.as_str()).cloned();
        let txt = |text: String| Txt { texts: vec![text.into_bytes().into()], ttl: TTL };
        Box::pin(std::future::ready(found.unwrap_or(Err(DnsError::NoSuchName)).map(txt)))
    }

    fn uncached(&self) -> &dyn Resolver {
        self
    }

    fn answers_above<'a>(&'a self, _: &'a Domain) -> Pin<Box<dyn Future<Output = bool> + Send + 'a>> {
        Box::pin(std::future::ready(true))
    }
}

fn domain(name: &str) -> Domain {
    Domain::parse(name).expect("a domain")
}

fn key(name: &str, algorithm: Algorithm) -> Arc<Key> {
    // keys are slow to make, and which one signs does not matter
    static PEMS: Mutex<Option<HashMap<Algorithm, String>>> = Mutex::new(None);
    let mut pems = PEMS.lock().expect("not poisoned");
    let pems = pems.get_or_insert_with(HashMap::new);
    let pem = pems.entry(algorithm).or_insert_with(|| MadeKey::generate(algorithm).expect("made").pem);
    let selector = Selector::parse(algorithm.as_str()).expect("a selector");
    Arc::new(Key::from_pem(domain(name), selector, pem).expect("reads"))
}

fn both(name: &str) -> Vec<Arc<Key>> {
    Algorithm::ALL.map(|algorithm| key(name, algorithm)).into()
}

fn sign(signers: &Signers, header: &str, body: &[&[u8]]) -> Option<(usize, Vec<u8>)> {
    let Choice::Signed(mut pending) = signers.begin(header.as_bytes(), &|_| true, START) else { return None };
    let octets = pending.octets();
    body.iter().for_each(|piece| pending.body(piece));
    Some((octets, pending.sign().expect("signs").0))
}

async fn verdicts(message: &[u8], zone: &Zone) -> Vec<Verdict> {
    let ours = Signers::new(both("a.example"), None).names();
    verify(message, &ours, zone).await.into_iter().map(|(_, verdict)| verdict).collect()
}

fn all_pass(verdicts: &[Verdict]) -> bool {
    verdicts == [Verdict::Pass, Verdict::Pass]
}

const HEADER: &str = "From: Ann <ann@a.example>\r\nTo: bob@b.example\r\nSubject: hello\r\n\tagain\r\n\
    Date: Wed, 18 Nov 2026 11:06:40 +0000\r\nMessage-ID: <1@a.example>\r\nContent-Type: text/plain\r\n";

#[tokio::test]
async fn what_is_signed_verifies_and_no_change_of_it_does() {
    let (keys, zone) = (both("a.example"), Zone::default());
    keys.iter().for_each(|key| zone.publish(key));
    let signers = Signers::new(keys, None);
    let body = b"Hello.\r\n\r\n  two  spaces \r\n\r\n\r\n";
    let (octets, fields) = sign(&signers, HEADER, &[body]).expect("has keys");
    assert_eq!(octets, fields.len(), "the room that it takes is known before");
    let message = [&fields, HEADER.as_bytes(), b"\r\n", body].concat();
    assert!(all_pass(&verdicts(&message, &zone).await));
    let text = String::from_utf8(message).expect("is ASCII");
    for (was, is) in [
        ("Hello.", "Hello!"),
        ("Subject: hello", "Subject: hallo"),
        ("ann@a.example>", "eve@a.example>"),
        ("Date: Wed", "Date: Thu"),
        ("<1@", "<2@"),
        ("text/plain", "text/html"),
        // what was not there may not be added, nor put twice
        ("To: bob", "Cc: eve@e.example\r\nTo: bob"),
        ("Subject: hello", "Subject: other\r\nSubject: hello"),
        ("To: bob", "From: eve@a.example\r\nTo: bob"),
        ("two  spaces", "two spaces more"),
    ] {
        assert!(text.contains(was), "{was}");
        let changed = verdicts(text.replacen(was, is, 1).as_bytes(), &zone).await;
        assert!(!changed.contains(&Verdict::Pass), "{was} -> {is}: {changed:?}");
    }
    for (was, is) in [
        // relaxed: white space is no change, nor is a trace field
        ("two  spaces ", "two spaces"),
        ("Subject: hello\r\n\tagain", "SUBJECT:  hello again"),
        ("DKIM-Signature", "Received: by r.example; Wed, 18 Nov 2026 11:06:40 +0000\r\nDKIM-Signature"),
    ] {
        assert!(all_pass(&verdicts(text.replacen(was, is, 1).as_bytes(), &zone).await), "{was} -> {is}");
    }
    assert!(!text.contains("l="), "the length of what is signed is never told");
}

#[tokio::test]
async fn the_dns_says_whether_it_verifies() {
    let (keys, zone) = (both("a.example"), Zone::default());
    let name = record_name(&keys[0]);
    let (_, fields) = sign(&Signers::new(keys.clone(), None), HEADER, &[b"x\r\n"]).expect("has keys");
    let message = [&fields, HEADER.as_bytes(), b"\r\nx\r\n"].concat();
    let failed = |verdicts: &[Verdict]| matches!(verdicts, [Verdict::Fail(_), Verdict::Fail(_)]);
    assert!(failed(&verdicts(&message, &zone).await), "no record");
    zone.publish(&keys[1]);
    for (answer, is_it) in [
        (Ok(keys[0].record()), (|v| *v == Verdict::Pass) as fn(&Verdict) -> bool),
        (Ok("v=DKIM1; p=".into()), |v| matches!(v, Verdict::Fail(_))),
        (Ok("v=spf1 -all".into()), |v| matches!(v, Verdict::Fail(_))),
        (Err(DnsError::TimedOut), |v| matches!(v, Verdict::Unsure(_))),
        (Err(DnsError::ServerFailed), |v| matches!(v, Verdict::Unsure(_))),
    ] {
        zone.put(&name, answer.as_deref().map_err(Clone::clone));
        let found = verdicts(&message, &zone).await;
        assert!(is_it(&found[0]) && found[1] == Verdict::Pass, "{answer:?}: {found:?}");
    }
    let (key, other) =
        (Key::from_pem(domain("a.example"), Selector::parse("t").expect("s"), &pem()), Zone::default());
    let key = key.expect("reads");
    other.publish(&key);
    assert_eq!(sign_and_verify(key, &other, START).await, Verdict::Pass);
}

fn pem() -> String {
    MadeKey::generate(Algorithm::Ed25519).expect("made").pem
}

#[test]
fn keys_are_those_of_the_author_or_of_whoever_is_above() {
    let keys = ["a.example", "sub.b.example", "all.example"].map(|name| key(name, Algorithm::Ed25519));
    let signers = Signers::new(keys.clone(), Some(domain("all.example")));
    let no_fallback = Signers::new(keys, None);
    let signer = |signers: &Signers, author: &str| {
        let (_, fields) = sign(signers, &format!("From: x@{author}\r\n"), &[])?;
        let fields = String::from_utf8(fields).expect("is ASCII");
        let (_, after) = fields.split_once("\td=").expect("names its domain");
        Some(after.split(';').next().expect("ends").to_owned())
    };
    for (author, want, without) in [
        ("a.example", "a.example", Some("a.example")),
        ("A.Example", "a.example", Some("a.example")),
        ("deep.sub.a.example", "a.example", Some("a.example")),
        ("b.example", "all.example", None),
        ("x.sub.b.example", "sub.b.example", Some("sub.b.example")),
        ("nota.example", "all.example", None),
        ("example", "all.example", None),
    ] {
        assert_eq!(signer(&signers, author).as_deref(), Some(want), "{author}");
        assert_eq!(signer(&no_fallback, author).as_deref(), without, "{author}");
    }
    assert!(sign(&no_fallback, "Subject: nobody's\r\n", &[]).is_none());
    assert!(sign(&Signers::default(), HEADER, &[]).is_none());
}

proptest! {
    #[test]
    fn how_a_body_is_cut_does_not_matter(
        body in "(x|yy|  | |\t|\r\n|\r\n\r\n){0,60}",
        cuts in prop::collection::vec(0_usize..200, 0..6),
    ) {
        let signers = Signers::new([key("a.example", Algorithm::Ed25519)], None);
        let body = body.as_bytes();
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(body.len())).collect();
        cuts.extend([0, body.len()]);
        cuts.sort_unstable();
        let pieces: Vec<&[u8]> = cuts.windows(2).map(|cut| &body[cut[0]..cut[1]]).collect();
        let (whole, cut) = (sign(&signers, HEADER, &[body]), sign(&signers, HEADER, &pieces));
        prop_assert_eq!(whole, cut);
    }

    #[test]
    fn any_header_can_be_signed_and_the_room_is_known(header in "(From|To|Subject|X|:| |\r\n|\t|é|@|a.example){0,80}") {
        let signers = Signers::new(both("a.example"), Some(domain("a.example")));
        let (octets, fields) = sign(&signers, &header, &[b"body\r\n"]).expect("has keys");
        prop_assert_eq!(octets, fields.len());
        let fields = String::from_utf8(fields).expect("is ASCII");
        prop_assert!(fields.split("\r\n").all(|line| line.len() <= 998));
    }
}

#[test]
fn nobody_signs_for_an_author_whose_domain_is_not_theirs() {
    let keys = ["a.example", "all.example"].map(|name| key(name, Algorithm::Ed25519));
    let signers = Signers::new(keys, Some(domain("all.example")));
    let owns = |owned: &Domain| owned.as_str() == "a.example";
    let signed_for = |from: &str| {
        let header = format!("From: x@{from}\r\n");
        let Choice::Signed(pending) = signers.begin(header.as_bytes(), &owns, START) else {
            panic!("unsigned")
        };
        String::from_utf8(pending.sign().expect("signs").0).expect("is ASCII").contains("\td=a.example;")
    };
    assert!(signed_for("a.example"));
    // another's subdomain is not the client's, whatever key there is above it
    assert!(!signed_for("other.a.example"));
}

#[test]
fn a_key_that_is_on_its_way_leaves_no_mail_unsigned() {
    let keys = || ["a.example", "all.example"].map(|name| key(name, Algorithm::Ed25519));
    let coming = || ["sub.a.example", "new.example"].map(domain);
    let signers = Signers::new(keys(), Some(domain("all.example"))).and_coming(coming());
    let without = Signers::new(keys(), None).and_coming(coming());
    let choice = |signers: &Signers, author: &str| match signers.begin(
        format!("From: x@{author}\r\n").as_bytes(),
        &|_| true,
        START,
    ) {
        Choice::Signed(pending) => {
            let fields = String::from_utf8(pending.sign().expect("signs").0).expect("is ASCII");
            fields.split("\td=").nth(1).and_then(|rest| rest.split(';').next()).expect("a domain").to_owned()
        }
        Choice::Later => "later".to_owned(),
        Choice::Never => "never".to_owned(),
    };
    for (author, want, alone) in [
        ("sub.a.example", "a.example", "a.example"),
        ("new.example", "all.example", "later"),
        ("other.example", "all.example", "never"),
    ] {
        assert_eq!(
            (choice(&signers, author), choice(&without, author)),
            (want.into(), alone.into()),
            "{author}"
        );
    }
}

/// RFC 8463 A.3: what others made of a message, not we.
#[tokio::test]
async fn the_body_of_the_rfcs_example_has_the_rfcs_hash() {
    let signers = Signers::new([key("a.example", Algorithm::Ed25519)], None);
    let body = b"Hi.\r\n\r\nWe lost the game.  Are you hungry yet?\r\n\r\nJoe.\r\n";
    let (_, fields) = sign(&signers, HEADER, &[body]).expect("has keys");
    let fields = String::from_utf8(fields).expect("is ASCII");
    assert!(fields.contains("\tbh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;"), "{fields}");
}

/// Messages that others signed, with the records that were there: all of them are good. In relaxed form their bodies
/// have the hashes that are written in them.
#[tokio::test]
async fn what_others_published_is_judged_right() {
    let Some(folder) = std::env::var_os("BARID_VECTORS") else {
        println!("BARID_VECTORS is not set: no signatures of others were read");
        return;
    };
    let folder = std::path::PathBuf::from(folder).join("mail-auth-arc-dkim/dkim");
    let (mut verified, mut hashed) = (0, 0);
    for file in std::fs::read_dir(folder).expect("there are vectors") {
        let file = file.expect("a file").path();
        let text =
            std::fs::read_to_string(&file).expect("is text").replace("\r\n", "\n").replace('\n', "\r\n");
        let (records, message) = text.split_once("\r\n\r\n").expect("records, then a message");
        let (zone, mut ours) = (Zone::default(), HashSet::new());
        for line in records.split("\r\n") {
            let (name, record) = line.split_once(' ').expect("a name and its record");
            zone.put(name, Ok(record));
            let (selector, of) = name.split_once("._domainkey.").expect("a selector");
            ours.insert((domain(of), Selector::parse(selector).expect("a selector")));
        }
        let verdicts = verify(message.as_bytes(), &ours, &zone).await;
        assert!(!verdicts.is_empty(), "{}", file.display());
        for (selector, verdict) in verdicts {
            // some said themselves until when they are good
            let is_over = matches!(&verdict, Verdict::Fail(why) if why.contains("expired"));
            let may_be_over = message.contains(" x=");
            let is_right = verdict == Verdict::Pass || (is_over && may_be_over);
            assert!(is_right, "{}: {selector}: {verdict:?}", file.display());
            verified += 1;
        }
        let body = message.split_once("\r\n\r\n").expect("a body").1;
        let header = message.split_once("\r\n\r\n").expect("a header").0.replace("\r\n", "");
        for field in
            header.split("DKIM-Signature:").skip(1).filter(|field| field.contains("c=relaxed/relaxed"))
        {
            let written: String =
                field.split("bh=").nth(1).expect("a hash").split(';').next().expect("ends").into();
            let written: String = written.split_ascii_whitespace().collect();
            let signers = Signers::new([key("a.example", Algorithm::Ed25519)], None);
            let (_, fields) = sign(&signers, HEADER, &[body.as_bytes()]).expect("has keys");
            let fields = String::from_utf8(fields).expect("is ASCII");
            assert!(fields.contains(&format!("\tbh={written};")), "{}: {fields}", file.display());
            hashed += 1;
        }
    }
    assert!(verified >= 8 && hashed >= 3, "{verified} signatures, {hashed} hashes");
}

/// The examples of RFC 8463 A and others of dkimpy's, good and spoilt, with good records and bad ones.
#[tokio::test]
async fn what_dkimpy_is_tested_with_is_judged_right() {
    let Some(folder) = std::env::var_os("BARID_VECTORS") else {
        println!("BARID_VECTORS is not set: no signatures of others were read");
        return;
    };
    let folder = std::path::PathBuf::from(folder).join("dkimpy-testdata");
    let text = |file: &str| std::fs::read_to_string(folder.join(file)).expect("is there");
    let brisbane = ("brisbane._domainkey.football.example.com", ED25519_OF_RFC_8463.to_owned());
    let test = |file: &str| ("test._domainkey.football.example.com", text(file));
    let exim = ("sed._domainkey.test.ex", text("eximtest.dns"));
    for (file, records, want) in [
        ("rfc6376.signed.msg", vec![brisbane.clone(), test("test.txt")], &[true, true][..]),
        ("rfc6376.signed.msg", vec![brisbane.clone()], &[true, false]),
        ("rfc6376.signed.msg", vec![brisbane, test("badversion.txt")], &[true, false]),
        ("rfc6376.signed.rsa.msg", vec![test("test.txt")], &[true]),
        ("rfc6376.signed.rsa.msg", vec![test("test_bad.txt")], &[false]),
        ("rfc6376.signed.rsa.msg", vec![test("badk.txt")], &[false]),
        // no kind is RSA
        ("rfc6376.signed.rsa.msg", vec![test("test2.txt")], &[true]),
        // its times were taken out after it was signed
        ("rfc6376.signed.no_t.msg", vec![test("test.txt")], &[false]),
        ("ed25519test2.msg", vec![exim], &[true]),
    ] {
        let (zone, mut ours) = (Zone::default(), HashSet::new());
        for (name, record) in &records {
            zone.put(name, Ok(record.trim()));
        }
        for name in [
            "brisbane._domainkey.football.example.com",
            "test._domainkey.football.example.com",
            "sed._domainkey.test.ex",
        ] {
            let (selector, of) = name.split_once("._domainkey.").expect("a selector");
            ours.insert((domain(of), Selector::parse(selector).expect("a selector")));
        }
        let message = text(file).replace("\r\n", "\n").replace('\n', "\r\n");
        let judge = async |message: &str| -> Vec<bool> {
            let verdicts = verify(message.as_bytes(), &ours, &zone).await;
            verdicts.iter().map(|(_, verdict)| *verdict == Verdict::Pass).collect()
        };
        let names: Vec<&str> = records.iter().map(|(name, _)| *name).collect();
        assert_eq!(judge(&message).await, want, "{file} {names:?}");
        let spoilt = judge(&format!("{message}x\r\n")).await;
        assert!(!spoilt.is_empty() && !spoilt.contains(&true), "{file} with another body");
    }
}

/// RFC 8463 A.2.
const ED25519_OF_RFC_8463: &str = "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";
