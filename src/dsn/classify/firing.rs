//! When a rule is acted upon beyond the message at hand, and for how long.

use std::time::Duration;

/// So many messages must get such a reply, within so long, where a rule is for the replies of everybody: one that
/// reads like a block of all mail may be about a single message.
const COUNT_FOR_ALL: u32 = 3;
const WITHIN: Duration = Duration::from_secs(600);

/// When a rule is acted upon beyond the message at hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Firing {
    /// When so many messages have got such a reply, none having been taken in between.
    pub count: u32,
    /// Within so long.
    pub within: Duration,
    /// How long nothing is sent then; as long as is usual where nothing is named.
    pub pause: Option<Duration>,
}

impl Firing {
    /// As usual for rules for the replies of everybody, and where no rule matches.
    pub const FOR_ALL: Firing = Firing { count: COUNT_FOR_ALL, within: WITHIN, pause: None };
    /// As usual for a receiver's own rules, which are known to mean what they say.
    pub const OF_RECEIVER: Firing = Firing { count: 1, within: WITHIN, pause: None };

    /// The same, with what a rule says itself.
    pub(super) fn with(self, written: &Written) -> Result<Self, String> {
        let time = |text: &Option<String>| text.as_deref().map(duration).transpose();
        if written.after == Some(0) {
            return Err("`after` is the number of messages that get the reply: 1 or more".into());
        }
        Ok(Firing {
            count: written.after.unwrap_or(self.count),
            within: time(&written.within)?.unwrap_or(self.within),
            pause: time(&written.pause)?.or(self.pause),
        })
    }
}

/// What a rule says of it.
#[derive(Debug, Default)]
pub(super) struct Written {
    pub(super) after: Option<u32>,
    pub(super) within: Option<String>,
    pub(super) pause: Option<String>,
}

/// `90s`, `30m`, `2h`.
fn duration(text: &str) -> Result<Duration, String> {
    let parsed = text.char_indices().next_back().and_then(|(at, unit)| {
        let seconds = match unit {
            's' => 1,
            'm' => 60,
            'h' => 3600,
            _ => return None,
        };
        text[..at].parse::<u32>().ok().filter(|number| *number > 0).map(|number| u64::from(number) * seconds)
    });
    parsed.map(Duration::from_secs).ok_or_else(|| format!("`{text}` is no time such as 90s, 30m or 2h"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_unit() {
        for (text, seconds) in [("90s", Some(90)), ("30m", Some(1800)), ("2h", Some(7200))] {
            assert_eq!(duration(text).ok(), seconds.map(Duration::from_secs), "{text}");
        }
        for text in ["", "5", "0m", "m", "-1h", "2d", "9999999999h", "1 h", "1é"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
