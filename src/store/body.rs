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
    /// Octets at its start that are filled last.
    reserved: usize,
    len: u64,
    /// Of what stands behind these.
    crc: u32,
    finished: bool,
}

impl BodyFile {
    pub(super) fn create(disk: Arc<dyn Disk>, owner: &[u8]) -> Result<Self, StoreError> {
        let name = file_name(owner);
        let file = disk.create(&name, 0).map_err(StoreError::io("making a body file"))?;
        Ok(BodyFile { disk, name, file, reserved: 0, len: 0, crc: 0, finished: false })
    }

    /// Writes more of it.
    pub fn write(&mut self, octets: &[u8]) -> Result<(), StoreError> {
        self.file.write_at(octets, self.len).map_err(StoreError::io("writing a body file"))?;
        self.crc = crc32c::crc32c_append(self.crc, octets);
        self.len += octets.len() as u64;
        Ok(())
    }

    /// Keeps room at the start of a file in which there is nothing yet, for [`BodyFile::fill`].
    pub fn reserve(&mut self, octets: usize) -> Result<(), StoreError> {
        if octets == 0 {
            return Ok(());
        }
        let room = vec![b' '; octets];
        self.file.write_at(&room, 0).map_err(StoreError::io("writing a body file"))?;
        (self.reserved, self.len) = (octets, octets as u64);
        Ok(())
    }

    /// Fills the room that was kept, exactly.
    pub fn fill(&mut self, octets: &[u8]) -> Result<(), StoreError> {
        if self.reserved == 0 && octets.is_empty() {
            return Ok(());
        }
        if octets.len() != self.reserved {
            let (left, brought) = (self.reserved, octets.len());
            let error = std::io::Error::other(format!("{brought} octets for a room of {left}"));
            return Err(StoreError::io("filling a body file")(error));
        }
        self.file.write_at(octets, 0).map_err(StoreError::io("writing a body file"))?;
        let behind = usize::try_from(self.len).unwrap_or(usize::MAX) - self.reserved;
        self.crc = crc32c::crc32c_combine(crc32c::crc32c(octets), self.crc, behind);
        self.reserved = 0;
        Ok(())
    }

    /// Syncs it. It stays only if a row for the key it was made for follows.
    pub fn finish(mut self) -> Result<NewBody, StoreError> {
        if self.reserved > 0 {
            let error = std::io::Error::other("the room at its start is not filled");
            return Err(StoreError::io("finishing a body file")(error));
        }
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
    fn room_at_the_start_is_filled_last() {
        let disk = Arc::new(LossyDisk::new());
        let mut file = BodyFile::create(disk.clone(), b"m1").expect("made");
        file.reserve(5).expect("reserved");
        file.write(b"be").expect("written");
        file.write(b"hind").expect("written");
        assert!(file.fill(b"four").is_err(), "not the room that was kept");
        file.fill(b"first").expect("filled");
        let NewBody::File { len, crc } = file.finish().expect("finished") else { panic!("is a file") };
        let mut read = [0; 11];
        open(&*disk, b"m1")
            .and_then(|file| file.read_at(&mut read, 0).map_err(StoreError::io("r")))
            .expect("reads");
        assert_eq!((&read, len, crc), (b"firstbehind", 11, crc32c::crc32c(b"firstbehind")));
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
