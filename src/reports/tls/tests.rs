//! Days of reports, on a clock set by hand.

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use mail_auth::report::tlsrpt::{PolicyType, ResultType, TlsReport};
use tokio::sync::watch;

use super::reporter::{ReportParts, ReportSettings, TlsReports, Waiting};
use crate::authentication::{Algorithm, Key, MadeKey, Selector, Signers};
use crate::clock::{Clock, ManualClock, Timestamp};
use crate::mail::{Address, Class, Domain, MessageId, MessageIds, ReversePath, TlsWish};
use crate::net::{ClientTls, Dial, Dialling, DnsError, Https, Maps, Pkix, Roots, TlsPolicy};
use crate::queue::{Leased, Leases, PageRequest, Turns};
use crate::store::{LossyDisk, MemoryIndex, MemoryLog, Store, WriterSettings};
use crate::transport::{Day, Demand, Ended, Session, Sts, Tally};
use crate::work::Live;

const HOUR: Duration = Duration::from_secs(3600);
/// Noon of 2026-11-20.
const NOON: Timestamp = Timestamp::from_millis(1_795_176_000_000);

/// Nobody is at the other end.
struct Nowhere;

impl Dial for Nowhere {
    fn dial(&self, _: SocketAddr) -> Dialling<'_> {
        Box::pin(std::future::ready(Err(io::ErrorKind::ConnectionRefused.into())))
    }
}

fn domain(name: &str) -> Domain {
    Domain::parse(name).expect("a name")
}

fn key(name: &str) -> Arc<Key> {
    let pem = MadeKey::generate(Algorithm::Ed25519).expect("is made").pem;
    Arc::new(Key::from_pem(domain(name), Selector::parse("s").expect("a name"), &pem).expect("reads"))
}

struct Bench {
    clock: ManualClock,
    dns: Arc<Maps>,
    store: Store,
    tally: Arc<Tally>,
    signers: Live<Signers>,
    ids: Arc<MessageIds>,
    stop: watch::Sender<bool>,
}

impl Bench {
    fn new() -> Self {
        let (log, disk, index) = (MemoryLog::new(), LossyDisk::new(), MemoryIndex::new());
        let parts = (Box::new(log), Arc::new(disk), Arc::new(index));
        let settings = WriterSettings::default();
        let opened = Store::open_on(parts.0, parts.1, parts.2, settings, Clock::System, Box::new(|_| {}));
        Bench {
            clock: ManualClock::at(NOON),
            dns: Arc::default(),
            store: opened.expect("opens").0,
            tally: Arc::default(),
            signers: Signers::new([key("example.org")], None).into(),
            ids: Arc::new(MessageIds::above(MessageId::from_u64(0))),
            stop: watch::channel(false).0,
        }
    }

    /// As after a start: nothing is known but what is in the store.
    fn reports(&self) -> Arc<TlsReports> {
        let clock = Clock::Manual(self.clock.clone());
        let tls = ClientTls::new(TlsPolicy::Verified, &Roots::public(), clock.clone()).expect("is made");
        let https = Https::new(self.dns.clone(), Arc::new(Nowhere), tls.into(), |_| true);
        Arc::new(TlsReports::new(ReportParts {
            tally: self.tally.clone(),
            store: self.store.clone(),
            resolver: self.dns.clone(),
            signers: self.signers.clone(),
            ids: self.ids.clone(),
            https,
            clock,
            settings: Some(self.settings()).into(),
        }))
    }

    fn settings(&self) -> ReportSettings {
        let from = Address::parse("tls-reports@relay.example.org").expect("an address");
        ReportSettings { from, organization: "Example".into(), contact: "us@example.org".into() }
    }

    fn wants(&self, name: &str, rua: &str) {
        self.dns.put_txt(&format!("_smtp._tls.{name}"), Ok(&format!("v=TLSRPTv1; rua={rua}")));
    }

    fn session(&self, name: &str, demand: &Demand, ended: Ended<'_>) {
        let (of, address) = (domain(name), IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)));
        let from = Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 9)));
        let session = Session { domain: &of, sts: &Sts::NotAsked, host: "mx.example", address, from };
        self.tally.note(self.clock.now(), session, demand, ended);
    }

    async fn write_down(&self, reports: &TlsReports) {
        reports.write_down(&self.stop.subscribe()).await.expect("is kept");
    }

    async fn send_due(&self, reports: &Arc<TlsReports>) {
        reports.send_due(&self.stop.subscribe()).await.expect("looks");
    }

    async fn waiting(&self, reports: &TlsReports) -> Vec<Waiting> {
        reports.waiting(None).await.expect("reads").0
    }

    /// What is queued for a domain, with its content.
    fn queued(&self, name: &str) -> Vec<Leased> {
        let request = PageRequest {
            domain: domain(name),
            now: Timestamp::from_millis(u64::MAX / 2),
            turns: Turns::default(),
            copies_max: 10,
            least: Class::Bulk,
            orders: Arc::default(),
            is_flush: false,
        };
        request.read(self.store.reader(), &Leases::default()).expect("reads").leased
    }
}

#[tokio::test]
async fn a_day_is_told_once_and_as_it_was() {
    let bench = Bench::new();
    bench.wants("a.example", "mailto:r@reports.example");
    let reports = bench.reports();
    for _ in 0..3 {
        bench.session("a.example", &Demand::Opportunistic, Ended::Secured(Pkix::Valid));
    }
    bench.session("b.example", &Demand::Opportunistic, Ended::NoStartTls);
    bench.write_down(&reports).await;
    // a start later, more of the same day; and none of it is due
    let reports = bench.reports();
    for ended in [Ended::NoStartTls, Ended::NoStartTls, Ended::Broken("no")] {
        bench.session("a.example", &Demand::Opportunistic, ended);
    }
    bench.write_down(&reports).await;
    bench.send_due(&reports).await;
    assert!(bench.queued("reports.example").is_empty());
    bench.clock.advance(12 * HOUR - Duration::from_secs(1));
    bench.session("a.example", &Demand::Opportunistic, Ended::Secured(Pkix::Valid));
    bench.clock.advance(Duration::from_secs(2));
    bench.session("a.example", &Demand::Opportunistic, Ended::Secured(Pkix::Valid));
    bench.write_down(&reports).await;
    let waiting = bench.waiting(&reports).await;
    let told: Vec<_> = waiting.iter().map(|one| (one.day.to_string(), one.counts.totals())).collect();
    assert_eq!(told, [("2026-11-20".to_owned(), (4, 3)), ("2026-11-21".to_owned(), (1, 0))]);
    assert!(waiting.iter().all(|one| one.domain == domain("a.example")), "who does not ask is not kept");
    bench.clock.advance(4 * HOUR);
    for reports in [&reports, &reports, &bench.reports()] {
        bench.send_due(reports).await;
    }
    let [sent] = &bench.queued("reports.example")[..] else { panic!("one report was to be sent") };
    let envelope = &sent.queued.envelope;
    assert_eq!((&envelope.reverse_path, envelope.tls), (&ReversePath::Null, TlsWish::Waived));
    let message = sent.body.clone().expect("is small");
    let text = String::from_utf8_lossy(&message);
    for line in [
        "DKIM-Signature: ",
        "From: <tls-reports@relay.example.org>\r\n",
        "To: <r@reports.example>\r\n",
        "Subject: Report Domain: a.example\r\n Submitter: relay.example.org\r\n Report-ID: <",
        "TLS-Report-Domain: a.example\r\n",
        "TLS-Report-Submitter: relay.example.org\r\n",
        "TLS-Required: No\r\n",
        "Content-Type: multipart/report; report-type=tlsrpt;\r\n",
        "filename=\"relay.example.org!a.example!1795132800!1795219199!",
    ] {
        assert!(text.contains(line), "{line} is missing in\n{text}");
    }
    let read = TlsReport::parse_rfc5322(&message, 1 << 20).expect("mail-auth reads it");
    let days = (read.date_range.start_datetime.to_rfc3339(), read.date_range.end_datetime.to_rfc3339());
    assert_eq!(days, ("2026-11-20T00:00:00Z".into(), "2026-11-20T23:59:59Z".into()));
    assert_eq!(read.organization_name.as_deref(), Some("Example"));
    assert_eq!(read.contact_info.as_deref(), Some("us@example.org"));
    let [policy] = &read.policies[..] else { panic!("{read:?}") };
    assert_eq!(policy.policy.policy_type, PolicyType::NoPolicyFound);
    assert_eq!((policy.summary.total_success, policy.summary.total_failure), (4, 3));
    let failures: Vec<_> =
        policy.failure_details.iter().map(|it| (it.result_type, it.failed_session_count)).collect();
    assert_eq!(failures, [(ResultType::StartTlsNotSupported, 2), (ResultType::ValidationFailure, 1)]);
    let ips = (policy.failure_details[0].sending_mta_ip, policy.failure_details[0].receiving_ip);
    assert_eq!(ips, ("192.0.2.9".parse().ok(), "192.0.2.1".parse().ok()));
    assert_eq!(bench.waiting(&reports).await.len(), 1, "today's alone is left");
}

#[tokio::test]
async fn nobody_reports_where_that_is_not_wanted_and_later_again() {
    let bench = Bench::new();
    bench.wants("a.example", "mailto:r@reports.example");
    let reports = bench.reports();
    bench.session("a.example", &Demand::Opportunistic, Ended::NoStartTls);
    bench.write_down(&reports).await;
    let settings = bench.settings();
    reports.change(None);
    bench.session("a.example", &Demand::Opportunistic, Ended::NoStartTls);
    bench.write_down(&reports).await;
    bench.clock.advance(16 * HOUR);
    bench.send_due(&reports).await;
    assert!(bench.queued("reports.example").is_empty());
    reports.change(Some(settings.clone()));
    bench.send_due(&reports).await;
    assert_eq!(bench.queued("reports.example").len(), 1);
    assert!(bench.waiting(&reports).await.is_empty());
    // what is days old is of no more use
    bench.session("a.example", &Demand::Opportunistic, Ended::NoStartTls);
    bench.write_down(&reports).await;
    reports.change(None);
    bench.clock.advance(100 * HOUR);
    bench.send_due(&reports).await;
    assert!(bench.waiting(&reports).await.is_empty());
    assert_eq!(bench.queued("reports.example").len(), 1);
}

#[tokio::test]
async fn a_record_that_names_others_each_time_is_not_followed() {
    let bench = Bench::new();
    let reports = bench.reports();
    bench.wants("a.example", "mailto:first@victim.example,https://gone.example/");
    bench.session("a.example", &Demand::Opportunistic, Ended::NoStartTls);
    bench.write_down(&reports).await;
    bench.clock.advance(16 * HOUR);
    for number in 0..80 {
        bench.wants("a.example", &format!("mailto:r{number}@victim.example,https://gone.example/"));
        bench.send_due(&reports).await;
        bench.clock.advance(HOUR / 4);
    }
    assert_eq!(bench.queued("victim.example").len(), 4);
}

#[tokio::test]
async fn only_keys_of_the_domain_that_reports_sign_and_those_to_come_are_waited_for() {
    let bench = Bench::new();
    bench.wants("a.example", "mailto:r@reports.example");
    let others = Signers::new([key("example.net")], Some(domain("example.net")));
    bench.signers.replace(others.and_coming([domain("example.org")]));
    let reports = bench.reports();
    bench.session("a.example", &Demand::Opportunistic, Ended::NoStartTls);
    bench.write_down(&reports).await;
    bench.clock.advance(16 * HOUR);
    bench.send_due(&reports).await;
    assert!(bench.queued("reports.example").is_empty(), "the fallback's key proves nothing of the submitter");
    assert_eq!(bench.waiting(&reports).await.len(), 1, "and its own is on its way");
}

#[tokio::test]
async fn each_report_has_a_time_of_its_own() {
    let bench = Bench::new();
    let reports = bench.reports();
    for number in 0..40 {
        let name = format!("d{number}.example");
        bench.wants(&name, "mailto:r@reports.example");
        bench.session(&name, &Demand::Opportunistic, Ended::NoStartTls);
    }
    bench.write_down(&reports).await;
    let waiting = bench.waiting(&reports).await;
    let midnight = Day::of(NOON).end();
    assert!(waiting.iter().all(|one| one.next >= midnight && one.next < midnight.after(4 * HOUR)));
    let hours: HashSet<u64> = waiting.iter().map(|one| one.next.as_secs() / 3600).collect();
    assert_eq!(hours.len(), 4);
}

#[tokio::test]
async fn what_fails_is_tried_again_for_a_day_and_nobody_hears_twice() {
    let bench = Bench::new();
    bench.wants("a.example", "https://gone.example/tls,mailto:r@reports.example");
    let reports = bench.reports();
    bench.session("a.example", &Demand::Opportunistic, Ended::NoStartTls);
    bench.write_down(&reports).await;
    bench.clock.advance(16 * HOUR);
    let mut looks = 0;
    while !bench.waiting(&reports).await.is_empty() {
        bench.send_due(&reports).await;
        bench.clock.advance(HOUR / 4);
        looks += 1;
        assert!(looks < 1000, "it is never given up");
        assert_eq!(bench.queued("reports.example").len(), 1);
    }
    assert!((60..150).contains(&looks), "{looks} quarters of an hour");
}

#[tokio::test]
async fn reports_by_mail_are_signed_or_not_sent_and_a_dead_dns_loses_nothing() {
    let bench = Bench::new();
    let name = "_smtp._tls.a.example";
    bench.dns.put_txt(name, Err(DnsError::ServerFailed));
    let reports = bench.reports();
    bench.session("a.example", &Demand::Opportunistic, Ended::NoStartTls);
    bench.write_down(&reports).await;
    bench.clock.advance(16 * HOUR);
    bench.send_due(&reports).await;
    assert_eq!(bench.waiting(&reports).await.len(), 1);
    bench.wants("a.example", "mailto:r@reports.example");
    bench.signers.replace(Signers::default());
    bench.clock.advance(HOUR);
    bench.send_due(&reports).await;
    assert!(bench.queued("reports.example").is_empty(), "nothing is sent unsigned");
    assert!(bench.waiting(&reports).await.is_empty(), "and it is not tried for ever");
}

#[tokio::test]
async fn a_stop_keeps_what_was_counted_without_asking_anybody() {
    let bench = Bench::new();
    let reports = bench.reports();
    let running = tokio::spawn(reports.clone().run(bench.stop.subscribe()));
    bench.stop.send(true).expect("it runs");
    running.await.expect("ends");
    // one that was opened before the stop
    bench.session("nobody-knows.example", &Demand::Opportunistic, Ended::NoStartTls);
    bench.write_down(&reports).await;
    assert_eq!(bench.waiting(&reports).await.len(), 1);
    // whoever wants nothing hears nothing
    bench.stop.send_replace(false);
    bench.clock.advance(16 * HOUR);
    bench.send_due(&bench.reports()).await;
    assert!(bench.waiting(&reports).await.is_empty());
}
