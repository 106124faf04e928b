//! Mail that comes back: nothing panics, what is read stays within its limits and in one line, and lines may end
//! in LF or CRLF.
#![no_main]

use barid::dsn::{Bounce, RECIPIENTS_MAX, ReportedRecipient, Returned, parse_returned};
use libfuzzer_sys::fuzz_target;

/// Texts are cut here.
const KEPT_MAX_OCTETS: usize = 1000;

fuzz_target!(|input: &[u8]| {
    let returned = parse_returned(input);
    if let Some(Returned::Bounce(bounce)) = &returned {
        check(bounce);
    }
    if !input.iter().any(|octet| octet.is_ascii_control() && *octet != b'\n') {
        let lines: Vec<&[u8]> = input.split(|octet| *octet == b'\n').collect();
        let with_crlf = parse_returned(&lines.join(&b"\r\n"[..]));
        assert_eq!(verdicts(with_crlf.as_ref()), verdicts(returned.as_ref()));
    }
});

/// What decides anything: whom it is about, what became of them and why. Texts may differ by a space.
fn verdicts(returned: Option<&Returned>) -> Option<Vec<String>> {
    let recipients = match returned? {
        Returned::Bounce(bounce) => &bounce.recipients[..],
        Returned::Feedback => &[],
    };
    let verdict =
        |told: &ReportedRecipient| format!("{:?} {:?} {:?}", told.address(), told.action, told.status);
    Some(recipients.iter().map(verdict).collect())
}

fn check(bounce: &Bounce) {
    let Bounce { recipients, original_message_id, envelope_id, queue_id, reporter } = bounce;
    assert!(recipients.len() <= RECIPIENTS_MAX);
    [original_message_id, envelope_id, queue_id, reporter].into_iter().for_each(check_text);
    for told in recipients {
        [&told.recipient, &told.original_recipient, &told.diagnostic, &told.remote]
            .into_iter()
            .for_each(check_text);
        if let Some(status) = told.status {
            assert!(matches!(status.class, 2 | 4 | 5) && status.subject < 1000 && status.detail < 1000);
        }
        // they are asked for by whoever believes the report
        let _ = (told.address(), told.original_address());
    }
}

fn check_text(text: &Option<Box<str>>) {
    let Some(text) = text else { return };
    assert!(
        !text.is_empty() && text.len() <= KEPT_MAX_OCTETS && !text.chars().any(char::is_control),
        "{text:?}"
    );
}
