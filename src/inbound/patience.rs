//! How long a client may take: a command as a whole, and content by its size. A trickle of octets renews
//! nothing.

use std::time::Duration;

use tokio::time::Instant;

/// How long is waited for what a client sends (RFC 5321 4.5.3.2).
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For a whole command.
    pub command: Duration,
    /// For more content.
    pub content: Duration,
    /// For TLS to begin.
    pub handshake: Duration,
    /// Octets of content that must come in a second, from the beginning on; [`Patience::content`] is granted
    /// beside.
    pub content_octets_per_second: u64,
}

impl Default for Patience {
    fn default() -> Self {
        Patience {
            command: Duration::from_secs(300),
            content: Duration::from_secs(180),
            handshake: Duration::from_secs(30),
            content_octets_per_second: 100,
        }
    }
}

/// What a client has done when it is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// So many commands have come whole.
    Commands(u64),
    /// Of this content, by its number, so many octets have.
    Content(u64, u64),
}

/// When a client's time is up.
#[derive(Debug)]
pub(super) struct Deadline {
    patience: Patience,
    /// How many commands have come, and when the next began to be waited for.
    commands: (u64, Instant),
    /// The content that was waited for last, by its number, and when it began to be.
    content: (u64, Instant),
}

impl Deadline {
    pub(super) fn new(patience: Patience, now: Instant) -> Self {
        Deadline { patience, commands: (0, now), content: (0, now) }
    }

    /// Until when is waited now.
    pub(super) fn at(&mut self, progress: Progress, now: Instant) -> Instant {
        match progress {
            Progress::Commands(count) => begun(&mut self.commands, count, now) + self.patience.command,
            Progress::Content(number, octets) => {
                let since = begun(&mut self.content, number, now);
                let earned = Duration::from_secs(octets / self.patience.content_octets_per_second.max(1));
                (now + self.patience.content).min(since + self.patience.content + earned)
            }
        }
    }
}

/// When what has this number began: now, where another was waited for before.
fn begun(known: &mut (u64, Instant), number: u64, now: Instant) -> Instant {
    if known.0 != number {
        *known = (number, now);
    }
    known.1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_whole_commands_and_enough_content_renew_the_time() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut deadline = Deadline::new(Patience::default(), start);
        for (progress, now, until) in [
            (Progress::Commands(0), 0, 300),
            // half a command is none
            (Progress::Commands(0), 200, 300),
            (Progress::Commands(1), 290, 590),
            (Progress::Content(1, 0), 300, 480),
            // a hundred octets in three minutes earn a second
            (Progress::Content(1, 100), 470, 481),
            (Progress::Content(1, 50_000), 480, 660),
            (Progress::Content(1, 50_100), 790, 970),
            (Progress::Content(1, 50_200), 900, 300 + 180 + 502),
            // another message, its commands in one piece with the end of the one before
            (Progress::Content(2, 0), 900, 1080),
            (Progress::Commands(2), 990, 1290),
            // what it had earned does not come back
            (Progress::Content(2, 0), 1000, 1080),
            (Progress::Content(3, 0), 1000, 1180),
        ] {
            assert_eq!(deadline.at(progress, after(now)), after(until), "{progress:?} at {now}");
        }
    }
}
