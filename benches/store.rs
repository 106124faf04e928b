//! The store on a real disk: group commit, settlements, and pages out of a line of a million.
//!
//! `cargo bench --bench store`; `cargo bench --bench store -- commit` leaves the long line unbuilt.
//! Everything is written below the target directory and removed at the end.

#![allow(clippy::expect_used, reason = "a bench that cannot set itself up has nothing better to do")]

use std::cell::OnceCell;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use barid::clock::{Clock, Timestamp};
use barid::mail::{Address, Class, ClientName, Domain, Envelope, MessageId, Recipient, ReversePath};
use barid::queue::{self, Leased, Leases, PageRequest, Turns};
use barid::store::{Batch, Haste, NewBody, Settings, Store};
use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput};
use tempfile::TempDir;
use tokio::runtime::Runtime;

const BODY_OCTETS: usize = 4 << 10;
const SMALL_BODY_OCTETS: usize = 128;
/// Copies settled in one iteration.
const SETTLED: u64 = 2000;
/// Copies queued with one commit while a line is built.
const ENQUEUED_AT_ONCE: u64 = 1000;
const PAGE_COPIES: usize = 100;
const LINE_ROWS: u64 = 1_000_000;
/// `cargo test` only looks whether benches work.
const LINE_ROWS_IN_TEST: u64 = 10_000;
/// All mail is due before this.
const NOW: Timestamp = Timestamp::from_millis(1 << 41);

/// A store in a directory of its own.
struct Home {
    store: Store,
    runtime: Arc<Runtime>,
    _dir: TempDir,
}

impl Home {
    fn new(runtime: &Arc<Runtime>) -> Self {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
        let opened =
            Store::open(dir.path(), Settings::default(), Clock::System, Box::new(|_| {}), &mut |_| {});
        Home { store: opened.expect("a store").0, runtime: runtime.clone(), _dir: dir }
    }

    /// Queues small messages with the ids `first..first + count`, all to one domain.
    fn enqueue(&self, first: u64, count: u64) {
        let (sender, to) = (address("news@example.org"), address("someone@d.example"));
        let client = ClientName::parse("apps").expect("a name");
        let body = NewBody::Octets(Bytes::from(vec![b'x'; SMALL_BODY_OCTETS]));
        for start in (first..first + count).step_by(ENQUEUED_AT_ONCE as usize) {
            let mut batch = Batch::new();
            for number in start..(first + count).min(start + ENQUEUED_AT_ONCE) {
                let due = Timestamp::from_millis(number);
                let envelope = Envelope {
                    size_octets: SMALL_BODY_OCTETS as u64,
                    ..Envelope::plain(
                        MessageId::from_u64(number),
                        client.clone(),
                        ReversePath::Address(sender.clone()),
                        vec![Recipient::plain(to.clone())],
                        due,
                    )
                };
                queue::enqueue(&mut batch, vec![(envelope, due)], body.clone(), NOW);
            }
            self.runtime.block_on(self.store.commit(batch)).expect("commits");
        }
    }

    /// Up to `copies_max` copies behind a place in the line, and where the next ones stand.
    fn page(&self, turns: Turns, copies_max: usize, leases: &Leases) -> (Vec<Leased>, Turns) {
        let domain = Domain::parse("d.example").expect("a domain");
        let request = PageRequest {
            domain,
            now: NOW,
            turns,
            copies_max,
            least: Class::Bulk,
            orders: Default::default(),
            is_flush: false,
        };
        let page = request.read(self.store.reader(), leases).expect("reads");
        assert!(page.damaged.is_empty(), "what was written is read back");
        (page.leased, page.turns)
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        self.store.close().expect("closes");
    }
}

fn address(text: &str) -> Address {
    Address::parse(text).expect("an address")
}

/// So many rows, one after the other: each commit inserts a row with a body and deletes the one before.
async fn commit_in_turn(store: Store, committer: u64, first: u64, rounds: u64) {
    let key = |round: u64| [b"x".as_slice(), &committer.to_be_bytes(), &round.to_be_bytes()].concat();
    let body = Bytes::from(vec![b'x'; BODY_OCTETS]);
    for round in first..first + rounds {
        let mut batch = Batch::new();
        batch.insert(key(round), Bytes::new(), Some(NewBody::Octets(body.clone())));
        batch.delete(key(round.wrapping_sub(1)));
        store.commit(batch).await.expect("commits");
    }
}

/// Messages a second that are made durable while so many clients wait for their answers.
fn group_commit(criterion: &mut Criterion, runtime: &Arc<Runtime>) {
    let home = OnceCell::new();
    let mut group = criterion.benchmark_group("commit");
    group.sampling_mode(SamplingMode::Flat);
    let mut done = 0;
    for committers in [1, 16, 64, 256_u64] {
        group.throughput(Throughput::Elements(committers));
        group.bench_function(BenchmarkId::new("insert_delete_4KiB", committers), |bencher| {
            let home: &Home = home.get_or_init(|| Home::new(runtime));
            bencher.iter_custom(|rounds| {
                let first = done;
                done += rounds;
                let started = Clock::System.instant();
                runtime.block_on(async {
                    let task = |committer| commit_in_turn(home.store.clone(), committer, first, rounds);
                    let tasks: Vec<_> =
                        (0..committers).map(|committer| runtime.spawn(task(committer))).collect();
                    for task in tasks {
                        task.await.expect("a committer ends well");
                    }
                });
                started.elapsed()
            });
        });
    }
    group.finish();
}

/// Removes delivered copies as a session does: nobody waits for one, a lease lasts until it is durable.
async fn settle(store: &Store, delivered: Vec<Leased>) {
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let count = delivered.len();
    for leased in delivered {
        let mut batch = Batch::new();
        queue::remove(&mut batch, &leased.queued);
        let tell = tell.clone();
        let done = Box::new(move |result: Result<u64, _>| {
            drop(leased);
            let _ = tell.send(result.is_ok());
        });
        store.submit(batch, Haste::Soon, done).await.expect("is taken");
    }
    for _ in 0..count {
        assert_eq!(told.recv().await, Some(true), "every settlement becomes durable");
    }
}

/// Deliveries a second that are settled.
fn settlements(criterion: &mut Criterion, runtime: &Arc<Runtime>) {
    let home = OnceCell::new();
    let mut group = criterion.benchmark_group("settle");
    group.sampling_mode(SamplingMode::Flat).throughput(Throughput::Elements(SETTLED));
    let mut next_id = 1;
    group.bench_function("delivered", |bencher| {
        let home: &Home = home.get_or_init(|| Home::new(runtime));
        bencher.iter_custom(|rounds| {
            let count = rounds * SETTLED;
            home.enqueue(next_id, count);
            next_id += count;
            let (delivered, _) = home.page(Turns::default(), count as usize, &Leases::default());
            assert_eq!(delivered.len() as u64, count, "all that was queued is found");
            let started = Clock::System.instant();
            runtime.block_on(settle(&home.store, delivered));
            started.elapsed()
        });
    });
    group.finish();
}

/// A line of many copies, and the place in its middle.
fn long_line(runtime: &Arc<Runtime>) -> (Home, Turns) {
    let is_bench = std::env::args().any(|argument| argument == "--bench");
    let rows = if is_bench { LINE_ROWS } else { LINE_ROWS_IN_TEST };
    let home = Home::new(runtime);
    home.enqueue(1, rows);
    assert_eq!(queue::count(home.store.reader()).expect("counts"), rows);
    let leases = Leases::default();
    let mut middle = Turns::default();
    for _ in 0..rows / 2 / ENQUEUED_AT_ONCE {
        middle = home.page(middle, ENQUEUED_AT_ONCE as usize, &leases).1;
    }
    (home, middle)
}

/// A page out of the line, wherever it is, must cost the same.
fn paging(criterion: &mut Criterion, runtime: &Arc<Runtime>) {
    let line = OnceCell::new();
    let mut group = criterion.benchmark_group("page");
    group.throughput(Throughput::Elements(PAGE_COPIES as u64));
    for (place, is_deep) in [("head_of_1M", false), ("middle_of_1M", true)] {
        group.bench_function(place, |bencher| {
            let (home, middle) = line.get_or_init(|| long_line(runtime));
            let after = if is_deep { middle.clone() } else { Turns::default() };
            let leases = Leases::default();
            bencher.iter(|| {
                let (leased, _) = home.page(black_box(after.clone()), PAGE_COPIES, &leases);
                assert_eq!(leased.len(), PAGE_COPIES, "the line is longer than a page");
            });
        });
    }
    group.finish();
}

// by hand: criterion's macros make public functions without documentation
fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(3))
        .sample_size(10)
        .configure_from_args();
    let runtime = Arc::new(Runtime::new().expect("a runtime"));
    group_commit(&mut criterion, &runtime);
    settlements(&mut criterion, &runtime);
    paging(&mut criterion, &runtime);
    criterion.final_summary();
}
