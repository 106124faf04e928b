//! Planted defects, one for each thing that must always hold: each must be noticed.

use super::*;

/// The first world in which something is seen to be wrong, and what that is.
fn first_noticed(wrong: Wrong) -> Option<String> {
    (0..100).find_map(|seed| run(seed, wrong).err())
}

/// It must be noticed as one of these.
fn check_noticed(wrong: Wrong, told: &[&str]) {
    let noticed = first_noticed(wrong).unwrap_or_default();
    assert!(told.iter().any(|told| noticed.contains(told)), "{wrong:?} was noticed as {noticed:?}");
}

#[test]
fn a_drive_that_lies_would_be_noticed() {
    check_noticed(Wrong::Drive, &["is lost", "damage", "waits, though"]);
}

#[test]
fn a_result_that_is_not_written_would_be_noticed() {
    check_noticed(Wrong::Relay(Defect::ForgetsResults), &["again", "was not durable"]);
}

#[test]
fn connections_without_limit_would_be_noticed() {
    check_noticed(Wrong::Relay(Defect::IgnoresPlaces), &["connections are open"]);
}

#[test]
fn an_attempt_charged_for_waiting_would_be_noticed() {
    check_noticed(Wrong::Relay(Defect::ChargesWaiting), &["was charged"]);
}

#[test]
fn a_bounce_without_a_verdict_would_be_noticed() {
    check_noticed(Wrong::Relay(Defect::BouncesOnOutage), &["without a verdict", "given up early"]);
}

#[test]
fn a_message_bounced_for_a_block_of_its_source_would_be_noticed() {
    check_noticed(Wrong::Relay(Defect::BouncesOnBlock), &["without a verdict", "given up early"]);
}

#[test]
fn smuggled_lines_would_be_noticed() {
    check_noticed(Wrong::Relay(Defect::LeavesDots), &["letter"]);
}

#[test]
fn reports_to_nobody_would_be_noticed() {
    check_noticed(Wrong::Relay(Defect::ReportsToNobody), &["nobody", "still queued"]);
}

#[test]
fn a_decision_that_is_not_pure_would_be_noticed() {
    let differs =
        |seed| run(seed, Wrong::Relay(Defect::ThrowsDice)) != run(seed, Wrong::Relay(Defect::ThrowsDice));
    assert!((0..20).any(differs));
}
