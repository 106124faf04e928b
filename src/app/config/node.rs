//! What stands in the files, with the place of each value.

use std::collections::BTreeMap;

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

/// Longer values are cut where they are told.
const TOLD_MAX_CHARS: usize = 60;

/// Where something stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// The file, by its number among those that were read.
    pub(super) file: usize,
    /// From 1 on.
    pub(super) line: usize,
}

/// A value and its place.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) kind: Kind,
}

/// A value as TOML knows it.
#[derive(Debug)]
pub(super) enum Kind {
    Text(String),
    /// As it is written, and its worth where it is a number that somebody could mean.
    Number(String, Option<u64>),
    Truth(bool),
    /// What no setting is; and what it is called.
    Foreign(String, &'static str),
    List(Vec<Node>),
    Table(Table),
}

/// A table: each value with the place of its key.
#[derive(Debug, Default)]
pub(super) struct Table(pub(super) BTreeMap<String, (Place, Node)>);

impl Node {
    /// How it is told in a fault: as it could be written, cut where it is long.
    pub(super) fn told(&self) -> String {
        let text = match &self.kind {
            Kind::Text(text) => text.clone(),
            _ => self.written(),
        };
        match text.char_indices().nth(TOLD_MAX_CHARS) {
            Some((at, _)) => format!("{}...", &text[..at]),
            None => text,
        }
    }

    /// As it could be written in a file.
    pub(super) fn written(&self) -> String {
        match &self.kind {
            Kind::Text(text) => quoted(text),
            Kind::Number(text, _) | Kind::Foreign(text, _) => text.clone(),
            Kind::Truth(truth) => truth.to_string(),
            Kind::List(nodes) => {
                let nodes: Vec<String> = nodes.iter().map(Node::written).collect();
                format!("[{}]", nodes.join(", "))
            }
            Kind::Table(table) => {
                let pair =
                    |(key, (_, node)): (&String, &(Place, Node))| format!("{key} = {}", node.written());
                let pairs: Vec<String> = table.0.iter().map(pair).collect();
                format!("{{ {} }}", pairs.join(", "))
            }
        }
    }

    /// What it is, in words.
    pub(super) fn is_called(&self) -> &'static str {
        match &self.kind {
            Kind::Text(_) => "a text",
            Kind::Number(..) => "a number",
            Kind::Truth(_) => "a truth value",
            Kind::Foreign(_, called) => called,
            Kind::List(_) => "an array",
            Kind::Table(_) => "a table",
        }
    }

    /// The key and the text of `{ file = "..." }` or `{ env = "..." }`, which stand for a text that is elsewhere.
    pub(super) fn reference(&self) -> Option<(&str, &str)> {
        let Kind::Table(Table(entries)) = &self.kind else { return None };
        let (key, (_, node)) = entries.iter().next().filter(|_| entries.len() == 1)?;
        match &node.kind {
            Kind::Text(text) if key == "file" || key == "env" => Some((key, text)),
            _ => None,
        }
    }

    /// What it calls itself, where it is a table with a name.
    pub(super) fn name(&self) -> Option<String> {
        let Kind::Table(Table(entries)) = &self.kind else { return None };
        match &entries.get("name")?.1.kind {
            Kind::Text(name) => Some(name.clone()),
            _ => None,
        }
    }

    /// Whether there is such a reference in it.
    pub(super) fn refers(&self) -> bool {
        match &self.kind {
            Kind::List(nodes) => nodes.iter().any(Node::refers),
            _ => self.reference().is_some(),
        }
    }
}

/// A text as TOML writes it.
pub(super) fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

/// Turns a parsed file into nodes; `line_at` tells the line of an octet.
pub(super) fn table_of(table: &DeTable<'_>, at: &impl Fn(usize) -> Place) -> Table {
    let entry = |(key, value): (&Spanned<DeString<'_>>, &Spanned<DeValue<'_>>)| {
        (key.get_ref().to_string(), (at(key.span().start), node_of(value, at)))
    };
    Table(table.iter().map(entry).collect())
}

fn node_of(value: &Spanned<DeValue<'_>>, at: &impl Fn(usize) -> Place) -> Node {
    let kind = match value.get_ref() {
        DeValue::String(text) => Kind::Text(text.to_string()),
        DeValue::Integer(number) => {
            let worth = u64::from_str_radix(number.as_str(), number.radix()).ok();
            Kind::Number(number.to_string(), worth)
        }
        DeValue::Boolean(truth) => Kind::Truth(*truth),
        DeValue::Float(number) => Kind::Foreign(number.to_string(), "a fraction"),
        DeValue::Datetime(date) => Kind::Foreign(date.to_string(), "a date"),
        DeValue::Array(values) => Kind::List(values.iter().map(|value| node_of(value, at)).collect()),
        DeValue::Table(table) => Kind::Table(table_of(table, at)),
    };
    Node { place: at(value.span().start), kind }
}
