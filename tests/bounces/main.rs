//! Real bounces, collected by others, read from the folder that `BARID_VECTORS` names; without it, nothing
//! is read and the test says so.
//!
//! # What counts as labelled
//!
//! - **flufl-bounce**: the addresses that its own tests expect of a file, by whichever detector. A file is
//!   right if every labelled address is among the recipients (or their originals) that we report as failed
//!   or delayed, and we report nobody else. An empty list counts only where no detector expects anybody:
//!   then nobody may be reported. Whether a failure is temporary is a label too, printed but not asserted.
//! - **sisimai-emails**: `expected.json` has no addresses, but one entry for each recipient: as many must
//!   be reported, each by an address. Each entry's `dsn` is a status label, if it is one that stands in the
//!   message: codes X.0.9XX are Sisimai's own numbers for its classes of reasons, made where a message has
//!   no code, so they are no status labels. Feedback reports (reason `feedback`) must be told apart.
//!   Entries of SNS notifications, which are JSON about a bounce and no bounces, are counted like all
//!   others.
//! - **kumomta-dsn-arf**: no labels beyond the folder's names: DSNs must name recipients with a status,
//!   feedback reports must be told apart.
//! - **python-email-testdata, ruby-mail-emails**: no message is a bounce, but those whose Content-Type
//!   says that they are reports.
#![allow(clippy::expect_used, reason = "a missing vector is a failed test")]

mod meanings;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use barid::dsn::{Bounce, ReportedAction, ReportedRecipient, Returned, parse_returned};

/// What must be right, of the labels of each kind.
const RIGHT_MIN_PERCENT: usize = 95;

#[derive(Default)]
struct Tally {
    right: usize,
    wrong: Vec<String>,
}

impl Tally {
    fn count(&mut self, right: bool, what: impl FnOnce() -> String) {
        if right {
            self.right += 1;
        } else {
            self.wrong.push(what());
        }
    }

    fn all(&self) -> usize {
        self.right + self.wrong.len()
    }

    fn print(&self, name: &str) {
        println!("{name}: {} of {} right", self.right, self.all());
        self.wrong.iter().for_each(|wrong| println!("    {wrong}"));
    }

    fn suffices(&self) -> bool {
        self.right * 100 >= self.all() * RIGHT_MIN_PERCENT
    }
}

fn vectors() -> Option<PathBuf> {
    let folder = std::env::var_os("BARID_VECTORS").map(PathBuf::from);
    if folder.is_none() {
        println!("BARID_VECTORS is not set: no bounces were read");
    }
    folder
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut waiting = vec![folder.to_owned()];
    let mut found = Vec::new();
    while let Some(folder) = waiting.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of vectors") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                waiting.push(path);
            } else {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

fn bounce(message: &[u8]) -> Bounce {
    match parse_returned(message) {
        Some(Returned::Bounce(bounce)) => bounce,
        _ => Bounce::default(),
    }
}

/// Those who did not get it, or not yet.
fn missed(bounce: &Bounce) -> Vec<&ReportedRecipient> {
    let missed = |recipient: &&ReportedRecipient| {
        matches!(recipient.action, ReportedAction::Failed | ReportedAction::Delayed)
    };
    bounce.recipients.iter().filter(missed).collect()
}

/// `('detector', 'file', [b'address', ...], temporary)` of flufl's table, by file.
fn flufl_labels(table: &str) -> BTreeMap<String, (BTreeSet<String>, bool)> {
    let mut labels: BTreeMap<String, (BTreeSet<String>, bool)> = BTreeMap::new();
    for entry in table.split("\n    ('").skip(1) {
        let Some((_, rest)) = entry.split_once("', '") else { continue };
        let Some((file, rest)) = rest.split_once("',") else { continue };
        let Some((addresses, flag)) = rest.split_once(']') else { continue };
        let label = labels.entry(file.trim_end_matches(".txt").to_owned()).or_default();
        let addresses = addresses.split("b'").skip(1).filter_map(|address| address.split('\'').next());
        label.0.extend(addresses.map(str::to_ascii_lowercase));
        label.1 |= flag.trim_start_matches([',', ' ']).starts_with("True");
    }
    labels
}

#[test]
fn recipients_of_flufl_bounce() {
    let Some(folder) = vectors() else { return };
    let folder = folder.join("flufl-bounce");
    let table = fs::read_to_string(folder.join("expected_test_detectors.py.txt")).expect("labels");
    let labels = flufl_labels(&table);
    assert!(labels.len() > 100, "the table of labels has another form");
    let (mut recipients, mut actions) = (Tally::default(), Tally::default());
    for path in files(&folder.join("data")) {
        let Some((want, temporary)) = labels.get(&stem(&path)) else { continue };
        let bounce = bounce(&fs::read(&path).expect("a vector"));
        let missed = missed(&bounce);
        let names = |recipient: &&ReportedRecipient| -> Vec<String> {
            let both = [&recipient.recipient, &recipient.original_recipient];
            both.into_iter().flatten().map(|name| name.to_ascii_lowercase()).collect()
        };
        let found: BTreeSet<String> = missed.iter().flat_map(names).collect();
        let nobody_else =
            missed.iter().all(|recipient| names(recipient).iter().any(|name| want.contains(name)));
        recipients.count(want.is_subset(&found) && nobody_else, || {
            format!("{}: want {want:?}, got {found:?}", stem(&path))
        });
        if !want.is_empty() && !missed.is_empty() {
            let delayed = missed.iter().all(|recipient| recipient.action == ReportedAction::Delayed);
            actions.count(delayed == *temporary, || format!("{}: temporary is {temporary}", stem(&path)));
        }
    }
    recipients.print("flufl-bounce, recipients");
    actions.print("flufl-bounce, temporary or permanent");
    assert!(recipients.suffices());
}

/// Whether a code is one of Sisimai's own, for its classes of reasons.
fn is_invented(status: &str) -> bool {
    let detail = status.split('.').nth(2).unwrap_or_default();
    status.split('.').nth(1) == Some("0") && detail.len() == 3 && detail.starts_with('9')
}

#[test]
fn recipients_and_statuses_of_sisimai() {
    let Some(folder) = vectors() else { return };
    let folder = folder.join("sisimai-emails");
    let labels: BTreeMap<String, Vec<BTreeMap<String, serde_json::Value>>> =
        serde_json::from_slice(&fs::read(folder.join("expected.json")).expect("labels")).expect("JSON");
    let mut tallies: [Tally; 4] = Default::default();
    let [recipients, statuses, complaints, unlabelled] = &mut tallies;
    for path in files(&folder.join("maildir")) {
        let name = stem(&path);
        let message = fs::read(&path).expect("a vector");
        let returned = parse_returned(&message);
        let bounce = bounce(&message);
        let missed = missed(&bounce);
        let Some(want) = labels.get(&name) else {
            unlabelled.count(!missed.is_empty() || returned == Some(Returned::Feedback), || name.clone());
            continue;
        };
        if want.iter().all(|entry| entry["reason"] == "feedback") {
            complaints.count(returned == Some(Returned::Feedback), || name.clone());
            continue;
        }
        let addresses = missed.iter().filter(|recipient| recipient.address().is_some()).count();
        recipients.count(addresses == want.len(), || format!("{name}: want {}, got {missed:?}", want.len()));
        let mut said: Vec<String> =
            missed.iter().filter_map(|recipient| recipient.status).map(|status| status.to_string()).collect();
        let codes = want.iter().filter_map(|entry| entry["dsn"].as_str());
        for code in codes.filter(|code| !code.is_empty() && !is_invented(code)) {
            let place = said.iter().position(|said| said == code);
            statuses.count(place.is_some(), || format!("{name}: want {code}, got {said:?}"));
            place.map(|place| said.swap_remove(place));
        }
    }
    recipients.print("sisimai-emails, numbers of recipients");
    statuses.print("sisimai-emails, statuses");
    complaints.print("sisimai-emails, feedback reports");
    unlabelled.print("sisimai-emails, unlabelled files in which something was found (not asserted)");
    assert!(recipients.suffices() && statuses.suffices());
}

#[test]
fn reports_of_kumomta() {
    let Some(folder) = vectors() else { return };
    let folder = folder.join("kumomta-dsn-arf");
    let mut tally = Tally::default();
    for path in files(&folder.join("rfc3464")) {
        let bounce = bounce(&fs::read(&path).expect("a vector"));
        let good =
            |recipient: &ReportedRecipient| recipient.recipient.is_some() && recipient.status.is_some();
        let right = !bounce.recipients.is_empty() && bounce.recipients.iter().all(good);
        tally.count(right, || format!("{}: {bounce:?}", path.display()));
    }
    for path in files(&folder.join("rfc5965")) {
        let right = parse_returned(&fs::read(&path).expect("a vector")) == Some(Returned::Feedback);
        tally.count(right, || path.display().to_string());
    }
    tally.print("kumomta-dsn-arf");
    assert!(tally.suffices());
}

#[test]
fn plain_messages_are_no_bounces() {
    let Some(folder) = vectors() else { return };
    let mut tally = Tally::default();
    for path in
        ["python-email-testdata", "ruby-mail-emails"].iter().flat_map(|name| files(&folder.join(name)))
    {
        let message = fs::read(&path).expect("a vector");
        let lower = String::from_utf8_lossy(&message).to_ascii_lowercase();
        let report = lower.contains("report-type=") || lower.contains("message/delivery-status");
        let returned = parse_returned(&message);
        if report {
            println!("{}: a report, read as {returned:?}", path.display());
            continue;
        }
        tally.count(returned.is_none(), || format!("{}: {returned:?}", path.display()));
    }
    tally.print("plain messages");
    assert!(tally.wrong.is_empty());
}
