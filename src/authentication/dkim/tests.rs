//! Signatures as receivers see them, and whole lives of keys.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::clock::{Clock, ManualClock, Timestamp};
use crate::mail::Domain;
use crate::net::{DnsError, Lookup, Mx, Resolver, Txt};

const START: Timestamp = Timestamp::from_millis(1_795_000_000_000);
const TTL: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);
const KEEP: Duration = Duration::from_secs(12 * 86_400);

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

/// A ring, a zone and a keeper on a clock that is moved by hand.
struct House {
    _dir: tempfile::TempDir,
    ring: KeyRing,
    zone: Arc<Zone>,
    clock: ManualClock,
    keeper: Keeper,
}

impl House {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let (ring, zone, clock) =
            (KeyRing::of(dir.path()), Arc::new(Zone::default()), ManualClock::at(START));
        let settings = KeeperSettings { every: TTL, keep: KEEP, fallback: None };
        let keeper =
            Keeper::new(ring.clone(), zone.clone(), Clock::Manual(clock.clone()), settings).expect("opens");
        House { _dir: dir, ring, zone, clock, keeper }
    }

    fn generate(&self) -> Entry {
        let made = MadeKey::generate(Algorithm::Ed25519).expect("made");
        self.ring.add(&domain("a.example"), None, &[made], self.clock.now()).expect("added").remove(0)
    }

    fn publish(&self, entry: &Entry) {
        self.zone.publish(&self.ring.key(entry).expect("reads"));
    }

    fn name(&self, entry: &Entry) -> String {
        entry.selector.record_name(&entry.domain).expect("a name").to_string()
    }

    /// Looks `after` a while: each key's selector and stage, and how many are astray.
    async fn look(&self, after: Duration) -> (Vec<String>, usize) {
        self.clock.advance(after);
        let found = self.keeper.look().await.expect("looks");
        let told = |entry: &Entry| format!("{} {}", entry.selector, entry.stage.as_str());
        (found.entries.iter().map(told).collect(), found.astray.len())
    }

    /// Whose signature a message gets.
    fn signer(&self) -> Option<String> {
        let (_, fields) = sign(&self.keeper.signers().now(), HEADER, &[])?;
        let fields = String::from_utf8(fields).expect("is ASCII");
        Some(fields.split_once("\ts=")?.1.split(';').next()?.to_owned())
    }
}

fn told(keys: &[(&Entry, &str)]) -> Vec<String> {
    keys.iter().map(|(entry, stage)| format!("{} {stage}", entry.selector)).collect()
}

#[tokio::test]
async fn a_key_takes_its_predecessors_place_when_everybody_can_see_it() {
    let house = House::new();
    let first = house.generate();
    assert_eq!(house.look(DAY).await, (told(&[(&first, "published")]), 0));
    assert_eq!(house.signer(), None, "nothing is signed with a key that nobody can look up");
    house.publish(&first);
    assert_eq!(house.look(TTL).await, (told(&[(&first, "waiting")]), 0));
    assert_eq!(house.signer(), None);
    assert_eq!(house.look(TTL).await, (told(&[(&first, "active")]), 0));
    assert_eq!(house.signer().as_deref(), Some(first.selector.as_str()));

    house.clock.advance(90 * DAY);
    let second = house.generate();
    // it never appears: the first goes on for as long as that takes
    for _ in 0..30 {
        assert_eq!(house.look(DAY).await, (told(&[(&first, "active"), (&second, "published")]), 0));
        assert_eq!(house.signer().as_deref(), Some(first.selector.as_str()));
    }
    // it appears, is lost again, and appears
    house.publish(&second);
    assert_eq!(house.look(TTL).await.0, told(&[(&first, "active"), (&second, "waiting")]));
    house.zone.take_away(&house.name(&second));
    assert_eq!(house.look(TTL).await.0, told(&[(&first, "active"), (&second, "published")]));
    house.publish(&second);
    assert_eq!(house.look(TTL).await.0, told(&[(&first, "active"), (&second, "waiting")]));
    assert_eq!(house.look(TTL).await.0, told(&[(&first, "retiring"), (&second, "active")]));
    assert_eq!(house.signer().as_deref(), Some(second.selector.as_str()));

    // the DNS loses it when it signs: told at once, and the first stands in
    house.zone.take_away(&house.name(&second));
    assert_eq!(house.look(TTL).await, (told(&[(&first, "retiring"), (&second, "active")]), 1));
    assert_eq!(house.signer().as_deref(), Some(first.selector.as_str()));
    // a DNS that does not answer says nothing
    house.zone.put(&house.name(&second), Err(DnsError::TimedOut));
    assert_eq!(house.look(TTL).await.1, 1);
    house.publish(&second);
    assert_eq!(house.look(TTL).await, (told(&[(&first, "retiring"), (&second, "active")]), 0));
    assert_eq!(house.signer().as_deref(), Some(second.selector.as_str()));

    // it stood in two looks ago: its record stays that long after
    assert_eq!(house.look(KEEP - TTL).await.0, told(&[(&first, "retiring"), (&second, "active")]));
    assert_eq!(house.look(TTL).await.0, told(&[(&first, "removed"), (&second, "active")]));
    assert!(!house.ring.key_file(&first.domain, &first.selector).exists(), "the private key is gone");
    house.zone.take_away(&house.name(&first));
    assert_eq!(house.look(TTL).await, (told(&[(&second, "active")]), 0));
}

#[tokio::test]
async fn a_key_that_was_in_use_signs_as_soon_as_it_is_seen() {
    let house = House::new();
    let made = MadeKey::generate(Algorithm::Ed25519).expect("made");
    let selector = Selector::parse("mail").expect("a selector");
    let taken = house.ring.take_over(&domain("a.example"), &selector, &made, START).expect("taken");
    house.publish(&taken);
    assert_eq!(house.look(Duration::from_secs(1)).await.0, ["mail active"]);
    assert_eq!(house.signer().as_deref(), Some("mail"));
}

#[tokio::test]
async fn one_key_that_does_not_read_is_told_and_what_signs_goes_on() {
    use std::os::unix::fs::PermissionsExt as _;
    let house = House::new();
    let first = house.generate();
    house.publish(&first);
    house.look(TTL).await;
    house.look(TTL).await;
    let file = house.ring.key_file(&first.domain, &first.selector);
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).expect("set");
    let other = MadeKey::generate(Algorithm::Ed25519).expect("made");
    house.ring.add(&domain("b.example"), None, &[other], START).expect("added");
    let found = house.keeper.look().await.expect("looks");
    let told: Vec<(&str, &str)> =
        found.astray.iter().map(|(entry, why)| (entry.domain.as_str(), *why)).collect();
    assert_eq!(told, [("a.example", "unreadable")]);
    assert_eq!(house.signer().as_deref(), Some(first.selector.as_str()), "it was read before");
    assert_eq!(found.entries.len(), 2, "others are looked after all the same");
}

#[tokio::test]
async fn a_key_that_nobody_can_look_up_is_told() {
    let house = House::new();
    let first = house.generate();
    house.publish(&first);
    house.look(TTL).await;
    house.look(TTL).await;
    house.zone.put(&house.name(&first), Err(DnsError::ServerFailed));
    assert_eq!(house.look(TTL).await.1, 0, "once may happen");
    let found = house.keeper.look().await.expect("looks");
    assert!(matches!(&found.astray[..], [(_, "unanswered")]), "{:?}", found.astray);
    house.publish(&first);
    assert_eq!(house.look(TTL).await.1, 0);
}

#[tokio::test]
async fn what_is_retired_signs_no_more_though_the_dns_is_silent() {
    let house = House::new();
    let first = house.generate();
    house.publish(&first);
    house.look(TTL).await;
    house.look(TTL).await;
    assert!(house.signer().is_some());
    house.ring.retire((&first.domain, &first.selector), true, (house.clock.now(), KEEP)).expect("retired");
    house.zone.put(&house.name(&first), Err(DnsError::TimedOut));
    house.look(Duration::ZERO).await;
    assert_eq!(house.signer(), None);
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

#[tokio::test]
async fn a_sample_is_taken_when_one_is_wanted() {
    let house = House::new();
    let is_taken = |message: &[u8]| {
        house.keeper.offer_sample(message);
        house.keeper.has_sample()
    };
    assert!(!is_taken(b"From: x\r\n\r\nx\r\n"), "before the first look none is wanted");
    house.keeper.look().await.expect("looks");
    assert!(!is_taken(b"From: x\r\n\r\nx\r\n \r\n"), "the verifier takes that for another body");
    assert!(is_taken(b"From: x\r\n\r\nx \r\n\r\n"));
    house.keeper.look().await.expect("looks");
    assert!(!house.keeper.has_sample(), "it was judged");
    assert!(!is_taken(b"From : x\r\n\r\nx\r\n"), "the verifier does not find that field");
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
