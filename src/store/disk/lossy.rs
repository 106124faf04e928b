//! A disk in memory that keeps only its word: what was synced survives a crash, of the rest any part
//! may be lost, kept or torn, in any order.
//!
//! Made for tests and the simulator. Every operation counts; a [`Fault`] strikes at a chosen count.
//! After [`Fault::PowerCut`] every operation fails until [`LossyDisk::restart`].

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::{Disk, DiskFile};

/// What a drive writes at once: a write tears only between sectors.
const SECTOR_OCTETS: usize = 512;

/// What happens when the count of operations reaches its mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Everything stops.
    PowerCut,
    /// This one operation fails (EIO).
    Error,
    /// This one operation finds the disk full (ENOSPC).
    Full,
}

/// The disk. Clones share it.
#[derive(Clone, Default)]
pub struct LossyDisk(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// What a program sees.
    files: BTreeMap<String, usize>,
    /// What the platters' directory holds.
    durable_files: BTreeMap<String, usize>,
    inodes: Vec<Inode>,
    operations: u64,
    faults: BTreeMap<u64, Fault>,
    powered_off: bool,
    has_failed: bool,
    lies_about_sync: bool,
    power_failed: Arc<Notify>,
}

#[derive(Default, Clone)]
struct Inode {
    seen: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<(usize, Vec<u8>)>,
}

impl LossyDisk {
    /// An empty disk.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets `fault` strike at the operation numbered `at` (see [`LossyDisk::operations`]).
    pub fn plan(&self, at: u64, fault: Fault) {
        self.state().faults.insert(at, fault);
    }

    /// How many operations there have been.
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// Whether the power is off.
    pub fn is_off(&self) -> bool {
        self.state().powered_off
    }

    /// Returns when the power is off.
    pub async fn power_failure(&self) {
        let notify = self.state().power_failed.clone();
        let failed = notify.notified();
        if !self.is_off() {
            failed.await;
        }
    }

    /// Whether an operation has failed since the last restart.
    pub fn has_failed(&self) -> bool {
        self.state().has_failed
    }

    /// A drive that answers syncs without syncing: the defect that durability tests must notice.
    pub fn lie_about_sync(&self) {
        self.state().lies_about_sync = true;
    }

    /// Flips one bit of a file's durable bytes: a rotten sector.
    pub fn rot(&self, name: &str, offset: usize) {
        let mut state = self.state();
        if let Some(inode) = state.files.get(name).copied()
            && let Some(file) = state.inodes.get_mut(inode)
        {
            for bytes in [&mut file.seen, &mut file.durable] {
                if let Some(octet) = bytes.get_mut(offset) {
                    *octet ^= 0x10;
                }
            }
        }
    }

    /// The power comes back: each unsynced sector, creation and removal was lucky or not.
    pub fn restart(&self, rng: &mut fastrand::Rng) {
        let mut state = self.state();
        let State { files, durable_files, inodes, .. } = &mut *state;
        let names: Vec<String> = files.keys().chain(durable_files.keys()).cloned().collect();
        for name in names {
            let (seen, durable) = (files.get(&name).copied(), durable_files.get(&name).copied());
            let survives = if rng.bool() { seen } else { durable };
            match survives {
                Some(inode) => durable_files.insert(name, inode),
                None => durable_files.remove(&name),
            };
        }
        *files = durable_files.clone();
        for inode in inodes.iter_mut() {
            inode.crash(rng);
        }
        (state.powered_off, state.has_failed) = (false, false);
        state.faults.clear();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts one operation; fails it where a fault says so.
    fn operate(&self) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.state();
        if state.powered_off {
            return Err(io::Error::other("power is off"));
        }
        let number = state.operations;
        state.operations += 1;
        match state.faults.remove(&number) {
            None => Ok(state),
            Some(Fault::PowerCut) => {
                state.powered_off = true;
                state.power_failed.notify_waiters();
                Err(io::Error::other("power cut"))
            }
            Some(Fault::Error) => {
                state.has_failed = true;
                Err(io::Error::other("input/output error"))
            }
            Some(Fault::Full) => {
                state.has_failed = true;
                Err(io::ErrorKind::StorageFull.into())
            }
        }
    }
}

impl Inode {
    fn crash(&mut self, rng: &mut fastrand::Rng) {
        for (offset, bytes) in std::mem::take(&mut self.unsynced) {
            for (number, sector) in bytes.chunks(SECTOR_OCTETS).enumerate() {
                if rng.bool() {
                    put(&mut self.durable, offset + number * SECTOR_OCTETS, sector);
                }
            }
        }
        self.seen = self.durable.clone();
    }
}

fn put(file: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if file.len() < end {
        file.resize(end, 0);
    }
    file[offset..end].copy_from_slice(bytes);
}

fn not_found() -> io::Error {
    io::ErrorKind::NotFound.into()
}

impl Disk for LossyDisk {
    fn create(&self, name: &str, size_octets: u64) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.operate()?;
        if state.files.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let size = usize::try_from(size_octets).unwrap_or(usize::MAX);
        let inode = state.inodes.len();
        state.inodes.push(Inode { seen: vec![0; size], durable: vec![0; size], unsynced: Vec::new() });
        state.files.insert(name.to_owned(), inode);
        Ok(Arc::new(LossyFile { disk: self.clone(), inode }))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let state = self.operate()?;
        let inode = *state.files.get(name).ok_or_else(not_found)?;
        Ok(Arc::new(LossyFile { disk: self.clone(), inode }))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.operate()?.files.remove(name).map(drop).ok_or_else(not_found)
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let state = self.operate()?;
        let inside = |name: &&String| name.split_once('/').is_some_and(|(parent, _)| parent == dir);
        Ok(state.files.keys().filter(inside).cloned().collect())
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        let mut state = self.operate()?;
        if state.lies_about_sync {
            return Ok(());
        }
        let State { files, durable_files, .. } = &mut *state;
        let inside = |name: &String| name.split_once('/').is_some_and(|(parent, _)| parent == dir);
        durable_files.retain(|name, _| !inside(name));
        let now = files.iter().filter(|(name, _)| inside(name));
        durable_files.extend(now.map(|(name, inode)| (name.clone(), *inode)));
        Ok(())
    }
}

struct LossyFile {
    disk: LossyDisk,
    inode: usize,
}

impl DiskFile for LossyFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let state = self.disk.operate()?;
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let range = start..start.saturating_add(buf.len());
        let bytes = state.inodes[self.inode].seen.get(range);
        buf.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let was_off = self.disk.is_off();
        let mut state = match self.disk.operate() {
            Ok(state) => state,
            Err(error) if was_off => return Err(error),
            Err(error) => {
                // a write that fails may still have reached the platters in part
                let mut state = self.disk.state();
                let half = &bytes[..bytes.len() / 2];
                state.inodes[self.inode].unsynced.push((usize::try_from(offset).unwrap_or(0), half.to_vec()));
                return Err(error);
            }
        };
        let inode = &mut state.inodes[self.inode];
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        put(&mut inode.seen, start, bytes);
        inode.unsynced.push((start, bytes.to_vec()));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.operate()?;
        if state.lies_about_sync {
            return Ok(());
        }
        let inode = &mut state.inodes[self.inode];
        for (offset, bytes) in std::mem::take(&mut inode.unsynced) {
            put(&mut inode.durable, offset, &bytes);
        }
        Ok(())
    }

    fn len_octets(&self) -> io::Result<u64> {
        Ok(self.disk.operate()?.inodes[self.inode].seen.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_synced_is_sure() {
        let disk = LossyDisk::new();
        let file = disk.create("log/a", 2048).expect("created");
        file.write_at(&[1; 1024], 0).expect("written");
        file.sync().expect("synced");
        disk.sync_dir("log").expect("synced");
        file.write_at(&[2; 1024], 0).expect("written");
        let mut outcomes = std::collections::BTreeSet::new();
        for seed in 0..64 {
            let copy = LossyDisk(Arc::new(Mutex::new({
                let state = disk.state();
                State {
                    files: state.files.clone(),
                    durable_files: state.durable_files.clone(),
                    inodes: state.inodes.clone(),
                    ..State::default()
                }
            })));
            copy.restart(&mut fastrand::Rng::with_seed(seed));
            let mut read = [0; 1024];
            copy.open("log/a").and_then(|f| f.read_at(&mut read, 0)).expect("survived");
            outcomes.insert((read[0], read[600]));
        }
        // each sector alone: old, new, and torn in both orders
        assert_eq!(outcomes.into_iter().collect::<Vec<_>>(), [(1, 1), (1, 2), (2, 1), (2, 2)]);
    }

    #[test]
    fn a_power_cut_stops_everything_until_restart() {
        let disk = LossyDisk::new();
        disk.plan(1, Fault::PowerCut);
        let file = disk.create("log/a", 512).expect("created");
        assert!(file.sync().is_err());
        assert!(disk.is_off() && disk.open("log/a").is_err());
        disk.restart(&mut fastrand::Rng::with_seed(1));
        assert!(!disk.is_off() && disk.list("log").is_ok());
    }
}
