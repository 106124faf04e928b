//! The command line: what a user sees, right or wrong.
#![allow(clippy::expect_used, reason = "what a test cannot do without fails it")]

mod support;

use support::{Place, Variation, World, run_barid};

#[test]
fn help_and_version_are_there() {
    let (status, out, _) = run_barid(&["--help"]);
    assert!(status.success() && out.contains("demo") && out.contains("serve"), "{out}");
    let (status, out, _) = run_barid(&["--version"]);
    assert!(status.success() && out.starts_with("barid "), "{out}");
}

#[test]
fn a_wrong_command_line_exits_with_2() {
    for words in [&["brew"][..], &["serve", "--loud"], &[]] {
        let (status, _, _) = run_barid(words);
        assert_eq!(status.code(), Some(2), "{words:?}");
    }
}

#[test]
fn a_missing_configuration_names_the_file_and_the_remedy() {
    let (status, _, err) = run_barid(&["serve", "--config", "/nonexistent/barid.toml"]);
    assert_eq!(status.code(), Some(1));
    assert!(err.contains("/nonexistent/barid.toml") && err.contains("--config"), "{err}");
}

#[tokio::test]
async fn the_configuration_is_checked_without_a_server() {
    let world = World::build(&[]).await;
    let place = Place::new(&world, &Variation::default());
    let (status, out, _) = place.barid(&["config", "check"]);
    assert!(status.success() && out.contains("no faults"), "{out}");
    let broken = Place::new(
        &world,
        &Variation { more: "[[route]]\ndomains = [\"*x\"]\nvia = \"127.0.0.1:1\"", ..Variation::default() },
    );
    let (status, _, err) = broken.barid(&["config", "check"]);
    assert_eq!(status.code(), Some(1));
    assert!(err.contains("line ") && err.contains("route.domains: `*x`"), "{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_relays_never_share_a_data_directory() {
    let world = World::build(&[]).await;
    let place = Place::new(&world, &Variation::default());
    let relay = place.start().await;
    let (status, _, err) = place.barid(&["serve"]);
    assert_eq!(status.code(), Some(1));
    assert!(err.contains("another process has it open"), "{err}");
    assert!(relay.terminate().await.success());
}

#[test]
fn the_demo_ends_with_everything_delivered() {
    let (status, out, err) = run_barid(&["demo", "--once", "--messages", "120"]);
    assert!(status.success(), "{out}{err}");
    assert_eq!(out.lines().last(), Some("delivered 120 of 120"));
}
