//! Keeps the counts, and sends what they come to.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::CONTENT_TYPE;
use hyper::{Method, Request};
use metrics::counter;
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::json::{self, Subject};
use super::message::{self, Addressed};
use super::row::{self, Row};
use super::rua::{self, Rua};
use crate::authentication::Signers;
use crate::clock::{Clock, Timestamp};
use crate::mail::{Address, ClientName, Domain, Envelope, MessageIds, Recipient, ReversePath, TlsWish};
use crate::net::{DnsError, Https, Resolver};
use crate::observe::names;
use crate::queue;
use crate::store::{Batch, Haste, NewBody, Store, StoreError};
use crate::transport::{Counted, Day, DomainCounts, Tally};
use crate::work::Live;

/// How often counts are written down: so much of them may be lost when the power goes.
const WRITTEN_EVERY: Duration = Duration::from_secs(30);
/// Domains that are asked at once whether they want reports.
const LOOK_UPS_MAX: usize = 16;
/// Reports that are sent at once.
const SENT_AT_ONCE: usize = 8;
/// Domains written in one batch, rows read in one piece.
const PIECE: usize = 200;
/// A report that waits as mail is tried for so long (RFC 8460 5.5).
const MAIL_TRIED_FOR: Duration = Duration::from_secs(86_400);
/// Of an answer to a report nobody reads more.
const ANSWER_MAX_OCTETS: usize = 16 << 10;

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
    fn on<'a>(&'a self, domain: &'a Domain, day: Day) -> Subject<'a> {
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
    /// For reports that do not go by mail.
    pub https: Https,
    /// The calendar.
    pub clock: Clock,
    /// Who reports; where nobody does, nothing is kept.
    pub settings: Live<Option<ReportSettings>>,
}

/// Keeps counts of sessions and sends reports of them.
pub struct TlsReports {
    by: ReportParts,
    /// Nothing is due before; unknown at first.
    next_look: Mutex<Option<Timestamp>>,
    /// Held while counts are added to rows.
    turn: tokio::sync::Mutex<()>,
}

/// What became of a report at one address.
enum Told {
    /// It is in the queue: what puts it there, and its id.
    Queued(Batch, String),
    /// It was taken there, with this status.
    Posted(u16),
    /// It will never go there, for this reason.
    Impossible(String),
    /// It may go there later; what happened.
    Later(String),
}

impl TlsReports {
    /// Nothing goes on before it [runs](Self::run).
    pub fn new(by: ReportParts) -> Self {
        TlsReports { by, next_look: Mutex::default(), turn: tokio::sync::Mutex::default() }
    }

    /// Goes by other settings from now on.
    pub fn change(&self, settings: Option<ReportSettings>) {
        self.by.settings.replace(settings);
    }

    /// Works until it is told to stop, and then writes down what is left.
    pub async fn run(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        loop {
            let stopped = tokio::select! {
                _ = stop.wait_for(|stop| *stop) => true,
                () = tokio::time::sleep(WRITTEN_EVERY) => false,
            };
            if let Err(error) = self.write_down(&stop).await {
                tracing::error!(event = "tls_tally_not_kept", error = %error);
            }
            if stopped {
                return;
            }
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => {}
                sent = self.send_due() => if let Err(error) = sent {
                    tracing::error!(event = "tls_reports_not_sent", error = %error);
                }
            }
        }
    }

    /// Writes down what was counted of domains that want to hear of it. Those that cannot be asked, or not any more as
    /// the relay stops, may.
    pub async fn write_down(&self, stop: &watch::Receiver<bool>) -> Result<(), StoreError> {
        let (counted, lost) = self.by.tally.take();
        if lost > 0 {
            tracing::warn!(event = "tls_sessions_not_counted", sessions = lost);
        }
        if self.by.settings.now().is_none() {
            return Ok(());
        }
        let mut wanted: Vec<_> = self.wanted(counted, stop).await.into_iter().collect();
        while !wanted.is_empty() {
            let piece = wanted.split_off(wanted.len().saturating_sub(PIECE));
            if let Err(error) = self.write(piece.clone()).await {
                self.by.tally.put_back(piece.into_iter().chain(wanted).collect());
                return Err(error);
            }
        }
        Ok(())
    }

    async fn wanted(&self, counted: Counted, stop: &watch::Receiver<bool>) -> Counted {
        let (mut wanted, mut asked, mut left) = (Counted::new(), JoinSet::new(), counted.into_iter());
        loop {
            while asked.len() < LOOK_UPS_MAX
                && let Some(((day, domain), counts)) = left.next()
            {
                if *stop.borrow() {
                    wanted.insert((day, domain), counts);
                    continue;
                }
                let (resolver, mut stop) = (self.by.resolver.clone(), stop.clone());
                asked.spawn(async move {
                    let asks = tokio::select! {
                        asks = addresses(&*resolver, &domain) => asks,
                        _ = stop.wait_for(|stop| *stop) => Err(DnsError::TimedOut),
                    };
                    ((day, domain), counts, asks.map_or(true, |addresses| !addresses.is_empty()))
                });
            }
            match asked.join_next().await {
                Some(Ok((of, counts, true))) => drop(wanted.insert(of, counts)),
                Some(Ok(((day, domain), _, false))) => self.by.tally.pass_over(day, &domain),
                // a panic is told elsewhere
                Some(Err(_)) => {}
                None => return wanted,
            }
        }
    }

    async fn write(&self, piece: Vec<((Day, Domain), DomainCounts)>) -> Result<(), StoreError> {
        let _turn = self.turn.lock().await;
        let batch = self.by.store.read(move |reader| {
            let mut batch = Batch::new();
            for ((day, domain), counts) in piece {
                let known = row::find(reader, day, &domain)?;
                let mut row = known.unwrap_or_else(|| Row::of(day));
                row.counts.merge(counts);
                batch.put(row::key(day, &domain), row.encode());
            }
            Ok(batch)
        });
        self.by.store.commit_with(batch.await?, Haste::Soon).await?;
        Ok(())
    }

    /// Sends the reports that are due. After a jump of the clock nobody knows which are.
    pub async fn send_due(self: &Arc<Self>) -> Result<(), StoreError> {
        let now = self.by.clock.shown();
        let known = *self.next_look.lock().unwrap_or_else(PoisonError::into_inner);
        if known.is_some_and(|at| now < at) || self.by.clock.has_jumped() {
            return Ok(());
        }
        let mut next = Day::of(now).end();
        let (mut behind, mut sending) = (None, JoinSet::new());
        loop {
            let (found, last) =
                self.by.store.read(move |reader| row::page(reader, behind.as_deref(), PIECE)).await?;
            for ((day, domain), row) in found.into_iter().filter(|((day, _), _)| *day < Day::of(now)) {
                match row {
                    Ok(row) if row.next() > now => next = next.min(row.next()),
                    Ok(row) => {
                        if sending.len() >= SENT_AT_ONCE {
                            next = next.min(sent(sending.join_next().await)?.unwrap_or(next));
                        }
                        let reporter = self.clone();
                        sending.spawn(async move { reporter.send((day, domain), row, now).await });
                    }
                    Err(error) => {
                        tracing::error!(event = "tls_tally_lost", domain = %domain, error = %error);
                        let mut batch = Batch::new();
                        batch.delete(row::key(day, &domain));
                        self.by.store.commit_with(batch, Haste::Soon).await?;
                    }
                }
            }
            if last.is_none() {
                break;
            }
            behind = last;
        }
        while let Some(ended) = sending.join_next().await {
            next = next.min(sent(Some(ended))?.unwrap_or(next));
        }
        *self.next_look.lock().unwrap_or_else(PoisonError::into_inner) = Some(next);
        Ok(())
    }

    /// Sends one report to all who want it and do not have it yet. Gives when the rest is tried again.
    async fn send(
        &self,
        (day, domain): (Day, Domain),
        mut row: Row,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, StoreError> {
        let settings = self.by.settings.now();
        let Some(settings) = &*settings else { return Ok(None) };
        let of = settings.on(&domain, day);
        let (key, mut is_left) = (row::key(day, &domain), false);
        let failed = |to: &str, error: &str| {
            counter!(names::TLS_REPORTS, "result" => "failed").increment(1);
            tracing::warn!(event = "tls_report_not_sent", domain = %domain, day = %day, to, error);
        };
        let addresses = match addresses(&*self.by.resolver, &domain).await {
            Ok(addresses) => addresses,
            Err(error) => {
                failed("", &error.to_string());
                is_left = true;
                Vec::new()
            }
        };
        let report = json::compressed(&json::report(&of, &row.counts));
        for rua in addresses {
            let to = rua.to_string();
            if row.told.contains(&to) {
                continue;
            }
            let told = match &rua {
                Rua::Mail(address) => self.mail(&of, (&settings.from, address), &report, now),
                Rua::Https(uri) => self.post(uri, &report).await,
            };
            let mut batch = Batch::new();
            match told {
                Told::Queued(queued, id) => {
                    batch.append(queued);
                    counter!(names::TLS_REPORTS, "result" => "mailed").increment(1);
                    tracing::info!(event = "tls_report_queued", domain = %domain, day = %day, to, id);
                }
                Told::Posted(status) => {
                    counter!(names::TLS_REPORTS, "result" => "posted").increment(1);
                    tracing::info!(event = "tls_report_posted", domain = %domain, day = %day, to, status);
                }
                Told::Impossible(why) => failed(&to, &why),
                Told::Later(why) => {
                    failed(&to, &why);
                    is_left = true;
                    continue;
                }
            }
            row.told.push(to);
            batch.put(key.clone(), row.encode());
            self.by.store.commit_with(batch, Haste::Soon).await?;
        }
        if is_left {
            row.put_off(now);
        }
        let (mut batch, is_over) = (Batch::new(), !is_left || row.is_over(row.next()));
        if is_over {
            batch.delete(key);
        } else {
            batch.put(key, row.encode());
        }
        self.by.store.commit_with(batch, Haste::Soon).await?;
        Ok((!is_over).then(|| row.next()))
    }

    /// Only signed reports are believed (RFC 8460 3). They get through whatever the domain's policies say of its hosts,
    /// and nobody is told what becomes of them.
    fn mail(
        &self,
        of: &Subject<'_>,
        (from, to): (&Address, &Address),
        report: &[u8],
        now: Timestamp,
    ) -> Told {
        let id = self.by.ids.next(now);
        let message = message::compose(of, Addressed { id, from, to, now }, report);
        let message = match self.by.signers.now().sign_whole(&message, now) {
            Ok(Some(message)) => message,
            Ok(None) => {
                let from = from.domain();
                return Told::Impossible(format!(
                    "no DKIM key signs for {from}: `barid dkim generate {from}`"
                ));
            }
            Err(error) => return Told::Later(error.to_string()),
        };
        let recipients = vec![Recipient::plain(to.clone())];
        let envelope = Envelope {
            size_octets: message.len() as u64,
            tls: TlsWish::Waived,
            ..Envelope::plain(id, ClientName::own(), ReversePath::Null, recipients, now)
        };
        let mut batch = Batch::new();
        let (body, expires) = (NewBody::Octets(Bytes::from(message)), now.after(MAIL_TRIED_FOR));
        queue::enqueue(&mut batch, vec![(envelope, now)], body, expires);
        Told::Queued(batch, id.to_string())
    }

    async fn post(&self, uri: &str, report: &[u8]) -> Told {
        let request = Request::builder().method(Method::POST).uri(uri);
        let request = request.header(CONTENT_TYPE, "application/tlsrpt+gzip");
        let Ok(request) = request.body(Full::new(Bytes::copy_from_slice(report))) else {
            return Told::Impossible("the address makes no sense".into());
        };
        match self.by.https.send(request, ANSWER_MAX_OCTETS).await {
            Ok(answer) if answer.status().is_success() => Told::Posted(answer.status().as_u16()),
            Ok(answer) => Told::Later(format!("its web server answers {}", answer.status().as_u16())),
            Err(error) => Told::Later(error.to_string()),
        }
    }

    /// All that is kept, after what was counted until now is.
    pub async fn waiting(&self, behind: Option<(Day, Domain)>) -> Result<Vec<Waiting>, StoreError> {
        let behind = behind.map(|(day, domain)| row::key(day, &domain));
        let (found, _) =
            self.by.store.read(move |reader| row::page(reader, behind.as_deref(), PIECE)).await?;
        let waiting = found.into_iter().filter_map(|((day, domain), row)| {
            let row = row.ok()?;
            Some(Waiting { day, domain, next: row.next(), counts: row.counts })
        });
        Ok(waiting.collect())
    }

    /// What is kept of one domain's day, as it would be reported.
    pub async fn report(&self, day: Day, domain: &Domain) -> Result<Option<Value>, StoreError> {
        let (settings, of) = (self.by.settings.now(), domain.clone());
        let row = self.by.store.read(move |reader| row::find(reader, day, &of)).await?;
        let settings = settings.as_ref().as_ref();
        Ok(settings.zip(row).map(|(settings, row)| json::report(&settings.on(domain, day), &row.counts)))
    }
}

type Ended = Option<Result<Result<Option<Timestamp>, StoreError>, tokio::task::JoinError>>;

/// When a report that could not be sent is tried again. One whose sending panicked is found at the next look.
fn sent(ended: Ended) -> Result<Option<Timestamp>, StoreError> {
    match ended {
        Some(Ok(sent)) => sent,
        Some(Err(_)) | None => Ok(None),
    }
}

/// Where a domain wants reports sent.
async fn addresses(resolver: &dyn Resolver, domain: &Domain) -> Result<Vec<Rua>, DnsError> {
    // a name too long to have a record has none
    let Ok(name) = Domain::parse(&format!("_smtp._tls.{domain}")) else { return Ok(Vec::new()) };
    match resolver.txt(&name).await {
        Ok(txt) => Ok(rua::addresses(txt.texts.iter().map(|text| &**text))),
        Err(error) if error.is_denial() => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}
