//! Durable rows and bodies: the log is the truth, the index is found again from it.
//!
//! Owns the data directory. Promises that a batch answered with success survives any crash, whole;
//! that a batch not answered is there whole or not at all; that memory does not grow with what is
//! stored, but for the index's own cost. Knows nothing of mail: rows are octets under keys, some own
//! a body, some are counters, some are alarms (names in the order in which they ring, silent under
//! curfews).
//!
//! ```text
//! batch -> writer: resolve to puts and deletes -> one record group in the log, one sync -> answer
//!                                             \-> memtable -> (grown: frozen) -> index (sled)
//! read  -> memtables over index, bodies from memory, log or file
//! ```
//!
//! Mail that is delivered within seconds never reaches the index: its rows come and go in the
//! memtable. Everything replays from the position that the index has; the index itself is rebuilt from
//! the log after a power cut, or when it is damaged. The log's oldest segment is freed when nothing
//! lives in it; where little lives in much log, the rest is moved to the head first.

mod ailment;
mod alarm;
mod ballast;
mod batch;
mod block;
mod body;
mod compact;
mod desk;
mod disk;
mod error;
mod frame;
mod group;
mod home;
mod index;
mod log;
mod memory;
mod memtable;
mod meters;
mod reader;
mod resolve;
mod row;
mod segments;
mod sled_index;
mod threads;
mod writer;

#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod failure_tests;
#[cfg(test)]
mod stepped;

use std::path::Path;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};

pub use alarm::{Curfew, Rung, curfew_key};
pub use batch::{Batch, Haste, NewBody, Op};
pub use body::BodyFile;
pub use desk::Done;
pub use disk::{Disk, DiskFile, Fault, LossyDisk, RealDisk};
pub use error::StoreError;
pub use home::{Findings, rebuild, verify};
pub use index::{Index, Marker, MemoryIndex, MemtableRef, Rows};
pub use log::{Appended, Log, LogReader, LoggedGroup, Replayed, SegmentSize, Visit};
pub use memory::MemoryLog;
pub use reader::{BodyReader, FileReader, Reader};
pub use row::{Blob, KEY_MAX_OCTETS, Key, Position, Row};
pub use segments::{SegmentLog, SegmentSettings};
pub use sled_index::SledIndex;
pub use writer::WriterSettings;

use crate::clock::Clock;
use ailment::Ailment;
use desk::{Desk, Submission};
use threads::{READS_MAX, REQUESTS_MAX, Threads};
use writer::Writer;

/// Bodies up to this size live in the log; larger ones get a file.
pub const BODY_IN_LOG_MAX_OCTETS: usize = 512 << 10;

/// Told, on the writer's thread, of the alarms that a durable group set or touched. Must not block.
pub type AlarmSink = Box<dyn Fn(&[Rung]) + Send>;

/// The sizes of the store's parts.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// The log's pieces.
    pub segments: SegmentSettings,
    /// When the writer acts.
    pub writer: WriterSettings,
    /// sled's page cache. It takes about twice as much memory.
    pub index_cache_octets: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            segments: SegmentSettings::default(),
            writer: WriterSettings::default(),
            index_cache_octets: 8 << 20,
        }
    }
}

/// What runs the store: threads on the machine, one task in the simulator.
trait Engine: Send + Sync {
    /// Hands a batch to the writer. Never blocks: there are fewer permits than places.
    fn submit(&self, submission: Submission) -> Result<(), StoreError>;
    /// Has a step run by a reader. Never blocks.
    fn read(&self, read: Read) -> Result<(), StoreError>;
    /// Waits until everything submitted is durable and the index is on the disk; false where that was
    /// done before.
    fn stop(&self) -> Result<bool, StoreError>;
}

/// A step of a reader.
type Read = Box<dyn FnOnce(&Reader) + Send>;

/// The store. Clones share it; the last one to go should be [`Store::close`]d.
#[derive(Clone)]
pub struct Store(Arc<Shared>);

struct Shared {
    engine: Arc<dyn Engine>,
    ailment: Ailment,
    reader: Reader,
    ended: watch::Receiver<()>,
    /// Places for what somebody waits for, and for what already happened: neither crowds the other out.
    now_permits: Arc<Semaphore>,
    soon_permits: Arc<Semaphore>,
    read_permits: Arc<Semaphore>,
    home: Option<home::Home>,
}

impl Store {
    /// Opens the store in a directory, making it where it is missing. `progress` gets the octets of the
    /// log that were replayed so far.
    pub fn open(
        dir: &Path,
        settings: Settings,
        clock: Clock,
        alarms: AlarmSink,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(Self, Replayed), StoreError> {
        let home = home::Home::enter(dir)?;
        let Opened { writer, disk, index, report } = loop {
            match Self::open_whole(&home, settings, progress) {
                // what was accepted must go out also where a full disk met a crash
                Err(StoreError::Full) if home.make_room()? => tracing::warn!(event = "ballast_dropped"),
                opened => break opened?,
            }
        };
        Ok((Self::start(writer, disk, index, clock, alarms, Some(home))?, report))
    }

    fn open_whole(
        home: &home::Home,
        settings: Settings,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Opened, StoreError> {
        match Self::open_once(home, settings, progress) {
            Err(error @ (StoreError::Index(_) | StoreError::Damaged(_))) => {
                tracing::error!(event = "index_rebuild", reason = %error);
                home.forget_index()?;
                Self::open_once(home, settings, progress)
            }
            opened => opened,
        }
    }

    fn open_once(
        home: &home::Home,
        settings: Settings,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Opened, StoreError> {
        let (log, disk, index) = home.open_parts(settings)?;
        // before anything is fed to the index: a power cut meanwhile must not leave half of one that is trusted
        home.mark_running()?;
        let (writer, report) =
            Writer::open(Box::new(log), disk.clone(), index.clone(), settings.writer, progress)?;
        Ok(Opened { writer, disk, index, report })
    }

    /// Opens a store on parts of one's own: the simulator's.
    pub fn open_on(
        log: Box<dyn Log>,
        disk: Arc<dyn Disk>,
        index: Arc<dyn Index>,
        settings: WriterSettings,
        clock: Clock,
        alarms: AlarmSink,
    ) -> Result<(Self, Replayed), StoreError> {
        let (writer, report) = Writer::open(log, disk.clone(), index.clone(), settings, &mut |_| {})?;
        Ok((Self::start(writer, disk, index, clock, alarms, None)?, report))
    }

    fn start(
        writer: Writer,
        disk: Arc<dyn Disk>,
        index: Arc<dyn Index>,
        clock: Clock,
        alarms: AlarmSink,
        home: Option<home::Home>,
    ) -> Result<Self, StoreError> {
        let parts = (writer, disk, index);
        Self::run_by(parts, clock, alarms, home, |desk, reader, alive| {
            Ok(Arc::new(Threads::start(desk, reader, alive)?))
        })
    }

    /// A store run by an engine, which drops the sender it is given when the writer has ended.
    fn run_by(
        (writer, disk, index): (Writer, Arc<dyn Disk>, Arc<dyn Index>),
        clock: Clock,
        alarms: AlarmSink,
        home: Option<home::Home>,
        start: impl FnOnce(Desk, Reader, watch::Sender<()>) -> Result<Arc<dyn Engine>, StoreError>,
    ) -> Result<Self, StoreError> {
        let reader = Reader { view: writer.view(), index, log: writer.log().reader(), disk };
        let ailment = Ailment::default();
        let desk = Desk::new(writer, clock, alarms, ailment.clone());
        let (alive, ended) = watch::channel(());
        let engine = start(desk, reader.clone(), alive)?;
        Ok(Store(Arc::new(Shared {
            engine,
            ailment,
            reader,
            ended,
            now_permits: Arc::new(Semaphore::new(REQUESTS_MAX / 2)),
            soon_permits: Arc::new(Semaphore::new(REQUESTS_MAX / 4)),
            read_permits: Arc::new(Semaphore::new(READS_MAX)),
            home,
        })))
    }

    /// Makes a batch durable; returns the number of its group.
    pub async fn commit(&self, batch: Batch) -> Result<u64, StoreError> {
        self.commit_with(batch, Haste::Now).await
    }

    /// Makes a batch durable, in its time.
    pub async fn commit_with(&self, batch: Batch, haste: Haste) -> Result<u64, StoreError> {
        let (tell, outcome) = oneshot::channel();
        let done = Box::new(move |result| {
            // nobody listens where the caller was cancelled; the batch is durable all the same
            let _ = tell.send(result);
        });
        self.submit(batch, haste, done).await?;
        outcome.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Hands a batch over; `done` hears of its end. Waits only for a place in the line.
    pub async fn submit(&self, batch: Batch, haste: Haste, done: Done) -> Result<(), StoreError> {
        if batch.weight_octets() > writer::BATCH_MAX_OCTETS {
            return Err(StoreError::TooLarge { limit_octets: writer::BATCH_MAX_OCTETS });
        }
        let permits = match haste {
            Haste::Now => &self.0.now_permits,
            Haste::Soon => &self.0.soon_permits,
        };
        let permit = place_in(permits).await?;
        let done: Done = Box::new(move |result| {
            drop(permit);
            done(result);
        });
        // permits are fewer than places, so this never blocks
        self.0.engine.submit(Submission { batch, haste, done })
    }

    /// Runs a step on a reader thread.
    pub async fn read<T, F>(&self, step: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Reader) -> Result<T, StoreError> + Send + 'static,
    {
        let permit = place_in(&self.0.read_permits).await?;
        let (tell, outcome) = oneshot::channel();
        let read = Box::new(move |reader: &Reader| {
            let result = step(reader);
            drop(permit);
            let _ = tell.send(result);
        });
        self.0.engine.read(read)?;
        outcome.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Reads on the caller's own thread. Blocking: for start-up, tools and tests.
    pub fn reader(&self) -> &Reader {
        &self.0.reader
    }

    /// Begins the file of a body too large for the log, for the row under `owner`. Blocking.
    pub fn body_file(&self, owner: &[u8]) -> Result<BodyFile, StoreError> {
        BodyFile::create(self.0.reader.disk.clone(), owner)
    }

    /// Returns when the store has stopped taking anything: after [`Store::close`], or for good after a
    /// fault that only a new start mends.
    pub async fn ended(&self) {
        let mut ended = self.0.ended.clone();
        // nothing is ever sent: an error is the end
        while ended.changed().await.is_ok() {}
    }

    /// What is wrong with the store now.
    pub fn ailment(&self) -> Option<String> {
        self.0.ailment.get().map(|error| error.to_string())
    }

    /// Whether there is no room for anything new.
    pub fn is_full(&self) -> bool {
        self.0.ailment.is_full()
    }

    /// Waits until everything submitted is durable, puts the index on the disk and stops. Blocking.
    pub fn close(&self) -> Result<(), StoreError> {
        if self.0.engine.stop()? {
            self.0.home.as_ref().map_or(Ok(()), home::Home::mark_stopped)?;
        }
        Ok(())
    }
}

/// A store before its threads run.
struct Opened {
    writer: Writer,
    disk: Arc<dyn Disk>,
    index: Arc<dyn Index>,
    report: Replayed,
}

async fn place_in(permits: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, StoreError> {
    permits.clone().acquire_owned().await.map_err(|_| StoreError::Closed)
}
