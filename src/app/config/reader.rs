//! Reads settings from nodes, and notes what is wrong and what is in force.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use super::fault::Fault;
use super::node::{Kind, Node, Place, Table};
use super::section::{Contents, Declared, Field};
use super::source::{Sources, read_file};
use super::value::Value;

/// A secret, or whatever text is kept elsewhere, is no longer.
const ELSEWHERE_MAX_OCTETS: u64 = 64 << 10;

/// Whether a new value counts after a reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::app) enum Change {
    /// At once, for whatever begins after it.
    Live,
    /// Only after a restart.
    Restart,
}

/// A setting that is in force.
#[derive(Clone)]
pub(in crate::app) struct Setting {
    /// As `client[apps].networks`.
    pub(in crate::app) key: String,
    /// As TOML; nothing where it is not set.
    pub(in crate::app) value: Option<String>,
    /// What is shown of it where it is kept elsewhere: it may be a secret.
    pub(in crate::app) shown: Option<String>,
    /// Its file and line; nothing where it is the default.
    pub(in crate::app) origin: Option<(String, usize)>,
    /// Whether a new value counts after a reload.
    pub(in crate::app) change: Change,
}

impl fmt::Debug for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {}", self.key, self.shown().unwrap_or("(not set)"))
    }
}

impl Setting {
    /// Its value as far as anybody may see it.
    pub(in crate::app) fn shown(&self) -> Option<&str> {
        self.shown.as_deref().or(self.value.as_deref())
    }
}

/// A table on its way through the reader.
pub(super) struct Fields<'a> {
    table: Option<&'a Table>,
    /// Where it begins, if it is there.
    pub(super) place: Option<Place>,
}

impl<'a> Fields<'a> {
    pub(super) fn of(table: &'a Table, place: Option<Place>) -> Self {
        Fields { table: Some(table), place }
    }

    /// A table that is not there.
    pub(super) fn none() -> Self {
        Fields { table: None, place: None }
    }

    fn get(&self, key: &str) -> Option<&'a Node> {
        self.table?.0.get(key).map(|(_, node)| node)
    }
}

/// The reader.
pub(super) struct Reader<'a> {
    sources: &'a Sources,
    /// Where it is, as `client[apps].networks`.
    path: String,
    pub(super) faults: Vec<(Place, Fault)>,
    pub(super) settings: Vec<Setting>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(sources: &'a Sources) -> Self {
        Reader { sources, path: String::new(), faults: Vec::new(), settings: Vec::new() }
    }

    /// Reads a setting of a table.
    pub(super) fn field<T: Value>(&mut self, fields: &Fields<'_>, declared: Declared<T>) -> Option<T> {
        let is_setting = T::contents().is_none();
        let (key, change) = (declared.key, declared.change);
        let node = fields.get(key);
        self.inside(key, |reader| {
            let value = match node {
                Some(node) => T::read(node, reader).and_then(|value| reader.obey(node, value, &declared)),
                None => reader.absent(fields, declared),
            };
            if let Some(value) = value.as_ref().filter(|_| is_setting) {
                let place = node.map(|node| node.place);
                let setting = Setting {
                    key: reader.path.clone(),
                    value: value.written(),
                    shown: node.filter(|node| node.refers()).map(Node::written),
                    origin: place.map(|place| (reader.sources.name(place).to_owned(), place.line)),
                    change,
                };
                reader.settings.push(setting);
            }
            value
        })
    }

    fn obey<T: Value>(&mut self, node: &Node, value: T, declared: &Declared<T>) -> Option<T> {
        match declared.rule.as_ref().filter(|rule| !rule.holds(&value)) {
            None => Some(value),
            Some(rule) => self.fault(node, &format!("must {}", rule.text()), ""),
        }
    }

    fn absent<T: Value>(&mut self, fields: &Fields<'_>, declared: Declared<T>) -> Option<T> {
        if declared.default.is_some() {
            return declared.default;
        }
        // where a file could not be read it may stand there
        let is_known = !self.sources.is_partial;
        if let Some(value) = T::absent(self) {
            let value = value?;
            let broken = declared.rule.filter(|rule| is_known && !rule.holds(&value));
            let Some(rule) = broken else { return Some(value) };
            self.fault_at(None, None, &format!("must {}", rule.text()), "");
            return None;
        }
        if is_known {
            let remedy = format!("write {} = {}", declared.key, declared.example);
            self.fault_at(fields.place, None, "is missing", &remedy);
        }
        None
    }

    /// Notes keys that are no settings of this table.
    pub(super) fn no_more(&mut self, fields: &Fields<'_>, contents: &Contents) {
        let Some(Table(entries)) = fields.table else { return };
        let known = |key: &str| contents.fields.iter().any(|field| field.key == key);
        for (key, (place, node)) in entries.iter().filter(|(key, _)| !known(key)) {
            let told = match node.kind {
                Kind::Table(_) | Kind::List(_) => None,
                _ => Some(node.told()),
            };
            let remedy = suggestion(key, &contents.fields);
            self.inside(key, |reader| reader.fault_at(Some(*place), told, "is no setting", &remedy));
        }
    }

    /// Reads the entries of an array of tables, each under its name or else its number, from 0 on. Each name is
    /// one entry's: it is told apart by that in metrics, and from one reload to the next.
    pub(super) fn entries<T>(
        &mut self,
        nodes: &[Node],
        label: impl Fn(&Node) -> Option<String>,
        read: impl Fn(&Node, &mut Self) -> Option<T>,
    ) -> Vec<Option<T>> {
        let mut names: BTreeMap<String, Place> = BTreeMap::new();
        let entry = |(number, node): (usize, &Node)| {
            let name = label(node);
            let first = name.clone().and_then(|name| names.insert(name, node.place));
            let label = name.unwrap_or_else(|| number.to_string());
            self.inside(&format!("[{label}]"), |reader| {
                if let Some(first) = first {
                    let first = format!("{} line {}", reader.sources.name(first), first.line);
                    let why = format!("has the name of the one in {first}");
                    reader.fault_at(Some(node.place), None, &why, "give each its own");
                }
                read(node, reader)
            })
        };
        nodes.iter().enumerate().map(entry).collect()
    }

    /// Works under a key of the table it is in, or an entry in brackets.
    pub(super) fn inside<T>(&mut self, key: &str, work: impl FnOnce(&mut Self) -> T) -> T {
        let length = self.path.len();
        if length > 0 && !key.starts_with('[') {
            self.path.push('.');
        }
        self.path.push_str(key);
        let done = work(self);
        self.path.truncate(length);
        done
    }

    /// Where it is.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// Reads what is written as a text, or stands elsewhere as one.
    pub(super) fn text<T, E: fmt::Display>(
        &mut self,
        node: &Node,
        form: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let text = match (&node.kind, node.reference()) {
            (Kind::Text(text), _) => Cow::Borrowed(&**text),
            (_, Some(("env", name))) => match std::env::var(name) {
                Ok(text) => Cow::Owned(text),
                Err(error) => {
                    return self.fault(
                        node,
                        &format!("cannot be read: {error}"),
                        "set it in the environment",
                    );
                }
            },
            (_, Some((_, file))) => match self.read_elsewhere(node, file) {
                Ok(text) => Cow::Owned(text),
                Err(why) => {
                    return self.fault(
                        node,
                        &format!("cannot be read: {why}"),
                        "name a file that it may read",
                    );
                }
            },
            _ => return self.wrong_type(node, form),
        };
        match parse(&text) {
            Ok(value) => Some(value),
            Err(error) => self.fault(node, &error.to_string(), &format!("write {form}")),
        }
    }

    /// The text of a file, without the line end behind it; relative to the file that names it.
    fn read_elsewhere(&self, node: &Node, file: &str) -> Result<String, String> {
        let path = self.sources.directory(node.place).join(file);
        let text = read_file(&path, ELSEWHERE_MAX_OCTETS)?;
        let text = text.strip_suffix('\n').unwrap_or(&text);
        Ok(text.strip_suffix('\r').unwrap_or(text).to_owned())
    }

    /// Notes that a value is of another kind than it should be.
    pub(super) fn wrong_type<T>(&mut self, node: &Node, form: &str) -> Option<T> {
        self.fault(node, &format!("is {}", node.is_called()), &format!("write {form}"))
    }

    /// Notes what is wrong with a value; gives nothing.
    pub(super) fn fault<T>(&mut self, node: &Node, why: &str, remedy: &str) -> Option<T> {
        self.fault_at(Some(node.place), Some(node.told()), why, remedy);
        None
    }

    /// Notes what is wrong at a place, or with the whole.
    pub(super) fn fault_at(&mut self, place: Option<Place>, value: Option<String>, why: &str, remedy: &str) {
        let place = place.unwrap_or(Place { file: 0, line: 0 });
        let fault = Fault {
            file: self.sources.name(place).to_owned(),
            line: (place.line > 0).then_some(place.line),
            key: (!self.path.is_empty()).then(|| self.path.clone()),
            value,
            why: why.to_owned(),
            remedy: (!remedy.is_empty()).then(|| remedy.to_owned()),
        };
        self.faults.push((place, fault));
    }
}

/// What whoever wrote an unknown key may have meant.
fn suggestion(key: &str, fields: &[Field]) -> String {
    let distance = |field: &Field| strsim::damerau_levenshtein(key, field.key);
    let nearest = fields.iter().min_by_key(|field| distance(field));
    if let Some(field) = nearest.filter(|field| distance(field) <= field.key.len() / 3 + 1) {
        return format!("did you mean `{}`?", field.key);
    }
    if let Some(path) = super::schema::place_of(key) {
        return format!("it belongs to {path}");
    }
    let known: Vec<&str> = fields.iter().map(|field| field.key).collect();
    format!("here may stand: {}", known.join(", "))
}
