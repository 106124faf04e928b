//! The engine.

use std::sync::Arc;

use super::book::{Book, Receiver};
use super::firing::Firing;
use super::meaning::{Concern, Meaning, Remedy};
use super::rule::{Rule, Said};
use crate::mail::{Reply, Scope, Severity, Verdict};

/// What a refusal was found to mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// What happened.
    pub meaning: Meaning,
    /// Whom it concerns.
    pub concern: Concern,
    /// What to do.
    pub remedy: Remedy,
    /// When that is done beyond the message at hand.
    pub firing: Firing,
    /// The rule that says so; none where the reply's digits do.
    pub rule: Option<Box<str>>,
    /// The receiver whose host said it, where it is a known one.
    pub receiver: Option<Box<str>>,
}

/// Judges refusals. Clones share the rules; without any, the digits of replies are all that it goes by.
#[derive(Clone, Debug, Default)]
pub struct Classifier(Arc<Book>);

impl Classifier {
    /// By these.
    pub fn new(book: Book) -> Self {
        Classifier(Arc::new(book))
    }

    /// What it goes by.
    pub fn book(&self) -> &Book {
        &self.0
    }

    /// The receiver that a mail host belongs to.
    pub fn receiver(&self, host: &str) -> Option<&Receiver> {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        self.0.receivers.iter().find(|receiver| receiver.has(&host))
    }

    /// What a refusal means that a host said; nothing where it is none.
    pub fn judge(&self, host: &str, verdict: &Verdict) -> Option<Judgement> {
        let severity = verdict.severity();
        if severity == Severity::Success {
            return None;
        }
        let receiver = self.receiver(host);
        let own = receiver.map_or(&[][..], |receiver| &receiver.rules);
        let said = Said::of(verdict);
        let of_all = || self.0.rules.iter().find(|rule| rule.matches_anybody(&said));
        let rule = own.iter().find(|rule| rule.matches(&said)).or_else(of_all);
        let (meaning, concern) = rule.map_or_else(|| by_digits(verdict), |rule| (rule.meaning, rule.concern));
        Some(Judgement {
            meaning,
            concern,
            remedy: meaning.remedy(severity),
            firing: rule.map_or(Firing::FOR_ALL, |rule| rule.firing),
            rule: rule.map(|rule: &Rule| rule.id.clone()),
            receiver: receiver.map(|receiver| receiver.name.clone()),
        })
    }
}

/// What the digits of a reply say (RFC 3463 3, RFC 5321 4.2.2).
fn by_digits(verdict: &Verdict) -> (Meaning, Concern) {
    let Reply { code, enhanced, .. } = &verdict.reply;
    let concern = match verdict.scope() {
        Scope::Message => Concern::Message,
        Scope::Recipient => Concern::Recipient,
        Scope::Host => Concern::Host,
        Scope::Source => Concern::Source,
    };
    let meaning = match enhanced.map(|status| (status.subject, status.detail)) {
        Some((1, 0..=6 | 10)) => Meaning::UnknownUser,
        Some((2, 1)) => Meaning::UnknownUser,
        Some((2, 2)) => Meaning::MailboxFull,
        Some((2, 3) | (3, 4) | (6, _)) => Meaning::Content,
        Some((7, 4 | 5 | 10 | 30)) => Meaning::Tls,
        Some((7, 20..=27)) => Meaning::Authentication,
        Some((7, _)) => Meaning::Policy,
        Some(_) => Meaning::Other,
        None if *code == 552 && concern == Concern::Recipient => Meaning::MailboxFull,
        None => Meaning::Other,
    };
    (meaning, concern)
}
