//! The keys of all domains, and how far each has come: `dkim/` in the data directory.
//!
//! ```text
//! dkim/keys.json                 what there is
//! dkim/DOMAIN/SELECTOR.pem       a private key, for its owner alone
//! dkim/lock                      held by whoever changes something
//! ```
//!
//! A relay that runs and a command may both change the ring: each reads it anew under the lock.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use super::algorithm::Algorithm;
use super::entry::{Entry, Seen, Stage};
use super::key::{Key, KeyError, MadeKey};
use super::list;
use super::rotation::{self, View};
use super::selector::Selector;
use crate::clock::Timestamp;
use crate::files::{Former, keep};
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
    #[error("{domain} has a key with the selector {selector} already: {file}")]
    There {
        /// Whose key.
        domain: Domain,
        /// Its name.
        selector: Selector,
        /// Where it is.
        file: PathBuf,
    },
    /// Mail of its domain would leave unsigned.
    #[error("{selector} is the last {algorithm} key that signs for {domain}")]
    Last {
        /// Whose key.
        domain: Domain,
        /// Its name.
        selector: Selector,
        /// How it signs.
        algorithm: Algorithm,
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

/// A file, and its last change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileIdentity(u64, i64, i64);

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
        list::read(&text).map_err(wrong)
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
        flock(&held, FlockOperation::LockExclusive)
            .map_err(|errno| io_error("locking", &lock)(errno.into()))?;
        let before = self.read()?;
        let mut entries = before.clone();
        let changed = change(&mut entries)?;
        if entries != before {
            let file = self.list_file();
            let wrong = |error: String| RingError::List { file: file.clone(), error: error.into() };
            let text = list::written(&entries).map_err(wrong)?;
            keep(&file, &text, Former::Replaced).map_err(io_error("writing", &file))?;
        }
        Ok(changed)
    }

    /// Adds keys that were made for a domain, all or none; `selector` names the one, or else the day does. They sign
    /// once the DNS shows them and everybody can see that.
    pub fn add(
        &self,
        domain: &Domain,
        selector: Option<&Selector>,
        made: &[MadeKey],
        now: Timestamp,
    ) -> Result<Vec<Entry>, RingError> {
        self.change(|entries| {
            let mut added: Vec<Entry> = Vec::new();
            for made in made {
                match self.put(entries, (domain, selector), made, (now, Stage::Published)) {
                    Ok(entry) => added.push(entry),
                    Err(error) => {
                        for entry in added {
                            // one that stays is named by whoever meets it
                            let _ = fs::remove_file(self.key_file(&entry.domain, &entry.selector));
                        }
                        return Err(error);
                    }
                }
            }
            Ok(added)
        })
    }

    /// Takes a key that was in use elsewhere: it signs once the DNS shows it, as it has before.
    pub fn take_over(
        &self,
        domain: &Domain,
        selector: &Selector,
        made: &MadeKey,
        now: Timestamp,
    ) -> Result<Entry, RingError> {
        let stage = Stage::Waiting { until: now.as_millis() };
        self.change(|entries| self.put(entries, (domain, Some(selector)), made, (now, stage)))
    }

    fn put(
        &self,
        entries: &mut Vec<Entry>,
        (domain, selector): (&Domain, Option<&Selector>),
        made: &MadeKey,
        (now, stage): (Timestamp, Stage),
    ) -> Result<Entry, RingError> {
        if domain.as_literal().is_some() {
            return Err(RingError::Domain(domain.clone()));
        }
        let is_listed = |name: &Selector| entries.iter().any(|entry| entry.is(domain, name));
        let named = |number| Selector::dated(now, made.algorithm.as_str(), number);
        let selector = selector.cloned().unwrap_or_else(|| {
            let is_free = |name: &Selector| !is_listed(name) && !self.key_file(domain, name).exists();
            (1..1000).map(named).find(is_free).unwrap_or_else(|| named(1))
        });
        let file = self.key_file(domain, &selector);
        if is_listed(&selector) || file.exists() {
            return Err(RingError::There { domain: domain.clone(), selector, file });
        }
        Key::from_pem(domain.clone(), selector.clone(), &made.pem)
            .map_err(|error| RingError::Key { file: file.clone(), error })?;
        self.make_dir(&self.dir.join(domain.as_str()))?;
        keep(&file, made.pem.as_bytes(), Former::Kept).map_err(io_error("writing", &file))?;
        let entry = Entry { stage, ..Entry::new(domain.clone(), selector, made.algorithm, now) };
        entries.push(entry.clone());
        Ok(entry)
    }

    /// Takes a key out of service; its record has to stay for `kept`. The last of its kind that signs for a domain
    /// only where `may_be_last`.
    pub fn retire(
        &self,
        (domain, selector): (&Domain, &Selector),
        may_be_last: bool,
        (now, kept): (Timestamp, Duration),
    ) -> Result<Entry, RingError> {
        self.change(|entries| {
            let (domain, selector) = (domain.clone(), selector.clone());
            let Some(at) = entries.iter().position(|entry| entry.is(&domain, &selector)) else {
                return Err(RingError::NotThere { domain, selector });
            };
            let algorithm = entries[at].algorithm;
            let mut without = entries.clone();
            rotation::retire(&mut without[at], now, kept);
            let signs = |entries: &[Entry]| {
                let of_kind =
                    |at: &usize| entries[*at].domain == domain && entries[*at].algorithm == algorithm;
                rotation::signing(entries).iter().any(of_kind)
            };
            if signs(entries) && !signs(&without) && !may_be_last {
                return Err(RingError::Last { domain, selector, algorithm });
            }
            *entries = without;
            self.remove_private(&entries[at]);
            Ok(entries[at].clone())
        })
    }

    /// Takes looks into account, each at the key of this domain and selector. Mail that was signed is under way for
    /// `kept` at most; where the time is in doubt nothing is removed.
    pub(super) fn advance(
        &self,
        looks: &HashMap<(Domain, Selector), View>,
        (now, is_doubted): (Timestamp, bool),
        kept: Duration,
    ) -> Result<Vec<Entry>, RingError> {
        self.change(|entries| {
            for entry in entries.iter_mut() {
                let view = looks.get(&(entry.domain.clone(), entry.selector.clone()));
                rotation::advance(entry, view.copied().unwrap_or(View::Unknown), (now, is_doubted));
            }
            rotation::supersede(entries, now, kept);
            // one whose record is gone too has nothing left to be told
            entries.retain(|entry| {
                let is_gone = entry.stage == Stage::Removed && self.remove_private(entry);
                !is_gone || entry.seen == Some(Seen::Right)
            });
            Ok(entries.clone())
        })
    }

    /// Removes the private key of what is removed; whether it is gone.
    fn remove_private(&self, entry: &Entry) -> bool {
        if entry.stage != Stage::Removed {
            return false;
        }
        let file = self.key_file(&entry.domain, &entry.selector);
        match fs::remove_file(&file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(event = "dkim_key_not_removed", file = %file.display(), error = %error);
                false
            }
            _ => true,
        }
    }

    /// Which file a key is in, and since when that is as it is.
    pub(super) fn identity(&self, entry: &Entry) -> Result<FileIdentity, RingError> {
        let file = self.key_file(&entry.domain, &entry.selector);
        let metadata = fs::metadata(&file).map_err(io_error("reading", &file))?;
        Ok(FileIdentity(metadata.ino(), metadata.ctime(), metadata.ctime_nsec()))
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
        let above = dir.parent().unwrap_or(dir);
        File::open(above).and_then(|above| above.sync_all()).map_err(io_error("syncing", above))
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
        let first = ring.add(&domain(), None, &[made()], at(0)).expect("added").remove(0);
        let second = ring.add(&domain(), None, &[made()], at(0)).expect("added").remove(0);
        assert_eq!(first.selector.as_str(), "20261118-ed25519");
        assert_eq!(second.selector.as_str(), "20261118-ed25519-2");
        assert_eq!(ring.read().expect("reads"), [first.clone(), second]);
        let again = ring.add(&domain(), Some(&first.selector), &[made()], at(0));
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
        let entry = ring.add(&domain(), None, &[made()], at(0)).expect("added").remove(0);
        let retired = ring.retire((&domain(), &entry.selector), false, (at(1), KEEP)).expect("retired");
        assert_eq!(retired.stage, Stage::Removed);
        assert!(!ring.key_file(&domain(), &entry.selector).exists());
        assert_eq!(ring.advance(&HashMap::new(), (at(2), false), KEEP).expect("advances"), []);
        assert!(matches!(
            ring.retire((&domain(), &entry.selector), false, (at(1), KEEP)),
            Err(RingError::NotThere { .. })
        ));
    }

    #[test]
    fn a_list_that_makes_no_sense_is_told_and_not_written_over() {
        let dir = tempfile::tempdir().expect("a directory");
        let ring = KeyRing::of(dir.path());
        ring.add(&domain(), None, &[made()], at(0)).expect("added").remove(0);
        fs::write(ring.list_file(), "{\"keys\": [{\"domain\": \"..\"}]}").expect("written");
        assert!(matches!(ring.read(), Err(RingError::List { .. })));
        assert!(ring.add(&domain(), None, &[made()], at(0)).is_err());
        assert!(fs::read_to_string(ring.list_file()).expect("reads").contains("\"..\""));
    }

    #[test]
    fn the_private_key_goes_though_its_record_went_before_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let ring = KeyRing::of(dir.path());
        let entry = ring.add(&domain(), None, &[made()], at(0)).expect("added").remove(0);
        let until = at(10).as_millis();
        ring.change(|entries| {
            entries[0].stage = Stage::Retiring { until, is_withdrawn: false };
            Ok(())
        })
        .expect("changed");
        let looks = HashMap::from([((domain(), entry.selector.clone()), View::Seen(Seen::Missing, KEEP))]);
        assert_eq!(ring.advance(&looks, (at(9), false), KEEP).expect("advances").len(), 1);
        assert!(ring.key_file(&domain(), &entry.selector).exists());
        assert_eq!(ring.advance(&looks, (at(10), false), KEEP).expect("advances"), []);
        assert!(!ring.key_file(&domain(), &entry.selector).exists());
    }

    #[test]
    fn the_last_key_that_signs_is_retired_only_where_that_is_meant() {
        let dir = tempfile::tempdir().expect("a directory");
        let ring = KeyRing::of(dir.path());
        let entry = ring.add(&domain(), None, &[made()], at(0)).expect("added").remove(0);
        let make_active = |entries: &mut Vec<Entry>| {
            entries[0].stage = Stage::Active { since: 0 };
            Ok(())
        };
        ring.change(make_active).expect("changed");
        let retire = |may| ring.retire((&domain(), &entry.selector), may, (at(1), KEEP));
        assert!(matches!(retire(false), Err(RingError::Last { .. })));
        assert_eq!(retire(true).expect("retires").stage.as_str(), "retiring");
    }
}
