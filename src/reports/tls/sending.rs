//! From rows to those who want to hear.

use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::CONTENT_TYPE;
use hyper::{Method, Request};
use metrics::counter;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};

use super::json::{self, Subject};
use super::message::{self, Addressed};
use super::reporter::{PIECE, ReportSettings, TlsReports, addresses};
use super::row::{self, Row};
use super::rua::{ADDRESSES_MAX, Rua};
use crate::authentication::Whole;
use crate::clock::Timestamp;
use crate::mail::{Address, Class, ClientName, Domain, Envelope, Recipient, ReversePath, TlsWish};
use crate::net::HttpsError;
use crate::observe::names;
use crate::queue;
use crate::store::{Batch, Haste, Key, NewBody, StoreError};
use crate::transport::Day;

/// Reports that are sent at once.
const SENT_AT_ONCE: usize = 8;
/// A report that waits as mail is tried for so long (RFC 8460 5.5).
const MAIL_TRIED_FOR: Duration = Duration::from_secs(86_400);
/// Of an answer to a report nobody reads more.
const ANSWER_MAX_OCTETS: usize = 16 << 10;

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

/// Web servers that did not answer in this round.
type Silent = Arc<Mutex<HashSet<String>>>;

/// What those that are sent in one round share: these, and whether the relay stops.
type Round<'a> = (&'a Silent, &'a watch::Receiver<bool>);

fn lock<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}

impl TlsReports {
    /// Sends the reports that are due. After a jump of the clock nobody knows which are; while counts could not be
    /// written down, rows may not be whole.
    pub async fn send_due(self: &Arc<Self>, stop: &watch::Receiver<bool>) -> Result<(), StoreError> {
        let now = self.by.clock.shown();
        if self.by.clock.has_jumped() {
            *lock(&self.next_look) = None;
            return Ok(());
        }
        let before = *lock(&self.next_look);
        if self.is_behind.load(Ordering::SeqCst) || before.is_some_and(|at| now < at) {
            return Ok(());
        }
        let (today, silent) = (Day::of(now), Silent::default());
        let (mut next, mut result) = (today.end(), Ok(()));
        let (mut behind, mut sending) = (None::<Key>, JoinSet::new());
        let mut end = |ended: Option<Result<Sent, JoinError>>| match ended {
            Some(Ok(Ok(Some(again)))) => next = next.min(again),
            Some(Ok(Err(error))) => result = Err(error),
            // done; or a panic, which is told elsewhere, and was put off before it began
            Some(Ok(Ok(None)) | Err(_)) | None => {}
        };
        while !*stop.borrow() {
            let after = behind.take();
            let page = move |reader: &_| row::page(reader, after.as_deref(), Some(today), PIECE);
            let found = self.by.store.read(page).await?;
            let Some(((day, domain), _)) = found.last() else { break };
            behind = Some(row::key(*day, domain));
            for (of, row) in found {
                let is_later = row.as_ref().is_ok_and(|row| row.next() > now && !row.is_over(of.0, now));
                if is_later {
                    end(Some(Ok(row.map(|row| Some(row.next())))));
                    continue;
                }
                if sending.len() >= SENT_AT_ONCE {
                    end(sending.join_next().await);
                }
                let (reporter, silent, stop) = (self.clone(), silent.clone(), stop.clone());
                sending.spawn(async move { reporter.settle(of, row, (&silent, &stop)).await });
            }
        }
        // what has begun is not broken off: it would be told twice
        while let Some(ended) = sending.join_next().await {
            end(Some(ended));
        }
        // unless somebody has changed what is due meanwhile
        let mut next_look = lock(&self.next_look);
        if *next_look == before {
            *next_look = result.is_ok().then_some(next);
        }
        drop(next_look);
        result
    }

    /// Deals with one row that is due, or of no more use. Gives when it is looked at again.
    async fn settle(
        &self,
        (day, domain): (Day, Domain),
        row: Result<Row, StoreError>,
        round: Round<'_>,
    ) -> Sent {
        let (key, now) = (row::key(day, &domain), self.by.clock.shown());
        let settings = self.by.settings.now();
        let row = match (row, &*settings) {
            (Ok(row), _) if row.is_over(day, now) => {
                tracing::warn!(event = "tls_report_given_up", domain = %domain, day = %day);
                None
            }
            // reports may be wanted again before it is too old
            (Ok(row), None) => return Ok(Some(row.next().max(now.after(MAIL_TRIED_FOR)))),
            (Ok(row), Some(settings)) => {
                let of = settings.on(&domain, day);
                self.send(&of, settings, row, round).await?
            }
            (Err(error), _) => {
                tracing::error!(event = "tls_tally_lost", domain = %domain, error = %error);
                None
            }
        };
        if row.is_none() {
            let mut batch = Batch::new();
            batch.delete(key);
            self.by.store.commit_with(batch, Haste::Soon).await?;
        }
        Ok(row.map(|row| row.next()))
    }

    /// Sends one report to all who want it and do not have it yet. Gives what is left to be done.
    async fn send(
        &self,
        of: &Subject<'_>,
        settings: &ReportSettings,
        mut row: Row,
        (silent, stop): Round<'_>,
    ) -> Result<Option<Row>, StoreError> {
        let (domain, day, now) = (of.domain, of.day, self.by.clock.shown());
        let key = row::key(day, domain);
        let failed = |to: &str, error: &str| {
            counter!(names::TLS_REPORTS, "result" => "failed").increment(1);
            tracing::warn!(event = "tls_report_not_sent", domain = %domain, day = %day, to, error);
        };
        // whatever happens from here on, it is not repeated at once
        row.put_off(now);
        self.keep(&key, &row).await?;
        let addresses = match addresses(&*self.by.resolver, domain).await {
            Ok(addresses) => addresses,
            Err(error) => {
                failed("", &error.to_string());
                return Ok(Some(row));
            }
        };
        let report = json::compressed(&json::report(of, &row.counts));
        let mut is_left = false;
        for rua in addresses {
            let to = rua.to_string();
            // a record that names others each time is not followed for ever
            if row.told.contains(&to) || row.told.len() >= ADDRESSES_MAX {
                continue;
            }
            if *stop.borrow() {
                is_left = true;
                break;
            }
            let told = match &rua {
                Rua::Mail(address) => self.mail(of, (&settings.from, address), &report, now),
                Rua::Https(uri) => self.post(uri, &report, silent).await,
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
            let is_mail = !batch.is_empty();
            batch.put(key.clone(), row.encode());
            // mail that comes in waits for room on a full disk; what was posted must be remembered
            let haste = if is_mail { Haste::Now } else { Haste::Soon };
            self.by.store.commit_with(batch, haste).await?;
        }
        Ok(is_left.then_some(row))
    }

    async fn keep(&self, key: &Key, row: &Row) -> Result<(), StoreError> {
        let mut batch = Batch::new();
        batch.put(key.clone(), row.encode());
        self.by.store.commit_with(batch, Haste::Now).await.map(drop)
    }

    /// Only reports that are signed for the domain that reports are believed (RFC 8460 3). They get through whatever the
    /// recipient's domain demands of its hosts, and nobody is told what becomes of them.
    fn mail(
        &self,
        of: &Subject<'_>,
        (from, to): (&Address, &Address),
        report: &[u8],
        now: Timestamp,
    ) -> Told {
        let id = self.by.ids.next(now);
        let message = message::compose(of, Addressed { id, from, to, now }, report);
        let message = match self.by.signers.now().with_fallback(None).sign_whole(&message, now) {
            Ok(Whole::Signed(message)) => message,
            Ok(Whole::Later) => return Told::Later("its DKIM key is not in the DNS yet".into()),
            Ok(Whole::Never) => return Told::Impossible(self.unsigned(from.domain(), now)),
            Err(error) => return Told::Later(error.to_string()),
        };
        let recipients = vec![Recipient::plain(to.clone())];
        let envelope = Envelope {
            class: Class::Bulk,
            size_octets: message.len() as u64,
            tls: TlsWish::Waived,
            ..Envelope::plain(id, ClientName::own(), ReversePath::Null, recipients, now)
        };
        let mut batch = Batch::new();
        let (body, expires) = (NewBody::Octets(Bytes::from(message)), now.after(MAIL_TRIED_FOR));
        queue::enqueue(&mut batch, vec![(envelope, now)], body, expires);
        Told::Queued(batch, id.to_string())
    }

    /// Says what to do about it, once a day.
    fn unsigned(&self, from: &Domain, now: Timestamp) -> String {
        let today = Some(Day::of(now));
        if std::mem::replace(&mut *lock(&self.unsigned_on), today) != today {
            let remedy = format!("`barid dkim generate {from}`, or set tls.reports.from or tls.reports.send");
            tracing::warn!(event = "tls_reports_unsigned", domain = %from, remedy);
        }
        format!("no DKIM key signs for {from}")
    }

    async fn post(&self, uri: &str, report: &[u8], silent: &Silent) -> Told {
        let request = Request::builder().method(Method::POST).uri(uri);
        let request = request.header(CONTENT_TYPE, "application/tlsrpt+gzip");
        let Ok(request) = request.body(Full::new(Bytes::copy_from_slice(report))) else {
            return Told::Impossible("the address makes no sense".into());
        };
        let server = request.uri().authority().map(ToString::to_string).unwrap_or_default();
        if lock(silent).contains(&server) {
            return Told::Later("its web server did not answer a short while ago".into());
        }
        match self.by.https.send(request, ANSWER_MAX_OCTETS).await {
            Ok(answer) if answer.status().is_success() => Told::Posted(answer.status().as_u16()),
            Ok(answer) => Told::Later(format!("its web server answers {}", answer.status().as_u16())),
            Err(error @ HttpsError::Address(_)) => Told::Impossible(error.to_string()),
            Err(error) => {
                lock(silent).insert(server);
                Told::Later(error.to_string())
            }
        }
    }
}

/// When a row is looked at again, where it is still there.
type Sent = Result<Option<Timestamp>, StoreError>;
