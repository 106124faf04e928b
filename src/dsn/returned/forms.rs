//! One bounce of each form, written for these tests after what the mailers of that name write.

use proptest::prelude::*;

use super::*;

/// Of whom, what became of it, which status.
type Want<'a> = &'a [(&'a str, ReportedAction, Option<&'a str>)];

use ReportedAction::{Delayed, Delivered, Failed};

const DAEMON: &str = "From: Mail Delivery Subsystem <MAILER-DAEMON@r.example>\nReturn-Path: <>\n";

fn bounce(message: &str) -> Option<Bounce> {
    match parse_returned(message.as_bytes()) {
        Some(Returned::Bounce(bounce)) => Some(bounce),
        _ => None,
    }
}

fn check(form: &str, message: &str, want: Want<'_>) {
    for message in [message.to_owned(), message.replace('\n', "\r\n")] {
        let bounce = bounce(&message).unwrap_or_else(|| panic!("{form} is no bounce"));
        let found: Vec<_> = bounce
            .recipients
            .iter()
            .map(|recipient| {
                let status = recipient.status.map(|status| status.to_string());
                (recipient.recipient.clone().unwrap_or_default(), recipient.action, status)
            })
            .collect();
        let want: Vec<_> = want
            .iter()
            .map(|(name, action, status)| ((*name).into(), *action, status.map(str::to_owned)))
            .collect();
        assert_eq!(found, want, "{form}");
    }
}

/// A proper report with these fields.
fn report(text: &str, fields: &str) -> String {
    format!(
        "{DAEMON}Subject: Undelivered mail\nMIME-Version: 1.0\n\
         Content-Type: multipart/report; report-type=delivery-status; boundary=\"b\"\n\n\
         --b\n\n{text}\n--b\nContent-Type: message/delivery-status\n\nReporting-MTA: dns; r.example\n\n{fields}\n\
         --b\nContent-Type: message/rfc822\n\nMessage-ID: <1@s.example>\nTo: not@this.example\n\nhi\n\
         --b--\n"
    )
}

#[test]
fn proper_reports_are_read_by_their_fields() {
    let about = |fields: &str| format!("Final-Recipient: rfc822; x@y.example\nAction: failed\n{fields}\n");
    for (form, text, fields, want) in [
        ("plain", "", about("Status: 5.1.1"), Some("5.1.1")),
        (
            "the remote server knows better",
            "",
            about("Status: 5.1.1\nDiagnostic-Code: smtp; 550 5.7.1 listed"),
            Some("5.7.1"),
        ),
        ("generic", "", about("Status: 5.0.0\nDiagnostic-Code: smtp; 550 5.2.2 full"), Some("5.2.2")),
        (
            "generic, no other",
            "",
            about(
                "Status: 5.0.0\n\
        Diagnostic-Code: smtp; 550 go away",
            ),
            Some("5.0.0"),
        ),
        ("in the text", "x@y.example: 452 4.7.0 try later", about("Status: 4.0.0"), Some("4.7.0")),
        ("none but a reply code", "", about("Diagnostic-Code: smtp; 554 no"), Some("5.0.0")),
        ("none but words", "", about("Diagnostic-Code: smtp; 554 mailbox is full"), Some("5.2.2")),
        ("none", "", about(""), None),
    ] {
        check(form, &report(text, &fields), &[("x@y.example", Failed, want)]);
    }
    let about = "Action: failed\nStatus: 4.7.0\n\nFinal-Recipient: rfc822; x@y.example\nStatus: 5.7.0\n";
    check("an action for all", &report("", about), &[("x@y.example", Failed, Some("5.7.0"))]);
    let file = report(
        "  x@y.example\n    mailbox is full\n",
        "Final-Recipient: rfc822; /var/mail/x\nAction: failed\n",
    );
    check("a file", &file, &[("x@y.example", Failed, Some("5.2.2"))]);
    let two = "Final-Recipient: rfc822; x@y.example\nAction: delayed\nStatus: 5.4.1\n\
    Will-Retry-Until: never\n\n\
        Final-Recipient: rfc822; z@y.example\nAction: delivered\nStatus: 2.0.0\n";
    check(
        "two",
        &report("", two),
        &[("x@y.example", Delayed, Some("4.4.1")), ("z@y.example", Delivered, Some("2.0.0"))],
    );
}

#[test]
fn a_report_tells_of_which_message_it_is() {
    let fields = "Final-Recipient: rfc822; x@y.example\nOriginal-Recipient: rfc822; a@y.example\n\
    Action: failed\n\
        Remote-MTA: dns; mx.y.example\n";
    let message = report("", fields)
        .replace("dns; r.example\n", "dns; r.example\nOriginal-Envelope-Id: E\nX-Barid-Queue-ID: Q\n");
    let bounce = bounce(&message).expect("a bounce");
    let ids = [&bounce.original_message_id, &bounce.envelope_id, &bounce.queue_id, &bounce.reporter];
    assert_eq!(ids.map(|id| id.as_deref()), [Some("<1@s.example>"), Some("E"), Some("Q"), Some("r.example")]);
    let [recipient] = &bounce.recipients[..] else { panic!("{bounce:?}") };
    assert_eq!(recipient.original_address(), Address::parse("a@y.example").ok());
    assert_eq!(recipient.address(), Address::parse("x@y.example").ok());
    assert_eq!(recipient.remote.as_deref(), Some("mx.y.example"));
}

#[test]
fn prose_of_mailers_is_read() {
    let original = "Received: from s.example\nTo: not@this.example\n";
    for (form, header, text, want) in [
        (
            "qmail",
            "Subject: failure notice",
            "I'm afraid I wasn't able to deliver your message to the following addresses.\n\n\
             <x@y.example>:\n\
             192.0.2.1 does not like recipient.\nRemote host said: 550 5.1.1 <x@y.example>... No\n\n<z@y.example>:\n\
             Sorry, no mailbox here by that name. (#5.1.1)\n\n\
             --- Below this line is a copy of the message.\n",
            &[("x@y.example", Failed, Some("5.1.1")), ("z@y.example", Failed, Some("5.1.1"))][..],
        ),
        (
            "Exim",
            "X-Failed-Recipients: x@y.example",
            "The following address(es) failed:\n\n  x@y.example\n\
             \x20   SMTP error from remote mail server after RCPT TO:\n\
             \x20   <x@y.example>:\n    host mx.y.example [192.0.2.1]:\n    550 5.2.1 gone\n\n\
             ------ This is a copy of the message ------\n",
            &[("x@y.example", Failed, Some("5.2.1"))],
        ),
        (
            "Exim, alias",
            "Subject: Mail delivery failed",
            "could not be delivered:\n\n  an undisclosed address\n    (generated from x@y.example)\n\
             \x20   retry timeout exceeded\n",
            &[("x@y.example", Failed, Some("4.4.7"))],
        ),
        (
            "Exim, warning",
            "Subject: Warning: message 1 delayed 24 hours",
            "The address to which the message has not yet been delivered is:\n\n  x@y.example\n\
             \x20   Delay reason: 450 no\n",
            &[("x@y.example", Delayed, Some("4.0.0"))],
        ),
        (
            "Postfix without a report",
            "Subject: Undelivered Mail Returned to Sender",
            "For further assistance, please contact <help@r.example>\nor\n<help@r.example>\n\n\
             <x@y.example>: host mx.y.example[192.0.2.1] said: 550\n    <other@z.example>: User unknown\n",
            &[("x@y.example", Failed, Some("5.1.1"))],
        ),
        (
            "Sendmail 5",
            "Subject: Returned mail: Host unknown",
            "   ----- Transcript of session follows -----\n550 y.example (smtp)... 550 Host unknown\n\
             554 <x@y.example>... 550 Host unknown\n>>> RCPT To:<z@w.example>\n<<< 550 5.7.1 no\n\
             \x20  ----- Unsent message follows -----\n",
            &[("x@y.example", Failed, Some("5.1.2")), ("z@w.example", Failed, Some("5.7.1"))],
        ),
        (
            "Sendmail 8",
            "Subject: Returned mail: see transcript for details",
            "   ----- The following addresses had permanent fatal errors -----\n<x@y.example>\n\
             \x20   (expanded from: <a@r.example>)\n\n\
             \x20  ----- Transcript of session follows -----\n... while talking to mx.y.example:\n>>> RCPT To:<x@y.example>\n\
             <<< 550 5.1.1 no\n550 5.1.1 <x@y.example>... User unknown\n",
            &[("x@y.example", Failed, Some("5.1.1"))],
        ),
        (
            "Exchange",
            "Subject: Undeliverable: hi",
            "Your message\n\n  To:      list@r.example\n  Subject: hi\n\n\
             did not reach the following recipient(s):\n\n\
             c=US;a= ;p=Y;dda:SMTP=x@y.example; on Fri, 4 Oct 2002\n\
             \x20   The recipient name is not recognized\n",
            &[("x@y.example", Failed, Some("5.1.1"))],
        ),
        (
            "Domino",
            "Subject: DELIVERY FAILURE: User x (x@y.example) not listed in Domino Directory",
            "Your message\n\n  Subject: hi\n\nwas not delivered to:\n\n  x@y.example\n\nbecause:\n\n\
             \x20 User x (x@y.example) not listed in Domino Directory\n",
            &[("x@y.example", Failed, Some("5.1.1"))],
        ),
        (
            "Yahoo",
            "Subject: Failure Notice",
            "Sorry, we were unable to deliver your message to the following address.\n\n<x@y.example>:\n\
             550: 5.1.1 gone\n\n\
             --- Below this line is a copy of the message.\n",
            &[("x@y.example", Failed, Some("5.1.1"))],
        ),
        (
            "Gmail",
            "X-Failed-Recipients: x@y.example",
            "Delivery to the following recipient failed permanently:\n\n     x@y.example\n\n\
             Technical details of permanent failure:\n\
             The error that the other server returned was:\n\
             550 550 5.1.1 <x@y.example>... User Unknown (state 14).\n\n   ----- Original message -----\n",
            &[("x@y.example", Failed, Some("5.1.1"))],
        ),
        (
            "AOL",
            "Subject: Mail Delivery Problem",
            "Your mail to the following recipients could not be delivered because they are not accepting mail from me@s.example:\n\tscreenname\n",
            &[("screenname@r.example", Failed, None)],
        ),
        (
            "AOL, with a greeting",
            "To: me@s.example\nSubject: Mail Delivery Problem",
            "Sorry me@s.example. Your mail to the following recipients could not be delivered:\n\
             \tscreenname\n",
            &[("screenname@r.example", Failed, None)],
        ),
        (
            "GroupWise",
            "Subject: Message status - undeliverable",
            "The message that you sent was undeliverable to the following:\n\n\
             \tname (User account is expired)\n",
            &[("name@r.example", Failed, None)],
        ),
        (
            "IMail",
            "Subject: Undeliverable Mail",
            "Unknown user: x@y.example\nRCPT TO generated following response:\n\
             553 5.3.0 <x@y.example>... unknown\n\nOriginal message follows.\n",
            &[("x@y.example", Failed, Some("5.3.0"))],
        ),
        (
            "French",
            "Subject: message non remis",
            "Votre message n'a pas pu être délivré à\n\nx@y.example\n\nutilisateur inconnu\n",
            &[("x@y.example", Failed, Some("5.1.1"))],
        ),
        (
            "words in a sentence",
            "Subject: Delivery failure",
            "The following message, addressed to 'x@y.example',\n\
             failed because it has not been collected.\nWrite to us: please contact a@r.example\n",
            &[("x@y.example", Failed, None)],
        ),
        (
            "fields in a text",
            "Subject: Delivery Status Notification (Failure)",
            "An error occurred.\n\nTechnical report:\n\nAction: failed\n\
             Final-Recipient: rfc822; x@y.example\nStatus: 5.2.1\n",
            &[("x@y.example", Failed, Some("5.2.1"))],
        ),
    ] {
        check(form, &format!("{DAEMON}{header}\n\n{text}\n{original}"), want);
    }
}

#[test]
fn what_names_nobody_gives_the_originals_only_recipient_unless_it_went_to_a_list() {
    let message = |list: &str| {
        format!(
            "{DAEMON}Subject: failure notice\n\nSorry.\n\n--- Below is a copy of the message.\n\n\
             To: x@y.example\n{list}\nhi\n"
        )
    };
    check("of one", &message(""), &[("x@y.example", Failed, None)]);
    check("of a list", &message("List-Id: <l.s.example>\n"), &[]);
}

#[test]
fn other_mail_is_no_bounce_and_wrapped_reports_are() {
    for message in [
        "",
        "From: ann@s.example\nSubject: your undelivered mail\n\nDid you get <x@y.example>?\n",
        "From: ann@s.example\nSubject: hi\n\n<x@y.example>: 550 5.1.1 User unknown, why?\n",
        "From: ann@s.example\nReturn-Path: <>\nAuto-Submitted: auto-replied\nSubject: Away\n\n\
         I am away, write to x@y.example\n",
        "From: Postmaster <postmaster@s.example>\nSubject: New servers\n\n\
         Please use mail@s.example from Monday.\n",
    ] {
        assert_eq!(parse_returned(message.as_bytes()), None, "{message}");
    }
    let wrapped = format!(
        "Content-Type: multipart/mixed; report-type=delivery-status; boundary=w\n\n--w\n\
         Content-Type: message/rfc822\n\n{}\n\
         --w\n\nThis mail is confidential, call a@r.example.\n--w--\n",
        report("", "Final-Recipient: rfc822; x@y.example\nAction: failed\nStatus: 5.1.1\n")
    );
    check("wrapped for a footer", &wrapped, &[("x@y.example", Failed, Some("5.1.1"))]);
    let complaint =
        "Content-Type: multipart/report; report-type=feedback-report; boundary=b\n\n--b\n\nhi\n--b--\n";
    assert_eq!(parse_returned(complaint.as_bytes()), Some(Returned::Feedback));
}

#[test]
fn recipients_and_texts_have_an_end() {
    let many: String =
        (0..5000).map(|n| format!("<x{n}@y.example>:\n550 5.1.1 {}\n\n", "no ".repeat(20))).collect();
    let message = format!("{DAEMON}Subject: failure notice\n\nI wasn't able to deliver\n\n{many}");
    assert_eq!(bounce(&message).map(|bounce| bounce.recipients.len()), Some(RECIPIENTS_MAX));
    let fields: String = (0..5000)
        .map(|n| {
            format!(
                "Final-Recipient: rfc822; x{n}@y.example\nDiagnostic-Code: smtp; {}\n\n",
                "a".repeat(2000)
            )
        })
        .collect();
    let bounce = bounce(&report("", &fields)).expect("a bounce");
    assert!(bounce.recipients.len() <= RECIPIENTS_MAX);
    let texts = bounce.recipients.iter().filter_map(|recipient| recipient.diagnostic.as_deref());
    assert!(texts.into_iter().all(|text| text.len() <= KEPT_MAX_OCTETS));
}

proptest! {
    #[test]
    fn no_octets_make_it_panic(octets in proptest::collection::vec(any::<u8>(), 0..2000)) {
        parse_returned(&octets);
        parse_returned(&[DAEMON.as_bytes(), b"Subject: failure notice\n\n", &octets].concat());
    }

    #[test]
    fn no_change_of_a_bounce_makes_it_panic(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0usize..4), 1..40),
        cut in any::<prop::sample::Index>(),
    ) {
        let text = "<x@y.example>: host mx.y.example[192.0.2.1] said: 550-5.1.1 no\n\
        >>> RCPT TO:<x@y.example>\n<<< 550 5.1.1 no\n\
            \x20 (expanded from: z@y.example)\n=?utf-8?B?aGk=?= &lt;x@y&gt; <b>";
        let mut message = report(text, "Final-Recipient: utf-8; \\x{FC}@y.example\nStatus: 5.1.1\n\
        Diagnostic-Code: smtp; 550 5.1.1 no\n")
            .into_bytes();
        for (place, octet, how) in changes {
            let at = place.index(message.len());
            match how {
                0 => message[at] = octet,
                1 => message.insert(at, octet),
                2 => message.insert(at, b"\n@<>=?.;:"[usize::from(octet) % 9]),
                _ => message.truncate(at.max(200)),
            }
        }
        parse_returned(&message);
        parse_returned(&message[..cut.index(message.len())]);
    }

    #[test]
    fn no_text_makes_it_panic(text in "[ \n<>@.:;a5é\u{1b}$(=?-]{0,300}") {
        parse_returned(format!("{DAEMON}Subject: =?utf-8?Q?{text}\n\n{text}").as_bytes());
        parse_returned(format!("{DAEMON}Subject: failure\nContent-Type: text/html; x=\"{text}\n\n\
        {text}").as_bytes());
        status::stated(&text);
        status::reply_code(&text);
    }
}
