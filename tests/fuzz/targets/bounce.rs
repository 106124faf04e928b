//! Mail that comes back: nothing panics, and what is read stays within its limits and in one line.
#![no_main]

use barid::dsn::{Bounce, RECIPIENTS_MAX, Returned, parse_returned};
use libfuzzer_sys::fuzz_target;

/// Texts are cut here.
const KEPT_MAX_OCTETS: usize = 1000;

fuzz_target!(|input: &[u8]| {
    if let Some(Returned::Bounce(bounce)) = parse_returned(input) {
        check(&bounce);
    }
});

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
