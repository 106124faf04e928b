//! `barid dkim`: keys that sign.
//!
//! The commands change the ring in the data directory themselves, so that keys can be made before the first
//! start; a relay that runs is told to look at once.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail};
use clap::{Args, Subcommand, ValueEnum};
use rustix::fs::{Gid, Uid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
use serde_json::{Value, json};

use super::remote::{Remote, block_on, distance, text};
use crate::app::config::Config;
use crate::app::control::call::{self, CallError};
use crate::app::control::{SOCKET, iso};
use crate::app::parts::kept_after_retiring;
use crate::authentication::{
    Algorithm, Entry, KeyRing, MadeKey, RingError, Seen, Selector, Stage, Verdict, View, look_up,
    sign_and_verify,
};
use crate::clock::{Clock, Timestamp};
use crate::mail::Domain;
use crate::net::{DnsSettings, HickoryResolver};

/// Makes, shows and replaces the keys that sign mail.
#[derive(Subcommand)]
pub(super) enum DkimCommand {
    /// Makes the first keys of a domain, and prints the records to be put into its DNS.
    #[command(after_help = "\
Examples:
  barid dkim generate example.org
  barid dkim generate example.org --algorithm rsa --selector mail2026

A key signs once the DNS shows its record, and everybody can see that; `barid dkim list` tells how far it is.")]
    Generate {
        /// The domain in From.
        domain: String,
        #[command(flatten)]
        which: Which,
        /// Its name; else it is made of the day and the algorithm.
        #[arg(long)]
        selector: Option<String>,
    },
    /// Takes a key that was in use elsewhere (PEM), under the selector that the DNS has it by. It signs as soon as
    /// its record is seen there.
    #[command(after_help = "Example:\n  barid dkim import example.org mail /etc/opendkim/keys/mail.private")]
    Import {
        /// The domain in From.
        domain: String,
        /// Its name in the DNS.
        selector: String,
        /// The private key.
        file: PathBuf,
    },
    /// Lists the keys, and how far each has come.
    #[command(after_help = "\
Examples:
  barid dkim list
  barid dkim list example.org --json

published: the DNS does not show it yet; waiting: not everybody can see it yet; active: it signs; retiring: its
record has to stay for mail that is under way; removed: its record may go.")]
    List {
        /// Of this domain alone.
        domain: Option<String>,
    },
    /// Prints the records of a domain's keys, as lines of a zone file.
    #[command(after_help = "Example:\n  barid dkim show example.org >> zones/example.org")]
    Show {
        /// The domain.
        domain: String,
    },
    /// Makes a domain's next keys: each takes its predecessor's place when the DNS shows it.
    #[command(after_help = "Example:\n  barid dkim rotate example.org")]
    Rotate {
        /// The domain.
        domain: String,
    },
    /// Takes a key out of service.
    #[command(after_help = "Example:\n  barid dkim retire example.org 20260101-rsa")]
    Retire {
        /// The domain.
        domain: String,
        /// The key's selector.
        selector: String,
        /// Also the last one that signs: mail of this domain leaves unsigned then.
        #[arg(long)]
        force: bool,
    },
    /// Signs with each key of a domain and verifies that by what the DNS shows now.
    #[command(
        after_help = "Example:\n  barid dkim test example.org\n\nIt exits with 1 where an active key fails."
    )]
    Test {
        /// The domain.
        domain: String,
    },
}

/// Which keys are made.
#[derive(Args)]
pub(super) struct Which {
    /// The kind of key: one of each is what most receivers make the most of.
    #[arg(long, value_enum, default_value_t)]
    algorithm: AlgorithmOption,
}

#[derive(Clone, Copy, Default, ValueEnum)]
enum AlgorithmOption {
    /// RSA with 2048 bits, which everybody understands.
    Rsa,
    /// Ed25519: short and fast, and not understood by everybody.
    Ed25519,
    /// One of each.
    #[default]
    Both,
}

impl AlgorithmOption {
    fn all(self) -> &'static [Algorithm] {
        match self {
            AlgorithmOption::Rsa => &[Algorithm::Rsa],
            AlgorithmOption::Ed25519 => &[Algorithm::Ed25519],
            AlgorithmOption::Both => &Algorithm::ALL,
        }
    }
}

/// Where the keys are, and what goes for them.
struct Ring<'a> {
    ring: KeyRing,
    data_dir: PathBuf,
    /// Where it has no faults: a stolen key must be retired all the same.
    config: Option<Config>,
    remote: &'a Remote,
    now: Timestamp,
}

pub(super) fn run(command: DkimCommand, remote: &Remote) -> anyhow::Result<()> {
    let data_dir = remote.data_dir()?;
    let imported = match &command {
        DkimCommand::Import { file, .. } => {
            let text = fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
            Some(MadeKey::read(&text).with_context(|| file.display().to_string())?)
        }
        _ => None,
    };
    let config = Config::load(&remote.config).ok();
    become_owner_of(&data_dir)?;
    let ring = Ring { ring: KeyRing::of(&data_dir), data_dir, config, remote, now: Clock::System.now() };
    match command {
        DkimCommand::Generate { domain, which, selector } => {
            ring.generate(&parsed(&domain)?, which.algorithm.all(), selector.as_deref())
        }
        DkimCommand::Import { domain, selector, .. } => {
            imported.map_or(Ok(()), |key| ring.import(&parsed(&domain)?, &selector, &key))
        }
        DkimCommand::List { domain } => ring.list(domain.as_deref().map(parsed).transpose()?.as_ref()),
        DkimCommand::Show { domain } => ring.show(&parsed(&domain)?),
        DkimCommand::Rotate { domain } => ring.rotate(&parsed(&domain)?),
        DkimCommand::Retire { domain, selector, force } => ring.retire(&parsed(&domain)?, &selector, force),
        DkimCommand::Test { domain } => ring.test(&parsed(&domain)?),
    }
}

/// What a superuser does to the keys is done as the relay's own user, whose directory they are in: what is made is that
/// user's to read, and no link that lies there leads further than they may go.
fn become_owner_of(data_dir: &Path) -> anyhow::Result<()> {
    let found = fs::metadata(data_dir).with_context(|| {
        format!(
            "the data directory {}; it is made by the first start of the relay, and belongs to its user",
            data_dir.display()
        )
    })?;
    if !rustix::process::geteuid().is_root() || found.uid() == 0 {
        return Ok(());
    }
    let (uid, gid) = (Uid::from_raw(found.uid()), Gid::from_raw(found.gid()));
    set_thread_groups(&[])?;
    set_thread_res_gid(gid, gid, gid)?;
    Ok(set_thread_res_uid(uid, uid, uid)?)
}

fn parsed(domain: &str) -> anyhow::Result<Domain> {
    Domain::parse(domain).with_context(|| format!("{domain:?} is no domain"))
}

impl Ring<'_> {
    /// The keys of a domain.
    fn of(&self, domain: &Domain) -> anyhow::Result<Vec<Entry>> {
        let all = self.ring.read()?;
        Ok(all.into_iter().filter(|entry| entry.domain == *domain).collect())
    }

    fn generate(
        &self,
        domain: &Domain,
        algorithms: &[Algorithm],
        selector: Option<&str>,
    ) -> anyhow::Result<()> {
        let selector = selector.map(Selector::parse).transpose()?;
        if selector.is_some() && algorithms.len() > 1 {
            bail!("a selector names one key: say which with --algorithm rsa or --algorithm ed25519");
        }
        let there = self.of(domain)?;
        let lives = |entry: &&Entry| {
            algorithms.contains(&entry.algorithm)
                && !matches!(entry.stage, Stage::Retiring { .. } | Stage::Removed)
        };
        if let Some(entry) = there.iter().find(lives) {
            let (kind, name) = (entry.algorithm, &entry.selector);
            bail!(
                "{domain} has an {kind} key already, {name}: `barid dkim rotate {domain}` makes its successor"
            );
        }
        self.make(domain, algorithms, selector.as_ref())
    }

    fn rotate(&self, domain: &Domain) -> anyhow::Result<()> {
        let there = self.of(domain)?;
        let has = |algorithm: Algorithm, is_it: fn(Stage) -> bool| {
            there.iter().any(|entry| entry.algorithm == algorithm && is_it(entry.stage))
        };
        let signs = |algorithm| has(algorithm, |stage| matches!(stage, Stage::Active { .. }));
        let is_coming =
            |algorithm| has(algorithm, |stage| matches!(stage, Stage::Published | Stage::Waiting { .. }));
        if !Algorithm::ALL.into_iter().any(signs) {
            bail!("{domain} has no key that signs: `barid dkim generate {domain}` makes its first");
        }
        let wanted =
            Algorithm::ALL.into_iter().filter(|algorithm| signs(*algorithm) && !is_coming(*algorithm));
        let wanted: Vec<Algorithm> = wanted.collect();
        if wanted.is_empty() {
            bail!(
                "{domain} has its next keys on their way already: `barid dkim show {domain}` prints their records, \
                `barid dkim retire {domain} SELECTOR` drops one"
            );
        }
        self.make(domain, &wanted, None)
    }

    /// Makes keys, and tells what is to be done with them.
    fn make(
        &self,
        domain: &Domain,
        algorithms: &[Algorithm],
        selector: Option<&Selector>,
    ) -> anyhow::Result<()> {
        let keys: Vec<MadeKey> =
            algorithms.iter().map(|algorithm| MadeKey::generate(*algorithm)).collect::<Result<_, _>>()?;
        let made = self.ring.add(domain, selector, &keys, self.now)?;
        self.wake("generate", domain);
        for entry in &made {
            self.print_record(entry)?;
        }
        if !self.remote.json {
            eprintln!(
                "barid: put {} into the DNS; the relay signs with {} once everybody can see that",
                if made.len() == 1 { "this record" } else { "these records" },
                if made.len() == 1 { "its key" } else { "their keys" },
            );
        }
        Ok(())
    }

    fn import(&self, domain: &Domain, selector: &str, key: &MadeKey) -> anyhow::Result<()> {
        let entry = self.ring.take_over(domain, &Selector::parse(selector)?, key, self.now)?;
        self.wake("import", domain);
        self.print_record(&entry)
    }

    fn list(&self, domain: Option<&Domain>) -> anyhow::Result<()> {
        self.remote.heading("stage      since  DNS      kind     selector             domain")?;
        for entry in self.ring.read()? {
            if domain.is_some_and(|domain| *domain != entry.domain) {
                continue;
            }
            let mut row = |told: &Value| {
                format!(
                    "{:<9} {:>6}  {:<7}  {:<7}  {:<19}  {}",
                    text(told, "stage"),
                    distance(told, "at"),
                    text(told, "dns"),
                    text(told, "algorithm"),
                    text(told, "selector"),
                    text(told, "domain"),
                )
            };
            self.remote.print(&summary(&entry), &mut row)?;
        }
        Ok(())
    }

    /// The keys of a domain whose private half there still is.
    fn kept(&self, domain: &Domain) -> anyhow::Result<Vec<Entry>> {
        let kept: Vec<Entry> =
            self.of(domain)?.into_iter().filter(|entry| entry.stage != Stage::Removed).collect();
        if kept.is_empty() {
            bail!("{domain} has no keys: `barid dkim generate {domain}` makes its first");
        }
        Ok(kept)
    }

    fn show(&self, domain: &Domain) -> anyhow::Result<()> {
        // one that does not read does not hide the others
        let printed: Vec<anyhow::Result<()>> =
            self.kept(domain)?.iter().map(|entry| self.print_record(entry)).collect();
        printed.into_iter().collect()
    }

    fn retire(&self, domain: &Domain, selector: &str, force: bool) -> anyhow::Result<()> {
        let selector = Selector::parse(selector)?;
        let keep = kept_after_retiring(self.config.as_ref());
        let retired = self.ring.retire((domain, &selector), force, (self.now, keep));
        let entry = retired.map_err(|error| match error {
            RingError::Last { .. } => anyhow!("{error}: its mail would leave without (--force)"),
            error => error.into(),
        })?;
        self.wake("retire", domain);
        let mut told = |told: &Value| match entry.stage {
            Stage::Removed => format!("{selector} is gone; its record may go"),
            _ => format!("{selector} signs no more; its record has to stay until {}", text(told, "at")),
        };
        Ok(self.remote.print(&summary(&entry), &mut told)?)
    }

    fn test(&self, domain: &Domain) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let settings = self.config.as_ref().map_or(DnsSettings::default(), |config| config.dns.clone());
        // what is looked at is what anybody sees
        let settings = DnsSettings { validates: false, ..settings };
        let resolver = HickoryResolver::new(&settings).context("setting up the resolver")?;
        let mut failed = 0;
        for entry in self.kept(domain)? {
            let (view, verdict) = match self.ring.key(&entry) {
                Ok(key) => runtime.block_on(async {
                    let view = look_up(&key, &resolver).await;
                    (view, sign_and_verify(key, &resolver, self.now).await)
                }),
                Err(error) => (View::Unknown, Verdict::Fail(error.to_string().into())),
            };
            failed += usize::from(verdict != Verdict::Pass && matches!(entry.stage, Stage::Active { .. }));
            self.remote.print(&tested(&entry, view, verdict), &mut test_in_words)?;
        }
        if failed > 0 {
            bail!("{failed} of the keys that sign for {domain} fail");
        }
        Ok(())
    }

    /// Prints the record that the DNS is to show, as a line of a zone file; as JSON everything there is to tell.
    fn print_record(&self, entry: &Entry) -> anyhow::Result<()> {
        let key = self.ring.key(entry)?;
        let mut told = summary(entry);
        told["name"] = json!(format!("{}._domainkey.{}", entry.selector, entry.domain));
        (told["record"], told["zone_line"]) = (json!(key.record()), json!(key.zone_line()));
        Ok(self.remote.print(&told, &mut |told| text(told, "zone_line").to_owned())?)
    }

    /// Has a relay that runs look at once; without one there is nobody to tell.
    fn wake(&self, act: &str, domain: &Domain) {
        let socket = self.remote.socket.clone().unwrap_or_else(|| self.data_dir.join(SOCKET));
        let request = json!({ "act": act, "domain": domain.as_str() });
        match block_on(call::ask(&socket, "dkim/wake", &request, &mut |_| Ok(()))) {
            Ok(Ok(_) | Err(CallError::NoServer(..))) => {}
            Ok(Err(error)) => tell_not_woken(&error.to_string()),
            Err(error) => tell_not_woken(&error.to_string()),
        }
    }
}

fn tell_not_woken(why: &str) {
    // it looks by itself before long
    let _ = writeln!(std::io::stderr(), "barid: the relay that runs was not told: {why}");
}

/// What a test found.
fn tested(entry: &Entry, view: View, verdict: Verdict) -> Value {
    let mut told = summary(entry);
    told["dns"] = json!(match view {
        View::Seen(seen, _) => seen_name(seen),
        View::Unknown => "unknown",
    });
    (told["verdict"], told["why"]) = match verdict {
        Verdict::Pass => (json!("pass"), Value::Null),
        Verdict::Fail(why) => (json!("fail"), json!(why)),
        Verdict::Unsure(why) => (json!("unsure"), json!(why)),
    };
    told
}

fn test_in_words(told: &Value) -> String {
    let shown = match text(told, "dns") {
        "right" => "its record",
        "missing" => "no record",
        "other" => "another record",
        _ => "nothing: it does not answer",
    };
    let verdict = match text(told, "verdict") {
        "pass" => "passes",
        "fail" => "fails",
        _ => "cannot be judged",
    };
    let why = told["why"].as_str().map_or(String::new(), |why| format!(": {why}"));
    let [selector, algorithm, stage] = ["selector", "algorithm", "stage"].map(|key| text(told, key));
    format!("{selector} ({algorithm}, {stage}): the DNS shows {shown}; a signature by it {verdict}{why}")
}

fn seen_name(seen: Seen) -> &'static str {
    match seen {
        Seen::Right => "right",
        Seen::Missing => "missing",
        Seen::Other => "other",
    }
}

/// A key as it is listed; `at` is when its stage ends, or began.
fn summary(entry: &Entry) -> Value {
    let at = match entry.stage {
        Stage::Waiting { until: at } | Stage::Active { since: at } | Stage::Retiring { until: at, .. } => at,
        Stage::Published | Stage::Removed => entry.made.as_millis(),
    };
    json!({
        "domain": entry.domain.as_str(),
        "selector": entry.selector.as_str(),
        "algorithm": entry.algorithm,
        "stage": entry.stage.as_str(),
        "at": iso(Timestamp::from_millis(at)),
        "made": iso(entry.made),
        "dns": entry.seen.map_or("unknown", seen_name),
    })
}
