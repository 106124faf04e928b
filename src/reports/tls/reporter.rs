//! Whoever keeps the counts, and sends what they come to.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::watch;

use super::json::{self, Subject};
use super::row;
use super::rua::{self, Rua};
use crate::authentication::Signers;
use crate::clock::{Clock, Timestamp};
use crate::mail::{Address, Domain, MessageIds};
use crate::net::{DnsError, Https, Resolver};
use crate::store::{Store, StoreError};
use crate::transport::{Day, DomainCounts, Tally};
use crate::work::Live;

/// How often counts are written down: so much of them may be lost when the power goes.
const WRITTEN_EVERY: Duration = Duration::from_secs(30);
/// Domains written, and rows read, in one piece.
pub(super) const PIECE: usize = 200;

/// Who reports.
#[derive(Clone, Debug)]
pub struct ReportSettings {
    /// The author of reports by mail; its domain is the one that reports.
    pub from: Address,
    /// Its name.
    pub organization: Box<str>,
    /// Whom to ask about a report.
    pub contact: Box<str>,
}

impl ReportSettings {
    pub(super) fn on<'a>(&'a self, domain: &'a Domain, day: Day) -> Subject<'a> {
        let (organization, contact, submitter) = (&self.organization, &self.contact, self.from.domain());
        Subject { organization, contact, submitter, domain, day }
    }
}

/// What is kept of a domain's day.
#[derive(Clone, Debug)]
pub struct Waiting {
    /// The day.
    pub day: Day,
    /// The domain.
    pub domain: Domain,
    /// When its report is tried next.
    pub next: Timestamp,
    /// What it says.
    pub counts: DomainCounts,
}

/// What reports are made of, and go by.
pub struct ReportParts {
    /// What is counted.
    pub tally: Arc<Tally>,
    /// Where it is kept, and reports wait as mail.
    pub store: Store,
    /// The DNS.
    pub resolver: Arc<dyn Resolver>,
    /// Whoever signs reports.
    pub signers: Live<Signers>,
    /// For the ids of reports.
    pub ids: Arc<MessageIds>,
    /// For reports that do not go by mail: strangers say where to.
    pub https: Https,
    /// The calendar.
    pub clock: Clock,
    /// Who reports; where nobody does, nothing is counted.
    pub settings: Live<Option<ReportSettings>>,
}

/// Keeps counts of sessions and sends reports of them.
pub struct TlsReports {
    pub(super) by: ReportParts,
    /// Nothing is due before; unknown at first.
    pub(super) next_look: Mutex<Option<Timestamp>>,
    /// Held while counts are on their way from memory to rows.
    pub(super) turn: tokio::sync::Mutex<()>,
    /// The last attempt at that failed, so that rows may not be whole.
    pub(super) is_behind: AtomicBool,
    /// When it was last told that no key signs.
    pub(super) unsigned_on: Mutex<Option<Day>>,
}

impl TlsReports {
    /// Nothing goes on before it [runs](Self::run).
    pub fn new(by: ReportParts) -> Self {
        by.tally.turn(by.settings.now().is_some());
        TlsReports {
            by,
            next_look: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
            is_behind: AtomicBool::new(false),
            unsigned_on: Mutex::default(),
        }
    }

    /// Goes by other settings from now on.
    pub fn change(&self, settings: Option<ReportSettings>) {
        self.by.tally.turn(settings.is_some());
        self.by.settings.replace(settings);
        *self.next_look.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Works until it is told to stop. What is counted after that is still to be [written down](Self::write_down); what
    /// is being sent is sent.
    pub async fn run(self: Arc<Self>, stop: watch::Receiver<bool>) {
        tokio::join!(self.clone().write_now_and_then(stop.clone()), self.send_now_and_then(stop));
    }

    async fn write_now_and_then(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        while !rested(&mut stop).await {
            if let Err(error) = self.write_down(&stop).await {
                tracing::error!(event = "tls_tally_not_kept", error = %error);
            }
        }
    }

    async fn send_now_and_then(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        while !rested(&mut stop).await {
            if let Err(error) = self.send_due(&stop).await {
                tracing::error!(event = "tls_reports_not_sent", error = %error);
            }
        }
    }

    /// What is kept, a piece behind another: the last of that one.
    pub async fn waiting(
        &self,
        behind: Option<(Day, Domain)>,
    ) -> Result<(Vec<Waiting>, Option<(Day, Domain)>), StoreError> {
        let behind = behind.map(|(day, domain)| row::key(day, &domain));
        let found =
            self.by.store.read(move |reader| row::page(reader, behind.as_deref(), None, PIECE)).await?;
        let last = found.last().map(|(of, _)| of.clone());
        let waiting = found.into_iter().filter_map(|((day, domain), row)| {
            let row = row.ok()?;
            Some(Waiting { day, domain, next: row.next(), counts: row.counts })
        });
        Ok((waiting.collect(), last))
    }

    /// What is kept of one domain's day, as it would be reported.
    pub async fn report(&self, day: Day, domain: &Domain) -> Result<Option<Value>, StoreError> {
        let (settings, of) = (self.by.settings.now(), domain.clone());
        let row = self.by.store.read(move |reader| row::find(reader, day, &of)).await?;
        let settings = settings.as_ref().as_ref();
        Ok(settings.zip(row).map(|(settings, row)| json::report(&settings.on(domain, day), &row.counts)))
    }
}

/// Waits for the next round; whether there is none.
async fn rested(stop: &mut watch::Receiver<bool>) -> bool {
    tokio::select! {
        _ = stop.wait_for(|stop| *stop) => true,
        () = tokio::time::sleep(WRITTEN_EVERY) => false,
    }
}

/// Where a domain wants reports sent.
pub(super) async fn addresses(resolver: &dyn Resolver, domain: &Domain) -> Result<Vec<Rua>, DnsError> {
    // a name too long to have a record has none
    let Ok(name) = Domain::parse(&format!("_smtp._tls.{domain}")) else { return Ok(Vec::new()) };
    match resolver.txt(&name).await {
        Ok(txt) => Ok(rua::addresses(txt.texts.iter().map(|text| &**text))),
        Err(error) if error.is_denial() => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}
