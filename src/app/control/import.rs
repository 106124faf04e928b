//! Copies taken over from another host: what an export wrote, into a relay that runs or into its data directory.

use std::io::{self, Read};
use std::sync::Arc;

use axum::body::Body;
use bytes::{Buf as _, Bytes};
use http_body_util::BodyExt as _;
use serde_json::json;
use tokio::sync::mpsc;

use super::server::{Control, Out, Outcome};
use crate::clock::Clock;
use crate::mail::MessageIds;
use crate::queue;
use crate::queue::archive::{self, Archive, ArchiveError, ArchiveId, Entry};
use crate::store::{BODY_IN_LOG_MAX_OCTETS, Batch, NewBody, Store, StoreError};

/// Copies, and octets, that are made durable together.
const BATCH_COPIES: usize = 128;
const BATCH_OCTETS: usize = 2 << 20;
/// Pieces of an upload in memory.
const PIECES_MAX: usize = 4;

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
