//! `docs/metrics.md`, made from the declarations.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use barid::observe::names::METRICS;
use barid::observe::{Kind, Metric, Unit, Values};

use crate::usage;

/// Rewrites the file instead of comparing it.
const UPDATE: &str = "UPDATE_DOCS";

const BEGINNING: &str = "\
# Metrics

What a relay tells Prometheus at `/metrics` of a listener with `role = \"admin\"`. Made from the declarations in
`src/observe/names.rs`; `UPDATE_DOCS=1 cargo test --test metrics` writes it anew.

- `dashboards/relay.json` and `dashboards/queue.json` are for Grafana 10 and later: import them and choose the
  data source.
- `deploy/prometheus/prometheus.yml` scrapes a relay, `deploy/prometheus/alerts.yml` says when something is wrong,
  `deploy/prometheus/alerts_test.yml` tests that.
- Units are Prometheus' base units: seconds and octets (`bytes`). Counters end in `_total` and begin at zero
  with the process.
- Labels are bounded by the program or by the configuration. None holds a recipient's domain: for that there are
  the log, `barid queue ls` and `barid domain show DOMAIN`.
- Series whose labels are known beforehand are there from the start, at zero.
- Not there yet: the wait for a CPU pool, as there is none; and hits of the resolver's cache, of which it does not
  tell: answers within a millisecond are they.
- What is counted is counted as it happens. Gauges of the queue by class, of what is held, of the disk and of the
  process are looked at every 5 seconds.
";

fn reference() -> String {
    let (places, mut text, mut section) = (usage::places(), BEGINNING.to_owned(), "");
    for metric in METRICS {
        if std::mem::replace(&mut section, metric.section) != metric.section {
            write!(text, "\n## {}\n", metric.section).expect("a string");
        }
        describe(metric, &places, &mut text);
    }
    text
}

fn describe(metric: &Metric, places: &BTreeMap<&str, Vec<String>>, text: &mut String) {
    let kind = match metric.kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram => "histogram",
    };
    let unit = match metric.unit {
        Unit::Seconds => ", seconds",
        Unit::Bytes => ", octets",
        Unit::Count => "",
        Unit::Boolean => ", 1 or 0",
    };
    write!(text, "\n### `{}`\n\n{} ({kind}{unit})\n", metric.name, metric.meaning).expect("a string");
    for (number, label) in metric.labels.iter().enumerate() {
        let values = match label.values {
            Values::Closed(values) => {
                values.iter().map(|value| format!("`{value}`")).collect::<Vec<_>>().join(", ")
            }
            Values::Configured(values) => values.to_owned(),
        };
        let start = if number == 0 { "\n" } else { "" };
        writeln!(text, "{start}- `{}`: {values}", label.name).expect("a string");
    }
    let shown = match (places.get(metric.name), metric.unshown) {
        (Some(places), _) => places.join("; "),
        (None, why) => format!("nowhere: {}", why.unwrap_or_default()),
    };
    write!(text, "\nShown in: {shown}.\n").expect("a string");
}

#[test]
fn the_documentation_says_what_is_declared() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
    let made = reference();
    if std::env::var_os(UPDATE).is_some() {
        fs::write(&path, &made).expect("written");
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == made,
        "docs/metrics.md is out of date: {UPDATE}=1 cargo test --test metrics writes it anew"
    );
}

#[test]
fn names_are_as_prometheus_wants_them() {
    let mut seen = std::collections::BTreeSet::new();
    for metric in METRICS {
        let name = metric.name;
        assert!(seen.insert(name), "{name} is declared twice");
        assert!(name.starts_with("barid_") || name.starts_with("process_"), "{name}");
        assert_eq!(metric.kind == Kind::Counter, name.ends_with("_total"), "{name}");
        let bare = name.trim_end_matches("_total");
        let wanted = match metric.unit {
            Unit::Seconds => bare.ends_with("_seconds"),
            Unit::Bytes => bare.ends_with("_bytes"),
            Unit::Count | Unit::Boolean => !bare.ends_with("_seconds") && !bare.ends_with("_bytes"),
        };
        assert!(wanted, "{name} does not end in its unit");
        assert!(metric.meaning.ends_with('.'), "{name}: {}", metric.meaning);
    }
}
