use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::net::{DaneFault, DnsError, HttpsError, Pkix, PkixFault, Tlsa};
use crate::transport::{FetchError, NoPolicy, Policy, Sts, StsMode, Unproven};

const NOW: Timestamp = Timestamp::from_millis(1_795_132_800_000);

fn domain(name: &str) -> Domain {
    Domain::parse(name).expect("a name")
}

fn known(mode: StsMode) -> Sts {
    let policy = Policy { mode, mx: vec!["mx.example".into()], max_age: Duration::from_secs(86_400) };
    Sts::known("1", NOW, policy)
}

fn dane(is_usable: bool) -> Demand {
    let record = Tlsa { usage: 3, selector: 1, matching: 1, data: [0xab; 2].into() };
    let (base, records) = (domain("mx.example"), Arc::from([record]));
    if is_usable { Demand::Dane { base, records } } else { Demand::Unusable { base, records } }
}

/// What one session leaves: `kind domain [failure]` for each policy.
fn told(sts: &Sts, host: &str, demand: &Demand, ended: Ended<'_>) -> Vec<String> {
    let (tally, of) = (Tally::default(), domain("example"));
    let address = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    tally.note(NOW, Session { domain: &of, sts, host, address, from: None }, demand, ended);
    let (mut counted, lost) = tally.take();
    assert_eq!(lost, 0);
    let counts = counted.remove(&(Day::of(NOW), of)).expect("was counted");
    let line = |counts: &PolicyCounts| {
        let failures: Vec<&str> = counts.failures.iter().map(|count| count.failure.kind.as_str()).collect();
        let head = format!("{} {} {}", counts.policy.kind.as_str(), counts.policy.domain, counts.successful);
        [head].into_iter().chain(failures.iter().map(ToString::to_string)).collect::<Vec<_>>().join(" ")
    };
    counts.policies.iter().map(line).collect()
}

#[test]
fn each_session_counts_under_the_policy_that_it_was_judged_by() {
    let (none, enforce, testing) =
        (Sts::None(NoPolicy::NotPublished), known(StsMode::Enforce), known(StsMode::Testing));
    let (usual, by_sts) = (Demand::Opportunistic, Demand::Verified { is_sts: true });
    let untrusted = |fault| Unproven::Pkix { by: "MTA-STS", fault };
    let broken_fetch = Sts::None(NoPolicy::Fetch(FetchError::Status(404)));
    let untrusted_web = FetchError::Https(HttpsError::Untrusted(PkixFault::Expired));
    let untrusted_web = Sts::None(NoPolicy::Fetch(FetchError::Lately(Box::new(untrusted_web))));
    let malformed = Sts::None(NoPolicy::Malformed("it has no mode"));
    let (valid, wrong_name) = (Pkix::Valid, Pkix::Invalid(PkixFault::WrongName));
    let no_match = Unproven::Dane(DaneFault::NoMatch);
    let authority = Unproven::Dane(DaneFault::Authority(PkixFault::WrongName));
    for (sts, host, demand, ended, want) in [
        (&none, "mx.example", &usual, Ended::Secured(wrong_name), &["no-policy-found example 1"][..]),
        (
            &none,
            "mx.example",
            &usual,
            Ended::NoStartTls,
            &["no-policy-found example 0 starttls-not-supported"],
        ),
        (&none, "mx.example", &usual, Ended::Broken("x"), &["no-policy-found example 0 validation-failure"]),
        (&known(StsMode::None), "mx.example", &usual, Ended::Secured(valid), &["no-policy-found example 1"]),
        (&enforce, "mx.example", &by_sts, Ended::Secured(valid), &["sts example 1"]),
        (
            &enforce,
            "mx.example",
            &by_sts,
            Ended::Unproven(&untrusted(PkixFault::NotTrusted)),
            &["sts example 0 certificate-not-trusted"],
        ),
        (
            &enforce,
            "mx.example",
            &by_sts,
            Ended::Unproven(&Unproven::NoTls("MTA-STS")),
            &["sts example 0 starttls-not-supported"],
        ),
        (&testing, "mx.example", &usual, Ended::Secured(valid), &["sts example 1"]),
        (
            &testing,
            "mx.example",
            &usual,
            Ended::Secured(wrong_name),
            &["sts example 0 certificate-host-mismatch"],
        ),
        (
            &testing,
            "mx.other.example",
            &usual,
            Ended::Secured(valid),
            &["sts example 0 certificate-host-mismatch"],
        ),
        (&testing, "mx.example", &usual, Ended::NoStartTls, &["sts example 0 starttls-not-supported"]),
        (&enforce, "mx.example", &dane(true), Ended::Secured(wrong_name), &["tlsa mx.example 1"]),
        (
            &none,
            "mx.example",
            &dane(true),
            Ended::Unproven(&no_match),
            &["tlsa mx.example 0 validation-failure"],
        ),
        (
            &none,
            "mx.example",
            &dane(true),
            Ended::Unproven(&authority),
            &["tlsa mx.example 0 certificate-host-mismatch"],
        ),
        (&none, "mx.example", &dane(false), Ended::Secured(valid), &["tlsa mx.example 0 tlsa-invalid"]),
        (
            &broken_fetch,
            "mx.example",
            &usual,
            Ended::Secured(valid),
            &["no-policy-found example 1", "sts example 0 sts-policy-fetch-error"],
        ),
        (
            &untrusted_web,
            "mx.example",
            &dane(true),
            Ended::Secured(valid),
            &["tlsa mx.example 1", "sts example 0 sts-webpki-invalid"],
        ),
        (
            &malformed,
            "mx.example",
            &usual,
            Ended::Secured(valid),
            &["no-policy-found example 1", "sts example 0 sts-policy-invalid"],
        ),
    ] {
        assert_eq!(told(sts, host, demand, ended), want, "{sts} {demand} {ended:?}");
    }
}

#[test]
fn what_nobody_else_is_to_blame_for_is_not_told() {
    let (tally, of) = (Tally::default(), domain("example"));
    let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let session = Session { domain: &of, sts: &Sts::NotAsked, host: "mx.example", address, from: None };
    let untrusted = Unproven::Pkix { by: "verify", fault: PkixFault::NotTrusted };
    for (demand, fault) in [
        (Demand::Verified { is_sts: false }, &untrusted),
        (Demand::Fingerprint(Arc::default()), &Unproven::Fingerprint),
    ] {
        tally.note(NOW, session, &demand, Ended::Unproven(fault));
    }
    assert!(tally.take().0.is_empty(), "an operator's rule is not the domain's");
    tally.turn(false);
    tally.note(NOW, session, &Demand::Opportunistic, Ended::NoStartTls);
    assert!(tally.take().0.is_empty(), "nothing is counted");
    tally.turn(true);
    tally.note(NOW, session, &Demand::Encrypted, Ended::Unproven(&Unproven::NoTls("encrypted")));
    assert_eq!(tally.take().0.len(), 1);
}

#[test]
fn policies_are_told_as_they_were_published() {
    let (tally, of) = (Tally::default(), domain("example"));
    let none_listed = (known(StsMode::Enforce), Avoided::NoneListed);
    let bogus = (Sts::NotAsked, Avoided::Tlsa(&DnsError::Bogus));
    let late = (Sts::NotAsked, Avoided::Tlsa(&DnsError::TimedOut));
    for (sts, why) in [none_listed, bogus, late] {
        tally.avoid(NOW, &of, &sts, "mx.example", why);
    }
    let (counted, _) = tally.take();
    let [sts, tlsa] = &counted[&(Day::of(NOW), of)].policies[..] else { panic!("{counted:?}") };
    assert_eq!(sts.policy.strings, ["version: STSv1", "mode: enforce", "mx: mx.example", "max_age: 86400"]);
    assert_eq!(sts.policy.hosts, ["mx.example"]);
    assert_eq!(
        (&*tlsa.policy.domain, tlsa.failures[0].failure.kind),
        ("mx.example", FailureKind::DnssecInvalid)
    );
}

#[test]
fn what_nobody_wants_is_not_counted_and_what_is_put_back_adds_up() {
    let tally = Tally::default();
    let (wanted, unwanted) = (domain("wanted.example"), domain("unwanted.example"));
    let note = |of: &Domain, at| {
        let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let sts = &Sts::NotAsked;
        let session = Session { domain: of, sts, host: "mx.example", address, from: None };
        tally.note(at, session, &Demand::Opportunistic, Ended::Secured(Pkix::Valid));
    };
    tally.pass_over(Day::of(NOW), &unwanted);
    note(&unwanted, NOW);
    note(&wanted, NOW);
    let (counted, _) = tally.take();
    assert_eq!(counted.len(), 1);
    note(&wanted, NOW);
    tally.put_back(counted);
    let tomorrow = Day::of(NOW).end();
    note(&unwanted, tomorrow);
    let (counted, _) = tally.take();
    assert_eq!(counted[&(Day::of(NOW), wanted)].totals(), (2, 0));
    assert_eq!(counted[&(Day::of(tomorrow), unwanted)].totals(), (1, 0));
}

#[test]
fn memory_is_bounded_and_what_there_is_no_room_for_is_told() {
    let tally = Tally::default();
    for number in 0..DOMAINS_MAX + 7 {
        let of = domain(&format!("d{number}.example"));
        let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let session = Session { domain: &of, sts: &Sts::NotAsked, host: "mx.example", address, from: None };
        tally.note(NOW, session, &Demand::Opportunistic, Ended::NoStartTls);
    }
    let (counted, lost) = tally.take();
    assert_eq!((counted.len(), lost), (DOMAINS_MAX, 7));
    for number in 0..UNWANTED_MAX + 1 {
        tally.pass_over(Day::of(NOW), &domain(&format!("d{number}.example")));
    }
    assert!(tally.state().unwanted.len() <= UNWANTED_MAX);
}
