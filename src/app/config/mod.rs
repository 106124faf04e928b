//! The configuration: its settings, the files in which they stand, and their translation into each room's.
//!
//! ```text
//! source (files, includes) -> node (values and their places) -> reader + schema (settings, faults)
//!   -> translate (what each room wants)
//! ```
//!
//! A setting is declared once, in `schema`: what reads it, the example and the documentation follow from that.
//! Faults name file, line and key, say what is allowed, and come all at once.

mod checks;
mod describe;
mod fault;
mod node;
mod reader;
mod schema;
mod section;
mod show;
mod source;
#[cfg(test)]
mod tests;
mod translate;
mod units;
mod value;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;

pub(super) use describe::{documentation, example, minimal_example};
pub(super) use fault::{ConfigFaults, Fault};
pub(super) use reader::{Change, Setting};
pub(super) use show::{json as setting_json, told as setting_told};

use super::certificates::AcmeSettings;
use crate::accounts::Clients;
use crate::inbound::{ConnectionLimits, Patience};
use crate::mail::Domain;
use crate::net::DnsSettings;
use crate::outbound;
use crate::reports::ReportSettings;
use crate::smtp::{Limits, StartTls};
use crate::store;

pub(super) use units::Span;

use reader::{Fields, Reader};
use schema::ConfigFile;
use source::Sources;

/// Where the configuration is looked for.
pub(super) const DEFAULT_PATH: &str = "/etc/barid/barid.toml";

/// A configuration that makes sense.
#[derive(Debug)]
pub(super) struct Config {
    pub(super) data_dir: PathBuf,
    pub(super) hostname: Domain,
    pub(super) relay_listeners: Vec<RelayListener>,
    pub(super) admin_listeners: Vec<SocketAddr>,
    pub(super) clients: Clients,
    pub(super) limits: Limits,
    pub(super) connections: ConnectionLimits,
    pub(super) patience: Patience,
    pub(super) tls: TlsFiles,
    pub(super) acme: AcmeSettings,
    pub(super) dkim: Dkim,
    pub(super) dns: DnsSettings,
    pub(super) outbound: outbound::Settings,
    /// Who reports on TLS; nobody where nothing is reported.
    pub(super) reports: Option<ReportSettings>,
    pub(super) store: store::Settings,
    /// Every setting that it was made from.
    pub(super) settings: Vec<Setting>,
    /// The main file, where it was read from one.
    pub(super) file: Option<PathBuf>,
    /// File descriptors that the process may have, where there is a limit: no setting, but a bound to some.
    pub(super) files_max: Option<usize>,
}

/// Where mail is taken, and how.
#[derive(Clone, Debug)]
pub(super) struct RelayListener {
    pub(super) address: SocketAddr,
    pub(super) tls: StartTls,
    pub(super) proxies: Vec<IpNet>,
}

/// Files of TLS.
#[derive(Clone, Debug)]
pub(super) struct TlsFiles {
    /// Chain and key of each certificate; one is made where there is none.
    pub(super) certificates: Vec<(PathBuf, PathBuf)>,
    /// How often it is looked whether they have changed.
    pub(super) watch_interval: Duration,
    /// Roots beside the public ones.
    pub(super) extra_ca: Vec<PathBuf>,
}

/// Which mail is signed, and how keys are looked after.
#[derive(Clone, Debug)]
pub(super) struct Dkim {
    /// Whose keys sign for authors whose domain has none.
    pub(super) fallback: Option<Domain>,
    /// Whether mail is refused that no key signs.
    pub(super) is_required: bool,
    /// How often the DNS is asked for the keys' records.
    pub(super) check_interval: Duration,
}

impl Config {
    /// Reads and checks a file and what it includes.
    pub(super) fn load(path: &Path) -> Result<Self, ConfigFaults> {
        Ok(Config { file: Some(path.to_owned()), ..Self::of(source::read(path))? })
    }

    /// Checks a text; `name` stands for it in messages.
    pub(super) fn parse(name: &str, text: &str) -> Result<Self, ConfigFaults> {
        Self::of(source::read_text(name, text))
    }

    fn of(sources: Sources) -> Result<Self, ConfigFaults> {
        let mut reader = Reader::new(&sources);
        let file = ConfigFile::read_fields(&Fields::of(&sources.root, None), &mut reader);
        let config = file.and_then(translate::translate);
        let Reader { faults, settings, .. } = reader;
        let mut faults: Vec<_> = sources.faults.iter().cloned().chain(faults).collect();
        match config {
            Some(config) if faults.is_empty() => Ok(Config { settings, ..config }),
            _ => {
                faults.sort_by_key(|(place, _)| *place);
                Err(ConfigFaults(faults.into_iter().map(|(_, fault)| fault).collect()))
            }
        }
    }
}
