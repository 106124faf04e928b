//! Mail that comes back: what a bounce says of each recipient.
//!
//! Owns reading of reports, proper (RFC 3464, RFC 6533) and not. Promises that no input panics, and that
//! time is linear and memory bounded by the limits here. Never believes a bounce about anything: whether
//! it speaks of mail of ours is asked by whoever knows what was sent.
//!
//! # Which status counts
//!
//! The Status field is written by the reporting server, which often knows only that it failed (5.0.0) or
//! that time was up (4.4.7); the remote server's own code stands in the Diagnostic-Code. So, in order: the
//! code behind the reply code of a Diagnostic-Code; a Status field that says more than a class; any code in
//! the Diagnostic-Code, or in the text about this recipient; the generic Status. Only where nobody stated a
//! code do words count, and at last the class of a reply code, as X.0.0: a bare 550 may mean a mailbox, a
//! policy or a blocked address, so no subject is made up for it.

mod decode;
mod evidence;
mod fields;
#[cfg(test)]
mod forms;
mod mention;
mod part;
mod phrases;
mod prose;
mod status;

use std::collections::HashMap;

use evidence::Signs;
use fields::{PerMessage, PerRecipient};
use part::Part;
use prose::Told;

use crate::mail::{Address, EnhancedStatus, PATH_MAX_OCTETS};

/// A returned message is read so far; what it says stands at its front.
pub const RETURNED_MAX_OCTETS: usize = 4 << 20;
/// Further recipients of one report are passed over.
pub const RECIPIENTS_MAX: usize = 1000;
/// What is kept of a diagnostic, a name or an id.
const KEPT_MAX_OCTETS: usize = 1000;
/// Text of all parts is read so far.
const REPORT_MAX_OCTETS: usize = 2 * part::TEXT_MAX_OCTETS;

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Returned {
    /// A report about delivery.
    Bounce(Bounce),
    /// A complaint (RFC 5965), which is told apart but not read here.
    Feedback,
}

/// A report about the delivery of one message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bounce {
    /// Whom it is about; empty where it names nobody.
    pub recipients: Vec<ReportedRecipient>,
    /// Message-ID of the original, with its angle brackets.
    pub original_message_id: Option<Box<str>>,
    /// ENVID of the original (RFC 3464 2.2.1).
    pub envelope_id: Option<Box<str>>,
    /// The reporting server's id of the original.
    pub queue_id: Option<Box<str>>,
    /// Who writes it.
    pub reporter: Option<Box<str>>,
}

/// What a report says of one recipient. Texts are a stranger's: without control characters and at most
/// 1000 octets, but otherwise anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportedRecipient {
    /// Who did not get it, as far as the reporting server saw; none where it names nobody.
    pub recipient: Option<Box<str>>,
    /// Whom the sender wrote to (RFC 3464 2.3.1), where that is told.
    pub original_recipient: Option<Box<str>>,
    /// What became of it.
    pub action: ReportedAction,
    /// Why, as far as that was stated or is beyond doubt.
    pub status: Option<EnhancedStatus>,
    /// What the remote server said, or the text about this recipient.
    pub diagnostic: Option<Box<str>>,
    /// The server that said it.
    pub remote: Option<Box<str>>,
}

impl ReportedRecipient {
    /// The recipient as an address, where it is one.
    pub fn address(&self) -> Option<Address> {
        Address::parse(self.recipient.as_deref()?).ok()
    }

    /// The original recipient as an address.
    pub fn original_address(&self) -> Option<Address> {
        Address::parse(self.original_recipient.as_deref()?).ok()
    }
}

/// What became of a recipient (RFC 3464 2.3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReportedAction {
    /// Given up.
    Failed,
    /// Still being tried.
    Delayed,
    /// In the mailbox.
    Delivered,
    /// Handed to a server that sends no reports.
    Relayed,
    /// Handed on to several.
    Expanded,
}

/// Reads a message that came back; none where it is no report at all.
pub fn parse_returned(message: &[u8]) -> Option<Returned> {
    let message = &message[..message.len().min(RETURNED_MAX_OCTETS)];
    let leaves = part::leaves(message);
    let whole = Part::read(message);
    // a filter may have wrapped a report to hang a footer below it; that is undone once
    let says_report = whole.parameter("report-type").is_some();
    let wrapped =
        leaves.first().filter(|first| says_report && first.kind == "message/rfc822").map(|first| first.body);
    let (whole, leaves) = match wrapped {
        Some(inner) => (Part::read(inner), part::leaves(inner)),
        None => (whole, leaves),
    };
    let complaint =
        whole.parameter("report-type").is_some_and(|kind| kind.eq_ignore_ascii_case("feedback-report"));
    if complaint || leaves.iter().any(|leaf| leaf.kind == "message/feedback-report") {
        return Some(Returned::Feedback);
    }
    Reading::new(whole, &leaves).bounce(&leaves).map(Returned::Bounce)
}

/// What the text says of whom, by lower-case address.
type Places<'a> = HashMap<String, &'a Told>;

/// A message as far as it has been read.
#[derive(Debug)]
struct Reading<'a> {
    whole: Part<'a>,
    subject: String,
    from: String,
    /// What is said before the original.
    text: String,
    /// Whom `X-Failed-Recipients` names, of Exim, Gmail and Mail.Ru.
    failed: Vec<String>,
    /// The original's header, as far as it was given back.
    original: Vec<u8>,
}

impl<'a> Reading<'a> {
    fn new(whole: Part<'a>, leaves: &[Part<'_>]) -> Self {
        let (text, behind) = report_text(leaves);
        let attached = leaves.iter().find(|leaf| leaf.is_original());
        let original = match attached {
            Some(part) => part::split_header(part.body).0.to_vec(),
            None => part::split_header(behind.trim_start().as_bytes()).0.to_vec(),
        };
        let subject = decode::words(&part::field(whole.header, "subject").unwrap_or_default());
        let from = part::field(whole.header, "from").unwrap_or_default();
        let listed = part::field(whole.header, "x-failed-recipients").unwrap_or_default();
        let failed = listed.split(',').map(mention::only).filter(|address| !address.is_empty());
        let failed = failed.take(RECIPIENTS_MAX).map(str::to_owned).collect();
        Reading { whole, subject, from, text, failed, original }
    }

    /// Fields first; prose where they are missing, or name nobody.
    fn bounce(&self, leaves: &[Part<'_>]) -> Option<Bounce> {
        let (message, mut groups) = self.statuses(leaves);
        let own = part::field(self.whole.header, "to").unwrap_or_default();
        let told = prose::read(&self.text, &self.failed, &own);
        let has_name = |group: &PerRecipient| group.last.is_some() || group.original.is_some();
        let named = groups.iter().any(has_name);
        if named {
            // an Action among the fields about the message makes no recipient
            groups.retain(has_name);
        }
        let recipients = if named {
            let places = told.iter().map(|told| (told.recipient.to_ascii_lowercase(), told)).collect();
            groups.iter().map(|group| self.by_fields(group, &places, groups.len())).collect()
        } else {
            self.by_prose(groups.first(), told)?
        };
        Some(Bounce {
            recipients,
            original_message_id: part::field(&self.original, "message-id").and_then(|id| clip(&id)),
            envelope_id: message.envelope_id,
            queue_id: message.queue_id,
            reporter: message.reporter,
        })
    }

    /// The fields of all parts of status, or of a text in which they stand.
    fn statuses(&self, leaves: &[Part<'_>]) -> (PerMessage, Vec<PerRecipient>) {
        let mut message = PerMessage::default();
        let mut groups = Vec::new();
        let kinds = ["message/delivery-status", "message/global-delivery-status", "text/delivery-status"];
        for leaf in leaves.iter().filter(|leaf| kinds.contains(&leaf.kind.as_str())) {
            let (about, mut more) = fields::read(leaf.text().as_bytes());
            if message.reporter.is_none() {
                message = about;
            }
            groups.append(&mut more);
        }
        if groups.is_empty() && self.text.contains("inal-Recipient:") {
            (message, groups) = fields::read(self.text.as_bytes());
        }
        groups.truncate(RECIPIENTS_MAX);
        (message, groups)
    }

    fn by_fields(&self, group: &PerRecipient, told: &Places<'_>, groups: usize) -> ReportedRecipient {
        let (last, original) = (group.last.as_deref(), group.original.as_deref());
        let place = |name: Option<&str>| told.get(&name?.to_ascii_lowercase()).copied();
        let about = place(last).or_else(|| place(original));
        // where there is one recipient, all is about it
        let said = match about.filter(|told| !told.said.is_empty()) {
            Some(told) => told.said.as_str(),
            None if groups == 1 => self.text.as_str(),
            None => "",
        };
        let action = group.action.unwrap_or(ReportedAction::Failed);
        let mut recipient = group.last.clone().or_else(|| group.original.clone());
        // a file, a command or a route, which the text calls by its address
        let mailbox = |name: &str| {
            name.rsplit_once('@').is_some_and(|(local, domain)| !local.is_empty() && !domain.is_empty())
        };
        if groups == 1 && told.len() == 1 && !last.is_some_and(mailbox) {
            recipient = told.values().next().and_then(|told| clip_address(&told.recipient));
        }
        ReportedRecipient {
            recipient,
            original_recipient: group.original.clone(),
            action,
            status: judge(action, group, said),
            diagnostic: group.diagnostic.clone(),
            remote: group.remote.clone(),
        }
    }

    /// None where the message is no bounce.
    fn by_prose(&self, group: Option<&PerRecipient>, told: Vec<Told>) -> Option<Vec<ReportedRecipient>> {
        let return_path = part::field(self.whole.header, "return-path");
        let signs = Signs {
            from: &self.from,
            return_path: return_path.as_deref(),
            subject: &self.subject,
            text: &self.text,
        };
        let daemon = self.from.to_ascii_lowercase().contains("mailer-daemon") && !told.is_empty();
        let sure = daemon || group.is_some() || !self.failed.is_empty();
        if !sure && !signs.speak_of_a_bounce() {
            return None;
        }
        let told = if told.is_empty() { self.guess() } else { told };
        let said_action =
            if signs.speak_of_delay() { ReportedAction::Delayed } else { ReportedAction::Failed };
        let action = group.and_then(|group| group.action).unwrap_or(said_action);
        let only = told.len() == 1;
        let none = PerRecipient::default();
        let report = |told: Told| {
            let said = if only && status::stated(&told.said).is_none() { &self.text } else { &told.said };
            let fields = group.unwrap_or(&none);
            ReportedRecipient {
                recipient: clip_address(&told.recipient),
                original_recipient: told.original.as_deref().and_then(clip_address),
                action,
                status: judge(action, fields, said),
                diagnostic: fields.diagnostic.clone().or_else(|| clip(&told.said)),
                remote: fields.remote.clone().or_else(|| prose::remote(said).and_then(clip)),
            }
        };
        Some(told.into_iter().map(report).collect())
    }

    /// Where the text names no address: the subject, local names, or the original's only recipient; not
    /// that of a mailing list, which is one of many.
    fn guess(&self) -> Vec<Told> {
        let told = |recipient: String| Told { recipient, ..Told::default() };
        let in_subject: Vec<_> = mention::mentions(&self.subject).map(|mention| mention.address).collect();
        if let [only] = in_subject[..] {
            return vec![told(only.to_owned())];
        }
        let domain = mention::mentions(&self.from).next().and_then(|from| from.address.split_once('@'));
        if let Some((_, domain)) = domain {
            let names = prose::local_names(&self.text);
            if !names.is_empty() {
                return names.iter().map(|name| told(format!("{name}@{domain}"))).collect();
            }
        }
        let original = |name: &str| part::field(&self.original, name);
        let many = ["cc", "list-id", "list-post", "list-unsubscribe", "precedence"]
            .iter()
            .any(|name| original(name).is_some());
        let to = original("to").filter(|_| !many).unwrap_or_default();
        let all: Vec<_> = mention::mentions(&to).take(2).collect();
        match all[..] {
            [only] => vec![told(only.address.to_owned())],
            _ => vec![],
        }
    }
}

/// The text of the report, and what a text holds of the original.
fn report_text(leaves: &[Part<'_>]) -> (String, String) {
    let mut text = String::new();
    let before_original = leaves.iter().take_while(|leaf| !leaf.is_original());
    // what HTML says, plain text has said already
    let plain = leaves.iter().any(|leaf| leaf.kind == "text/plain" && !leaf.body.trim_ascii().is_empty());
    let wanted = if plain { "text/plain" } else { "text/html" };
    for leaf in before_original.filter(|leaf| leaf.kind == wanted) {
        let part = leaf.text();
        let (report, behind) = prose::split_original(&part);
        text.push_str(report);
        text.push('\n');
        if !behind.is_empty() || text.len() >= REPORT_MAX_OCTETS {
            return (text, behind.to_owned());
        }
    }
    (text, String::new())
}

/// Which status counts; see the head of this file.
fn judge(action: ReportedAction, fields: &PerRecipient, said: &str) -> Option<EnhancedStatus> {
    let diagnostic = fields.diagnostic.as_deref().unwrap_or_default();
    if !matches!(action, ReportedAction::Failed | ReportedAction::Delayed) {
        return fields.status;
    }
    let specific = |status: &EnhancedStatus| !status::is_generic(*status);
    let stated = status::replied(diagnostic)
        .filter(specific)
        .or(fields.status.filter(specific))
        .or_else(|| status::stated(diagnostic).filter(specific))
        .or_else(|| status::stated(said).filter(specific))
        .or(fields.status)
        .or_else(|| status::stated(diagnostic))
        .or_else(|| status::stated(said))
        .or_else(|| meant(diagnostic))
        .or_else(|| meant(said))?;
    // what is still being tried has not failed for good (RFC 3464 2.3.4)
    let class = if action == ReportedAction::Delayed { 4 } else { stated.class };
    Some(EnhancedStatus { class, ..stated })
}

/// Words, within the class that a reply code gives; else that class alone.
fn meant(text: &str) -> Option<EnhancedStatus> {
    let class = status::reply_code(text).map(|code| if code < 500 { 4 } else { 5 });
    let words =
        status::from_words(text).map(|meant| EnhancedStatus { class: class.unwrap_or(meant.class), ..meant });
    words.or(class.map(|class| EnhancedStatus::new(class, 0, 0)))
}

/// A stranger's text, short and in one line; none where nothing is left of it.
fn clip(text: &str) -> Option<Box<str>> {
    let text = text[..text.floor_char_boundary(KEPT_MAX_OCTETS)].trim();
    let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    (!clean.is_empty()).then(|| clean.into())
}

fn clip_address(text: &str) -> Option<Box<str>> {
    clip(&text[..text.floor_char_boundary(PATH_MAX_OCTETS)])
}
