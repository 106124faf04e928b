//! `barid reload`.

use anyhow::bail;
use serde_json::{Value, json};

use super::remote::{Remote, text};

fn list_of<'a>(report: &'a Value, key: &str) -> &'a [Value] {
    report.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// What became of it, in words.
fn told(report: &Value) -> String {
    let named = |key: &str| list_of(report, key).iter().filter_map(Value::as_str);
    let mut lines: Vec<String> = named("changed").map(|key| format!("changed: {key}")).collect();
    lines.extend(named("needs_restart").map(|key| format!("needs a restart: {key}")));
    for fault in list_of(report, "faults") {
        let line = fault.get("line").and_then(Value::as_u64).unwrap_or(1);
        lines.push(format!(
            "{}: line {line}: {}: {}",
            text(fault, "file"),
            text(fault, "key"),
            text(fault, "why"),
        ));
    }
    if lines.is_empty() { "nothing has changed".into() } else { lines.join("\n") }
}

pub(super) fn run(remote: &Remote) -> anyhow::Result<()> {
    let report = remote.ask("reload", &json!({}), &mut |_| String::new(), &mut told)?;
    if !list_of(&report, "faults").is_empty() {
        bail!("the files have faults, and the running configuration goes on");
    }
    Ok(())
}
