//! Addresses and domains: what is parsed fits its limits, prints to what parses to the same, and travels in a
//! command without becoming anything else.
#![no_main]

use barid::mail::{Address, DOMAIN_MAX_OCTETS, Domain, LOCAL_PART_MAX_OCTETS, PATH_MAX_OCTETS, ReversePath};
use barid::smtp::Command;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Ok(domain) = Domain::parse(text) {
        check_domain(&domain);
        // spellings of one domain are one value
        assert_eq!(Domain::parse(&text.to_ascii_uppercase()).as_ref(), Ok(&domain));
    }
    if let Ok(address) = Address::parse(text) {
        check_address(&address);
    }
});

fn check_domain(domain: &Domain) {
    assert_eq!(Domain::parse(domain.as_str()).as_ref(), Ok(domain));
    assert!(domain.as_str().len() <= DOMAIN_MAX_OCTETS);
    assert!(domain.as_str().bytes().all(|octet| octet.is_ascii_graphic()), "{domain}");
    let literal = domain.as_literal();
    assert_eq!(literal.is_some(), domain.as_str().starts_with('['));
    if let Some(ip) = literal {
        assert_eq!(&Domain::literal(ip), domain);
    }
}

fn check_address(address: &Address) {
    let text = address.to_string();
    assert_eq!(Address::parse(&text).as_ref(), Ok(address));
    assert!(address.local().len() <= LOCAL_PART_MAX_OCTETS && text.len() <= PATH_MAX_OCTETS);
    assert!(!text.chars().any(char::is_control), "{text:?}");
    check_domain(address.domain());
    let mail = Command::parse(format!("MAIL FROM:<{address}> SMTPUTF8").as_bytes());
    let Ok(Command::Mail(ReversePath::Address(from), parameters)) = mail else {
        panic!("{address}: {mail:?}")
    };
    assert_eq!((&from, parameters.is_utf8), (address, true));
    let rcpt = Command::parse(format!("RCPT TO:<{address}> NOTIFY=NEVER").as_bytes());
    let Ok(Command::Rcpt(Some(to), parameters)) = rcpt else { panic!("{address}: {rcpt:?}") };
    assert_eq!((&to, parameters.notify), (address, barid::mail::Notify::Never));
}
