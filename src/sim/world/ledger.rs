//! What must hold: every letter, what becomes of each of its recipients, and whether that is right.
//!
//! Written without any of the relay's code. What it hears comes from both ends: what the gate answered,
//! what arrived at remote servers and which reply they gave, and what the relay says is settled.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::clock::Timestamp;
use crate::mail::{MessageId, Outcome};

/// A result may be lost in a crash that comes so soon after the remote's final reply: the 50 ms that
/// the store may gather, a sync, and the way of the reply.
const RESULT_AT_RISK: Duration = Duration::from_millis(120);

/// A sender is told that mail takes long when it is so old.
pub(super) const NOTICE: Duration = Duration::from_secs(150);

/// What is to become of a recipient, whatever happens on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Destiny {
    /// It is delivered in the end.
    Delivered,
    /// The remote server refuses it, or its domain does not exist.
    Refused,
    /// It is never reached.
    Expired,
}

/// A letter's way in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// Nobody knows: no answer came before a crash, or it was refused and may be there all the same.
    Unsure,
    /// The client was told 250.
    Accepted,
}

#[derive(Debug)]
struct Delivery {
    at: Timestamp,
    /// Whether the final reply reached the relay.
    is_heard: bool,
    is_settled: bool,
    /// Whether a crash took the result while it could not yet be durable.
    is_excused: bool,
}

#[derive(Debug)]
struct Fate {
    destiny: Destiny,
    deliveries: Vec<Delivery>,
    /// Reports that name it, by their own ids.
    reports: BTreeSet<String>,
    notices: BTreeSet<String>,
    /// Whether the relay says that it was given up.
    is_given_up: bool,
}

#[derive(Debug)]
struct Letter {
    entry: Entry,
    has_sender: bool,
    /// When it was handed over, if it was accepted.
    offered: Timestamp,
    content: Vec<u8>,
    fates: BTreeMap<String, Fate>,
    /// Transactions that remote servers saw begin, by domain.
    tries: BTreeMap<String, u32>,
}

/// The ledger.
#[derive(Debug)]
pub(super) struct Ledger {
    /// Mail is tried at least for so long.
    expiry: Duration,
    letters: BTreeMap<u32, Letter>,
    copies: BTreeMap<MessageId, u32>,
    /// Letters in the order in which they arrived.
    pub(super) arrivals: Vec<u32>,
    /// The first thing that was not right.
    pub(super) violation: Option<String>,
    /// Attempts that ended in a deferral.
    pub(super) deferred: usize,
}

impl Ledger {
    pub(super) fn new(expiry: Duration) -> Self {
        Ledger {
            expiry,
            letters: BTreeMap::new(),
            copies: BTreeMap::new(),
            arrivals: Vec::new(),
            violation: None,
            deferred: 0,
        }
    }

    pub(super) fn violate(&mut self, what: impl Into<String>) {
        self.violation.get_or_insert(what.into());
    }

    /// A letter is handed over; nobody has answered yet.
    pub(super) fn offer(
        &mut self,
        number: u32,
        has_sender: bool,
        content: Vec<u8>,
        recipients: &[(String, Destiny)],
    ) {
        let fate = |destiny| Fate {
            destiny,
            deliveries: Vec::new(),
            reports: BTreeSet::new(),
            notices: BTreeSet::new(),
            is_given_up: false,
        };
        let fates = recipients.iter().map(|(address, destiny)| (address.clone(), fate(*destiny))).collect();
        let letter = Letter {
            entry: Entry::Unsure,
            has_sender,
            offered: Timestamp::MAX,
            content,
            fates,
            tries: BTreeMap::new(),
        };
        self.letters.insert(number, letter);
    }

    /// The client was told that it is queued.
    pub(super) fn accept(&mut self, offered: Timestamp, number: u32, copies: &[MessageId]) {
        if let Some(letter) = self.letters.get_mut(&number) {
            (letter.entry, letter.offered) = (Entry::Accepted, offered);
        }
        self.copies.extend(copies.iter().map(|copy| (*copy, number)));
    }

    /// A remote server saw a transaction begin; for some domain, where it broke before a recipient.
    pub(super) fn tried(&mut self, number: u32, domain: Option<&str>) {
        if let Some(letter) = self.letters.get_mut(&number) {
            *letter.tries.entry(domain.unwrap_or_default().to_owned()).or_default() += 1;
        }
    }

    /// A remote server took a letter whole.
    pub(super) fn arrived(
        &mut self,
        now: Timestamp,
        number: u32,
        recipients: &[String],
        content: &[u8],
        is_heard: bool,
    ) {
        let Some(letter) = self.letters.get_mut(&number) else {
            return self.violate(format!("letter {number} arrived that nobody sent"));
        };
        self.arrivals.push(number);
        let mut wrong = None;
        // what the relay put before it is a trace field
        let is_whole = content.ends_with(&letter.content);
        let stamp = &content[..content.len().saturating_sub(letter.content.len())];
        if !is_whole || !stamp.starts_with(b"Received: ") || !stamp.ends_with(b"\r\n") {
            wrong = Some(format!("letter {number} arrived changed"));
        }
        for recipient in recipients {
            let Some(fate) = letter.fates.get_mut(recipient) else {
                wrong = Some(format!("letter {number} arrived for {recipient}, who was not named"));
                continue;
            };
            if let Some(last) = fate.deliveries.iter().rev().find(|last| last.is_heard && !last.is_excused) {
                wrong = Some(format!(
                    "letter {number} was sent to {recipient} again at {now:?}: it was taken at {:?}{}",
                    last.at,
                    if last.is_settled { ", and that was settled" } else { "" }
                ));
            }
            if fate.is_given_up {
                wrong = Some(format!("letter {number} was sent to {recipient}, who had been given up"));
            }
            let delivery = Delivery { at: now, is_heard, is_settled: false, is_excused: false };
            fate.deliveries.push(delivery);
        }
        wrong.into_iter().for_each(|wrong| self.violate(wrong));
    }

    /// A report arrived for the sender of a letter.
    pub(super) fn reported(&mut self, now: Timestamp, number: u32, report: &str, failed: &[String]) {
        let expiry = self.expiry;
        let Some(letter) = self.letters.get_mut(&number).filter(|letter| letter.has_sender) else {
            return self.violate(format!("a report on letter {number}, which has no sender"));
        };
        let mut wrong = None;
        let is_early = letter.entry == Entry::Accepted && now.since(letter.offered) < expiry;
        for recipient in failed {
            match letter.fates.get_mut(recipient) {
                None => wrong = Some(format!("a report on letter {number} names {recipient}")),
                Some(fate) => {
                    fate.reports.insert(report.to_owned());
                    if fate.destiny == Destiny::Delivered {
                        wrong =
                            Some(format!("letter {number} was given up for {recipient} without a verdict"));
                    } else if fate.destiny == Destiny::Expired && is_early {
                        wrong = Some(format!("letter {number} was given up early for {recipient}"));
                    } else if fate.reports.len() > 1 {
                        wrong = Some(format!("letter {number} was reported twice for {recipient}"));
                    }
                }
            }
        }
        wrong.into_iter().for_each(|wrong| self.violate(wrong));
    }

    /// A notice of delay arrived for the sender of a letter.
    pub(super) fn delayed(&mut self, now: Timestamp, number: u32, notice: &str, waiting: &[String]) {
        let Some(letter) = self.letters.get_mut(&number).filter(|letter| letter.has_sender) else {
            return self.violate(format!("a notice on letter {number}, which has no sender"));
        };
        let mut wrong = None;
        if letter.entry == Entry::Accepted && now.since(letter.offered) < NOTICE {
            wrong = Some(format!("letter {number} was called late too early"));
        }
        for recipient in waiting {
            match letter.fates.get_mut(recipient) {
                None => wrong = Some(format!("a notice on letter {number} names {recipient}")),
                Some(fate) => {
                    fate.notices.insert(notice.to_owned());
                    if fate.notices.len() > 1 {
                        wrong = Some(format!("letter {number} was called late twice for {recipient}"));
                    }
                }
            }
        }
        wrong.into_iter().for_each(|wrong| self.violate(wrong));
    }

    /// The relay says, durably, what became of a recipient.
    pub(super) fn settled(&mut self, outcome: &Outcome) {
        let (Outcome::Delivered { id, recipient }
        | Outcome::Deferred { id, recipient }
        | Outcome::Held { id, recipient }
        | Outcome::Bounced { id, recipient }) = outcome;
        let letter = self.copies.get(id).and_then(|number| self.letters.get_mut(number));
        // a report, or a letter whose sender was never answered
        let Some(fate) = letter.and_then(|letter| letter.fates.get_mut(&recipient.to_string())) else {
            return;
        };
        match outcome {
            Outcome::Delivered { .. } => {
                match fate.deliveries.iter_mut().rev().find(|delivery| delivery.is_heard) {
                    Some(delivery) => delivery.is_settled = true,
                    None => self.violate(format!("{recipient} counts as delivered, but nothing arrived")),
                }
            }
            Outcome::Bounced { .. } => {
                fate.is_given_up = true;
                if fate.destiny == Destiny::Delivered {
                    self.violate(format!("{recipient} was given up without a verdict"));
                }
            }
            Outcome::Deferred { .. } | Outcome::Held { .. } => self.deferred += 1,
        }
    }

    /// Everything stopped; what was not durable is forgotten.
    /// A disk that failed may have kept results from being written.
    pub(super) fn crashed(&mut self, now: Timestamp, had_disk_trouble: bool) {
        let mut wrong = None;
        let fates = self.letters.values_mut().flat_map(|letter| {
            // the ids of a letter whose sender was never answered are not known here
            let is_known = letter.entry == Entry::Accepted;
            letter.fates.iter_mut().map(move |(recipient, fate)| (is_known, recipient, fate))
        });
        for (is_known, recipient, fate) in fates {
            for delivery in
                fate.deliveries.iter_mut().filter(|delivery| delivery.is_heard && !delivery.is_settled)
            {
                let is_fresh = now.since(delivery.at) <= RESULT_AT_RISK;
                if is_known && !is_fresh && !delivery.is_excused && !had_disk_trouble {
                    wrong = Some(format!(
                        "the result for {recipient}, heard at {:?}, was not durable at {now:?}",
                        delivery.at
                    ));
                }
                delivery.is_excused = true;
            }
        }
        wrong.into_iter().for_each(|wrong| self.violate(wrong));
    }

    /// Compares with what the relay has queued: copies with their attempts and recipients.
    pub(super) fn compare(&mut self, queued: &[(MessageId, u32, Vec<String>)]) {
        let mut waiting: BTreeMap<u32, BTreeSet<&str>> = BTreeMap::new();
        let mut wrong = None;
        for (id, attempts, recipients) in queued {
            let Some(number) = self.copies.get(id) else { continue };
            waiting.entry(*number).or_default().extend(recipients.iter().map(String::as_str));
            let domain =
                recipients.first().and_then(|first| first.rsplit_once('@')).map(|(_, domain)| domain);
            // who sees no sender in the envelope cannot say whose transaction it was
            let Some(letter) = self.letters.get(number).filter(|letter| letter.has_sender) else { continue };
            let tries = |domain| letter.tries.get(domain).copied().unwrap_or(0);
            let tries = tries(domain.unwrap_or_default()) + tries("");
            if *attempts > tries {
                wrong =
                    Some(format!("letter {number} was charged {attempts} attempts, but {tries} were made"));
            }
        }
        let accepted = self.letters.iter().filter(|(_, letter)| letter.entry == Entry::Accepted);
        for (number, letter) in accepted {
            for (recipient, fate) in &letter.fates {
                let is_waiting = waiting.get(number).is_some_and(|waiting| waiting.contains(&**recipient));
                let is_delivered = fate.deliveries.iter().any(|delivery| delivery.is_settled);
                let may_be_over = fate.deliveries.iter().any(|delivery| delivery.is_heard)
                    || fate.destiny != Destiny::Delivered;
                if !is_waiting && !is_delivered && !may_be_over {
                    wrong = Some(format!("letter {number} to {recipient} is lost"));
                }
                if is_waiting && is_delivered {
                    wrong = Some(format!("letter {number} to {recipient} waits, though it was delivered"));
                }
            }
        }
        wrong.into_iter().for_each(|wrong| self.violate(wrong));
    }

    /// Everything works, and has for long: whatever can be delivered must have been.
    pub(super) fn check_delivered(&mut self) {
        let mut late = None;
        let accepted = self.letters.iter().filter(|(_, letter)| letter.entry == Entry::Accepted);
        for (number, letter) in accepted {
            for (recipient, fate) in &letter.fates {
                if fate.destiny == Destiny::Delivered && fate.deliveries.is_empty() {
                    late = Some(format!(
                        "letter {number} to {recipient} still waits, and nothing is in its way"
                    ));
                }
            }
        }
        late.into_iter().for_each(|late| self.violate(late));
    }

    /// At the end of everything: each accepted recipient came to its end, and once.
    pub(super) fn conclude(&mut self) {
        let mut wrong = None;
        let accepted = self.letters.iter().filter(|(_, letter)| letter.entry == Entry::Accepted);
        for (number, letter) in accepted {
            for (recipient, fate) in &letter.fates {
                let (delivered, reported) = (!fate.deliveries.is_empty(), fate.reports.len());
                let is_right = match fate.destiny {
                    Destiny::Delivered => delivered && reported == 0,
                    _ => reported == usize::from(letter.has_sender),
                };
                if !is_right {
                    wrong = Some(format!("letter {number} to {recipient} ended as {fate:?}"));
                }
            }
        }
        wrong.into_iter().for_each(|wrong| self.violate(wrong));
    }
}
