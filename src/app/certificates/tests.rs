//! What becomes of certificates when time passes and things fail.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::app::config::Config;
use crate::clock::{Clock, ManualClock};
use crate::net::{ClientTls, Dial, Dialling, Https, Maps, Roots, TlsPolicy};

const DAY: Duration = Duration::from_secs(86_400);

fn shown(origin: Origin) -> Shown {
    let described = Described {
        names: vec!["mx.example.org".into()],
        title: "mx.example.org".into(),
        not_before: Timestamp::from_millis(0),
        not_after: Timestamp::from_millis(0).after(90 * DAY),
        key_digest: String::new(),
    };
    let identity = Identity::unkept("mx.example.org").expect("is made");
    let ordered = Domain::parse("mx.example.org").ok().filter(|_| origin != Origin::File);
    Shown { origin, file: PathBuf::new(), ordered, described, identity }
}

#[test]
fn two_thirds_of_a_life_are_used_and_a_late_end_is_told() {
    let acme = shown(Origin::Acme { directory: String::new() });
    assert_eq!(acme.renew_at(), Some(Timestamp::from_millis(0).after(60 * DAY)));
    let told = |shown: &Shown, day: u32| shown.ailment(Timestamp::from_millis(0).after(day * DAY));
    for (day, want) in [(0, None), (82, None), (83, Some("expires at")), (90, Some("has expired"))] {
        for shown in [&acme, &shown(Origin::File)] {
            let told = told(shown, day);
            assert_eq!(told.is_some(), want.is_some(), "{told:?}");
            assert!(told.is_none_or(|told| told.contains(want.unwrap_or_default())));
        }
    }
    assert_eq!(shown(Origin::File).renew_at(), None);
    let stand_in = shown(Origin::SelfSigned);
    assert_eq!(told(&stand_in, 0).as_deref(), Some("mx.example.org has no certificate yet"));
    assert_eq!(told(&Shown { ordered: None, ..stand_in }, 0), None, "it is meant so");
}

/// An authority that cannot be reached, or says nothing; and how often it was tried.
#[derive(Default)]
struct Nobody {
    is_silent: bool,
    tries: AtomicUsize,
}

impl Dial for Nobody {
    fn dial(&self, _: SocketAddr) -> Dialling<'_> {
        self.tries.fetch_add(1, Ordering::SeqCst);
        match self.is_silent {
            true => Box::pin(std::future::pending()),
            false => Box::pin(std::future::ready(Err(io::ErrorKind::ConnectionRefused.into()))),
        }
    }
}

/// Shows nothing.
struct Blind;

impl Shows for Blind {
    fn show(&self) -> Showing<'_> {
        Box::pin(std::future::ready(Ok(())))
    }
}

struct Bench {
    clock: ManualClock,
    authority: Arc<Nobody>,
    dir: tempfile::TempDir,
}

impl Bench {
    fn new(is_silent: bool) -> Self {
        Bench {
            clock: ManualClock::at(Timestamp::from_millis(1_795_132_800_000)),
            authority: Arc::new(Nobody { is_silent, ..Nobody::default() }),
            dir: tempfile::tempdir().expect("a directory"),
        }
    }

    fn config(&self, more: &str) -> Config {
        let text = format!(
            "hostname = \"relay.example.org\"\ndata_dir = \"{}\"\n[[listener]]\nrole = \"relay\"\n\
             address = \"127.0.0.1:2525\"\n[[client]]\nname = \"apps\"\nnetworks = [\"127.0.0.0/8\"]\n\
             sender_domains = [\"*\"]\n[acme]\ndirectory = \"https://127.0.0.1:1/\"\nlisten = \"127.0.0.1:0\"\n\
             domains = [\"mx.example.org\"]\n{more}",
            self.dir.path().display()
        );
        Config::parse("test", &text).expect("no faults")
    }

    /// As after a start.
    fn keeper(&self) -> CertificateKeeper {
        let clock = Clock::Manual(self.clock.clone());
        let tls = ClientTls::new(TlsPolicy::Verified, &Roots::public(), clock.clone()).expect("is made");
        let https = Https::new(Arc::new(Maps::default()), self.authority.clone(), tls.into(), |_| true);
        let gathered = gather(&self.config(""), &[]).expect("are there");
        CertificateKeeper::new(&self.config(""), KeeperParts { clock, https, gathered })
    }

    fn tries(&self) -> usize {
        self.authority.tries.load(Ordering::SeqCst)
    }
}

fn name() -> Domain {
    Domain::parse("mx.example.org").expect("a name")
}

const BY_KEEPER: (Asker, bool) = (Asker::Keeper, false);

#[tokio::test]
async fn what_failed_is_waited_after_and_a_start_changes_nothing_of_that() {
    let bench = Bench::new(false);
    let keeper = bench.keeper();
    assert!(keeper.due(&name()).is_some_and(|due| due <= bench.clock.now()));
    let told = keeper.renew(&name(), BY_KEEPER, &Blind).await.expect_err("nobody is there");
    assert!(told.contains("connecting to 127.0.0.1"), "{told}");
    assert_eq!(keeper.ailments(), [format!("mx.example.org has no certificate yet: {told}")]);
    let next = keeper.due(&name()).expect("is wanted");
    assert_eq!(next, bench.clock.now().after(Duration::from_secs(60)));
    for keeper in [&keeper, &bench.keeper()] {
        assert_eq!(keeper.due(&name()), Some(next));
        assert_eq!(keeper.renew(&name(), BY_KEEPER, &Blind).await, Ok(()), "it is not due");
    }
    assert_eq!(bench.tries(), 1);
    // an operator does not wait
    let asked = keeper.renew(&name(), (Asker::Operator, false), &Blind).await;
    assert_eq!((asked, bench.tries()), (Err(told), 2));
    // nor whoever has mended the settings
    let other = bench.config("email = \"postmaster@example.org\"\n");
    keeper.change(&other, gather(&other, &[]).expect("are there"));
    assert!(keeper.due(&name()).is_some_and(|due| due <= bench.clock.now()));
    let none =
        Config { acme: AcmeSettings { domains: Vec::new(), ..other.acme.clone() }, ..bench.config("") };
    keeper.change(&none, gather(&none, &[]).expect("are there"));
    assert_eq!(keeper.due(&name()), None);
    let told = keeper.renew(&name(), (Asker::Operator, false), &Blind).await.expect_err("is not wanted");
    assert!(told.contains("none of acme.domains") && bench.tries() == 2, "{told}");
}

#[tokio::test]
async fn an_order_that_is_broken_off_was_one() {
    let bench = Bench::new(true);
    let (keeper, name) = (bench.keeper(), name());
    tokio::select! {
        ended = keeper.renew(&name, BY_KEEPER, &Blind) => panic!("{ended:?}"),
        () = async { while bench.tries() == 0 { tokio::task::yield_now().await } } => {}
    }
    let again = bench.keeper();
    assert!(again.due(&name).is_some_and(|due| due > bench.clock.now()));
    assert!(again.trouble(&name).is_some_and(|trouble| trouble.error.contains("did not end")));
}

#[tokio::test]
async fn where_nothing_can_be_kept_nothing_is_ordered() {
    let bench = Bench::new(false);
    let keeper = bench.keeper();
    std::fs::write(bench.dir.path().join("acme"), "in the way").expect("writes");
    for _ in 0..3 {
        let told = keeper.renew(&name(), (Asker::Operator, false), &Blind).await.expect_err("cannot be kept");
        assert!(told.contains("nothing is ordered"), "{told}");
    }
    assert_eq!(bench.tries(), 0);
    assert!(keeper.due(&name()).is_some_and(|due| due > bench.clock.now()), "it is not tried all the time");
}
