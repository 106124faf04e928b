//! The lane of a path: copies ready to be sent, where its sessions take them.
//!
//! Plain memory shared between the path's actor, the domains that feed it and its sessions, so that
//! the next copy costs a session no message to another thread. A place is reserved by a credit before
//! a row is read; a credit comes back by itself, whatever becomes of the copy.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::pace::Pace;
use super::ready::Ready;
use crate::mail::{Class, ClientName, Domain, TlsWish};
use crate::queue::Leased;
use crate::work::Permit;

/// What a session has before it, where there are many.
const COPIES_PER_SESSION: usize = 4;
/// Places kept for urgent mail in a window that other mail has filled.
const URGENT_PLACES: usize = 8;

/// A copy with its place.
pub(super) struct Work {
    pub(super) leased: Leased,
    pub(super) credit: Credit,
    /// How often it came back because a connection was dead before it.
    pub(super) comebacks: u8,
}

impl Work {
    /// Where it stands in the order of going.
    fn place(&self) -> (Class, ClientName, u64) {
        let envelope = &self.leased.queued.envelope;
        (envelope.class, envelope.client.clone(), envelope.size_octets)
    }
}

/// A place in a lane's window, and one among all copies that may be in memory.
pub(super) struct Credit {
    lane: Arc<Lane>,
    _copy: OwnedSemaphorePermit,
    /// A place within the domain's own limit, where it has one.
    pub(super) of_domain: Option<Permit>,
}

/// Copies that may be in memory, over all lanes.
#[derive(Clone)]
pub(super) struct CopyPlaces {
    /// Any.
    pub(super) all: Arc<Semaphore>,
    /// A few more, for urgent ones where all places are taken.
    pub(super) urgent: Arc<Semaphore>,
}

/// Called when there is room again, once until it is re-armed.
pub(super) type RefillSignal = Box<dyn Fn() + Send + Sync>;

/// The lane.
pub(super) struct Lane {
    ready: Mutex<Ready<Work>>,
    arrived: Notify,
    closing: Notify,
    window_max: usize,
    /// Sessions that take from here.
    sessions: AtomicUsize,
    copies: CopyPlaces,
    out: AtomicUsize,
    idle: AtomicUsize,
    /// Sessions that have a copy and wait until it may go.
    pacing: AtomicUsize,
    /// When the next copy may go.
    pub(super) pace: Pace,
    /// Messages that one connection may bring.
    stint: AtomicU32,
    /// Copies ever taken.
    taken: AtomicU64,
    refill: RefillSignal,
    refill_armed: AtomicBool,
    closed: AtomicBool,
}

impl Lane {
    pub(super) fn new(
        window_max: usize,
        copies: CopyPlaces,
        per_second: Option<f64>,
        refill: RefillSignal,
    ) -> Arc<Self> {
        Arc::new(Lane {
            ready: Mutex::default(),
            arrived: Notify::new(),
            closing: Notify::new(),
            window_max,
            sessions: AtomicUsize::new(0),
            copies,
            out: AtomicUsize::new(0),
            idle: AtomicUsize::new(0),
            pacing: AtomicUsize::new(0),
            pace: Pace::new(per_second),
            stint: AtomicU32::new(u32::MAX),
            taken: AtomicU64::new(0),
            refill,
            refill_armed: AtomicBool::new(true),
            closed: AtomicBool::new(false),
        })
    }

    fn ready(&self) -> MutexGuard<'_, Ready<Work>> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Places that are taken, and those that are free.
    pub(super) fn places(&self) -> (usize, usize) {
        let taken = self.out.load(Ordering::SeqCst);
        (taken, self.window().saturating_sub(taken).min(self.copies.all.available_permits()))
    }

    /// Copies that may be here: some for each session, so that none waits for the next page.
    fn window(&self) -> usize {
        self.window_max.max(COPIES_PER_SESSION * self.sessions.load(Ordering::SeqCst))
    }

    /// Counts a session.
    pub(super) fn enter(&self) -> Counted<'_> {
        Counted::enter(&self.sessions)
    }

    /// Reserves places; fewer where other lanes were faster.
    pub(super) fn reserve(self: &Arc<Self>, places: usize) -> Vec<Credit> {
        self.reserve_among(places, &self.copies.all)
    }

    fn reserve_among(self: &Arc<Self>, places: usize, copies: &Arc<Semaphore>) -> Vec<Credit> {
        let copies = (0..places).map_while(|_| copies.clone().try_acquire_owned().ok());
        let credit = |copy| {
            self.out.fetch_add(1, Ordering::SeqCst);
            Credit { lane: self.clone(), _copy: copy, of_domain: None }
        };
        copies.map(credit).collect()
    }

    /// Reserves places for urgent mail, for which a few are kept beyond the window.
    pub(super) fn reserve_urgent(self: &Arc<Self>) -> Vec<Credit> {
        let taken = self.out.load(Ordering::SeqCst);
        let places = (self.window() + URGENT_PLACES).saturating_sub(taken).min(URGENT_PLACES);
        self.reserve_among(places, &self.copies.urgent)
    }

    /// Lets the next credit that comes back below half the window call for more.
    pub(super) fn arm_refill(&self) {
        self.refill_armed.store(true, Ordering::SeqCst);
    }

    /// Lets nothing wait here any more.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.closing.notify_waiters();
        self.clear();
    }

    /// Whether nothing may wait here any more.
    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// Returns when nothing may wait here any more.
    pub(super) async fn closed(&self) {
        let closing = self.closing.notified();
        if !self.closed.load(Ordering::SeqCst) {
            closing.await;
        }
    }

    /// Adds copies; a closed lane lets go of them.
    pub(super) fn push(&self, works: Vec<Work>) {
        let count = works.len();
        let mut ready = self.ready();
        // looked at under the lock that clearing takes: nothing slips in behind it
        if self.closed.load(Ordering::SeqCst) {
            drop(ready);
            return drop(works);
        }
        for work in works {
            let (class, client, octets) = work.place();
            ready.push(class, &client, octets, work);
        }
        drop(ready);
        (0..count).for_each(|_| self.arrived.notify_one());
    }

    /// Puts a copy back to be the next one: it was taken, and nothing was said about it.
    pub(super) fn push_front(&self, work: Work) {
        let (class, client, octets) = work.place();
        let mut ready = self.ready();
        if self.closed.load(Ordering::SeqCst) {
            drop(ready);
            return drop(work);
        }
        ready.push_front(class, &client, octets, work);
        drop(ready);
        self.arrived.notify_one();
    }

    /// Takes everything out: the leases end, and the rows wait again.
    pub(super) fn clear(&self) {
        let works = self.ready().take_all();
        // outside the lock: credits signal as they go
        drop(works);
    }

    /// How many copies were ever taken: while this stands still, nothing moves.
    pub(super) fn taken(&self) -> u64 {
        self.taken.load(Ordering::SeqCst)
    }

    /// Copies that wait, and sessions that wait for one.
    pub(super) fn balance(&self) -> (usize, usize) {
        let ready = self.ready().len();
        (ready, self.idle.load(Ordering::SeqCst))
    }

    /// How many sessions wait until their copy may go.
    pub(super) fn pacing(&self) -> usize {
        self.pacing.load(Ordering::SeqCst)
    }

    /// Counts a session that waits until its copy may go.
    pub(super) fn wait_for_time(&self) -> Counted<'_> {
        Counted::enter(&self.pacing)
    }

    /// How many messages one connection may bring.
    pub(super) fn stint(&self) -> u32 {
        self.stint.load(Ordering::SeqCst)
    }

    /// Changes that.
    pub(super) fn set_stint(&self, messages: u32) {
        self.stint.store(messages, Ordering::SeqCst);
    }

    /// Puts a copy back and takes the one that is next now.
    pub(super) fn exchange(&self, work: Work) -> Work {
        let (class, client, octets) = work.place();
        let mut ready = self.ready();
        if ready.len() == 0 {
            return work;
        }
        ready.push_front(class, &client, octets, work);
        ready.pop().unwrap_or_else(|| unreachable!("it was just put in"))
    }

    /// Whose mail is next, and what its sender wants of TLS.
    pub(super) fn first(&self) -> Option<(Domain, TlsWish)> {
        let ready = self.ready();
        let queued = &ready.first()?.leased.queued;
        Some((queued.domain()?.clone(), queued.envelope.tls))
    }

    /// The next copy, if there is one.
    pub(super) fn pop(&self) -> Option<Work> {
        let work = self.ready().pop()?;
        self.taken.fetch_add(1, Ordering::SeqCst);
        Some(work)
    }

    /// The next copy; `None` when none came for `patience`.
    pub(super) async fn next(&self, patience: Duration) -> Option<Work> {
        if let Some(work) = self.pop() {
            return Some(work);
        }
        let idle = Counted::enter(&self.idle);
        let waited = timeout(patience, async {
            loop {
                let arrived = self.arrived.notified();
                if let Some(work) = self.pop() {
                    return work;
                }
                arrived.await;
            }
        });
        let work = waited.await.ok();
        drop(idle);
        work
    }
}

/// Counts a waiting session, also when its task is cancelled.
pub(super) struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn enter(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Counted(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Drop for Credit {
    fn drop(&mut self) {
        let lane = &self.lane;
        let left = lane.out.fetch_sub(1, Ordering::SeqCst) - 1;
        if left <= lane.window() / 2 && lane.refill_armed.swap(false, Ordering::SeqCst) {
            (lane.refill)();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(all: usize) -> CopyPlaces {
        CopyPlaces { all: Arc::new(Semaphore::new(all)), urgent: Arc::new(Semaphore::new(2)) }
    }

    #[test]
    fn a_full_window_keeps_places_for_urgent_copies() {
        let lane = Lane::new(4, places(4), None, Box::new(|| {}));
        let held = lane.reserve(9);
        assert_eq!((held.len(), lane.reserve(1).len()), (4, 0));
        let urgent = lane.reserve_urgent();
        assert_eq!((urgent.len(), lane.reserve_urgent().len()), (2, 0), "two in all");
        drop((held, urgent));
        assert_eq!(lane.places(), (0, 4));
    }

    #[test]
    fn credits_come_back_and_call_for_more_once() {
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = calls.clone();
        let lane =
            Lane::new(4, places(9), None, Box::new(move || _ = counted.fetch_add(1, Ordering::SeqCst)));
        let mut credits = lane.reserve(4);
        assert_eq!(lane.places(), (4, 0));
        credits.truncate(3);
        assert_eq!((lane.places().1, calls.load(Ordering::SeqCst)), (1, 0), "above half");
        credits.truncate(1);
        assert_eq!((lane.places().1, calls.load(Ordering::SeqCst)), (3, 1), "once, at half");
        lane.arm_refill();
        drop(credits);
        assert_eq!((lane.places().1, calls.load(Ordering::SeqCst)), (4, 2));
    }

    #[test]
    fn all_lanes_together_hold_no_more_copies_than_there_may_be() {
        let copies = places(5);
        let [first, second] = [(); 2].map(|()| Lane::new(4, copies.clone(), None, Box::new(|| {})));
        let held = first.reserve(4);
        assert_eq!((held.len(), second.places(), second.reserve(4).len()), (4, (0, 1), 1));
        drop(held);
        assert_eq!(second.reserve(4).len(), 4);
    }
}
