//! The running store, threads and all, on parts that fail.

use std::ops::Bound;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::*;

/// An index that takes nothing in while it is told to fail.
#[derive(Clone, Default)]
struct Moody {
    index: MemoryIndex,
    fails: Arc<AtomicBool>,
    /// Whether opening it anew takes it back to the beginning.
    forgets: Arc<AtomicBool>,
    /// Whether it is too damaged to be opened anew.
    is_damaged: Arc<AtomicBool>,
    /// A disk on which it finds room only where so few pieces of ballast are left.
    cramped: Arc<Mutex<Option<(LossyDisk, usize)>>>,
}

impl Moody {
    fn has_room(&self) -> Result<(), StoreError> {
        let pieces = |disk: &LossyDisk| {
            disk.list("log").expect("lists").iter().filter(|name| name.contains("ballast")).count()
        };
        let cramped = self.cramped.lock().expect("not poisoned");
        if cramped.as_ref().is_some_and(|(disk, most)| pieces(disk) > *most) {
            return Err(StoreError::Full);
        }
        Ok(())
    }
}

impl Index for Moody {
    fn get(&self, key: &[u8]) -> Result<Option<Row>, StoreError> {
        self.index.get(key)
    }

    fn scan(&self, from: Bound<&[u8]>, to: Bound<&[u8]>, limit: usize) -> Result<Rows, StoreError> {
        self.index.scan(from, to, limit)
    }

    fn last(&self, from: Bound<&[u8]>, to: Bound<&[u8]>) -> Result<Option<(Key, Row)>, StoreError> {
        self.index.last(from, to)
    }

    fn take_in(&self, table: &MemtableRef<'_>, marker: &Marker) -> Result<(), StoreError> {
        if self.fails.load(Ordering::SeqCst) {
            return Err(StoreError::Index("as planned".into()));
        }
        self.has_room()?;
        self.index.take_in(table, marker)
    }

    fn marker(&self) -> Result<Option<Marker>, StoreError> {
        self.index.marker()
    }

    fn checkpoint(&self) -> Result<(), StoreError> {
        self.index.checkpoint()
    }

    fn reopen(&self) -> Result<(), StoreError> {
        if self.is_damaged.load(Ordering::SeqCst) {
            return Err(StoreError::damaged("as planned"));
        }
        if self.forgets.load(Ordering::SeqCst) {
            self.index.forget();
        }
        self.has_room()
    }
}

/// A store whose tables are frozen at every kilobyte.
fn store(log: MemoryLog, index: Moody) -> Store {
    let settings = WriterSettings { memtable_octets: 1024, ..WriterSettings::default() };
    let (log, disk, index) = (Box::new(log), Arc::new(LossyDisk::new()), Arc::new(index));
    Store::open_on(log, disk, index, settings, Clock::System, Box::new(|_| {})).expect("opens").0
}

fn row(number: u32) -> Batch {
    let mut batch = Batch::new();
    batch.insert([&b"m"[..], &number.to_be_bytes()].concat(), vec![0; 100], None);
    batch
}

/// Tries until the answer is what is waited for; gives the rows that were acknowledged.
async fn put_until(store: &Store, from: u32, wanted: impl Fn(&Result<u64, StoreError>) -> bool) -> Vec<u32> {
    let mut acknowledged = Vec::new();
    let tried = tokio::time::timeout(Duration::from_secs(20), async {
        for number in from.. {
            let answer = store.commit(row(number)).await;
            if answer.is_ok() {
                acknowledged.push(number);
            }
            if wanted(&answer) {
                return;
            }
        }
    });
    tried.await.expect("in time");
    acknowledged
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_fails_refuses_new_rows_loses_none_and_recovers() {
    let index = Moody::default();
    let store = store(MemoryLog::new(), index.clone());
    index.fails.store(true, Ordering::SeqCst);
    let mut kept = put_until(&store, 0, Result::is_err).await;
    assert!(store.ailment().is_some_and(|why| why.contains("as planned")));
    index.fails.store(false, Ordering::SeqCst);
    kept.extend(put_until(&store, 10_000, Result::is_ok).await);
    assert_eq!(store.ailment(), None);
    for number in kept {
        let key = [&b"m"[..], &number.to_be_bytes()].concat();
        assert!(store.reader().get(&key).expect("reads").is_some(), "row {number}");
    }
    tokio::task::spawn_blocking(move || store.close()).await.expect("joins").expect("closes");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_lost_rows_ends_the_store_and_a_new_start_finds_them() {
    let (log, index) = (MemoryLog::new(), Moody::default());
    let store = store(log.clone(), index.clone());
    let mut kept = Vec::new();
    for number in 0..100 {
        store.commit(row(number)).await.expect("commits");
        kept.push(number);
    }
    index.forgets.store(true, Ordering::SeqCst);
    index.fails.store(true, Ordering::SeqCst);
    kept.extend(put_until(&store, 1000, Result::is_err).await);
    tokio::time::timeout(Duration::from_secs(20), store.ended()).await.expect("in time");
    index.fails.store(false, Ordering::SeqCst);
    let again = self::store(log, index);
    for number in kept {
        let key = [&b"m"[..], &number.to_be_bytes()].concat();
        assert!(again.reader().get(&key).expect("reads").is_some(), "row {number}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_is_damaged_ends_the_store_and_a_new_start_builds_it_anew() {
    let (log, index) = (MemoryLog::new(), Moody::default());
    let store = store(log.clone(), index.clone());
    let mut kept = put_until(&store, 0, |_| index.marker().is_ok_and(|marker| marker.is_some())).await;
    index.is_damaged.store(true, Ordering::SeqCst);
    index.fails.store(true, Ordering::SeqCst);
    kept.extend(put_until(&store, 1000, Result::is_err).await);
    tokio::time::timeout(Duration::from_secs(20), store.ended()).await.expect("in time");
    // what a start does that finds it so
    index.fails.store(false, Ordering::SeqCst);
    index.index.forget();
    let again = self::store(log, index);
    for number in kept {
        let key = [&b"m"[..], &number.to_be_bytes()].concat();
        assert!(again.reader().get(&key).expect("reads").is_some(), "row {number}");
    }
}

/// Settles rows, as results of something that already happened; whether that was written in time.
async fn settle(store: &Store, numbers: &[u32]) -> bool {
    let mut settlement = Batch::new();
    for number in numbers {
        settlement.delete([&b"m"[..], &number.to_be_bytes()].concat());
    }
    let settled = store.commit_with(settlement, Haste::Soon);
    tokio::time::timeout(Duration::from_secs(20), settled).await.is_ok_and(|settled| settled.is_ok())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_without_room_is_given_what_is_kept_back_and_results_are_written_on() {
    let (disk, index) = (LossyDisk::new(), Moody::default());
    let settings = SegmentSettings { segment_octets: 1 << 20, ballast_octets: 1 << 16 };
    let log = Box::new(SegmentLog::open(Arc::new(disk.clone()), settings).expect("opens"));
    let writer = WriterSettings { memtable_octets: 1024, ..WriterSettings::default() };
    let parts = (log, Arc::new(disk.clone()), Arc::new(index.clone()));
    let opened = Store::open_on(parts.0, parts.1, parts.2, writer, Clock::System, Box::new(|_| {}));
    let store = opened.expect("opens").0;
    // of so many results not all have room in memory: the index has to take them in
    let mut kept: Vec<u32> = (100_000..100_400).collect();
    for numbers in kept.chunks(100) {
        let mut batch = Batch::new();
        numbers.iter().for_each(|number| batch.append(row(*number)));
        store.commit(batch).await.expect("commits");
    }
    *index.cramped.lock().expect("not poisoned") = Some((disk.clone(), 3));
    kept.extend(put_until(&store, 1000, |answer| matches!(answer, Err(StoreError::Full))).await);
    assert!(store.is_full(), "mail is refused while the index is short of room");
    for numbers in kept.chunks(20) {
        assert!(settle(&store, numbers).await, "results {numbers:?}");
    }
    // there is room again: what was given up is laid, and mail is taken
    *index.cramped.lock().expect("not poisoned") = None;
    put_until(&store, 10_000, Result::is_ok).await;
    assert_eq!(store.ailment(), None);
    let pieces = disk.list("log").expect("lists").iter().filter(|name| name.contains("ballast")).count();
    assert_eq!(pieces, 8);
    tokio::task::spawn_blocking(move || store.close()).await.expect("joins").expect("closes");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_already_happened_is_written_again_after_a_failed_write() {
    let log = MemoryLog::new();
    let store = store(log.clone(), Moody::default());
    store.commit(row(1)).await.expect("commits");
    log.fail_next();
    let mut settlement = Batch::new();
    settlement.delete([&b"m"[..], &1_u32.to_be_bytes()].concat());
    let (tell, outcome) = tokio::sync::oneshot::channel();
    let done = Box::new(move |result: Result<u64, StoreError>| tell.send(result.is_ok()).expect("heard"));
    store.submit(settlement, Haste::Soon, done).await.expect("a place");
    let settled = tokio::time::timeout(Duration::from_secs(20), outcome).await.expect("in time");
    assert_eq!(settled, Ok(true));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_write_is_answered_and_the_next_one_works() {
    let log = MemoryLog::new();
    let store = store(log.clone(), Moody::default());
    log.fail_next();
    assert!(store.commit(row(1)).await.is_err());
    store.commit(row(2)).await.expect("commits");
    let reader = store.reader();
    let there =
        |number: u32| reader.get(&[&b"m"[..], &number.to_be_bytes()].concat()).expect("reads").is_some();
    assert_eq!((there(1), there(2)), (false, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_failed_says_that_it_is_well_again_though_nobody_writes() {
    let log = MemoryLog::new();
    let store = store(log.clone(), Moody::default());
    log.fail_next();
    assert!(store.commit(row(1)).await.is_err());
    assert!(store.ailment().is_some());
    let well = async {
        while store.ailment().is_some() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), well).await.expect("in time");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_no_group_could_hold_is_refused() {
    let store = store(MemoryLog::new(), Moody::default());
    let mut batch = Batch::new();
    batch.insert(*b"m1", vec![0; 20 << 20], None);
    assert!(matches!(store.commit(batch).await, Err(StoreError::TooLarge { .. })));
}
