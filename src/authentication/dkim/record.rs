//! The record of a key in the DNS (RFC 6376 3.6.1, RFC 8463 4).

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};

use super::algorithm::Algorithm;

/// A string of a TXT record has at most so many octets (RFC 1035 3.3.14).
const STRING_MAX_OCTETS: usize = 255;

/// What stands before an RSAPublicKey of 2048 bits or more in a subjectPublicKeyInfo (RFC 3279 2.3.1).
const RSA_WRAPPER_OCTETS: usize = 24;

/// What the DNS is to show for a public key: a subjectPublicKeyInfo for RSA, the bare key for Ed25519.
pub(super) fn text_of(algorithm: Algorithm, public: &[u8]) -> String {
    let kind = match algorithm {
        Algorithm::Rsa => "rsa",
        Algorithm::Ed25519 => "ed25519",
    };
    format!("v=DKIM1; k={kind}; p={}", STANDARD.encode(public))
}

/// The same as a line of a zone file, in strings that are not too long.
pub(super) fn zone_line(name: &str, text: &str) -> String {
    let strings: Vec<String> = text
        .as_bytes()
        .chunks(STRING_MAX_OCTETS)
        .map(|chunk| format!("\"{}\"", String::from_utf8_lossy(chunk)))
        .collect();
    format!("{name}. 3600 IN TXT {}", strings.join(" "))
}

/// What a record says of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Says {
    /// It is this one.
    This,
    /// It is another, or none any more (RFC 6376 3.6.1: an empty `p=`).
    Other,
    /// It is no record of a key.
    Nothing,
}

impl Says {
    /// Whether it is the record of any key.
    pub(super) fn of_any(record: &[u8]) -> Self {
        compare(record, Algorithm::Ed25519, &[])
    }
}

/// Whether a record may be of a key that anybody can use: others are passed over (RFC 6376 3.6.1, RFC 8463 4.2).
pub(super) fn is_of_known_kind(record: &[u8]) -> bool {
    let text = String::from_utf8_lossy(record);
    let mut kinds = text.split(';').filter_map(|tag| {
        let (name, value) = tag.split_once('=')?;
        (name.trim_ascii() == "k").then(|| value.trim_ascii().to_ascii_lowercase())
    });
    kinds.all(|kind| matches!(&*kind, "rsa" | "ed25519"))
}

/// Compares a record with what it should hold. Unknown tags are passed over, white space within a value too.
pub(super) fn compare(record: &[u8], algorithm: Algorithm, public: &[u8]) -> Says {
    let Ok(text) = std::str::from_utf8(record) else { return Says::Nothing };
    let (mut key, mut is_rsa, mut is_first, mut is_for_us) = (None, true, true, true);
    for tag in text.split(';') {
        let Some((name, value)) = tag.split_once('=') else { continue };
        let value: String = value.split_ascii_whitespace().collect();
        match name.trim_ascii() {
            "v" if is_first && value == "DKIM1" => {}
            "v" => return Says::Nothing,
            "k" => is_rsa = value.eq_ignore_ascii_case("rsa"),
            "p" => key = Some(value),
            // hashes, and services, that it may be used with: all where there is none named
            "h" => is_for_us &= value.split(':').any(|hash| hash.eq_ignore_ascii_case("sha256")),
            "s" => is_for_us &= value.split(':').any(|service| matches!(service, "*" | "email")),
            _ => {}
        }
        is_first = false;
    }
    let Some(key) = key else { return Says::Nothing };
    let shown = STANDARD_NO_PAD.decode(key.trim_end_matches('='));
    let is_same = shown.is_ok_and(|shown| is_key(&shown, algorithm, public));
    if is_same && is_for_us && is_rsa == (algorithm == Algorithm::Rsa) { Says::This } else { Says::Other }
}

/// An RSA key may also stand there without the wrapper that says that it is one (RFC 6376 3.6.1).
fn is_key(shown: &[u8], algorithm: Algorithm, public: &[u8]) -> bool {
    let is_bare = algorithm == Algorithm::Rsa
        && public.len().checked_sub(shown.len()) == Some(RSA_WRAPPER_OCTETS)
        && public.ends_with(shown);
    shown == public || is_bare
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_told_from_others() {
        let public = [7; 32];
        let own = text_of(Algorithm::Ed25519, &public);
        let spaced = own.replace("p=BwcH", " p = Bw cH ").replace("; ", ";");
        for (record, want) in [
            (own.as_str(), Says::This),
            (&spaced, Says::This),
            (&format!("{own}; t=s; n=whatever"), Says::This),
            (&format!("{own}; h=sha1"), Says::Other),
            (&format!("{own}; h=sha1:sha256; s=email"), Says::This),
            (&format!("{own}; s=tlsrpt"), Says::Other),
            (&own.replace("k=ed25519", "k=rsa"), Says::Other),
            (&own.replace("BwcH", "BwcI"), Says::Other),
            ("v=DKIM1; p=", Says::Other),
            ("v=spf1 -all", Says::Nothing),
            ("k=rsa; v=DKIM1; p=BwcH", Says::Nothing),
            ("", Says::Nothing),
        ] {
            assert_eq!(compare(record.as_bytes(), Algorithm::Ed25519, &public), want, "{record}");
        }
    }

    #[test]
    fn long_records_are_several_strings() {
        let text = "x".repeat(600);
        let line = zone_line("s._domainkey.a.example", &text);
        let lengths: Vec<usize> = line.split('"').skip(1).step_by(2).map(str::len).collect();
        assert_eq!(lengths, [255, 255, 90]);
    }
}
