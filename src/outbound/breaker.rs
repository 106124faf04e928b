//! The circuit breaker: when one kind of refusal suddenly comes from all sides, the fault is ours or a
//! mistake of many, and a queue must not be bounced for it.
//!
//! Refusals of a recipient's address or mailbox are verdicts on that recipient, however many there are;
//! all others (policy, content, protocol) count by kind. Pure: the time comes in.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::clock::Timestamp;
use crate::mail::{Domain, EnhancedStatus, Reply, Severity};

/// Verdicts count for this long, and for as long again until the next time that they are sorted out.
const COUNTS_FOR: Duration = Duration::from_secs(300);
/// So many domains must have refused in one way.
const DOMAINS_LEAST: usize = 20;
/// And so large a share of all that gave a verdict; below this one it is over.
const SHARE_OPENS: f64 = 0.5;
const SHARE_CLOSES: f64 = 0.25;
/// Domains counted, for each kind; more make no difference.
const DOMAINS_COUNTED: usize = 1000;
/// Kinds counted.
const KINDS_COUNTED: usize = 32;

/// A kind of refusal: subject and detail of its enhanced status code, or the code where there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// RFC 3463.
    Enhanced(u16, u16),
    /// RFC 5321.
    Plain(u16),
}

/// The breaker opened or closed for a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Switched {
    pub(super) kind: Kind,
    pub(super) is_open: bool,
}

/// Domains heard of lately, by a hash of the name.
#[derive(Default)]
struct Heard {
    now: BTreeSet<u64>,
    before: BTreeSet<u64>,
    /// Those in either.
    count: usize,
}

impl Heard {
    /// Whether it is counted.
    fn insert(&mut self, domain: u64) -> bool {
        if self.now.contains(&domain) {
            return true;
        }
        let is_known = self.before.contains(&domain);
        if self.now.len() >= DOMAINS_COUNTED {
            return is_known;
        }
        self.now.insert(domain);
        self.count += usize::from(!is_known);
        true
    }

    fn turn(&mut self) {
        self.before = std::mem::take(&mut self.now);
        self.count = self.before.len();
    }
}

/// What was heard of late.
#[derive(Default)]
pub struct Breaker {
    turned: Timestamp,
    /// Domains that gave a verdict, and those among them that refused in one way.
    all: Heard,
    refused: BTreeMap<Kind, Heard>,
    open: BTreeSet<Kind>,
}

/// Subjects 1 and 2 are addresses and mailboxes; 1.7 and 1.8 are the sender's (RFC 3463 3.2, 3.3).
fn is_of_recipient(status: EnhancedStatus) -> bool {
    matches!((status.subject, status.detail), (2, _) | (1, 0..=6 | 9..))
}

/// A plain 550 to 553 is nearly always about the recipient.
fn kind(reply: &Reply) -> Option<Kind> {
    match reply.enhanced {
        _ if reply.severity() != Severity::Permanent => None,
        Some(status) if is_of_recipient(status) => None,
        Some(status) => Some(Kind::Enhanced(status.subject, status.detail)),
        None if (550..=553).contains(&reply.code) => None,
        None => Some(Kind::Plain(reply.code)),
    }
}

impl Breaker {
    /// Notes what a server of a domain said; whether that opened or closed the breaker for a kind.
    pub(super) fn note(&mut self, now: Timestamp, domain: &Domain, verdicts: &[&Reply]) -> Option<Switched> {
        self.turn(now);
        let domain = fnv(domain.as_str());
        let mut refused = None;
        for reply in verdicts.iter().filter(|reply| reply.severity() != Severity::Transient) {
            // beyond those counted, a refusal must not count either: the share would be too large
            let (true, Some(kind)) = (self.all.insert(domain), kind(reply)) else { continue };
            if self.refused.len() < KINDS_COUNTED || self.refused.contains_key(&kind) {
                self.refused.entry(kind).or_default().insert(domain);
            }
            refused = Some(kind);
        }
        refused.or(self.open.first().copied()).and_then(|kind| self.judge(kind))
    }

    /// The kinds of refusal that are not believed now, as their codes.
    pub fn open(&self) -> Vec<String> {
        let told = |kind: &Kind| match kind {
            Kind::Enhanced(subject, detail) => format!("5.{subject}.{detail}"),
            Kind::Plain(code) => code.to_string(),
        };
        self.open.iter().map(told).collect()
    }

    /// Whether a refusal is not to be believed now.
    pub(super) fn withholds(&self, reply: &Reply) -> bool {
        kind(reply).is_some_and(|kind| self.open.contains(&kind))
    }

    fn turn(&mut self, now: Timestamp) {
        if now.since(self.turned) < COUNTS_FOR {
            return;
        }
        if now.since(self.turned) >= 2 * COUNTS_FOR {
            self.all.turn();
            self.refused.values_mut().for_each(Heard::turn);
        }
        self.turned = now;
        self.all.turn();
        self.refused.values_mut().for_each(Heard::turn);
        self.refused.retain(|kind, heard| heard.count > 0 || self.open.contains(kind));
    }

    fn judge(&mut self, kind: Kind) -> Option<Switched> {
        let refused = self.refused.get(&kind).map_or(0, |heard| heard.count);
        let share = refused as f64 / self.all.count.max(1) as f64;
        if !self.open.contains(&kind) && refused >= DOMAINS_LEAST && share > SHARE_OPENS {
            self.open.insert(kind);
            return Some(Switched { kind, is_open: true });
        }
        if self.open.contains(&kind) && share < SHARE_CLOSES {
            self.open.remove(&kind);
            return Some(Switched { kind, is_open: false });
        }
        None
    }
}

/// FNV-1a: short names, no enemy, and the same in each run.
fn fnv(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, octet| (hash ^ u64::from(octet)).wrapping_mul(0x100_0000_01b3))
}

#[cfg(test)]
mod tests {

    use super::*;

    fn domain(number: u64) -> Domain {
        Domain::parse(&format!("d{number}.example")).expect("a domain")
    }

    fn reply(code: u16, status: (u8, u16, u16)) -> Reply {
        Reply::new(code, EnhancedStatus::new(status.0, status.1, status.2), "said")
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    #[test]
    fn one_refusal_from_all_sides_is_withheld_until_others_take_mail_again() {
        let (mut breaker, blocked, fine) = (Breaker::default(), reply(550, (5, 7, 1)), reply(250, (2, 0, 0)));
        for number in 0..19 {
            assert_eq!(breaker.note(at(number), &domain(number), &[&blocked]), None);
        }
        assert_eq!(breaker.note(at(19), &domain(1), &[&blocked]), None, "a domain counts once");
        let kind = Kind::Enhanced(7, 1);
        let opened = breaker.note(at(20), &domain(20), &[&blocked]);
        assert_eq!(opened, Some(Switched { kind, is_open: true }));
        assert_eq!(breaker.open(), ["5.7.1"]);
        assert!(breaker.withholds(&blocked) && !breaker.withholds(&reply(550, (5, 7, 2))));
        let closed: Vec<_> =
            (100..200).filter_map(|number| breaker.note(at(30), &domain(number), &[&fine])).collect();
        assert_eq!(closed, [Switched { kind, is_open: false }]);
        assert!(!breaker.withholds(&blocked));
    }

    #[test]
    fn a_few_among_many_and_any_number_of_unknown_users_are_verdicts() {
        let mut breaker = Breaker::default();
        for number in 0..200 {
            let said = if number % 4 == 0 { reply(554, (5, 7, 1)) } else { reply(250, (2, 0, 0)) };
            assert_eq!(breaker.note(at(1), &domain(number), &[&said]), None);
            assert_eq!(breaker.note(at(1), &domain(1000 + number), &[&reply(550, (5, 1, 1))]), None);
        }
        assert!(!breaker.withholds(&reply(550, (5, 1, 1))));
    }

    #[test]
    fn what_was_long_ago_does_not_count() {
        let mut breaker = Breaker::default();
        for number in 0..100 {
            let now = at(number * 40);
            assert_eq!(breaker.note(now, &domain(number), &[&reply(554, (5, 7, 1))]), None);
        }
    }
}
