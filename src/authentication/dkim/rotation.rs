//! The life of a key: *published, waiting, active, retiring, removed*. It goes on only as the DNS shows it.

use std::collections::HashMap;
use std::time::Duration;

use super::algorithm::Algorithm;
use super::entry::{Entry, Seen, Stage};
use crate::clock::Timestamp;
use crate::mail::Domain;

/// Who asked before the record was there may believe for so long that there is none, whatever its TTL.
const WAIT_LEAST: Duration = Duration::from_secs(5 * 60);
/// No resolver keeps anything for longer, whatever its TTL.
const WAIT_MOST: Duration = Duration::from_secs(24 * 3600);

/// What a look into the DNS showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// Something certain; how long others may keep what they saw.
    Seen(Seen, Duration),
    /// Nothing: there was no answer.
    Unknown,
}

impl Stage {
    fn retiring(until: u64) -> Self {
        Stage::Retiring { until, is_withdrawn: false }
    }

    /// What comes next, after a look.
    fn after(self, view: View, now: Timestamp) -> Self {
        let is_over = |until: u64| now.as_millis() >= until;
        match (self, view) {
            (Stage::Published, View::Seen(Seen::Right, ttl)) => {
                Stage::Waiting { until: now.after(ttl.clamp(WAIT_LEAST, WAIT_MOST)).as_millis() }
            }
            (Stage::Waiting { .. }, View::Seen(Seen::Missing | Seen::Other, _)) => Stage::Published,
            (Stage::Waiting { until }, View::Seen(Seen::Right, _)) if is_over(until) => {
                Stage::Active { since: now.as_millis() }
            }
            (Stage::Retiring { until, .. }, _) if is_over(until) => Stage::Removed,
            _ => self,
        }
    }
}

/// Takes a look into account. Where the time is in doubt nothing is removed by it.
pub(super) fn advance(entry: &mut Entry, view: View, (now, is_doubted): (Timestamp, bool)) {
    if let View::Seen(seen, _) = view {
        entry.seen = Some(seen);
    }
    let next = entry.stage.after(view, now);
    if !(is_doubted && next == Stage::Removed) {
        entry.stage = next;
    }
}

/// Where each key of a domain and algorithm stands in the list.
fn by_work(entries: &[Entry]) -> HashMap<(&Domain, Algorithm), Vec<usize>> {
    let mut groups: HashMap<(&Domain, Algorithm), Vec<usize>> = HashMap::new();
    for (at, entry) in entries.iter().enumerate() {
        groups.entry((&entry.domain, entry.algorithm)).or_default().push(at);
    }
    groups
}

/// The active key of a group that came last.
fn newest(entries: &[Entry], group: &[usize]) -> Option<usize> {
    let active = group.iter().copied().filter_map(|at| match entries[at].stage {
        Stage::Active { since } => Some((since, entries[at].made, &entries[at].selector, at)),
        _ => None,
    });
    active.max().map(|(.., at)| at)
}

/// Of the active keys of a domain and algorithm only the newest stays; one that has to stand in for it stays longer.
/// Mail that was signed is under way for `keep` at most.
pub(super) fn supersede(entries: &mut [Entry], now: Timestamp, keep: Duration) {
    let mut retiring = Vec::new();
    for group in by_work(entries).values() {
        let newest = newest(entries, group);
        let is_older = |at: &usize| matches!(entries[*at].stage, Stage::Active { .. }) && Some(*at) != newest;
        retiring.extend(group.iter().copied().filter(is_older));
    }
    let stands_in = |at: &usize| matches!(entries[*at].stage, Stage::Retiring { .. });
    retiring.extend(signing(entries).into_iter().filter(stands_in));
    for at in retiring {
        entries[at].stage = Stage::retiring(now.after(keep).as_millis());
    }
}

/// Takes a key out of service for good, whatever becomes of mail that is to be signed.
pub(super) fn retire(entry: &mut Entry, now: Timestamp, keep: Duration) {
    entry.stage = match entry.stage {
        Stage::Published | Stage::Waiting { .. } => Stage::Removed,
        Stage::Active { .. } => Stage::Retiring { until: now.after(keep).as_millis(), is_withdrawn: true },
        Stage::Retiring { until, .. } => Stage::Retiring { until, is_withdrawn: true },
        Stage::Removed => Stage::Removed,
    };
}

/// Which of the keys sign now: of each domain and algorithm the active one; where the DNS has lost that, the last
/// before it which the DNS still shows; where there is none, the active one all the same, since mail that should be
/// signed never leaves without.
pub(super) fn signing(entries: &[Entry]) -> Vec<usize> {
    let mut chosen = Vec::new();
    for group in by_work(entries).values() {
        let Some(active) = newest(entries, group) else { continue };
        let is_lost = !matches!(entries[active].seen, None | Some(Seen::Right));
        let stand_in = group.iter().copied().filter_map(|at| match (entries[at].stage, entries[at].seen) {
            (Stage::Retiring { until, is_withdrawn: false }, Some(Seen::Right)) => Some((until, at)),
            _ => None,
        });
        chosen.push(stand_in.max().filter(|_| is_lost).map_or(active, |(_, at)| at));
    }
    chosen.sort_unstable();
    chosen
}

#[cfg(test)]
mod tests {
    use super::super::selector::Selector;
    use super::*;

    const TTL: Duration = Duration::from_secs(3600);
    const RIGHT: View = View::Seen(Seen::Right, TTL);
    const MISSING: View = View::Seen(Seen::Missing, TTL);
    const KEEP: Duration = Duration::from_secs(12 * 86_400);

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(1_795_000_000_000 + seconds * 1000)
    }

    fn entry(selector: &str, algorithm: Algorithm) -> Entry {
        let (domain, selector) = (Domain::parse("a.example"), Selector::parse(selector));
        Entry::new(domain.expect("a domain"), selector.expect("a selector"), algorithm, at(0))
    }

    #[test]
    fn a_key_signs_only_when_everybody_can_see_it() {
        let mut key = entry("s", Algorithm::Rsa);
        let mut look = |view, seconds| {
            advance(&mut key, view, (at(seconds), false));
            (key.stage.as_str(), !signing(std::slice::from_ref(&key)).is_empty())
        };
        for (view, seconds, want) in [
            (MISSING, 0, ("published", false)),
            (View::Unknown, 10, ("published", false)),
            (RIGHT, 20, ("waiting", false)),
            // lost again, and another in its place
            (MISSING, 30, ("published", false)),
            (RIGHT, 40, ("waiting", false)),
            (View::Seen(Seen::Other, TTL), 50, ("published", false)),
            (RIGHT, 60, ("waiting", false)),
            (RIGHT, 60 + 3599, ("waiting", false)),
            (View::Unknown, 60 + 3600, ("waiting", false)),
            (RIGHT, 60 + 3601, ("active", true)),
            (MISSING, 60 + 3700, ("active", true)),
        ] {
            assert_eq!(look(view, seconds), want, "{view:?} at {seconds}");
        }
    }

    #[test]
    fn a_ttl_is_believed_within_reason() {
        for (ttl, want) in [(0, 300), (299, 300), (7200, 7200), (604_800, 86_400)] {
            let stage = Stage::Published.after(View::Seen(Seen::Right, Duration::from_secs(ttl)), at(0));
            assert_eq!(stage, Stage::Waiting { until: at(want).as_millis() }, "{ttl}");
        }
    }

    #[test]
    fn the_old_key_stays_as_long_as_its_mail_may_be_under_way() {
        let mut keys =
            [entry("old", Algorithm::Rsa), entry("new", Algorithm::Rsa), entry("e", Algorithm::Ed25519)];
        keys[0].stage = Stage::Active { since: at(0).as_millis() };
        keys[2].stage = Stage::Active { since: at(0).as_millis() };
        supersede(&mut keys, at(10), KEEP);
        assert_eq!(signing(&keys), [0, 2]);
        keys[1].stage = Stage::Active { since: at(10).as_millis() };
        supersede(&mut keys, at(10), KEEP);
        assert_eq!(keys[0].stage, Stage::retiring(at(10 + KEEP.as_secs()).as_millis()));
        assert_eq!(signing(&keys), [1, 2]);
        advance(&mut keys[0], MISSING, (at(9 + KEEP.as_secs()), false));
        assert_eq!(keys[0].stage.as_str(), "retiring");
        advance(&mut keys[0], View::Unknown, (at(10 + KEEP.as_secs()), false));
        assert_eq!(keys[0].stage, Stage::Removed);
    }

    #[test]
    fn the_old_key_stands_in_for_one_that_the_dns_has_lost() {
        let mut keys = [entry("old", Algorithm::Rsa), entry("new", Algorithm::Rsa)];
        keys[0].stage = Stage::retiring(at(100).as_millis());
        keys[1].stage = Stage::Active { since: at(0).as_millis() };
        (keys[0].seen, keys[1].seen) = (Some(Seen::Right), Some(Seen::Right));
        assert_eq!(signing(&keys), [1]);
        advance(&mut keys[1], MISSING, (at(50), false));
        assert_eq!(signing(&keys), [0]);
        // what it signs now will be under way for as long as any
        supersede(&mut keys, at(50), KEEP);
        assert_eq!(keys[0].stage, Stage::retiring(at(50 + KEEP.as_secs()).as_millis()));
        advance(&mut keys[0], MISSING, (at(60), false));
        assert_eq!(signing(&keys), [1], "neither is there: the active one");
        advance(&mut keys[1], RIGHT, (at(70), false));
        assert_eq!(signing(&keys), [1]);
    }

    #[test]
    fn one_that_was_taken_out_of_service_signs_nothing() {
        let mut keys = [entry("s", Algorithm::Rsa)];
        keys[0].stage = Stage::Active { since: at(0).as_millis() };
        keys[0].seen = Some(Seen::Right);
        retire(&mut keys[0], at(5), KEEP);
        assert_eq!(signing(&keys), [0; 0]);
        supersede(&mut keys, at(6), KEEP);
        let until = at(5 + KEEP.as_secs()).as_millis();
        assert_eq!(keys[0].stage, Stage::Retiring { until, is_withdrawn: true });
        let mut unseen = entry("t", Algorithm::Rsa);
        retire(&mut unseen, at(5), KEEP);
        assert_eq!(unseen.stage, Stage::Removed);
    }

    #[test]
    fn one_that_was_taken_out_of_service_stands_in_for_nobody() {
        let mut keys = [entry("old", Algorithm::Rsa), entry("new", Algorithm::Rsa)];
        (keys[0].stage, keys[0].seen) = (Stage::retiring(at(100).as_millis()), Some(Seen::Right));
        (keys[1].stage, keys[1].seen) = (Stage::Active { since: 0 }, Some(Seen::Missing));
        assert_eq!(signing(&keys), [0]);
        // it stands in now: it is taken out all the same
        retire(&mut keys[0], at(5), KEEP);
        assert_eq!(signing(&keys), [1]);
    }

    #[test]
    fn of_two_that_become_active_at_once_one_stays() {
        let mut keys = [entry("a", Algorithm::Rsa), entry("b", Algorithm::Rsa)];
        keys.iter_mut().for_each(|key| key.stage = Stage::Active { since: at(1).as_millis() });
        supersede(&mut keys, at(1), KEEP);
        let stages: Vec<&str> = keys.iter().map(|key| key.stage.as_str()).collect();
        assert_eq!(stages, ["retiring", "active"]);
    }

    #[test]
    fn a_time_that_is_in_doubt_removes_nothing() {
        let mut key = entry("s", Algorithm::Rsa);
        key.stage = Stage::retiring(at(100).as_millis());
        advance(&mut key, RIGHT, (at(1_000_000_000), true));
        assert_eq!(key.stage.as_str(), "retiring");
        advance(&mut key, RIGHT, (at(100), false));
        assert_eq!(key.stage, Stage::Removed);
    }
}
