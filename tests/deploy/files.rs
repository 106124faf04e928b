//! The files fit together, and the guide tells of what is there.

use std::path::PathBuf;

use crate::support::run_barid;
use crate::{SAMPLES, read, repository};

/// The values of a key in a unit.
fn unit_values(key: &str) -> Vec<String> {
    let unit = read("deploy/systemd/barid.service");
    unit.lines().filter_map(|line| Some(line.strip_prefix(key)?.strip_prefix('=')?.to_owned())).collect()
}

#[test]
fn unit_user_samples_and_firewall_name_the_same_things() {
    let user = unit_values("User");
    assert_eq!(user, ["barid"]);
    assert!(read("deploy/systemd/barid.sysusers.conf").contains("\nu barid "));
    let rules = read("deploy/nftables/barid.nft");
    assert!(rules.contains("meta skuid \"barid\" counter accept"));
    assert_eq!(unit_values("StateDirectory"), ["barid"]);
    assert_eq!(unit_values("WorkingDirectory"), ["/var/lib/barid"]);
    for sample in SAMPLES {
        assert!(read(sample).contains("data_dir = \"/var/lib/barid\""), "{sample}");
    }
    // the rules fit the office as it is written
    let office = read("deploy/samples/office.toml");
    for network in ["192.168.10.0/24", "192.168.20.0/24"] {
        assert!(rules.contains(network) && office.contains(network), "{network}");
    }
    assert!(rules.contains("define relay_ports = { 25 }") && office.contains("\"0.0.0.0:25\""));
    assert!(rules.contains("define admin_ports = { 8025 }") && office.contains("\"127.0.0.1:8025\""));
}

#[test]
fn what_the_containers_mount_and_copy_is_in_the_repository() {
    let compose = read("deploy/container/compose.yml");
    let base = repository().join("deploy/container");
    let sources: Vec<PathBuf> = compose
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- .")?.split_once(':'))
        .map(|(source, _)| base.join(format!(".{source}")))
        .collect();
    assert!(sources.len() >= 6, "mounts were missed: {sources:?}");
    let absent: Vec<_> = sources.iter().filter(|source| !source.exists()).collect();
    assert!(absent.is_empty(), "{absent:?}");
    assert!(base.join("../..").join("deploy/container/Dockerfile").exists(), "as compose.yml builds it");
    // the subnet whose upper half is a client, and whose gateway is not
    let config = read("deploy/container/barid.toml");
    assert!(compose.contains("ip_range: 172.31.25.128/25") && config.contains("[\"172.31.25.128/25\"]"));
    assert!(compose.contains("gateway: 172.31.25.1\n"));
    let prometheus = read("deploy/container/prometheus.yml");
    for rules in prometheus.lines().filter_map(|line| line.trim().strip_prefix("- /")) {
        assert!(compose.contains(&format!(":/{rules}:ro")), "/{rules} is not mounted");
    }
    let provider = read("deploy/container/grafana/dashboards.yml");
    let path = provider.lines().find_map(|line| line.trim().strip_prefix("path: ")).expect("a path");
    assert!(compose.contains(&format!(":{path}:ro")), "{path} is not mounted");
}

#[test]
fn the_image_is_built_by_the_compiler_that_the_manifest_asks_for() {
    let manifest = read("Cargo.toml");
    let version =
        manifest.lines().find_map(|line| line.strip_prefix("rust-version = \"")).expect("a version");
    let version = version.trim_end_matches('"');
    assert!(read("deploy/container/Dockerfile").contains(&format!("FROM rust:{version}-")), "{version}");
}

/// Commands of the guide, each in a line of its own.
fn commands() -> Vec<String> {
    let guide = read("deploy/README.md");
    let blocks = guide.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
    let joined = blocks.collect::<String>().replace("\\\n", " ");
    joined.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect()
}

#[test]
fn the_guide_names_files_that_are_there_and_commands_that_barid_knows() {
    let commands = commands();
    assert!(commands.len() > 10, "{commands:?}");
    let words = commands.iter().flat_map(|command| command.split_whitespace());
    for file in words.filter(|word| word.starts_with("deploy/")) {
        assert!(repository().join(file).exists(), "{file}");
    }
    let mut known = 0;
    for command in &commands {
        let words: Vec<&str> = command.split_whitespace().collect();
        let Some(at) = words.iter().rposition(|word| *word == "barid" || word.ends_with("/barid")) else {
            continue;
        };
        // `barid` may be a user, a service or a container as well
        let verbs: Vec<&str> =
            words[at + 1..].iter().copied().take_while(|word| !word.starts_with('-')).collect();
        if verbs.is_empty() {
            continue;
        }
        let told = run_barid(&[&verbs[..], &["--help"]].concat());
        assert!(told.0.success(), "{command}: {}", told.2);
        known += 1;
    }
    assert!(known >= 5, "the guide uses hardly any command of barid's: {known}");
}
