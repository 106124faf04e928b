//! The disk of the machine.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::FallocateFlags;

use super::{DIRECTORIES, Disk, DiskFile};

/// A directory of the file system. Files are readable by their owner alone: they hold mail.
#[derive(Debug)]
pub struct RealDisk {
    root: PathBuf,
}

impl RealDisk {
    /// Opens `root`, making it and its directories where they are missing.
    pub fn open(root: &Path) -> io::Result<Self> {
        for dir in DIRECTORIES {
            fs::create_dir_all(root.join(dir))?;
        }
        File::open(root)?.sync_all()?;
        Ok(RealDisk { root: root.to_owned() })
    }
}

impl Disk for RealDisk {
    fn create(&self, name: &str, size_octets: u64) -> io::Result<Arc<dyn DiskFile>> {
        let path = self.root.join(name);
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
        if size_octets > 0 {
            set_aside(&file, size_octets).inspect_err(|_| {
                // an empty husk would be taken for a damaged segment at the next start
                let _ = fs::remove_file(&path);
            })?;
        }
        Ok(Arc::new(RealFile(file)))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let file = OpenOptions::new().read(true).write(true).open(self.root.join(name))?;
        Ok(Arc::new(RealFile(file)))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.root.join(name))
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.root.join(dir))? {
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(format!("{dir}/{name}"));
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        File::open(self.root.join(dir))?.sync_all()
    }
}

/// fallocate where the file system has it, else a plain length: only speed and an early "disk full"
/// hang on it.
fn set_aside(file: &File, size_octets: u64) -> io::Result<()> {
    match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, size_octets) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => file.set_len(size_octets),
        Err(errno) => Err(errno.into()),
    }
}

#[derive(Debug)]
struct RealFile(File);

impl DiskFile for RealFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_exact_at(buf, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn len_octets(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
}
