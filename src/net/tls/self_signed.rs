//! A certificate for a host name that nobody but itself vouches for.
//!
//! Owns one file a name, which holds certificate and key: two files could be of two makings. Promises that a
//! file once there is never made anew, and that only its owner may read it.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, date_time_ymd,
};

use super::certificate::CertificateError;
use crate::files::{Former, keep};

/// The mode of a file with a key.
pub(super) const OWNER_ONLY: u32 = 0o600;

/// The file for a name, made where it is missing.
pub(super) fn ensure(name: &str, directory: &Path) -> Result<PathBuf, CertificateError> {
    // a name from the configuration must not lead out of the directory
    let safe = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-') { c } else { '_' };
    let file = directory.join(format!("self-signed-{}.pem", name.chars().map(safe).collect::<String>()));
    match fs::exists(&file) {
        Ok(true) => {
            // a copy of the data directory may have lost the mode, and mail that waits must not wait for that; where
            // it cannot be set right, whoever reads the key says so
            let _ = fs::set_permissions(&file, Permissions::from_mode(OWNER_ONLY));
            return Ok(file);
        }
        Ok(false) => {}
        Err(error) => return Err(CertificateError::Read { file, error }),
    }
    let text = make(name)
        .map_err(|error| CertificateError::Make { name: name.into(), error: error.to_string().into() })?;
    let kept = fs::create_dir_all(directory).and_then(|()| keep(&file, text.as_bytes(), Former::Replaced));
    match kept {
        Ok(()) => Ok(file),
        Err(error) => Err(CertificateError::Write { file, error }),
    }
}

/// The certificate and its key in PEM. It is valid for as long as dates go: whoever trusts it has pinned it,
/// and one that runs out some day protects nobody (RFC 5280 4.1.2.5 for the date that says "never").
pub(super) fn make(name: &str) -> Result<String, rcgen::Error> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::new([name.to_owned()])?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(9999, 12, 31);
    let certificate = params.self_signed(&key)?;
    Ok(format!("{}{}", certificate.pem(), key.serialize_pem()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::tls::Identity;

    #[test]
    fn it_is_made_once_a_name_and_for_the_owner_alone() {
        let dir = tempfile::tempdir().expect("a directory");
        let home = dir.path().join("tls");
        let first = Identity::self_signed("mx.example.org", &home).expect("is made");
        let again = Identity::self_signed("mx.example.org", &home).expect("is read");
        let other = Identity::self_signed("mx.example.net", &home).expect("is made");
        let (first, again, other) = (first.0, again.0, other.0);
        assert_eq!(first.certified.cert, again.certified.cert);
        let file = home.join("self-signed-mx.example.org.pem");
        fs::set_permissions(&file, Permissions::from_mode(0o644)).expect("is ours");
        assert!(Identity::self_signed("mx.example.org", &home).is_ok(), "a copy lost its mode");
        assert_eq!(fs::metadata(&file).expect("is there").permissions().mode() & 0o777, OWNER_ONLY);
        assert_ne!(first.certified.cert, other.certified.cert);
        let file = home.join("self-signed-mx.example.org.pem");
        let mode = fs::metadata(&file).expect("is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(&home).expect("is there").count(), 2, "a draft was left behind");
    }

    #[test]
    fn a_name_leads_nowhere_else_and_faults_name_the_file() {
        let dir = tempfile::tempdir().expect("a directory");
        let made = ensure("../../x", dir.path()).expect("is made");
        assert_eq!(made, dir.path().join("self-signed-.._.._x.pem"));
        let blocked = dir.path().join("self-signed-.._.._x.pem").join("below a file");
        let told =
            Identity::self_signed("mx.example.org", &blocked).expect_err("is no directory").to_string();
        assert!(told.starts_with("cannot ") && told.contains("self-signed-mx.example.org.pem"), "{told}");
    }
}
