//! The log: one structured line per event, as logfmt or JSON, written by a thread of its own.
//!
//! Whoever logs never waits: lines go into a bounded channel, and are counted and dropped where it is
//! full. Text from strangers is escaped: a line is always one line.

use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::thread;

use crossbeam::channel::{Receiver, Sender, bounded};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

use super::names;
use crate::clock::{Clock, Timestamp};

/// Lines that may wait for the writing thread.
const LINES_MAX: usize = 16 << 10;
/// Lines are written together up to this size.
const WRITE_GOAL_OCTETS: usize = 64 << 10;

/// The form of a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// `key=value` pairs.
    #[default]
    Logfmt,
    /// One JSON object.
    Json,
}

/// Where lines go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogTarget {
    /// Standard error: what systemd and containers expect.
    #[default]
    Stderr,
    /// Nowhere.
    Nowhere,
}

/// Writes what is left when it is dropped.
pub struct LogGuard {
    stop: Sender<Option<String>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        let _ = self.stop.send(None);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Starts the process's log. Called once, in `main`.
pub fn start_log(
    level: Level,
    format: LogFormat,
    target: LogTarget,
    clock: Clock,
) -> std::io::Result<LogGuard> {
    let (lines, incoming) = bounded(LINES_MAX);
    let writer = thread::Builder::new().name("log".into()).spawn(move || write_lines(&incoming, target))?;
    let layer = LineLayer { lines: lines.clone(), format, level, clock };
    // a second logger in one process (tests) keeps the first
    let _ = tracing::subscriber::set_global_default(tracing_subscriber::registry().with(layer));
    Ok(LogGuard { stop: lines, thread: Some(writer) })
}

fn write_lines(incoming: &Receiver<Option<String>>, target: LogTarget) {
    let mut text = String::new();
    while let Ok(Some(line)) = incoming.recv() {
        text.push_str(&line);
        let mut stop = false;
        while text.len() < WRITE_GOAL_OCTETS {
            match incoming.try_recv() {
                Ok(Some(line)) => text.push_str(&line),
                Ok(None) => {
                    stop = true;
                    break;
                }
                Err(_) => break,
            }
        }
        if target == LogTarget::Stderr {
            // nobody is left to be told where this fails
            let _ = std::io::stderr().lock().write_all(text.as_bytes());
        }
        text.clear();
        if stop {
            break;
        }
    }
}

struct LineLayer {
    lines: Sender<Option<String>>,
    format: LogFormat,
    level: Level,
    clock: Clock,
}

impl<S: Subscriber> Layer<S> for LineLayer {
    fn enabled(&self, metadata: &tracing::Metadata<'_>, _: Context<'_, S>) -> bool {
        // what libraries say is of interest only when it is a warning
        let own = metadata.target().starts_with("barid");
        *metadata.level() <= if own { self.level } else { Level::WARN }
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let line = render(event, self.format, self.clock.now());
        if self.lines.try_send(Some(line)).is_err() {
            metrics::counter!(names::LOG_LINES_DROPPED).increment(1);
        }
    }
}

fn render(event: &Event<'_>, format: LogFormat, now: Timestamp) -> String {
    let mut line = String::with_capacity(256);
    let level = event.metadata().level().as_str();
    let time = rfc3339(now);
    match format {
        LogFormat::Logfmt => {
            let _ = write!(line, "time={time} level=");
            line.extend(level.chars().map(|c| c.to_ascii_lowercase()));
            event.record(&mut LogfmtFields(&mut line));
        }
        LogFormat::Json => {
            let _ = write!(line, "{{\"time\":\"{time}\",\"level\":\"{}\"", level.to_ascii_lowercase());
            event.record(&mut JsonFields(&mut line));
            line.push('}');
        }
    }
    line.push('\n');
    line
}

/// `2026-11-20T12:00:00.000Z`, for any time.
fn rfc3339(now: Timestamp) -> String {
    let millis = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
    match jiff::Timestamp::from_millisecond(millis) {
        Ok(time) => format!("{time:.3}"),
        Err(_) => format!("@{millis}"),
    }
}

struct LogfmtFields<'a>(&'a mut String);

impl LogfmtFields<'_> {
    fn name(&mut self, field: &Field) {
        self.0.push(' ');
        self.0.push_str(if field.name() == "message" { "msg" } else { field.name() });
        self.0.push('=');
    }
}

impl Visit for LogfmtFields<'_> {
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.name(field);
        let _ = write!(self.0, "{value}");
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.name(field);
        let plain = |c: char| c.is_ascii_graphic() && c != '"' && c != '=' && c != '\\';
        if !value.is_empty() && value.chars().all(plain) {
            self.0.push_str(value);
        } else {
            self.0.push('"');
            escape(self.0, value);
            self.0.push('"');
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

struct JsonFields<'a>(&'a mut String);

impl JsonFields<'_> {
    fn name(&mut self, field: &Field) {
        let name = if field.name() == "message" { "msg" } else { field.name() };
        let _ = write!(self.0, ",\"{name}\":");
    }
}

impl Visit for JsonFields<'_> {
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.name(field);
        let _ = write!(self.0, "{value}");
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.name(field);
        let _ = write!(self.0, "{value}");
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.name(field);
        // JSON knows no infinity
        let _ = if value.is_finite() { write!(self.0, "{value}") } else { write!(self.0, "null") };
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.name(field);
        let _ = write!(self.0, "{value}");
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.name(field);
        self.0.push('"');
        escape(self.0, value);
        self.0.push('"');
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

/// JSON's escapes, which logfmt's readers take as well.
fn escape(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Renders one event through the layer, as the process would.
    fn logged(format: LogFormat, event: impl FnOnce()) -> String {
        let (lines, incoming) = bounded(4);
        let clock = Clock::Manual(crate::clock::ManualClock::at(Timestamp::from_millis(1_795_000_000_123)));
        let layer = LineLayer { lines, format, level: Level::INFO, clock };
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), event);
        incoming.try_recv().ok().flatten().unwrap_or_default()
    }

    #[test]
    fn strangers_text_cannot_break_a_line() {
        let hostile = "550 no\r\nlevel=error msg=\"forged\"";
        let line =
            logged(LogFormat::Logfmt, || tracing::info!(event = "deferred", id = "0a", reply = hostile));
        assert_eq!(
            line,
            "time=2026-11-18T11:06:40.123Z level=info event=deferred id=0a \
             reply=\"550 no\\r\\nlevel=error msg=\\\"forged\\\"\"\n"
        );
    }

    #[test]
    fn json_lines_are_json() {
        let line = logged(LogFormat::Json, || {
            tracing::warn!(event = "x", size = 5_u64, delay = 0.25, text = "a\u{1}\"b")
        });
        let value: serde_json::Value = serde_json::from_str(&line).expect("is JSON");
        assert_eq!(value["delay"], 0.25);
        assert_eq!(
            (&value["event"], &value["size"], &value["text"]),
            (&"x".into(), &5.into(), &"a\u{1}\"b".into())
        );
    }

    #[test]
    fn levels_below_the_chosen_one_are_not_logged() {
        assert_eq!(logged(LogFormat::Logfmt, || tracing::debug!(event = "quiet")), "");
    }
}
