//! The command line.

mod cert;
mod dkim;
mod domain;
mod pages;
mod provider;
mod queue;
mod reload;
mod remote;
mod tlsrpt;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum};

use self::remote::Remote;
use super::config::{self, Config, ConfigFaults, DEFAULT_PATH};
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
    /// Shows the relay's certificates, and replaces those that come by ACME.
    Cert {
        #[command(subcommand)]
        command: cert::CertificateCommand,
        #[command(flatten)]
        remote: Remote,
    },
    /// Makes, shows and replaces the keys that sign mail (DKIM).
    Dkim {
        #[command(subcommand)]
        command: dkim::DkimCommand,
        #[command(flatten)]
        remote: Remote,
    },
    /// Shows what is known of receivers, and what their replies mean.
    #[command(subcommand)]
    Provider(provider::ProviderCommand),
    /// Looks at reports on TLS that wait to be sent to the domains that want them (TLS-RPT).
    Tlsrpt {
        #[command(subcommand)]
        command: tlsrpt::TlsReportCommand,
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
    /// Has the relay that runs read its configuration again.
    ///
    /// What can change does, at once; what needs a restart is named; a faulty file changes nothing.
    #[command(after_help = "Example:\n  barid config check && barid reload")]
    Reload(Remote),
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
    /// Reads the file and those that it includes, and tells everything that is wrong with them.
    #[command(after_help = "\
Examples:
  barid config check
  barid config check --config new.toml --json | jq -r '.file + \":\" + (.line|tostring)'

It exits with 1 where there are faults. With --json each fault is an object of file, line, key, value,
why and remedy.")]
    Check {
        #[command(flatten)]
        config: ConfigOption,
        /// One JSON object for each fault.
        #[arg(long)]
        json: bool,
    },
    /// Shows what is in force, defaults included, and where each value was set.
    #[command(after_help = "\
Examples:
  barid config show
  barid config show --json | jq -r 'select(.is_default | not) | .key'

Of a text that is kept elsewhere ({ file = ... } or { env = ... }) it shows only where that is.")]
    Show {
        #[command(flatten)]
        config: ConfigOption,
        /// One JSON object for each setting.
        #[arg(long)]
        json: bool,
    },
    /// Prints a commented file with every setting and its default.
    #[command(after_help = "Example:\n  barid config example >/etc/barid/barid.toml")]
    Example {
        /// The smallest file that makes sense instead.
        #[arg(long)]
        minimal: bool,
    },
    /// Prints the documentation of every setting, in Markdown.
    Docs,
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
        Command::Config(command) => return configuration(&command),
        Command::Spool(SpoolCommand::Verify(options)) => spool::verify(&options.config.config, options.json),
        Command::Spool(SpoolCommand::Rebuild(options)) => {
            spool::rebuild(&options.config.config, options.json)
        }
        Command::Queue { command, remote } => queue::run(command, &remote),
        Command::Domain { command, remote } => domain::run(command, &remote),
        Command::Cert { command, remote } => cert::run(command, &remote),
        Command::Dkim { command, remote } => dkim::run(command, &remote),
        Command::Provider(command) => provider::run(command),
        Command::Tlsrpt { command, remote } => tlsrpt::run(command, &remote),
        Command::Trace { options, remote } => domain::trace(options, &remote),
        Command::Stats { limit, remote } => domain::stats(limit, &remote),
        Command::Reload(remote) => reload::run(&remote),
        Command::Completions { shell } => {
            pages::completions(shell, Cli::command());
            Ok(())
        }
        Command::Man(options) => pages::man(options, Cli::command()),
    };
    exit(outcome)
}

fn exit(outcome: anyhow::Result<()>) -> ExitCode {
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

fn configuration(command: &ConfigCommand) -> ExitCode {
    let (config, json) = match command {
        ConfigCommand::Check { config, json } | ConfigCommand::Show { config, json } => {
            (&config.config, *json)
        }
        ConfigCommand::Example { minimal: true } => return exit(print(&config::minimal_example())),
        ConfigCommand::Example { minimal: false } => return exit(print(&config::example())),
        ConfigCommand::Docs => return exit(print(&config::documentation())),
    };
    let is_check = matches!(command, ConfigCommand::Check { .. });
    match Config::load(config) {
        Err(ConfigFaults(faults)) if json => {
            let told: Vec<String> =
                faults.iter().map(|fault| format!("{}\n", serde_json::json!(fault))).collect();
            // the faults count, whether or not anybody reads to their end
            let _ = print(&told.concat());
            ExitCode::FAILURE
        }
        Err(faults) => exit(Err(faults.into())),
        Ok(_) if is_check && json => ExitCode::SUCCESS,
        Ok(_) if is_check => exit(print(&format!("{}: no faults\n", config.display()))),
        Ok(good) => {
            let told = |setting| match json {
                true => format!("{}\n", config::setting_json(setting)),
                false => format!("{}\n", config::setting_told(setting)),
            };
            exit(print(&good.settings.iter().map(told).collect::<String>()))
        }
    }
}

/// Prints; that nobody reads to the end (`| head`) is no failure.
fn print(text: &str) -> anyhow::Result<()> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}
