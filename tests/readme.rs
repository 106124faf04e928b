//! What the README tells its readers to type.
#![allow(clippy::expect_used, reason = "what a test cannot do without fails it")]

mod support;

use barid::sim::{Behaviour, Sender};
use support::{Place, Variation, World, eventually, letter};

const README: &str = include_str!("../README.md");

/// Commands of other programs, and those that tests of their own run: servers, the demo.
const ELSEWHERE: [&str; 8] = [
    "cargo ",
    "swaks ",
    "barid serve",
    "barid man",
    "barid completions",
    "barid spool",
    "barid config",
    "barid provider",
];

/// Every command of the README, without comments: indented lines, and those in the table of tasks.
fn commands() -> Vec<&'static str> {
    let indented = README.lines().filter_map(|line| line.strip_prefix("    "));
    let indented = indented.filter(|line| line.starts_with(|c: char| c.is_ascii_lowercase()));
    let cells = README.lines().filter(|line| line.starts_with("| "));
    let cells = cells.flat_map(|line| line.split('`')).filter(|part| part.starts_with("barid "));
    indented.chain(cells).map(|line| line.split("  #").next().unwrap_or(line).trim()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_of_the_readme_works_as_it_stands() {
    let world = World::build(&[("slow.test", Behaviour { put_off_times: 9, ..Behaviour::default() })]).await;
    let place = Place::new(&world, &Variation::default());
    let text = std::fs::read_to_string(place.config()).expect("readable");
    std::fs::write(place.config(), text.replace("retry = [\"100ms\"]", "retry = [\"1h\"]")).expect("written");
    let relay = place.start().await;
    let mut sender = Sender::connect(relay.smtp).await.expect("connects");
    sender.send(&letter(&["you@slow.test"], "one")).await.expect("accepted");
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("evacuated.barid").display().to_string();
    let list = || {
        let (_, out, _) = place.barid(&["queue", "ls", "--json"]);
        let id = out.split("\"id\":\"").nth(1)?.split('"').next()?.to_owned();
        out.contains("\"state\":\"waiting\"").then_some(id)
    };
    let id = eventually("it waits", list).await;
    let mut run = 0;
    for command in commands() {
        if ELSEWHERE.iter().any(|elsewhere| command.starts_with(elsewhere)) {
            continue;
        }
        let command = command.replace("ID", &id).replace("example.net", "slow.test");
        let command = command.replace("evacuated.barid", &file);
        let words: Vec<&str> = command.split(' ').skip(1).collect();
        let (status, out, err) = place.barid(&words);
        // a trace says by its status that the address is not taken: these are put off
        let is_expected = status.success() || (words[0] == "trace" && err.contains("does not get through"));
        assert!(command.starts_with("barid ") && is_expected, "{command}: {out}{err}");
        run += 1;
    }
    assert!(run >= 15, "only {run} commands were found");
    assert!(relay.terminate().await.success());
}
