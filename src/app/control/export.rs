//! Copies handed over to another host, by way of a file: from a relay that runs, or from its data directory.

use std::io::{self, Read};
use std::sync::Arc;

use axum::body::Body;
use bytes::{Buf as _, Bytes};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::queue::filter;
use super::record::Operator;
use super::server::{Control, Out, Outcome, parse};
use super::store_error;
use super::wire::QueueRequest;
use crate::clock::Clock;
use crate::mail::MessageIds;
use crate::queue::archive::{self, Archive, ArchiveError, ArchiveId, Entry, Totals};
use crate::queue::{self, EXPORTED, Filter, Lease, LeasedPiece, Leases, Queued, Walk, WalkOrder};
use crate::store::{BODY_IN_LOG_MAX_OCTETS, Batch, BodyReader, NewBody, Store, StoreError};

/// Copies read at a time.
const PIECE_ROWS: usize = 64;
/// Octets of a body read at a time.
const PIECE_OCTETS: usize = 256 << 10;
/// Copies, and octets, that are made durable together.
const BATCH_COPIES: usize = 128;
const BATCH_OCTETS: usize = 2 << 20;
/// Pieces of an upload in memory.
const PIECES_MAX: usize = 4;
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

/// `queue import` into a relay that runs: the body of the request is the file.
pub(super) async fn import(control: &Arc<Control>, is_again: bool, body: Body, out: &Out) -> Outcome {
    let (deps, runtime) = (control.deps.clone(), tokio::runtime::Handle::current());
    let (pieces, taken) = mpsc::channel(PIECES_MAX);
    let (progress, mut told) = mpsc::channel(PIECES_MAX);
    let _under_way = deps.work.begin("operator's command");
    let stopping = control.stop.clone();
    // two of one file at a time would both begin at the same place
    let Ok(turn) = control.import_turn.clone().try_lock_owned() else {
        return Err("another import is under way: wait for its end".into());
    };
    let importing = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        let input = Pieces { pieces: taken, rest: Bytes::new() };
        let commit = |batch| runtime.block_on(deps.store.commit(batch)).map(drop);
        let mut note = |imported| {
            // who is not listening misses a number
            let _ = progress.try_send(imported);
            if *stopping.borrow() { Err("the relay is stopping".to_owned()) } else { Ok(()) }
        };
        import_from(&deps.store, (&deps.ids, &deps.clock, is_again), input, &commit, &mut note)
    });
    let feeding = async {
        let mut body = body;
        while let Some(Ok(frame)) = body.frame().await {
            let Ok(piece) = frame.into_data() else { continue };
            // whoever takes no more has said why; the rest is read, so that the answer is heard
            let _ = pieces.send(piece).await;
        }
        drop(pieces);
    };
    let telling = async {
        while let Some(imported) = told.recv().await {
            let row = out.row(&json!({ "imported": imported })).await;
            if row.is_err() || out.flush().await.is_err() {
                break;
            }
        }
    };
    let (imported, (), ()) = tokio::join!(importing, feeding, telling);
    let Imported { messages, before, failed } = imported.map_err(|error| error.to_string())?;
    match failed {
        None => Ok(json!({ "messages": messages, "before": before })),
        Some(why) => {
            Err(format!("{why}; {} messages are here: run it again for the rest", messages + before))
        }
    }
}

/// A file that arrives in pieces. Blocking.
struct Pieces {
    pieces: mpsc::Receiver<Bytes>,
    rest: Bytes,
}

impl Read for Pieces {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            match self.pieces.blocking_recv() {
                Some(piece) => self.rest = piece,
                None => return Ok(0),
            }
        }
        let length = into.len().min(self.rest.len());
        self.rest.copy_to_slice(&mut into[..length]);
        Ok(length)
    }
}

/// Makes a batch durable. Blocking.
pub(in crate::app) type Commit<'a> = &'a dyn Fn(Batch) -> Result<(), StoreError>;

/// Hears how many copies are durable; says whether to go on.
pub(in crate::app) type Progress<'a> = &'a mut dyn FnMut(u64) -> Result<(), String>;

/// What came of an import.
#[derive(Debug)]
pub(in crate::app) struct Imported {
    /// Copies that were taken in now.
    pub(in crate::app) messages: u64,
    /// Copies of the same export that had been before.
    pub(in crate::app) before: u64,
    /// What went wrong behind these.
    pub(in crate::app) failed: Option<String>,
}

/// Adds all copies of a stream; those that an earlier import of it has brought are passed over, unless it is to
/// be done again. Blocking.
pub(in crate::app) fn import_from(
    store: &Store,
    (ids, clock, is_again): (&MessageIds, &Clock, bool),
    input: impl Read,
    commit: Commit<'_>,
    progress: Progress<'_>,
) -> Imported {
    let mut imported = Imported { messages: 0, before: 0, failed: None };
    let mut archive = match Archive::open(input) {
        Ok(archive) => archive,
        Err(error) => return Imported { failed: Some(error.to_string()), ..imported },
    };
    if !is_again {
        match archive::imported(store.reader(), archive.id()) {
            Ok(before) => imported.before = before,
            Err(error) => return Imported { failed: Some(error.to_string()), ..imported },
        }
    }
    let mut importer = Importer { store, ids, clock, batch: Batch::new(), in_batch: 0, imported, is_again };
    let read = importer.read_all(&mut archive, commit, progress);
    let rest = importer.commit(archive.id(), commit).map_err(|error| ArchiveError::Taker(error.to_string()));
    importer.imported.failed = read.and(rest).err().map(|error| error.to_string());
    importer.imported
}

struct Importer<'a> {
    store: &'a Store,
    ids: &'a MessageIds,
    clock: &'a Clock,
    batch: Batch,
    /// Copies in the batch.
    in_batch: u64,
    imported: Imported,
    is_again: bool,
}

impl Importer<'_> {
    fn read_all(
        &mut self,
        archive: &mut Archive<impl Read>,
        commit: Commit<'_>,
        progress: Progress<'_>,
    ) -> Result<(), ArchiveError> {
        let mut passed_over = 0;
        while let Ok(entry) = archive.next_entry()? {
            if passed_over < self.imported.before {
                passed_over += u64::from(archive.body(&mut |_| Ok(()))?);
                continue;
            }
            self.take(archive, entry)?;
            if self.in_batch >= BATCH_COPIES as u64 || self.batch.weight_octets() >= BATCH_OCTETS {
                let committed = self.commit(archive.id(), commit);
                committed.map_err(|error| ArchiveError::Taker(error.to_string()))?;
                progress(self.imported.before + self.imported.messages).map_err(ArchiveError::Taker)?;
            }
        }
        Ok(())
    }

    fn take(&mut self, archive: &mut Archive<impl Read>, entry: Entry) -> Result<(), ArchiveError> {
        let now = self.clock.now();
        let id = self.ids.next(now);
        let failed = |error: StoreError| ArchiveError::Taker(error.to_string());
        let (body, is_whole) = if entry.body_octets() <= BODY_IN_LOG_MAX_OCTETS as u64 {
            let mut octets = Vec::new();
            let is_whole = archive.body(&mut |piece| {
                let has_room = octets.len() + piece.len() <= BODY_IN_LOG_MAX_OCTETS;
                octets.extend_from_slice(piece);
                if has_room { Ok(()) } else { Err("a body is longer than its row says".to_owned()) }
            })?;
            (NewBody::Octets(octets.into()), is_whole)
        } else {
            let mut file = self.store.body_file(&queue::body_owner(id, 1)).map_err(failed)?;
            let is_whole = archive.body(&mut |piece| file.write(piece).map_err(|error| error.to_string()))?;
            if !is_whole {
                return Ok(());
            }
            (file.finish().map_err(failed)?, true)
        };
        if is_whole {
            entry.enqueue(&mut self.batch, id, body, now);
            self.in_batch += 1;
        }
        Ok(())
    }

    fn commit(&mut self, id: ArchiveId, commit: Commit<'_>) -> Result<(), StoreError> {
        if self.in_batch > 0 {
            let (count, mut batch) = (self.in_batch, std::mem::take(&mut self.batch));
            if !self.is_again {
                archive::note_imported(&mut batch, id, self.imported.before + self.imported.messages + count);
            }
            self.in_batch = 0;
            commit(batch)?;
            self.imported.messages += count;
        }
        Ok(())
    }
}
