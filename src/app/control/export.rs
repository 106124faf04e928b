//! Copies handed over to another host, by way of a file: from a relay that runs, or from its data directory.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};

use super::queue::filter;
use super::record::Operator;
use super::server::{Control, Out, parse};
use super::store_error;
use super::wire::QueueRequest;
use crate::clock::Clock;
use crate::mail::MessageIds;
use crate::queue::archive::{self, ArchiveId, Totals};
use crate::queue::{self, EXPORTED, Filter, Lease, LeasedPiece, Leases, Queued, Walk, WalkOrder};
use crate::store::{Batch, BodyReader, Store, StoreError};

/// Copies read at a time.
const PIECE_ROWS: usize = 64;
/// Octets of a body read at a time.
const PIECE_OCTETS: usize = 256 << 10;
/// Why a copy is held whose body does not read.
const DAMAGED: &str = "damaged";

/// What is exported, and how.
pub(in crate::app) struct Export {
    /// Which copies.
    pub(in crate::app) filter: Filter,
    /// Whether they stay in the line.
    pub(in crate::app) keep: bool,
    /// What it is known by.
    pub(in crate::app) id: ArchiveId,
}

/// An id that no other export has, on whatever host: a time, and chance.
pub(in crate::app) fn archive_id(ids: &MessageIds, clock: &Clock) -> ArchiveId {
    ArchiveId(u128::from(ids.next(clock.now()).as_u64()) << 64 | u128::from(fastrand::u64(..)))
}

/// Why copies are held that were exported.
pub(in crate::app) fn reason(id: ArchiveId) -> String {
    // the half that is chance: no two have the same, whatever the clock says
    format!("{EXPORTED}-{:016x}", id.0 as u64)
}

/// Where an export goes.
pub(in crate::app) trait Sink {
    /// Adds octets.
    fn put(&mut self, octets: &[u8]) -> impl Future<Output = Result<(), String>> + Send;
    /// Whether to go on.
    fn go_on(&self) -> Result<(), String>;
}

struct ToAsker<'a>(&'a Out, &'a Control);

impl Sink for ToAsker<'_> {
    async fn put(&mut self, octets: &[u8]) -> Result<(), String> {
        self.0.octets(octets).await.map_err(Into::into)
    }

    fn go_on(&self) -> Result<(), String> {
        self.1.go_on()
    }
}

/// `queue export` of a relay that runs.
pub(super) async fn export(
    control: &Arc<Control>,
    (operator, told): (Operator, &Value),
    request: &Bytes,
    out: &Out,
) -> Result<(), String> {
    let deps = &control.deps;
    let id = archive_id(&deps.ids, &deps.clock);
    out.octets(&archive::begin(id)).await?;
    let exported = async {
        let request: QueueRequest = parse(request)?;
        let filter = filter(&request.select, &deps.clock)?;
        let record = control.record.begin(operator, "queue/export", told).await?;
        let _under_way = deps.work.begin("operator's command");
        let export = Export { filter, keep: request.keep, id };
        let mut sink = ToAsker(out, control);
        let exported = export_to(&deps.store, &deps.leases, &deps.clock, export, &mut sink);
        let outcome = exported.await.map(|Totals { copies, busy, damaged }| {
            json!({ "messages": copies, "busy": busy, "damaged": damaged, "reason": reason(id) })
        });
        record.end(outcome).await
    };
    match exported.await {
        Ok(_) => Ok(()),
        // the file must not look whole, and says why
        Err(why) => out.octets(&archive::failed(&why)).await.map_err(Into::into),
    }
}

/// Writes all that is meant behind the beginning of a stream. What is written is out of the line before, under
/// the export's own [`reason`], unless it is to stay there: no copy may leave from both hosts. An export that
/// fails puts everything back.
pub(in crate::app) async fn export_to(
    store: &Store,
    leases: &Leases,
    clock: &Clock,
    export: Export,
    sink: &mut (impl Sink + Send),
) -> Result<Totals, String> {
    let (id, keep) = (export.id, export.keep);
    let mut exporter = Exporter { store, leases, clock, reason: reason(id), keep, totals: Totals::default() };
    let written = exporter.write_all(export.filter, sink).await;
    match written {
        Ok(()) => Ok(exporter.totals),
        Err(why) if keep => Err(why),
        Err(why) => match exporter.put_back().await {
            Ok(()) => Err(why),
            Err(too) => Err(format!(
                "{why}; and messages are still held ({too}): `barid queue release --reason {}`",
                exporter.reason
            )),
        },
    }
}

struct Exporter<'a> {
    store: &'a Store,
    leases: &'a Leases,
    clock: &'a Clock,
    reason: String,
    keep: bool,
    totals: Totals,
}

impl Exporter<'_> {
    async fn next(&self, mut walk: Walk) -> Result<(Walk, LeasedPiece), String> {
        let leases = self.leases.clone();
        let read = self.store.read(move |reader| {
            let piece = walk.lease_piece(reader, &leases, PIECE_ROWS)?;
            Ok((walk, piece))
        });
        read.await.map_err(store_error)
    }

    async fn begin(&self, filter: Filter) -> Result<Walk, String> {
        let begun = self.store.read(move |reader| Walk::new(reader, filter, WalkOrder::Steady)).await;
        begun.map_err(store_error)
    }

    async fn write_all(&mut self, filter: Filter, sink: &mut (impl Sink + Send)) -> Result<(), String> {
        let mut walk = self.begin(filter).await?;
        while !walk.is_over() {
            sink.go_on()?;
            let (next, piece) = self.next(walk).await?;
            walk = next;
            self.totals.busy += piece.busy.len() as u64;
            self.totals.damaged += piece.damaged.len() as u64;
            let readable = self.readable(piece.found).await?;
            for (copy, body) in self.take_out(readable).await? {
                self.write(&copy, body, sink).await?;
            }
        }
        sink.put(&archive::end(self.totals)).await
    }

    async fn readable(
        &mut self,
        found: Vec<(Queued, Lease)>,
    ) -> Result<Vec<(Queued, Lease, BodyReader)>, String> {
        let mut readable = Vec::new();
        for (copy, lease) in found {
            let of = copy.clone();
            match self.store.read(move |reader| queue::body(reader, &of)).await {
                Ok(body) => readable.push((copy, lease, body)),
                Err(StoreError::Damaged(_)) => self.totals.damaged += 1,
                Err(error) => return Err(store_error(error)),
            }
        }
        Ok(readable)
    }

    /// Nobody else sends these any more; so their leases end before whoever reads the stream takes its time.
    async fn take_out(
        &self,
        readable: Vec<(Queued, Lease, BodyReader)>,
    ) -> Result<Vec<(Queued, BodyReader)>, String> {
        if !self.keep {
            let (mut batch, now) = (Batch::new(), self.clock.now());
            readable.iter().for_each(|(copy, ..)| queue::hold(&mut batch, copy, &self.reason, now));
            if !batch.is_empty() {
                self.store.commit(batch).await.map_err(store_error)?;
            }
        }
        Ok(readable.into_iter().map(|(copy, _, body)| (copy, body)).collect())
    }

    async fn write(
        &mut self,
        copy: &Queued,
        mut body: BodyReader,
        sink: &mut (impl Sink + Send),
    ) -> Result<(), String> {
        let (head, mut crc) = archive::head(copy);
        sink.put(&head).await?;
        let mut octets = 0;
        let is_whole = loop {
            match body.next_piece(PIECE_OCTETS).await {
                Ok(Some(piece)) => {
                    octets += piece.len() as u64;
                    crc = crc32c::crc32c_append(crc, &piece);
                    sink.put(&archive::piece(&piece)).await?;
                    sink.put(&piece).await?;
                }
                Ok(None) => break octets == copy.envelope.size_octets,
                Err(_) => break false,
            }
        };
        sink.put(&archive::tail(is_whole, crc)).await?;
        if is_whole {
            self.totals.copies += 1;
            return Ok(());
        }
        self.totals.damaged += 1;
        self.set_aside(copy).await
    }

    /// A copy whose body turned out to be damaged is in no file, and is not to be removed with those that are.
    async fn set_aside(&self, copy: &Queued) -> Result<(), String> {
        let id = copy.envelope.id;
        // whoever has it is another operator: that is their affair
        let Some(_lease) = self.leases.take(id) else { return Ok(()) };
        let found = self.store.read(move |reader| queue::find(reader, id)).await.map_err(store_error)?;
        // released or removed by another operator meanwhile: that is their affair
        let Some(copy) = found.filter(|copy| copy.held() == Some(&self.reason)) else { return Ok(()) };
        let mut batch = Batch::new();
        queue::hold(&mut batch, &copy, DAMAGED, self.clock.now());
        self.store.commit(batch).await.map(drop).map_err(store_error)
    }

    async fn put_back(&self) -> Result<(), String> {
        let filter = Filter { reason: Some(self.reason.clone()), ..Filter::default() };
        let mut walk = self.begin(filter).await?;
        while !walk.is_over() {
            let (next, piece) = self.next(walk).await?;
            walk = next;
            if !piece.busy.is_empty() || !piece.damaged.is_empty() {
                return Err("some are busy, or do not read".into());
            }
            let (mut batch, now) = (Batch::new(), self.clock.now());
            piece.found.iter().for_each(|(copy, _)| queue::release(&mut batch, copy, now));
            if !batch.is_empty() {
                self.store.commit(batch).await.map_err(store_error)?;
            }
        }
        Ok(())
    }
}
