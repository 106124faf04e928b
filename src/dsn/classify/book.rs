//! The data: receivers and rules, as they are written.

use serde::Deserialize;

use super::firing::Firing;
use super::rule::{Rule, Written};

/// What Barid brings along.
const EMBEDDED: &str = include_str!("providers.toml");

/// What is wrong with data.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BookError {
    /// It does not read.
    #[error("{0}")]
    Syntax(Box<str>),
    /// A receiver cannot be meant so.
    #[error("provider `{name}`: {why}")]
    Receiver {
        /// Its name.
        name: Box<str>,
        /// What is wrong.
        why: Box<str>,
    },
    /// A rule cannot be meant so.
    #[error("rule `{id}`: {why}")]
    Rule {
        /// Its name.
        id: Box<str>,
        /// What is wrong.
        why: Box<str>,
    },
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default, rename = "provider")]
    receivers: Vec<WrittenReceiver>,
    #[serde(default, rename = "rule")]
    rules: Vec<WrittenRule>,
}

/// Read in two steps, so that a fault names its rule.
type WrittenRule = toml::Table;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenReceiver {
    name: String,
    title: String,
    mx: Vec<String>,
    connections: Option<u32>,
    messages_per_connection: Option<u32>,
    #[serde(default)]
    shared: bool,
    source: String,
    date: String,
    #[serde(default, rename = "rule")]
    rules: Vec<WrittenRule>,
}

/// Somebody who receives mail for many.
#[derive(Clone, Debug)]
pub struct Receiver {
    /// Its name, in logs and metrics.
    pub name: Box<str>,
    /// What it is called.
    pub title: Box<str>,
    /// Names of its mail hosts: `example.net`, or `*.example.net` for all below it; in lower case.
    pub mx: Vec<Box<str>>,
    /// Connections that are good to begin with.
    pub connections: Option<u32>,
    /// Messages over one of them.
    pub messages_per_connection: Option<u32>,
    /// Whether many stand behind these hosts, each with a mind of its own: what one says is no word of the others.
    pub is_shared: bool,
    /// Where these are known from.
    pub source: Box<str>,
    /// When they were.
    pub date: Box<str>,
    /// Its own rules.
    pub rules: Vec<Rule>,
}

impl Receiver {
    /// Whether a mail host, in lower case and without a final dot, is one of its own.
    pub(super) fn has(&self, host: &str) -> bool {
        self.mx.iter().any(|pattern| match pattern.strip_prefix('*') {
            Some(suffix) => host.len() > suffix.len() && host.ends_with(suffix),
            None => *host == **pattern,
        })
    }
}

/// Receivers, and rules for all.
#[derive(Clone, Debug, Default)]
pub struct Book {
    /// Receivers; the first that has a host counts.
    pub receivers: Vec<Receiver>,
    /// Rules for the replies of everybody.
    pub rules: Vec<Rule>,
}

impl Book {
    /// The one that Barid brings along. Building all its patterns to see that they can be would take every command far
    /// longer than what it does; a test does that.
    pub fn embedded() -> Result<Self, BookError> {
        Self::read(EMBEDDED)
    }

    /// Reads one that somebody wrote.
    pub fn parse(text: &str) -> Result<Self, BookError> {
        let book = Self::read(text)?;
        let faulty = |rule: &Rule| {
            let why = rule.fault()?;
            Some(BookError::Rule { id: rule.id.clone(), why: why.into() })
        };
        book.all_rules().find_map(faulty).map_or(Ok(()), Err)?;
        Ok(book)
    }

    fn read(text: &str) -> Result<Self, BookError> {
        let file: File = toml::from_str(text).map_err(|error| BookError::Syntax(error.to_string().into()))?;
        let receivers: Vec<Receiver> = file.receivers.into_iter().map(receiver).collect::<Result<_, _>>()?;
        let book = Book { receivers, rules: rules(file.rules, Firing::FOR_ALL)? };
        let mut ids: Vec<&str> = book.all_rules().map(|rule| &*rule.id).collect();
        ids.sort_unstable();
        if let Some(pair) = ids.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(BookError::Rule { id: pair[0].into(), why: "there are two of this name".into() });
        }
        Ok(book)
    }

    /// All rules, wherever they stand.
    pub fn all_rules(&self) -> impl Iterator<Item = &Rule> {
        self.receivers.iter().flat_map(|receiver| &receiver.rules).chain(&self.rules)
    }

    /// The same with another before it: its receivers take the place of those of the same name, its rules come first.
    #[must_use]
    pub fn under(mut self, over: Book) -> Self {
        self.receivers.retain(|mine| !over.receivers.iter().any(|other| other.name == mine.name));
        Book {
            receivers: over.receivers.into_iter().chain(self.receivers).collect(),
            rules: over.rules.into_iter().chain(self.rules).collect(),
        }
    }
}

fn receiver(written: WrittenReceiver) -> Result<Receiver, BookError> {
    let faulty = |why: String| BookError::Receiver { name: written.name.as_str().into(), why: why.into() };
    let is_name = |octet: u8| octet.is_ascii_lowercase() || octet.is_ascii_digit() || octet == b'-';
    if written.name.is_empty() || !written.name.bytes().all(is_name) {
        return Err(faulty("a name is of a-z, 0-9 and -".into()));
    }
    let is_host = |host: &str| !host.is_empty() && host.bytes().all(|octet| is_name(octet) || octet == b'.');
    let wrong = written.mx.iter().find(|pattern| !is_host(pattern.strip_prefix("*.").unwrap_or(pattern)));
    if let Some(wrong) = wrong {
        return Err(faulty(format!("`{wrong}` is neither a host in lower case nor `*.` and a domain")));
    }
    if written.mx.is_empty() {
        return Err(faulty("it has no mail hosts".into()));
    }
    Ok(Receiver {
        rules: rules(written.rules, Firing::OF_RECEIVER)?,
        name: written.name.into(),
        title: written.title.into(),
        mx: written.mx.into_iter().map(Into::into).collect(),
        connections: written.connections,
        messages_per_connection: written.messages_per_connection,
        is_shared: written.shared,
        source: written.source.into(),
        date: written.date.into(),
    })
}

fn rules(written: Vec<WrittenRule>, usual: Firing) -> Result<Vec<Rule>, BookError> {
    let made = |table: WrittenRule| {
        let id: Box<str> = table.get("id").and_then(toml::Value::as_str).unwrap_or("without id").into();
        let read: Result<Written, String> =
            table.try_into().map_err(|error: toml::de::Error| error.message().into());
        read.and_then(|rule| Rule::of(rule, usual)).map_err(|why| BookError::Rule { id, why: why.into() })
    };
    written.into_iter().map(made).collect()
}
