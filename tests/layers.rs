//! The house's first rule: a room imports only rooms of lower layers.
#![allow(clippy::expect_used, reason = "a broken checkout is a failed test")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Every room and its layer, as the map in `src/lib.rs` has them.
const LAYERS: [(&str, u8); 20] = [
    ("mail", 0),
    ("clock", 0),
    ("smtp", 1),
    ("dsn", 1),
    ("files", 1),
    ("observe", 1),
    ("work", 1),
    ("net", 2),
    ("store", 2),
    ("accounts", 3),
    ("authentication", 3),
    ("transport", 3),
    ("egress", 4),
    ("queue", 4),
    ("gate", 5),
    ("inbound", 6),
    ("outbound", 6),
    ("reports", 6),
    ("sim", 7),
    ("app", 8),
];

/// The words of L0 and the time are one floor: an id is made of a time.
const SAME_FLOOR: [(&str, &str); 1] = [("mail", "clock")];

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("a readable directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn room_of(path: &Path, src: &Path) -> String {
    let inside = path.strip_prefix(src).expect("below src");
    let first = inside.components().next().expect("a component").as_os_str().to_string_lossy().into_owned();
    first.trim_end_matches(".rs").to_owned()
}

/// Every `crate::room` in a text, grouped imports included.
fn imports(text: &str) -> Vec<String> {
    let mut rooms = Vec::new();
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    for line in code {
        for (at, _) in line.match_indices("crate::") {
            let rest = &line[at + "crate::".len()..];
            let names: Vec<&str> = match rest.strip_prefix('{') {
                Some(group) => group.split('}').next().unwrap_or_default().split(',').collect(),
                None => vec![rest],
            };
            for name in names {
                let room: String =
                    name.trim().chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
                rooms.push(room);
            }
        }
    }
    rooms
}

fn faults(room: &str, text: &str) -> Vec<String> {
    let layers: BTreeMap<&str, u8> = LAYERS.into();
    let Some(own) = layers.get(room) else { return vec![format!("room `{room}` is on no layer")] };
    let mut faults = Vec::new();
    if text.contains("super::super::super") {
        faults.push("reaches out of its room by super::".to_owned());
    }
    for import in imports(text) {
        let allowed = match layers.get(import.as_str()) {
            Some(layer) => layer < own || import == room || SAME_FLOOR.contains(&(room, import.as_str())),
            None => false,
        };
        if !allowed {
            faults.push(format!("imports crate::{import}"));
        }
    }
    faults
}

#[test]
fn rooms_import_only_lower_layers() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    let mut broken = Vec::new();
    for file in files {
        let room = room_of(&file, &src);
        if room == "lib" || room == "main" {
            continue;
        }
        let text = fs::read_to_string(&file).expect("a source file");
        broken.extend(faults(&room, &text).into_iter().map(|fault| format!("{}: {fault}", file.display())));
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn every_room_is_on_the_map() {
    let map = include_str!("../src/lib.rs");
    for (room, layer) in LAYERS {
        assert!(map.contains(&format!("| L{layer} | [`{room}`] |")), "{room} is not on the map in lib.rs");
        assert!(map.contains(&format!("pub mod {room};")), "{room} is no module");
    }
}

#[test]
fn an_import_upwards_would_be_noticed() {
    for (room, text) in [
        ("store", "use crate::queue::Leases;"),
        ("inbound", "use crate::outbound::Deps;"),
        ("smtp", "fn x() { crate::store::open() }"),
        ("mail", "use crate::{clock, net};"),
        ("gate", "use crate::nowhere::X;"),
        ("cellar", ""),
    ] {
        assert!(!faults(room, text).is_empty(), "{room}: {text}");
    }
    assert!(faults("queue", "use crate::mail::Domain;\n/// [`crate::app`]").is_empty());
}
