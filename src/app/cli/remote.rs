//! What all commands share that speak to the relay that runs.

use std::io::{self, BufRead, Write as _};
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use serde_json::Value;

use crate::app::config::{Config, DEFAULT_PATH, Span};
use crate::app::control::call::{self, CallError};
use crate::app::control::{SOCKET, wire};

/// Where the relay is found, and how its answers are shown.
#[derive(Args, Clone, Debug)]
pub(super) struct Remote {
    /// The configuration file, whose data directory has the relay's socket.
    #[arg(long, value_name = "FILE", default_value = DEFAULT_PATH, global = true)]
    pub(super) config: PathBuf,
    /// The relay's socket, where the configuration is not to be read.
    #[arg(long, value_name = "PATH", global = true)]
    pub(super) socket: Option<PathBuf>,
    /// One JSON object a line instead of text.
    #[arg(long, global = true)]
    pub(super) json: bool,
}

impl Remote {
    pub(super) fn socket(&self) -> anyhow::Result<PathBuf> {
        match &self.socket {
            Some(socket) => Ok(socket.clone()),
            None => Ok(self.data_dir()?.join(SOCKET)),
        }
    }

    /// Where the relay keeps its socket. A fault elsewhere in the file must not take an operator's hands away
    /// from the relay that runs.
    pub(super) fn data_dir(&self) -> anyhow::Result<PathBuf> {
        let faults = match Config::load(&self.config) {
            Ok(config) => return Ok(config.data_dir),
            Err(faults) => faults,
        };
        let text = std::fs::read_to_string(&self.config).unwrap_or_default();
        let table: Option<toml::Table> = text.parse().ok();
        let named = table.as_ref().and_then(|table| table.get("data_dir")?.as_str());
        match named {
            Some(data_dir) => {
                let file = self.config.display();
                eprintln!(
                    "barid: {file} has faults, of which `barid config check` tells; its data_dir is used"
                );
                Ok(data_dir.into())
            }
            None => Err(faults.into()),
        }
    }

    /// Asks the relay; rows and end are printed as JSON, or by `row` and `end`.
    pub(super) fn ask(
        &self,
        command: &str,
        request: &impl Serialize,
        row: &mut dyn FnMut(&Value) -> String,
        end: &mut dyn FnMut(&Value) -> String,
    ) -> anyhow::Result<Value> {
        let socket = self.socket()?;
        let mut each = |value: Value| self.print(&value, row);
        let answer = block_on(call::ask(&socket, command, request, &mut each))??;
        self.print(&answer, end)?;
        Ok(answer)
    }

    /// The same for a list, whose end is no row of it.
    pub(super) fn list(
        &self,
        command: &str,
        request: &impl Serialize,
        row: &mut dyn FnMut(&Value) -> String,
        end: &mut dyn FnMut(&Value) -> String,
    ) -> anyhow::Result<()> {
        let socket = self.socket()?;
        let mut each = |value: Value| self.print(&value, row);
        let answer = block_on(call::ask(&socket, command, request, &mut each))??;
        if self.json { Ok(()) } else { Ok(self.print(&answer, end)?) }
    }

    /// What stands above a table.
    pub(super) fn heading(&self, heading: &str) -> io::Result<()> {
        if self.json { Ok(()) } else { writeln!(io::stdout(), "{heading}") }
    }

    /// Prints a value in the one form or the other.
    pub(super) fn print(&self, value: &Value, text: &mut dyn FnMut(&Value) -> String) -> io::Result<()> {
        let line = if self.json { value.to_string() } else { text(value) };
        if line.is_empty() {
            return Ok(());
        }
        writeln!(io::stdout(), "{line}")
    }
}

/// Runs one request.
pub(super) fn block_on<T>(
    work: impl Future<Output = Result<T, CallError>>,
) -> anyhow::Result<Result<T, CallError>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(work))
}

/// Which messages are meant; all that is named must hold.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct Select {
    /// A message's id; may be named more than once. `-` reads ids from standard input, one a line.
    #[arg(long = "id", value_name = "ID")]
    ids: Vec<String>,
    /// With recipients in this domain.
    #[arg(long)]
    domain: Option<String>,
    /// Handed over by this client.
    #[arg(long)]
    client: Option<String>,
    /// Whose sender holds this text; `<>` means reports, which have none.
    #[arg(long, value_name = "TEXT")]
    from: Option<String>,
    /// One of whose recipients holds this text.
    #[arg(long, value_name = "TEXT")]
    to: Option<String>,
    /// That arrived at least so long ago, such as 2h or 3d.
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    older: Option<u64>,
    /// Held for this reason, as `queue ls` shows it: operator, damaged, exported-...
    #[arg(long)]
    reason: Option<String>,
}

/// A time span with its unit, in seconds.
pub(super) fn seconds(text: &str) -> Result<u64, String> {
    let span = Span::parse(text).map(|span| span.0.as_secs());
    span.ok_or_else(|| "a time span is a number and ms, s, m, h or d, such as 30m".into())
}

impl Select {
    pub(super) fn is_empty(&self) -> bool {
        let Select { ids, domain, client, from, to, older, reason } = self;
        let texts = [domain, client, from, to, reason];
        ids.is_empty() && older.is_none() && texts.iter().all(|text| text.is_none())
    }

    pub(super) fn to_wire(&self) -> anyhow::Result<wire::Selection> {
        let mut ids = Vec::new();
        for id in &self.ids {
            match id.as_str() {
                "-" => ids.extend(ids_from(io::stdin().lock())?),
                id => ids.push(id.to_owned()),
            }
        }
        // nothing on standard input is not everything
        if ids.is_empty() && !self.ids.is_empty() {
            anyhow::bail!("standard input named no id");
        }
        Ok(wire::Selection {
            ids,
            domain: self.domain.clone(),
            client: self.client.clone(),
            from: self.from.clone(),
            to: self.to.clone(),
            older_seconds: self.older,
            reason: self.reason.clone(),
        })
    }
}

fn ids_from(input: impl BufRead) -> io::Result<Vec<String>> {
    let lines: Vec<String> = input.lines().collect::<Result<_, _>>()?;
    Ok(lines.iter().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect())
}

/// A text in a value, or a dash.
pub(super) fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or("-")
}

/// A number in a value, or 0.
pub(super) fn number(value: &Value, key: &str) -> u64 {
    value.get(key).and_then(Value::as_u64).unwrap_or(0)
}

/// Whether a time in a value has passed.
pub(super) fn is_over(value: &Value, key: &str) -> bool {
    let at: Option<jiff::Timestamp> = value.get(key).and_then(Value::as_str).and_then(|at| at.parse().ok());
    let now = i64::try_from(crate::clock::Clock::System.now().as_secs()).unwrap_or(i64::MAX);
    at.is_some_and(|at| at.as_second() <= now)
}

/// How far a time in a value is from now, in its largest unit: `3h`.
pub(super) fn distance(value: &Value, key: &str) -> String {
    let at: Option<jiff::Timestamp> = value.get(key).and_then(Value::as_str).and_then(|at| at.parse().ok());
    let now = i64::try_from(crate::clock::Clock::System.now().as_secs()).unwrap_or(i64::MAX);
    at.map_or("-".into(), |at| span(at.as_second().abs_diff(now)))
}

/// A span in its largest unit.
fn span(seconds: u64) -> String {
    match seconds {
        0..=119 => format!("{seconds}s"),
        120..=7199 => format!("{}m", seconds / 60),
        7200..=172_799 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// A size in its largest unit.
pub(super) fn size(octets: u64) -> String {
    match octets {
        0..=9_999 => format!("{octets}B"),
        10_000..=10_239_999 => format!("{}KiB", octets >> 10),
        _ => format!("{}MiB", octets >> 20),
    }
}
