//! `barid spool verify|rebuild`: the data directory of a relay that is not running.

use std::path::Path;
use std::time::Duration;

use anyhow::bail;
use indicatif::{ProgressBar, ProgressStyle};

use super::config::Config;
use crate::store;

/// Reads everything and tells what is wrong with it.
pub(super) fn verify(config: &Path, json: bool) -> anyhow::Result<()> {
    let config = Config::load(config)?;
    let bar = counter("{spinner} {human_pos} rows checked");
    let findings = store::verify(&config.data_dir, config.store, &mut |rows| bar.set_position(rows))?;
    bar.finish_and_clear();
    let (rows, bodies) = (findings.rows, findings.bodies);
    if json {
        println!("{}", serde_json::json!({ "rows": rows, "bodies": bodies, "faults": findings.faults }));
    } else {
        findings.faults.iter().for_each(|fault| println!("fault: {fault}"));
        println!("{rows} rows and {bodies} bodies checked, {} faults", findings.faults.len());
    }
    if !findings.faults.is_empty() {
        bail!("the spool is damaged; `barid spool rebuild` finds the index again from the log");
    }
    Ok(())
}

/// Finds the index again from the log.
pub(super) fn rebuild(config: &Path, json: bool) -> anyhow::Result<()> {
    let config = Config::load(config)?;
    let bar = counter("{spinner} {binary_bytes} of the log read");
    let report = store::rebuild(&config.data_dir, config.store, &mut |octets| bar.set_position(octets))?;
    bar.finish_and_clear();
    let (groups, torn) = (report.groups, report.torn_octets);
    if json {
        println!("{}", serde_json::json!({ "groups": groups, "torn_octets": torn, "damage": report.damage }));
    } else {
        report.damage.iter().for_each(|damage| println!("damage: {damage}"));
        println!("index rebuilt from {groups} record groups");
    }
    Ok(())
}

fn counter(template: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner());
    let bar = ProgressBar::new_spinner().with_style(style);
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
