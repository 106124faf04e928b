//! Certificates and keys in PEM files (RFC 7468).
//!
//! Every fault names the file and what to do about it: whoever sees it has just edited the configuration.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustls::InconsistentKeys;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::described::Described;
use super::{provider, self_signed};

/// A chain takes some 10 KiB, all the roots of the web some 250: what is larger is another kind of file.
const PEM_MAX_OCTETS: u64 = 4 << 20;
/// Permission bits of those who are neither owner nor group.
const OTHERS: u32 = 0o007;

/// Why there is no certificate to show, or no root to judge by.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The file is not there, or not for us.
    #[error("cannot read {}: {error}", file.display())]
    Read {
        /// Which file.
        file: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The key may be read by everybody on the machine.
    #[error("everybody may read the private key {}: say chmod o= {}", file.display(), file.display())]
    Exposed {
        /// Which file.
        file: PathBuf,
    },
    /// The file is too large for what it should hold.
    #[error("{} is larger than {PEM_MAX_OCTETS} octets: it is no PEM file of certificates", file.display())]
    TooLarge {
        /// Which file.
        file: PathBuf,
    },
    /// The file is not PEM.
    #[error("{} is damaged: {error}", file.display())]
    Damaged {
        /// Which file.
        file: PathBuf,
        /// What the reader said.
        error: Box<str>,
    },
    /// The file holds something else.
    #[error("{} holds no certificate: it should begin with -----BEGIN CERTIFICATE-----", file.display())]
    NoCertificate {
        /// Which file.
        file: PathBuf,
    },
    /// The file holds something else, or a key under a password.
    #[error(
        "{} holds no private key: it should begin with -----BEGIN PRIVATE KEY-----, without a password",
        file.display()
    )]
    NoKey {
        /// Which file.
        file: PathBuf,
    },
    /// The two do not belong together.
    #[error(
        "the key {} belongs to another certificate than the first one in {}",
        key.display(),
        certificate.display()
    )]
    Mismatch {
        /// The file of the certificates.
        certificate: PathBuf,
        /// The file of the key.
        key: PathBuf,
    },
    /// A kind of key or certificate that does not serve.
    #[error("{} does not serve: {error}", file.display())]
    Unusable {
        /// Which file.
        file: PathBuf,
        /// What the library said.
        error: Box<str>,
    },
    /// No certificate was made for a name.
    #[error("cannot make a certificate for {name}: {error}")]
    Make {
        /// The host name.
        name: Box<str>,
        /// What the library said.
        error: Box<str>,
    },
    /// The certificate that was made could not be kept.
    #[error("cannot write {}: {error}", file.display())]
    Write {
        /// Which file.
        file: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// A server without certificate.
    #[error("TLS needs a certificate")]
    None,
    /// The cryptography did not start.
    #[error("TLS does not work on this machine: {error}")]
    Broken {
        /// What the library said.
        error: Box<str>,
    },
}

/// A certificate with its chain and its key: what a server shows.
#[derive(Clone, Debug)]
pub struct Identity {
    pub(super) certified: CertifiedKey,
    pub(super) described: Described,
}

impl Identity {
    /// From a file of our own with both, of which a copy of the data directory may have lost the mode.
    pub fn from_own_file(file: &Path) -> Result<Self, CertificateError> {
        // where it cannot be set right, reading the key says so
        let _ = fs::set_permissions(file, fs::Permissions::from_mode(self_signed::OWNER_ONLY));
        Self::from_files(file, file)
    }

    /// From a file with the certificate and those of its issuers, in this order, and one with its key. They
    /// may be one file.
    pub fn from_files(certificate: &Path, key: &Path) -> Result<Self, CertificateError> {
        let chain = certificates(certificate)?;
        let der = private_key(key)?;
        let certified = CertifiedKey::from_der(chain, der, &provider()).map_err(|error| match error {
            rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                CertificateError::Mismatch { certificate: certificate.into(), key: key.into() }
            }
            rustls::Error::InvalidCertificate(error) => {
                CertificateError::Unusable { file: certificate.into(), error: error.to_string().into() }
            }
            error => CertificateError::Unusable { file: key.into(), error: error.to_string().into() },
        })?;
        Self::of(certified).map_err(|error| CertificateError::Unusable { file: certificate.into(), error })
    }

    /// One that cannot be read cannot be looked after either.
    pub(super) fn of(certified: CertifiedKey) -> Result<Self, Box<str>> {
        let first = certified.cert.first().ok_or("it is empty")?;
        Ok(Identity { described: Described::of(first)?, certified })
    }

    /// From a chain and a key as they came from an authority, in PEM.
    pub fn from_pem(chain: &str, key: &str) -> Result<Self, Box<str>> {
        let told = |error: &dyn std::fmt::Display| error.to_string().into_boxed_str();
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain.as_bytes()).collect();
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|_| "it is no PEM")?;
        let certified = CertifiedKey::from_der(chain.map_err(|_| "it is no PEM")?, key, &provider());
        certified.map_err(|error| told(&error)).and_then(Self::of)
    }

    /// One that nobody but itself vouches for, and that is kept nowhere.
    pub fn unkept(name: &str) -> Result<Self, CertificateError> {
        let failed = |error: Box<str>| CertificateError::Make { name: name.into(), error };
        let text = self_signed::make(name).map_err(|error| failed(error.to_string().into()))?;
        Self::from_pem(&text, &text).map_err(failed)
    }

    /// The certificate for a host name that nobody but itself vouches for, and its file. It is made once and kept in
    /// `directory`, so that whoever pinned it finds it again after a restart.
    pub fn self_signed(name: &str, directory: &Path) -> Result<(Self, PathBuf), CertificateError> {
        let file = self_signed::ensure(name, directory)?;
        Ok((Self::from_files(&file, &file)?, file))
    }
}

/// All certificates in a file; at least one.
pub(super) fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let text = read(file)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match found {
        Ok(found) if found.is_empty() => Err(CertificateError::NoCertificate { file: file.into() }),
        Ok(found) => Ok(found),
        Err(error) => Err(damaged(file, &error)),
    }
}

fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>, CertificateError> {
    let text = read(file)?;
    let mode = fs::metadata(file).map_err(unreadable(file))?.permissions().mode();
    if mode & OTHERS != 0 {
        return Err(CertificateError::Exposed { file: file.into() });
    }
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| match error {
        pem::Error::NoItemsFound => CertificateError::NoKey { file: file.into() },
        error => damaged(file, &error),
    })
}

fn read(file: &Path) -> Result<Vec<u8>, CertificateError> {
    let mut text = Vec::new();
    let opened = File::open(file).map_err(unreadable(file))?;
    opened.take(PEM_MAX_OCTETS + 1).read_to_end(&mut text).map_err(unreadable(file))?;
    if text.len() as u64 > PEM_MAX_OCTETS {
        return Err(CertificateError::TooLarge { file: file.into() });
    }
    Ok(text)
}

fn unreadable(file: &Path) -> impl Fn(io::Error) -> CertificateError {
    move |error| CertificateError::Read { file: file.into(), error }
}

/// The reader's own words would show octets of what may be a key.
fn damaged(file: &Path, error: &pem::Error) -> CertificateError {
    let error = match error {
        pem::Error::MissingSectionEnd { .. } => "a section has no end",
        pem::Error::IllegalSectionStart { .. } => "a section has no proper beginning",
        pem::Error::Base64Decode(_) => "a section is no base64",
        _ => "it is no PEM",
    };
    CertificateError::Damaged { file: file.into(), error: error.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{KeyPair, generate_simple_self_signed};
    use std::os::unix::fs::OpenOptionsExt;

    fn write(directory: &Path, name: &str, mode: u32, text: &str) -> PathBuf {
        let file = directory.join(name);
        let mut options = File::options();
        let mut opened = options.write(true).create_new(true).mode(mode).open(&file).expect("creates");
        io::Write::write_all(&mut opened, text.as_bytes()).expect("writes");
        file
    }

    #[test]
    fn every_fault_names_its_file_and_the_remedy() {
        let dir = tempfile::tempdir().expect("a directory");
        let own = generate_simple_self_signed(["mx.example.org".to_owned()]).expect("makes");
        let other = KeyPair::generate().expect("makes");
        let (pem, key) = (own.cert.pem(), own.signing_key.serialize_pem());
        let cert = write(dir.path(), "cert", 0o644, &pem);
        let good = write(dir.path(), "key", 0o640, &key);
        let both = write(dir.path(), "both", 0o600, &format!("{pem}{key}"));
        assert!(Identity::from_files(&cert, &good).is_ok());
        assert!(Identity::from_files(&both, &both).is_ok());
        let exposed = write(dir.path(), "exposed", 0o644, &key);
        let foreign = write(dir.path(), "foreign", 0o600, &other.serialize_pem());
        let cut = write(dir.path(), "cut", 0o600, &key[..key.len() - 30]);
        let empty = write(dir.path(), "empty", 0o600, "");
        let locked = key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
        let locked = write(dir.path(), "locked", 0o600, &locked);
        let nonsense = pem.replace('M', "A");
        let nonsense = write(dir.path(), "nonsense", 0o600, &nonsense);
        // what rustls looks at only when it verifies; rcgen's last day is the first of a year (X.690 11.7, 11.8)
        let mut der = own.cert.der().to_vec();
        let month = der.windows(6).rposition(|octets| octets == b"010100").expect("is there");
        der[month..month + 2].copy_from_slice(b"13");
        let dateless = ::pem::encode(&::pem::Pem::new("CERTIFICATE", der));
        let dateless = write(dir.path(), "dateless", 0o644, &dateless);
        let absent = dir.path().join("absent");
        for (certificate, key, guilty, want) in [
            (&cert, &absent, "absent", "cannot read"),
            (&absent, &good, "absent", "cannot read"),
            (&cert, &exposed, "exposed", "say chmod o="),
            (&cert, &foreign, "foreign", "belongs to another certificate"),
            (&cert, &cut, "cut", "is damaged: a section has no end"),
            (&cert, &empty, "empty", "holds no private key"),
            (&cert, &locked, "locked", "holds no private key"),
            (&empty, &good, "empty", "holds no certificate"),
            (&good, &good, "key", "holds no certificate"),
            (&nonsense, &good, "nonsense", "does not serve"),
            (&dateless, &good, "dateless", "does not serve"),
        ] {
            let told = Identity::from_files(certificate, key).expect_err("is wrong").to_string();
            let path = dir.path().join(guilty);
            assert!(told.contains(&*path.to_string_lossy()) && told.contains(want), "{want}: {told}");
        }
    }
}
