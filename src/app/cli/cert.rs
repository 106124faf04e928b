//! `barid cert`.

use clap::Subcommand;
use serde_json::Value;

use super::remote::{Remote, distance, is_over, number, text};
use crate::app::control::wire::CertificateRequest;

/// Shows the relay's certificates, and replaces those that come by ACME.
#[derive(Subcommand)]
pub(super) enum CertificateCommand {
    /// Lists the certificates that clients are shown.
    #[command(after_help = "Examples:\n  barid cert ls\n  barid cert ls --json | jq -r .not_after")]
    Ls,
    /// Has new certificates signed now, and shows them. Open sessions go on.
    #[command(after_help = "Examples:\n  barid cert renew\n  barid cert renew mx.example.org --new-key\n\n\
        A new key makes TLSA records of the former void: publish `barid cert tlsa` at once.")]
    Renew {
        /// For these of `[acme] domains`; for all where none is named.
        domains: Vec<String>,
        /// For a new key.
        #[arg(long)]
        new_key: bool,
    },
    /// Prints TLSA records for the keys of the certificates, as zone files have them (DANE).
    #[command(after_help = "Examples:\n  barid cert tlsa\n  barid cert tlsa mx.example.org --port 587\n\n\
        They help only in a zone that is signed (DNSSEC), and hold as long as the key does: see `[acme] keep_key`.")]
    Tlsa {
        /// For this name; for all where none is named.
        domain: Option<String>,
        /// The port that they are for.
        #[arg(long, default_value_t = 25)]
        port: u16,
    },
}

pub(super) fn run(command: CertificateCommand, remote: &Remote) -> anyhow::Result<()> {
    match command {
        CertificateCommand::Ls => list(remote),
        CertificateCommand::Renew { domains, new_key } => {
            let request = CertificateRequest { domains, new_key };
            let mut row = |row: &Value| match row.get("error").and_then(Value::as_str) {
                Some(error) => format!("{}: {error}", text(row, "domain")),
                None => format!("{}: renewed", text(row, "domain")),
            };
            remote.list("cert/renew", &request, &mut row, &mut |_| String::new())
        }
        CertificateCommand::Tlsa { domain, port } => {
            let request = CertificateRequest { domains: domain.into_iter().collect(), new_key: false };
            let mut row =
                |row: &Value| format!("_{port}._tcp.{}. IN TLSA {}", text(row, "name"), text(row, "record"));
            remote.list("cert/tlsa", &request, &mut row, &mut |_| String::new())
        }
    }
}

fn list(remote: &Remote) -> anyhow::Result<()> {
    remote.heading(&format!("{:<11} {:>10} {:>10} NAMES", "ORIGIN", "EXPIRES IN", "RENEWED IN"))?;
    let mut row = |row: &Value| {
        let names = row.get("names").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let names: Vec<&str> = names.iter().filter_map(Value::as_str).collect();
        let time = |key: &str, past: &str| if is_over(row, key) { past.into() } else { distance(row, key) };
        let (expires, renewed) = (time("not_after", "expired"), time("renew_at", "overdue"));
        let mut line = format!("{:<11} {expires:>10} {renewed:>10} {}", text(row, "origin"), names.join(" "));
        if let Some(error) = row.get("error").and_then(Value::as_str) {
            let next =
                if is_over(row, "next") { "now".into() } else { format!("in {}", distance(row, "next")) };
            line.push_str(&format!("\n  {error}\n  it is tried again {next}"));
        }
        line
    };
    let mut end = |end: &Value| format!("{} shown", number(end, "listed"));
    remote.list("cert/ls", &serde_json::json!({}), &mut row, &mut end)
}
