use super::*;
use crate::mail::{Reply, Stage, Verdict};

fn judge(classifier: &Classifier, host: &str, stage: Stage, text: &str) -> Option<Judgement> {
    let reply = Reply::parse(text).expect("a reply");
    classifier.judge(host, &Verdict { reply, stage })
}

const BOOK: &str = r#"
[[provider]]
name = "big"
title = "Big Mail"
mx = ["mx.big.example", "*.in.big.example"]
connections = 5
source = "a page"
date = "2026-11"
[[provider.rule]]
id = "big-rate"
codes = ["421", "45"]
text = 'too (fast|much)'
meaning = "rate"
scope = "source"
source = "a page"
date = "2026-11"
[[rule]]
id = "any-rate"
status = ["x.7.28"]
meaning = "rate"
scope = "dkim-domain"
source = "seen"
date = "2026-11"
[[rule]]
id = "any-block"
text = '\bblock'
meaning = "block"
scope = "source"
source = "seen"
date = "2026-11"
[[rule]]
id = "any-data"
stage = "data"
text = "^spam"
meaning = "content"
scope = "message"
source = "seen"
date = "2026-11"
"#;

#[test]
fn a_receivers_own_rules_come_first_and_digits_last() {
    let classifier = Classifier::new(Book::parse(BOOK).expect("reads"));
    for (host, stage, text, want) in [
        ("MX.big.example.", Stage::Rcpt, "451 4.7.28 Too FAST", "rate source slow big-rate big"),
        ("a.in.big.example", Stage::Session, "421 much too much", "rate source slow big-rate big"),
        ("in.big.example", Stage::Session, "421 too much", "other host retry - -"),
        ("mx.big.example", Stage::Rcpt, "550 5.7.28 too fast", "rate dkim-domain slow any-rate big"),
        ("mx.other.example", Stage::Rcpt, "451 4.7.28 Too fast", "rate dkim-domain slow any-rate -"),
        ("mx.other.example", Stage::Content, "554 SPAM", "content message bounce any-data -"),
        ("mx.other.example", Stage::Rcpt, "554 SPAM", "other recipient bounce - -"),
        ("mx.other.example", Stage::Rcpt, "550 5.7.1 <block@a.example> no", "policy recipient bounce - -"),
        ("mx.other.example", Stage::Rcpt, "550 5.7.1 block <a@a.example>", "block source hold any-block -"),
        ("mx.other.example", Stage::Rcpt, "550 5.1.1 block: no user", "unknown-user recipient bounce - -"),
        ("mx.other.example", Stage::Rcpt, "550 5.1.1 no", "unknown-user recipient bounce - -"),
        ("mx.other.example", Stage::Rcpt, "452 4.2.2 full", "mailbox-full recipient retry - -"),
        ("mx.other.example", Stage::Rcpt, "552 full", "mailbox-full recipient bounce - -"),
        ("mx.other.example", Stage::Mail, "530 5.7.0 log in", "policy source bounce - -"),
        ("mx.other.example", Stage::Rcpt, "550 5.7.25 no PTR", "authentication source alert - -"),
    ] {
        let judged = judge(&classifier, host, stage, text).expect("a refusal");
        let or_none = |text: &Option<Box<str>>| text.clone().unwrap_or_else(|| "-".into());
        let (rule, receiver) = (or_none(&judged.rule), or_none(&judged.receiver));
        let words =
            [judged.meaning.as_str(), judged.concern.as_str(), judged.remedy.as_str(), &rule, &receiver];
        assert_eq!(words.join(" "), want, "{host} {text}");
    }
    assert_eq!(judge(&classifier, "mx.big.example", Stage::Rcpt, "250 2.0.0 too fast"), None);
}

#[test]
fn faults_name_the_rule_or_the_provider() {
    for (from, to, want) in [
        ("meaning = \"rate\"", "meaning = \"fast\"", "rule `big-rate`: unknown variant `fast`"),
        (
            "codes = [\"421\", \"45\"]",
            "codes = [\"4x\"]",
            "rule `big-rate`: `4x` is no beginning of a reply code",
        ),
        ("'too (fast|much)'", "'too (fast'", "rule `big-rate`: its text is no pattern"),
        ("[\"x.7.28\"]", "[\"7.28\"]", "rule `any-rate`: `7.28` is no status"),
        ("status = [\"x.7.28\"]", "", "rule `any-rate`: it matches every reply"),
        ("id = \"any-data\"", "id = \"big-rate\"", "rule `big-rate`: there are two of this name"),
        ("mx.big.example", "MX.big.example", "provider `big`: `MX.big.example` is neither"),
        ("name = \"big\"", "name = \"Big\"", "provider `Big`: a name is of a-z"),
        ("title = ", "titel = ", "unknown field `titel`"),
        ("id = \"any-rate\"", "ids = \"any-rate\"", "rule `without id`: "),
    ] {
        let told = Book::parse(&BOOK.replacen(from, to, 1)).expect_err(want).to_string();
        assert!(told.contains(want), "{told}");
    }
}

#[test]
fn what_barid_brings_along_has_no_faults() {
    let book = Book::parse(include_str!("providers.toml")).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(book.all_rules().count(), Book::embedded().expect("reads").all_rules().count());
}

#[test]
fn the_documentations_example_has_no_faults() {
    let text = include_str!("../../../docs/refusals.md");
    let example = text.split_once("    [[provider]]\n").expect("has one").1.replace("\n    ", "\n");
    let book = Book::parse(&format!("[[provider]]\n{}", example.trim_start())).expect("reads");
    assert_eq!((book.receivers.len(), book.all_rules().count()), (1, 2));
}

#[test]
fn a_book_of_ones_own_goes_before() {
    let own =
        BOOK.replace("id = \"big-rate\"", "id = \"own-rate\"").replace("'too (fast|much)'", "'slow down'");
    let book = Book::parse(BOOK).expect("reads").under(Book::parse(&own).expect("reads"));
    assert_eq!(book.receivers.len(), 1);
    let classifier = Classifier::new(book);
    let rule = |text| judge(&classifier, "mx.big.example", Stage::Rcpt, text).and_then(|judged| judged.rule);
    assert_eq!(rule("451 slow down").as_deref(), Some("own-rate"));
    assert_eq!(rule("451 too fast"), None);
}

/// Real replies, and what they mean; each line has a host, the reply, and what is found.
const REPLIES: &str = include_str!("replies.tsv");

#[test]
fn real_replies_mean_what_is_written_beside_them() {
    let classifier = Classifier::new(Book::embedded().expect("has no faults"));
    let (mut lines, mut wrong) = (0, Vec::new());
    for line in REPLIES.lines().skip(1).filter(|line| !line.is_empty()) {
        let [host, code, status, text, meaning, scope, action, rule] =
            line.split('\t').collect::<Vec<_>>()[..]
        else {
            panic!("{line}");
        };
        let status = if status == "-" { String::new() } else { format!("{status} ") };
        let stage = if code == "421" { Stage::Session } else { Stage::Rcpt };
        let judged = [stage, Stage::Content]
            .map(|stage| judge(&classifier, host, stage, &format!("{code} {status}{text}")));
        // where it came is not written: any place may do
        let is_right = judged.iter().flatten().any(|judged| {
            let words = (judged.meaning.as_str(), judged.concern.as_str(), judged.remedy.as_str());
            words == (meaning, scope, action) && (rule == "-" || judged.rule.as_deref() == Some(rule))
        });
        lines += 1;
        if !is_right {
            wrong.push(format!("{line}\n  {:?}", judged[0]));
        }
    }
    assert!(wrong.is_empty(), "{} of {lines}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(lines >= 300, "{lines}");
}
