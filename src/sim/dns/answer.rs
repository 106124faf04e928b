//! From the octets of a query to the octets of its answer.
//!
//! Owns the reading and writing of packets. A pure function of packet and
//! zone: what it returns is to be sent, and `None` means silence.
//!
//! Promises: never a panic, whatever the packet; never an answer to an answer,
//! so two responders cannot keep each other busy; never a UDP answer beyond
//! what the client can take.
//!
//! Never touches a socket or a clock.

use hickory_proto::{
    op::{Edns, Header, Message, MessageType, Metadata, OpCode, Query, ResponseCode},
    rr::{
        DNSClass, Name, RData, Record, RecordType,
        rdata::{A, AAAA, CNAME, MX, SOA, TXT},
    },
    serialize::binary::{BinDecodable, BinDecoder},
};

use super::zone::{Data, Failure, Zone, canonical};

/// The longest UDP answer offered to clients that announce they take more than
/// the classic limit: it passes any path unfragmented.
const UDP_PAYLOAD_BYTES: u16 = 1232;
/// The longest answer TCP can frame.
const TCP_PAYLOAD_BYTES: u16 = u16::MAX;
/// Aliases followed before the rest is left to the client.
const ALIAS_CHAIN_LINKS: usize = 8;
/// The longest single string of a text record.
const TEXT_CHUNK_BYTES: usize = 255;
/// The zone's own figures; nobody transfers it, so only their presence matters.
const SOA_SERIAL: u32 = 1;
const SOA_REFRESH_SECONDS: i32 = 3600;
const SOA_RETRY_SECONDS: i32 = 600;
const SOA_EXPIRE_SECONDS: i32 = 86_400;

/// How a packet came, and so how long its answer may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    Udp,
    Tcp,
}

/// The answer to `packet`, or `None` when it deserves or is to get none.
pub(super) fn answer(zone: &Zone, packet: &[u8], transport: Transport) -> Option<Vec<u8>> {
    let header = Header::read(&mut BinDecoder::new(packet)).ok()?;
    if header.metadata.message_type != MessageType::Query {
        return None;
    }
    let mut reply = Message::response(header.metadata.id, header.metadata.op_code);
    reply.metadata = Metadata::response_from_request(&header.metadata);
    if header.metadata.op_code != OpCode::Query {
        reply.metadata.response_code = ResponseCode::NotImp;
        return reply.to_vec().ok();
    }
    // The count comes first: it is the client's word and would size a buffer.
    let request = (header.counts.queries == 1).then(|| Message::from_vec(packet).ok()).flatten();
    let Some(request) = request else {
        reply.metadata.response_code = ResponseCode::FormErr;
        return reply.to_vec().ok();
    };
    let question = request.queries.first()?;
    reply.add_query(question.clone());
    if request.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(UDP_PAYLOAD_BYTES).set_version(0);
        reply.set_edns(edns);
    }
    reply.metadata.response_code =
        if request.version() > 0 { ResponseCode::BADVERS } else { fill(zone, question, &mut reply)? };
    let limit = match transport {
        Transport::Udp => request.max_payload().min(UDP_PAYLOAD_BYTES),
        Transport::Tcp => TCP_PAYLOAD_BYTES,
    };
    encode(&reply, limit)
}

/// The reply's octets, or those of a truncated one when they are too many.
fn encode(reply: &Message, limit: u16) -> Option<Vec<u8>> {
    let octets = reply.to_vec().ok()?;
    if octets.len() <= usize::from(limit) {
        return Some(octets);
    }
    reply.truncate().to_vec().ok()
}

/// Puts into `reply` what the zone says to `question`; `None` is silence.
fn fill(zone: &Zone, question: &Query, reply: &mut Message) -> Option<ResponseCode> {
    let kind = question.query_type();
    if question.query_class() != DNSClass::IN || is_transfer(kind) {
        return Some(ResponseCode::Refused);
    }
    reply.metadata.authoritative = true;
    let mut owner = question.name().clone();
    for _ in 0..ALIAS_CHAIN_LINKS {
        let name = canonical(&owner.to_ascii());
        match zone.failure(&name) {
            Some(Failure::Silence) => return None,
            Some(Failure::Servfail) => return Some(ResponseCode::ServFail),
            Some(Failure::Nxdomain) => return Some(deny(zone, reply)),
            None => {}
        }
        let Some(found) = zone.find(&name) else { return Some(deny(zone, reply)) };
        let Some(data) = found.iter().map(rdata).collect::<Option<Vec<_>>>() else {
            return Some(ResponseCode::ServFail);
        };
        let alias = add_matching(zone, reply, &owner, kind, data);
        let Some(target) = alias else {
            return Some(ResponseCode::NoError);
        };
        owner = target;
    }
    Some(ResponseCode::NoError)
}

/// Adds the records of `kind`; failing those the alias, whose target it
/// returns; failing that too, the SOA which says that there is nothing.
fn add_matching(
    zone: &Zone,
    reply: &mut Message,
    owner: &Name,
    kind: RecordType,
    data: Vec<RData>,
) -> Option<Name> {
    if kind == RecordType::SOA && owner.is_root() {
        reply.add_answer(soa(zone));
        return None;
    }
    let alias = data.iter().find_map(|rdata| match rdata {
        RData::CNAME(target) if kind != RecordType::CNAME && kind != RecordType::ANY => {
            Some(target.0.clone())
        }
        _ => None,
    });
    let wanted = if alias.is_some() { RecordType::CNAME } else { kind };
    let before = reply.answers.len();
    for rdata in data {
        if wanted == RecordType::ANY || rdata.record_type() == wanted {
            reply.add_answer(Record::from_rdata(owner.clone(), zone.ttl_seconds(), rdata));
        }
    }
    if reply.answers.len() == before {
        reply.add_authority(soa(zone));
    }
    alias
}

fn deny(zone: &Zone, reply: &mut Message) -> ResponseCode {
    reply.add_authority(soa(zone));
    ResponseCode::NXDomain
}

/// The SOA of the root, the one zone there is.
fn soa(zone: &Zone) -> Record {
    let ttl = zone.ttl_seconds();
    let data = SOA::new(
        Name::root(),
        Name::root(),
        SOA_SERIAL,
        SOA_REFRESH_SECONDS,
        SOA_RETRY_SECONDS,
        SOA_EXPIRE_SECONDS,
        ttl,
    );
    Record::from_rdata(Name::root(), ttl, RData::SOA(data))
}

fn is_transfer(kind: RecordType) -> bool {
    matches!(kind, RecordType::AXFR | RecordType::IXFR)
}

/// The record in the form it takes in packets; `None` when the zone's author
/// named a host by what is no name.
fn rdata(data: &Data) -> Option<RData> {
    Some(match data {
        Data::Mx { preference, host } => RData::MX(MX::new(*preference, absolute(host)?)),
        Data::A(address) => RData::A(A(*address)),
        Data::Aaaa(address) => RData::AAAA(AAAA(*address)),
        Data::Cname(target) => RData::CNAME(CNAME(absolute(target)?)),
        Data::Txt(text) => RData::TXT(TXT::from_bytes(text.as_bytes().chunks(TEXT_CHUNK_BYTES).collect())),
    })
}

fn absolute(canonical: &str) -> Option<Name> {
    Name::from_ascii(format!("{canonical}.")).ok()
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    type Outcome = Result<(), Box<dyn std::error::Error>>;

    fn zone() -> Zone {
        Zone::new()
            .mx("a.test", 20, "mx2.a.test")
            .mx("a.test", 10, "mx1.a.test")
            .mx("null.test", 0, ".")
            .mx("wrong.test", 0, "not..a..name")
            .a("mx1.a.test", Ipv4Addr::LOCALHOST)
            .aaaa("mx1.a.test", Ipv6Addr::LOCALHOST)
            .cname("www.test", "mx1.a.test")
            .cname("loop.test", "loop.test")
            .cname("dangling.test", "nowhere.test")
            .failing("servfail.test", Failure::Servfail)
            .failing("mx2.a.test", Failure::Nxdomain)
            .failing("silent.test", Failure::Silence)
    }

    fn request(name: &str, kind: RecordType) -> Result<Message, Box<dyn std::error::Error>> {
        let mut message = Message::query();
        message.add_query(Query::query(Name::from_ascii(name)?, kind));
        Ok(message)
    }

    fn ask(name: &str, kind: RecordType) -> Result<Message, Box<dyn std::error::Error>> {
        let packet = request(name, kind)?.to_vec()?;
        let reply = answer(&zone(), &packet, Transport::Udp).ok_or("no answer")?;
        Ok(Message::from_vec(&reply)?)
    }

    #[test]
    fn exchangers_whatever_the_case() -> Outcome {
        let reply = ask("A.TeSt.", RecordType::MX)?;
        assert!(reply.metadata.authoritative);
        assert_eq!(reply.answers.len(), 2);
        assert_eq!(reply.answers[0].name.to_ascii(), "A.TeSt.");
        assert_eq!(ask("null.test.", RecordType::MX)?.answers.len(), 1);
        Ok(())
    }

    #[test]
    fn denials_carry_the_soa() -> Outcome {
        for (name, kind, code) in [
            ("nowhere.test.", RecordType::MX, ResponseCode::NXDomain),
            ("mx2.a.test.", RecordType::A, ResponseCode::NXDomain),
            ("dangling.test.", RecordType::A, ResponseCode::NXDomain),
            ("a.test.", RecordType::A, ResponseCode::NoError),
            ("test.", RecordType::MX, ResponseCode::NoError),
        ] {
            let reply = ask(name, kind)?;
            assert_eq!(reply.metadata.response_code, code, "{name}");
            assert_eq!(reply.authorities.len(), 1, "{name}");
            assert_eq!(reply.authorities[0].record_type(), RecordType::SOA);
        }
        Ok(())
    }

    #[test]
    fn failures_fail() -> Outcome {
        assert_eq!(ask("servfail.test.", RecordType::A)?.metadata.response_code, ResponseCode::ServFail);
        assert_eq!(ask("wrong.test.", RecordType::MX)?.metadata.response_code, ResponseCode::ServFail);
        let packet = request("silent.test.", RecordType::A)?.to_vec()?;
        assert_eq!(answer(&zone(), &packet, Transport::Udp), None);
        Ok(())
    }

    #[test]
    fn aliases_are_followed_but_not_for_ever() -> Outcome {
        let reply = ask("www.test.", RecordType::AAAA)?;
        let kinds: Vec<_> = reply.answers.iter().map(Record::record_type).collect();
        assert_eq!(kinds, [RecordType::CNAME, RecordType::AAAA]);
        assert_eq!(ask("loop.test.", RecordType::A)?.answers.len(), ALIAS_CHAIN_LINKS);
        assert_eq!(ask("loop.test.", RecordType::CNAME)?.answers.len(), 1);
        assert_eq!(ask("loop.test.", RecordType::ANY)?.answers.len(), 1);
        Ok(())
    }

    #[test]
    fn edns_is_tolerated_and_versions_beyond_ours_refused() -> Outcome {
        for (version, code) in [(0, ResponseCode::NoError), (1, ResponseCode::BADVERS)] {
            let mut message = request("a.test.", RecordType::MX)?;
            let mut edns = Edns::new();
            edns.set_max_payload(4096).set_version(version);
            message.set_edns(edns);
            let octets = answer(&zone(), &message.to_vec()?, Transport::Udp).ok_or("no answer")?;
            let reply = Message::from_vec(&octets)?;
            assert_eq!(reply.metadata.response_code.low(), code.low());
            assert_eq!(reply.edns.as_ref().map(Edns::rcode_high), Some(code.high()));
        }
        Ok(())
    }

    #[test]
    fn what_is_no_query_is_refused_or_ignored() -> Outcome {
        let mut message = request("a.test.", RecordType::MX)?;
        message.metadata.message_type = MessageType::Response;
        assert_eq!(answer(&zone(), &message.to_vec()?, Transport::Udp), None);
        let code = |message: &Message| -> Result<ResponseCode, Box<dyn std::error::Error>> {
            let octets = answer(&zone(), &message.to_vec()?, Transport::Udp).ok_or("no answer")?;
            Ok(Message::from_vec(&octets)?.metadata.response_code)
        };
        message.metadata.message_type = MessageType::Query;
        message.metadata.op_code = OpCode::Status;
        assert_eq!(code(&message)?, ResponseCode::NotImp);
        message.metadata.op_code = OpCode::Query;
        message.add_query(Query::new());
        assert_eq!(code(&message)?, ResponseCode::FormErr);
        assert_eq!(code(&request("a.test.", RecordType::AXFR)?)?, ResponseCode::Refused);
        Ok(())
    }

    #[test]
    fn no_packet_panics() -> Outcome {
        let zone = zone();
        let mut random = fastrand::Rng::with_seed(25);
        let mut message = request("www.a.test.", RecordType::ANY)?;
        message.set_edns(Edns::new());
        let packet = message.to_vec()?;
        for length in 0..packet.len() {
            let _ = answer(&zone, &packet[..length], Transport::Udp);
        }
        for _ in 0..50_000 {
            let mut hostile = packet.clone();
            for _ in 0..random.usize(1..6) {
                let place = random.usize(..hostile.len());
                hostile[place] = random.u8(..);
            }
            let _ = answer(&zone, &hostile, Transport::Tcp);
        }
        Ok(())
    }
}
