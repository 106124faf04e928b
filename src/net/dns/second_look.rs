//! A second look at answers that the library takes for bogus.
//!
//! It holds a denial that comes with an answer against the name that was asked for, also where the answer is an
//! alias and the denial is about its end (RFC 2308 2.1, 2.2); it does not know the aliases that a DNAME makes, which
//! nobody signs (RFC 6672 3.1); and it does not find a wildcard's own NSEC record to deny closer names. Each of
//! these is common at mail hosts' TLSA records. The signatures it has judged are left as it judged them.

use std::pin::Pin;

use data_encoding::BASE32_DNSSEC;
use futures_util::{Stream, StreamExt as _};
use hickory_resolver::net::xfer::DnsHandle;
use hickory_resolver::net::{DnsError as Said, NetError};
use hickory_resolver::proto::dnssec::Proof;
use hickory_resolver::proto::dnssec::rdata::{DNSSECRData, NSEC, NSEC3, RRSIG};
use hickory_resolver::proto::op::{DnsRequest, DnsResponse, Message, ResponseCode};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use hickory_resolver::proto::serialize::binary::{BinDecodable as _, BinDecoder};

/// Aliases that are followed in one answer.
const ALIASES_MAX: usize = 16;
/// Rounds of hashing that are made for a denial; more are not worth believing (RFC 9276 3.2).
const ITERATIONS_MAX: u16 = 100;

/// Validates as what it wraps, and looks again at what that takes for bogus.
#[derive(Clone)]
pub(super) struct SecondLook<H>(pub(super) H);

impl<H: DnsHandle> DnsHandle for SecondLook<H> {
    type Response = Pin<Box<dyn Stream<Item = Result<DnsResponse, NetError>> + Send>>;
    type Runtime = H::Runtime;

    fn is_verifying_dnssec(&self) -> bool {
        self.0.is_verifying_dnssec()
    }

    fn is_using_edns(&self) -> bool {
        self.0.is_using_edns()
    }

    fn send(&self, request: DnsRequest) -> Self::Response {
        Box::pin(self.0.send(request).map(|answer| match mended(&answer) {
            Some(good) => Ok(DnsResponse::from_message(good)?),
            None => answer,
        }))
    }
}

/// What there is to an answer that was taken for bogus.
fn mended(answer: &Result<DnsResponse, NetError>) -> Option<Message> {
    match answer {
        Err(NetError::Dns(Said::Nsec { query, response, proof: Proof::Bogus, .. })) => {
            look_again(&query.name, query.query_type, response)
        }
        Ok(response) if response.answers.iter().any(|record| record.proof == Proof::Bogus) => {
            let query = response.queries.first()?;
            look_again(&query.name, query.query_type, response)
        }
        _ => None,
    }
}

/// The answer without what says nothing about it, where it is good as far as it goes. Where its aliases end without
/// a record that was asked for, their end is asked for next, and judged by itself.
fn look_again(name: &Name, kind: RecordType, answer: &Message) -> Option<Message> {
    let (mut at, mut kept) = (name.clone(), Vec::<Record>::new());
    for _ in 0..ALIASES_MAX {
        let found = set(answer, &at, kind);
        if !found.is_empty() {
            is_good(answer, &at, kind, &found).then_some(())?;
            kept.extend(found);
            break;
        }
        let aliases = set(answer, &at, RecordType::CNAME);
        let [alias] = aliases.as_slice() else { break };
        let RData::CNAME(target) = &alias.data else { break };
        let mut alias = alias.clone();
        if is_made_by_dname(answer, &at, &target.0) {
            alias.proof = Proof::Secure;
        } else if !is_good(answer, &at, RecordType::CNAME, &aliases) {
            return None;
        }
        at = target.0.clone();
        kept.push(alias);
    }
    // a denial alone has been judged already, by its own name
    if kept.is_empty() {
        return None;
    }
    let mut good = answer.clone();
    good.metadata.response_code = ResponseCode::NoError;
    (good.answers, good.authorities, good.additionals) = (kept, Vec::new(), Vec::new());
    Some(good)
}

/// The records of a name and kind.
fn set(answer: &Message, name: &Name, kind: RecordType) -> Vec<Record> {
    let is_of = |record: &&Record| record.name == *name && record.record_type() == kind;
    answer.answers.iter().filter(is_of).cloned().collect()
}

/// Whether records are secure, or proven to be insecure; and where a wildcard made them, whether it is denied that
/// there is anything closer to their name (RFC 4035 5.3.4, RFC 5155 8.8).
fn is_good(answer: &Message, name: &Name, kind: RecordType, records: &[Record]) -> bool {
    if records.iter().all(|record| record.proof == Proof::Insecure) {
        return true;
    }
    let signature = answer.answers.iter().find_map(|record| match &record.data {
        RData::DNSSEC(DNSSECRData::RRSIG(signature)) if record.name == *name && record.proof.is_secure() => {
            (signature.input().type_covered == kind).then_some(signature)
        }
        _ => None,
    });
    let is_whole = |signature: &RRSIG| {
        let labels = signature.input().num_labels;
        labels >= name.num_labels() || denies(answer, &name.trim_to(usize::from(labels) + 1))
    };
    records.iter().all(|record| record.proof.is_secure()) && signature.is_some_and(is_whole)
}

/// Whether it is denied that a name, or anything below it, exists.
fn denies(answer: &Message, name: &Name) -> bool {
    let secure = || answer.authorities.iter().filter(|record| record.proof.is_secure());
    secure().any(|record| match &record.data {
        RData::DNSSEC(DNSSECRData::NSEC(denial)) => nsec_denies(&record.name, denial, name),
        RData::DNSSEC(DNSSECRData::NSEC3(denial)) => nsec3_denies(&record.name, denial, name),
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

/// The same by digests of names (RFC 5155 5, 8.3).
fn nsec3_denies(owner: &Name, denial: &NSEC3, name: &Name) -> bool {
    let zone = owner.base_name();
    let from = owner.iter().next().and_then(|label| BASE32_DNSSEC.decode(&label.to_ascii_lowercase()).ok());
    let Some(from) = from.filter(|_| zone.zone_of(name) && denial.iterations() <= ITERATIONS_MAX) else {
        return false;
    };
    let Ok(digest) = denial.hash_algorithm().hash(denial.salt(), name, denial.iterations()) else {
        return false;
    };
    let (digest, to) = (digest.as_ref(), denial.next_hashed_owner_name());
    if &*from < to { &*from < digest && digest < to } else { &*from < digest || digest < to }
}

/// Whether a DNAME record above a name, which is secure, makes it an alias of another (RFC 6672 2.2).
fn is_made_by_dname(answer: &Message, name: &Name, target: &Name) -> bool {
    answer.answers.iter().any(|record| {
        let RData::Unknown { code: RecordType::DNAME, rdata } = &record.data else { return false };
        let to = Name::read(&mut BinDecoder::new(&rdata.anything));
        let (depth, whole) = (record.name.num_labels(), name.num_labels());
        let prefix = usize::from(whole.saturating_sub(depth));
        let made =
            to.ok().and_then(|to| Name::from_labels(name.iter().take(prefix)).ok()?.append_domain(&to).ok());
        record.proof.is_secure()
            && record.name.zone_of(name)
            && record.name != *name
            && made.as_ref() == Some(target)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::from_ascii(text).expect("a name")
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
            let algorithm = hickory_resolver::proto::dnssec::Nsec3HashAlgorithm::SHA1;
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
        assert!(nsec3_denies(&name(from), &denial(next, 12), &name("a.example.")));
        assert!(nsec3_denies(&name(from), &denial(next, 12), &name("A.Example.")));
        assert!(!nsec3_denies(&name(from), &denial(next, 12), &name("x.w.example.")), "it is there");
        assert!(!nsec3_denies(&name(from), &denial(next, 12), &name("example.")));
        assert!(!nsec3_denies(&name(from), &denial(next, 12), &name("a.example.net.")));
        assert!(!nsec3_denies(&name(from), &denial(next, ITERATIONS_MAX + 1), &name("a.example.")));
        let narrow = "2t7b4g4vsa5smi47k61mv5bv1a22bojr";
        assert!(!nsec3_denies(&name(from), &denial(narrow, 12), &name("a.example.")));
    }

    #[test]
    fn a_dname_makes_aliases_of_what_is_below_it() {
        let mut dname = Record::from_rdata(
            name("_tcp.mx.z."),
            60,
            RData::Unknown {
                code: RecordType::DNAME,
                rdata: hickory_resolver::proto::rr::rdata::NULL::with(b"\x04_tcp\x01a\x01z\x00".to_vec()),
            },
        );
        dname.proof = Proof::Secure;
        let mut answer = Message::query();
        answer.answers.push(dname);
        let is_made =
            |answer: &Message, from: &str, to: &str| is_made_by_dname(answer, &name(from), &name(to));
        assert!(is_made(&answer, "_25._tcp.mx.z.", "_25._tcp.a.z."));
        assert!(!is_made(&answer, "_25._tcp.mx.z.", "_26._tcp.a.z."));
        assert!(!is_made(&answer, "_tcp.mx.z.", "_tcp.a.z."));
        assert!(!is_made(&answer, "_25._tcp.my.z.", "_25._tcp.a.z."));
        answer.answers[0].proof = Proof::Bogus;
        assert!(!is_made(&answer, "_25._tcp.mx.z.", "_25._tcp.a.z."));
    }
}
