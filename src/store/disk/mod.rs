//! The port through which the store touches a disk.
//!
//! Small on purpose: whatever the log does passes through here, so that a test's disk can lose, tear
//! and reorder everything that was not synced. Names are relative (`log/00000001.seg`); the
//! directories `log`, `bodies` and `damaged` exist from the start.

use std::io;
use std::sync::Arc;

mod lossy;
mod real;

pub use lossy::{Fault, LossyDisk};
pub use real::RealDisk;

/// The directories every disk has.
pub(super) const DIRECTORIES: [&str; 3] = ["log", "bodies", "damaged"];

/// A place with files. Nothing is durable before the file's [`DiskFile::sync`] *and*, for files made
/// or removed, [`Disk::sync_dir`] have returned.
pub trait Disk: Send + Sync {
    /// Makes a file with room for `size_octets` set aside (reads as zeros); fails where it exists.
    fn create(&self, name: &str, size_octets: u64) -> io::Result<Arc<dyn DiskFile>>;
    /// Opens a file that exists.
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;
    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// The names of the files in one directory (`log`), each with the directory in front.
    fn list(&self, dir: &str) -> io::Result<Vec<String>>;
    /// Makes creations and removals in one directory durable.
    fn sync_dir(&self, dir: &str) -> io::Result<()>;
}

/// A file. Reads and writes name their offset; there is no cursor to share.
pub trait DiskFile: Send + Sync {
    /// Fills `buf` from `offset`; an early end of file is an error.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()>;
    /// Writes all of `bytes` at `offset`.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Returns when everything written is on the disk, not in a cache.
    fn sync(&self) -> io::Result<()>;
    /// Its length.
    fn len_octets(&self) -> io::Result<u64>;
}
