//! The list of keys as it is written: `dkim/keys.json`.

use serde::{Deserialize, Serialize};

use super::algorithm::Algorithm;
use super::entry::{Entry, Seen, Stage};
use super::selector::Selector;
use crate::clock::Timestamp;
use crate::mail::Domain;

#[derive(Serialize, Deserialize)]
struct List {
    keys: Vec<Written>,
}

#[derive(Serialize, Deserialize)]
struct Written {
    domain: String,
    selector: String,
    algorithm: Algorithm,
    made: u64,
    #[serde(flatten)]
    stage: Stage,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seen: Option<Seen>,
}

impl Written {
    fn of(entry: &Entry) -> Self {
        let Entry { domain, selector, algorithm, made, stage, seen } = entry.clone();
        let (domain, selector) = (domain.as_str().into(), selector.as_str().into());
        Written { domain, selector, algorithm, made: made.as_millis(), stage, seen }
    }

    fn read(self) -> Result<Entry, String> {
        let Written { domain, selector, algorithm, made, stage, seen } = self;
        let domain = Domain::parse(&domain).map_err(|error| format!("{domain:?}: {error}"))?;
        let selector = Selector::parse(&selector).map_err(|error| error.to_string())?;
        Ok(Entry { domain, selector, algorithm, made: Timestamp::from_millis(made), stage, seen })
    }
}

/// Reads the list; says what is wrong with it.
pub(super) fn read(text: &[u8]) -> Result<Vec<Entry>, String> {
    let list: List = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    list.keys.into_iter().map(Written::read).collect()
}

/// The list of these.
pub(super) fn written(entries: &[Entry]) -> Result<Vec<u8>, String> {
    let list = List { keys: entries.iter().map(Written::of).collect() };
    serde_json::to_vec_pretty(&list).map_err(|error| error.to_string())
}
