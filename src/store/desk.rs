//! The writer's desk: what came in, what is under way, what is written when.
//!
//! Without threads, channels or waiting: [`super::threads`] hosts it on the machine, a test on a
//! simulated one. Its host hands in requests and events, gives it a turn, and does the jobs it is given.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::AlarmSink;
use super::ailment::Ailment;
use super::batch::{Batch, Haste};
use super::error::StoreError;
use super::index::{Index, Marker};
use super::meters::Meters;
use super::writer::{FlushJob, GROUP_GOAL_OCTETS, Writer};
use crate::clock::Clock;

/// How long a batch that nobody waits for may wait for company.
const SOON: Duration = Duration::from_millis(50);
/// A segment that could not be emptied is left alone for this long.
const STUCK: Duration = Duration::from_secs(600);
/// What is said of an index that is behind what it had.
const LOST_ROWS: &str = "it lost rows that it had taken in";
/// How long it rests before it tries again what must not be lost.
pub(super) const RETRY: Duration = Duration::from_millis(200);
/// The longest rest of a desk with nothing to do.
const IDLE: Duration = Duration::from_secs(1);
/// How often a store that fails looks whether it still does, when nobody wants anything written.
const PROBE: Duration = Duration::from_millis(500);
/// How often it looks up while it waits for the index.
const OVERFULL_LOOK: Duration = Duration::from_millis(10);

/// Called on the writer's thread when a batch is durable and visible (its group's number), or failed.
pub type Done = Box<dyn FnOnce(Result<u64, StoreError>) + Send>;

/// A batch on its way.
pub(super) struct Submission {
    pub(super) batch: Batch,
    pub(super) haste: Haste,
    pub(super) done: Done,
}

/// What is done beside the writer; one of each at a time.
pub(super) enum Job {
    Flush(FlushJob),
    Checkpoint(Marker),
    /// Empties a segment.
    Compact(u32),
}

/// How a job ended.
pub(super) enum Event {
    Flushed(FlushJob),
    FlushFailed(FlushJob, StoreError),
    /// The index came back without rows that it had taken in, or does not come back.
    IndexLost(Arc<str>),
    Checkpointed(Marker),
    CheckpointFailed(StoreError),
    Compacted(u32, Result<u64, StoreError>),
}

/// Makes an index usable again.
pub(super) type Reopen<'a> = &'a mut dyn FnMut(&dyn Index) -> Result<(), StoreError>;

impl Job {
    /// Does what concerns the index; `reopen` makes it usable again after an error, or says why it cannot: that
    /// is what is wrong then.
    pub(super) fn run(self, index: &dyn Index, reopen: Reopen<'_>) -> Option<Event> {
        match self {
            Job::Flush(job) => Some(match job.run(index) {
                Ok(()) => Event::Flushed(job),
                Err(error) => match reopen(index).err().unwrap_or(error) {
                    StoreError::Damaged(why) => Event::IndexLost(why),
                    error => match job.fits(index) {
                        Ok(false) => Event::IndexLost(LOST_ROWS.into()),
                        _ => Event::FlushFailed(job, error),
                    },
                },
            }),
            Job::Checkpoint(marker) => Some(match index.checkpoint() {
                Ok(()) => Event::Checkpointed(marker),
                Err(error) => match reopen(index).err().unwrap_or(error) {
                    StoreError::Damaged(why) => Event::IndexLost(why),
                    error => match index.marker() {
                        Ok(now) if now.as_ref().is_none_or(|now| now.seq < marker.seq) => {
                            Event::IndexLost(LOST_ROWS.into())
                        }
                        _ => Event::CheckpointFailed(error),
                    },
                },
            }),
            Job::Compact(_) => None,
        }
    }
}

/// Which jobs are under way.
#[derive(Default)]
struct Busy {
    flush: bool,
    checkpoint: bool,
    compaction: bool,
    /// The segment that compaction could not empty, and when that was.
    stuck: Option<(u32, Instant)>,
}

/// The desk.
pub(super) struct Desk {
    writer: Writer,
    clock: Clock,
    alarms: AlarmSink,
    ailment: Ailment,
    meters: Meters,
    gathered: Vec<Submission>,
    /// Since when the oldest gathered batch waits.
    waiting_since: Option<Instant>,
    /// When what failed is tried again.
    retry_at: Option<Instant>,
    /// When it was last looked whether what ails the store has passed.
    probed_at: Option<Instant>,
    /// A table that the index did not take, to be offered again.
    refused: Option<FlushJob>,
    /// Whether the index failed at its last job.
    index_ails: bool,
    /// Whether it failed for want of room.
    index_is_short: bool,
    busy: Busy,
    /// Why the index is lost, where it is, or rows in it are: only a new start finds them again, from the log.
    index_lost: Option<Arc<str>>,
}

impl Desk {
    pub(super) fn new(writer: Writer, clock: Clock, alarms: AlarmSink, ailment: Ailment) -> Self {
        Desk {
            writer,
            clock,
            alarms,
            ailment,
            meters: Meters::default(),
            gathered: Vec::new(),
            waiting_since: None,
            retry_at: None,
            probed_at: None,
            refused: None,
            index_ails: false,
            index_is_short: false,
            busy: Busy::default(),
            index_lost: None,
        }
    }

    /// Takes a batch in.
    pub(super) fn take(&mut self, submission: Submission) {
        self.gathered.push(submission);
        self.waiting_since.get_or_insert(self.clock.instant());
    }

    /// Whether the index must take a table in before more may come.
    pub(super) fn is_overfull(&self) -> bool {
        self.writer.is_overfull()
    }

    /// How long nothing will be due, if nothing comes in.
    pub(super) fn patience(&self) -> Duration {
        if self.is_overfull() {
            return OVERFULL_LOOK;
        }
        let now = self.clock.instant();
        let wait = self.waiting_since.map_or(IDLE, |since| SOON.saturating_sub(now.duration_since(since)));
        self.retry_at.map_or(wait, |at| wait.max(at.duration_since(now)))
    }

    /// Writes what is due; gives the jobs to be begun.
    pub(super) fn turn(&mut self) -> Result<Vec<Job>, StoreError> {
        self.check_index()?;
        if self.is_overfull() {
            self.endure();
        } else if self.is_due() {
            self.commit();
        } else if self.is_probe_due() {
            self.probe();
        }
        Ok(self.maintain())
    }

    fn is_probe_due(&self) -> bool {
        let now = self.clock.instant();
        let is_early = self.probed_at.is_some_and(|at| now.duration_since(at) < PROBE);
        !is_early && self.gathered.is_empty() && self.ailment.get().is_some()
    }

    /// Writes a group of nothing, for the case that nobody else tries: who looks at the store's health before
    /// they send anything would wait for ever.
    fn probe(&mut self) {
        self.probed_at = Some(self.clock.instant());
        // how it went is the store's health
        let _ = self.try_commit(&[], false);
    }

    fn is_due(&self) -> bool {
        let Some(since) = self.waiting_since else { return false };
        let now = self.clock.instant();
        let hasty = self.gathered.iter().any(|submission| submission.haste == Haste::Now);
        let is_resting = self.retry_at.is_some_and(|at| now < at);
        !is_resting && (hasty || now.duration_since(since) >= SOON)
    }

    /// What already happened is written while there is any room; new rows wait for the index, and an
    /// index that fails must not keep clients waiting for an answer.
    fn endure(&mut self) {
        let gathered = std::mem::take(&mut self.gathered);
        let (now, mut soon): (Vec<_>, Vec<_>) =
            gathered.into_iter().partition(|submission| submission.haste == Haste::Now);
        match self.ailment.get() {
            Some(why) => answer(now, &Err(why)),
            None => self.gathered = now,
        }
        let is_resting = self.retry_at.is_some_and(|at| self.clock.instant() < at);
        if !soon.is_empty() && !self.writer.is_brimful() && !is_resting {
            self.retry_at = None;
            self.commit_what_happened(std::mem::take(&mut soon));
        }
        self.gathered.append(&mut soon);
        self.waiting_since = (!self.gathered.is_empty()).then(|| self.clock.instant());
    }

    /// Commits what was gathered, in groups of a bounded size.
    pub(super) fn commit(&mut self) {
        (self.waiting_since, self.retry_at) = (None, None);
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
                let now = self.clock.instant();
                self.gathered.extend(soon);
                self.waiting_since.get_or_insert(now);
                self.retry_at = Some(now + RETRY);
            }
        }
    }

    fn try_commit(&mut self, submissions: &[Submission], from_reserve: bool) -> Result<u64, StoreError> {
        if self.index_is_short && !from_reserve {
            // the room that was given up for the index is not for new mail
            self.note_health(Some(&StoreError::Full), false);
            return Err(StoreError::Full);
        }
        let started = self.clock.instant();
        let batches: Vec<&Batch> = submissions.iter().map(|submission| &submission.batch).collect();
        let committed = self.writer.commit(&batches, from_reserve);
        self.note_health(committed.as_ref().err(), from_reserve);
        let committed = committed?;
        let took = self.clock.instant().duration_since(started);
        self.meters.group(batches.len(), committed.octets, took);
        if !committed.alarms.is_empty() {
            (self.alarms)(&committed.alarms);
        }
        Ok(committed.seq)
    }

    fn note_health(&self, error: Option<&StoreError>, from_reserve: bool) {
        match error {
            Some(error) => {
                let is_full = self.ailment.is_full() || matches!(error, StoreError::Full);
                self.ailment.set_full(is_full);
                self.ailment.set(Some(error));
            }
            // what came from the reserve does not show that there is room for more
            None if from_reserve => {}
            None => {
                self.ailment.set_full(false);
                if !self.index_ails {
                    self.ailment.set(None);
                }
            }
        }
    }

    /// Hears how a job ended.
    pub(super) fn note(&mut self, event: Event) {
        match event {
            Event::Flushed(job) => {
                self.busy.flush = false;
                self.index_works();
                self.writer.flushed(job);
            }
            Event::FlushFailed(job, error) => {
                self.index_fails(&error);
                // it must not be lost: the same table again
                self.refused = Some(job);
            }
            Event::IndexLost(why) => {
                self.ailment.set(Some(&StoreError::Index(why.clone())));
                self.index_lost = Some(why);
            }
            Event::Checkpointed(marker) => {
                self.busy.checkpoint = false;
                self.index_works();
                if let Err(error) = self.writer.checkpointed(marker) {
                    tracing::error!(event = "segment_not_freed", error = %error);
                }
            }
            Event::CheckpointFailed(error) => {
                self.busy.checkpoint = false;
                self.index_fails(&error);
            }
            Event::Compacted(segment, outcome) => {
                self.busy.compaction = false;
                match outcome {
                    // what was left there may have died, and the segment been freed, while it was read
                    outcome if !self.writer.lives(segment) => {
                        let octets = outcome.unwrap_or_default();
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

    fn index_works(&mut self) {
        (self.index_ails, self.index_is_short) = (false, false);
    }

    /// Without the index neither can results be written that it knows the rows of: it gets a piece of the room
    /// that is kept back, before its next try.
    fn index_fails(&mut self, error: &StoreError) {
        self.index_ails = true;
        self.note_health(Some(error), false);
        if matches!(error, StoreError::Full) {
            self.index_is_short = true;
            match self.writer.give_way() {
                Ok(true) => tracing::warn!(event = "ballast_dropped", what_for = "index"),
                Ok(false) => {}
                Err(error) => tracing::error!(event = "ballast_not_dropped", error = %error),
            }
        }
    }

    /// The jobs that are due beside the writer.
    fn maintain(&mut self) -> Vec<Job> {
        let mut jobs = Vec::new();
        if let Some(job) = self.refused.take() {
            jobs.push(Job::Flush(job));
        } else if !self.busy.flush
            && let Some(job) = self.writer.freeze(false)
        {
            self.busy.flush = true;
            jobs.push(Job::Flush(job));
        }
        if !self.busy.checkpoint
            && let Some(marker) = self.writer.wants_checkpoint()
        {
            self.busy.checkpoint = true;
            jobs.push(Job::Checkpoint(marker));
        }
        if !self.busy.compaction
            && let Some(segment) = self.writer.wants_compaction()
            && !self.is_stuck(segment)
        {
            self.busy.compaction = true;
            jobs.push(Job::Compact(segment));
        }
        if let Err(error) = self.writer.free_dead() {
            tracing::error!(event = "segment_not_freed", error = %error);
        }
        let (segments, live) = self.writer.sizes();
        self.meters.log(segments.iter().map(|segment| segment.octets).sum(), live);
        jobs
    }

    fn is_stuck(&self, segment: u32) -> bool {
        let since = self.busy.stuck.filter(|(stuck, _)| *stuck == segment);
        since.is_some_and(|(_, at)| self.clock.instant().duration_since(at) < STUCK)
    }

    /// Whether jobs are under way.
    pub(super) fn is_busy(&self) -> bool {
        (self.busy.flush && self.refused.is_none()) || self.busy.checkpoint || self.busy.compaction
    }

    /// Writes what is left and puts the index on the disk. No job may be under way: two tables never go
    /// into the index at once.
    pub(super) fn finish(mut self) -> Result<(), StoreError> {
        self.check_index()?;
        self.commit();
        self.writer.close(self.refused.take())
    }

    fn check_index(&self) -> Result<(), StoreError> {
        match &self.index_lost {
            // no clean end: the marker that the index has must decide where the replay begins
            Some(why) => Err(StoreError::Index(format!("{why}; start again").into())),
            None => Ok(()),
        }
    }
}

fn answer(submissions: Vec<Submission>, outcome: &Result<u64, StoreError>) {
    for submission in submissions {
        (submission.done)(outcome.clone());
    }
}
