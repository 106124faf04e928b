//! Dashboards: their form, and what they ask for.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::usage;

/// The width of a dashboard.
const COLUMNS: u64 = 24;

/// A dashboard, as far as it matters here.
pub(crate) struct Board {
    pub(crate) title: String,
    pub(crate) panels: Vec<Panel>,
    json: Value,
}

pub(crate) struct Panel {
    pub(crate) title: String,
    pub(crate) queries: Vec<String>,
    json: Value,
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// All dashboards, in order of their files' names.
pub(crate) fn all() -> Vec<Board> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("dashboards");
    let files = fs::read_dir(dir).expect("there are dashboards").map(|entry| entry.expect("a file").path());
    let mut files: Vec<_> = files.filter(|path| path.extension().is_some_and(|end| end == "json")).collect();
    files.sort();
    files.iter().map(|file| read(file)).collect()
}

fn read(file: &Path) -> Board {
    let octets = fs::read(file).expect("reads");
    let json: Value = serde_json::from_slice(&octets).expect("is JSON");
    let is_panel = |panel: &&Value| panel["type"] != "row";
    let panel = |panel: &Value| Panel {
        title: text(&panel["title"]),
        queries: list(&panel["targets"]).iter().map(|target| text(&target["expr"])).collect(),
        json: panel.clone(),
    };
    let panels = list(&json["panels"]).iter().filter(is_panel).map(panel).collect();
    Board { title: text(&json["title"]), panels, json }
}

#[test]
fn dashboards_ask_only_for_what_exists() {
    for board in all() {
        for panel in &board.panels {
            assert!(!panel.queries.is_empty(), "{}: {} asks nothing", board.title, panel.title);
            for query in &panel.queries {
                let faults = usage::faults(query);
                assert!(faults.is_empty(), "{}: {}: {faults:?}", board.title, panel.title);
                assert!(query.contains("instance=~\"$instance\""), "{}: {query}", panel.title);
            }
        }
    }
}

#[test]
fn dashboards_work_with_any_data_source() {
    let boards = all();
    let uids: BTreeSet<String> = boards.iter().map(|board| text(&board.json["uid"])).collect();
    assert!(boards.len() >= 2 && uids.len() == boards.len(), "{uids:?}");
    for Board { title, panels, json } in &boards {
        assert!(json["schemaVersion"].as_u64().is_some_and(|version| version >= 39), "{title}");
        assert!(json["id"].is_null(), "{title} was exported with the id that it had somewhere");
        let variables = list(&json["templating"]["list"]);
        assert!(
            variables.iter().any(|of| of["name"] == "datasource" && of["type"] == "datasource"),
            "{title}"
        );
        for panel in panels {
            for part in std::iter::once(&panel.json).chain(list(&panel.json["targets"])) {
                assert_eq!(part["datasource"]["uid"], "${datasource}", "{title}: {}", panel.title);
            }
        }
    }
}

#[test]
fn every_panel_says_what_it_is_in_which_unit_and_has_its_place() {
    for board in all() {
        let (mut ids, mut taken) = (BTreeSet::new(), BTreeSet::new());
        for panel in list(&board.json["panels"]) {
            let name = format!("{}: {}", board.title, panel["title"]);
            assert!(ids.insert(panel["id"].as_u64()), "{name}: its id is another's");
            let [x, y, w, h] =
                ["x", "y", "w", "h"].map(|side| panel["gridPos"][side].as_u64().expect("a number"));
            assert!(w > 0 && h > 0 && x + w <= COLUMNS, "{name} is too wide");
            for cell in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
                assert!(taken.insert(cell), "{name} covers another");
            }
        }
        for Panel { title, json, .. } in &board.panels {
            let name = format!("{}: {title}", board.title);
            let defaults = &json["fieldConfig"]["defaults"];
            assert!(text(&json["description"]).len() > 20, "{name} has no description");
            assert!(!text(&defaults["unit"]).is_empty(), "{name} has no unit");
            assert!(!list(&defaults["thresholds"]["steps"]).is_empty(), "{name} has no thresholds");
            assert!(["timeseries", "stat"].contains(&text(&json["type"]).as_str()), "{name}");
            for target in list(&json["targets"]) {
                assert!(!text(&target["legendFormat"]).is_empty(), "{name} has a nameless line");
            }
        }
    }
}
