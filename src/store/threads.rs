//! The store's threads: one writes, one feeds the index, one empties old segments, two read.
//!
//! Blocking belongs here and nowhere else. All channels are bounded; who submits holds a permit.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender, bounded, select, select_biased};
use tokio::sync::watch;

use super::AlarmSink;
use super::batch::{Batch, Haste};
use super::compact;
use super::error::StoreError;
use super::index::{Index, Marker};
use super::meters::Meters;
use super::reader::Reader;
use super::writer::{FlushJob, GROUP_GOAL_OCTETS, Writer};
use crate::clock::Clock;

/// Batches that may wait for the writer.
pub(super) const REQUESTS_MAX: usize = 4096;
/// Reads that may wait for a reader thread.
pub(super) const READS_MAX: usize = 1024;
const READER_THREADS: usize = 2;
/// How long a batch that nobody waits for may wait for company.
const SOON: Duration = Duration::from_millis(50);
/// How often the writer looks up while it waits for the index.
const OVERFULL_LOOK: Duration = Duration::from_millis(10);
/// A segment that could not be emptied is left alone for this long.
const STUCK: Duration = Duration::from_secs(600);
/// How long the writer waits before it tries again what must not be lost.
const RETRY: Duration = Duration::from_millis(200);

/// Called on the writer's thread when a batch is durable and visible (its group's number), or failed.
pub type Done = Box<dyn FnOnce(Result<u64, StoreError>) + Send>;
/// A step of a reader thread.
pub(super) type Read = Box<dyn FnOnce(&Reader) + Send>;

/// What the writer is asked.
pub(super) enum Request {
    Commit(Submission),
    Stop,
}

/// A batch on its way.
pub(super) struct Submission {
    pub(super) batch: Batch,
    pub(super) haste: Haste,
    pub(super) done: Done,
}

enum Job {
    Flush(FlushJob),
    Checkpoint(Marker),
}

enum Event {
    Flushed(FlushJob),
    FlushFailed(FlushJob, StoreError),
    /// The index came back without rows that it had taken in.
    IndexLost,
    Checkpointed(Marker),
    CheckpointFailed(StoreError),
    Compacted(u32, Result<u64, StoreError>),
}

/// What is wrong with the store now; `None` where all is well.
#[derive(Clone, Default)]
pub(super) struct Ailment(Arc<Mutex<Option<String>>>);

impl Ailment {
    pub(super) fn get(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set(&self, now: Option<&StoreError>) {
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = now.map(ToString::to_string);
        if *slot != now {
            match &now {
                Some(error) => tracing::error!(event = "store_failing", error = %error),
                None => tracing::info!(event = "store_recovered"),
            }
            *slot = now;
        }
    }
}

/// The running threads.
pub(super) struct Threads {
    pub(super) requests: Sender<Request>,
    pub(super) reads: Sender<Read>,
    pub(super) ailment: Ailment,
    /// Closed when the writer has ended.
    pub(super) ended: watch::Receiver<()>,
    writer: JoinHandle<Result<(), StoreError>>,
}

impl Threads {
    pub(super) fn start(
        writer: Writer,
        reader: Reader,
        clock: Clock,
        alarms: AlarmSink,
    ) -> Result<Self, StoreError> {
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
                let report = Event::Compacted(segment, compact::empty_segment(&reader, segment, &submit));
                if reports.send(report).is_err() {
                    break;
                }
            }
        })?;
        let ailment = Ailment::default();
        let desk = Desk {
            writer,
            clock,
            alarms,
            ailment: ailment.clone(),
            meters: Meters::default(),
            incoming,
            events,
            jobs,
            segments,
            gathered: Vec::new(),
            waiting_since: None,
            busy: Busy::default(),
            stopping: false,
            index_lost: false,
        };
        let (alive, ended) = watch::channel(());
        let writer = spawn("store-write", move || {
            // dropped on whatever way the writer ends, a panic included
            let _alive = alive;
            desk.run().inspect_err(|error| tracing::error!(event = "store_ended", error = %error))
        })?;
        Ok(Threads { requests, reads, ailment, ended, writer })
    }

    /// Waits until everything submitted is durable and the index is on the disk.
    pub(super) fn stop(self) -> Result<(), StoreError> {
        self.requests.send(Request::Stop).map_err(|_| StoreError::Closed)?;
        self.writer.join().unwrap_or(Err(StoreError::Closed))
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
        let report = match job {
            Job::Flush(job) => match job.run(index) {
                Ok(()) => Event::Flushed(job),
                Err(error) => {
                    reopen(index);
                    match job.fits(index) {
                        Ok(false) => Event::IndexLost,
                        _ => Event::FlushFailed(job, error),
                    }
                }
            },
            Job::Checkpoint(marker) => match index.checkpoint() {
                Ok(()) => Event::Checkpointed(marker),
                Err(error) => {
                    reopen(index);
                    match index.marker() {
                        Ok(now) if now.as_ref().is_none_or(|now| now.seq < marker.seq) => Event::IndexLost,
                        _ => Event::CheckpointFailed(error),
                    }
                }
            },
        };
        if reports.send(report).is_err() {
            break;
        }
    }
}

/// An error sticks to an open index: opens it anew for the next try, after a rest.
fn reopen(index: &dyn Index) {
    thread::sleep(RETRY);
    if let Err(error) = index.reopen() {
        tracing::error!(event = "index_not_reopened", error = %error);
    }
}

/// What is under way beside the writer; one of each at a time.
#[derive(Default)]
struct Busy {
    flush: bool,
    checkpoint: bool,
    compaction: bool,
    /// The segment that compaction could not empty, and when that was.
    stuck: Option<(u32, Instant)>,
}

/// The writer's desk: what came in, what is under way.
struct Desk {
    writer: Writer,
    clock: Clock,
    alarms: AlarmSink,
    ailment: Ailment,
    meters: Meters,
    incoming: Receiver<Request>,
    events: Receiver<Event>,
    jobs: Sender<Job>,
    segments: Sender<u32>,
    gathered: Vec<Submission>,
    /// Since when the oldest gathered batch waits.
    waiting_since: Option<Instant>,
    busy: Busy,
    /// Whether it is time to stop.
    stopping: bool,
    /// Whether the index lost rows: only a new start can find them again, from the log.
    index_lost: bool,
}

impl Desk {
    fn run(mut self) -> Result<(), StoreError> {
        loop {
            let go_on = self.gather();
            if self.is_due() || !go_on {
                self.commit();
            }
            self.maintain();
            if self.index_lost {
                // no clean end: the marker that the index has must decide where the replay begins
                return Err(StoreError::Index("it lost rows that it had taken in; start again".into()));
            }
            if !go_on {
                return self.finish();
            }
        }
    }

    /// Waits for something to do, then takes what else is there. False when it is time to stop.
    fn gather(&mut self) -> bool {
        let wait = match self.waiting_since {
            Some(since) => SOON.saturating_sub(self.clock.instant().duration_since(since)),
            None => Duration::from_secs(1),
        };
        if self.writer.is_overfull() {
            // the index must take a table in before more may come
            let event = self.events.recv_timeout(wait.clamp(OVERFULL_LOOK, SOON)).ok();
            event.into_iter().for_each(|event| self.note(event));
            self.gather_while_overfull();
            return !self.stopping;
        }
        let (incoming, events) = (&self.incoming, &self.events);
        let first = select_biased! {
            recv(events) -> event => {
                event.into_iter().for_each(|event| self.note(event));
                return true;
            }
            recv(incoming) -> request => request,
            default(wait) => return true,
        };
        let Ok(first) = first else { return false };
        let mut octets = 0;
        let mut next = Some(first);
        while let Some(request) = next {
            match request {
                Request::Stop => return false,
                Request::Commit(submission) => {
                    octets += submission.batch.weight_octets();
                    self.gathered.push(submission);
                }
            }
            next = if octets < GROUP_GOAL_OCTETS { self.incoming.try_recv().ok() } else { None };
        }
        self.waiting_since.get_or_insert(self.clock.instant());
        true
    }

    /// What already happened is written while there is any room; new rows wait for the index, and an
    /// index that fails must not keep clients waiting for an answer.
    fn gather_while_overfull(&mut self) {
        while let Ok(request) = self.incoming.try_recv() {
            match request {
                Request::Stop => self.stopping = true,
                Request::Commit(submission) => self.gathered.push(submission),
            }
        }
        let gathered = std::mem::take(&mut self.gathered);
        let (now, mut soon): (Vec<_>, Vec<_>) =
            gathered.into_iter().partition(|submission| submission.haste == Haste::Now);
        match self.ailment.get() {
            Some(why) => answer(now, &Err(StoreError::Index(why.into()))),
            None => self.gathered = now,
        }
        if !soon.is_empty() && !self.writer.is_brimful() {
            self.commit_what_happened(std::mem::take(&mut soon));
        }
        self.gathered.append(&mut soon);
        self.waiting_since = (!self.gathered.is_empty()).then(|| self.clock.instant());
    }

    fn is_due(&self) -> bool {
        let Some(since) = self.waiting_since else { return false };
        let hasty = self.gathered.iter().any(|submission| submission.haste == Haste::Now);
        !self.writer.is_overfull() && (hasty || self.clock.instant().duration_since(since) >= SOON)
    }

    /// Commits what was gathered, in groups of a bounded size.
    fn commit(&mut self) {
        self.waiting_since = None;
        let mut rest = std::mem::take(&mut self.gathered).into_iter().peekable();
        while rest.peek().is_some() {
            let mut octets = 0;
            let mut group = Vec::new();
            while let Some(next) = rest.next_if(|_| octets < GROUP_GOAL_OCTETS) {
                octets += next.batch.weight_octets();
                group.push(next);
            }
            self.commit_group(group);
        }
    }

    fn commit_group(&mut self, gathered: Vec<Submission>) {
        match self.try_commit(&gathered, false) {
            Ok(seq) => answer(gathered, &Ok(seq)),
            // one batch met a damaged row: the others shall not suffer for it
            Err(StoreError::Damaged(_)) if gathered.len() > 1 => {
                gathered.into_iter().for_each(|submission| self.commit_group(vec![submission]));
            }
            Err(error @ StoreError::Damaged(_)) => answer(gathered, &Err(error)),
            Err(error) => {
                // who waits is told; what already happened outside must be written all the same
                let (now, soon) = gathered.into_iter().partition(|submission| submission.haste == Haste::Now);
                answer(now, &Err(error));
                self.commit_what_happened(soon);
            }
        }
    }

    fn commit_what_happened(&mut self, soon: Vec<Submission>) {
        if soon.is_empty() {
            return;
        }
        match self.try_commit(&soon, true) {
            Ok(seq) => answer(soon, &Ok(seq)),
            Err(_) => {
                thread::sleep(RETRY);
                self.gathered.extend(soon);
                self.waiting_since.get_or_insert(self.clock.instant());
            }
        }
    }

    fn try_commit(&mut self, submissions: &[Submission], from_reserve: bool) -> Result<u64, StoreError> {
        let started = self.clock.instant();
        let batches: Vec<&Batch> = submissions.iter().map(|submission| &submission.batch).collect();
        let committed = self.writer.commit(&batches, from_reserve);
        self.ailment.set(committed.as_ref().err());
        let committed = committed?;
        let took = self.clock.instant().duration_since(started);
        self.meters.group(batches.len(), committed.octets, took);
        if !committed.alarms.is_empty() {
            (self.alarms)(&committed.alarms);
        }
        Ok(committed.seq)
    }

    fn note(&mut self, event: Event) {
        match event {
            Event::Flushed(job) => {
                self.busy.flush = false;
                self.writer.flushed(job);
            }
            Event::FlushFailed(job, error) => {
                self.ailment.set(Some(&error));
                // full, but it must not be lost: the same table again
                if self.jobs.try_send(Job::Flush(job)).is_err() {
                    self.busy.flush = false;
                }
            }
            Event::IndexLost => {
                self.index_lost = true;
                self.ailment.set(Some(&StoreError::Index("it lost rows that it had taken in".into())));
            }
            Event::Checkpointed(marker) => {
                self.busy.checkpoint = false;
                if let Err(error) = self.writer.checkpointed(marker) {
                    tracing::error!(event = "segment_not_freed", error = %error);
                }
            }
            Event::CheckpointFailed(error) => {
                self.busy.checkpoint = false;
                self.ailment.set(Some(&error));
            }
            Event::Compacted(segment, outcome) => {
                self.busy.compaction = false;
                match outcome {
                    Ok(octets) if !self.writer.lives(segment) => {
                        tracing::info!(event = "segment_emptied", segment, moved_octets = octets);
                    }
                    outcome => {
                        let error =
                            outcome.err().map_or("a damaged group hides rows".into(), |e| e.to_string());
                        tracing::error!(event = "segment_not_emptied", segment, error = %error);
                        self.busy.stuck = Some((segment, self.clock.instant()));
                    }
                }
            }
        }
    }

    /// Starts what is due beside the writer.
    fn maintain(&mut self) {
        if !self.busy.flush
            && let Some(job) = self.writer.freeze(false)
        {
            self.busy.flush = self.jobs.try_send(Job::Flush(job)).is_ok();
        }
        if !self.busy.checkpoint
            && let Some(marker) = self.writer.wants_checkpoint()
        {
            self.busy.checkpoint = self.jobs.try_send(Job::Checkpoint(marker)).is_ok();
        }
        if !self.busy.compaction
            && let Some(segment) = self.writer.wants_compaction()
            && !self.is_stuck(segment)
        {
            self.busy.compaction = self.segments.try_send(segment).is_ok();
        }
        if let Err(error) = self.writer.free_dead() {
            tracing::error!(event = "segment_not_freed", error = %error);
        }
        let (segments, live) = self.writer.sizes();
        self.meters.log(segments.iter().map(|segment| segment.octets).sum(), live);
    }

    fn is_stuck(&self, segment: u32) -> bool {
        let since = self.busy.stuck.filter(|(stuck, _)| *stuck == segment);
        since.is_some_and(|(_, at)| self.clock.instant().duration_since(at) < STUCK)
    }

    fn finish(mut self) -> Result<(), StoreError> {
        // what is under way first: two tables never go into the index at once
        while self.busy.flush || self.busy.checkpoint || self.busy.compaction {
            select! {
                recv(self.events) -> event => event.into_iter().for_each(|event| self.note(event)),
                recv(self.incoming) -> request => if let Ok(Request::Commit(submission)) = request {
                    self.gathered.push(submission);
                    self.commit();
                },
                default(Duration::from_secs(10)) => break,
            }
        }
        self.commit();
        self.writer.close()
    }
}

fn answer(submissions: Vec<Submission>, outcome: &Result<u64, StoreError>) {
    for submission in submissions {
        (submission.done)(outcome.clone());
    }
}
