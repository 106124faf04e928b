//! What nobody counts as it changes, but looks at every few seconds: the queue by class, room on the disk,
//! the process itself.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use metrics::gauge;
use metrics_process::Collector;
use tikv_jemalloc_ctl::{epoch, stats};

use crate::clock::{Clock, Timestamp};
use crate::mail::Class;
use crate::observe::names;
use crate::queue::{BLOCKED, Census, EXPORTED, Waiting};
use crate::store::{Store, StoreError};

/// How often it is looked.
const EVERY: Duration = Duration::from_secs(5);
/// A look that took long is followed by a rest so many times as long: looking costs a reader's time.
const REST: u32 = 20;
/// Held copies with reasons that are not declared.
const OTHER: &str = "other";
const HELD_REASONS: [&str; 5] = [BLOCK, "damaged", EXPORTED, "operator", "unreadable"];
/// Those that receivers block, whichever.
const BLOCK: &str = "block";

/// Room on the file system of the data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Room {
    /// Octets that may still be written.
    pub(super) free: u64,
    /// Octets in all.
    pub(super) size: u64,
}

/// The room that was seen last; nothing before the first look, or where the system does not tell.
#[derive(Clone, Debug, Default)]
pub(super) struct LastRoom(Arc<Mutex<Option<Room>>>);

impl LastRoom {
    pub(super) fn get(&self) -> Option<Room> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, room: Option<Room>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = room;
    }
}

/// Looks now and again, as long as the store is there.
pub(super) fn watch(store: Store, clock: Clock, data_dir: Arc<Path>, room: LastRoom) {
    let (queue_store, queue_clock) = (store.clone(), clock.clone());
    tokio::spawn(async move {
        loop {
            let begun = queue_clock.instant();
            match census(&queue_store, &queue_clock).await {
                Ok(census) => tell_queue(&census, queue_clock.now()),
                Err(StoreError::Closed) => return,
                Err(error) => tracing::warn!(event = "queue_not_counted", error = %error),
            }
            let took = queue_clock.instant().duration_since(begun);
            tokio::time::sleep(EVERY.max(REST * took)).await;
        }
    });
    // apart from the above: a disk that hangs must not hide what the process takes
    tokio::spawn(async move {
        let collector = Arc::new(Collector::default());
        let mut looks = tokio::time::interval(EVERY);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            let (collector, data_dir) = (collector.clone(), data_dir.clone());
            let looked = tokio::task::spawn_blocking(move || {
                collector.collect();
                tell_memory();
                tell_disk(&data_dir)
            });
            room.set(looked.await.ok().flatten());
        }
    });
}

/// Counts the queue, in pieces.
pub(super) async fn census(store: &Store, clock: &Clock) -> Result<Census, StoreError> {
    let mut census = Census::begin(clock.now());
    while !census.is_done() {
        census = store.read(move |reader| census.go_on(reader)).await?;
    }
    Ok(census)
}

fn tell_queue(census: &Census, now: Timestamp) {
    for class in Class::ALL {
        let Waiting { copies, oldest } = census.waiting.get(&class).copied().unwrap_or_default();
        let age = oldest.map_or(Duration::ZERO, |oldest| now.since(oldest));
        gauge!(names::WAITING, "class" => class.as_str()).set(copies as f64);
        gauge!(names::WAITING_OLDEST_SECONDS, "class" => class.as_str()).set(age.as_secs_f64());
    }
    // each export has a reason of its own, and each receiver that blocks us
    let is_of = |known: &str, reason: &str| match known {
        EXPORTED => reason.starts_with(EXPORTED),
        BLOCK => reason.starts_with(BLOCKED),
        known => reason == known,
    };
    let held = |known: &str| -> u64 {
        census.held.iter().filter(|(reason, _)| is_of(known, reason)).map(|(_, count)| count).sum()
    };
    let known: u64 = HELD_REASONS.into_iter().map(held).sum();
    for reason in HELD_REASONS {
        gauge!(names::HELD_MESSAGES, "reason" => reason).set(held(reason) as f64);
    }
    let others = census.held.values().sum::<u64>() - known;
    gauge!(names::HELD_MESSAGES, "reason" => OTHER).set(others as f64);
    for (kind, down) in [("site", census.sites_down), ("name", census.names_down)] {
        gauge!(names::DESTINATIONS_DOWN, "kind" => kind).set(down as f64);
    }
}

fn tell_memory() {
    // figures are those of the last epoch; both fail only where another allocator is in use
    if epoch::advance().is_ok()
        && let Ok(allocated) = stats::allocated::read()
    {
        gauge!(names::MEMORY_ALLOCATED_BYTES).set(allocated as f64);
    }
}

fn tell_disk(data_dir: &Path) -> Option<Room> {
    match size_of(&data_dir.join("index")) {
        Ok(octets) => gauge!(names::STORE_INDEX_BYTES).set(octets as f64),
        Err(error) => tracing::debug!(event = "index_not_measured", error = %error),
    }
    let room = room(data_dir)?;
    gauge!(names::DISK_FREE_BYTES).set(room.free as f64);
    gauge!(names::DISK_BYTES).set(room.size as f64);
    Some(room)
}

/// The room on the file system that a directory is on.
pub(super) fn room(dir: &Path) -> Option<Room> {
    let told = rustix::fs::statvfs(dir).ok()?;
    // what only root may still write is not ours
    Some(Room { free: told.f_bavail * told.f_frsize, size: told.f_blocks * told.f_frsize })
}

/// Octets that the files below a directory take on the disk.
fn size_of(dir: &Path) -> io::Result<u64> {
    use std::os::unix::fs::MetadataExt as _;
    let mut octets = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let metadata = match entry.metadata() {
            // it went while it was looked at
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            metadata => metadata?,
        };
        octets += if metadata.is_dir() { size_of(&entry.path())? } else { metadata.blocks() * 512 };
    }
    Ok(octets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_below_a_directory_are_measured_by_what_they_take() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::create_dir(dir.path().join("inner")).expect("made");
        let before = size_of(dir.path()).expect("measures");
        fs::write(dir.path().join("inner/file"), vec![7; 100_000]).expect("written");
        let after = size_of(dir.path()).expect("measures");
        assert!((98_304..200_000).contains(&(after - before)), "{before} {after}");
        assert!(room(dir.path()).is_some_and(|room| room.free <= room.size));
    }
}
