//! Bodies too large for the log: a file each, named after the row that owns it.
//!
//! A file is written and synced before its row is; so a file without a row is the left-over of a
//! message that was never accepted, and a row without a file cannot be.

use std::sync::Arc;

use super::batch::NewBody;
use super::disk::{Disk, DiskFile};
use super::error::StoreError;

fn file_name(key: &[u8]) -> String {
    use std::fmt::Write;
    let mut name = String::with_capacity(7 + 2 * key.len());
    name.push_str("bodies/");
    for octet in key {
        // writing to a String cannot fail
        let _ = write!(name, "{octet:02x}");
    }
    name
}

fn key_of(name: &str) -> Option<Vec<u8>> {
    let hex = name.strip_prefix("bodies/")?;
    let pairs = hex.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

/// A body file while it is written. Blocking: not for an arbiter. Dropped unfinished, it goes away.
pub struct BodyFile {
    disk: Arc<dyn Disk>,
    name: String,
    file: Arc<dyn DiskFile>,
    len: u64,
    crc: u32,
    finished: bool,
}

impl BodyFile {
    pub(super) fn create(disk: Arc<dyn Disk>, owner: &[u8]) -> Result<Self, StoreError> {
        let name = file_name(owner);
        let file = disk.create(&name, 0).map_err(StoreError::io("making a body file"))?;
        Ok(BodyFile { disk, name, file, len: 0, crc: 0, finished: false })
    }

    /// Writes more of it.
    pub fn write(&mut self, octets: &[u8]) -> Result<(), StoreError> {
        self.file.write_at(octets, self.len).map_err(StoreError::io("writing a body file"))?;
        self.crc = crc32c::crc32c_append(self.crc, octets);
        self.len += octets.len() as u64;
        Ok(())
    }

    /// Syncs it. It stays only if a row for the key it was made for follows.
    pub fn finish(mut self) -> Result<NewBody, StoreError> {
        self.file.sync().map_err(StoreError::io("syncing a body file"))?;
        self.finished = true;
        Ok(NewBody::File { len: self.len, crc: self.crc })
    }
}

impl Drop for BodyFile {
    fn drop(&mut self) {
        if !self.finished {
            // else the next start removes it
            let _ = self.disk.remove(&self.name);
        }
    }
}

/// Opens the file of the row under `key`.
pub(super) fn open(disk: &dyn Disk, key: &[u8]) -> Result<Arc<dyn DiskFile>, StoreError> {
    disk.open(&file_name(key)).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => StoreError::damaged("the body file is missing"),
        _ => StoreError::io("opening a body file")(error),
    })
}

/// Removes the file of a row that is durably gone, or was never written.
pub(super) fn remove(disk: &dyn Disk, key: &[u8]) {
    if let Err(error) = disk.remove(&file_name(key)) {
        // harmless: the next start removes it
        tracing::debug!(event = "body_file_not_removed", error = %error);
    }
}

/// Removes the files that no row owns.
pub(super) fn remove_orphans(
    disk: &dyn Disk,
    is_owned: &dyn Fn(&[u8]) -> Result<bool, StoreError>,
) -> Result<(), StoreError> {
    for name in disk.list("bodies").map_err(StoreError::io("listing the bodies"))? {
        if let Some(key) = key_of(&name)
            && !is_owned(&key)?
        {
            remove(disk, &key);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::disk::LossyDisk;
    use super::*;

    #[test]
    fn a_file_that_nobody_finished_goes_away() {
        let disk = Arc::new(LossyDisk::new());
        let mut file = BodyFile::create(disk.clone(), b"m1").expect("made");
        file.write(b"half").expect("written");
        assert_eq!(disk.list("bodies").expect("lists"), ["bodies/6d31"]);
        drop(file);
        assert!(disk.list("bodies").expect("lists").is_empty());
    }

    #[test]
    fn orphans_are_removed_and_owned_files_stay() {
        let disk = Arc::new(LossyDisk::new());
        for key in [b"m1", b"m2"] {
            let file = BodyFile::create(disk.clone(), key).expect("made");
            file.finish().expect("finished");
        }
        remove_orphans(&*disk, &|key| Ok(key == b"m2")).expect("removed");
        assert_eq!(disk.list("bodies").expect("lists"), ["bodies/6d32"]);
    }
}
