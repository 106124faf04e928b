//! The data directory: who may enter, what it looks like, whether its index can be trusted.
//!
//! ```text
//! lock       held while a process has the directory open
//! running    the boot under which a process has it open; gone after a clean stop
//! log/       segments        bodies/  large bodies      damaged/  what could not be read
//! index/     sled
//! ```
//!
//! sled promises nothing across a power cut. So where `running` names another boot than this one, the
//! index is thrown away and found again from the log, which was synced.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::FlockOperation;

use super::disk::{Disk, RealDisk};
use super::error::StoreError;
use super::index::Index;
use super::log::{Log, Replayed};
use super::reader::{BodyReader, Reader};
use super::segments::SegmentLog;
use super::sled_index::SledIndex;
use super::writer::{Writer, WriterSettings};
use super::{Settings, ballast};

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// Rows looked at in one scan.
const CHECK_ROWS: usize = 512;
/// A body file is read in pieces of this size.
const CHECK_OCTETS: usize = 1 << 20;

/// What a store is put together from.
pub(super) type Parts = (SegmentLog, Arc<dyn Disk>, Arc<dyn Index>);

/// A data directory that this process has to itself.
pub(super) struct Home {
    dir: PathBuf,
    _lock: File,
}

impl Home {
    pub(super) fn enter(dir: &Path) -> Result<Self, StoreError> {
        fs::create_dir_all(dir).map_err(StoreError::io("making the data directory"))?;
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(dir.join("lock"));
        let lock = lock.map_err(StoreError::io("opening the data directory's lock"))?;
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|errno| {
            let in_use = io::Error::new(io::Error::from(errno).kind(), "another process has it open");
            StoreError::io("locking the data directory")(in_use)
        })?;
        Ok(Home { dir: dir.to_owned(), _lock: lock })
    }

    /// Opens disk, log and index; the index is emptied first where a power cut may have hurt it.
    pub(super) fn open_parts(&self, settings: Settings) -> Result<Parts, StoreError> {
        let disk = RealDisk::open(&self.dir).map_err(StoreError::io("opening the data directory"))?;
        let disk: Arc<dyn Disk> = Arc::new(disk);
        let log = SegmentLog::open(disk.clone(), settings.segments)?;
        if self.lost_power() {
            tracing::warn!(event = "index_rebuild", reason = "the machine stopped without warning");
            self.forget_index()?;
        }
        let index = match SledIndex::open(&self.index_dir(), settings.index_cache_octets) {
            Ok(index) => index,
            // nothing is wrong with it
            Err(StoreError::Full) => return Err(StoreError::Full),
            Err(error) => {
                tracing::error!(event = "index_rebuild", reason = %error);
                self.forget_index()?;
                SledIndex::open(&self.index_dir(), settings.index_cache_octets)?
            }
        };
        Ok((log, disk, Arc::new(index)))
    }

    /// Makes a little room on a full disk; false where there is none to be made.
    pub(super) fn make_room(&self) -> Result<bool, StoreError> {
        let disk = RealDisk::open(&self.dir).map_err(StoreError::io("opening the data directory"))?;
        ballast::give_up_one(&disk)
    }

    fn index_dir(&self) -> PathBuf {
        self.dir.join("index")
    }

    pub(super) fn forget_index(&self) -> Result<(), StoreError> {
        match fs::remove_dir_all(self.index_dir()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(StoreError::io("removing the index")(error))
            }
            _ => Ok(()),
        }
    }

    fn lost_power(&self) -> bool {
        match fs::read_to_string(self.dir.join("running")) {
            // without an id (a sandbox may hide it) nobody can say that it is the same boot
            Ok(boot) => boot.trim().is_empty() || boot.trim() != boot_id(),
            // whatever else is wrong with it, the index is not to be trusted
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        }
    }

    pub(super) fn mark_running(&self) -> Result<(), StoreError> {
        let path = self.dir.join("running");
        let write = || {
            // by renaming: a kill in between must not leave half an id, which reads as a power cut
            let new = self.dir.join("running.new");
            fs::write(&new, boot_id())?;
            File::open(&new)?.sync_all()?;
            fs::rename(&new, &path)?;
            File::open(&self.dir)?.sync_all()
        };
        write().map_err(StoreError::io("marking the data directory as open"))
    }

    /// Called when the index is on the disk.
    pub(super) fn mark_stopped(&self) -> Result<(), StoreError> {
        let remove = || {
            fs::remove_file(self.dir.join("running"))?;
            File::open(&self.dir)?.sync_all()
        };
        remove().map_err(StoreError::io("marking the data directory as closed"))
    }
}

fn boot_id() -> String {
    fs::read_to_string(BOOT_ID).unwrap_or_default().trim().to_owned()
}

/// Builds the index anew from the log. `progress` gets the octets read so far.
pub fn rebuild(
    dir: &Path,
    settings: Settings,
    progress: &mut dyn FnMut(u64),
) -> Result<Replayed, StoreError> {
    let home = Home::enter(dir)?;
    home.forget_index()?;
    let (log, disk, index) = home.open_parts(settings)?;
    // a power cut in here must not leave half an index that is trusted
    home.mark_running()?;
    let (writer, report) = Writer::open(Box::new(log), disk, index, settings.writer, progress)?;
    writer.close(None)?;
    home.mark_stopped()?;
    Ok(report)
}

/// What [`verify`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Rows looked at.
    pub rows: u64,
    /// Bodies read and found right.
    pub bodies: u64,
    /// What is wrong, each told in a sentence.
    pub faults: Vec<String>,
}

/// Reads every row and every body and checks them against their checksums. Changes no row; what
/// the index lacks is fed to it, as at any start. `progress` gets the rows looked at so far.
pub fn verify(dir: &Path, settings: Settings, progress: &mut dyn FnMut(u64)) -> Result<Findings, StoreError> {
    let home = Home::enter(dir)?;
    let (log, disk, index) = home.open_parts(settings)?;
    home.mark_running()?;
    let log_reader = log.reader();
    let keep = WriterSettings { log_slack_octets: u64::MAX, ..settings.writer };
    let (writer, report) = Writer::open(Box::new(log), disk.clone(), index.clone(), keep, &mut |_| {})?;
    let reader = Reader { view: writer.view(), index, log: log_reader, disk };
    let mut findings = Findings { faults: report.damage, ..Findings::default() };
    let mut after: Vec<u8> = vec![0];
    loop {
        let rows = reader.scan(Bound::Excluded(&after), &[0xff], CHECK_ROWS)?;
        let Some((last, _)) = rows.last() else { break };
        after = last.to_vec();
        for (key, row) in &rows {
            findings.rows += 1;
            match reader.body(key, row).and_then(read_through) {
                Ok(read) => findings.bodies += u64::from(read),
                Err(error) => findings.faults.push(format!("row {}: {error}", key.escape_ascii())),
            }
        }
        progress(findings.rows);
    }
    writer.close(None)?;
    home.mark_stopped()?;
    Ok(findings)
}

fn read_through(body: Option<BodyReader>) -> Result<bool, StoreError> {
    match body {
        None => Ok(false),
        Some(BodyReader::Octets(_)) => Ok(true),
        Some(BodyReader::File(mut file)) => {
            while !file.read(CHECK_OCTETS)?.is_empty() {}
            Ok(true)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_trusted_only_under_the_boot_that_is_known_to_have_written_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let home = Home::enter(dir.path()).expect("enters");
        let running = dir.path().join("running");
        assert!(!home.lost_power(), "it was stopped in peace");
        home.mark_running().expect("marks");
        assert!(!home.lost_power(), "only the process ended");
        for boot in ["another boot", "", "\n"] {
            fs::write(&running, boot).expect("writes");
            assert!(home.lost_power(), "{boot:?}");
        }
    }
}
