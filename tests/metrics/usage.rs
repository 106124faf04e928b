//! Where metrics are used: in panels of dashboards and in alerts.

use std::collections::BTreeMap;

use barid::observe::names::METRICS;
use barid::observe::{Kind, Metric, Values};

use crate::{boards, rules};

/// Labels that Prometheus adds, or that a histogram's buckets have.
const OTHER_LABELS: [&str; 3] = ["job", "instance", "le"];

/// Names in a query that could be metrics of ours.
fn names(query: &str) -> impl Iterator<Item = (usize, &str)> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut rest = 0;
    std::iter::from_fn(move || {
        let start = rest + query[rest..].find(is_part)?;
        let length = query[start..].find(|c| !is_part(c)).unwrap_or(query.len() - start);
        rest = start + length;
        Some((start, &query[start..rest]))
    })
    .filter(|(_, name)| name.starts_with("barid_") || name.starts_with("process_"))
}

/// The metric that a name in a query is of.
pub(crate) fn metric(name: &str) -> Option<&'static Metric> {
    let of = |name: &str, is_histogram: bool| {
        METRICS.iter().find(|metric| metric.name == name && (metric.kind == Kind::Histogram) == is_histogram)
    };
    let series = ["_bucket", "_sum", "_count"].into_iter().find_map(|suffix| name.strip_suffix(suffix));
    of(name, false).or_else(|| of(series?, true))
}

/// The matchers in the braces that a text begins with, if it does.
fn matchers(text: &str) -> Vec<(&str, &str, &str)> {
    let Some(inside) = text.strip_prefix('{').and_then(|text| text.split('}').next()) else {
        return Vec::new();
    };
    inside
        .split(',')
        .map(|one| {
            let at = one.find(['=', '!']).expect("a matcher has an operator");
            let (label, rest) = one.split_at(at);
            let quote = rest.find('"').expect("a matcher has a value");
            (label.trim(), &rest[..quote], rest[quote..].trim_end().trim_matches('"'))
        })
        .collect()
}

/// What is wrong with a query: names and labels that nobody exposes.
pub(crate) fn faults(query: &str) -> Vec<String> {
    let mut faults = Vec::new();
    for (at, name) in names(query) {
        let Some(metric) = metric(name) else {
            faults.push(format!("{name} is no metric"));
            continue;
        };
        for (label, operator, value) in matchers(&query[at + name.len()..]) {
            let declared = metric.labels.iter().find(|declared| declared.name == label);
            let Some(declared) = declared else {
                if !OTHER_LABELS.contains(&label) {
                    faults.push(format!("{name} has no label {label}"));
                }
                continue;
            };
            let Values::Closed(values) = declared.values else { continue };
            let wanted: Vec<&str> =
                if operator.contains('~') { value.split('|').collect() } else { vec![value] };
            for value in wanted.iter().filter(|value| !values.contains(value)) {
                faults.push(format!("{name} has no {label}=\"{value}\""));
            }
        }
    }
    faults
}

/// The places in which each metric is used.
pub(crate) fn places() -> BTreeMap<&'static str, Vec<String>> {
    let mut places: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let panels = boards::all().into_iter().flat_map(|board| {
        let title = board.title.clone();
        board.panels.into_iter().map(move |panel| (format!("{title}: {}", panel.title), panel.queries))
    });
    let alerts = rules::all().into_iter().map(|alert| (format!("alert {}", alert.name), vec![alert.query]));
    for (place, queries) in panels.chain(alerts) {
        for query in queries {
            for metric in names(&query).filter_map(|(_, name)| metric(name)) {
                let of_metric = places.entry(metric.name).or_default();
                if !of_metric.contains(&place) {
                    of_metric.push(place.clone());
                }
            }
        }
    }
    places
}

#[test]
fn every_metric_is_shown_or_says_why_not() {
    let places = places();
    for metric in METRICS {
        match (places.get(metric.name), metric.unshown) {
            (None, None) => panic!("{} is in no panel and in no alert, and does not say why", metric.name),
            (Some(places), Some(_)) => {
                panic!("{} says that it is not shown, and is: {places:?}", metric.name)
            }
            _ => {}
        }
    }
}

#[test]
fn what_does_not_exist_would_be_noticed() {
    for (query, fault) in [
        ("rate(barid_panics_total[5m])", None),
        ("rate(barid_panic_total[5m])", Some("barid_panic_total is no metric")),
        ("barid_dns_seconds", Some("barid_dns_seconds is no metric")),
        ("sum by (le) (rate(barid_dns_seconds_bucket{le=\"1\"}[5m]))", None),
        ("barid_held_messages{reason=~\"damaged|unreadable\", job=\"barid\"}", None),
        ("barid_held_messages{reason=~\"damaged|lost\"}", Some("barid_held_messages has no reason=\"lost\"")),
        ("barid_held_messages{class!=\"bulk\"}", Some("barid_held_messages has no label class")),
    ] {
        assert_eq!(faults(query).first().map(String::as_str), fault, "{query}");
    }
}
