//! What is in force, and where it was set.

use super::reader::{Change, Setting};

/// Values are set apart from where they come from, as far as they are this short.
const VALUE_WIDTH: usize = 60;

/// One line for a setting: its value, and where that was set.
pub(in crate::app) fn told(setting: &Setting) -> String {
    let value = match setting.shown() {
        Some(value) => format!("{} = {value}", setting.key),
        None => format!("{} (not set)", setting.key),
    };
    let origin = match &setting.origin {
        Some((file, line)) => format!("{file} line {line}"),
        None => "default".to_owned(),
    };
    format!("{value:VALUE_WIDTH$}  # {origin}")
}

/// The same as a JSON object.
pub(in crate::app) fn json(setting: &Setting) -> serde_json::Value {
    let value =
        setting.shown().and_then(|value| toml::from_str::<toml::Table>(&format!("value = {value}")).ok());
    let value = value.and_then(|table| serde_json::to_value(table.get("value")).ok());
    serde_json::json!({
        "key": setting.key,
        "value": value,
        "file": setting.origin.as_ref().map(|(file, _)| file),
        "line": setting.origin.as_ref().map(|(_, line)| line),
        "is_default": setting.origin.is_none(),
        "needs_restart": setting.change == Change::Restart,
    })
}
