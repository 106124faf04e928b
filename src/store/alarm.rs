//! Alarms: names in the order in which they ring, and curfews under which they keep silent.
//!
//! An alarm says that there is something to do for its name at a time. A *curfew* is a row that says
//! "not before"; an alarm set under one rings then at the earliest, however often it is asked to ring
//! sooner, for as long as the curfew's row exists. So a destination that is down is one fact, and mail
//! that comes in for it wakes nobody; when the row goes, new mail rings at once, and the alarms that
//! were set under it are lifted by [`super::Op::AlarmLift`].
//!
//! ```text
//! a<name>             when it rings, the group that touched it last, the curfew it was set under
//! w<at><name>         the same, in the order of ringing
//! k<curfew>           a curfew; the value is its owner's
//! v<curfew>\0<name>   an alarm that was set under a curfew
//! ```

use bytes::Bytes;

use super::error::StoreError;
use super::resolve::Resolver;
use crate::clock::Timestamp;

const ALARM_PREFIX: u8 = b'a';
/// Prefix of the rows that stand in the order of ringing.
pub(super) const WAKE_PREFIX: u8 = b'w';
const CURFEW_PREFIX: u8 = b'k';
const UNDER_PREFIX: u8 = b'v';

/// Silence until a time, for as long as the curfew's row exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Curfew {
    /// Its name; holds no octet zero.
    pub name: Bytes,
    /// Alarms under it ring at this time at the earliest.
    pub until: Timestamp,
}

/// An alarm that was set or touched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rung {
    /// Whose.
    pub name: Bytes,
    /// When there is something to do.
    pub at: Timestamp,
    /// Whether somebody is waiting for it.
    pub is_urgent: bool,
}

/// An alarm as its row has it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Alarm {
    at: Timestamp,
    /// The last group that touched it.
    touched: u64,
    under: Option<Curfew>,
}

impl Alarm {
    fn encode(&self) -> Vec<u8> {
        let mut value = Vec::with_capacity(16);
        value.extend_from_slice(&self.at.as_millis().to_le_bytes());
        value.extend_from_slice(&self.touched.to_le_bytes());
        if let Some(curfew) = &self.under {
            value.extend_from_slice(&curfew.until.as_millis().to_le_bytes());
            value.extend_from_slice(&curfew.name);
        }
        value
    }

    fn decode(value: &[u8]) -> Self {
        let number = |from: usize| value.get(from..from + 8).map_or(0, super::resolve::number);
        let curfew =
            |name| Curfew { name: Bytes::copy_from_slice(name), until: Timestamp::from_millis(number(16)) };
        let under = value.get(24..).map(curfew);
        Alarm { at: Timestamp::from_millis(number(0)), touched: number(8), under }
    }
}

impl Resolver<'_> {
    /// Lets an alarm ring at `at` or earlier; under a curfew no earlier than that allows.
    pub(super) fn alarm_by(
        &mut self,
        name: &Bytes,
        at: Timestamp,
        is_urgent: bool,
    ) -> Result<(), StoreError> {
        let set = self.alarm(name)?;
        let under = self.in_force(set.as_ref().and_then(|set| set.under.clone()))?;
        let at = under.as_ref().map_or(at, |curfew| at.max(curfew.until));
        let rings = set.as_ref().map_or(at, |set| set.at.min(at));
        let new = Alarm { at: rings, touched: self.seq, under };
        self.write_alarm(name, set, Some(new))?;
        self.alarms.push(Rung { name: name.clone(), at, is_urgent });
        Ok(())
    }

    /// Moves an alarm for somebody who has seen every group up to `seen`.
    pub(super) fn alarm_move(
        &mut self,
        name: &Bytes,
        seen: u64,
        to: Option<Timestamp>,
        under: Option<&Curfew>,
    ) -> Result<(), StoreError> {
        let set = self.alarm(name)?;
        let is_stale = set.as_ref().is_some_and(|set| set.touched > seen);
        let under = self.in_force(under.cloned())?;
        let at = match (&under, is_stale) {
            // there is something that the mover does not know of: it must ring as it was asked to. What
            // it was asked under a curfew that is over is not known any more: at once, then
            (None, true) => {
                let stood_under = set.as_ref().and_then(|set| set.under.clone());
                if stood_under.is_none() || self.in_force(stood_under)?.is_some() {
                    return Ok(());
                }
                Some(Timestamp::ZERO)
            }
            (None, false) => to,
            // whatever that is, it does not ring before the curfew ends
            (Some(curfew), true) => Some(curfew.until),
            (Some(curfew), false) => to.map(|to| to.max(curfew.until)),
        };
        let new = at.map(|at| Alarm { at, touched: self.seq, under });
        self.write_alarm(name, set, new)
    }

    /// Lets an alarm ring that kept silent under a curfew.
    pub(super) fn alarm_lift(
        &mut self,
        name: &Bytes,
        curfew: &[u8],
        at: Timestamp,
    ) -> Result<(), StoreError> {
        self.delete(&under_key(curfew, name))?;
        let Some(set) = self.alarm(name)? else { return Ok(()) };
        if set.under.as_ref().is_none_or(|under| under.name != curfew) {
            return Ok(());
        }
        let new = Alarm { at: set.at.min(at), touched: self.seq, under: None };
        self.write_alarm(name, Some(set), Some(new))?;
        self.alarms.push(Rung { name: name.clone(), at, is_urgent: false });
        Ok(())
    }

    fn alarm(&mut self, name: &[u8]) -> Result<Option<Alarm>, StoreError> {
        Ok(self.value(&alarm_key(name))?.map(|value| Alarm::decode(&value)))
    }

    fn in_force(&mut self, curfew: Option<Curfew>) -> Result<Option<Curfew>, StoreError> {
        match curfew {
            Some(curfew) if self.value(&curfew_key(&curfew.name))?.is_some() => Ok(Some(curfew)),
            _ => Ok(None),
        }
    }

    fn write_alarm(&mut self, name: &[u8], old: Option<Alarm>, new: Option<Alarm>) -> Result<(), StoreError> {
        let at = |alarm: &Option<Alarm>| alarm.as_ref().map(|alarm| wake_key(alarm.at, name));
        let under = |alarm: &Option<Alarm>| {
            let curfew = alarm.as_ref()?.under.as_ref()?;
            Some(under_key(&curfew.name, name))
        };
        for (old, new) in [(at(&old), at(&new)), (under(&old), under(&new))] {
            if old != new {
                old.map_or(Ok(()), |old| self.delete(&old))?;
                new.map_or(Ok(()), |new| self.put(&new, Bytes::new()))?;
            }
        }
        match new {
            Some(new) => self.put(&alarm_key(name), new.encode().into()),
            None => self.delete(&alarm_key(name)),
        }
    }
}

fn alarm_key(name: &[u8]) -> Vec<u8> {
    [&[ALARM_PREFIX], name].concat()
}

/// The key of a curfew's row.
pub fn curfew_key(curfew: &[u8]) -> Vec<u8> {
    [&[CURFEW_PREFIX], curfew].concat()
}

fn under_key(curfew: &[u8], name: &[u8]) -> Vec<u8> {
    [&[UNDER_PREFIX], curfew, b"\0", name].concat()
}

/// Where the rows of the alarms under a curfew begin: the name follows.
pub(super) fn under_prefix(curfew: &[u8]) -> Vec<u8> {
    under_key(curfew, b"")
}

pub(super) fn wake_key(at: Timestamp, name: &[u8]) -> Vec<u8> {
    [&[WAKE_PREFIX], at.as_millis().to_be_bytes().as_slice(), name].concat()
}

/// The time and the name in a [`wake_key`].
pub(super) fn split_wake_key(key: &[u8]) -> Option<(Timestamp, &[u8])> {
    let (at, name) = key.strip_prefix(&[WAKE_PREFIX])?.split_at_checked(8)?;
    Some((Timestamp::from_millis(u64::from_be_bytes(at.try_into().ok()?)), name))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::{Batch, LossyDisk, MemoryIndex, MemoryLog, Op, Store, WriterSettings};
    use super::*;
    use crate::clock::Clock;

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    fn name() -> Bytes {
        Bytes::from_static(b"d.example")
    }

    struct World(Store);

    impl World {
        fn new() -> Self {
            let (log, disk, index) = (MemoryLog::new(), LossyDisk::new(), MemoryIndex::new());
            let parts = (Box::new(log), Arc::new(disk), Arc::new(index));
            let settings = WriterSettings::default();
            let opened = Store::open_on(parts.0, parts.1, parts.2, settings, Clock::System, Box::new(|_| {}));
            World(opened.expect("opens").0)
        }

        async fn commit(&self, fill: impl FnOnce(&mut Batch) -> &mut Batch) {
            let mut batch = Batch::new();
            fill(&mut batch);
            self.0.commit(batch).await.expect("commits");
        }

        async fn move_to(&self, seen: u64, to: u64, until: Option<u64>) {
            let under = until.map(|until| Curfew { name: Bytes::from_static(b"site"), until: at(until) });
            let op = Op::AlarmMove { name: name(), seen, to: Some(at(to)), under };
            self.commit(|batch| batch.push(op)).await;
        }

        fn rings(&self) -> u64 {
            self.0.reader().alarms(Timestamp::MAX, None, 9).expect("reads")[0].0.as_millis()
        }
    }

    #[tokio::test]
    async fn who_has_not_seen_everything_moves_no_alarm_but_under_a_curfew() {
        let world = World::new();
        let seen = world.0.reader().seq();
        world.commit(|batch| batch.alarm_by(name(), at(5))).await;
        world.move_to(seen, 90, None).await;
        assert_eq!(world.rings(), 5);
        world.move_to(seen, 90, Some(50)).await;
        assert_eq!(world.rings(), 5, "the curfew has no row");
        world.commit(|batch| batch.put(curfew_key(b"site"), "")).await;
        world.move_to(seen, 90, Some(50)).await;
        assert_eq!(world.rings(), 50, "what is not known of may be due at once");
        world.move_to(u64::MAX, 90, Some(50)).await;
        assert_eq!(world.rings(), 90);
        // mail came under the curfew, which ends: its time is not known, so it rings at once
        let seen = world.0.reader().seq();
        world.commit(|batch| batch.alarm_by(name(), at(60))).await;
        world.commit(|batch| batch.delete(curfew_key(b"site"))).await;
        world.move_to(seen, 95, None).await;
        assert_eq!(world.rings(), 0);
    }

    #[tokio::test]
    async fn an_alarm_under_a_curfew_keeps_silent_until_its_row_goes_or_it_is_lifted() {
        let world = World::new();
        world.commit(|batch| batch.put(curfew_key(b"site"), "").alarm_by(name(), at(5))).await;
        world.move_to(u64::MAX, 90, Some(50)).await;
        world.commit(|batch| batch.alarm_by(name(), at(7))).await;
        assert_eq!(world.rings(), 50);
        assert_eq!(world.0.reader().alarms_under(b"site", 9).expect("reads"), [name()]);
        let lift = |curfew: &'static [u8]| Op::AlarmLift { name: name(), curfew: curfew.into(), at: at(6) };
        world.commit(|batch| batch.push(lift(b"other"))).await;
        assert_eq!(world.rings(), 50);
        world.commit(|batch| batch.delete(curfew_key(b"site")).alarm_by(name(), at(8))).await;
        assert_eq!(world.rings(), 8, "new mail rings as soon as the row is gone");
        world.commit(|batch| batch.put(curfew_key(b"site"), "")).await;
        world.move_to(u64::MAX, 90, Some(50)).await;
        world.commit(|batch| batch.push(lift(b"site"))).await;
        assert_eq!((world.rings(), world.0.reader().alarms_under(b"site", 9).expect("reads").len()), (6, 0));
    }
}
