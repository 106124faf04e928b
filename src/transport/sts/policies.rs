//! The policies that are known, and when they are asked for.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::fetch::{FetchError, Fetches};
use super::policy::Policy;
use super::shelf::Shelf;
use super::{Kept, NoPolicy, Sts, record, record_name};
use crate::clock::{Clock, Timestamp};
use crate::mail::Domain;
use crate::net::Resolver;

/// Policies in memory; each is some 500 octets, and never more than 16 KiB.
const POLICIES_MAX: usize = 20_000;
/// A policy is read again after a day, or half of its time (RFC 8461 3.3).
const READ_AGAIN_AFTER: Duration = Duration::from_secs(86_400);
/// A domain whose policy could not be read is left alone for so long (RFC 8461 3.3).
const LEFT_ALONE: Duration = Duration::from_secs(300);

/// What could not be read lately.
struct Failed {
    until: Timestamp,
    why: NoPolicy,
}

#[derive(Default)]
struct Known {
    kept: HashMap<Domain, Arc<Kept>>,
    failed: HashMap<Domain, Failed>,
}

/// The policies of all domains.
pub struct Policies {
    fetcher: Arc<dyn Fetches>,
    clock: Clock,
    shelf: Option<Shelf>,
    known: Mutex<Known>,
}

impl Policies {
    /// Those that a directory keeps, where one is given, and those that are fetched from now on.
    pub(in crate::transport) fn new(
        fetcher: Arc<dyn Fetches>,
        clock: Clock,
        directory: Option<&Path>,
    ) -> Self {
        let shelf = directory.map(Shelf::at);
        let kept = shelf.as_ref().map(Shelf::all).unwrap_or_default().into_iter().take(POLICIES_MAX);
        let kept = kept.map(|(domain, kept)| (domain, Arc::new(kept))).collect();
        Policies { fetcher, clock, shelf, known: Mutex::new(Known { kept, failed: HashMap::new() }) }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The one that holds for a domain, from what was read before.
    pub fn good(&self, domain: &Domain) -> Option<Arc<Kept>> {
        let now = self.clock.shown();
        self.known().kept.get(domain).filter(|kept| kept.is_good(now)).cloned()
    }

    /// How many hold.
    pub fn count(&self) -> usize {
        self.known().kept.len()
    }

    /// The policy of a domain now. It is fetched where its record names a version that was not read yet, and now
    /// and again; that takes as long as its web server takes, up to half a minute.
    pub async fn find(&self, resolver: &dyn Resolver, domain: &Domain) -> Sts {
        let good = self.good(domain);
        let id = match published(resolver, domain).await {
            Ok(id) => id,
            // who can suppress an answer cannot end a policy (RFC 8461 3.3, 10.2)
            Err(why) => return good.map_or(Sts::None(why), Sts::Known),
        };
        let now = self.clock.shown();
        match good {
            Some(good) if good.id == id && !is_old(&good, now) => Sts::Known(good),
            good => match self.read(domain, id).await {
                Ok(kept) => Sts::Known(kept),
                Err(why) => good.map_or(Sts::None(why), Sts::Known),
            },
        }
    }

    /// Reads those again that have grown old, and forgets those whose time is over.
    pub async fn tend(&self, resolver: &dyn Resolver) {
        let now = self.clock.shown();
        let (over, old): (Vec<_>, Vec<_>) = {
            let mut known = self.known();
            known.failed.retain(|_, failed| now < failed.until);
            let over: Vec<Domain> =
                known.kept.iter().filter(|(_, kept)| !kept.is_good(now)).map(first).collect();
            over.iter().for_each(|domain| drop(known.kept.remove(domain)));
            (over, known.kept.iter().filter(|(_, kept)| is_old(kept, now)).map(first).collect())
        };
        for domain in over {
            self.on_shelf(move |shelf| shelf.remove(&domain)).await;
        }
        for domain in old {
            self.find(resolver, &domain).await;
        }
    }

    /// Fetches a policy, unless that failed a short time ago.
    async fn read(&self, domain: &Domain, id: Box<str>) -> Result<Arc<Kept>, NoPolicy> {
        let now = self.clock.shown();
        if let Some(failed) = self.known().failed.get(domain)
            && now < failed.until
        {
            return Err(match failed.why.clone() {
                NoPolicy::Fetch(why) => NoPolicy::Fetch(FetchError::Lately(Box::new(why))),
                why => why,
            });
        }
        let fetched = self.fetcher.fetch(domain).await.map_err(NoPolicy::Fetch);
        let read = fetched.and_then(|text| Ok((Policy::parse(&text)?, text)));
        match read {
            Ok((policy, text)) => Ok(self.keep(domain, Kept { id, read: now, policy }, text).await),
            Err(why) => {
                tracing::info!(event = "policy_not_read", domain = %domain, why = %why);
                let mut known = self.known();
                if known.failed.len() >= POLICIES_MAX {
                    known.failed.clear();
                }
                let failed = Failed { until: now.after(LEFT_ALONE), why: why.clone() };
                known.failed.insert(domain.clone(), failed);
                Err(why)
            }
        }
    }

    async fn keep(&self, domain: &Domain, kept: Kept, text: Vec<u8>) -> Arc<Kept> {
        tracing::info!(event = "policy_read", domain = %domain, id = &*kept.id, mode = kept.policy.mode.as_str());
        let kept = Arc::new(kept);
        let is_room = {
            let mut known = self.known();
            known.failed.remove(domain);
            let is_room = known.kept.len() < POLICIES_MAX || known.kept.contains_key(domain);
            if is_room {
                known.kept.insert(domain.clone(), kept.clone());
            }
            is_room
        };
        if !is_room {
            tracing::warn!(event = "policy_not_kept", domain = %domain, why = "so many are kept already");
            return kept;
        }
        let (domain, written) = (domain.clone(), kept.clone());
        self.on_shelf(move |shelf| {
            if let Err(error) = shelf.put(&domain, &written, &text) {
                tracing::error!(event = "policy_not_kept", domain = %domain, error = %error);
            }
        })
        .await;
        kept
    }

    /// Does something with the disk, off the task's thread.
    async fn on_shelf(&self, with: impl FnOnce(&Shelf) + Send + 'static) {
        if let Some(shelf) = self.shelf.clone() {
            // fails where the process ends, and then nobody waits for it
            let _ = tokio::task::spawn_blocking(move || with(&shelf)).await;
        }
    }
}

fn first<T>((domain, _): (&Domain, T)) -> Domain {
    domain.clone()
}

fn is_old(kept: &Kept, now: Timestamp) -> bool {
    now.since(kept.read) >= READ_AGAIN_AFTER.min(kept.policy.max_age / 2)
}

/// The version that a domain's record names.
async fn published(resolver: &dyn Resolver, domain: &Domain) -> Result<Box<str>, NoPolicy> {
    let name = record_name(domain).ok_or(NoPolicy::NotPublished)?;
    match resolver.txt(&name).await {
        Ok(txt) => record::version(txt.texts.iter().map(|text| &**text)),
        Err(error) if error.is_denial() => Err(NoPolicy::NotPublished),
        Err(error) => Err(NoPolicy::Dns(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::fetch::Fetching;
    use super::super::policy::Mode;
    use super::*;
    use crate::clock::ManualClock;
    use crate::net::{DnsError, HttpsError, Lookup, Mx, Txt};
    use std::future::{Future, ready};
    use std::net::IpAddr;
    use std::pin::Pin;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// A domain's DNS and web server, which say what a test wants.
    struct Domains {
        txt: Mutex<Result<&'static str, DnsError>>,
        served: Mutex<Result<&'static str, FetchError>>,
        fetches: AtomicUsize,
    }

    impl Domains {
        fn new() -> Arc<Self> {
            Arc::new(Domains {
                txt: Mutex::new(Err(DnsError::NoRecords)),
                served: Mutex::new(Err(FetchError::Status(404))),
                fetches: AtomicUsize::new(0),
            })
        }

        fn publish(&self, txt: Result<&'static str, DnsError>, served: Result<&'static str, FetchError>) {
            *self.txt.lock().expect("is whole") = txt;
            *self.served.lock().expect("is whole") = served;
        }
    }

    impl Fetches for Arc<Domains> {
        fn fetch<'a>(&'a self, _: &'a Domain) -> Fetching<'a> {
            self.fetches.fetch_add(1, Ordering::SeqCst);
            let served = self.served.lock().expect("is whole").clone();
            Box::pin(ready(served.map(|text| text.as_bytes().to_vec())))
        }
    }

    impl Resolver for Domains {
        fn mx<'a>(&'a self, _: &'a Domain) -> Lookup<'a, Vec<Mx>> {
            Box::pin(ready(Err(DnsError::NoRecords)))
        }

        fn addresses<'a>(&'a self, _: &'a Domain) -> Lookup<'a, Vec<IpAddr>> {
            Box::pin(ready(Err(DnsError::NoRecords)))
        }

        fn txt<'a>(&'a self, name: &'a Domain) -> Lookup<'a, Txt> {
            assert_eq!(name.as_str(), "_mta-sts.example.org");
            let txt = self.txt.lock().expect("is whole").clone();
            let txt =
                txt.map(|text| Txt { texts: vec![text.as_bytes().into()], ttl: Duration::from_secs(60) });
            Box::pin(ready(txt))
        }

        fn uncached(&self) -> &dyn Resolver {
            self
        }

        fn answers_above<'a>(&'a self, _: &'a Domain) -> Pin<Box<dyn Future<Output = bool> + Send + 'a>> {
            Box::pin(ready(true))
        }
    }

    const DAY: Duration = Duration::from_secs(86_400);
    const ENFORCE: &str = "version: STSv1\nmode: enforce\nmx: *.example.org\nmax_age: 604800\n";
    const NONE: &str = "version: STSv1\nmode: none\nmax_age: 86400\n";

    struct Bench {
        domains: Arc<Domains>,
        clock: ManualClock,
        dir: tempfile::TempDir,
        domain: Domain,
    }

    impl Bench {
        fn new() -> Self {
            Bench {
                domains: Domains::new(),
                clock: ManualClock::at(Timestamp::from_millis(1_893_456_000_000)),
                dir: tempfile::tempdir().expect("a directory"),
                domain: Domain::parse("example.org").expect("a name"),
            }
        }

        fn policies(&self) -> Policies {
            let clock = Clock::Manual(self.clock.clone());
            Policies::new(Arc::new(self.domains.clone()), clock, Some(self.dir.path()))
        }

        async fn mode(&self, policies: &Policies) -> Option<Mode> {
            policies.find(&*self.domains, &self.domain).await.policy().map(|policy| policy.mode)
        }

        fn fetches(&self) -> usize {
            self.domains.fetches.load(Ordering::SeqCst)
        }
    }

    #[tokio::test]
    async fn a_policy_holds_whatever_becomes_of_its_domain_until_it_runs_out() {
        let bench = Bench::new();
        let policies = bench.policies();
        assert_eq!(bench.mode(&policies).await, None);
        assert_eq!(bench.fetches(), 0, "there is no record");
        bench.domains.publish(Ok("v=STSv1; id=1"), Ok(ENFORCE));
        assert_eq!(bench.mode(&policies).await, Some(Mode::Enforce));
        assert_eq!(bench.mode(&policies).await, Some(Mode::Enforce));
        assert_eq!(bench.fetches(), 1, "one version is read once");
        let failures = [
            (Err(DnsError::NoRecords), Err(FetchError::Https(HttpsError::TimedOut))),
            (Err(DnsError::TimedOut), Err(FetchError::Https(HttpsError::TimedOut))),
            (Ok("v=STSv1; id="), Ok(ENFORCE)),
            (Ok("v=STSv1; id=2"), Err(FetchError::Status(404))),
            (Ok("v=STSv1; id=3"), Ok("no policy")),
        ];
        for (txt, served) in failures {
            bench.domains.publish(txt, served);
            assert_eq!(bench.mode(&policies).await, Some(Mode::Enforce));
            assert_eq!(bench.mode(&bench.policies()).await, Some(Mode::Enforce), "after a restart");
        }
        bench.clock.advance(7 * DAY - Duration::from_secs(1));
        assert_eq!(bench.mode(&policies).await, Some(Mode::Enforce));
        bench.clock.advance(Duration::from_secs(1));
        assert_eq!(bench.mode(&policies).await, None);
    }

    #[tokio::test]
    async fn a_new_version_takes_the_old_ones_place() {
        let bench = Bench::new();
        let policies = bench.policies();
        bench.domains.publish(Ok("v=STSv1; id=1"), Ok(ENFORCE));
        assert_eq!(bench.mode(&policies).await, Some(Mode::Enforce));
        bench.domains.publish(Ok("v=STSv1; id=2"), Ok(NONE));
        assert_eq!(bench.mode(&policies).await, Some(Mode::None));
        let again = bench.policies();
        assert_eq!(again.good(&bench.domain).map(|kept| kept.policy.mode), Some(Mode::None));
    }

    #[tokio::test]
    async fn what_fails_is_left_alone_for_a_while() {
        let bench = Bench::new();
        let policies = bench.policies();
        bench.domains.publish(Ok("v=STSv1; id=1"), Err(FetchError::Status(404)));
        for _ in 0..3 {
            assert_eq!(bench.mode(&policies).await, None);
        }
        assert_eq!(bench.fetches(), 1);
        bench.domains.publish(Ok("v=STSv1; id=2"), Ok(ENFORCE));
        assert_eq!(bench.mode(&policies).await, None);
        assert_eq!(bench.fetches(), 1, "whatever its version");
        bench.clock.advance(LEFT_ALONE);
        bench.domains.publish(Ok("v=STSv1; id=2"), Ok(ENFORCE));
        assert_eq!(bench.mode(&policies).await, Some(Mode::Enforce));
    }

    #[tokio::test]
    async fn policies_are_read_again_before_they_run_out_and_forgotten_after() {
        let bench = Bench::new();
        let policies = bench.policies();
        bench.domains.publish(Ok("v=STSv1; id=1"), Ok(ENFORCE));
        assert_eq!(bench.mode(&policies).await, Some(Mode::Enforce));
        for day in 1..=20 {
            bench.clock.advance(DAY);
            policies.tend(&*bench.domains).await;
            assert_eq!(bench.fetches(), 1 + day, "day {day}");
        }
        bench.domains.publish(Err(DnsError::NoRecords), Err(FetchError::Status(404)));
        bench.clock.advance(8 * DAY);
        policies.tend(&*bench.domains).await;
        assert_eq!(policies.count(), 0);
        assert_eq!(std::fs::read_dir(bench.dir.path()).expect("is there").count(), 0);
    }
}
