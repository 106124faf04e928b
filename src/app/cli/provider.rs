//! `barid provider`: what is known of receivers, and what their replies mean.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::print;
use crate::dsn::{Book, Classifier, Receiver, Rule};
use crate::mail::{Reply, Stage, Verdict};

/// Shows what is known of receivers, and what their replies mean.
#[derive(Subcommand)]
pub(super) enum ProviderCommand {
    /// Lists the receivers of which something is known.
    #[command(after_help = "Examples:\n  barid provider ls\n  barid provider ls --json | jq -r .name")]
    Ls(Options),
    /// Shows a receiver with its rules, and where each is known from.
    #[command(after_help = "Example:\n  barid provider show google")]
    Show {
        /// Its name, as `barid provider ls` has it; `any` for the rules that all replies are held against.
        name: String,
        #[command(flatten)]
        options: Options,
    },
    /// Reads a file of receivers and rules of your own, and tells what is wrong with it.
    #[command(after_help = "Example:\n  barid provider check providers.toml")]
    Check {
        /// The file.
        file: PathBuf,
    },
    /// Tells what a reply means, whom it concerns, and by which rule.
    #[command(after_help = "Examples:\n  \
        barid provider test \"421 4.7.28 Gmail has detected an unusual rate of mail from your IP address\" \\\n    \
        --mx gmail-smtp-in.l.google.com\n  \
        barid provider test --data providers.toml --stage data \"554 5.7.1 Message rejected\"")]
    Test {
        /// The reply, as the log has it.
        reply: String,
        /// The mail host that said it.
        #[arg(long, value_name = "HOST", default_value = "")]
        mx: String,
        /// What it was said to.
        #[arg(long, value_enum, default_value_t)]
        stage: StageOption,
        #[command(flatten)]
        options: Options,
    },
}

#[derive(Args)]
pub(super) struct Options {
    /// A file of your own, which goes before what Barid brings along.
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    /// One JSON object a line instead of text.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Default, ValueEnum)]
pub(super) enum StageOption {
    /// The greeting, EHLO or MAIL.
    Session,
    /// RCPT.
    #[default]
    Rcpt,
    /// DATA or the content.
    Data,
}

impl From<StageOption> for Stage {
    fn from(option: StageOption) -> Self {
        match option {
            StageOption::Session => Stage::Mail,
            StageOption::Rcpt => Stage::Rcpt,
            StageOption::Data => Stage::Content,
        }
    }
}

fn read(file: &Path) -> anyhow::Result<Book> {
    let text = std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
    Book::parse(&text).with_context(|| file.display().to_string())
}

impl Options {
    fn book(&self) -> anyhow::Result<Book> {
        let own = Book::embedded().context("the data that Barid brings along")?;
        match &self.data {
            Some(file) => Ok(own.under(read(file)?)),
            None => Ok(own),
        }
    }

    fn tell(&self, value: &Value, text: String) -> anyhow::Result<()> {
        print(&if self.json { format!("{value}\n") } else { format!("{text}\n") })
    }
}

pub(super) fn run(command: ProviderCommand) -> anyhow::Result<()> {
    match command {
        ProviderCommand::Ls(options) => list(&options),
        ProviderCommand::Show { name, options } => show(&name, &options),
        ProviderCommand::Check { file } => {
            let book = read(&file)?;
            let (receivers, rules) = (book.receivers.len(), book.all_rules().count());
            print(&format!("{}: no faults ({receivers} providers, {rules} rules)\n", file.display()))
        }
        ProviderCommand::Test { reply, mx, stage, options } => test(&reply, (&mx, stage.into()), &options),
    }
}

fn list(options: &Options) -> anyhow::Result<()> {
    let book = options.book()?;
    if !options.json {
        print(&format!("{:<20} {:>11} {:>9} {:>5} TITLE\n", "NAME", "CONNECTIONS", "MESSAGES", "RULES"))?;
    }
    let figure = |number: Option<u32>| number.map_or("-".into(), |number| number.to_string());
    for receiver in &book.receivers {
        let Receiver { name, title, mx, connections, messages_per_connection, source, date, rules, .. } =
            receiver;
        let value = json!({
            "name": name, "title": title, "mx": mx, "connections": connections,
            "messages_per_connection": messages_per_connection, "shared": receiver.is_shared, "rules": rules.len(), "source": source, "date": date,
        });
        let (connections, messages) = (figure(*connections), figure(*messages_per_connection));
        options
            .tell(&value, format!("{name:<20} {connections:>11} {messages:>9} {:>5} {title}", rules.len()))?;
    }
    Ok(())
}

fn show(name: &str, options: &Options) -> anyhow::Result<()> {
    let book = options.book()?;
    let receiver = book.receivers.iter().find(|receiver| &*receiver.name == name);
    let rules = match receiver {
        Some(receiver) => {
            if !options.json {
                let (title, mx) = (&receiver.title, receiver.mx.join(" "));
                print(&format!("{title}\nhosts: {mx}\nfigures: {} ({})\n", receiver.source, receiver.date))?;
            }
            &receiver.rules
        }
        None if name == "any" => &book.rules,
        None => bail!("no provider `{name}`: `barid provider ls` lists them"),
    };
    for rule in rules {
        let value = json!({
            "id": rule.id, "meaning": rule.meaning.as_str(), "scope": rule.concern.as_str(), "source": rule.source,
            "date": rule.date,
        });
        options.tell(&value, told(rule))?;
    }
    Ok(())
}

fn told(rule: &Rule) -> String {
    let Rule { id, meaning, concern, source, date, .. } = rule;
    format!("{id:<36} {:<14} {:<11} {source} ({date})", meaning.as_str(), concern.as_str())
}

fn test(text: &str, (mx, stage): (&str, Stage), options: &Options) -> anyhow::Result<()> {
    let reply = Reply::parse(text)
        .with_context(|| format!("`{text}` is no reply such as `550 5.1.1 no such user`"))?;
    let classifier = Classifier::new(options.book()?);
    let Some(judged) = classifier.judge(mx, &Verdict { reply, stage }) else {
        bail!("`{text}` refuses nothing");
    };
    let (meaning, scope, action) = (judged.meaning.as_str(), judged.concern.as_str(), judged.remedy.as_str());
    let value = json!({
        "meaning": meaning, "scope": scope, "action": action, "rule": judged.rule, "provider": judged.receiver,
    });
    let by = match (&judged.rule, &judged.receiver) {
        (Some(rule), Some(receiver)) => format!("rule {rule}, at {receiver}"),
        (Some(rule), None) => format!("rule {rule}"),
        (None, _) => "no rule: the reply's digits".into(),
    };
    options.tell(&value, format!("meaning {meaning}, scope {scope}, action {action} ({by})"))
}
