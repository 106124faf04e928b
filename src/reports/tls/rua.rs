//! Where a domain wants reports sent (RFC 8460 3).

use std::fmt;

use crate::mail::Address;

/// Addresses that are heeded; the rest is passed over.
pub(super) const ADDRESSES_MAX: usize = 4;
const URI_MAX_OCTETS: usize = 2048;

/// An address for reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Rua {
    /// By mail.
    Mail(Address),
    /// By HTTPS.
    Https(Box<str>),
}

impl fmt::Display for Rua {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rua::Mail(address) => write!(f, "mailto:{address}"),
            Rua::Https(uri) => f.write_str(uri),
        }
    }
}

/// The addresses in the TXT records of a domain's `_smtp._tls`; none where it asks for nothing, or for nothing that can
/// be done.
///
/// ```text
/// tlsrpt-record = "v=TLSRPTv1" 1*(*WSP ";" *WSP tlsrpt-field) [*WSP ";" *WSP]
/// tlsrpt-rua    = "rua=" tlsrpt-uri *(*WSP "," *WSP tlsrpt-uri)
/// ```
pub(super) fn addresses<'a>(texts: impl Iterator<Item = &'a [u8]>) -> Vec<Rua> {
    let mut ours = texts.filter_map(|text| text.strip_prefix(b"v=TLSRPTv1")).filter(|rest| {
        let rest = rest.trim_ascii_start();
        rest.is_empty() || rest.starts_with(b";")
    });
    // several are as good as none
    let (Some(fields), None) = (ours.next(), ours.next()) else { return Vec::new() };
    let fields = std::str::from_utf8(fields).unwrap_or_default();
    let rua = fields.split(';').find_map(|field| field.trim().strip_prefix("rua="));
    let known = rua.unwrap_or_default().split(',').filter_map(|uri| address(uri.trim()));
    let mut found: Vec<Rua> = Vec::new();
    for one in known {
        if found.len() < ADDRESSES_MAX && !found.contains(&one) {
            found.push(one);
        }
    }
    found
}

fn address(uri: &str) -> Option<Rua> {
    let (scheme, rest) = uri.split_once(':').filter(|_| uri.len() <= URI_MAX_OCTETS)?;
    if scheme.eq_ignore_ascii_case("mailto") {
        // what stands behind a question mark are fields that nobody asked us to write (RFC 6068 2)
        let address = rest.split('?').next().unwrap_or_default();
        return Address::parse(&decoded(address)?).ok().filter(Address::is_ascii).map(Rua::Mail);
    }
    let is_plain = uri.bytes().all(|octet| octet.is_ascii_graphic());
    (scheme.eq_ignore_ascii_case("https") && is_plain).then(|| Rua::Https(format!("https:{rest}").into()))
}

/// Octets that stand as `%` and two digits: commas and semicolons can stand in no other way.
fn decoded(text: &str) -> Option<String> {
    let mut octets = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        (*first != b'%' || after.len() >= 2).then_some(())?;
        rest = after;
        if *first == b'%' {
            let (digits, behind) = after.split_at(2);
            let is_hex = digits.iter().all(u8::is_ascii_hexdigit);
            let digits = std::str::from_utf8(digits).ok().filter(|_| is_hex)?;
            octets.push(u8::from_str_radix(digits, 16).ok()?);
            rest = behind;
        } else {
            octets.push(*first);
        }
    }
    String::from_utf8(octets).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_record_names_where_reports_go() {
        let read = |texts: &[&str]| {
            let found = addresses(texts.iter().map(|text| text.as_bytes()));
            found.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        };
        for (texts, want) in [
            (&["v=TLSRPTv1; rua=mailto:reports@example.com"][..], "mailto:reports@example.com"),
            (
                &["v=TLSRPTv1;rua=https://r.example/v1/tlsrpt , mailto:a@b.example;"],
                "https://r.example/v1/tlsrpt mailto:a@b.example",
            ),
            (
                &["v=spf1 -all", "v=TLSRPTv1 ; new=x; rua=MAILTO:a%2Bb@b.example?subject=x"],
                "mailto:a+b@b.example",
            ),
            (&["v=TLSRPTv1; rua=mailto:a@b.example,mailto:a@b.example"], "mailto:a@b.example"),
            (&["v=TLSRPTv1; rua=mailto:a@b.example", "v=TLSRPTv1; rua=mailto:c@b.example"], ""),
            (&["v=TLSRPTv10; rua=mailto:a@b.example"], ""),
            (&["v=TLSRPTv1"], ""),
            (
                &[
                    "v=TLSRPTv1; rua=http://r.example/, mailto:nobody, mailto:%zz@b.example, mailto:%+1@b.example",
                ],
                "",
            ),
            (&["v=TLSRPTv1; rua=https://r.example/a b"], ""),
            (&["rua=mailto:a@b.example"], ""),
            (&[], ""),
        ] {
            assert_eq!(read(texts), want, "{texts:?}");
        }
        let many: Vec<String> = (0..10).map(|number| format!("mailto:r{number}@b.example")).collect();
        let text = format!("v=TLSRPTv1; rua={}", many.join(","));
        assert_eq!(addresses([text.as_bytes()].into_iter()).len(), ADDRESSES_MAX);
        assert!(addresses([b"v=TLSRPTv1; rua=\xff".as_slice()].into_iter()).is_empty());
    }
}
