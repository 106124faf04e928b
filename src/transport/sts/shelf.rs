//! Policies on the disk: a file for each domain, which has its name.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use super::{Kept, Policy};
use crate::clock::Timestamp;
use crate::files::{Former, keep};
use crate::mail::Domain;

/// A file with a policy of the largest size, and two lines before it.
const FILE_MAX_OCTETS: u64 = 128 << 10;

/// Where they are.
#[derive(Clone, Debug)]
pub(super) struct Shelf(PathBuf);

impl Shelf {
    pub(super) fn at(directory: &Path) -> Self {
        Shelf(directory.to_owned())
    }

    fn file(&self, domain: &Domain) -> PathBuf {
        self.0.join(domain.as_str())
    }

    /// Keeps a policy as it was served.
    pub(super) fn put(&self, domain: &Domain, kept: &Kept, text: &[u8]) -> io::Result<()> {
        fs::create_dir_all(&self.0)?;
        let head = format!("id: {}\nread: {}\n", kept.id, kept.read.as_millis());
        keep(&self.file(domain), &[head.as_bytes(), text].concat(), Former::Replaced)
    }

    pub(super) fn remove(&self, domain: &Domain) {
        match fs::remove_file(self.file(domain)) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                tracing::warn!(event = "policy_not_removed", domain = %domain, error = %error);
            }
            _ => {}
        }
    }

    /// All that are there. What cannot be read is passed over: it is fetched again when it is wanted.
    pub(super) fn all(&self) -> Vec<(Domain, Kept)> {
        let Ok(entries) = fs::read_dir(&self.0) else { return Vec::new() };
        let read = |entry: io::Result<fs::DirEntry>| {
            let path = entry.ok()?.path();
            let domain = Domain::parse(path.file_name()?.to_str()?).ok()?;
            let is_fit = fs::metadata(&path).ok()?.len() <= FILE_MAX_OCTETS;
            let kept = if is_fit { parse(&fs::read(&path).ok()?) } else { None };
            if kept.is_none() {
                tracing::warn!(event = "policy_unreadable", file = %path.display());
            }
            Some((domain, kept?))
        };
        entries.filter_map(read).collect()
    }
}

fn parse(octets: &[u8]) -> Option<Kept> {
    let mut lines = octets.splitn(3, |octet| *octet == b'\n');
    let mut value = |key: &str| -> Option<&str> {
        std::str::from_utf8(lines.next()?).ok()?.strip_prefix(key)?.strip_prefix(": ")
    };
    let (id, read) = (value("id")?.into(), Timestamp::from_millis(value("read")?.parse().ok()?));
    Some(Kept { id, read, policy: Policy::parse(lines.next()?).ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_come_back_as_they_were_and_damaged_ones_do_not() {
        let dir = tempfile::tempdir().expect("a directory");
        let shelf = Shelf::at(&dir.path().join("mta-sts"));
        assert!(shelf.all().is_empty());
        let text = b"version: STSv1\nmode: enforce\nmx: a.example\nmax_age: 86400\n";
        let policy = Policy::parse(text).expect("a policy");
        let kept = Kept { id: "1".into(), read: Timestamp::from_millis(5), policy };
        let domain = Domain::parse("example.org").expect("a name");
        shelf.put(&domain, &kept, text).expect("is written");
        assert_eq!(shelf.all(), [(domain.clone(), kept)]);
        for damaged in ["", "id: 1\n", "id: 1\nread: x\nversion: STSv1", "id: 1\nread: 1\nversion: STSv1\n"] {
            fs::write(shelf.file(&domain), damaged).expect("is written");
            assert_eq!(shelf.all(), [], "{damaged}");
        }
        shelf.remove(&domain);
        shelf.remove(&domain);
        assert_eq!(fs::read_dir(dir.path().join("mta-sts")).expect("is there").count(), 0);
    }
}
