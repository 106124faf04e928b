//! Whether a certificate proves a name (RFC 5280 6, RFC 9525).
//!
//! Owns the roots and the verdicts of the last hour. A verdict is asked for on every connection, resumed ones
//! included, where no certificate is sent and the library's verifier is not called: so it is remembered by
//! the digest of chain and name, and costs some microseconds rather than two or three signatures.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::digest;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{Error, RootCertStore};

use super::certificate::{CertificateError, certificates};
use super::facts::{Pkix, PkixFault};
use super::{Time, provider};
use crate::clock::{Clock, Timestamp};

/// Verdicts that are remembered: some hundred octets each.
const VERDICTS_MAX: usize = 4096;
/// A certificate may expire meanwhile: a verdict is that old at most.
const VERDICT_FRESH: Duration = Duration::from_secs(3600);

/// The roots that certificates of servers are judged by. Clones share them.
#[derive(Clone, Debug)]
pub struct Roots(Arc<RootCertStore>);

impl Roots {
    /// Those of the web, which public mail hosts use as well.
    pub fn public() -> Self {
        Roots(Arc::new(webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect()))
    }

    /// Those of the web and every certificate in some PEM files.
    pub fn with_files(files: &[PathBuf]) -> Result<Self, CertificateError> {
        let mut store: RootCertStore = webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect();
        for file in files {
            for certificate in certificates(file)? {
                store.add(certificate).map_err(|error| CertificateError::Unusable {
                    file: file.clone(),
                    error: error.to_string().into(),
                })?;
            }
        }
        Ok(Roots(Arc::new(store)))
    }
}

type Digest = [u8; 32];

/// Judges certificates.
#[derive(Debug)]
pub(super) struct Judge {
    verifier: Arc<WebPkiServerVerifier>,
    clock: Clock,
    verdicts: Mutex<HashMap<Digest, (Timestamp, Pkix)>>,
}

impl Judge {
    pub(super) fn new(roots: &Roots, clock: Clock) -> Result<Self, CertificateError> {
        let verifier = WebPkiServerVerifier::builder_with_provider(roots.0.clone(), provider()).build();
        let verifier =
            verifier.map_err(|error| CertificateError::Broken { error: error.to_string().into() })?;
        Ok(Judge { verifier, clock, verdicts: Mutex::default() })
    }

    /// What a chain, the server's own certificate first, proves for a name.
    pub(super) fn judge(
        &self,
        own: &CertificateDer<'_>,
        issuers: &[CertificateDer<'_>],
        name: &ServerName<'_>,
    ) -> Pkix {
        let (key, now) = (digest_of(own, issuers, name), self.clock.shown());
        let known = self.verdicts.lock().unwrap_or_else(PoisonError::into_inner).get(&key).copied();
        if let Some((judged, verdict)) = known
            && now.since(judged) < VERDICT_FRESH
        {
            return verdict;
        }
        let time = Time(self.clock.clone()).now();
        let verdict = match self.verifier.verify_server_cert(own, issuers, name, &[], time) {
            Ok(_) => Pkix::Valid,
            Err(Error::InvalidCertificate(error)) => Pkix::Invalid(PkixFault::of(&error)),
            Err(_) => Pkix::Invalid(PkixFault::Unfit),
        };
        self.remember(key, now, verdict);
        verdict
    }

    fn remember(&self, key: Digest, now: Timestamp, verdict: Pkix) {
        let mut verdicts = self.verdicts.lock().unwrap_or_else(PoisonError::into_inner);
        if verdicts.len() >= VERDICTS_MAX {
            verdicts.retain(|_, (judged, _)| now.since(*judged) < VERDICT_FRESH);
        }
        // so many hosts within the hour: judging some of them again is cheaper than keeping an order
        if verdicts.len() >= VERDICTS_MAX {
            verdicts.clear();
        }
        verdicts.insert(key, (now, verdict));
    }
}

/// Lengths before contents: no two chains run together into the same octets.
fn digest_of(own: &CertificateDer<'_>, issuers: &[CertificateDer<'_>], name: &ServerName<'_>) -> Digest {
    let mut context = digest::Context::new(&digest::SHA256);
    let mut add = |part: &[u8]| {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    };
    add(name.to_str().as_bytes());
    add(own);
    issuers.iter().for_each(|issuer| add(issuer));
    let mut digest = Digest::default();
    digest.copy_from_slice(context.finish().as_ref());
    digest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    /// 2030-01-01.
    const NEW_YEAR: Timestamp = Timestamp::from_millis(1_893_456_000_000);

    /// A root, and a certificate under it that is valid in the two days round the new year.
    fn chain(dir: &std::path::Path) -> (Roots, CertificateDer<'static>) {
        let authority = super::super::tests::Authority::new();
        let key = KeyPair::generate().expect("makes");
        let mut params = CertificateParams::new(["mx.example.org".to_owned()]).expect("a name");
        (params.not_before, params.not_after) = (date_time_ymd(2029, 12, 31), date_time_ymd(2030, 1, 2));
        let roots = authority.roots(dir);
        (roots, params.signed_by(&key, authority.issuer()).expect("signs").into())
    }

    #[test]
    fn verdicts_tell_why_and_do_not_outlive_the_hour() {
        let dir = tempfile::tempdir().expect("a directory");
        let (roots, certificate) = chain(dir.path());
        let manual = ManualClock::at(Timestamp::from_millis(NEW_YEAR.as_millis() - 2 * 86_400_000));
        let judge = Judge::new(&roots, Clock::Manual(manual.clone())).expect("judges");
        let strict = Judge::new(&Roots::public(), Clock::Manual(manual.clone())).expect("judges");
        let ask = |judge: &Judge, name: &str| {
            judge.judge(&certificate, &[], &ServerName::try_from(name.to_owned()).expect("a name"))
        };
        assert_eq!(ask(&judge, "mx.example.org"), Pkix::Invalid(PkixFault::NotYetValid));
        manual.advance(Duration::from_secs(2 * 86_400));
        assert_eq!(ask(&judge, "mx.example.org"), Pkix::Valid);
        assert_eq!(ask(&judge, "MX.Example.ORG"), Pkix::Valid);
        assert_eq!(ask(&judge, "example.org"), Pkix::Invalid(PkixFault::WrongName));
        assert_eq!(ask(&judge, "192.0.2.1"), Pkix::Invalid(PkixFault::WrongName));
        assert_eq!(ask(&strict, "mx.example.org"), Pkix::Invalid(PkixFault::NotTrusted));
        manual.advance(Duration::from_secs(86_400 - 600));
        assert_eq!(ask(&judge, "mx.example.org"), Pkix::Valid);
        manual.advance(Duration::from_secs(3600 + 1200));
        assert_eq!(ask(&judge, "mx.example.org"), Pkix::Invalid(PkixFault::Expired));
        let rubbish = CertificateDer::from(vec![0x30, 3, 1, 2, 3]);
        let name = ServerName::try_from("mx.example.org").expect("a name");
        assert_eq!(judge.judge(&rubbish, &[], &name), Pkix::Invalid(PkixFault::Unfit));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let judge = Judge::new(&Roots::public(), Clock::Manual(ManualClock::at(NEW_YEAR))).expect("judges");
        for number in 0..2 * VERDICTS_MAX as u64 {
            let mut key = Digest::default();
            key[..8].copy_from_slice(&number.to_be_bytes());
            judge.remember(key, NEW_YEAR, Pkix::Valid);
        }
        assert!(judge.verdicts.lock().expect("is whole").len() <= VERDICTS_MAX);
    }

    #[test]
    fn a_file_of_roots_that_is_none_is_named() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("roots.pem");
        std::fs::write(&file, "no PEM").expect("writes");
        let told = Roots::with_files(std::slice::from_ref(&file)).expect_err("is wrong").to_string();
        assert!(told.contains("roots.pem holds no certificate"), "{told}");
    }
}
