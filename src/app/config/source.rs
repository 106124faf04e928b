//! The files: the main one, and those that it includes.
//!
//! Tables of all files are one table, arrays of tables add up in the order in which the files are read, and
//! whatever else is named twice is a fault.

use std::collections::BTreeSet;
use std::collections::btree_map::Entry;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use toml::de::DeTable;

use super::fault::Fault;
use super::node::{Kind, Node, Place, Table, table_of};

/// The key that names more files.
pub(super) const INCLUDE: &str = "include";
/// More files are a loop, or somebody's whole home directory.
const FILES_MAX: usize = 1000;
/// A configuration is no larger; what is, is something else.
const FILE_MAX_OCTETS: u64 = 16 << 20;

/// The files that were read, and what they say together.
#[derive(Debug, Default)]
pub(super) struct Sources {
    files: Vec<Source>,
    /// Files by their one true path: each is read once.
    known: BTreeSet<PathBuf>,
    pub(super) root: Table,
    pub(super) faults: Vec<(Place, Fault)>,
    /// Whether some of it could not be read: what is missing may stand there.
    pub(super) is_partial: bool,
}

#[derive(Debug)]
struct Source {
    name: String,
    path: PathBuf,
}

/// Reads a file, and all that it includes.
pub(super) fn read(path: &Path) -> Sources {
    let mut sources = Sources::default();
    let own = sources.enter(path);
    match read_file(path, FILE_MAX_OCTETS) {
        Ok(text) => sources.take(own, &text),
        Err(error) => {
            let why = format!("cannot be read: {error}");
            sources.is_partial = true;
            sources.cannot(Place { file: own, line: 0 }, None, None, &why, "name another file with --config");
        }
    }
    sources
}

/// Reads a text; `name` stands for it in messages, and is where includes begin.
pub(super) fn read_text(name: &str, text: &str) -> Sources {
    let mut sources = Sources::default();
    let own = sources.enter(Path::new(name));
    sources.take(own, text);
    sources
}

/// Reads a file of so many octets at most: a device has no end.
pub(super) fn read_file(path: &Path, octets_max: u64) -> Result<String, String> {
    let told = |error: std::io::Error| error.to_string();
    let mut text = String::new();
    let read = File::open(path).map_err(told)?.take(octets_max + 1).read_to_string(&mut text);
    match read.map_err(told)? {
        read if read as u64 > octets_max => Err(format!("it has more than {} KiB", octets_max >> 10)),
        _ => Ok(text),
    }
}

impl Sources {
    /// The name of a place's file.
    pub(super) fn name(&self, place: Place) -> &str {
        self.files.get(place.file).map_or("", |source| &source.name)
    }

    /// What a path is relative to that is written at a place.
    pub(super) fn directory(&self, place: Place) -> &Path {
        let path = self.files.get(place.file).map_or(Path::new(""), |source| &source.path);
        path.parent().unwrap_or(Path::new(""))
    }

    fn enter(&mut self, path: &Path) -> usize {
        self.known.insert(path.canonicalize().unwrap_or_else(|_| path.to_owned()));
        self.files.push(Source { name: path.display().to_string(), path: path.to_owned() });
        self.files.len() - 1
    }

    fn cannot(&mut self, place: Place, key: Option<&str>, value: Option<&str>, why: &str, remedy: &str) {
        let fault = Fault {
            file: self.name(place).to_owned(),
            line: (place.line > 0).then_some(place.line),
            key: key.map(str::to_owned),
            value: value.map(str::to_owned),
            why: why.to_owned(),
            remedy: (!remedy.is_empty()).then(|| remedy.to_owned()),
        };
        self.faults.push((place, fault));
    }

    /// Takes in what a file says.
    fn take(&mut self, file: usize, text: &str) {
        let starts: Vec<usize> = text.match_indices('\n').map(|(at, _)| at + 1).collect();
        let at = |octet: usize| Place { file, line: 1 + starts.partition_point(|start| *start <= octet) };
        let (parsed, errors) = DeTable::parse_recoverable(text);
        let mut is_broken = false;
        let mut last = None;
        for error in &errors {
            let span = error.span().unwrap_or_default();
            let (place, found) = (at(span.start), text.get(span).unwrap_or_default().trim());
            // one slip may be stumbled over several times
            if last.replace(place.line) == Some(place.line) {
                continue;
            }
            let message = error.message().trim().replace('\n', "; ");
            let is_duplicate = message == "duplicate key";
            is_broken |= !is_duplicate;
            let found = Some(found).filter(|found| !found.is_empty() && !found.contains('\n'));
            if is_duplicate {
                self.cannot(place, found, None, "is named twice", "keep one of them");
            } else {
                self.cannot(place, None, found, &format!("is no TOML: {message}"), "");
            }
        }
        if is_broken {
            self.is_partial = true;
            return;
        }
        let mut table = table_of(parsed.get_ref(), &at);
        let patterns = self.patterns(&table);
        if file != 0 {
            table.0.remove(INCLUDE);
        }
        self.merge_root(table);
        for (place, pattern) in patterns {
            self.include(place, &pattern);
        }
    }

    /// The patterns of `include`; that it is an array of texts is told where it is read as a setting.
    fn patterns(&mut self, table: &Table) -> Vec<(Place, String)> {
        let Some((_, Node { kind: Kind::List(nodes), .. })) = table.0.get(INCLUDE) else { return Vec::new() };
        let mut patterns = Vec::new();
        for node in nodes {
            match &node.kind {
                Kind::Text(text) => patterns.push((node.place, text.clone())),
                _ if node.refers() => {
                    let why = "is read before anything else";
                    self.cannot(node.place, Some(INCLUDE), Some(&node.told()), why, "write the path itself");
                }
                _ => {}
            }
        }
        patterns
    }

    /// Reads the files that match, in the order of their names.
    fn include(&mut self, place: Place, pattern: &str) {
        let directory = self.directory(place);
        let whole = PathBuf::from(glob::Pattern::escape(&directory.to_string_lossy())).join(pattern);
        let found = match glob::glob(&whole.to_string_lossy()) {
            Ok(found) => found,
            Err(error) => {
                let why = format!("is no pattern: {error}");
                return self.cannot(
                    place,
                    Some(INCLUDE),
                    Some(pattern),
                    &why,
                    "write one such as \"conf.d/*.toml\"",
                );
            }
        };
        let mut is_empty = true;
        for path in found {
            let path = path.unwrap_or_else(|error| error.path().to_owned());
            // as in a shell: what was put aside, and what editors leave, is meant only by its name
            let is_hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
            if is_hidden && pattern.contains(['*', '?', '[']) {
                continue;
            }
            is_empty = false;
            let is_new = path.canonicalize().map_or(true, |path| !self.known.contains(&path));
            if !is_new {
                let why = "leads to a file that is read already";
                let told = path.display().to_string();
                self.cannot(place, Some(INCLUDE), Some(&told), why, "include each file once");
                continue;
            }
            if self.files.len() >= FILES_MAX {
                let why = format!("leads to more than {FILES_MAX} files");
                return self.cannot(place, Some(INCLUDE), Some(pattern), &why, "include fewer");
            }
            let file = self.enter(&path);
            match read_file(&path, FILE_MAX_OCTETS) {
                Ok(text) => self.take(file, &text),
                Err(error) => {
                    let why = format!("cannot be read: {error}");
                    let told = path.display().to_string();
                    self.is_partial = true;
                    self.cannot(place, Some(INCLUDE), Some(&told), &why, "let the relay's user read it");
                }
            }
        }
        if is_empty && !pattern.contains(['*', '?', '[']) {
            let remedy = "name a file, or a pattern that may match none";
            self.cannot(place, Some(INCLUDE), Some(pattern), "is not there", remedy);
        }
    }

    fn merge_root(&mut self, table: Table) {
        let mut root = std::mem::take(&mut self.root);
        self.merge(&mut root, table, "");
        self.root = root;
    }

    fn merge(&mut self, into: &mut Table, table: Table, path: &str) {
        for (key, (place, node)) in table.0 {
            let dotted = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            match into.0.entry(key) {
                Entry::Vacant(vacant) => {
                    vacant.insert((place, node));
                }
                Entry::Occupied(mut occupied) => {
                    let (first, there) = occupied.get_mut();
                    match (&mut there.kind, node.kind) {
                        (Kind::Table(there), Kind::Table(table)) => self.merge(there, table, &dotted),
                        (Kind::List(there), Kind::List(nodes)) if all_tables(there) && all_tables(&nodes) => {
                            there.extend(nodes);
                        }
                        _ => {
                            let other = format!("{} line {}", self.name(*first), first.line);
                            let why = format!("is set in {other} already");
                            self.cannot(place, Some(&dotted), None, &why, "keep one of them");
                        }
                    }
                }
            }
        }
    }
}

fn all_tables(nodes: &[Node]) -> bool {
    nodes.iter().all(|node| matches!(node.kind, Kind::Table(_)))
}
