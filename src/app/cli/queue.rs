//! `barid queue`.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal as _, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use super::remote::{self, Remote, Select, block_on, distance, number, size, text};
use crate::app::control::call;
use crate::app::control::export::reason as export_reason;
use crate::app::control::wire::{QueueRequest, Selection};
use crate::app::offline;
use crate::queue::archive::{Archive, ArchiveId, Totals};

/// Looks at messages that wait or are held, and says what becomes of them.
#[derive(Subcommand)]
pub(super) enum QueueCommand {
    /// Lists messages.
    #[command(after_help = "Examples:\n  barid queue ls --domain example.net\n  \
        barid queue ls --from newsletter@ --older 1h --json | jq -r .id\n  barid queue ls --reason damaged")]
    Ls {
        #[command(flatten)]
        select: Select,
        /// No more than so many.
        #[arg(long)]
        limit: Option<u64>,
    },
    /// Shows one message, and why it waits.
    #[command(after_help = "Examples:\n  barid queue show 0689c1a2b3c40000\n  \
        barid queue show --content 0689c1a2b3c40000 | less")]
    Show {
        /// Its id, as in logs and in `queue ls`.
        id: String,
        /// The message itself, as it will be sent.
        #[arg(long)]
        content: bool,
    },
    /// Tries messages at once.
    ///
    /// For a domain, a client or everything this is one order, heeded by each message in its turn, and a
    /// destination that is down is tried as well. Single messages are due at once; they still wait for a
    /// destination that is down.
    #[command(
        after_help = "Examples:\n  barid queue flush --domain example.net   # after an outage there\n  \
        barid queue flush --all"
    )]
    Flush(ActOptions),
    /// Takes messages out of the line until they are released. They do not expire meanwhile.
    ///
    /// For a domain, a client or everything this is one order, which holds what arrives later as well.
    #[command(after_help = "Examples:\n  barid queue hold --client shop\n  \
        barid queue hold --from newsletter@ --dry-run")]
    Hold(ActOptions),
    /// Releases messages that are held: by an operator, or for the reason that is named.
    #[command(after_help = "Examples:\n  barid queue release --client shop\n  \
        barid queue release --reason exported-0689c1a2b3c40000")]
    Release(ActOptions),
    /// Removes messages; nobody is told.
    #[command(after_help = "Examples:\n  barid queue rm --from newsletter@ --dry-run\n  \
        barid queue rm --reason exported-0689c1a2b3c40000   # when they were imported elsewhere")]
    Rm(ActOptions),
    /// Gives messages up, and tells their senders.
    #[command(
        after_help = "Example:\n  barid queue bounce --domain exmaple.com --text 'no such domain: a typing error?'"
    )]
    Bounce {
        #[command(flatten)]
        act: ActOptions,
        /// What the senders read.
        #[arg(long)]
        text: Option<String>,
    },
    /// Lists what operators ordered for whole domains, clients or everything.
    #[command(after_help = "Example:\n  barid queue orders")]
    Orders,
    /// Writes messages with all that is known of them to a file, for another host.
    ///
    /// What is written is held for a reason of its own, `exported-...`, so that it does not leave from both
    /// hosts: remove it when it was imported, or release it. Hold everything before (`queue hold --all`), so
    /// that nothing is being sent meanwhile.
    #[command(after_help = "Examples:\n  barid queue export --all evacuated.barid\n  \
        barid queue export --all --offline evacuated.barid   # the relay is stopped")]
    Export {
        #[command(flatten)]
        select: Select,
        /// Everything.
        #[arg(long)]
        all: bool,
        /// Leaves the messages in the line: a copy for the records.
        #[arg(long)]
        keep: bool,
        /// Reads the data directory of a relay that is not running.
        #[arg(long)]
        offline: bool,
        /// The file; it must not be there yet.
        file: PathBuf,
    },
    /// Takes messages in that were exported elsewhere.
    #[command(after_help = "Examples:\n  barid queue import evacuated.barid\n  \
        barid queue import --offline evacuated.barid   # before the relay is started")]
    Import {
        /// Writes to the data directory of a relay that is not running.
        #[arg(long)]
        offline: bool,
        /// Takes in again what an earlier import of this file has brought.
        #[arg(long)]
        again: bool,
        /// The file.
        file: PathBuf,
    },
}

/// What is done, and with which messages.
#[derive(Args)]
pub(super) struct ActOptions {
    #[command(flatten)]
    select: Select,
    /// Everything.
    #[arg(long)]
    all: bool,
    /// Only tells which messages are meant.
    #[arg(long)]
    dry_run: bool,
}

pub(super) fn run(command: QueueCommand, remote: &Remote) -> anyhow::Result<()> {
    match command {
        QueueCommand::Ls { select, limit } => list(remote, &select, limit),
        QueueCommand::Orders => orders(remote),
        QueueCommand::Show { id, content } => show(remote, id, content),
        QueueCommand::Flush(options) => act(remote, "flush", &options, None),
        QueueCommand::Hold(options) => act(remote, "hold", &options, None),
        QueueCommand::Release(options) => act(remote, "release", &options, None),
        QueueCommand::Rm(options) => act(remote, "rm", &options, None),
        QueueCommand::Bounce { act: options, text } => act(remote, "bounce", &options, text),
        QueueCommand::Export { select, all, keep, offline, file } => {
            meant(&select, all)?;
            export(
                remote,
                QueueRequest { select: select.to_wire()?, keep, ..QueueRequest::default() },
                offline,
                &file,
            )
        }
        QueueCommand::Import { offline, again, file } => import(remote, (offline, again), &file),
    }
}

/// Everything is meant only where that was said.
fn meant(select: &Select, all: bool) -> anyhow::Result<()> {
    match (select.is_empty(), all) {
        (true, false) => {
            bail!("name the messages (--domain, --client, --from, --to, --older, --id, --reason), or --all")
        }
        (false, true) => bail!("--all means everything: name nothing beside it"),
        _ => Ok(()),
    }
}

fn recipients(row: &Value) -> String {
    let to = row.get("to").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let first = to.first().and_then(Value::as_str).unwrap_or("-");
    if to.len() > 1 { format!("{first} and {} more", to.len() - 1) } else { first.to_owned() }
}

fn sender(row: &Value) -> &str {
    match text(row, "from") {
        "" => "<>",
        from => from,
    }
}

fn list(remote: &Remote, select: &Select, limit: Option<u64>) -> anyhow::Result<()> {
    let request = QueueRequest { select: select.to_wire()?, limit, ..QueueRequest::default() };
    remote.heading("id                state      age     size  try    due  sender -> recipients")?;
    let mut row = |row: &Value| {
        let state = row.get("reason").and_then(Value::as_str).map_or(text(row, "state"), |reason| reason);
        let reply = row.get("last_reply").and_then(Value::as_str);
        format!(
            "{}  {state:<8} {:>5} {:>8} {:>4} {:>6}  {} -> {}{}",
            text(row, "id"),
            distance(row, "arrived"),
            size(number(row, "size")),
            number(row, "attempts"),
            distance(row, "due"),
            sender(row),
            recipients(row),
            reply.map_or(String::new(), |reply| format!("\n                  ({reply})")),
        )
    };
    let mut end = |end: &Value| {
        let more = if end["more"] == json!(true) { ", and there are more" } else { "" };
        format!("{} messages{more}", number(end, "listed"))
    };
    remote.list("queue/ls", &request, &mut row, &mut end)
}

fn orders(remote: &Remote) -> anyhow::Result<()> {
    let mut row = |row: &Value| {
        let until = row.get("until").and_then(Value::as_str);
        let until = until.map_or(String::new(), |until| format!(", until {until}"));
        format!("{}: {} since {}{until}", text(row, "of"), text(row, "order"), text(row, "since"))
    };
    let mut end = |end: &Value| format!("{} orders", number(end, "listed"));
    remote.list("queue/orders", &json!({}), &mut row, &mut end)
}

fn show(remote: &Remote, id: String, content: bool) -> anyhow::Result<()> {
    let select = Selection { ids: vec![id], ..Selection::default() };
    let request = QueueRequest { select, ..QueueRequest::default() };
    if content {
        let socket = remote.socket()?;
        return Ok(block_on(call::fetch(&socket, "queue/content", &request, &mut io::stdout().lock()))??);
    }
    remote.ask("queue/show", &request, &mut |_| String::new(), &mut told).map(drop)
}

/// A message in full.
fn told(shown: &Value) -> String {
    let mut lines = vec![format!("id         {}", text(shown, "id"))];
    let state = match shown.get("reason").and_then(Value::as_str) {
        Some(reason) => format!("held ({reason})"),
        None => text(shown, "state").to_owned(),
    };
    lines.push(format!("state      {state}"));
    lines.push(format!("sender     {}", sender(shown)));
    let to = shown.get("to").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    lines.extend(to.iter().filter_map(Value::as_str).map(|to| format!("recipient  {to}")));
    lines.push(format!("client     {} ({})", text(shown, "client"), text(shown, "class")));
    lines.push(format!("size       {}", size(number(shown, "size"))));
    for (name, key) in [("arrived", "arrived"), ("tried", "tried"), ("due", "due"), ("expires", "expires")] {
        if text(shown, key) != "-" {
            lines.push(format!("{name:<10} {} ({})", text(shown, key), distance(shown, key)));
        }
    }
    lines.push(format!("attempts   {}", number(shown, "attempts")));
    let why = shown.get("waits_for").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    lines.extend(why.iter().filter_map(Value::as_str).map(|why| format!("because    {why}")));
    if let Some(last) = shown.get("last_reply").filter(|last| last.is_object()) {
        let of = if last["of_this_message"] == json!(true) { "" } else { " (to another message)" };
        lines.push(format!("last reply {}: {}{of}", text(last, "host"), text(last, "reply")));
    }
    lines.join("\n")
}

fn act(remote: &Remote, act: &str, options: &ActOptions, text: Option<String>) -> anyhow::Result<()> {
    meant(&options.select, options.all)?;
    let request = QueueRequest {
        select: options.select.to_wire()?,
        dry_run: options.dry_run,
        text,
        ..QueueRequest::default()
    };
    let is_dry = options.dry_run;
    let mut row = |row: &Value| {
        let id = remote::text(row, "id");
        match (row["busy"] == json!(true), is_dry) {
            (true, _) => format!("{id} is being sent now: left alone"),
            (false, true) => format!("{id}  {} -> {}", sender(row), recipients(row)),
            (false, false) => String::new(),
        }
    };
    let end = remote.ask(&format!("queue/{act}"), &request, &mut row, &mut done)?;
    let named = request.select.ids.len() as u64;
    if named > number(&end, "messages") {
        bail!(
            "{} of {named} named messages are gone, being sent, or not in a state for it",
            named - number(&end, "messages")
        );
    }
    Ok(())
}

/// What came of it.
fn done(end: &Value) -> String {
    let mut parts: Vec<String> =
        end.get("order").and_then(Value::as_str).map(str::to_owned).into_iter().collect();
    if end.get("messages").is_some() {
        parts.push(format!("{} messages", number(end, "messages")));
    }
    for (key, told) in [
        ("busy", "being sent now were left alone"),
        ("damaged", "do not read: see `barid spool verify`"),
        ("passed_over", "were not in a state for it"),
    ] {
        if number(end, key) > 0 {
            parts.push(format!("{} {told}", number(end, key)));
        }
    }
    let still = end.get("still_stopped_by").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    parts.extend(
        still.iter().map(|order| format!("still stopped: {} ({})", text(order, "of"), text(order, "order"))),
    );
    let dry = if end["dry_run"] == json!(true) { " (nothing was done: a dry run)" } else { "" };
    format!("{}{dry}", parts.join("; "))
}

/// A bar where somebody watches.
fn counter(what: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(&format!("{{spinner}} {{human_pos}} {what}"));
    let bar =
        ProgressBar::new_spinner().with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
    if !io::stderr().is_terminal() {
        bar.set_draw_target(indicatif::ProgressDrawTarget::hidden());
    }
    bar
}

fn export(remote: &Remote, request: QueueRequest, offline: bool, file: &Path) -> anyhow::Result<()> {
    if file.exists() {
        bail!("{} is there already; name another file", file.display());
    }
    let part = file.with_extension("part");
    let name = part.display().to_string();
    let keep = request.keep;
    // letters are nobody else's business
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part);
    let made = made.with_context(|| format!("making {name}; remove it where it is an old one"))?;
    let written = write_export(remote, request, offline, made).and_then(|()| {
        let read = verify(&part).with_context(|| format!("checking {name}"))?;
        std::fs::rename(&part, file).with_context(|| format!("renaming {name}"))?;
        Ok(read)
    });
    let (id, totals) = match written {
        Ok(read) => read,
        Err(error) => {
            let reason = File::open(&part)
                .ok()
                .and_then(|part| Archive::open(part).ok())
                .map(|part| export_reason(part.id()));
            let told = reason.filter(|_| !keep).map_or(String::new(), |reason| {
                format!("; what may still be held is let go by `barid queue release --reason {reason}`")
            });
            // it is of no use to anybody
            let _ = std::fs::remove_file(&part);
            return Err(error.context(format!("nothing was exported{told}")));
        }
    };
    let reason = export_reason(id);
    let Totals { copies, busy, damaged } = totals;
    let told =
        json!({ "messages": copies, "busy": busy, "damaged": damaged, "file": file, "reason": reason });
    let mut words = |_: &Value| {
        let mut lines = vec![format!("{copies} messages are in {}", file.display())];
        if busy > 0 {
            lines.push(format!(
                "{busy} were being sent and are not in it: another export takes them, if they are still here"
            ));
        }
        if damaged > 0 {
            lines.push(format!("{damaged} are damaged and not in it: see `barid spool verify`"));
        }
        if !keep {
            lines.push(format!(
                "here they are held: `barid queue rm --reason {reason}` when they are imported, \
                 `barid queue release --reason {reason}` to send them from here after all"
            ));
        }
        lines.join("\n")
    };
    Ok(remote.print(&told, &mut words)?)
}

fn write_export(remote: &Remote, request: QueueRequest, offline: bool, file: File) -> anyhow::Result<()> {
    let bar = counter("octets written");
    let mut out = Counted { out: io::BufWriter::new(file), bar: &bar };
    if offline {
        offline::export(&remote.config, request, &mut out)?;
    } else {
        let socket = remote.socket()?;
        block_on(call::fetch(&socket, "queue/export", &request, &mut out))??;
    }
    out.flush()?;
    let file = out.out.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.sync_all()?;
    bar.finish_and_clear();
    Ok(())
}

/// Counts what is written.
struct Counted<'a> {
    out: io::BufWriter<File>,
    bar: &'a ProgressBar,
}

impl Write for Counted<'_> {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        let written = self.out.write(octets)?;
        self.bar.inc(written as u64);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Reads a file to its end; gives what it says of itself.
fn verify(file: &Path) -> anyhow::Result<(ArchiveId, Totals)> {
    let mut archive = Archive::open(io::BufReader::new(File::open(file)?))?;
    loop {
        match archive.next_entry()? {
            Ok(_) => _ = archive.body(&mut |_| Ok(()))?,
            Err(totals) => return Ok((archive.id(), totals)),
        }
    }
}

fn import(remote: &Remote, (offline, again): (bool, bool), file: &Path) -> anyhow::Result<()> {
    // all of it is looked at before any of it is taken: half an import is hard to take back
    let name = file.display().to_string();
    let (_, totals) = verify(file).with_context(|| name.clone())?;
    let bar = counter(&format!("of {} messages imported", totals.copies));
    let input = io::BufReader::new(File::open(file).with_context(|| name)?);
    let imported = if offline {
        let mut progress = |count| bar.set_position(count);
        let (messages, before) = offline::import(&remote.config, (input, again), &mut progress)?;
        json!({ "messages": messages, "before": before })
    } else {
        let (socket, mut each) = (remote.socket()?, |row: Value| {
            bar.set_position(number(&row, "imported"));
            Ok(())
        });
        let command = if again { "queue/import/again" } else { "queue/import" };
        block_on(call::upload(&socket, command, input, &mut each))??
    };
    bar.finish_and_clear();
    let mut words = |end: &Value| match (number(end, "messages"), number(end, "before")) {
        (messages, 0) => format!("{messages} messages were imported"),
        (messages, before) => format!(
            "{messages} messages were imported; {before} of this file had been before (--again takes them again)"
        ),
    };
    Ok(remote.print(&imported, &mut words)?)
}
