//! What real refusals mean: the replies in Sisimai's bounces, held against the reasons that it gives for them.
//!
//! Read are entries that have a reply code, so that a server said something, where as many recipients were found as are
//! labelled. Its reasons are other words than our meanings: the table says which of ours are as good; what is done is right
//! where it is what one of these asks for. Reasons that are no server's word about mail (a name that does not exist, an
//! expired message, a mailer's own trouble) are left out.

use std::collections::BTreeMap;
use std::fs;

use barid::dsn::{Book, Classifier, Judgement, Meaning, ReportedRecipient};
use barid::mail::{Reply, Stage, Verdict};

use super::{bounce, files, missed, stem, vectors};

/// What must be right, in per cent. Aimed at are 97 and 90.
const ACTIONS_RIGHT_MIN: usize = 96;
const MEANINGS_RIGHT_MIN: usize = 90;

/// The meanings that are as good as a reason of Sisimai.
fn meanings(reason: &str) -> &'static [Meaning] {
    use Meaning::*;
    match reason {
        "userunknown" | "suspend" | "hasmoved" => &[UnknownUser],
        "filtered" => &[UnknownUser, Policy, Content],
        "mailboxfull" => &[MailboxFull],
        "rejected" => &[Policy, Authentication, Block],
        // for the address of the client, or for its name
        "blocked" => &[Block, Reputation, Authentication],
        "badreputation" => &[Reputation, Block],
        "authfailure" | "requireptr" => &[Authentication],
        "systemerror" => &[Other],
        "spamdetected" | "virusdetected" | "contenterror" | "mesgtoobig" | "exceedlimit" => &[Content],
        "policyviolation" | "notcompliantrfc" => &[Policy, Content, Authentication],
        "securityerror" => &[Policy, Tls, Content],
        "notaccept" => &[Policy, Other, UnknownUser],
        "norelaying" => &[Policy],
        "toomanyconn" => &[Rate],
        _ => &[],
    }
}

/// What a server said of a recipient, as far as the report tells.
fn verdict(recipient: &ReportedRecipient, code: &str) -> Option<Verdict> {
    let code: u16 = code.parse().ok().filter(|code| (400..600).contains(code))?;
    let text = recipient.diagnostic.as_deref().unwrap_or_default();
    let said = Reply::parse(text).filter(|reply| reply.code == code);
    // what is no reply as it stands is one by its code and status
    let status = recipient.status.filter(|status| u16::from(status.class) == code / 100);
    let reply = said.unwrap_or_else(|| Reply { code, enhanced: status, text: text.into() });
    let stage = if text.to_ascii_lowercase().contains("data") { Stage::Content } else { Stage::Rcpt };
    Some(Verdict { reply, stage })
}

/// The host that said it: some reports name it in their text alone.
fn host(recipient: &ReportedRecipient) -> &str {
    let told = recipient.diagnostic.as_deref().and_then(|text| text.split_once("host: "));
    let told = told.and_then(|(_, rest)| rest.split_whitespace().next());
    recipient.remote.as_deref().or(told).unwrap_or_default()
}

#[derive(Default)]
struct Scores {
    all: usize,
    meanings: usize,
    actions: usize,
}

impl Scores {
    fn print(&self, name: &str) {
        let share = |right: usize| 100.0 * right as f64 / self.all.max(1) as f64;
        let Scores { all, meanings, actions } = self;
        println!(
            "sisimai-emails, {name}: of {all}, action right {:.1} %, meaning right {:.1} %",
            share(*actions),
            share(*meanings)
        );
    }
}

/// The sum of the octets of a name decides which half it is in.
fn half(name: &str) -> usize {
    name.bytes().map(usize::from).sum::<usize>() % 2
}

#[test]
fn refusals_mean_what_others_found_them_to_mean() {
    let Some(folder) = vectors() else { return };
    let folder = folder.join("sisimai-emails");
    let labels: BTreeMap<String, Vec<BTreeMap<String, serde_json::Value>>> =
        serde_json::from_slice(&fs::read(folder.join("expected.json")).expect("labels")).expect("JSON");
    let classifier = Classifier::new(Book::embedded().expect("reads"));
    let (mut halves, mut confusion) = ([Scores::default(), Scores::default()], BTreeMap::new());
    for path in files(&folder.join("maildir")) {
        let name = stem(&path);
        let Some(want) = labels.get(&name) else { continue };
        let bounce = bounce(&fs::read(&path).expect("a vector"));
        let found = missed(&bounce);
        if found.len() != want.len() {
            continue;
        }
        for (recipient, entry) in found.iter().zip(want) {
            let text = |key: &str| entry[key].as_str().unwrap_or_default();
            let (good, host) = (meanings(text("reason")), host(recipient));
            let Some(verdict) = verdict(recipient, text("code")).filter(|_| !good.is_empty()) else {
                continue;
            };
            let Some(judged) = classifier.judge(host, &verdict) else { continue };
            let Judgement { meaning, remedy, .. } = judged;
            let is_right = good.contains(&meaning);
            let acts = good.iter().any(|good| good.remedy(verdict.severity()) == remedy);
            let scores = &mut halves[half(&name)];
            scores.all += 1;
            scores.meanings += usize::from(is_right);
            scores.actions += usize::from(acts);
            *confusion.entry((text("reason").to_owned(), meaning.as_str())).or_insert(0_u32) += 1;
            if !is_right || !acts {
                let by = judged.rule.as_deref().unwrap_or("digits");
                println!("    {name}: {} is {} by {by}: {}", text("reason"), meaning.as_str(), verdict.reply);
            }
        }
    }
    println!("{:<18} {:<16} count", "sisimai's reason", "our meaning");
    for ((reason, meaning), count) in &confusion {
        println!("{reason:<18} {meaning:<16} {count}");
    }
    halves[0].print("one half");
    halves[1].print("the other");
    let sum = |of: fn(&Scores) -> usize| halves.iter().map(of).sum::<usize>();
    let all = Scores {
        all: sum(|scores| scores.all),
        meanings: sum(|scores| scores.meanings),
        actions: sum(|scores| scores.actions),
    };
    all.print("all");
    assert!(
        all.actions * 100 >= all.all * ACTIONS_RIGHT_MIN
            && all.meanings * 100 >= all.all * MEANINGS_RIGHT_MIN
    );
}
