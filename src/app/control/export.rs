//! Copies handed over to another host, by way of a file: from a relay that runs, or from its data directory.

use std::io::{self, Read};
use std::sync::Arc;

use axum::body::Body;
use bytes::{Buf as _, Bytes};
use http_body_util::BodyExt as _;
use serde_json::json;
use tokio::sync::mpsc;

use super::queue::{filter, next_piece};
use super::server::{Control, Out, Outcome, parse};
use super::wire::QueueRequest;
use crate::clock::Clock;
use crate::mail::MessageIds;
use crate::queue::archive::{self, Archive, ArchiveError, Entry, MAGIC, Totals};
use crate::queue::{self, Filter, Lease, Leases, Queued, Walk};
use crate::store::{BODY_IN_LOG_MAX_OCTETS, Batch, BodyReader, NewBody, Store, StoreError};

/// Why a copy is held that was handed over.
pub(in crate::app) const REASON: &str = "exported";
/// Copies read at a time.
const PIECE_ROWS: usize = 64;
/// Copies, and octets of bodies, that are made durable together.
const BATCH_COPIES: usize = 128;
const BATCH_OCTETS: usize = 2 << 20;
/// Pieces of an upload in memory.
const PIECES_MAX: usize = 4;

fn told(error: StoreError) -> String {
    format!("the store: {error}")
}

/// Where an export goes.
pub(in crate::app) trait Sink {
    /// Adds octets.
    fn put(&mut self, octets: &[u8]) -> impl Future<Output = Result<(), String>> + Send;
}

struct ToAsker<'a>(&'a Out);

impl Sink for ToAsker<'_> {
    async fn put(&mut self, octets: &[u8]) -> Result<(), String> {
        self.0.octets(octets).await.map_err(Into::into)
    }
}

/// `queue export` of a relay that runs.
pub(super) async fn export(control: &Arc<Control>, request: &Bytes, out: &Out) -> Outcome {
    let (deps, mut sink) = (&control.deps, ToAsker(out));
    let exported = async {
        let request: QueueRequest = parse(request)?;
        let filter = filter(&request.select, &deps.clock)?;
        export_to(&deps.store, &deps.leases, &deps.clock, (filter, request.keep), &mut sink).await
    };
    match exported.await {
        Ok(Totals { copies, busy, damaged }) => {
            Ok(json!({ "messages": copies, "busy": busy, "damaged": damaged }))
        }
        Err(why) => {
            // the file must not look whole; who is gone does not want to know
            let _ = out.octets(&archive::failed(&why)).await;
            // told in the stream, and only there
            Ok(json!({ "failed": why }))
        }
    }
}

/// Writes all that is meant. What is written is out of the line before, under the reason [`REASON`], unless it
/// is to stay there: no copy may leave from both hosts.
pub(in crate::app) async fn export_to(
    store: &Store,
    leases: &Leases,
    clock: &Clock,
    (filter, keep): (Filter, bool),
    sink: &mut (impl Sink + Send),
) -> Result<Totals, String> {
    sink.put(MAGIC).await?;
    let mut totals = Totals::default();
    let mut walk = store.read(move |reader| Walk::new(reader, filter)).await.map_err(told)?;
    while !walk.is_over() {
        let of = leases.clone();
        let read = store.read(move |reader| {
            let found = walk.lease_piece(reader, &of, PIECE_ROWS)?;
            Ok((walk, found))
        });
        let (next, (found, busy)) = read.await.map_err(told)?;
        walk = next;
        totals.busy += busy.len() as u64;
        let mut readable: Vec<(Queued, Lease, BodyReader)> = Vec::new();
        for (copy, lease) in found {
            match body_of(store, &copy).await {
                Ok(body) => readable.push((copy, lease, body)),
                Err(StoreError::Damaged(_)) => totals.damaged += 1,
                Err(error) => return Err(told(error)),
            }
        }
        if !keep {
            let (mut batch, now) = (Batch::new(), clock.now());
            let lined_up = readable.iter().filter(|(copy, ..)| copy.held() != Some(REASON));
            lined_up.for_each(|(copy, ..)| queue::hold(&mut batch, copy, REASON, now));
            if !batch.is_empty() {
                store.commit(batch).await.map_err(told)?;
            }
        }
        for (copy, lease, body) in readable {
            write(&copy, body, sink).await?;
            totals.copies += 1;
            drop(lease);
        }
    }
    sink.put(&archive::end(totals)).await?;
    Ok(totals)
}

async fn body_of(store: &Store, copy: &Queued) -> Result<BodyReader, StoreError> {
    let key = copy.body_key();
    let body = store.read(move |reader| {
        let row = reader.get(&key)?;
        row.map_or(Ok(None), |row| reader.body(&key, &row))
    });
    body.await?.ok_or_else(|| StoreError::Damaged("the body is missing".into()))
}

async fn write(copy: &Queued, mut body: BodyReader, sink: &mut (impl Sink + Send)) -> Result<(), String> {
    let size = copy.envelope.size_octets;
    let (head, mut crc) = archive::head(copy, size);
    sink.put(&head).await?;
    let mut left = size;
    while let Some(piece) = next_piece(&mut body).await? {
        let wrong = || format!("message {} has another length than its row", copy.envelope.id);
        left = left.checked_sub(piece.len() as u64).ok_or_else(wrong)?;
        crc = crc32c::crc32c_append(crc, &piece);
        sink.put(&piece).await?;
    }
    if left > 0 {
        return Err(format!("message {} is shorter than its row says", copy.envelope.id));
    }
    sink.put(&crc.to_be_bytes()).await
}

/// `queue import` into a relay that runs: the body of the request is the file.
pub(super) async fn import(control: &Arc<Control>, body: Body, out: &Out) -> Outcome {
    let (deps, runtime) = (control.deps.clone(), tokio::runtime::Handle::current());
    let (pieces, taken) = mpsc::channel(PIECES_MAX);
    let (progress, mut told) = mpsc::channel(PIECES_MAX);
    let importing = tokio::task::spawn_blocking(move || {
        let input = Pieces { pieces: taken, rest: Bytes::new() };
        let commit = |batch| runtime.block_on(deps.store.commit(batch)).map(|_| ());
        let mut note = |imported| {
            // who is not listening misses a number
            let _ = progress.try_send(imported);
        };
        import_from(&deps.store, (&deps.ids, &deps.clock), input, &commit, &mut note)
    });
    let feeding = async {
        let mut body = body;
        while let Some(frame) = body.frame().await {
            let Some(piece) = frame.ok().and_then(|frame| frame.into_data().ok()) else { break };
            if pieces.send(piece).await.is_err() {
                break;
            }
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
    let (count, failed) = imported.map_err(|error| error.to_string())?;
    match failed {
        None => Ok(json!({ "messages": count })),
        Some(why) => Err(format!("{why}; {count} messages were imported before")),
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

/// Adds all copies of a stream; gives how many are durable, and what went wrong then. Blocking.
pub(in crate::app) fn import_from(
    store: &Store,
    (ids, clock): (&MessageIds, &Clock),
    input: impl Read,
    commit: Commit<'_>,
    progress: &mut dyn FnMut(u64),
) -> (u64, Option<String>) {
    let mut importer = Importer { store, ids, clock, batch: Batch::new(), open: (0, 0), imported: 0 };
    let read = importer.read_all(input, commit, progress);
    let rest = importer.commit(commit);
    let failed = read.err().map(|error| error.to_string()).or(rest.err().map(|error| error.to_string()));
    (importer.imported, failed)
}

struct Importer<'a> {
    store: &'a Store,
    ids: &'a MessageIds,
    clock: &'a Clock,
    batch: Batch,
    /// Copies in the batch, and octets of their bodies.
    open: (usize, usize),
    imported: u64,
}

impl Importer<'_> {
    fn read_all(
        &mut self,
        input: impl Read,
        commit: Commit<'_>,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), ArchiveError> {
        let mut archive = Archive::open(input)?;
        while let Ok(entry) = archive.next_entry()? {
            self.take(&mut archive, entry)?;
            if self.open.0 >= BATCH_COPIES || self.open.1 >= BATCH_OCTETS {
                self.commit(commit).map_err(|error| ArchiveError::Taker(error.to_string()))?;
                progress(self.imported);
            }
        }
        Ok(())
    }

    fn take(&mut self, archive: &mut Archive<impl Read>, entry: Entry) -> Result<(), ArchiveError> {
        let now = self.clock.now();
        let id = self.ids.next(now);
        let failed = |error: StoreError| ArchiveError::Taker(error.to_string());
        let body = if entry.body_octets <= BODY_IN_LOG_MAX_OCTETS as u64 {
            let mut octets = Vec::new();
            archive.body(&entry, &mut |piece| {
                octets.extend_from_slice(piece);
                Ok(())
            })?;
            self.open.1 += octets.len();
            NewBody::Octets(octets.into())
        } else {
            let mut file = self.store.body_file(&queue::body_owner(id, 1)).map_err(failed)?;
            archive.body(&entry, &mut |piece| file.write(piece).map_err(|error| error.to_string()))?;
            file.finish().map_err(failed)?
        };
        entry.enqueue(&mut self.batch, id, body, now);
        self.open.0 += 1;
        Ok(())
    }

    fn commit(&mut self, commit: Commit<'_>) -> Result<(), StoreError> {
        if self.open.0 > 0 {
            commit(std::mem::take(&mut self.batch))?;
            self.imported += self.open.0 as u64;
            self.open = (0, 0);
        }
        Ok(())
    }
}
