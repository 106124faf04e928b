//! What `deploy/` gives to administrators: samples that work as they are written, a unit that is told when the
//! relay is ready, files that fit together.
#![allow(clippy::expect_used, reason = "what a test cannot do without fails it")]

#[path = "../support/mod.rs"]
mod support;

mod files;
mod samples;
mod unit;

use std::path::Path;

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(file: &str) -> String {
    let path = repository().join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

const SAMPLES: [&str; 4] = [
    "deploy/samples/office.toml",
    "deploy/samples/applications.toml",
    "deploy/samples/behind-a-relay.toml",
    "deploy/container/barid.toml",
];
