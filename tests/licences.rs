//! Every dependency's licence is one that the product may be shipped under.
//!
//! Reads the lock file and the manifests that cargo has already fetched: no network, no other tool.
#![allow(clippy::expect_used, reason = "a broken checkout is a failed test")]

use std::process::Command;

use serde_json::Value;

/// Licences that ask for no more than credit. An expression passes when one of its alternatives does.
const ALLOWED: [&str; 13] = [
    "MIT",
    "MIT-0",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Zlib",
    "Unlicense",
    "CC0-1.0",
    "Unicode-3.0",
    "0BSD",
    "CDLA-Permissive-2.0",
];

/// SPDX expressions as they occur: alternatives of conjunctions; `/` is an old way to write OR.
fn is_allowed(expression: &str) -> bool {
    let plain = expression.replace('/', " OR ").replace(['(', ')'], " ");
    // parentheses only ever group alternatives inside a conjunction: every conjunct must then pass
    let alternatives = |text: &str| text.split(" OR ").any(|licence| ALLOWED.contains(&licence.trim()));
    if expression.contains('(') {
        plain.split(" AND ").all(alternatives)
    } else {
        plain
            .split(" OR ")
            .any(|choice| choice.split(" AND ").all(|licence| ALLOWED.contains(&licence.trim())))
    }
}

/// This machine's target: other targets' dependencies have not been fetched.
fn host() -> String {
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
    let output = Command::new(rustc).arg("-vV").output().expect("rustc runs");
    let text = String::from_utf8(output.stdout).expect("is text");
    text.lines().find_map(|line| line.strip_prefix("host: ")).expect("a host").to_owned()
}

fn dependencies() -> Vec<(String, Option<String>)> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--locked", "--offline", "--filter-platform", &host()])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo metadata runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("is JSON");
    let packages = metadata["packages"].as_array().expect("a list of packages");
    let told = |package: &Value| {
        let name = format!("{} {}", package["name"], package["version"]).replace('"', "");
        (name, package["license"].as_str().map(str::to_owned))
    };
    packages.iter().map(told).collect()
}

#[test]
fn every_dependency_may_be_shipped() {
    let dependencies = dependencies();
    assert!(dependencies.len() > 20, "the list looks cut: {dependencies:?}");
    let bad: Vec<_> =
        dependencies.iter().filter(|(_, licence)| !licence.as_deref().is_some_and(is_allowed)).collect();
    assert!(bad.is_empty(), "{bad:#?}");
}

#[test]
fn a_licence_that_asks_for_more_would_be_noticed() {
    for (expression, allowed) in [
        ("MIT OR Apache-2.0", true),
        ("MIT/Apache-2.0", true),
        ("GPL-3.0-only OR MIT", true),
        ("MIT AND Apache-2.0", true),
        ("(MIT OR Apache-2.0) AND Unicode-3.0", true),
        ("AGPL-3.0-only", false),
        ("MIT AND GPL-2.0-only", false),
        ("(MIT OR Apache-2.0) AND GPL-2.0-only", false),
        ("", false),
    ] {
        assert_eq!(is_allowed(expression), allowed, "{expression}");
    }
}
