//! The store's threads: one writes, one feeds the index, one empties old segments, two read.
//!
//! Blocking belongs here and nowhere else. All channels are bounded; who submits holds a permit.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, bounded, select, select_biased};
use tokio::sync::watch;

use super::batch::{Batch, Haste};
use super::compact;
use super::desk::{Desk, Event, Job, RETRY, Submission};
use super::error::StoreError;
use super::index::Index;
use super::reader::Reader;
use super::writer::GROUP_GOAL_OCTETS;
use super::{Engine, Read};

/// Batches that may wait for the writer.
pub(super) const REQUESTS_MAX: usize = 4096;
/// Reads that may wait for a reader thread.
pub(super) const READS_MAX: usize = 1024;
const READER_THREADS: usize = 2;
/// How long stopping waits for a job that is under way.
const JOB_PATIENCE: Duration = Duration::from_secs(10);

/// What the writer is asked.
enum Request {
    Commit(Submission),
    Stop,
}

/// The running threads.
pub(super) struct Threads {
    requests: Sender<Request>,
    reads: Sender<Read>,
    writer: Mutex<Option<JoinHandle<Result<(), StoreError>>>>,
}

impl Threads {
    /// Starts them; `alive` is dropped when the writer has ended.
    pub(super) fn start(desk: Desk, reader: Reader, alive: watch::Sender<()>) -> Result<Self, StoreError> {
        let (requests, incoming) = bounded(REQUESTS_MAX);
        let (reads, to_read) = bounded::<Read>(READS_MAX);
        let (jobs, to_do) = bounded(2);
        let (segments, to_compact) = bounded(1);
        let (reports, events) = bounded(8);
        for number in 0..READER_THREADS {
            let (to_read, reader) = (to_read.clone(), reader.clone());
            spawn(&format!("store-read-{number}"), move || {
                to_read.iter().for_each(|read| run_read(read, &reader))
            })?;
        }
        let (index, feeds) = (reader.index.clone(), reports.clone());
        spawn("store-index", move || feed_index(&*index, &to_do, &feeds))?;
        let submit = requests.clone();
        spawn("store-compact", move || {
            for segment in &to_compact {
                let mut commit = |batch| commit(&submit, batch);
                let emptied = compact::empty_segment(&reader, segment, &mut commit);
                let report = Event::Compacted(segment, emptied);
                if reports.send(report).is_err() {
                    break;
                }
            }
        })?;
        let office = Office { desk, incoming, events, jobs, segments };
        let writer = spawn("store-write", move || {
            // dropped on whatever way the writer ends, a panic included
            let _alive = alive;
            office.run().inspect_err(|error| tracing::error!(event = "store_ended", error = %error))
        })?;
        Ok(Threads { requests, reads, writer: Mutex::new(Some(writer)) })
    }
}

impl Engine for Threads {
    fn submit(&self, submission: Submission) -> Result<(), StoreError> {
        self.requests.try_send(Request::Commit(submission)).map_err(|_| StoreError::Closed)
    }

    fn read(&self, read: Read) -> Result<(), StoreError> {
        self.reads.try_send(read).map_err(|_| StoreError::Closed)
    }

    fn stop(&self) -> Result<bool, StoreError> {
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(writer) = writer else { return Ok(false) };
        self.requests.send(Request::Stop).map_err(|_| StoreError::Closed)?;
        writer.join().unwrap_or(Err(StoreError::Closed)).map(|()| true)
    }
}

fn spawn<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, StoreError> {
    thread::Builder::new().name(name.into()).spawn(work).map_err(StoreError::io("starting a thread"))
}

/// A step that panics costs its own answer, not the thread.
fn run_read(read: Read, reader: &Reader) {
    if catch_unwind(AssertUnwindSafe(|| read(reader))).is_err() {
        tracing::error!(event = "read_panicked");
    }
}

fn feed_index(index: &dyn Index, jobs: &Receiver<Job>, reports: &Sender<Event>) {
    for job in jobs {
        let report = job.run(index, &mut |index| reopen(index));
        if report.is_some_and(|report| reports.send(report).is_err()) {
            break;
        }
    }
}

/// Has a batch written, and waits for it.
fn commit(writer: &Sender<Request>, batch: Batch) -> Result<(), StoreError> {
    let (tell, outcome) = bounded(1);
    let done = Box::new(move |result: Result<u64, StoreError>| {
        // the receiver is gone only where this thread is
        let _ = tell.send(result);
    });
    let request = Request::Commit(Submission { batch, haste: Haste::Soon, done });
    writer.send(request).map_err(|_| StoreError::Closed)?;
    outcome.recv().map_err(|_| StoreError::Closed)?.map(drop)
}

/// An error sticks to an open index: opens it anew for the next try, after a rest.
fn reopen(index: &dyn Index) -> Result<(), StoreError> {
    thread::sleep(RETRY);
    index.reopen().inspect_err(|error| tracing::error!(event = "index_not_reopened", error = %error))
}

/// The writer's thread: a desk, and the channels that lead to it and away.
struct Office {
    desk: Desk,
    incoming: Receiver<Request>,
    events: Receiver<Event>,
    jobs: Sender<Job>,
    segments: Sender<u32>,
}

impl Office {
    fn run(mut self) -> Result<(), StoreError> {
        while self.gather() {
            for job in self.desk.turn()? {
                // one of each kind at a time: there is always room
                let begun = match job {
                    Job::Compact(segment) => self.segments.send(segment).is_ok(),
                    job => self.jobs.send(job).is_ok(),
                };
                begun.then_some(()).ok_or(StoreError::Closed)?;
            }
        }
        self.finish()
    }

    /// Waits for something to do, then takes what else is there. False when it is time to stop.
    fn gather(&mut self) -> bool {
        let patience = self.desk.patience();
        if self.desk.is_overfull() {
            // the index must take a table in before more may come
            if let Ok(event) = self.events.recv_timeout(patience) {
                self.desk.note(event);
            }
            return self.take(self.incoming.try_recv().ok(), usize::MAX);
        }
        let first = select_biased! {
            recv(self.events) -> event => {
                event.into_iter().for_each(|event| self.desk.note(event));
                return true;
            }
            recv(self.incoming) -> request => request,
            default(patience) => return true,
        };
        first.is_ok_and(|first| self.take(Some(first), GROUP_GOAL_OCTETS))
    }

    /// Takes what is there, up to about so many octets. False when it is time to stop.
    fn take(&mut self, first: Option<Request>, goal_octets: usize) -> bool {
        let (mut octets, mut next) = (0, first);
        while let Some(request) = next {
            match request {
                Request::Stop => return false,
                Request::Commit(submission) => {
                    octets += submission.batch.weight_octets();
                    self.desk.take(submission);
                }
            }
            next = if octets < goal_octets { self.incoming.try_recv().ok() } else { None };
        }
        true
    }

    fn finish(mut self) -> Result<(), StoreError> {
        while self.desk.is_busy() {
            select! {
                recv(self.events) -> event => event.into_iter().for_each(|event| self.desk.note(event)),
                recv(self.incoming) -> request => if let Ok(Request::Commit(submission)) = request {
                    self.desk.take(submission);
                    self.desk.commit();
                },
                default(JOB_PATIENCE) => break,
            }
        }
        self.desk.finish()
    }
}
