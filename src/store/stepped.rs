//! The store without threads, for the simulator: one task writes, a read runs where it is asked for.
//!
//! Hosts the very desk that the threads host, so that what is gathered, written, refused and tried
//! again is decided by the same code, in an order that a seed repeats.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};

use super::batch::Haste;
use super::compact;
use super::desk::{Desk, Event, Job, Submission};
use super::disk::Disk;
use super::error::StoreError;
use super::index::Index;
use super::log::{Log, Replayed};
use super::reader::Reader;
use super::writer::{Writer, WriterSettings};
use super::{AlarmSink, Engine, Read, Store};
use crate::clock::Clock;

/// What a sync takes.
const SYNC: Duration = Duration::from_millis(2);

struct Stepped {
    desk: Mutex<Option<Desk>>,
    reader: Reader,
    arrived: Notify,
}

impl Store {
    /// Opens a store that runs as a task of the current runtime.
    pub fn open_stepped(
        log: Box<dyn Log>,
        disk: Arc<dyn Disk>,
        index: Arc<dyn Index>,
        settings: WriterSettings,
        clock: Clock,
        alarms: AlarmSink,
    ) -> Result<(Self, Replayed), StoreError> {
        let (writer, report) = Writer::open(log, disk.clone(), index.clone(), settings, &mut |_| {})?;
        let store = Self::run_by((writer, disk, index), clock, alarms, None, |desk, reader, alive| {
            let desk = Mutex::new(Some(desk));
            let engine = Arc::new(Stepped { desk, reader, arrived: Notify::new() });
            tokio::spawn(engine.clone().run(alive));
            Ok(engine)
        });
        Ok((store?, report))
    }
}

impl Engine for Stepped {
    fn submit(&self, submission: Submission) -> Result<(), StoreError> {
        self.desk().as_mut().ok_or(StoreError::Closed)?.take(submission);
        self.arrived.notify_one();
        Ok(())
    }

    fn read(&self, read: Read) -> Result<(), StoreError> {
        read(&self.reader);
        Ok(())
    }

    fn stop(&self) -> Result<bool, StoreError> {
        match self.desk().take() {
            Some(desk) => desk.finish().map(|()| true),
            None => Ok(false),
        }
    }
}

impl Stepped {
    fn desk(&self) -> MutexGuard<'_, Option<Desk>> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn run(self: Arc<Self>, _alive: watch::Sender<()>) {
        loop {
            let Some(patience) = self.desk().as_ref().map(Desk::patience) else { return };
            // either way there may be something to do
            let _ = timeout(patience, self.arrived.notified()).await;
            // the sync before this one: who comes meanwhile goes with the next
            sleep(SYNC).await;
            if self.turn().is_err() {
                return;
            }
        }
    }

    fn turn(&self) -> Result<(), StoreError> {
        let mut slot = self.desk();
        let desk = slot.as_mut().ok_or(StoreError::Closed)?;
        for job in desk.turn()? {
            let event = match job {
                Job::Compact(segment) => Some(self.compact(desk, segment)),
                job => job.run(&*self.reader.index, &mut |_| Ok(())),
            };
            event.into_iter().for_each(|event| desk.note(event));
        }
        Ok(())
    }

    fn compact(&self, desk: &mut Desk, segment: u32) -> Event {
        let mut commit = |batch| {
            desk.take(Submission { batch, haste: Haste::Soon, done: Box::new(|_| {}) });
            desk.commit();
            Ok(())
        };
        Event::Compacted(segment, compact::empty_segment(&self.reader, segment, &mut commit))
    }
}
