//! The keys of all domains, and how far each has come: `dkim/` in the data directory.
//!
//! ```text
//! dkim/keys.json                 what there is
//! dkim/DOMAIN/SELECTOR.pem       a private key, for its owner alone
//! dkim/lock                      held by whoever changes something
//! ```
//!
//! A relay that runs and a command may both change the ring: each reads it anew under the lock.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, Gid, Uid, flock};
use serde::{Deserialize, Serialize};

use super::key::{Algorithm, Key, KeyError, MadeKey};
use super::rotation::{self, Seen, Stage, View};
use super::selector::Selector;
use crate::clock::Timestamp;
use crate::mail::Domain;

const OWNER_ONLY: u32 = 0o600;
const OWNER_ONLY_DIR: u32 = 0o700;

/// Why the ring is not to be had.
#[derive(Debug, thiserror::Error)]
pub enum RingError {
    /// A file could not be read or written.
    #[error("{what} {file}: {error}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// To which file.
        file: PathBuf,
        /// Why it failed.
        error: io::Error,
    },
    /// The list of keys makes no sense.
    #[error("{file} is no list of keys: {error}")]
    List {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        error: Box<str>,
    },
    /// A key cannot sign.
    #[error("{file} {error}")]
    Key {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        error: KeyError,
    },
    /// Others may read a private key.
    #[error("{file} may be read by others than its owner: chmod 600 it")]
    Open {
        /// The file.
        file: PathBuf,
    },
    /// There is such a key already.
    #[error("{domain} has a key with the selector {selector} already")]
    There {
        /// Whose key.
        domain: Domain,
        /// Its name.
        selector: Selector,
    },
    /// There is no such key.
    #[error("{domain} has no key with the selector {selector}")]
    NotThere {
        /// Whose key.
        domain: Domain,
        /// Its name.
        selector: Selector,
    },
    /// The process is about to end.
    #[error("nobody is left to look after the keys")]
    Stopped,
    /// An address literal has no records.
    #[error("{0} is no domain that could have a record")]
    Domain(Domain),
}

/// A key in the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// For whom it signs.
    pub domain: Domain,
    /// Its name.
    pub selector: Selector,
    /// How it signs.
    pub algorithm: Algorithm,
    /// When it was made.
    pub made: Timestamp,
    /// How far it has come.
    pub stage: Stage,
    /// What the DNS showed of it when that was last certain.
    pub seen: Option<Seen>,
    /// When that was, in milliseconds since 1970.
    pub looked: Option<u64>,
}

impl Entry {
    pub(super) fn new(domain: Domain, selector: Selector, algorithm: Algorithm, now: Timestamp) -> Self {
        Entry { domain, selector, algorithm, made: now, stage: Stage::Published, seen: None, looked: None }
    }

    /// Whether it does the same work as another.
    pub(super) fn is_like(&self, other: &Entry) -> bool {
        self.algorithm == other.algorithm && self.domain == other.domain
    }

    pub(super) fn is(&self, domain: &Domain, selector: &Selector) -> bool {
        self.selector == *selector && self.domain == *domain
    }
}

/// An entry as it is written.
#[derive(Serialize, Deserialize)]
struct Written {
    domain: String,
    selector: String,
    algorithm: Algorithm,
    made: u64,
    #[serde(flatten)]
    stage: Stage,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seen: Option<Seen>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    looked: Option<u64>,
}

#[derive(Default, Serialize, Deserialize)]
struct List {
    keys: Vec<Written>,
}

impl Written {
    fn of(entry: &Entry) -> Self {
        let Entry { domain, selector, algorithm, made, stage, seen, looked } = entry.clone();
        let (domain, selector) = (domain.as_str().into(), selector.as_str().into());
        Written { domain, selector, algorithm, made: made.as_millis(), stage, seen, looked }
    }

    fn read(self) -> Result<Entry, String> {
        let Written { domain, selector, algorithm, made, stage, seen, looked } = self;
        let domain = Domain::parse(&domain).map_err(|error| format!("{domain:?}: {error}"))?;
        let selector = Selector::parse(&selector).map_err(|error| error.to_string())?;
        let made = Timestamp::from_millis(made);
        Ok(Entry { domain, selector, algorithm, made, stage, seen, looked })
    }
}

/// The ring of a data directory. Blocking: not for an arbiter.
#[derive(Clone, Debug)]
pub struct KeyRing {
    dir: PathBuf,
}

impl KeyRing {
    /// The ring below this data directory; there is nothing of it before its first key.
    pub fn of(data_dir: &Path) -> Self {
        KeyRing { dir: data_dir.join("dkim") }
    }

    fn list_file(&self) -> PathBuf {
        self.dir.join("keys.json")
    }

    /// Where a private key is.
    pub fn key_file(&self, domain: &Domain, selector: &Selector) -> PathBuf {
        self.dir.join(domain.as_str()).join(format!("{selector}.pem"))
    }

    /// All keys.
    pub fn read(&self) -> Result<Vec<Entry>, RingError> {
        let file = self.list_file();
        let text = match fs::read(&file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            read => read.map_err(io_error("reading", &file))?,
        };
        let wrong = |error: String| RingError::List { file: file.clone(), error: error.into() };
        let list: List = serde_json::from_slice(&text).map_err(|error| wrong(error.to_string()))?;
        list.keys.into_iter().map(Written::read).collect::<Result<_, _>>().map_err(wrong)
    }

    /// Changes the list, while nobody else does; nothing is changed where `change` fails.
    pub fn change<T>(
        &self,
        change: impl FnOnce(&mut Vec<Entry>) -> Result<T, RingError>,
    ) -> Result<T, RingError> {
        self.make_dir(&self.dir)?;
        let lock = self.dir.join("lock");
        let held = OpenOptions::new().write(true).create(true).truncate(false).mode(OWNER_ONLY).open(&lock);
        let held = held.map_err(io_error("opening", &lock))?;
        self.give_to_owner(&lock)?;
        flock(&held, FlockOperation::LockExclusive)
            .map_err(|errno| io_error("locking", &lock)(errno.into()))?;
        let before = self.read()?;
        let mut entries = before.clone();
        let changed = change(&mut entries)?;
        if entries != before {
            let keys = entries.iter().map(Written::of).collect();
            let file = self.list_file();
            let wrong = |error: serde_json::Error| RingError::List {
                file: file.clone(),
                error: error.to_string().into(),
            };
            let text = serde_json::to_vec_pretty(&List { keys }).map_err(wrong)?;
            self.write(&file, &text, true)?;
        }
        Ok(changed)
    }

    /// Adds a key that was made for this; `selector` names it, or else the day does. It signs once the DNS shows it
    /// and everybody can see that.
    pub fn add(
        &self,
        domain: &Domain,
        selector: Option<Selector>,
        made: &MadeKey,
        now: Timestamp,
    ) -> Result<Entry, RingError> {
        self.put(domain, selector, made, (now, Stage::Published))
    }

    /// Takes a key that was in use elsewhere: it signs once the DNS shows it, as it has before.
    pub fn take_over(
        &self,
        domain: &Domain,
        selector: Selector,
        made: &MadeKey,
        now: Timestamp,
    ) -> Result<Entry, RingError> {
        self.put(domain, Some(selector), made, (now, Stage::Waiting { until: now.as_millis() }))
    }

    fn put(
        &self,
        domain: &Domain,
        selector: Option<Selector>,
        made: &MadeKey,
        (now, stage): (Timestamp, Stage),
    ) -> Result<Entry, RingError> {
        if domain.as_literal().is_some() {
            return Err(RingError::Domain(domain.clone()));
        }
        self.change(|entries| {
            let is_there = |selector: &Selector| entries.iter().any(|entry| entry.is(domain, selector));
            let dated = || {
                let names = (1..).map(|number| Selector::dated(now, made.algorithm.as_str(), number));
                let free = |name: &Selector| !is_there(name) && !self.key_file(domain, name).exists();
                names.take(1000).find(free)
            };
            let selector = selector.or_else(dated);
            let selector = selector.unwrap_or_else(|| Selector::dated(now, made.algorithm.as_str(), 1));
            let file = self.key_file(domain, &selector);
            if is_there(&selector) || file.exists() {
                return Err(RingError::There { domain: domain.clone(), selector });
            }
            let key = Key::from_pem(domain.clone(), selector.clone(), &made.pem);
            key.map_err(|error| RingError::Key { file: file.clone(), error })?;
            self.make_dir(&self.dir.join(domain.as_str()))?;
            self.write(&file, made.pem.as_bytes(), false)?;
            let entry = Entry { stage, ..Entry::new(domain.clone(), selector, made.algorithm, now) };
            entries.push(entry.clone());
            Ok(entry)
        })
    }

    /// Takes a key out of service; its record has to stay for `keep`.
    pub fn retire(
        &self,
        domain: &Domain,
        selector: &Selector,
        (now, keep): (Timestamp, Duration),
    ) -> Result<Entry, RingError> {
        let retired = self.change(|entries| {
            let entry = entries.iter_mut().find(|entry| entry.is(domain, selector));
            let missing = || RingError::NotThere { domain: domain.clone(), selector: selector.clone() };
            let entry = entry.ok_or_else(missing)?;
            rotation::retire(entry, now, keep);
            Ok(entry.clone())
        })?;
        self.remove_private(std::slice::from_ref(&retired));
        Ok(retired)
    }

    /// Takes looks into account, each at the key of this domain and selector.
    pub(super) fn advance(
        &self,
        looks: &[(Domain, Selector, View)],
        (now, keep): (Timestamp, Duration),
    ) -> Result<Vec<Entry>, RingError> {
        let entries = self.change(|entries| {
            for (domain, selector, view) in looks {
                if let Some(entry) = entries.iter_mut().find(|entry| entry.is(domain, selector)) {
                    rotation::advance(entry, *view, now);
                }
            }
            rotation::supersede(entries, now, keep);
            // one whose record is gone too has nothing left to be told
            entries.retain(|entry| entry.stage != Stage::Removed || entry.seen == Some(Seen::Right));
            Ok(entries.clone())
        })?;
        self.remove_private(&entries);
        Ok(entries)
    }

    /// The private keys of what is removed.
    fn remove_private(&self, entries: &[Entry]) {
        for entry in entries.iter().filter(|entry| entry.stage == Stage::Removed) {
            let file = self.key_file(&entry.domain, &entry.selector);
            match fs::remove_file(&file) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!(event = "dkim_key_not_removed", file = %file.display(), error = %error);
                }
                _ => {}
            }
        }
    }

    /// Reads a key.
    pub fn key(&self, entry: &Entry) -> Result<Key, RingError> {
        let file = self.key_file(&entry.domain, &entry.selector);
        let metadata = fs::metadata(&file).map_err(io_error("reading", &file))?;
        if metadata.mode() & 0o077 != 0 {
            return Err(RingError::Open { file });
        }
        let text = fs::read_to_string(&file).map_err(io_error("reading", &file))?;
        Key::from_pem(entry.domain.clone(), entry.selector.clone(), &text)
            .map_err(|error| RingError::Key { file, error })
    }

    fn make_dir(&self, dir: &Path) -> Result<(), RingError> {
        if dir.is_dir() {
            return Ok(());
        }
        fs::create_dir_all(dir).map_err(io_error("making", dir))?;
        let mode = fs::set_permissions(dir, Permissions::from_mode(OWNER_ONLY_DIR));
        mode.map_err(io_error("making", dir))?;
        self.give_to_owner(dir)
    }

    /// Writes a file as a whole or not at all.
    fn write(&self, file: &Path, octets: &[u8], may_replace: bool) -> Result<(), RingError> {
        let failed = io_error("writing", file);
        let dir = file.parent().unwrap_or(&self.dir);
        let written = || {
            let mut draft =
                tempfile::Builder::new().permissions(Permissions::from_mode(OWNER_ONLY)).tempfile_in(dir)?;
            draft.write_all(octets)?;
            draft.as_file().sync_all()?;
            let persisted = if may_replace { draft.persist(file) } else { draft.persist_noclobber(file) };
            persisted?;
            File::open(dir)?.sync_all()
        };
        written().map_err(failed)?;
        self.give_to_owner(file)
    }

    /// What a superuser makes must be the relay's to read: it belongs to whom the data directory belongs to.
    fn give_to_owner(&self, path: &Path) -> Result<(), RingError> {
        if !rustix::process::geteuid().is_root() {
            return Ok(());
        }
        let data_dir = self.dir.parent().unwrap_or(&self.dir);
        let owner = fs::metadata(data_dir).map_err(io_error("reading", data_dir))?;
        let (uid, gid) = (Uid::from_raw(owner.uid()), Gid::from_raw(owner.gid()));
        rustix::fs::chown(path, Some(uid), Some(gid))
            .map_err(|errno| io_error("giving away", path)(errno.into()))
    }
}

fn io_error(what: &'static str, file: &Path) -> impl Fn(io::Error) -> RingError + use<> {
    let file = file.to_owned();
    move |error| RingError::Io { what, file: file.clone(), error }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEEP: Duration = Duration::from_secs(86_400);

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(1_795_000_000_000 + seconds * 1000)
    }

    fn domain() -> Domain {
        Domain::parse("a.example").expect("a domain")
    }

    fn made() -> MadeKey {
        MadeKey::generate(Algorithm::Ed25519).expect("made")
    }

    #[test]
    fn keys_are_kept_for_their_owner_alone() {
        let dir = tempfile::tempdir().expect("a directory");
        let ring = KeyRing::of(dir.path());
        assert_eq!(ring.read().expect("reads"), []);
        let first = ring.add(&domain(), None, &made(), at(0)).expect("added");
        let second = ring.add(&domain(), None, &made(), at(0)).expect("added");
        assert_eq!(first.selector.as_str(), "20261118-ed25519");
        assert_eq!(second.selector.as_str(), "20261118-ed25519-2");
        assert_eq!(ring.read().expect("reads"), [first.clone(), second]);
        let again = ring.add(&domain(), Some(first.selector.clone()), &made(), at(0));
        assert!(matches!(again, Err(RingError::There { .. })));
        let file = ring.key_file(&domain(), &first.selector);
        assert_eq!(fs::metadata(&file).expect("there").mode() & 0o777, 0o600);
        assert!(ring.key(&first).is_ok());
        fs::set_permissions(&file, Permissions::from_mode(0o644)).expect("set");
        assert!(matches!(ring.key(&first), Err(RingError::Open { .. })));
    }

    #[test]
    fn what_is_retired_before_it_signed_is_gone_with_its_private_key() {
        let dir = tempfile::tempdir().expect("a directory");
        let ring = KeyRing::of(dir.path());
        let entry = ring.add(&domain(), None, &made(), at(0)).expect("added");
        let retired = ring.retire(&domain(), &entry.selector, (at(1), KEEP)).expect("retired");
        assert_eq!(retired.stage, Stage::Removed);
        assert!(!ring.key_file(&domain(), &entry.selector).exists());
        let looks = [(domain(), entry.selector.clone(), View::Seen(Seen::Missing, KEEP))];
        assert_eq!(ring.advance(&looks, (at(2), KEEP)).expect("advances"), []);
        assert!(matches!(
            ring.retire(&domain(), &entry.selector, (at(1), KEEP)),
            Err(RingError::NotThere { .. })
        ));
    }

    #[test]
    fn a_list_that_makes_no_sense_is_told_and_not_written_over() {
        let dir = tempfile::tempdir().expect("a directory");
        let ring = KeyRing::of(dir.path());
        ring.add(&domain(), None, &made(), at(0)).expect("added");
        fs::write(ring.list_file(), "{\"keys\": [{\"domain\": \"..\"}]}").expect("written");
        assert!(matches!(ring.read(), Err(RingError::List { .. })));
        assert!(ring.add(&domain(), None, &made(), at(0)).is_err());
        assert!(fs::read_to_string(ring.list_file()).expect("reads").contains("\"..\""));
    }
}
