//! Whether TLSA records name the certificate that a server shows (RFC 7671 4 and 5, RFC 7672 3).

use std::sync::Arc;

use aws_lc_rs::digest::{self, SHA256, SHA512};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::CertificateDer;
use rustls::server::ParsedCertificate;
use rustls::{Error, RootCertStore};

use super::client::server_name;
use super::facts::PkixFault;
use super::{Time, provider};
use crate::clock::Clock;
use crate::net::Tlsa;

/// DANE-TA: the record is for an authority above the server's certificate.
const AUTHORITY: u8 = 2;
/// DANE-EE: it is for the server's own.
const OWN: u8 = 3;
const WHOLE: u8 = 0;
const PUBLIC_KEY: u8 = 1;
const BY_ITSELF: u8 = 0;
const BY_SHA256: u8 = 1;
const BY_SHA512: u8 = 2;

/// The certificates that a server showed, its own first.
#[derive(Clone, Debug, Default)]
pub struct Chain(pub(super) Vec<CertificateDer<'static>>);

/// Why no TLSA record proves who the server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DaneFault {
    /// None is for a certificate that it showed.
    #[error("the certificate is none that the TLSA records name")]
    NoMatch,
    /// One names an authority, but that does not vouch for the server.
    #[error("a TLSA record names an authority, but {0}")]
    Authority(PkixFault),
}

impl Tlsa {
    /// Whether mail servers can be judged by it (RFC 7672 3.1): the usages that need public roots cannot serve, for
    /// nobody has agreed on these, and what is unknown or malformed cannot either.
    pub fn is_usable(&self) -> bool {
        let is_whole = match (self.matching, self.selector) {
            (BY_ITSELF, WHOLE) => parsed(&CertificateDer::from(&*self.data)).is_some(),
            (BY_ITSELF, _) => !self.data.is_empty(),
            (BY_SHA256, _) => self.data.len() == SHA256.output_len(),
            (BY_SHA512, _) => self.data.len() == SHA512.output_len(),
            _ => false,
        };
        matches!(self.usage, AUTHORITY | OWN) && matches!(self.selector, WHOLE | PUBLIC_KEY) && is_whole
    }

    /// Whether a stronger record of the same kind makes it void (RFC 7671 9: digest agility).
    fn yields_to(&self, other: &Tlsa) -> bool {
        (self.usage, self.selector) == (other.usage, other.selector)
            && (self.matching, other.matching) == (BY_SHA256, BY_SHA512)
    }

    fn is_for(&self, certificate: &CertificateDer<'_>) -> bool {
        let key;
        let part: &[u8] = if self.selector == WHOLE {
            certificate
        } else {
            let Some(parsed) = parsed(certificate) else { return false };
            key = parsed.subject_public_key_info();
            &key
        };
        match self.matching {
            BY_ITSELF => *part == *self.data,
            BY_SHA256 => digest::digest(&SHA256, part).as_ref() == &*self.data,
            BY_SHA512 => digest::digest(&SHA512, part).as_ref() == &*self.data,
            _ => false,
        }
    }
}

fn parsed<'a>(certificate: &'a CertificateDer<'a>) -> Option<ParsedCertificate<'a>> {
    ParsedCertificate::try_from(certificate).ok()
}

impl Chain {
    /// Judges it by the usable ones among some records; gives the record that proves it.
    ///
    /// Neither names nor dates count where a record names the server's own certificate (RFC 7672 3.1.1). Where one
    /// names an authority it must vouch for one of `names`, now (3.1.2, 3.2.2).
    pub fn judge_by<'a>(
        &self,
        records: &'a [Tlsa],
        names: &[&str],
        clock: &Clock,
    ) -> Result<&'a Tlsa, DaneFault> {
        let [own, above @ ..] = &*self.0 else { return Err(DaneFault::NoMatch) };
        let strongest =
            |record: &&Tlsa| !records.iter().any(|other| other.is_usable() && record.yields_to(other));
        let usable = || records.iter().filter(|record| record.is_usable()).filter(strongest);
        if let Some(record) = usable().find(|record| record.usage == OWN && record.is_for(own)) {
            return Ok(record);
        }
        let mut fault = DaneFault::NoMatch;
        for record in usable().filter(|record| record.usage == AUTHORITY) {
            let Some(authority) = authority(record, above) else { continue };
            match vouched_for(&authority, own, above, names, clock) {
                Ok(()) => return Ok(record),
                Err(found) => fault = DaneFault::Authority(found),
            }
        }
        Err(fault)
    }
}

/// The certificate of the authority that a record names: one that the server showed, or the record's own data. A
/// bare key alone is none, for it has no name that could stand in what it signed.
fn authority(record: &Tlsa, shown: &[CertificateDer<'static>]) -> Option<CertificateDer<'static>> {
    let named = shown.iter().find(|certificate| record.is_for(certificate)).cloned();
    let is_certificate = (record.selector, record.matching) == (WHOLE, BY_ITSELF);
    named.or_else(|| is_certificate.then(|| CertificateDer::from(record.data.to_vec())))
}

fn vouched_for(
    authority: &CertificateDer<'static>,
    own: &CertificateDer<'_>,
    above: &[CertificateDer<'_>],
    names: &[&str],
    clock: &Clock,
) -> Result<(), PkixFault> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.clone()).map_err(|_| PkixFault::Unfit)?;
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider()).build();
    let (verifier, now) = (verifier.map_err(|_| PkixFault::Unfit)?, Time(clock.clone()).now());
    let mut fault = PkixFault::WrongName;
    for name in names.iter().filter_map(|name| server_name(name)) {
        match verifier.verify_server_cert(own, above, &name, &[], now) {
            Ok(_) => return Ok(()),
            Err(Error::InvalidCertificate(error)) => fault = PkixFault::of(&error),
            Err(_) => fault = PkixFault::Unfit,
        }
    }
    Err(fault)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{ManualClock, Timestamp};
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};

    /// 2030-01-01.
    const NEW_YEAR: Timestamp = Timestamp::from_millis(1_893_456_000_000);

    fn record(usage: u8, selector: u8, matching: u8, certificate: &CertificateDer<'_>) -> Tlsa {
        let part = match selector {
            WHOLE => certificate.to_vec(),
            _ => parsed(certificate).expect("a certificate").subject_public_key_info().to_vec(),
        };
        let data = match matching {
            BY_ITSELF => part,
            BY_SHA256 => digest::digest(&SHA256, &part).as_ref().to_vec(),
            _ => digest::digest(&SHA512, &part).as_ref().to_vec(),
        };
        Tlsa { usage, selector, matching, data: data.into() }
    }

    struct Made {
        root: CertificateDer<'static>,
        middle: CertificateDer<'static>,
        own: CertificateDer<'static>,
        other: CertificateDer<'static>,
    }

    /// A root, an authority under it, and a certificate for `mx.example.org` that is valid until 2030-01-02.
    fn make() -> Made {
        let authority = |name: &str| {
            let mut params = CertificateParams::new(Vec::new()).expect("no names");
            params.distinguished_name.push(DnType::CommonName, name);
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            (params, KeyPair::generate().expect("makes"))
        };
        let (root, root_key) = authority("root");
        let root_der = root.self_signed(&root_key).expect("signs").into();
        let (middle, middle_key) = authority("middle");
        let middle_der = middle.signed_by(&middle_key, &Issuer::new(root, root_key)).expect("signs").into();
        let mut params = CertificateParams::new(["mx.example.org".to_owned()]).expect("a name");
        (params.not_before, params.not_after) = (date_time_ymd(2029, 12, 31), date_time_ymd(2030, 1, 2));
        let own_key = KeyPair::generate().expect("makes");
        let own = params.signed_by(&own_key, &Issuer::new(middle, middle_key)).expect("signs").into();
        let other = rcgen::generate_simple_self_signed(["mx.example.org".to_owned()]).expect("makes");
        Made { root: root_der, middle: middle_der, own, other: other.cert.into() }
    }

    #[test]
    fn records_name_the_certificate_or_an_authority_above_it() {
        let Made { root, middle, own, other } = make();
        let manual = ManualClock::at(NEW_YEAR);
        let clock = Clock::Manual(manual.clone());
        let shown = |all: &[&CertificateDer<'static>]| Chain(all.iter().map(|one| (*one).clone()).collect());
        let (whole, rootless, alone) =
            (shown(&[&own, &middle, &root]), shown(&[&own, &middle]), shown(&[&own]));
        let (mx, elsewhere) = (["mx.example.org"].as_slice(), ["mx.example.net"].as_slice());
        let authority = |fault| Err(DaneFault::Authority(fault));
        let none = Err(DaneFault::NoMatch);
        let judge = |chain: &Chain, records: &[Tlsa], names: &[&str]| {
            chain.judge_by(records, names, &clock).map(|record| record.usage)
        };
        for selector in [WHOLE, PUBLIC_KEY] {
            for matching in [BY_ITSELF, BY_SHA256, BY_SHA512] {
                let names_own = [record(OWN, selector, matching, &own)];
                assert_eq!(judge(&alone, &names_own, elsewhere), Ok(OWN), "neither names nor issuers count");
                let names_other = [record(OWN, selector, matching, &other)];
                assert_eq!(judge(&whole, &names_other, mx), none);
                for above in [&middle, &root] {
                    let names_above = [record(AUTHORITY, selector, matching, above)];
                    assert_eq!(judge(&whole, &names_above, mx), Ok(AUTHORITY));
                    assert_eq!(judge(&whole, &names_above, elsewhere), authority(PkixFault::WrongName));
                    let both = ["mx.example.net", "mx.example.org"];
                    assert_eq!(judge(&whole, &names_above, &both), Ok(AUTHORITY), "any name will do");
                }
            }
        }
        // an authority that the server does not show is known only where the DNS has it whole
        assert_eq!(judge(&rootless, &[record(AUTHORITY, WHOLE, BY_ITSELF, &root)], mx), Ok(AUTHORITY));
        assert_eq!(judge(&rootless, &[record(AUTHORITY, WHOLE, BY_SHA256, &root)], mx), none);
        assert_eq!(judge(&rootless, &[record(AUTHORITY, PUBLIC_KEY, BY_ITSELF, &root)], mx), none);
        // without what lies between, it vouches for nobody
        let of_root = [record(AUTHORITY, WHOLE, BY_ITSELF, &root)];
        assert_eq!(judge(&alone, &of_root, mx), authority(PkixFault::NotTrusted));
        // one that is shown but has signed nothing
        let stray = shown(&[&own, &middle, &other]);
        let names_stray = [record(AUTHORITY, WHOLE, BY_SHA256, &other)];
        assert!(matches!(judge(&stray, &names_stray, mx), Err(DaneFault::Authority(_))));
        // the server's own certificate is no authority above it
        assert_eq!(judge(&whole, &[record(AUTHORITY, WHOLE, BY_SHA256, &own)], mx), none);
        let names_both =
            [record(OWN, WHOLE, BY_SHA256, &other), record(AUTHORITY, WHOLE, BY_SHA256, &middle)];
        assert_eq!(judge(&whole, &names_both, mx), Ok(AUTHORITY), "one that fits is enough");
        assert_eq!(judge(&Chain::default(), &names_both, mx), none);
        manual.advance(std::time::Duration::from_secs(2 * 86_400));
        let names_above = [record(AUTHORITY, WHOLE, BY_SHA256, &middle)];
        assert_eq!(judge(&whole, &names_above, mx), authority(PkixFault::Expired));
        assert_eq!(judge(&whole, &[record(OWN, PUBLIC_KEY, BY_SHA256, &own)], mx), Ok(OWN));
    }

    #[test]
    fn what_is_unusable_proves_nothing() {
        let Made { own, middle, .. } = make();
        let clock = Clock::Manual(ManualClock::at(NEW_YEAR));
        let chain = Chain(vec![own.clone(), middle]);
        let good = record(OWN, WHOLE, BY_SHA256, &own);
        assert!(good.is_usable());
        let cut = |record: &Tlsa| Tlsa { data: record.data[1..].into(), ..record.clone() };
        for unusable in [
            Tlsa { usage: 0, ..good.clone() },
            Tlsa { usage: 1, ..good.clone() },
            Tlsa { usage: 4, ..good.clone() },
            Tlsa { selector: 2, ..good.clone() },
            Tlsa { matching: 3, ..good.clone() },
            Tlsa { matching: BY_SHA512, ..good.clone() },
            Tlsa { data: Box::default(), ..good.clone() },
            Tlsa { data: Box::default(), ..record(OWN, PUBLIC_KEY, BY_ITSELF, &own) },
            cut(&good),
            cut(&record(OWN, WHOLE, BY_ITSELF, &own)),
        ] {
            assert!(!unusable.is_usable(), "{unusable}");
            let judged = chain.judge_by(std::slice::from_ref(&unusable), &["mx.example.org"], &clock);
            assert_eq!(judged, Err(DaneFault::NoMatch));
        }
    }

    #[test]
    fn a_weaker_digest_counts_only_where_there_is_no_stronger_one() {
        let Made { own, other, .. } = make();
        let clock = Clock::Manual(ManualClock::at(NEW_YEAR));
        let chain = Chain(vec![own.clone()]);
        let judge = |records: &[Tlsa]| chain.judge_by(records, &["mx.example.org"], &clock).is_ok();
        let weak = record(OWN, WHOLE, BY_SHA256, &own);
        assert!(judge(&[weak.clone(), record(OWN, WHOLE, BY_SHA256, &other)]));
        assert!(!judge(&[weak.clone(), record(OWN, WHOLE, BY_SHA512, &other)]));
        assert!(judge(&[weak.clone(), record(OWN, PUBLIC_KEY, BY_SHA512, &other)]), "of another kind");
        let broken = Tlsa { data: Box::default(), ..record(OWN, WHOLE, BY_SHA512, &other) };
        assert!(judge(&[weak, broken]), "what is unusable makes nothing void");
    }
}
