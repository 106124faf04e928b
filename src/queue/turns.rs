//! The sub-lines of a domain, one for each class and client, and whose turn it is among them.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::keys;
use crate::clock::Timestamp;
use crate::mail::{Class, Domain};
use crate::store::{Key, Reader, Rows, StoreError};

/// A line of up to so many rows is read in one look.
const SHORT_LINE_ROWS: usize = 64;

/// How far the sub-lines of a domain were read in this lap, and what each had of the turns so far.
#[derive(Clone, Debug, Default)]
pub struct Turns(pub(super) BTreeMap<Box<[u8]>, Turn>);

#[derive(Clone, Debug, Default)]
pub(super) struct Turn {
    pub(super) after: Option<Key>,
    pub(super) is_read: bool,
    pub(super) served_octets: u64,
}

/// A sub-line, by the first of its rows.
pub(super) struct SubLine {
    /// Class and client, as they stand in the key.
    pub(super) lane: Box<[u8]>,
    pub(super) first_due: Timestamp,
}

impl Turns {
    /// Begins a new lap: all sub-lines are read from their heads again; what each was served stays known.
    pub fn new_lap(&mut self) {
        let least = self.0.values().map(|turn| turn.served_octets).min().unwrap_or(0);
        for turn in self.0.values_mut() {
            *turn = Turn { served_octets: turn.served_octets - least, ..Turn::default() };
        }
    }

    /// Knows the sub-lines that there are, and no others. A new one has no claim for the time before.
    pub(super) fn update(&mut self, lines: &[SubLine]) {
        let mut old = std::mem::take(&mut self.0);
        for line in lines {
            let least = || self.least_served(&line.lane);
            let turn = old.remove(&line.lane);
            let turn = turn.unwrap_or_else(|| Turn { served_octets: least(), ..Turn::default() });
            self.0.insert(line.lane.clone(), turn);
        }
    }

    fn least_served(&self, lane: &[u8]) -> u64 {
        let of_class = self.0.iter().filter(|(other, _)| other.first() == lane.first());
        of_class.map(|(_, turn)| turn.served_octets).min().unwrap_or(0)
    }

    /// Whose turn it is among those of a class that have more.
    pub(super) fn next_of(&self, class: Class) -> Option<Box<[u8]>> {
        let open = self.0.iter().filter(|(lane, turn)| !turn.is_read && keys::class_of(lane) == Some(class));
        open.min_by_key(|(_, turn)| turn.served_octets).map(|(lane, _)| lane.clone())
    }

    pub(super) fn open_lines(&self) -> usize {
        self.0.values().filter(|turn| !turn.is_read).count()
    }
}

/// All rows of a domain, where they are few.
pub(super) fn whole_line(reader: &Reader, domain: &Domain) -> Result<Option<Rows>, StoreError> {
    let line = keys::line_of(domain);
    let end = [&line[..line.len() - 1], &[1]].concat();
    reader.scan_whole(&line, &end, SHORT_LINE_ROWS)
}

/// The sub-lines among all rows of a domain.
pub(super) fn sub_lines_of(rows: &Rows, domain: &Domain) -> Result<Vec<SubLine>, StoreError> {
    let line = keys::line_of(domain);
    let mut lines: Vec<SubLine> = Vec::new();
    for (key, _) in rows {
        let Some(place) = keys::place(key, &line) else {
            return Err(StoreError::Damaged("a waiting row's key".into()));
        };
        if lines.last().is_none_or(|last| *last.lane != *place.lane) {
            lines.push(SubLine { lane: place.lane.into(), first_due: place.due });
        }
    }
    Ok(lines)
}

/// The sub-lines of a domain, each found by one look.
pub(super) fn sub_lines(reader: &Reader, domain: &Domain) -> Result<Vec<SubLine>, StoreError> {
    let line = keys::line_of(domain);
    let end = [&line[..line.len() - 1], &[1]].concat();
    let (mut from, mut lines) = (line.clone(), Vec::new());
    loop {
        let rows = reader.scan(Bound::Excluded(&from), &end, 1)?;
        let Some((key, _)) = rows.first() else { return Ok(lines) };
        let Some(place) = keys::place(key, &line) else {
            return Err(StoreError::Damaged("a waiting row's key".into()));
        };
        from = [&line, place.lane, &[1]].concat();
        lines.push(SubLine { lane: place.lane.into(), first_due: place.due });
    }
}
