//! A few threads for work that takes long enough to hold others up.

use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, bounded};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::Instant;

/// Pieces of work that wait for a thread, for each thread: who brings more waits with it in hand.
const WAITING_PER_THREAD: usize = 64;

type Job = Box<dyn FnOnce() + Send>;
type Waited = Arc<dyn Fn(Duration) + Send + Sync>;

/// The threads. Clones share them; they end with the last of these.
#[derive(Clone)]
pub struct Cpu(Option<Threads>);

#[derive(Clone)]
struct Threads {
    jobs: Sender<Job>,
    places: Arc<Semaphore>,
    waited: Waited,
}

impl Cpu {
    /// No threads: work is done where it is brought. For worlds in which everything happens in one order.
    pub fn inline() -> Self {
        Cpu(None)
    }

    /// So many threads; `waited` hears how long each piece of work waited for one.
    pub fn start(threads: usize, waited: impl Fn(Duration) + Send + Sync + 'static) -> io::Result<Self> {
        let waiting = threads.max(1) * WAITING_PER_THREAD;
        let (jobs, brought): (Sender<Job>, Receiver<Job>) = bounded(waiting);
        for number in 0..threads.max(1) {
            let brought = brought.clone();
            // so that whoever waits for this core, and needs it but for a moment, does not wait for a whole time slice
            let work = move || {
                brought.iter().for_each(|job| {
                    job();
                    std::thread::yield_now();
                });
            };
            std::thread::Builder::new().name(format!("cpu-{number}")).spawn(work)?;
        }
        Ok(Cpu(Some(Threads { jobs, places: Arc::new(Semaphore::new(waiting)), waited: Arc::new(waited) })))
    }

    /// Has a piece of work done; nothing where it panicked.
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let guarded = move || catch_unwind(AssertUnwindSafe(work)).ok();
        let Some(threads) = &self.0 else { return guarded() };
        let brought = Instant::now();
        // never closed
        let place = threads.places.clone().acquire_owned().await.ok()?;
        let (done, result) = oneshot::channel();
        let waited = threads.waited.clone();
        let job = move || {
            waited(brought.elapsed());
            drop(place);
            // nobody waits for it any more: it was given up
            let _ = done.send(guarded());
        };
        // whoever has a place finds room
        threads.jobs.try_send(Box::new(job)).ok()?;
        result.await.ok().flatten()
    }
}

impl fmt::Debug for Cpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Cpu" } else { "Cpu inline" })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn work_is_done_elsewhere_and_a_panic_costs_only_itself() {
        let heard = Arc::new(AtomicUsize::new(0));
        let counts = heard.clone();
        let count = move |_| {
            counts.fetch_add(1, Ordering::SeqCst);
        };
        let cpu = Cpu::start(1, count).expect("starts");
        let here = std::thread::current().id();
        assert_eq!(cpu.run(move || std::thread::current().id() == here).await, Some(false));
        assert_eq!(cpu.run(|| std::panic::resume_unwind(Box::new("as planned"))).await, None::<()>);
        assert_eq!(cpu.run(|| 7).await, Some(7));
        assert_eq!(heard.load(Ordering::SeqCst), 3);
        assert_eq!(Cpu::inline().run(move || std::thread::current().id() == here).await, Some(true));
    }

    #[tokio::test]
    async fn what_is_more_than_may_wait_waits_outside_and_none_is_lost() {
        let cpu = Cpu::start(1, |_| {}).expect("starts");
        let (go, wait) = mpsc::channel::<()>();
        let blocked = cpu.clone();
        let first = tokio::spawn(async move { blocked.run(move || wait.recv().is_ok()).await });
        let more: Vec<_> = (0..3 * WAITING_PER_THREAD)
            .map(|number| {
                let cpu = cpu.clone();
                tokio::spawn(async move { cpu.run(move || number).await })
            })
            .collect();
        tokio::task::yield_now().await;
        go.send(()).expect("heard");
        assert_eq!(first.await.expect("ends"), Some(true));
        for (number, done) in more.into_iter().enumerate() {
            assert_eq!(done.await.expect("ends"), Some(number));
        }
    }
}
