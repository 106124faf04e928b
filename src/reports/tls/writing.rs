//! From memory to rows.

use std::collections::HashSet;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::reporter::{PIECE, TlsReports, addresses};
use super::row::{self, Row};
use crate::mail::Domain;
use crate::store::{Batch, StoreError};
use crate::transport::{Counted, Day, DomainCounts};

/// Domains that are asked at once whether they want reports.
const LOOK_UPS_MAX: usize = 16;
/// And how long that may take for all of a round: who does not answer is taken to want some until it does.
const ASKED_FOR: Duration = Duration::from_secs(20);
/// A batch is written when it is so large.
const BATCH_OCTETS: usize = 2 << 20;

type Of = (Day, Domain);
type Piece = Vec<(Of, DomainCounts)>;

impl TlsReports {
    /// Writes down what was counted of domains that want to hear of it. Those that cannot be asked, or not any more as
    /// the relay stops, may.
    pub async fn write_down(&self, stop: &watch::Receiver<bool>) -> Result<(), StoreError> {
        let _turn = self.turn.lock().await;
        let (counted, lost) = self.by.tally.take();
        if lost > 0 {
            tracing::warn!(event = "tls_sessions_not_counted", sessions = lost);
        }
        let written = self.write_all(counted, stop).await;
        self.is_behind.store(written.is_err(), Ordering::SeqCst);
        written
    }

    async fn write_all(&self, counted: Counted, stop: &watch::Receiver<bool>) -> Result<(), StoreError> {
        if self.by.settings.now().is_none() {
            return Ok(());
        }
        let names: Vec<Of> = counted.keys().cloned().collect();
        let known = self.by.store.read(move |reader| {
            let is_known = |(day, domain): &Of| row::find(reader, *day, domain).map(|row| row.is_some());
            let mut known = HashSet::new();
            for of in names {
                if is_known(&of)? {
                    known.insert(of);
                }
            }
            Ok(known)
        });
        let known = match known.await {
            Ok(known) => known,
            Err(error) => {
                self.by.tally.put_back(counted);
                return Err(error);
            }
        };
        // what is added to a day that is over is due soon
        let today = Day::of(self.by.clock.shown());
        let is_late = counted.keys().any(|(day, _)| *day < today);
        let mut left: Vec<_> = self.wanted(counted, &known, stop).await.into_iter().collect();
        let mut result = Ok(());
        while !left.is_empty() {
            let piece = left.split_off(left.len().saturating_sub(PIECE));
            if let Err((error, unwritten)) = self.write(piece).await {
                self.by.tally.put_back(unwritten.into_iter().collect());
                result = Err(error);
            }
        }
        if is_late {
            *self.next_look.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
        result
    }

    /// Those of whom something is known already want it; others are asked.
    async fn wanted(&self, counted: Counted, known: &HashSet<Of>, stop: &watch::Receiver<bool>) -> Counted {
        let (mut wanted, unasked): (Counted, Counted) =
            counted.into_iter().partition(|(of, _)| known.contains(of));
        let (mut asked, mut left) = (JoinSet::new(), unasked.into_iter());
        let deadline = Instant::now() + ASKED_FOR;
        loop {
            while asked.len() < LOOK_UPS_MAX
                && let Some((of, counts)) = left.next()
            {
                if *stop.borrow() || Instant::now() >= deadline {
                    wanted.insert(of, counts);
                    continue;
                }
                let (resolver, mut stop) = (self.by.resolver.clone(), stop.clone());
                asked.spawn(async move {
                    let answer = tokio::select! {
                        answer = timeout_at(deadline, addresses(&*resolver, &of.1)) => answer.ok(),
                        _ = stop.wait_for(|stop| *stop) => None,
                    };
                    let may = !matches!(answer, Some(Ok(addresses)) if addresses.is_empty());
                    (of, counts, may)
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

    /// Adds counts to their rows; gives those back that were not. On a full disk they wait in memory: the last room is
    /// for results of mail.
    async fn write(&self, mut piece: Piece) -> Result<(), (StoreError, Piece)> {
        let added = piece.clone();
        let batches = self.by.store.read(move |reader| {
            let mut batches = vec![(Batch::new(), 0)];
            for ((day, domain), counts) in added {
                let known = row::find(reader, day, &domain)?;
                let mut row = known.unwrap_or_else(|| Row::of(day));
                row.counts.merge(counts);
                if batches.last().is_none_or(|(batch, _)| batch.weight_octets() > BATCH_OCTETS) {
                    batches.push((Batch::new(), 0));
                }
                if let Some((batch, rows)) = batches.last_mut() {
                    batch.put(row::key(day, &domain), row.encode());
                    *rows += 1;
                }
            }
            Ok(batches)
        });
        let batches = match batches.await {
            Ok(batches) => batches,
            Err(error) => return Err((error, piece)),
        };
        for (batch, rows) in batches {
            if let Err(error) = self.by.store.commit(batch).await {
                return Err((error, piece));
            }
            piece.drain(..rows);
        }
        Ok(())
    }
}
