//! A second look at answers, whatever the library takes them for.
//!
//! It takes some for good that prove nothing: a denial whose records are all from an insecure zone, be that any zone;
//! one by an opt-out record of any zone above; a wildcard's answer with the denial of another zone's. And some for
//! bogus that are good: it holds a denial that comes with an alias against the alias (RFC 2308 2.1, 2.2); it does not
//! know the aliases that a DNAME makes, which nobody signs (RFC 6672 3.1); and it does not find a wildcard's own NSEC
//! record to deny closer names. Signatures are left as it judged them.
//!
//! One thing cannot be mended from here: whether a zone is insecure the library decides by the same opt-out records. So
//! whoever sits between this machine and the servers that are asked can still pass a name below an opt-out zone off
//! as insecure; a resolver that validates on the same machine leaves them no room.

use std::pin::Pin;
use std::sync::Arc;

use futures_util::{Stream, StreamExt as _};
use hickory_resolver::net::xfer::DnsHandle;
use hickory_resolver::net::{DnsError as Said, NetError, NoRecords};
use hickory_resolver::proto::dnssec::Proof;
use hickory_resolver::proto::dnssec::rdata::{DNSSECRData, RRSIG};
use hickory_resolver::proto::op::{DnsRequest, DnsResponse, Message, ResponseCode};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use hickory_resolver::proto::serialize::binary::{BinDecodable as _, BinDecoder};

use super::nsec::{denies, is_opted_out};
use super::proofs::waive;

/// Aliases that are followed in one answer.
const ALIASES_MAX: usize = 16;
/// Validates as what it wraps, and looks again. Of some names nothing is validated.
#[derive(Clone)]
pub(super) struct SecondLook<H, P> {
    pub(super) validated: H,
    /// The same without validation.
    pub(super) plain: P,
    /// These names, and all below them.
    pub(super) insecure: Arc<[Name]>,
}

/// Whether a name is one of these, or below one.
pub(super) fn is_insecure(names: &[Name], name: &Name) -> bool {
    names.iter().any(|above| above.zone_of(name))
}

impl<H: DnsHandle, P: DnsHandle> DnsHandle for SecondLook<H, P> {
    type Response = Pin<Box<dyn Stream<Item = Result<DnsResponse, NetError>> + Send>>;
    type Runtime = H::Runtime;

    fn is_verifying_dnssec(&self) -> bool {
        self.validated.is_verifying_dnssec()
    }

    fn is_using_edns(&self) -> bool {
        self.validated.is_using_edns()
    }

    fn send(&self, request: DnsRequest) -> Self::Response {
        let insecure = self.insecure.clone();
        if request.queries.first().is_some_and(|query| is_insecure(&insecure, &query.name)) {
            return Box::pin(self.plain.send(request).map(|answer| {
                answer.map(|mut answer| {
                    waive(&mut answer.answers);
                    answer
                })
            }));
        }
        Box::pin(self.validated.send(request).map(move |answer| judged(waived(&insecure, answer))))
    }
}

/// The answer, where records of names of which nothing is validated are no matter of proof.
fn waived(insecure: &[Name], mut answer: Result<DnsResponse, NetError>) -> Result<DnsResponse, NetError> {
    let answers = match &mut answer {
        Ok(response) => &mut response.answers,
        Err(NetError::Dns(Said::Nsec { response, .. })) => &mut response.answers,
        Err(_) => return answer,
    };
    waive(answers.iter_mut().filter(|record| is_insecure(insecure, &record.name)));
    answer
}

/// What there is to an answer.
fn judged(answer: Result<DnsResponse, NetError>) -> Result<DnsResponse, NetError> {
    let bogus = || Err(NetError::Dns(Said::DnssecBogus));
    match &answer {
        Err(NetError::Dns(Said::Nsec { query, response, .. })) => {
            let is_denial = response.answers.is_empty() && is_opted_out(&response.authorities, &query.name);
            match look_again(&query.name, query.query_type, response) {
                Some(good) => Ok(DnsResponse::from_message(good)?),
                None if is_denial => {
                    Err(NoRecords::new((**query).clone(), response.metadata.response_code).into())
                }
                None => bogus(),
            }
        }
        Ok(response) => {
            let Some(query) = response.queries.first().cloned() else { return bogus() };
            let says = |kind| !set(response, &query.name, kind).is_empty();
            let is_denial = !says(query.query_type) && !says(RecordType::CNAME);
            match look_again(&query.name, query.query_type, response) {
                Some(good) => Ok(DnsResponse::from_message(good)?),
                None if is_denial && is_denied(response, &query.name) => answer,
                None => bogus(),
            }
        }
        Err(_) => answer,
    }
}

/// Whether a denial that the library takes for good is one: by records that are secure, which it has looked at; by
/// nothing at all, where it has found the name to be insecure; or by an insecure zone which the name is in.
fn is_denied(answer: &Message, name: &Name) -> bool {
    let is_proof = |record: &Record| {
        record.proof.is_secure() && matches!(record.record_type(), RecordType::NSEC | RecordType::NSEC3)
    };
    let is_own_zone = |record: &Record| {
        let is_of_apex = matches!(record.record_type(), RecordType::SOA | RecordType::NS);
        record.proof == Proof::Insecure && is_of_apex && record.name.zone_of(name)
    };
    let authorities = &answer.authorities;
    authorities.is_empty() || authorities.iter().any(is_proof) || authorities.iter().any(is_own_zone)
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
        let (next, signer) = (name.trim_to(usize::from(labels) + 1), &signature.input().signer_name);
        labels >= name.num_labels() || denies(&answer.authorities, &next, signer)
    };
    records.iter().all(|record| record.proof.is_secure()) && signature.is_some_and(is_whole)
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
        is_good(answer, &record.name, RecordType::DNAME, std::slice::from_ref(record))
            && record.proof.is_secure()
            && record.name.zone_of(name)
            && record.name != *name
            && made.as_ref() == Some(target)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_resolver::proto::dnssec::Algorithm;
    use hickory_resolver::proto::dnssec::rdata::{NSEC, SigInput};
    use hickory_resolver::proto::rr::SerialNumber;
    use hickory_resolver::proto::rr::rdata::{A, CNAME, SOA};

    fn name(text: &str) -> Name {
        Name::from_ascii(text).expect("a name")
    }

    fn record(owner: &str, data: RData, proof: Proof) -> Record {
        let mut record = Record::from_rdata(name(owner), 60, data);
        record.proof = proof;
        record
    }

    /// The signature of a zone over records of an owner, which has so many labels.
    fn signature(owner: &str, covered: RecordType, labels: u8, zone: &str) -> Record {
        let now = SerialNumber::new(0);
        let input = SigInput {
            type_covered: covered,
            algorithm: Algorithm::ECDSAP256SHA256,
            num_labels: labels,
            original_ttl: 60,
            sig_expiration: now,
            sig_inception: now,
            key_tag: 0,
            signer_name: name(zone),
        };
        let signature = RRSIG::from_sig(input, Vec::new());
        record(owner, RData::DNSSEC(DNSSECRData::RRSIG(signature)), Proof::Secure)
    }

    fn address(owner: &str, proof: Proof) -> Record {
        record(owner, RData::A(A::new(192, 0, 2, 1)), proof)
    }

    fn denial(owner: &str, next: &str, proof: Proof) -> Record {
        let denial = NSEC::new(name(next), [RecordType::A, RecordType::NSEC]);
        record(owner, RData::DNSSEC(DNSSECRData::NSEC(denial)), proof)
    }

    fn soa(owner: &str, proof: Proof) -> Record {
        let soa = SOA::new(name("ns."), name("root."), 1, 1, 1, 1, 1);
        record(owner, RData::SOA(soa), proof)
    }

    fn answer(answers: Vec<Record>, authorities: Vec<Record>) -> Message {
        let mut message = Message::query();
        (message.answers, message.authorities) = (answers, authorities);
        message
    }

    fn good(answer: &Message) -> Option<usize> {
        look_again(&name("mx.z."), RecordType::A, answer).map(|good| good.answers.len())
    }

    #[test]
    fn what_is_signed_is_good_and_what_else_was_sent_along_is_left_out() {
        let signed = || vec![address("mx.z.", Proof::Secure), signature("mx.z.", RecordType::A, 2, "z.")];
        assert_eq!(good(&answer(signed(), vec![])), Some(1));
        let mut more = signed();
        more.push(address("x.insecure.", Proof::Insecure));
        assert_eq!(good(&answer(more, vec![denial("mx.z.", "y.z.", Proof::Secure)])), Some(1));
        assert_eq!(good(&answer(vec![address("mx.z.", Proof::Secure)], vec![])), None, "by whom?");
        assert_eq!(good(&answer(vec![address("mx.z.", Proof::Bogus)], vec![])), None);
        assert_eq!(good(&answer(vec![address("mx.z.", Proof::Insecure)], vec![])), Some(1));
        let mut mixed = signed();
        mixed.push(address("mx.z.", Proof::Insecure));
        assert_eq!(good(&answer(mixed, vec![])), None);
        assert_eq!(good(&answer(vec![address("other.z.", Proof::Secure)], vec![])), None);
    }

    #[test]
    fn an_alias_is_followed_and_a_denial_of_its_end_asked_for_by_itself() {
        let alias = || {
            let to_end = record("mx.z.", RData::CNAME(CNAME(name("end.z."))), Proof::Secure);
            vec![to_end, signature("mx.z.", RecordType::CNAME, 2, "z.")]
        };
        assert_eq!(good(&answer(alias(), vec![denial("end.z.", "y.z.", Proof::Secure)])), Some(1));
        let mut whole = alias();
        whole.extend([address("end.z.", Proof::Secure), signature("end.z.", RecordType::A, 2, "z.")]);
        assert_eq!(good(&answer(whole, vec![])), Some(2));
        let unsigned = record("mx.z.", RData::CNAME(CNAME(name("end.z."))), Proof::Bogus);
        assert_eq!(good(&answer(vec![unsigned], vec![])), None);
    }

    #[test]
    fn a_wildcard_stands_in_for_a_name_only_where_its_own_zone_denies_the_name() {
        let made = || vec![address("mx.z.", Proof::Secure), signature("mx.z.", RecordType::A, 1, "z.")];
        let with = |authority: Record| good(&answer(made(), vec![authority]));
        assert_eq!(with(denial("*.z.", "y.z.", Proof::Secure)), Some(1), "the wildcard's own");
        assert_eq!(with(denial("*.z.", "y.z.", Proof::Bogus)), None);
        assert_eq!(with(denial("a.z.", "b.z.", Proof::Secure)), None, "of other names");
        assert_eq!(with(denial("a.", "zz.", Proof::Secure)), None, "another zone's");
        assert_eq!(good(&answer(made(), vec![])), None);
    }

    #[test]
    fn a_denial_is_one_of_the_zone_that_the_name_is_in() {
        let denies = |authorities: Vec<Record>| is_denied(&answer(vec![], authorities), &name("mx.z."));
        assert!(denies(vec![]), "the name is insecure, as the library has found");
        assert!(denies(vec![soa("z.", Proof::Insecure)]));
        assert!(denies(vec![soa("z.", Proof::Secure), denial("mx.z.", "y.z.", Proof::Secure)]));
        assert!(!denies(vec![soa("insecure.", Proof::Insecure)]));
        assert!(!denies(vec![soa("z.", Proof::Bogus), soa("insecure.", Proof::Insecure)]));
        assert!(!denies(vec![denial("a.insecure.", "b.insecure.", Proof::Insecure)]));
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
        answer.answers.extend([dname, signature("_tcp.mx.z.", RecordType::DNAME, 3, "z.")]);
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
