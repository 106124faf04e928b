//! What the library's failures mean.

use std::time::Duration;

use hickory_resolver::net::{DnsError as Said, NetError};
use hickory_resolver::proto::dnssec::Proof;
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::RData;

use super::resolver::DnsError;

/// What a failure means.
pub(super) fn failed(error: &NetError) -> DnsError {
    if error.is_nx_domain() {
        return DnsError::NoSuchName;
    }
    if error.is_no_records_found() {
        return DnsError::NoRecords;
    }
    match error {
        NetError::Timeout => DnsError::TimedOut,
        NetError::Dns(Said::ResponseCode(ResponseCode::ServFail)) => DnsError::ServerFailed,
        NetError::Dns(Said::DnssecBogus) => DnsError::Bogus,
        // a zone that signs nothing proves no denial, and need not
        NetError::Dns(Said::Nsec { response, proof: Proof::Insecure, .. }) => {
            match response.metadata.response_code {
                ResponseCode::NXDomain => DnsError::NoSuchName,
                _ => DnsError::NoRecords,
            }
        }
        NetError::Dns(Said::Nsec { .. }) => DnsError::Bogus,
        error => DnsError::Failed(error.to_string().into()),
    }
}

/// How long a denial may be kept (RFC 2308 5).
pub(super) fn denied_for(error: &NetError) -> Option<Duration> {
    let seconds = |ttl: u32| Duration::from_secs(ttl.into());
    match error {
        NetError::Dns(Said::NoRecordsFound(found)) => {
            found.soa.as_ref().map(|soa| seconds(soa.data.minimum.min(soa.ttl)))
        }
        NetError::Dns(Said::Nsec { response, .. }) => {
            response.authorities.iter().find_map(|record| match &record.data {
                RData::SOA(soa) => Some(seconds(soa.minimum.min(record.ttl))),
                _ => None,
            })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_told_apart() {
        for (error, want) in [
            (NetError::Timeout, DnsError::TimedOut),
            (NetError::Dns(Said::ResponseCode(ResponseCode::ServFail)), DnsError::ServerFailed),
            (NetError::Dns(Said::DnssecBogus), DnsError::Bogus),
        ] {
            assert_eq!(failed(&error), want);
            assert!(!want.is_denial());
        }
        let refused = failed(&NetError::Dns(Said::ResponseCode(ResponseCode::Refused)));
        assert!(matches!(refused, DnsError::Failed(_)), "{refused:?}");
    }
}
