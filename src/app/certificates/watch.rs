//! Whether files of certificates that others write have changed.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

/// What a file was when it was looked at: when anything of it changed last, its length, and which file it was.
type Stamp = (i64, i64, u64, u64);

/// What all of them were.
pub(super) type Stamps = BTreeMap<PathBuf, Option<Stamp>>;

/// Looks. Blocking.
pub(super) fn stamps(files: &[PathBuf]) -> Stamps {
    let stamp = |file: &PathBuf| {
        let seen = fs::metadata(file).ok()?;
        // a change of mode or owner counts: a key may be readable only now
        Some((seen.ctime(), seen.ctime_nsec(), seen.len(), seen.ino()))
    };
    files.iter().map(|file| (file.clone(), stamp(file))).collect()
}

/// Whether one that was looked at before is another now.
pub(super) fn have_changed(before: &Stamps, now: &Stamps) -> bool {
    now.iter().any(|(file, stamp)| before.get(file).is_some_and(|then| then != stamp))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn contents_modes_and_places_count_and_new_names_do_not() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("key.pem");
        let look = || stamps(std::slice::from_ref(&file));
        let absent = look();
        fs::write(&file, "one").expect("writes");
        let first = look();
        assert!(have_changed(&absent, &first) && !have_changed(&first, &look()));
        assert!(!have_changed(&Stamps::new(), &first), "what is first heard of was read just then");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("is ours");
        let second = look();
        assert!(have_changed(&first, &second));
        fs::write(dir.path().join("new"), "one").expect("writes");
        fs::rename(dir.path().join("new"), &file).expect("renames");
        assert!(have_changed(&second, &look()));
    }
}
