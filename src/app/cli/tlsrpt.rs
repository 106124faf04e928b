//! `barid tlsrpt`.

use clap::Subcommand;
use serde_json::{Value, json};

use super::remote::{Remote, distance, number, text};
use crate::app::control::wire::TlsReportRequest;

/// Looks at reports on TLS (TLS-RPT) that wait to be sent.
#[derive(Subcommand)]
pub(super) enum TlsReportCommand {
    /// Lists the days of domains that want reports and were not told yet.
    #[command(after_help = "Examples:\n  barid tlsrpt ls\n  barid tlsrpt ls --json")]
    Ls,
    /// Shows a report as it would be sent now, in JSON.
    #[command(
        after_help = "Examples:\n  barid tlsrpt show example.net\n  barid tlsrpt show example.net --day 2026-11-20"
    )]
    Show {
        /// The domain that it is for.
        domain: String,
        /// The day, in UTC (default today).
        #[arg(long, value_name = "DAY")]
        day: Option<String>,
    },
}

pub(super) fn run(command: TlsReportCommand, remote: &Remote) -> anyhow::Result<()> {
    match command {
        TlsReportCommand::Ls => {
            remote.heading(&format!(
                "{:<10} {:>10} {:>10} {:>6} DOMAIN",
                "DAY", "SUCCESSFUL", "FAILED", "DUE IN"
            ))?;
            let mut row = |row: &Value| {
                let (day, domain, due) = (text(row, "day"), text(row, "domain"), distance(row, "due"));
                let (successful, failed) = (number(row, "successful"), number(row, "failed"));
                format!("{day:<10} {successful:>10} {failed:>10} {due:>6} {domain}")
            };
            let mut end = |end: &Value| format!("{} to be reported", number(end, "listed"));
            remote.list("tlsrpt/ls", &json!({}), &mut row, &mut end)
        }
        TlsReportCommand::Show { domain, day } => {
            let mut end = |report: &Value| serde_json::to_string_pretty(report).unwrap_or_default();
            let request = TlsReportRequest { domain, day };
            remote.ask("tlsrpt/show", &request, &mut |_| String::new(), &mut end).map(drop)
        }
    }
}
