//! What a metric is: the form of the declarations in [`super::names`].

use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

/// How a metric's number behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows, and begins anew with the process.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Observations, counted in buckets.
    Histogram,
}

/// What is counted or measured: base units, as Prometheus wants them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Time. Gauges of points in time are seconds since the Unix epoch.
    Seconds,
    /// Octets.
    Bytes,
    /// So many of what the name says.
    Count,
    /// 1 for yes, 0 for no.
    Boolean,
}

/// The values that a label may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Values {
    /// These and no others; each is there from the start, at zero.
    Closed(&'static [&'static str]),
    /// As many as the configuration has, or another such bounded source, told in words.
    Configured(&'static str),
}

/// A label: a name and the values that it may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Label {
    /// Its name.
    pub name: &'static str,
    /// What it may say.
    pub values: Values,
}

/// A metric as it is declared.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Its name, with prefix, unit and suffix.
    pub name: &'static str,
    /// What it belongs to.
    pub section: &'static str,
    /// How it behaves.
    pub kind: Kind,
    /// What it is measured in.
    pub unit: Unit,
    /// Its labels.
    pub labels: &'static [Label],
    /// What it says, in a sentence.
    pub meaning: &'static str,
    /// Why it stands in no panel and in no alert, where that is so.
    pub unshown: Option<&'static str>,
}

/// From an answer out of a cache, or a group commit, to mail that waits for days.
const SECONDS_BUCKETS: [f64; 17] = [
    0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 300.0, 3600.0,
    86_400.0,
];
const COUNT_BUCKETS: [f64; 10] = [1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 1000.0, 5000.0];

impl Metric {
    /// The upper bounds of a histogram's buckets.
    pub fn buckets(&self) -> &'static [f64] {
        if self.unit == Unit::Seconds { &SECONDS_BUCKETS } else { &COUNT_BUCKETS }
    }

    /// Whether all its series are known beforehand.
    pub fn is_closed(&self) -> bool {
        self.labels.iter().all(|label| matches!(label.values, Values::Closed(_)))
    }

    /// Tells the recorder what it means, and lets every series that is known beforehand begin at zero: a rate
    /// misses the first event of a series that begins with it.
    pub(super) fn introduce(&self) {
        match self.kind {
            Kind::Counter => describe_counter!(self.name, self.meaning),
            Kind::Gauge => describe_gauge!(self.name, self.meaning),
            Kind::Histogram => describe_histogram!(self.name, self.meaning),
        }
        if !self.is_closed() {
            return;
        }
        for labels in self.series() {
            match self.kind {
                Kind::Counter => counter!(self.name, &labels).increment(0),
                Kind::Gauge => gauge!(self.name, &labels).increment(0.0),
                Kind::Histogram => drop(histogram!(self.name, &labels)),
            }
        }
    }

    /// Every combination of the values of its labels.
    fn series(&self) -> Vec<Vec<(&'static str, &'static str)>> {
        let mut series = vec![Vec::new()];
        for label in self.labels {
            let Values::Closed(values) = label.values else { continue };
            let longer = |start: &Vec<_>| {
                let start = start.clone();
                values.iter().map(move |value| {
                    let mut labels = start.clone();
                    labels.push((label.name, *value));
                    labels
                })
            };
            series = series.iter().flat_map(longer).collect();
        }
        series
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_combination_of_closed_labels_is_a_series() {
        const LABELS: &[Label] = &[
            Label { name: "way", values: Values::Closed(&["in", "out"]) },
            Label { name: "end", values: Values::Closed(&["good", "bad"]) },
        ];
        let metric = Metric {
            name: "barid_tried_total",
            section: "Tests",
            kind: Kind::Counter,
            unit: Unit::Count,
            labels: LABELS,
            meaning: "",
            unshown: None,
        };
        let told: Vec<String> = metric
            .series()
            .iter()
            .map(|labels| labels.iter().map(|(name, value)| format!("{name}={value} ")).collect())
            .collect();
        assert_eq!(told, ["way=in end=good ", "way=in end=bad ", "way=out end=good ", "way=out end=bad "]);
    }
}
