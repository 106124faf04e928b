//! Alerts: what they ask for, and what they tell.
//!
//! `promtool` checks the form of the files and when each alert rings; it is not at hand everywhere.

use std::fs;
use std::path::Path;

use crate::usage;

/// An alert, as far as it matters here.
pub(crate) struct Alert {
    pub(crate) name: String,
    /// The expression, in one line.
    pub(crate) query: String,
    /// All lines of it.
    text: String,
}

fn read(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/prometheus").join(file);
    fs::read_to_string(path).expect("reads")
}

/// All alerts, in the order of the file.
pub(crate) fn all() -> Vec<Alert> {
    let text = read("alerts.yml");
    let alert = |text: &str| {
        let (name, rest) = text.split_once('\n').expect("lines");
        let query = rest.split_once("expr:").expect("an expression").1;
        // up to the next key
        let end = ["\n        for:", "\n        labels:"].iter().filter_map(|key| query.find(key)).min();
        let query = query[..end.expect("more keys")].trim().trim_start_matches(">-");
        let query = query.split_whitespace().collect::<Vec<_>>().join(" ");
        Alert { name: name.trim().to_owned(), query, text: rest.to_owned() }
    };
    text.split("- alert:").skip(1).map(alert).collect()
}

#[test]
fn alerts_ask_only_for_what_exists() {
    let alerts = all();
    assert!(alerts.len() > 20, "the list looks cut");
    for alert in alerts {
        let faults = usage::faults(&alert.query);
        assert!(faults.is_empty(), "{}: {faults:?}", alert.name);
    }
}

#[test]
fn every_alert_says_what_is_wrong_and_what_to_do_and_is_tested() {
    let tests = read("alerts_test.yml");
    for Alert { name, text, .. } in all() {
        for key in ["severity: ", "summary: ", "description: ", "action: "] {
            assert!(text.contains(key), "{name} has no {key}");
        }
        assert!(text.contains("severity: warning") || text.contains("severity: critical"), "{name}");
        assert!(tests.contains(&format!("alertname=\"{name}\"")), "{name} is not in alerts_test.yml");
    }
}
