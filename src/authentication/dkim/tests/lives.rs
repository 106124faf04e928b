//! Whole lives of keys: a ring, a DNS, and a clock that is moved by hand.

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::clock::{Clock, ManualClock};

const DAY: Duration = Duration::from_secs(86_400);
const KEEP: Duration = Duration::from_secs(12 * 86_400);

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
