//! So many permits, of which there may be more or fewer later.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A number of permits. Clones share them. Where there are to be fewer than are held, nobody loses one: those
/// that come back are not given out again until the number is right.
#[derive(Clone, Debug)]
pub struct Permits {
    semaphore: Arc<Semaphore>,
    number: Arc<Mutex<Number>>,
}

#[derive(Debug)]
struct Number {
    most: usize,
    /// So many of those that are held are not given out again.
    owed: usize,
}

/// One of them; dropped, it is free again.
#[derive(Debug)]
pub struct Permit {
    /// Always there until the drop.
    held: Option<OwnedSemaphorePermit>,
    number: Arc<Mutex<Number>>,
}

fn lock(number: &Mutex<Number>) -> MutexGuard<'_, Number> {
    number.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Permits {
    /// So many; as many as anybody may want where no number is named.
    pub fn new(most: Option<usize>) -> Self {
        let most = clamped(most);
        Permits {
            semaphore: Arc::new(Semaphore::new(most)),
            number: Arc::new(Mutex::new(Number { most, owed: 0 })),
        }
    }

    /// So many from now on.
    pub fn resize(&self, most: Option<usize>) {
        let most = clamped(most);
        let mut number = lock(&self.number);
        if most < number.most {
            let fewer = number.most - most;
            number.owed += fewer - self.semaphore.forget_permits(fewer);
        } else {
            let more = most - number.most;
            let forgiven = number.owed.min(more);
            number.owed -= forgiven;
            self.semaphore.add_permits(more - forgiven);
        }
        number.most = most;
    }

    /// Waits for one. Gives nothing only where nobody gives any more, which is never.
    pub async fn enter(&self) -> Option<Permit> {
        let held = self.semaphore.clone().acquire_owned().await.ok()?;
        Some(Permit { held: Some(held), number: self.number.clone() })
    }

    /// Takes one where one is free.
    pub fn try_enter(&self) -> Option<Permit> {
        let held = self.semaphore.clone().try_acquire_owned().ok()?;
        Some(Permit { held: Some(held), number: self.number.clone() })
    }

    /// How many are free.
    pub fn free(&self) -> usize {
        self.semaphore.available_permits()
    }
}

fn clamped(most: Option<usize>) -> usize {
    most.map_or(Semaphore::MAX_PERMITS, |most| most.min(Semaphore::MAX_PERMITS))
}

impl Drop for Permit {
    fn drop(&mut self) {
        let Some(held) = self.held.take() else { return };
        let mut number = lock(&self.number);
        if number.owed > 0 {
            number.owed -= 1;
            held.forget();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn fewer_take_effect_as_permits_come_back_and_more_at_once() {
        let permits = Permits::new(Some(3));
        let mut held: Vec<Permit> = (0..3).filter_map(|_| permits.try_enter()).collect();
        permits.resize(Some(1));
        held.pop();
        held.pop();
        assert_eq!(permits.free(), 0, "one is held, and there is one");
        permits.resize(Some(2));
        assert_eq!(permits.free(), 1);
        held.clear();
        assert_eq!(permits.free(), 2);
        permits.resize(None);
        assert!(permits.free() > 1 << 32);
        permits.resize(Some(2));
        assert_eq!(permits.free(), 2);
    }

    #[tokio::test]
    async fn who_waits_gets_one_when_there_are_more() {
        let permits = Permits::new(Some(1));
        let first = permits.try_enter();
        let waiting = tokio::spawn({
            let permits = permits.clone();
            async move { permits.enter().await.is_some() }
        });
        tokio::task::yield_now().await;
        permits.resize(Some(2));
        assert!(waiting.await.expect("ends"));
        drop(first);
        assert_eq!(permits.free(), 2);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Enter,
        Leave,
        Resize(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![Just(Step::Enter), Just(Step::Leave), (0..6_usize).prop_map(Step::Resize)]
    }

    proptest! {
        #[test]
        fn there_are_never_more_than_the_number_but_those_held_before(
            steps in prop::collection::vec(step(), 0..60),
        ) {
            let (permits, mut held, mut most) = (Permits::new(Some(3)), Vec::new(), 3);
            for step in steps {
                match step {
                    Step::Enter => {
                        let entered = permits.try_enter();
                        prop_assert_eq!(entered.is_some(), held.len() < most);
                        held.extend(entered);
                    }
                    Step::Leave => drop(held.pop()),
                    Step::Resize(number) => {
                        permits.resize(Some(number));
                        most = number;
                    }
                }
                prop_assert_eq!(permits.free(), most.saturating_sub(held.len()));
            }
        }
    }
}
