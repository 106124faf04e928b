//! What is kept of certificates by ACME: `data_dir/acme`.
//!
//! `NAME.pem` is a certificate, its chain and its key, in one file, so that they always belong together; `NAME.json`
//! stands beside it while it could not be had or replaced. All are the owner's alone.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::files::{Former, keep};
use crate::mail::Domain;
use crate::net::{Identity, Issued};

/// The first wait after a failure; each is five times as long as the one before. Authorities count failures, and refuse
/// more than some five within an hour.
const FIRST_WAIT: Duration = Duration::from_secs(60);
const WAIT_GROWS: u32 = 5;
const WAIT_MAX: Duration = Duration::from_secs(6 * 3600);

/// Where it is.
#[derive(Clone, Debug)]
pub(in crate::app) struct AcmeShelf(PathBuf);

/// Why a certificate could not be had.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub(in crate::app) struct Trouble {
    /// What happened last.
    pub(in crate::app) error: String,
    /// How often in a row.
    failures: u32,
    /// When it is tried next, in milliseconds since 1970.
    next: u64,
}

impl Trouble {
    /// Once more.
    pub(super) fn again(before: Option<Trouble>, now: Timestamp, error: String) -> Self {
        let failures = before.map_or(0, |before| before.failures).saturating_add(1);
        let wait = FIRST_WAIT.saturating_mul(WAIT_GROWS.saturating_pow(failures - 1)).min(WAIT_MAX);
        Trouble { error, failures, next: now.after(wait).as_millis() }
    }

    /// When it is tried next.
    pub(super) fn next(&self) -> Timestamp {
        Timestamp::from_millis(self.next)
    }
}

impl AcmeShelf {
    pub(super) fn of(data_dir: &Path) -> Self {
        AcmeShelf(data_dir.join("acme"))
    }

    pub(super) fn ensure(&self) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.0)
    }

    /// The account's file.
    pub(super) fn account(&self) -> PathBuf {
        self.0.join("account.json")
    }

    /// The file of a certificate.
    pub(super) fn file(&self, name: &Domain) -> PathBuf {
        self.0.join(format!("{name}.pem"))
    }

    fn trouble_file(&self, name: &Domain) -> PathBuf {
        self.0.join(format!("{name}.json"))
    }

    /// The certificate for a name, where there is one that serves.
    pub(super) fn identity(&self, name: &Domain) -> Option<Identity> {
        let file = self.file(name);
        match Identity::from_files(&file, &file) {
            Ok(identity) => Some(identity),
            Err(error) => {
                if file.exists() {
                    tracing::error!(event = "certificate_unreadable", error = %error);
                }
                None
            }
        }
    }

    /// Its key, in PEM.
    pub(super) fn key(&self, name: &Domain) -> Option<String> {
        let text = fs::read_to_string(self.file(name)).ok()?;
        let all = pem::parse_many(text).ok()?;
        all.iter().find(|part| part.tag().ends_with("PRIVATE KEY")).map(pem::encode)
    }

    /// Puts a certificate in the place of the former one, if it serves.
    pub(super) fn put(&self, name: &Domain, issued: &Issued) -> Result<(), String> {
        let file = self.file(name);
        let told = |error: &dyn std::fmt::Display| format!("keeping {}: {error}", file.display());
        let identity = Identity::from_pem(&issued.chain, &issued.key).map_err(|error| told(&error))?;
        let is_for = |one: &String| one.eq_ignore_ascii_case(name.as_str());
        if !identity.described().is_some_and(|described| described.names.iter().any(is_for)) {
            return Err(told(&"the authority's certificate is for other names"));
        }
        let text = format!("{}\n{}", issued.chain.trim_end(), issued.key);
        keep(&file, text.as_bytes(), Former::Replaced).map_err(|error| told(&error))?;
        self.forget_trouble(name);
        Ok(())
    }

    /// What went wrong last, where it has not come right since.
    pub(in crate::app) fn trouble(&self, name: &Domain) -> Option<Trouble> {
        serde_json::from_slice(&fs::read(self.trouble_file(name)).ok()?).ok()
    }

    pub(super) fn note_trouble(&self, name: &Domain, trouble: &Trouble) {
        let octets = serde_json::to_vec(trouble).unwrap_or_default();
        if let Err(error) = keep(&self.trouble_file(name), &octets, Former::Replaced) {
            tracing::error!(event = "certificate_trouble_not_kept", domain = %name, error = %error);
        }
    }

    pub(super) fn forget_trouble(&self, name: &Domain) {
        match fs::remove_file(self.trouble_file(name)) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                tracing::error!(event = "certificate_trouble_not_kept", domain = %name, error = %error);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{KeyPair, generate_simple_self_signed};
    use std::os::unix::fs::PermissionsExt as _;

    fn issued(name: &str) -> Issued {
        let made = generate_simple_self_signed([name.to_owned()]).expect("makes");
        Issued { chain: made.cert.pem(), key: made.signing_key.serialize_pem() }
    }

    #[test]
    fn a_certificate_takes_the_place_of_another_only_where_it_serves() {
        let dir = tempfile::tempdir().expect("a directory");
        let (shelf, name) = (AcmeShelf::of(dir.path()), Domain::parse("mx.example.org").expect("a name"));
        shelf.ensure().expect("is made");
        assert!(shelf.identity(&name).is_none() && shelf.key(&name).is_none());
        let first = issued("mx.example.org");
        shelf.note_trouble(&name, &Trouble::again(None, Timestamp::from_millis(0), "x".into()));
        shelf.put(&name, &first).expect("is kept");
        assert_eq!(shelf.trouble(&name), None, "it has come right");
        let digest = |shelf: &AcmeShelf| {
            shelf.identity(&name).and_then(|identity| identity.described()).expect("serves").key_digest
        };
        let kept = digest(&shelf);
        let others_key = Issued { key: issued("mx.example.org").key, ..issued("mx.example.org") };
        for bad in [issued("mx.example.net"), others_key, Issued { chain: "no PEM".into(), ..issued("x") }] {
            assert!(shelf.put(&name, &bad).is_err());
            assert_eq!(digest(&shelf), kept);
        }
        let key = KeyPair::from_pem(&shelf.key(&name).expect("has one")).expect("is a key");
        assert_eq!(key.serialized_der(), KeyPair::from_pem(&first.key).expect("is a key").serialized_der());
        let mode = |path: &Path| fs::metadata(path).expect("is there").permissions().mode() & 0o777;
        assert_eq!((mode(&shelf.0), mode(&shelf.file(&name))), (0o700, 0o600));
    }

    #[test]
    fn failures_are_waited_after_longer_and_longer_and_outlive_a_restart() {
        let dir = tempfile::tempdir().expect("a directory");
        let (shelf, name) = (AcmeShelf::of(dir.path()), Domain::parse("mx.example.org").expect("a name"));
        shelf.ensure().expect("is made");
        let (mut now, mut waits) = (Timestamp::from_millis(0), Vec::new());
        for _ in 0..6 {
            let trouble = Trouble::again(shelf.trouble(&name), now, "refused".into());
            shelf.note_trouble(&name, &trouble);
            assert_eq!(AcmeShelf::of(dir.path()).trouble(&name), Some(trouble.clone()));
            waits.push(trouble.next().since(now).as_secs() / 60);
            now = trouble.next();
        }
        assert_eq!(waits, [1, 5, 25, 125, 360, 360]);
        fs::write(shelf.trouble_file(&name), "damaged").expect("writes");
        assert_eq!(shelf.trouble(&name), None);
    }
}
