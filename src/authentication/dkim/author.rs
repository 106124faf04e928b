//! Whose message it is: the domain in `From:`.

use mail_parser::HeaderValue;
use mail_parser::parsers::MessageStream;

use super::header::fields;
use crate::mail::Domain;

/// The domain of the author of a message with this header; nothing where it does not name exactly one field that
/// names one (RFC 5322 3.6.2). Of several authors it is the first one's, for whom the others have agreed to write.
pub(super) fn author_domain(header: &[u8]) -> Option<Domain> {
    let mut fields = fields(header).filter(|(name, _)| name.eq_ignore_ascii_case(b"from"));
    let (_, value) = fields.next()?;
    if fields.next().is_some() {
        return None;
    }
    let HeaderValue::Address(authors) = MessageStream::new(value).parse_address() else { return None };
    let address = authors.first()?.address()?;
    let (_, domain) = address.rsplit_once('@')?;
    Domain::parse(domain).ok().filter(|domain| domain.as_literal().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_author_is_the_one_who_is_named() {
        for (header, want) in [
            ("From: ann@A.example\r\n", Some("a.example")),
            (
                "Subject: x\r\nFROM : \"x@b.example\" <ann@a.example>\r\nTo: c@d.example\r\n",
                Some("a.example"),
            ),
            ("From: Ann\r\n <ann\r\n @a.example>\r\n", Some("a.example")),
            ("From: ann@a.example, bob@b.example\r\n", Some("a.example")),
            ("From: (a comment@b.example) ann@a.example (more)\r\n", Some("a.example")),
            ("From: =?utf-8?q?x=40b.example?= <ann@a.example>\r\n", Some("a.example")),
            ("From: ann@bücher.example\r\n", Some("xn--bcher-kva.example")),
            ("From: ann@a.example\r\nFrom: ann@b.example\r\n", None),
            ("From: ann@[192.0.2.1]\r\n", None),
            ("From: nobody\r\n", None),
            ("From:\r\n", None),
            ("To: ann@a.example\r\n", None),
            ("", None),
        ] {
            let found = author_domain(header.as_bytes());
            assert_eq!(found.as_ref().map(Domain::as_str), want, "{header:?}");
        }
    }
}
