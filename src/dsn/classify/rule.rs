//! One rule.

use std::borrow::Cow;
use std::sync::OnceLock;

use regex::bytes::{Regex, RegexBuilder};
use serde::Deserialize;

use super::firing::{self, Firing};
use super::meaning::{Concern, Meaning};
use crate::mail::{EnhancedStatus, Reply, Stage, Verdict};

/// A pattern may become so large; what needs more is a slip of the pen.
const PATTERN_MAX_OCTETS: usize = 256 << 10;

/// A pattern may keep so much of what it has found out; with half of that some replies take far longer.
const STATES_MAX_OCTETS: usize = 128 << 10;

/// Where a reply must come for a rule to count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Place {
    /// In the greeting, to EHLO or to MAIL.
    Session,
    /// To RCPT.
    Rcpt,
    /// To DATA, or to the content.
    Data,
}

impl Place {
    fn is_at(self, stage: Stage) -> bool {
        match stage {
            Stage::Ours => false,
            Stage::Session | Stage::Mail => self == Place::Session,
            Stage::Rcpt => self == Place::Rcpt,
            Stage::Content => self == Place::Data,
        }
    }
}

/// A rule as it is written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Written {
    id: String,
    #[serde(default)]
    codes: Vec<String>,
    #[serde(default)]
    status: Vec<String>,
    text: Option<String>,
    stage: Option<Place>,
    meaning: Meaning,
    scope: Concern,
    after: Option<u32>,
    within: Option<String>,
    pause: Option<String>,
    source: String,
    date: String,
}

/// An enhanced status, or the beginning of one.
#[derive(Clone, Debug, PartialEq, Eq)]
struct StatusPattern {
    /// 4 or 5; either where there is none.
    class: Option<u8>,
    subject: Option<u16>,
    detail: Option<u16>,
}

impl StatusPattern {
    /// `4.7.28`, `x.7.28`, `5.7.`, `5.`
    fn parse(text: &str) -> Option<Self> {
        let is_whole = !text.ends_with('.');
        let parts: Vec<&str> = text.trim_end_matches('.').split('.').collect();
        let class = match *parts.first()? {
            "x" => None,
            digit => Some(digit.parse().ok().filter(|class| matches!(class, 4 | 5))?),
        };
        let number = |at: usize| {
            parts.get(at).map(|part| part.parse::<u16>().ok()).map_or(Some(None), |it| it.map(Some))
        };
        let (subject, detail) = (number(1)?, number(2)?);
        let is_fit = parts.len() <= 3 && is_whole == (parts.len() == 3);
        is_fit.then_some(StatusPattern { class, subject, detail })
    }

    fn matches(&self, status: EnhancedStatus) -> bool {
        self.class.is_none_or(|class| class == status.class)
            && self.subject.is_none_or(|subject| subject == status.subject)
            && self.detail.is_none_or(|detail| detail == status.detail)
    }
}

/// A pattern. Hundreds of them take megabytes once they are built, and most receivers are never met.
#[derive(Clone, Debug)]
struct Text {
    pattern: Box<str>,
    built: OnceLock<Option<Regex>>,
}

impl Text {
    fn is_in(&self, said: &Said<'_>) -> bool {
        // servers repeat whom the mail is for: a mailbox may be called as it pleases
        let text = if self.pattern.contains('@') { said.text } else { &said.without_addresses };
        let built = self.built.get_or_init(|| build(&self.pattern).ok());
        built.as_ref().is_some_and(|built| built.is_match(text.as_bytes()))
    }
}

/// A refusal that is held against rules.
pub(super) struct Said<'a> {
    reply: &'a Reply,
    stage: Stage,
    text: &'a str,
    without_addresses: Cow<'a, str>,
}

impl<'a> Said<'a> {
    pub(super) fn of(verdict: &'a Verdict) -> Self {
        let Verdict { reply, stage } = verdict;
        let text = &*reply.text;
        Said { reply, stage: *stage, text, without_addresses: without_addresses(text) }
    }

    /// Whether the status says that it is about the recipient's address or mailbox (RFC 3463 3.2, 3.3).
    fn is_of_mailbox(&self) -> bool {
        self.reply
            .enhanced
            .is_some_and(|status| matches!((status.subject, status.detail), (1, 0..=6 | 10) | (2, _)))
    }
}

/// The same with `@` in place of each mail address.
fn without_addresses(text: &str) -> Cow<'_, str> {
    if !text.contains('@') {
        return text.into();
    }
    let is_between = |c: char| c.is_whitespace() || "<>()[]{}\"',;:".contains(c);
    let words = text.split_inclusive(is_between).map(|word| {
        let (bare, end) = match word.char_indices().next_back() {
            Some((at, last)) if is_between(last) => word.split_at(at),
            _ => (word, ""),
        };
        if bare.contains('@') { format!("@{end}") } else { word.to_owned() }
    });
    Cow::Owned(words.collect())
}

fn build(pattern: &str) -> Result<Regex, String> {
    let mut builder = RegexBuilder::new(pattern);
    builder.case_insensitive(true).unicode(false);
    builder.size_limit(PATTERN_MAX_OCTETS).dfa_size_limit(STATES_MAX_OCTETS);
    builder.build().map_err(|error| format!("its text is no pattern: {error}"))
}

/// A rule that can be asked.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Its name, in logs.
    pub id: Box<str>,
    /// What a reply means that it matches.
    pub meaning: Meaning,
    /// Whom that concerns.
    pub concern: Concern,
    /// When it is acted upon beyond the message at hand.
    pub firing: Firing,
    /// Where it is known from.
    pub source: Box<str>,
    /// When it was.
    pub date: Box<str>,
    codes: Vec<Box<str>>,
    status: Vec<StatusPattern>,
    text: Option<Text>,
    place: Option<Place>,
}

impl Rule {
    /// Makes one that can be asked, its pattern not looked at yet; what is wrong with it otherwise.
    pub(super) fn of(written: Written, usual: Firing) -> Result<Self, String> {
        let is_code =
            |code: &String| (1..=3).contains(&code.len()) && code.bytes().all(|digit| digit.is_ascii_digit());
        if let Some(code) = written.codes.iter().find(|code| !is_code(code)) {
            return Err(format!("`{code}` is no beginning of a reply code"));
        }
        if written.codes.is_empty() && written.status.is_empty() && written.text.is_none() {
            return Err("it matches every reply: give it codes, status or text".into());
        }
        let status = written.status.iter().map(|text| {
            StatusPattern::parse(text)
                .ok_or_else(|| format!("`{text}` is no status such as 4.7.28, x.7.28 or 5.7."))
        });
        Ok(Rule {
            id: written.id.into(),
            meaning: written.meaning,
            concern: written.scope,
            firing: usual.with(&firing::Written {
                after: written.after,
                within: written.within,
                pause: written.pause,
            })?,
            source: written.source.into(),
            date: written.date.into(),
            codes: written.codes.into_iter().map(Into::into).collect(),
            status: status.collect::<Result<_, _>>()?,
            text: written.text.map(|pattern| Text { pattern: pattern.into(), built: OnceLock::new() }),
            place: written.stage,
        })
    }

    /// What is wrong with its pattern.
    pub(super) fn fault(&self) -> Option<String> {
        build(&self.text.as_ref()?.pattern).err()
    }

    /// Whether a reply that came at a stage is one of those that it is for.
    pub(super) fn matches(&self, said: &Said<'_>) -> bool {
        let Said { reply, stage, .. } = *said;
        let has_code = self.codes.is_empty() || self.codes.iter().any(|start| begins(reply.code, start));
        let has_status = self.status.is_empty()
            || reply.enhanced.is_some_and(|status| self.status.iter().any(|pattern| pattern.matches(status)));
        let is_there = self.place.is_none_or(|place| place.is_at(stage));
        has_code && has_status && is_there && self.text.as_ref().is_none_or(|text| text.is_in(said))
    }

    /// The same, for a rule that is for everybody's replies: what the status says of a mailbox is believed first.
    pub(super) fn matches_anybody(&self, said: &Said<'_>) -> bool {
        let is_doubtful = matches!(self.meaning, Meaning::Block | Meaning::Reputation);
        !(is_doubtful && said.is_of_mailbox()) && self.matches(said)
    }
}

/// Whether a reply code begins with these digits.
fn begins(code: u16, start: &str) -> bool {
    let digits = [code / 100, code / 10 % 10, code % 10];
    start.bytes().zip(digits).all(|(octet, digit)| u16::from(octet.wrapping_sub(b'0')) == digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_no_words() {
        for (text, want) in [
            ("no address", "no address"),
            ("<rbl@spamcop.example>: User unknown", "<@>: User unknown"),
            ("mailbox rbl@a.example, full", "mailbox @, full"),
            ("write to delist@b.example", "write to @"),
            ("\u{e9}@a \u{e9}", "@ \u{e9}"),
        ] {
            assert_eq!(without_addresses(text), want);
        }
    }

    #[test]
    fn statuses_are_matched_as_they_are_written() {
        let status = |class, subject, detail| EnhancedStatus::new(class, subject, detail);
        for (pattern, of, want) in [
            ("4.7.28", status(4, 7, 28), true),
            ("4.7.28", status(5, 7, 28), false),
            ("x.7.28", status(5, 7, 28), true),
            ("4.7.2", status(4, 7, 28), false),
            ("5.7.", status(5, 7, 1), true),
            ("5.7.", status(5, 1, 1), false),
            ("5.", status(5, 1, 1), true),
        ] {
            assert_eq!(StatusPattern::parse(pattern).map(|it| it.matches(of)), Some(want), "{pattern} {of}");
        }
        for pattern in ["", "4", "2.1.5", "4.7", "4.7.28.", "4.7.x", "a.b.c", "4.7.28.1"] {
            assert_eq!(StatusPattern::parse(pattern), None, "{pattern}");
        }
    }
}
