//! The command line.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::config::{Config, DEFAULT_PATH};
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
    /// Looks after the data directory of a relay that is not running.
    #[command(subcommand)]
    Spool(SpoolCommand),
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

/// Runs the program: 0 for success, 1 for failure, 2 for a wrong command line.
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
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // each fault of a configuration is a line of its own
            eprintln!("barid: {}", format!("{error:#}").replace('\n', "\nbarid: "));
            ExitCode::FAILURE
        }
    }
}
