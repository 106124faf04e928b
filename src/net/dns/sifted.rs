//! Answers before they are validated, without what was not asked for.
//!
//! The library looks at the owners of keys and delegation records too little: a zone's key set with another zone's
//! key in it, or the DS record of a zone with an unknown algorithm in place of its own, makes a signed zone insecure.
//! And it takes a name for bogus whose server fails on a question for NS records, which nobody needs to answer there.

use std::pin::Pin;

use futures_util::{Stream, StreamExt as _};
use hickory_resolver::net::xfer::DnsHandle;
use hickory_resolver::net::{NetError, NoRecords};
use hickory_resolver::proto::op::{DnsRequest, DnsResponse, Message, Query, ResponseCode};
use hickory_resolver::proto::rr::{Record, RecordType};

/// Asks as what it wraps, and sifts the answers.
#[derive(Clone)]
pub(super) struct Sifted<H>(pub(super) H);

impl<H: DnsHandle> DnsHandle for Sifted<H> {
    type Response = Pin<Box<dyn Stream<Item = Result<DnsResponse, NetError>> + Send>>;
    type Runtime = H::Runtime;

    fn is_verifying_dnssec(&self) -> bool {
        self.0.is_verifying_dnssec()
    }

    fn is_using_edns(&self) -> bool {
        self.0.is_using_edns()
    }

    fn send(&self, request: DnsRequest) -> Self::Response {
        let Some(query) = request.queries.first().cloned() else { return Box::pin(self.0.send(request)) };
        Box::pin(self.0.send(request).map(move |answer| match answer {
            Ok(answer) if is_failure(&query, answer.metadata.response_code) => Err(nothing(&query)),
            Ok(answer) => {
                let mut message = answer.into_message();
                sift(&query, &mut message);
                Ok(DnsResponse::from_message(message)?)
            }
            Err(error) if query.query_type == RecordType::NS && !is_denial(&error) => Err(nothing(&query)),
            Err(error) => Err(error),
        }))
    }
}

fn is_denial(error: &NetError) -> bool {
    error.is_no_records_found() || error.is_nx_domain()
}

fn is_failure(query: &Query, code: ResponseCode) -> bool {
    query.query_type == RecordType::NS && !matches!(code, ResponseCode::NoError | ResponseCode::NXDomain)
}

/// As if there were none: the library goes on to the zone above.
fn nothing(query: &Query) -> NetError {
    NoRecords::new(query.clone(), ResponseCode::NoError).into()
}

/// Leaves out what was not asked for: keys and delegations of other owners, and whatever proves nothing.
fn sift(query: &Query, message: &mut Message) {
    if query.query_type == RecordType::NS {
        return;
    }
    if matches!(query.query_type, RecordType::DS | RecordType::DNSKEY) {
        message.answers.retain(|record| record.name == query.name);
    }
    let proves = |record: &Record| {
        let kinds = [RecordType::SOA, RecordType::NSEC, RecordType::NSEC3, RecordType::RRSIG];
        kinds.contains(&record.record_type())
    };
    message.authorities.retain(proves);
    message.additionals.clear();
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_resolver::proto::rr::rdata::{A, NS};
    use hickory_resolver::proto::rr::{Name, RData};

    fn record(owner: &str, data: RData) -> Record {
        Record::from_rdata(Name::from_ascii(owner).expect("a name"), 60, data)
    }

    /// Any record: owners are all that counts.
    fn any(owner: &str) -> Record {
        record(owner, RData::A(A::new(192, 0, 2, 1)))
    }

    fn sifted(kind: RecordType) -> (usize, usize, usize) {
        let mut message = Message::query();
        message.answers = vec![any("z."), any("other."), any("Z.")];
        message.authorities = vec![any("z."), record("z.", RData::NS(NS(Name::root())))];
        message.additionals = vec![any("z.")];
        sift(&Query::query(Name::from_ascii("z.").expect("a name"), kind), &mut message);
        (message.answers.len(), message.authorities.len(), message.additionals.len())
    }

    #[test]
    fn keys_and_delegations_are_their_own_zones() {
        assert_eq!(sifted(RecordType::DNSKEY), (2, 0, 0));
        assert_eq!(sifted(RecordType::DS), (2, 0, 0));
        assert_eq!(sifted(RecordType::A), (3, 0, 0), "aliases have ends of other names");
        assert_eq!(sifted(RecordType::NS), (3, 2, 1));
    }

    #[test]
    fn who_fails_on_a_question_for_name_servers_has_none() {
        let query = |kind| Query::query(Name::root(), kind);
        assert!(is_failure(&query(RecordType::NS), ResponseCode::ServFail));
        assert!(!is_failure(&query(RecordType::NS), ResponseCode::NXDomain));
        assert!(!is_failure(&query(RecordType::DS), ResponseCode::ServFail));
    }
}
