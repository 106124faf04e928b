//! Transcripts, played against the machine.

use super::*;
use crate::mail::{Address, BodyKind, Notify, Recipient, Return, ReversePath, Xtext};

fn recipients(texts: &[&str]) -> Vec<Recipient> {
    texts.iter().map(|text| Recipient::plain(Address::parse(text).expect("an address"))).collect()
}

fn codes(verdicts: &Verdicts) -> Vec<u16> {
    verdicts.recipients.iter().map(|verdict| verdict.reply.code).collect()
}

/// Plays a script: `S:` lines the server sends, `C:` lines the client must write, `!` events.
fn check(to: &[&str], script: &[&str]) {
    let recipients = recipients(to);
    let mut client = Client::new("us.example");
    let mut input = BytesMut::new();
    let mut events = Vec::new();
    let mut written = String::new();
    for step in script {
        match step.split_at(2) {
            ("S:", line) => {
                input.extend_from_slice(format!("{line}\r\n").as_bytes());
                while let Some(event) = client.receive(&mut input).expect("well-formed") {
                    if event == ClientEvent::Ready {
                        let outgoing = Outgoing::plain(&ReversePath::Null, &recipients, 9);
                        client.begin(outgoing, true).expect("small enough");
                    }
                    if matches!(event, ClientEvent::SendContent | ClientEvent::SendChunk) {
                        client.output().extend_from_slice(b"<content>\r\n");
                        client.content_sent();
                    }
                    events.push(event);
                }
                written.push_str(&String::from_utf8_lossy(&std::mem::take(client.output())));
            }
            ("C:", line) => {
                let (first, rest) = written.split_once("\r\n").unwrap_or(("(nothing)", ""));
                assert_eq!(first, line, "in {script:?}");
                written = rest.to_owned();
            }
            (_, codes) => {
                let Some(ClientEvent::Done(verdicts)) = events.pop() else {
                    panic!("no verdicts: {events:?}")
                };
                let got: Vec<_> = self::codes(&verdicts).iter().map(ToString::to_string).collect();
                assert_eq!(got.join(" "), codes, "in {script:?}");
            }
        }
    }
    assert_eq!(written, "", "written and not expected, in {script:?}");
}

const TWO: &[&str] = &["a@x.example", "b@x.example"];

#[test]
fn pipelined_transactions() {
    let open = ["S:220 hi", "C:EHLO us.example", "S:250-them\r\n250-SIZE 1000\r\n250 PIPELINING"];
    let commands = ["C:MAIL FROM:<> SIZE=9", "C:RCPT TO:<a@x.example>", "C:RCPT TO:<b@x.example>", "C:DATA"];
    let tail: [&[&str]; 9] = [
        &["S:250 ok\r\n250 ok\r\n552 many\r\n354 go", "C:<content>", "S:250 done", "! 250 452"],
        &["S:250 ok\r\n250 ok\r\n552 5.2.2 full\r\n354 go", "C:<content>", "S:250 done", "! 250 552"],
        &["S:250 ok\r\n250 ok\r\n250 ok\r\n354 go", "C:<content>", "S:354 more", "! 354 354"],
        &["S:250 ok\r\n250 ok\r\n250 ok\r\n250 odd", "! 451 451"],
        &["S:250 ok\r\n250 ok\r\n250 ok\r\n354 go", "C:<content>", "S:250 done", "! 250 250"],
        &["S:250 ok\r\n550 no\r\n250 ok\r\n354 go", "C:<content>", "S:451 later", "! 550 451"],
        &["S:250 ok\r\n550 no\r\n450 no\r\n354 go", "C:.", "S:250 what", "! 550 450"],
        &["S:554 no\r\n503 no\r\n503 no\r\n503 no", "! 554 554"],
        &["S:250 ok\r\n250 ok\r\n421 bye", "! 421 421"],
    ];
    for tail in tail {
        let script: Vec<&str> = open.iter().chain(&commands).chain(tail).copied().collect();
        check(TWO, &script);
    }
}

#[test]
fn a_chunk_follows_when_somebody_takes_it_and_later_ones_go_along_at_once() {
    let recipients = recipients(TWO);
    let outgoing = Outgoing::plain(&ReversePath::Null, &recipients, 9);
    let mut client = Client::new("us.example");
    let mut input = BytesMut::new();
    let mut says = |client: &mut Client, lines: &str| {
        input.extend_from_slice(lines.as_bytes());
        client.output().clear();
        let event = client.receive(&mut input).expect("well-formed");
        (event, String::from_utf8_lossy(client.output()).into_owned())
    };
    let codes = |event: Option<ClientEvent>| match event {
        Some(ClientEvent::Done(verdicts)) => self::codes(&verdicts),
        event => panic!("{event:?}"),
    };
    says(&mut client, "220 hi\r\n");
    says(&mut client, "250-them\r\n250-PIPELINING\r\n250 CHUNKING\r\n");
    let commands = "MAIL FROM:<>\r\nRCPT TO:<a@x.example>\r\nRCPT TO:<b@x.example>\r\n";
    client.output().clear();
    // nobody is taken: the content stays here
    assert_eq!(client.begin(outgoing, true), Ok(Flight::Later));
    assert_eq!(client.output(), commands.as_bytes());
    let (event, wrote) = says(&mut client, "250 ok\r\n550 no\r\n450 no\r\n");
    assert_eq!((codes(event), wrote.as_str()), (vec![550, 450], ""));
    // somebody is
    assert_eq!(client.begin(outgoing, true), Ok(Flight::Later));
    assert_eq!(client.output(), format!("RSET\r\n{commands}").as_bytes());
    let (event, wrote) = says(&mut client, "250 ok\r\n250 ok\r\n250 ok\r\n550 no\r\n");
    assert_eq!((event, wrote.as_str()), (Some(ClientEvent::SendChunk), "BDAT 9 LAST\r\n"));
    client.content_sent();
    let (event, _) = says(&mut client, "250 done\r\n");
    assert_eq!(codes(event), [250, 550]);
    // from here on everything leaves together
    client.output().clear();
    assert_eq!(client.begin(outgoing, true), Ok(Flight::Together));
    assert_eq!(client.output(), format!("{commands}BDAT 9 LAST\r\n").as_bytes());
    let (event, _) = says(&mut client, "250 ok\r\n550 no\r\n550 no\r\n250 done\r\n");
    assert_eq!(codes(event), [550, 550], "taken for nobody is no delivery");
    assert!(!client.is_usable(), "the content may have been taken for commands");
}

#[test]
fn one_by_one_without_pipelining() {
    check(
        TWO,
        &[
            "S:220 hi",
            "C:EHLO us.example",
            "S:502 what",
            "C:HELO us.example",
            "S:250 hi",
            "C:MAIL FROM:<>",
            "S:250 ok",
            "C:RCPT TO:<a@x.example>",
            "S:550 no",
            "C:RCPT TO:<b@x.example>",
            "S:250 ok",
            "C:DATA",
            "S:354 go",
            "C:<content>",
            "S:250 done",
            "! 550 250",
        ],
    );
}

#[test]
fn a_refused_session_is_no_verdict_on_a_message() {
    for banner in ["554 go away\r\n", "421 busy\r\n", "450 no\r\n"] {
        let mut client = Client::new("us.example");
        let event = client.receive(&mut BytesMut::from(banner)).expect("well-formed");
        assert!(matches!(event, Some(ClientEvent::Closing(_))), "{banner}");
        assert!(!client.is_usable());
    }
}

#[test]
fn a_surplus_reply_makes_the_session_unusable() {
    let mut client = Client::new("us.example");
    let mut input = BytesMut::from("220 hi\r\n250 ok\r\n250 surplus\r\n");
    assert_eq!(client.receive(&mut input), Ok(Some(ClientEvent::Ready)));
    client.note_surplus(&input);
    assert!(!client.is_usable());
}

#[test]
fn a_reply_to_nothing_ends_the_session() {
    let mut client = Client::new("us.example");
    let mut input = BytesMut::from("220 hi\r\n250 a\r\n250 b\r\n");
    assert_eq!(client.receive(&mut input), Ok(Some(ClientEvent::Ready)));
    assert!(matches!(client.receive(&mut input), Err(ClientError::Unasked(_))));
}

#[test]
fn a_message_too_large_is_judged_without_asking() {
    let mut client = Client::new("us.example");
    let mut input = BytesMut::from("220 hi\r\n250-them\r\n250 SIZE 5\r\n");
    assert_eq!(client.receive(&mut input), Ok(Some(ClientEvent::Ready)));
    let recipients = recipients(TWO);
    let outgoing = Outgoing::plain(&ReversePath::Null, &recipients, 6);
    let verdicts = client.begin(outgoing, true).expect_err("too large");
    assert_eq!(verdicts.recipients.len(), 2);
    assert!(client.is_usable());
}

/// A client that has heard the greeting and these offers.
fn greeted(offers: &str) -> Client {
    let mut client = Client::new("us.example");
    let mut input = BytesMut::from(format!("220 hi\r\n250-them\r\n{offers}250 HELP\r\n").as_str());
    assert_eq!(client.receive(&mut input), Ok(Some(ClientEvent::Ready)));
    client.output().clear();
    client
}

#[test]
fn what_the_server_offers_decides_what_may_be_sent_and_how() {
    let (plain, utf8) = (recipients(&["a@x.example"]), recipients(&["zoë@x.example", "a@x.example"]));
    let sender = ReversePath::Address(Address::parse("zoë@y.example").expect("an address"));
    let of = |recipients, body, has_utf8_header| Outgoing {
        body,
        has_utf8_header,
        ..Outgoing::plain(&ReversePath::Null, recipients, 6)
    };
    let from_utf8 = Outgoing { from: &sender, ..of(&plain, BodyKind::SevenBit, false) };
    let demanding = Outgoing { requires_tls: true, ..of(&plain, BodyKind::SevenBit, false) };
    let (seven, eight) = (BodyKind::SevenBit, BodyKind::EightBitMime);
    for (offers, outgoing, want) in [
        ("", of(&plain, seven, false), "MAIL FROM:<>\r\n"),
        ("", of(&plain, eight, false), "554 5.6.3"),
        ("250-8BITMIME\r\n", of(&plain, eight, false), "MAIL FROM:<> BODY=8BITMIME\r\n"),
        ("250-8BITMIME\r\n", of(&plain, eight, true), "554 5.6.7"),
        ("250-8BITMIME\r\n", from_utf8, "554 5.6.7"),
        ("250-SMTPUTF8\r\n", of(&plain, seven, false), "MAIL FROM:<>\r\n"),
        (
            "250-8BITMIME\r\n250-SMTPUTF8\r\n",
            of(&plain, eight, true),
            "MAIL FROM:<> BODY=8BITMIME SMTPUTF8\r\n",
        ),
        ("250-SMTPUTF8\r\n", from_utf8, "MAIL FROM:<zoë@y.example> SMTPUTF8\r\n"),
        ("250-SMTPUTF8\r\n", of(&utf8, seven, false), "MAIL FROM:<> SMTPUTF8\r\n"),
        ("250-STARTTLS\r\n", demanding, "550 5.7.30"),
        ("250-REQUIRETLS\r\n", demanding, "MAIL FROM:<> REQUIRETLS\r\n"),
    ] {
        let mut client = greeted(offers);
        let told = match client.begin(outgoing, false) {
            Ok(_) => String::from_utf8_lossy(client.output()).into_owned(),
            Err(verdicts) => verdicts.recipients[0].reply.to_string(),
        };
        assert!(told.starts_with(want), "{offers:?} {outgoing:?}: {told:?}");
    }
}

#[test]
fn a_server_that_only_speaks_helo_gives_no_verdict_by_what_it_does_not_offer() {
    let mut client = Client::new("us.example");
    let mut input = BytesMut::from("220 hi\r\n502 what\r\n250 them\r\n");
    assert_eq!(client.receive(&mut input), Ok(Some(ClientEvent::Ready)));
    let to = recipients(&["a@x.example"]);
    let outgoing = Outgoing { body: BodyKind::EightBitMime, ..Outgoing::plain(&ReversePath::Null, &to, 6) };
    let verdicts = client.begin(outgoing, false).expect_err("is no 8BITMIME");
    assert_eq!(verdicts.recipients[0].reply.to_string().get(..9), Some("451 4.6.3"));
}

#[test]
fn who_cannot_be_served_here_does_not_keep_others_from_it() {
    let mut client = greeted("250-PIPELINING\r\n");
    let to = recipients(&["zoë@x.example", "a@x.example"]);
    let outgoing = Outgoing::plain(&ReversePath::Null, &to, 6);
    assert_eq!(client.begin(outgoing, false), Ok(Flight::Later));
    assert_eq!(client.output(), b"MAIL FROM:<>\r\nRCPT TO:<a@x.example>\r\nDATA\r\n");
    let mut input = BytesMut::from("250 ok\r\n250 ok\r\n354 go\r\n");
    assert_eq!(client.receive(&mut input), Ok(Some(ClientEvent::SendContent)));
    client.content_sent();
    let Ok(Some(ClientEvent::Done(verdicts))) = client.receive(&mut BytesMut::from("250 done\r\n")) else {
        panic!("no verdicts")
    };
    assert_eq!(codes(&verdicts), [553, 250]);
    assert_eq!(verdicts.recipients[0].stage, Stage::Ours);
}

#[test]
fn what_a_sender_wants_to_hear_is_passed_on_to_who_can_tell() {
    let mut to = recipients(&["a@x.example"]);
    to[0].notify = Notify::On { success: true, failure: true, delay: false };
    to[0].original = Xtext::original_recipient("rfc822;list@y.example");
    let envelope_id = Xtext::envelope_id("QQ1");
    let outgoing = Outgoing {
        ret: Some(Return::Headers),
        envelope_id: envelope_id.as_ref(),
        priority: Some(3),
        ..Outgoing::plain(&ReversePath::Null, &to, 6)
    };
    for (offers, want) in [
        ("250-PIPELINING\r\n", "MAIL FROM:<>\r\nRCPT TO:<a@x.example>\r\nDATA\r\n"),
        (
            "250-PIPELINING\r\n250-DSN\r\n250-MT-PRIORITY\r\n",
            "MAIL FROM:<> RET=HDRS ENVID=QQ1 MT-PRIORITY=3\r\n\
             RCPT TO:<a@x.example> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;list@y.example\r\nDATA\r\n",
        ),
    ] {
        let mut client = greeted(offers);
        assert_eq!(client.begin(outgoing, false), Ok(Flight::Later));
        assert_eq!(String::from_utf8_lossy(client.output()), want);
    }
}

#[test]
fn tls_comes_before_anything_else_and_forgets_what_was_offered() {
    let mut client = Client::by_tls("us.example", true);
    let hear = |client: &mut Client, lines: &str| {
        client.output().clear();
        let event = client.receive(&mut BytesMut::from(lines)).expect("well-formed");
        (event, String::from_utf8_lossy(client.output()).into_owned())
    };
    hear(&mut client, "220 hi\r\n");
    let (event, wrote) = hear(&mut client, "250-them\r\n250-CHUNKING\r\n250 STARTTLS\r\n");
    assert_eq!((event, wrote.as_str()), (None, "STARTTLS\r\n"));
    let (event, _) = hear(&mut client, "220 go\r\n");
    assert_eq!(event, Some(ClientEvent::StartTls));
    client.tls_started();
    assert_eq!(client.output(), b"EHLO us.example\r\n");
    let (event, wrote) = hear(&mut client, "250-them\r\n250 STARTTLS\r\n");
    assert_eq!((event, wrote.as_str()), (Some(ClientEvent::Ready), ""));
    assert!(!client.capabilities().chunking);
    // and where it is not there after all, the session goes on as it is
    let mut client = Client::by_tls("us.example", true);
    hear(&mut client, "220 hi\r\n");
    hear(&mut client, "250-them\r\n250 STARTTLS\r\n");
    assert_eq!(hear(&mut client, "454 not now\r\n").0, Some(ClientEvent::Ready));
}
