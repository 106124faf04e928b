//! Dates as headers have them.

use crate::clock::Timestamp;

/// ABNF: `date-time` (RFC 5322 3.3), in UTC: `Fri, 20 Nov 2026 12:00:00 +0000`.
pub fn rfc5322_date(at: Timestamp) -> String {
    let seconds = i64::try_from(at.as_secs()).unwrap_or(i64::MAX);
    let time = jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    time.strftime("%a, %d %b %Y %H:%M:%S +0000").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_as_rfc_5322_writes_it() {
        assert_eq!(
            rfc5322_date(Timestamp::from_millis(1_795_000_000_123)),
            "Wed, 18 Nov 2026 11:06:40 +0000"
        );
        assert_eq!(rfc5322_date(Timestamp::MAX), "Thu, 01 Jan 1970 00:00:00 +0000");
    }
}
