//! The PROXY protocol, version 2: what a load balancer tells of the client behind it.
//!
//! Owns the form of the binary header (HAProxy's `proxy-protocol.txt`, 2.2). Promises the same answer however
//! the octets arrive, and to wait for no more of them than the header says, which is bounded. Never decides who
//! may send such a header: from anybody but a configured balancer it is a lie.
//!
//! ```text
//! signature (12) | version and command (1) | family and transport (1) | length (2) | addresses | TLVs
//! ```

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

/// What every header begins with; no SMTP, TLS or HTTP client says it.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family and transport, length.
const FIXED_OCTETS: usize = 16;
/// The longest header taken, TLVs included. With a client's certificate names and an authority, balancers reach
/// some hundreds of octets.
pub const PROXY_HEADER_MAX_OCTETS: usize = 4096;

const VERSION: u8 = 0x2;
const LOCAL: u8 = 0x0;
const PROXY: u8 = 0x1;
const TCP_OVER_IPV4: u8 = 0x11;
const TCP_OVER_IPV6: u8 = 0x21;
const IPV4_OCTETS: usize = 12;
const IPV6_OCTETS: usize = 36;

/// Whom a connection is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyHeader {
    /// The balancer itself, for its health checks: the connection's own addresses count.
    Local,
    /// A client behind it.
    Proxied {
        /// The client's address.
        source: SocketAddr,
        /// The address that the client connected to.
        destination: SocketAddr,
    },
    /// A client behind it, whose address is of a family that says nothing to us, such as a socket of the same
    /// machine.
    Unknown,
}

/// What a header may not be. Nothing can follow but the end of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProxyError {
    /// Something else: an old version's header, or a client that comes by itself.
    #[error("the connection does not begin with a PROXY header of version 2")]
    NoHeader,
    /// Another version under the same signature.
    #[error("PROXY protocol version {0} is not spoken, only 2")]
    Version(u8),
    /// A command that is not defined.
    #[error("PROXY command {0} is not defined")]
    Command(u8),
    /// Fewer octets than the family's addresses take.
    #[error("the PROXY header is too short for its addresses")]
    Short,
    /// More than [`PROXY_HEADER_MAX_OCTETS`].
    #[error("the PROXY header is longer than {PROXY_HEADER_MAX_OCTETS} octets")]
    TooLong,
}

/// Reads a header and how many octets it takes; `None` asks for more input.
///
/// TLVs are passed over, their checksum too: it guards against nothing that TCP does not.
pub fn parse(input: &[u8]) -> Result<Option<(ProxyHeader, usize)>, ProxyError> {
    let seen = input.len().min(SIGNATURE.len());
    if input[..seen] != SIGNATURE[..seen] {
        return Err(ProxyError::NoHeader);
    }
    if let Some(octet) = input.get(12) {
        match (octet >> 4, octet & 0xf) {
            (VERSION, LOCAL | PROXY) => {}
            (VERSION, command) => return Err(ProxyError::Command(command)),
            (version, _) => return Err(ProxyError::Version(version)),
        }
    }
    let Some(&[.., command, family, high, low]) = input.first_chunk::<FIXED_OCTETS>() else {
        return Ok(None);
    };
    let end = FIXED_OCTETS + usize::from(u16::from_be_bytes([high, low]));
    if end > PROXY_HEADER_MAX_OCTETS {
        return Err(ProxyError::TooLong);
    }
    let is_local = command & 0xf == LOCAL;
    let least = match family {
        // what a local header tells besides is to be ignored
        _ if is_local => 0,
        TCP_OVER_IPV4 => IPV4_OCTETS,
        TCP_OVER_IPV6 => IPV6_OCTETS,
        _ => 0,
    };
    if end - FIXED_OCTETS < least {
        return Err(ProxyError::Short);
    }
    let Some(told) = input.get(FIXED_OCTETS..end) else { return Ok(None) };
    let addresses = if is_local { None } else { addresses(family, told) };
    let header = match addresses {
        _ if is_local => ProxyHeader::Local,
        Some((source, destination)) => ProxyHeader::Proxied { source, destination },
        None => ProxyHeader::Unknown,
    };
    Ok(Some((header, end)))
}

/// Both addresses, then both ports, in network order.
fn addresses(family: u8, told: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    match family {
        TCP_OVER_IPV4 => {
            let (source, rest) = told.split_first_chunk::<4>()?;
            let (destination, rest) = rest.split_first_chunk::<4>()?;
            let (source_port, destination_port) = ports(rest)?;
            let at = |octets: [u8; 4], port| SocketAddr::from((Ipv4Addr::from(octets), port));
            Some((at(*source, source_port), at(*destination, destination_port)))
        }
        TCP_OVER_IPV6 => {
            let (source, rest) = told.split_first_chunk::<16>()?;
            let (destination, rest) = rest.split_first_chunk::<16>()?;
            let (source_port, destination_port) = ports(rest)?;
            let at = |octets: [u8; 16], port| SocketAddr::from((Ipv6Addr::from(octets), port));
            Some((at(*source, source_port), at(*destination, destination_port)))
        }
        _ => None,
    }
}

fn ports(told: &[u8]) -> Option<(u16, u16)> {
    let [a, b, c, d] = *told.first_chunk::<4>()?;
    Some((u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const V4: &[u8] = &[192, 0, 2, 1, 198, 51, 100, 7, 0xc0, 0x01, 0, 25];

    fn v6() -> Vec<u8> {
        let [source, destination]: [Ipv6Addr; 2] =
            ["2001:db8::1", "2001:db8::2"].map(|text| text.parse().expect("an address"));
        [&source.octets()[..], &destination.octets(), &[0xc0, 0x01, 0, 25]].concat()
    }

    fn header(command: u8, family: u8, told: &[u8]) -> Vec<u8> {
        let length = u16::try_from(told.len()).expect("is short").to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, told].concat()
    }

    fn proxied(source: &str, destination: &str) -> ProxyHeader {
        let at = |text: &str| text.parse().expect("an address");
        ProxyHeader::Proxied { source: at(source), destination: at(destination) }
    }

    #[test]
    fn headers_are_read() {
        let v4 = proxied("192.0.2.1:49153", "198.51.100.7:25");
        let with_tlv = |octets: &[u8]| [octets, &[0x02, 0, 3, b'a', b'.', b'b']].concat();
        for (command, family, told, want) in [
            (0x21, 0x11, V4.to_vec(), Ok(v4)),
            (0x21, 0x21, v6(), Ok(proxied("[2001:db8::1]:49153", "[2001:db8::2]:25"))),
            (0x21, 0x11, with_tlv(V4), Ok(v4)),
            (0x20, 0x00, vec![], Ok(ProxyHeader::Local)),
            (0x20, 0x11, V4.to_vec(), Ok(ProxyHeader::Local)),
            (0x20, 0x11, vec![1, 2], Ok(ProxyHeader::Local)),
            (0x21, 0x00, vec![], Ok(ProxyHeader::Unknown)),
            (0x21, 0x12, V4.to_vec(), Ok(ProxyHeader::Unknown)),
            (0x21, 0x31, vec![0; 216], Ok(ProxyHeader::Unknown)),
            (0x21, 0xff, vec![0; 3], Ok(ProxyHeader::Unknown)),
            (0x21, 0x11, V4[..11].to_vec(), Err(ProxyError::Short)),
            (0x21, 0x21, v6()[..35].to_vec(), Err(ProxyError::Short)),
            (0x22, 0x11, V4.to_vec(), Err(ProxyError::Command(2))),
            (0x11, 0x11, V4.to_vec(), Err(ProxyError::Version(1))),
            (0x21, 0x11, vec![0; PROXY_HEADER_MAX_OCTETS - FIXED_OCTETS + 1], Err(ProxyError::TooLong)),
        ] {
            let octets = header(command, family, &told);
            let found = parse(&[&octets[..], b"EHLO a\r\n"].concat());
            let want = want.map(|header| Some((header, octets.len())));
            assert_eq!(found, want, "{}", octets.escape_ascii());
        }
        let longest = header(0x21, 0x11, &[V4, &[0; PROXY_HEADER_MAX_OCTETS - FIXED_OCTETS - 12]].concat());
        assert_eq!(parse(&longest), Ok(Some((v4, PROXY_HEADER_MAX_OCTETS))));
    }

    #[test]
    fn whoever_comes_without_a_header_is_noticed_at_the_first_octet_that_differs() {
        for input in [&b"E"[..], b"\r\n\r\n\0\r\nQUIT\r", b"PROXY TCP4 192.0.2.1", b"\x16\x03\x01"] {
            assert_eq!(parse(input), Err(ProxyError::NoHeader), "{}", input.escape_ascii());
        }
        for input in [&b""[..], b"\r\n", SIGNATURE, b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0"] {
            assert_eq!(parse(input), Ok(None), "{}", input.escape_ascii());
        }
    }

    proptest! {
        /// Any octets give an answer, and once there is one, more octets do not change it.
        #[test]
        fn the_answer_does_not_depend_on_how_octets_arrive(
            command in prop_oneof![Just(0x20_u8), Just(0x21), any::<u8>()],
            family in prop_oneof![Just(0x11_u8), Just(0x21), any::<u8>()],
            length in prop_oneof![0_u16..64, any::<u16>()],
            told in proptest::collection::vec(any::<u8>(), 0..80),
            is_signed in prop_oneof![4 => Just(true), 1 => Just(false)],
        ) {
            let signature = if is_signed { &SIGNATURE[..] } else { &[] };
            let octets = [signature, &[command, family], &length.to_be_bytes(), &told].concat();
            let whole = parse(&octets);
            if let Ok(Some((_, used))) = whole {
                prop_assert!(used <= octets.len() && used <= PROXY_HEADER_MAX_OCTETS);
            }
            let first = (0..=octets.len()).map(|end| parse(&octets[..end])).find(|found| *found != Ok(None));
            prop_assert_eq!(first.unwrap_or(Ok(None)), whole);
        }
    }
}
