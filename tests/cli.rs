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
fn what_a_reply_means_is_told_without_a_server() {
    let reply = "550 5.7.1 Unfortunately, messages from [192.0.2.1] weren't sent (S3150)";
    let host = "outlook-com.olc.protection.outlook.com";
    let (status, out, err) = run_barid(&["provider", "test", reply, "--mx", host, "--json"]);
    assert!(status.success(), "{err}");
    assert!(out.contains("\"meaning\":\"block\"") && out.contains("\"action\":\"hold\""), "{out}");
    let (status, _, err) = run_barid(&["provider", "test", "no reply"]);
    assert!(!status.success() && err.contains("is no reply such as"), "{err}");
    let (status, out, _) = run_barid(&["provider", "ls"]);
    assert!(status.success() && out.lines().count() > 20 && out.contains("google"), "{out}");
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), "[[rule]]\nid = \"mine\"\n").expect("writes");
    let (status, _, err) = run_barid(&["provider", "check", &file.path().display().to_string()]);
    assert!(!status.success() && err.contains("rule `mine`"), "{err}");
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
    assert!(err.contains("line ") && err.contains("route[0].domains: `*x`"), "{err}");
    let (status, out, err) = broken.barid(&["config", "check", "--json"]);
    assert_eq!((status.code(), out.lines().count(), &*err), (Some(1), 1, ""), "{out}");
    let fault: serde_json::Value = serde_json::from_str(&out).expect("an object");
    assert_eq!((&fault["key"], &fault["value"]), (&"route[0].domains".into(), &"*x".into()), "{out}");
    assert!(fault["line"].as_u64() > Some(1) && fault["remedy"].is_string(), "{out}");
}

#[tokio::test]
async fn what_is_in_force_is_shown_with_its_origin() {
    let world = World::build(&[]).await;
    let place = Place::new(&world, &Variation::default());
    let (status, out, err) = place.barid(&["config", "show"]);
    assert!(status.success(), "{err}");
    let line = |key: &str| out.lines().find(|line| line.starts_with(key)).unwrap_or_default().to_owned();
    assert!(line("hostname = \"relay.test\"").ends_with("barid.toml line 1"), "{out}");
    assert!(line("delivery.idle_timeout = \"5s\"").ends_with("# default"), "{out}");
    let (status, out, _) = place.barid(&["config", "show", "--json"]);
    let settings: Vec<serde_json::Value> =
        out.lines().map(|line| serde_json::from_str(line).expect("an object")).collect();
    let port = settings.iter().find(|setting| setting["key"] == "delivery.port").expect("there");
    assert!(status.success() && port["value"] == world.mail.port() && port["is_default"] == false, "{port}");
}

#[test]
fn the_printed_examples_are_right() {
    let dir = tempfile::TempDir::new().expect("a directory");
    for words in [&["config", "example"][..], &["config", "example", "--minimal"]] {
        let (status, out, _) = run_barid(words);
        assert!(status.success());
        let file = dir.path().join("barid.toml");
        std::fs::write(&file, out).expect("written");
        let (status, out, err) = run_barid(&["config", "check", "--config", &file.display().to_string()]);
        assert!(status.success() && out.contains("no faults"), "{err}");
    }
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
