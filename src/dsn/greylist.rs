//! Greylisting: a server that refuses a first attempt only to see whether there is a second; and the time after which
//! a server wants to be asked again.

use std::time::Duration;

use crate::mail::{Reply, Severity};

/// A time that a server names is believed within these.
const SHORTEST: Duration = Duration::from_secs(10);
const LONGEST: Duration = Duration::from_secs(3600);

/// How long a server greylists, if that is what a reply says; `usual` where it names no time.
pub fn greylisted_for(reply: &Reply, usual: Duration) -> Option<Duration> {
    if reply.severity() != Severity::Transient {
        return None;
    }
    let text = reply.text.to_ascii_lowercase();
    let says_so = ["greylist", "graylist", "grey list", "gray list", "grey-list"];
    says_so
        .iter()
        .any(|word| text.contains(word))
        .then(|| named_time(&text).map_or(usual, |named| named.clamp(SHORTEST, LONGEST)))
}

/// The time after which a passing refusal wants to be asked again, as far as it is believed: `in 5 minutes`, `after 300
/// seconds`, `wait 1 hour`.
pub fn named_wait(reply: &Reply) -> Option<Duration> {
    if reply.severity() != Severity::Transient {
        return None;
    }
    let text = reply.text.to_ascii_lowercase();
    let words = words(&text);
    let seconds = words.windows(3).find_map(|three| {
        let [before, number, unit] = three else { return None };
        let is_wait = matches!(*before, "in" | "after" | "for" | "wait" | "least" | "another" | "about");
        let number = number.parse::<u64>().ok().filter(|_| is_wait)?;
        let unit = match *unit {
            "s" | "sec" | "secs" | "second" | "seconds" => 1,
            "m" | "min" | "mins" | "minute" | "minutes" => 60,
            "h" | "hr" | "hrs" | "hour" | "hours" => 3600,
            _ => return None,
        };
        number.checked_mul(unit)
    })?;
    Some(Duration::from_secs(seconds).clamp(SHORTEST, LONGEST))
}

fn words(text: &str) -> Vec<&str> {
    text.split(|c: char| c.is_whitespace() || "(),.;".contains(c)).filter(|word| !word.is_empty()).collect()
}

/// `in 300 seconds`, `in 5 minutes`, `in 00:05:00`.
fn named_time(text: &str) -> Option<Duration> {
    let words = words(text);
    let unit = |word: &str| match word {
        _ if word.starts_with("sec") => Some(1),
        _ if word.starts_with("min") => Some(60),
        _ if word.starts_with("hour") => Some(3600),
        _ => None,
    };
    let mut pairs = words.windows(2).filter_map(|pair| {
        let number: u64 = pair[0].parse().ok()?;
        Some(Duration::from_secs(number.checked_mul(unit(pair[1])?)?))
    });
    pairs.next_back().or_else(|| words.iter().find_map(|word| clock_time(word)))
}

fn clock_time(word: &str) -> Option<Duration> {
    let [hours, minutes, seconds] = word.split(':').collect::<Vec<_>>().try_into().ok()?;
    let number = |text: &str| text.parse::<u32>().ok().filter(|number| *number < 60);
    let all = number(hours)? * 3600 + number(minutes)? * 60 + number(seconds)?;
    Some(Duration::from_secs(all.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::EnhancedStatus;

    #[test]
    fn a_time_to_wait_is_read_from_the_reply() {
        for (code, text, want) in [
            (451, "too many messages, try again in 10 minutes", Some(600)),
            (421, "please retry after 300 seconds.", Some(300)),
            (450, "wait at least 2 hours", Some(3600)),
            (451, "wait 1s", None),
            (451, "100 messages per 1 hour are the limit", None),
            (451, "see RFC 5321 section 4.2", None),
            (451, "at Fri Nov 27 18:49:33 2026", None),
            (451, "4.7.1 security", None),
            (550, "try again in 10 minutes", None),
        ] {
            let reply = Reply::new(code, EnhancedStatus::new((code / 100) as u8, 7, 1), text);
            assert_eq!(named_wait(&reply), want.map(Duration::from_secs), "{text}");
        }
    }

    #[test]
    fn greylisting_and_its_time_are_read_from_the_reply() {
        for (code, text, want) in [
            (450, "Recipient address rejected: Greylisted, see http://postgrey.example/", Some(300)),
            (451, "Greylisting in action, please come back in 00:04:52", Some(292)),
            (451, "You have been graylisted, try again in 2 minutes.", Some(120)),
            (450, "Greylisted for 60 seconds", Some(60)),
            (451, "greylisted for 99999999999999999999 seconds", Some(300)),
            (451, "greylisted, retry in 9 hours", Some(3600)),
            (451, "try again later", None),
            (550, "greylisted", None),
        ] {
            let reply = Reply::new(code, EnhancedStatus::new(4, 7, 1), text);
            assert_eq!(
                greylisted_for(&reply, Duration::from_secs(300)),
                want.map(Duration::from_secs),
                "{text}"
            );
        }
    }
}
