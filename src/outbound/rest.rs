//! What is known of destinations that are down, on its way to and from the store.
//!
//! A failure here costs a look too many at a destination, never mail: it is logged, and that is all.

use std::time::Duration;

use super::{Deps, governor};
use crate::clock::Timestamp;
use crate::queue::{Destination, Rest};
use crate::store::{Batch, Haste, Key, Reader, StoreError};

/// What nobody waits for is forgotten when it is this old.
const DAY: Duration = Duration::from_secs(86_400);
/// Rows looked at in one piece.
const TIDIED_AT_ONCE: usize = 500;

/// What is known of a destination. A rest that began before this process is over: a new start is a new
/// chance; how often it failed stays known.
pub(super) async fn recall(deps: &Deps, destination: &Destination) -> Option<Rest> {
    let of = destination.clone();
    let known = deps.store.read(move |reader| of.rest(reader)).await;
    let known = known.unwrap_or_else(|error| {
        tracing::error!(event = "rest_not_read", error = %error);
        None
    });
    let until = |rest: &Rest| if rest.since < deps.started { Timestamp::ZERO } else { rest.until };
    known.map(|rest| Rest { until: until(&rest), ..rest })
}

/// Notes that a destination is down.
pub(super) async fn note_down(deps: &Deps, destination: &Destination, rest: Rest) {
    let mut batch = Batch::new();
    destination.shut(&mut batch, &rest);
    if let Err(error) = deps.store.submit(batch, Haste::Soon, Box::new(|_| {})).await {
        tracing::error!(event = "rest_not_noted", error = %error);
    }
}

/// Notes that a destination is up, and lets everything ring that waits for it.
pub(super) async fn note_up(deps: &Deps, destination: &Destination) {
    if let Err(error) = lift_all(deps, destination).await {
        tracing::error!(event = "rest_not_ended", error = %error);
    }
}

/// Forgets, now and each day, what was known of destinations that nobody has mail for any more.
pub(super) async fn tidy(deps: &Deps) {
    let mut days = tokio::time::interval(DAY);
    loop {
        days.tick().await;
        if let Err(error) = forget_old(deps).await {
            tracing::error!(event = "rests_not_forgotten", error = %error);
        }
        if let Err(error) = forget_learned(deps).await {
            tracing::error!(event = "learned_not_forgotten", error = %error);
        }
    }
}

async fn forget_old(deps: &Deps) -> Result<(), StoreError> {
    let now = deps.clock.now().as_millis();
    let before = Timestamp::from_millis(now.saturating_sub(DAY.as_millis() as u64));
    piecewise(deps, move |reader, batch, after| {
        Destination::forget_old(reader, batch, before, after, TIDIED_AT_ONCE)
    })
    .await
}

async fn forget_learned(deps: &Deps) -> Result<(), StoreError> {
    let now = deps.clock.now();
    piecewise(deps, move |reader, batch, after| {
        governor::forget_old(reader, batch, now, after.as_ref(), TIDIED_AT_ONCE)
    })
    .await
}

/// Goes through rows in pieces, each behind the key that the one before gave, and commits what each wants changed.
async fn piecewise(
    deps: &Deps,
    piece: impl Fn(&Reader, &mut Batch, Option<Key>) -> Result<Option<Key>, StoreError> + Copy + Send + 'static,
) -> Result<(), StoreError> {
    let mut after = None;
    loop {
        let read = deps.store.read(move |reader| {
            let mut batch = Batch::new();
            let last = piece(reader, &mut batch, after)?;
            Ok((batch, last))
        });
        let (batch, last) = read.await?;
        if !batch.is_empty() {
            deps.store.commit_with(batch, Haste::Soon).await?;
        }
        match last {
            Some(last) => after = Some(last),
            None => return Ok(()),
        }
    }
}

pub(super) async fn lift_all(deps: &Deps, destination: &Destination) -> Result<(), StoreError> {
    let mut batch = Batch::new();
    destination.open(&mut batch);
    // from here on no alarm is set under it, so that what is found below is all there is
    deps.store.commit_with(batch, Haste::Soon).await?;
    loop {
        let (of, now) = (destination.clone(), deps.clock.now());
        let read = deps.store.read(move |reader| {
            let mut batch = Batch::new();
            of.lift(reader, &mut batch, now).map(|found| found.then_some(batch))
        });
        match read.await? {
            Some(batch) => deps.store.commit_with(batch, Haste::Soon).await?,
            None => return Ok(()),
        };
    }
}
