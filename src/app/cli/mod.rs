//! The command line.

mod domain;
mod pages;
mod queue;
mod remote;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum};

use self::remote::Remote;
use super::config::{Config, DEFAULT_PATH};
use super::control::call::CallError;
use super::{demo, serve, spool};
use crate::observe::LogFormat;

/// A mail relay that guards its owner's sending reputation by itself.
#[derive(Parser)]
#[command(name = "barid", version, about, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the relay.
    #[command(after_help = "Example:\n  barid serve --config /etc/barid/barid.toml")]
    Serve {
        #[command(flatten)]
        config: ConfigOption,
        /// The form of log lines.
        #[arg(long, value_enum, default_value_t)]
        log_format: LogFormatOption,
    },
    /// Shows the relay at work: simulated destinations that misbehave, and 2,000 messages.
    #[command(after_help = "Examples:\n  barid demo\n  barid demo --once --messages 500")]
    Demo(demo::Options),
    /// Looks at the configuration.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Looks at messages that wait or are held, and says what becomes of them.
    Queue {
        #[command(subcommand)]
        command: queue::QueueCommand,
        #[command(flatten)]
        remote: Remote,
    },
    /// Looks at destinations, and stops or resumes their mail.
    Domain {
        #[command(subcommand)]
        command: domain::DomainCommand,
        #[command(flatten)]
        remote: Remote,
    },
    /// Shows the way of a message to an address, without sending one.
    #[command(after_help = "Examples:\n  barid trace someone@example.net\n  \
        barid trace someone@example.net --probe --from me@example.org")]
    Trace {
        #[command(flatten)]
        options: domain::TraceOptions,
        #[command(flatten)]
        remote: Remote,
    },
    /// Shows what is in the queue and what went through: who sends most, where most waits.
    #[command(after_help = "Examples:\n  barid stats\n  barid stats --limit 100 --json")]
    Stats {
        /// Clients and domains told at most (default 10).
        #[arg(long)]
        limit: Option<u64>,
        #[command(flatten)]
        remote: Remote,
    },
    /// Looks after the data directory of a relay that is not running.
    #[command(subcommand)]
    Spool(SpoolCommand),
    /// Prints the completions of a shell.
    #[command(after_help = "Example:\n  barid completions bash > /etc/bash_completion.d/barid")]
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Prints the manual, or writes a page for each command.
    #[command(after_help = "Examples:\n  barid man | man -l -\n  barid man --dir /usr/local/share/man/man1")]
    Man(pages::ManOptions),
}

#[derive(Subcommand)]
enum ConfigCommand {
    /// Reads the file and tells everything that is wrong with it.
    Check {
        #[command(flatten)]
        config: ConfigOption,
    },
}

#[derive(Subcommand)]
enum SpoolCommand {
    /// Reads every row and every body and checks them; changes no mail.
    Verify(SpoolOptions),
    /// Finds the index again from the log.
    Rebuild(SpoolOptions),
}

#[derive(Args)]
struct SpoolOptions {
    #[command(flatten)]
    config: ConfigOption,
    /// One JSON object instead of text.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct ConfigOption {
    /// The configuration file.
    #[arg(long, value_name = "FILE", default_value = DEFAULT_PATH)]
    config: PathBuf,
}

#[derive(Clone, Copy, Default, ValueEnum)]
enum LogFormatOption {
    /// key=value pairs.
    #[default]
    Logfmt,
    /// One JSON object a line.
    Json,
}

impl From<LogFormatOption> for LogFormat {
    fn from(option: LogFormatOption) -> Self {
        match option {
            LogFormatOption::Logfmt => LogFormat::Logfmt,
            LogFormatOption::Json => LogFormat::Json,
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let broken = |error: &std::io::Error| error.kind() == std::io::ErrorKind::BrokenPipe;
    error.chain().any(|cause| match cause.downcast_ref() {
        Some(CallError::Io(error)) => broken(error),
        _ => cause.downcast_ref().is_some_and(broken),
    })
}

/// What `sysexits.h` calls EX_UNAVAILABLE: there is no relay to ask.
const NO_SERVER: u8 = 69;

/// Runs the program: 0 for success, 1 for failure, 2 for a wrong command line, 69 where no relay answers.
pub fn run() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Serve { config, log_format } => serve::serve(&config.config, log_format.into()),
        Command::Demo(options) => demo::demo(&options),
        Command::Config(ConfigCommand::Check { config }) => Config::load(&config.config)
            .map(|_| println!("{}: no faults", config.config.display()))
            .map_err(Into::into),
        Command::Spool(SpoolCommand::Verify(options)) => spool::verify(&options.config.config, options.json),
        Command::Spool(SpoolCommand::Rebuild(options)) => {
            spool::rebuild(&options.config.config, options.json)
        }
        Command::Queue { command, remote } => queue::run(command, &remote),
        Command::Domain { command, remote } => domain::run(command, &remote),
        Command::Trace { options, remote } => domain::trace(options, &remote),
        Command::Stats { limit, remote } => domain::stats(limit, &remote),
        Command::Completions { shell } => {
            pages::completions(shell, Cli::command());
            Ok(())
        }
        Command::Man(options) => pages::man(options, Cli::command()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        // a reader that has seen enough (`| head`)
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            // each fault of a configuration is a line of its own
            eprintln!("barid: {}", format!("{error:#}").replace('\n', "\nbarid: "));
            match error.downcast_ref() {
                Some(CallError::NoServer(..)) => ExitCode::from(NO_SERVER),
                _ => ExitCode::FAILURE,
            }
        }
    }
}
