//! What is kept of certificates by ACME: `data_dir/acme`.
//!
//! `NAME.pem` is a certificate, its chain and its key, in one file, so that they always belong together;
//! `NAME.former.pem` is the one before it where that had another key; `NAME.trouble.json` stands beside it from the
//! beginning of an order to its good end. All are the owner's alone.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use super::trouble::Trouble;
use crate::files::{Former, keep};
use crate::mail::Domain;
use crate::net::{CertificateError, Fingerprint, Identity, Issued};

/// The first line of a certificate's file says who signed it.
const BY: &str = "# by ";
const DIGEST_DIGITS: usize = 16;

/// Where it is.
#[derive(Clone, Debug)]
pub(super) struct AcmeShelf(PathBuf);

fn directory_of(text: &str) -> &str {
    text.lines().next().and_then(|line| line.strip_prefix(BY)).unwrap_or_default()
}

/// The private key in a text, as it stands.
fn key_in(text: &str) -> Result<String, String> {
    let all = pem::parse_many(text).map_err(|error| error.to_string())?;
    let key = all.iter().find(|part| part.tag().ends_with("PRIVATE KEY"));
    key.map(pem::encode).ok_or_else(|| "it holds no private key".to_owned())
}

impl AcmeShelf {
    pub(super) fn of(data_dir: &Path) -> Self {
        AcmeShelf(data_dir.join("acme"))
    }

    pub(super) fn ensure(&self) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.0)
    }

    /// The file of the account at an authority.
    pub(super) fn account(&self, directory: &str) -> PathBuf {
        let digest = Fingerprint::of(directory.as_bytes()).to_string();
        self.0.join(format!("account-{}.json", &digest[..DIGEST_DIGITS]))
    }

    /// The file of a certificate.
    pub(super) fn file(&self, name: &Domain) -> PathBuf {
        self.0.join(format!("{name}.pem"))
    }

    fn trouble_file(&self, name: &Domain) -> PathBuf {
        self.0.join(format!("{name}.trouble.json"))
    }

    /// The certificate for a name, where there is one, and the directory of who signed it.
    pub(super) fn find(&self, name: &Domain) -> Result<Option<(Identity, String)>, CertificateError> {
        let file = self.file(name);
        if matches!(fs::exists(&file), Ok(false)) {
            return Ok(None);
        }
        let identity = Identity::from_own_file(&file)?;
        let text = fs::read_to_string(&file).map_err(|error| CertificateError::Read { file, error })?;
        Ok(Some((identity, directory_of(&text).to_owned())))
    }

    /// Its key, in PEM, or else that of its stand-in, of which records may have been published already. One that cannot
    /// be read is not to be replaced.
    pub(super) fn key(&self, name: &Domain, stand_in: &Path) -> Result<Option<String>, String> {
        for file in [self.file(name).as_path(), stand_in] {
            match fs::read_to_string(file) {
                Ok(text) => {
                    let key = key_in(&text).map_err(|error| format!("{}: {error}", file.display()))?;
                    return Ok(Some(key));
                }
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(format!("{}: {error}", file.display())),
            }
        }
        Ok(None)
    }

    /// Puts a certificate in the place of the former one, if it serves. A former one with another key is kept.
    pub(super) fn put(&self, name: &Domain, issued: &Issued, directory: &str) -> Result<(), String> {
        let file = self.file(name);
        let told = |error: &dyn std::fmt::Display| format!("keeping {}: {error}", file.display());
        let identity = Identity::from_pem(&issued.chain, &issued.key).map_err(|error| told(&error))?;
        let is_for = |one: &String| one.eq_ignore_ascii_case(name.as_str());
        if !identity.described().names.iter().any(is_for) {
            return Err(told(&"the authority's certificate is for other names"));
        }
        let has_another_key = || {
            let former = fs::read_to_string(&file).ok().and_then(|former| key_in(&former).ok());
            former.is_none() || former != key_in(&issued.key).ok()
        };
        // one that cannot be read may hold the only copy of a key
        if matches!(fs::exists(&file), Ok(true)) && has_another_key() {
            let aside = self.0.join(format!("{name}.former.pem"));
            let _ = fs::remove_file(&aside);
            fs::hard_link(&file, &aside).map_err(|error| told(&error))?;
        }
        let text = format!("{BY}{directory}\n{}\n{}", issued.chain.trim_end(), issued.key);
        keep(&file, text.as_bytes(), Former::Replaced).map_err(|error| told(&error))
    }

    /// What went wrong last, where it has not come right since.
    pub(super) fn trouble(&self, name: &Domain) -> Option<Trouble> {
        serde_json::from_slice(&fs::read(self.trouble_file(name)).ok()?).ok()
    }

    pub(super) fn note_trouble(&self, name: &Domain, trouble: &Trouble) -> io::Result<()> {
        let octets = serde_json::to_vec(trouble).map_err(io::Error::other)?;
        keep(&self.trouble_file(name), &octets, Former::Replaced)
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

    const CA: &str = "https://ca.example/directory";

    fn issued(name: &str) -> Issued {
        let made = generate_simple_self_signed([name.to_owned()]).expect("makes");
        Issued { chain: made.cert.pem(), key: made.signing_key.serialize_pem() }
    }

    fn same_key(one: &str, other: &str) -> bool {
        let der = |pem: &str| KeyPair::from_pem(pem).expect("is a key").serialize_der();
        der(one) == der(other)
    }

    #[test]
    fn a_certificate_takes_the_place_of_another_only_where_it_serves_and_no_key_is_lost() {
        let dir = tempfile::tempdir().expect("a directory");
        let (shelf, name) = (AcmeShelf::of(dir.path()), Domain::parse("mx.example.org").expect("a name"));
        let stand_in = dir.path().join("stand-in.pem");
        shelf.ensure().expect("is made");
        assert!(shelf.find(&name).expect("is no fault").is_none());
        assert_eq!(shelf.key(&name, &stand_in), Ok(None));
        let made_here = issued("mx.example.org");
        fs::write(&stand_in, format!("{}{}", made_here.chain, made_here.key)).expect("writes");
        let key = || shelf.key(&name, &stand_in).expect("reads").expect("has one");
        assert!(same_key(&key(), &made_here.key), "records of it may be published");
        let first = issued("mx.example.org");
        shelf.put(&name, &first, CA).expect("is kept");
        let digest = || {
            let (identity, by) = shelf.find(&name).expect("serves").expect("is there");
            assert_eq!(by, CA);
            identity.described().key_digest.clone()
        };
        let kept = digest();
        let others_key = Issued { key: issued("mx.example.org").key, ..issued("mx.example.org") };
        for bad in [issued("mx.example.net"), others_key, Issued { chain: "no PEM".into(), ..issued("x") }] {
            assert!(shelf.put(&name, &bad, CA).is_err());
            assert_eq!(digest(), kept);
        }
        assert!(same_key(&key(), &first.key));
        let second = issued("mx.example.org");
        shelf.put(&name, &second, CA).expect("is kept");
        assert!(same_key(&key(), &second.key));
        let former = fs::read_to_string(shelf.0.join("mx.example.org.former.pem")).expect("is kept");
        assert!(same_key(&key_in(&former).expect("has one"), &first.key));
        let mode = |path: &Path| fs::metadata(path).expect("is there").permissions().mode() & 0o777;
        assert_eq!((mode(&shelf.0), mode(&shelf.file(&name))), (0o700, 0o600));
        for damage in ["", "-----BEGIN PRIVATE KEY-----\n!\n-----END PRIVATE KEY-----\n"] {
            fs::write(shelf.file(&name), damage).expect("writes");
            assert!(shelf.key(&name, &stand_in).is_err(), "it would be replaced by another");
            assert!(shelf.find(&name).is_err());
        }
        assert_ne!(shelf.account(CA), shelf.account("https://other.example/"));
    }
}
