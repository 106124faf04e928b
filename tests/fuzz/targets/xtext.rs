//! The small words of DSN and of replies: ENVID, ORCPT, NOTIFY, enhanced status codes. What is parsed prints to
//! what parses to the same, alone and in a command.
#![no_main]

use barid::mail::{EnhancedStatus, Notify, Xtext};
use barid::smtp::Command;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Some(id) = Xtext::envelope_id(text) {
        assert_eq!(id.as_str(), text);
        check_decoded(&id);
        let mail = Command::parse(format!("MAIL FROM:<> ENVID={id}").as_bytes());
        match mail {
            Ok(Command::Mail(_, parameters)) => assert_eq!(parameters.envelope_id, Some(id)),
            other => assert!(text.is_empty(), "{id}: {other:?}"),
        }
    }
    if let Some(original) = Xtext::original_recipient(text) {
        assert_eq!(original.as_str(), text);
        check_decoded(&original);
        let rcpt = Command::parse(format!("RCPT TO:<a@b.example> ORCPT={original}").as_bytes());
        let Ok(Command::Rcpt(_, parameters)) = rcpt else { panic!("{original}: {rcpt:?}") };
        assert_eq!(parameters.original.as_ref(), Some(&original));
        // nor does it outgrow its limit where it must be ASCII
        let ascii = Xtext::original_recipient(&original.to_ascii());
        assert!(ascii.is_some_and(|ascii| ascii.as_str().is_ascii()), "{original}");
    }
    if let Some(notify) = Notify::parse(text) {
        assert_eq!(Notify::parse(&notify.to_string()), Some(notify));
    }
    if let Some((status, rest)) = EnhancedStatus::parse_prefix(text) {
        assert!(matches!(status.class, 2 | 4 | 5) && status.subject < 1000 && status.detail < 1000);
        assert!(text.ends_with(rest));
        assert_eq!(EnhancedStatus::parse_prefix(&format!("{status} {rest}")), Some((status, rest)));
    }
});

/// It stands in a header of a report: no line may end in it.
fn check_decoded(text: &Xtext) {
    let decoded = text.decoded();
    assert!(!decoded.chars().any(char::is_control), "{decoded:?}");
}
