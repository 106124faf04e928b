//! What NSEC and NSEC3 records deny (RFC 4034 4, RFC 5155).
//!
//! Only records that are secure count; whether they are is the library's word.

use data_encoding::BASE32_DNSSEC;
use hickory_resolver::proto::dnssec::rdata::{DNSSECRData, NSEC, NSEC3};
use hickory_resolver::proto::rr::{Name, RData, Record};

/// Rounds of hashing that are made for a denial; more are not worth believing (RFC 9276 3.2).
pub(super) const ITERATIONS_MAX: u16 = 100;

/// Whether a zone denies that a name, or anything below it, exists.
pub(super) fn denies(authorities: &[Record], name: &Name, zone: &Name) -> bool {
    authorities.iter().filter(|record| record.proof.is_secure()).any(|record| match &record.data {
        RData::DNSSEC(DNSSECRData::NSEC(denial)) => {
            zone.zone_of(&record.name) && nsec_denies(&record.name, denial, name)
        }
        RData::DNSSEC(DNSSECRData::NSEC3(denial)) => nsec3_denies(&record.name, denial, name, zone),
        _ => false,
    })
}

/// Whether nothing lies between an owner and the next name of its zone where a name would, or what is below it
/// (RFC 4034 4.1, 6.1).
fn nsec_denies(owner: &Name, denial: &NSEC, name: &Name) -> bool {
    let next = denial.next_domain_name();
    // the parent's record at a cut says nothing of what is below (RFC 6840 4.1)
    let is_above_cut = denial.is_ancestor_delegation() && owner.zone_of(name);
    let is_last = next <= owner && next.zone_of(name);
    !is_above_cut && owner < name && (name < next && !name.zone_of(next) || is_last)
}

/// The same by digests of names, in a zone (RFC 5155 5, 8.3).
fn nsec3_denies(owner: &Name, denial: &NSEC3, name: &Name, zone: &Name) -> bool {
    let Some((from, digest)) = digests(owner, denial, name).filter(|_| owner.base_name() == *zone) else {
        return false;
    };
    let to = denial.next_hashed_owner_name().to_vec();
    if from < to { from < digest && digest < to } else { from < digest || digest < to }
}

/// The digest of a record's owner, and that of a name below its zone.
fn digests(owner: &Name, denial: &NSEC3, name: &Name) -> Option<(Vec<u8>, Vec<u8>)> {
    let is_fit = owner.base_name().zone_of(name) && denial.iterations() <= ITERATIONS_MAX;
    let from = BASE32_DNSSEC.decode(&owner.iter().next()?.to_ascii_lowercase()).ok().filter(|_| is_fit)?;
    let digest = denial.hash_algorithm().hash(denial.salt(), name, denial.iterations()).ok()?;
    Some((from, digest.as_ref().to_vec()))
}

/// Whether it is proven that nothing signed is there: by the closest name above that exists, and an opt-out record
/// that covers the next below it, of one zone (RFC 5155 8.6).
pub(super) fn is_opted_out(authorities: &[Record], name: &Name) -> bool {
    let denials: Vec<(&Name, &NSEC3)> = authorities.iter().filter_map(nsec3).collect();
    let above = (1..=name.num_labels()).map(|labels| name.trim_to(usize::from(name.num_labels() - labels)));
    let closest =
        above.into_iter().find(|above| denials.iter().any(|(owner, denial)| is_at(owner, denial, above)));
    let Some(closest) = closest else { return false };
    let next = name.trim_to(usize::from(closest.num_labels()) + 1);
    denials.iter().any(|(owner, denial)| {
        let zone = owner.base_name();
        denial.opt_out() && zone.zone_of(&closest) && nsec3_denies(owner, denial, &next, &zone)
    })
}

/// A secure NSEC3 record.
fn nsec3(record: &Record) -> Option<(&Name, &NSEC3)> {
    match &record.data {
        RData::DNSSEC(DNSSECRData::NSEC3(denial)) if record.proof.is_secure() => Some((&record.name, denial)),
        _ => None,
    }
}

/// Whether an NSEC3 record is that of a name which has something below it in the same zone.
fn is_at(owner: &Name, denial: &NSEC3, name: &Name) -> bool {
    let digests = digests(owner, denial, name);
    digests.is_some_and(|(from, digest)| from == digest) && !denial.is_ancestor_delegation()
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_resolver::proto::dnssec::{Nsec3HashAlgorithm, Proof};
    use hickory_resolver::proto::rr::RecordType;

    fn name(text: &str) -> Name {
        Name::from_ascii(text).expect("a name")
    }

    fn record(owner: &str, data: RData, proof: Proof) -> Record {
        let mut record = Record::from_rdata(name(owner), 60, data);
        record.proof = proof;
        record
    }

    #[test]
    fn a_gap_in_the_order_of_names_denies_what_would_lie_in_it() {
        let nsec = |next: &str, types: &[RecordType]| NSEC::new(name(next), types.iter().copied());
        let plain = [RecordType::A, RecordType::NSEC];
        for (owner, next, denied, want) in [
            ("a.z.", "c.z.", "b.z.", true),
            ("a.z.", "c.z.", "a.z.", false),
            ("a.z.", "c.z.", "c.z.", false),
            ("a.z.", "c.z.", "d.z.", false),
            ("*.z.", "mx.z.", "any.z.", true),
            // b.z. is there, for something is below it
            ("a.z.", "x.b.z.", "b.z.", false),
            // the last name of a zone
            ("y.z.", "z.", "zz.z.", true),
            ("y.z.", "z.", "zz.other.", false),
        ] {
            assert_eq!(
                nsec_denies(&name(owner), &nsec(next, &plain), &name(denied)),
                want,
                "{owner} {denied}"
            );
        }
        let cut = [RecordType::NS, RecordType::NSEC];
        assert!(!nsec_denies(&name("a.z."), &nsec("c.z.", &cut), &name("b.a.z.")));
        assert!(nsec_denies(&name("a.z."), &nsec("c.z.", &plain), &name("b.a.z.")));
    }

    #[test]
    fn a_gap_between_digests_denies_too() {
        // RFC 5155 appendix A: example, salt aabbccdd, 12 more rounds
        let hash = |text: &str| BASE32_DNSSEC.decode(text.as_bytes()).expect("is base 32");
        let denial = |next: &str, iterations: u16| {
            let algorithm = Nsec3HashAlgorithm::SHA1;
            NSEC3::new(
                algorithm,
                false,
                iterations,
                vec![0xaa, 0xbb, 0xcc, 0xdd],
                hash(next),
                [RecordType::A],
            )
        };
        // H(example) = 0p9m..., H(a.example) = 35mt..., H(ns1.example) = 2t7b..., H(x.w.example) = b4um...
        let from = "0p9mhaveqvm6t7vbl5lop2u3t2rp3tom.example.";
        let next = "b4um86eghhds6nea196smvmlo4ors995";
        let denies = |denial: &NSEC3, text: &str, zone: &str| {
            nsec3_denies(&name(from), denial, &name(text), &name(zone))
        };
        assert!(denies(&denial(next, 12), "a.example.", "example."));
        assert!(denies(&denial(next, 12), "A.Example.", "example."));
        assert!(!denies(&denial(next, 12), "a.example.", "a.example."), "another zone's");
        assert!(!denies(&denial(next, 12), "x.w.example.", "example."), "it is there");
        assert!(!denies(&denial(next, 12), "example.", "example."));
        assert!(!denies(&denial(next, 12), "a.example.net.", "example."));
        assert!(!denies(&denial(next, ITERATIONS_MAX + 1), "a.example.", "example."));
        let narrow = "2t7b4g4vsa5smi47k61mv5bv1a22bojr";
        assert!(!denies(&denial(narrow, 12), "a.example.", "example."));
    }

    #[test]
    fn what_is_opted_out_is_covered_below_the_closest_name_that_exists() {
        // RFC 5155 appendix A, and opted out: H(example) = 0p9m..., H(a.example) = 35mt...
        let nsec3 = |owner: &str, next: &str, types: &[RecordType], opts_out: bool| {
            let (algorithm, salt) = (Nsec3HashAlgorithm::SHA1, vec![0xaa, 0xbb, 0xcc, 0xdd]);
            let next = BASE32_DNSSEC.decode(next.as_bytes()).expect("is base 32");
            let denial = NSEC3::new(algorithm, opts_out, 12, salt, next, types.iter().copied());
            record(owner, RData::DNSSEC(DNSSECRData::NSEC3(denial)), Proof::Secure)
        };
        let (apex, cover) = ("0p9mhaveqvm6t7vbl5lop2u3t2rp3tom", "2t7b4g4vsa5smi47k61mv5bv1a22bojr");
        let after = "b4um86eghhds6nea196smvmlo4ors995";
        let closest = |types: &[RecordType]| nsec3(&format!("{apex}.example."), cover, types, false);
        let covers = |opts_out| nsec3(&format!("{cover}.example."), after, &[RecordType::A], opts_out);
        let is_out = |authorities: Vec<Record>| is_opted_out(&authorities, &name("x.a.example."));
        let own = [RecordType::SOA, RecordType::NS];
        assert!(is_out(vec![closest(&own), covers(true)]));
        assert!(!is_out(vec![closest(&own), covers(false)]));
        assert!(!is_out(vec![covers(true)]), "nothing says that there is nothing closer");
        assert!(!is_out(vec![closest(&[RecordType::NS]), covers(true)]), "the parent's side of a cut");
    }
}
