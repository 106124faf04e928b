//! Files for their owner alone, written as a whole or not at all, whenever the power goes.
//!
//! Owns how a small file is put in its place. Promises that who finds one finds all of it, and that nobody but its
//! owner may read it. Never decides where a file belongs.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;

/// What becomes of a file that is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Former {
    /// The new one takes its place.
    Replaced,
    /// It stays, and the new one is not written: that is an error.
    Kept,
}

/// Writes a file, in a directory that is there; when this returns it is durable.
pub fn keep(file: &Path, octets: &[u8], former: Former) -> io::Result<()> {
    let directory = file.parent().unwrap_or(Path::new("."));
    // made with mode 0600
    let mut draft = tempfile::NamedTempFile::new_in(directory)?;
    draft.write_all(octets)?;
    draft.as_file().sync_all()?;
    match former {
        Former::Replaced => draft.persist(file)?,
        Former::Kept => draft.persist_noclobber(file)?,
    };
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn a_file_is_its_owners_and_replaced_only_where_that_is_meant() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("key");
        keep(&file, b"one", Former::Kept).expect("written");
        assert_eq!(fs::metadata(&file).expect("there").mode() & 0o777, 0o600);
        let again = keep(&file, b"two", Former::Kept).map_err(|error| error.kind());
        assert_eq!(again, Err(io::ErrorKind::AlreadyExists));
        assert_eq!(fs::read(&file).expect("reads"), b"one");
        keep(&file, b"two", Former::Replaced).expect("written");
        assert_eq!(fs::read(&file).expect("reads"), b"two");
        assert_eq!(fs::read_dir(dir.path()).expect("lists").count(), 1, "no draft is left");
    }
}
