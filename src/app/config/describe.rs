//! What is told of the settings: an example of a file, and their documentation.

use std::fmt::Write as _;

use super::reader::Change;
use super::schema;
use super::section::{Contents, Field};

/// Comments are no wider.
const WIDTH: usize = 96;

const EXAMPLE_HEAD: &str = "\
# Barid's configuration, with every setting and its default.
#
# What stands behind a # without a space is a setting that may be left out: its default, or an
# example where it has none. Check the file with `barid config check`; `barid config show` tells
# what is in force, and from where.
#
# Times are written with ms, s, m, h or d, sizes with B, KiB, MiB or GiB, rates with /s, /m, /h or /d.
";

const DOCUMENTATION_HEAD: &str = "\
# Settings

Every setting of `barid.toml`, as `barid config example` tells it too. This file is made from the
program's own declarations: `UPDATE_DOCS=1 cargo test --lib documentation` writes it anew.

`barid config check` tells everything that is wrong with a file, `barid config show` what is in force and
where it is set. SIGHUP has the running relay read its files again: where they have a fault, nothing changes,
and the faults are in its log. Whatever begins after a reload goes by the new values; sessions and attempts
that are under way end as they began. Settings for which a restart is needed say so.

Times are written with `ms`, `s`, `m`, `h` or `d` (3650d at most), sizes with `B`, `KiB`, `MiB` or `GiB`, rates
with `/s`, `/m`, `/h` or `/d`: `\"5m\"`, `\"50MiB\"`, `\"30/s\"`.

Any text may stand elsewhere: `{ file = \"secret.txt\" }` is what that file holds, relative to the file that
names it and without the line end behind it; `{ env = \"NAME\" }` is what that variable of the environment
holds. `barid config show` tells only where such a text is.
";

/// A complete file: every setting with its default and meaning.
pub(in crate::app) fn example() -> String {
    let mut text = EXAMPLE_HEAD.to_owned();
    example_of(&schema::described(), "", true, &mut text);
    text
}

/// The smallest file that makes sense.
pub(in crate::app) fn minimal_example() -> String {
    let mut text = String::new();
    for field in schema::described().fields {
        match &field.contents {
            None if field.is_required => put(&mut text, &field, field.example, ""),
            Some(contents) if field.rule.is_some() => {
                let _ = write!(text, "\n[[{}]]\n", field.key);
                // what has no default, and what makes one of it known
                let told = |field: &&Field| field.is_required || field.key == "networks";
                contents
                    .fields
                    .iter()
                    .filter(told)
                    .for_each(|field| put(&mut text, field, field.example, ""));
            }
            _ => {}
        }
    }
    text
}

fn put(text: &mut String, field: &Field, value: &str, mark: &str) {
    let _ = writeln!(text, "{mark}{} = {value}", field.key);
}

fn example_of(contents: &Contents, path: &str, is_needed: bool, text: &mut String) {
    for field in contents.fields.iter().filter(|field| field.contents.is_none()) {
        text.push('\n');
        comment(text, field.about.iter().copied());
        let needed = if field.is_required { " Needed." } else { "" };
        comment(text, [format!("[{}{needed}]", facts(field)).as_str()].into_iter());
        let is_example = field.default.as_deref().is_none_or(|default| default == "[]");
        let value = if is_example { field.example } else { field.default.as_deref().unwrap_or_default() };
        // what a needed table has to say is there; so is what makes its one known
        let is_there = is_needed && (field.is_required || field.key == "networks");
        put(text, field, value, if is_there { "" } else { "#" });
    }
    for field in &contents.fields {
        let Some(contents) = &field.contents else { continue };
        let path = if path.is_empty() { field.key.to_owned() } else { format!("{path}.{}", field.key) };
        let is_needed = !contents.is_array || field.rule.is_some();
        let mark = if is_needed { "" } else { "#" };
        let header = if contents.is_array { format!("[[{path}]]") } else { format!("[{path}]") };
        text.push('\n');
        comment(text, contents.about.iter().copied());
        let _ = writeln!(text, "{mark}{header}");
        example_of(contents, &path, is_needed, text);
        text.push_str(contents.another);
    }
}

/// What may be written, and whether a change needs a restart.
fn facts(field: &Field) -> String {
    // how units are written is told once
    let form = field.form.split(": ").next().unwrap_or_default();
    let mut letters = form.chars();
    let first = letters.next().into_iter().flat_map(char::to_uppercase);
    let mut facts = format!("{}{}", first.collect::<String>(), letters.as_str());
    if let Some(rule) = &field.rule {
        let _ = write!(facts, "; it must {rule}");
    }
    if field.change == Change::Restart {
        facts.push_str("; a change needs a restart");
    }
    facts + "."
}

/// Lines of comment, wrapped.
fn comment<'a>(text: &mut String, lines: impl Iterator<Item = &'a str>) {
    let mut width = 0;
    for word in lines.flat_map(str::split_whitespace) {
        if width == 0 || width + 1 + word.len() > WIDTH {
            text.push_str(if width == 0 { "#" } else { "\n#" });
            width = 1;
        }
        let _ = write!(text, " {word}");
        width += 1 + word.len();
    }
    if width > 0 {
        text.push('\n');
    }
}

/// The documentation, in Markdown.
pub(in crate::app) fn documentation() -> String {
    let mut text = DOCUMENTATION_HEAD.to_owned();
    document(&schema::described(), "", &mut text);
    text
}

fn document(contents: &Contents, path: &str, text: &mut String) {
    for field in contents.fields.iter().filter(|field| field.contents.is_none()) {
        let state = match &field.default {
            Some(default) => format!("default `{default}`"),
            None if field.is_required => "needed".to_owned(),
            None => "not set by default".to_owned(),
        };
        let _ = write!(text, "\n**`{}`**, {state}\\\n{}\\\n", field.key, lines(field.about));
        let _ = writeln!(text, "*{}*", plain(&facts(field)));
    }
    for field in &contents.fields {
        let Some(contents) = &field.contents else { continue };
        let path = if path.is_empty() { field.key.to_owned() } else { format!("{path}.{}", field.key) };
        let header = if contents.is_array { format!("[[{path}]]") } else { format!("[{path}]") };
        let _ = write!(text, "\n## `{header}`\n\n{}\n", lines(contents.about));
        document(contents, &path, text);
    }
}

/// Lines of a meaning, for Markdown.
fn lines(about: &[&str]) -> String {
    let lines: Vec<&str> = about.iter().map(|line| line.trim()).collect();
    plain(&lines.join("\n"))
}

/// Without what Markdown would take for emphasis.
fn plain(text: &str) -> String {
    text.replace('*', "\\*")
}
