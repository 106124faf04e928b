//! Bounces that only tell a human: who was not reached, and what was said of each.
//!
//! A mailer's text names its failed recipients in one of few ways, and these are tried from the surest
//! down; the first that finds anybody decides:
//!
//! 1. lines that begin with an address, and what follows it until the next (qmail, Exim, Postfix, most);
//! 2. replies in a transcript: `550 <a@b>... no`, or `<<< 550 no` after `>>> RCPT TO:<a@b>` (Sendmail),
//!    and addresses behind words like *to* or *recipient* (`Unknown user: a@b`, `delivered to 'a@b'`);
//! 3. the only address that the text has, other than those of people to ask.
//!
//! Owns these ways. Promises time linear in the text. Never reads the message that was given back: it ends
//! before it.

use std::collections::{HashMap, HashSet};

use super::mention::{self, Mention};
use super::phrases::{BEFORE_OTHERS, BEFORE_RECIPIENTS, RULED_HEADINGS};
use super::{RECIPIENTS_MAX, status};

/// What is kept of what was said of one recipient.
const SAID_MAX_OCTETS: usize = 4 << 10;
/// A line of prose that goes on in the next is at least this long.
const PROSE_MIN_CHARACTERS: usize = 60;

/// A recipient and what the text says of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) recipient: String,
    /// Whom the message was sent to, where that was an alias of the recipient.
    pub(super) original: Option<String>,
    pub(super) said: String,
}

/// The recipients of a text, at most [`RECIPIENTS_MAX`], each once.
#[derive(Debug, Default)]
struct Found {
    told: Vec<Told>,
    places: HashMap<String, usize>,
}

impl Found {
    /// The place of an address; new ones are added as long as there is room.
    fn place(&mut self, address: &str) -> Option<usize> {
        let key = address.to_ascii_lowercase();
        if let Some(place) = self.places.get(&key) {
            return Some(*place);
        }
        if self.told.len() >= RECIPIENTS_MAX {
            return None;
        }
        self.told.push(Told { recipient: address.to_owned(), ..Told::default() });
        self.places.insert(key, self.told.len() - 1);
        Some(self.told.len() - 1)
    }

    /// Takes out these addresses, unless nobody would be left.
    fn leave_out(&mut self, addresses: &HashSet<String>) {
        let stays = |told: &Told| !addresses.contains(&told.recipient.to_ascii_lowercase());
        if self.told.iter().any(stays) {
            self.told.retain(stays);
            let key = |(place, told): (usize, &Told)| (told.recipient.to_ascii_lowercase(), place);
            self.places = self.told.iter().enumerate().map(key).collect();
        }
    }

    fn say(&mut self, place: usize, line: &str) {
        let said = &mut self.told[place].said;
        let room = SAID_MAX_OCTETS.saturating_sub(said.len() + 1);
        let line = line.trim();
        if room > 0 && !line.is_empty() {
            said.push_str(&line[..line.floor_char_boundary(room)]);
            said.push(' ');
        }
    }
}

/// Where the original begins: the line that says so, or its header. The rest is the original's.
pub(super) fn split_original(text: &str) -> (&str, &str) {
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let behind = at + line.len();
        if is_divider(line) {
            return (&text[..at], &text[behind..]);
        }
        // the header itself, but not of a message that is nothing else
        if at > 0 && is_trace(line) {
            return (&text[..at], &text[at..]);
        }
        at = behind;
    }
    (text, "")
}

/// Fields that every message has on its way, and no mailer's prose begins with.
fn is_trace(line: &str) -> bool {
    let line = line.trim_start_matches('>');
    let begins = |name: &str| line.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name));
    [
        "received:",
        "return-path:",
        "delivered-to:",
        "dkim-signature:",
        "message-id:",
        "content-type: message/rfc822",
    ]
    .into_iter()
    .any(begins)
}

fn is_divider(line: &str) -> bool {
    let ruled = line.trim_start_matches([' ', '|']).starts_with(['-', '=', '*', '#', '_']);
    let line = line.to_lowercase();
    let words: Vec<&str> =
        line.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
    let has = |text: &str| line.contains(text);
    let follows = words.windows(2).any(|pair| {
        matches!(pair[1], "follow" | "follows")
            && matches!(pair[0], "message" | "mail" | "header" | "headers" | "text" | "body" | "suppressed")
    });
    let copy = has("copy of") && !has("receive") && (has("message") || has("mail") || has("header"));
    let starts = words.starts_with(&["original", "message"]) && !has("was received") && !has("could not");
    follows
        || copy
        || starts
        || has("original message is following")
        || has("your message reads")
        || ruled && RULED_HEADINGS.are_in(&line)
}

/// Reads a text that ends before the original; `named` are those whom a header names as failed, `own` is
/// the To field of the report, which a text may greet.
pub(super) fn read(text: &str, named: &[String], own: &str) -> Vec<Told> {
    let mut found = listed(text);
    let replies = transcript(text);
    if named.is_empty() {
        found.leave_out(&helpers(text));
    } else {
        // the mailer's own list goes before what is read out of its words
        let mut exact = Found::default();
        for address in named {
            if let Some(place) = exact.place(address) {
                let told = found.places.get(&address.to_ascii_lowercase()).map(|at| found.told[*at].clone());
                exact.told[place] = Told { recipient: address.clone(), ..told.unwrap_or_default() };
            }
        }
        found = exact;
    }
    if found.told.is_empty() {
        for told in &replies.told {
            found.place(&told.recipient);
        }
        addressed(text, &mut found);
    }
    if found.told.is_empty() {
        found = lonely(text, own);
    }
    for told in &mut found.told {
        let reply = replies.places.get(&told.recipient.to_ascii_lowercase()).map(|at| &replies.told[*at]);
        if let Some(reply) = reply.filter(|_| status::stated(&told.said).is_none()) {
            told.said.push_str(&reply.said);
        }
    }
    found.told
}

/// Lines that begin with an address begin what is said of it. What is indented deeper belongs to the line
/// above, and in a transcript lines are no list.
fn listed(text: &str) -> Found {
    let mut found = Found::default();
    let mut current: Option<usize> = None;
    let mut indent_of_block: Option<usize> = None;
    let mut transcript = false;
    let mut before = "";
    for line in text.lines() {
        if line.trim().is_empty() {
            indent_of_block = None;
            // the words that name a sender may stand above an empty line, a sentence does not go on there
            if !names_sender(before) {
                before = "";
            }
            continue;
        }
        transcript |= is_transcript(line);
        let indent = line.len() - line.trim_start().len();
        let inside = indent_of_block.is_some_and(|block| indent > block);
        if let Some(alias) = alias(line) {
            match current.filter(|_| indent_of_block.is_some()) {
                Some(place) => found.told[place].original = Some(alias.address.to_owned()),
                None => current = found.place(alias.address),
            }
        } else if let Some(lead) = mention::leading(line).filter(|_| {
            let prose = indent_of_block.is_none() && goes_on(before);
            !inside && !transcript && !prose && !names_sender(before)
        }) {
            current = found.place(lead.address);
            indent_of_block = Some(indent);
            if let Some(place) = current {
                found.say(
                    place,
                    line[lead.end..].trim_start_matches([' ', '<', '>', ']', ')', '"', '\'', ':', ',']),
                );
            }
        } else if let Some(place) = current.filter(|_| !transcript) {
            found.say(place, line);
        }
        before = line;
    }
    found
}

fn is_transcript(line: &str) -> bool {
    let line = line.to_ascii_lowercase();
    line.contains("transcript") && line.contains("session")
}

/// Whether the line above is prose that goes on here, so that an address is only its next word.
fn goes_on(line: &str) -> bool {
    let full = line.chars().count() >= PROSE_MIN_CHARACTERS;
    full && line.trim_end().ends_with(|c: char| c.is_alphanumeric() || c == ',')
}

/// `A message sent by` and the like.
fn names_sender(line: &str) -> bool {
    let line = line.trim().trim_end_matches(':').to_ascii_lowercase();
    line.ends_with("sent by") || line.ends_with(" from") || line.ends_with("contact")
}

/// `(generated from a@b)` of Exim, `(expanded from: <a@b>)` of Sendmail and Postfix.
fn alias(line: &str) -> Option<Mention<'_>> {
    let lower = line.to_ascii_lowercase();
    let at = ["generated from", "expanded from"].iter().find_map(|words| lower.find(words))?;
    mention::mentions(line).find(|mention| mention.start > at)
}

/// Replies of failure and whom they meant: the address in the reply's own line, else that of the command
/// above it. An address right behind the code makes a recipient by itself.
fn transcript(text: &str) -> Found {
    let mut found = Found::default();
    let mut asked: Option<String> = None;
    for line in text.lines() {
        let lower = line.to_ascii_lowercase();
        if let Some(at) = lower.find("rcpt to:") {
            asked = mention::mentions(line).find(|mention| mention.start > at).map(|m| m.address.to_owned());
            continue;
        }
        let reply = line.trim_start_matches(|c: char| !c.is_ascii_digit() && !c.is_alphabetic());
        let reply = ["out:", "received >>>", "smtp error"]
            .iter()
            .find_map(|prefix| {
                lower.trim_start().starts_with(prefix).then(|| line.trim_start()[prefix.len()..].trim())
            })
            .unwrap_or(reply);
        if !reply.starts_with(['4', '5']) || status::reply_code(reply.get(..4).unwrap_or(reply)).is_none() {
            continue;
        }
        let own = mention::mentions(reply).next().filter(|mention| {
            let between = reply[3..mention.start].trim_matches(|c: char| " <-:'\"".contains(c));
            between.chars().all(|c| c.is_ascii_digit() || c == '.') && mention.start < 24
        });
        let address = own.map(|mention| mention.address.to_owned()).or_else(|| asked.clone());
        if let Some(place) = address.and_then(|address| found.place(&address)) {
            found.say(place, reply);
        }
    }
    found
}

/// What the words before an address make of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Recipient,
    /// The sender, or somebody to ask.
    Other,
    Unknown,
}

/// Judges by the nearest words, in several languages.
fn role(before: &str) -> Role {
    let before = before.to_lowercase();
    let words = || before.rsplit(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    if words().take(6).any(|word| BEFORE_OTHERS.include(word)) {
        Role::Other
    } else if words().take(3).any(|word| BEFORE_RECIPIENTS.include(word)) {
        Role::Recipient
    } else {
        Role::Unknown
    }
}

/// Whom a text tells to ask; they may stand at the beginning of a line as well.
fn helpers(text: &str) -> HashSet<String> {
    let others = text.lines().flat_map(roles).filter(|(role, _)| *role == Role::Other);
    others.map(|(_, mention)| mention.address.to_ascii_lowercase()).take(RECIPIENTS_MAX).collect()
}

/// All addresses of a line, each judged by what stands since the one before it.
fn roles(line: &str) -> impl Iterator<Item = (Role, Mention<'_>)> {
    let mut behind = 0;
    mention::mentions(line).map(move |mention| {
        let before = line.get(behind..mention.start).unwrap_or_default();
        behind = mention.end;
        (role(before), mention)
    })
}

/// Addresses behind words that mean a recipient.
fn addressed(text: &str, found: &mut Found) {
    let mut current: Option<usize> = None;
    for line in text.lines().filter(|line| !is_header_of_summary(line)) {
        let mut named = false;
        for (_, mention) in roles(line).filter(|(role, _)| *role == Role::Recipient) {
            current = found.place(mention.address);
            named = true;
            if let Some(place) = current {
                found.say(place, line);
            }
        }
        if let Some(place) = current.filter(|_| !named) {
            found.say(place, line);
        }
    }
}

/// `To:`, `Subject:` and their like above the report of Exchange and Domino are the original's.
fn is_header_of_summary(line: &str) -> bool {
    let name = line.trim_start().split(':').next().unwrap_or_default().trim();
    line.contains(':')
        && ["to", "cc", "bcc", "from", "subject", "sent", "date", "sender", "reply-to", "message-id"]
            .iter()
            .any(|known| name.eq_ignore_ascii_case(known))
}

/// The only address of a text; a summary's `To:` counts before anything else.
fn lonely(text: &str, own: &str) -> Found {
    let mut found = Found::default();
    let to = |line: &&str| {
        let line = line.trim_start();
        line.get(..3).is_some_and(|start| start.eq_ignore_ascii_case("to:"))
    };
    let receivers: Vec<_> = text.lines().filter(to).flat_map(mention::mentions).take(2).collect();
    let own: Vec<_> = mention::mentions(own).map(|mention| mention.address).take(2).collect();
    let stranger = |address: &&str| !own.iter().any(|own| own.eq_ignore_ascii_case(address));
    let others = text.lines().flat_map(roles).filter(|(role, _)| *role != Role::Other);
    let mut all = others.map(|(_, mention)| mention.address).filter(stranger);
    let first = match receivers[..] {
        [only] => Some(only.address),
        _ => all.next().filter(|first| all.all(|other| other.eq_ignore_ascii_case(first))),
    };
    if let Some(place) = first.and_then(|first| found.place(first)) {
        text.lines().for_each(|line| found.say(place, line));
    }
    found
}

/// Names without a domain, one a line below a line about recipients: local to whoever wrote.
pub(super) fn local_names(text: &str) -> Vec<&str> {
    let mut names = Vec::new();
    let mut heading = false;
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        // a reason may follow in parentheses
        let (name, reason) = line.trim().split_once(' ').unwrap_or((line.trim(), ""));
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-+".contains(c);
        let alone = reason.is_empty() || reason.starts_with('(');
        if heading
            && line.starts_with([' ', '\t'])
            && alone
            && name.chars().all(plain)
            && names.len() < RECIPIENTS_MAX
        {
            names.push(name);
            continue;
        }
        let lower = line.to_ascii_lowercase();
        let about = ["recipient", "address", "following"].iter().any(|word| lower.contains(word));
        heading = lower.trim_end().ends_with(':') && about;
    }
    names
}

/// The host that a reply came from: `host mx.example[192.0.2.1] said`, of Postfix and Exim.
pub(super) fn remote(said: &str) -> Option<&str> {
    let behind = said.split("host ").nth(1)?.trim_start();
    let end = behind.find(|c: char| !c.is_ascii_alphanumeric() && !"-._".contains(c)).unwrap_or(behind.len());
    let name = behind[..end].trim_end_matches('.');
    name.contains('.').then_some(name)
}
