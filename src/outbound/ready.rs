//! Copies in the order in which they go: by class, and inside a class clients take turns by octets.
//!
//! Transactional mail goes before normal, normal before bulk; but who waited while others went before
//! him so many times has his turn, so that nobody starves.

use std::collections::{BTreeMap, VecDeque};

use crate::mail::{Class, ClientName};

/// So many of more urgent classes go before one of a class that waits.
const PATIENCE: u32 = 8;
/// A small message costs a turn as much as one of this size.
const COST_MIN_OCTETS: u64 = 2048;
/// Clients without copies that are still known in a class.
const KNOWN_MAX: usize = 16;

/// The line.
pub(super) struct Ready<T> {
    classes: [ClassLine<T>; Class::ALL.len()],
    len: usize,
}

struct ClassLine<T> {
    clients: BTreeMap<ClientName, ClientLine<T>>,
    len: usize,
    /// What the client had been served who was served last: who comes now has no claim for the time before.
    clock: u64,
    /// How many went before this class since it was served.
    passed_over: u32,
}

struct ClientLine<T> {
    items: VecDeque<(T, u64)>,
    served_octets: u64,
}

impl<T> Default for Ready<T> {
    fn default() -> Self {
        let class = || ClassLine { clients: BTreeMap::new(), len: 0, clock: 0, passed_over: 0 };
        Ready { classes: [class(), class(), class()], len: 0 }
    }
}

impl<T> Ready<T> {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Adds an item at the end of its client's line.
    pub(super) fn push(&mut self, class: Class, client: &ClientName, octets: u64, item: T) {
        self.len += 1;
        self.classes[class as usize].line(client).items.push_back((item, octets));
    }

    /// Puts an item back to be its client's next.
    pub(super) fn push_front(&mut self, class: Class, client: &ClientName, octets: u64, item: T) {
        self.len += 1;
        let line = self.classes[class as usize].line(client);
        // it had its turn for nothing
        line.served_octets = line.served_octets.saturating_sub(octets.max(COST_MIN_OCTETS));
        line.items.push_front((item, octets));
    }

    /// The class whose turn it is.
    fn turn(&self) -> Option<usize> {
        let waits = |class: &ClassLine<T>| class.len > 0;
        let starving = self.classes.iter().rposition(|class| waits(class) && class.passed_over >= PATIENCE);
        starving.or_else(|| self.classes.iter().position(waits))
    }

    /// The item that is next, left where it is.
    pub(super) fn first(&self) -> Option<&T> {
        let lines = self.classes[self.turn()?].clients.values().filter(|line| !line.items.is_empty());
        lines.min_by_key(|line| line.served_octets)?.items.front().map(|(item, _)| item)
    }

    /// The next item.
    pub(super) fn pop(&mut self) -> Option<T> {
        let chosen = self.turn()?;
        for class in self.classes[chosen + 1..].iter_mut().filter(|class| class.len > 0) {
            class.passed_over += 1;
        }
        self.classes[chosen].passed_over = 0;
        self.len -= 1;
        self.classes[chosen].pop()
    }

    /// Takes everything out.
    pub(super) fn take_all(&mut self) -> Vec<T> {
        std::iter::from_fn(|| self.pop()).collect()
    }
}

impl<T> ClassLine<T> {
    fn line(&mut self, client: &ClientName) -> &mut ClientLine<T> {
        self.len += 1;
        if self.clients.len() >= KNOWN_MAX && !self.clients.contains_key(client) {
            self.clients.retain(|_, line| !line.items.is_empty());
        }
        let clock = self.clock;
        let new = || ClientLine { items: VecDeque::new(), served_octets: clock };
        let line = self.clients.entry(client.clone()).or_insert_with(new);
        if line.items.is_empty() {
            line.served_octets = line.served_octets.max(clock);
        }
        line
    }

    fn pop(&mut self) -> Option<T> {
        let waiting = self.clients.values_mut().filter(|line| !line.items.is_empty());
        let line = waiting.min_by_key(|line| line.served_octets)?;
        let (item, octets) = line.items.pop_front()?;
        self.clock = line.served_octets;
        line.served_octets = line.served_octets.saturating_add(octets.max(COST_MIN_OCTETS));
        self.len -= 1;
        Some(item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(name: &str) -> ClientName {
        ClientName::parse(name).expect("a name")
    }

    #[test]
    fn a_transactional_copy_goes_before_all_bulk() {
        let mut ready = Ready::default();
        (0..300).for_each(|number| ready.push(Class::Bulk, &client("news"), 4096, number));
        ready.pop();
        ready.push(Class::Normal, &client("office"), 4096, 1000);
        ready.push(Class::Transactional, &client("shop"), 4096, 2000);
        assert_eq!([ready.pop(), ready.pop(), ready.pop()], [Some(2000), Some(1000), Some(1)]);
    }

    #[test]
    fn the_first_item_is_the_one_that_is_taken_next() {
        let mut ready = Ready::default();
        assert_eq!(ready.first(), None::<&u64>);
        for number in 0..300 {
            let class = Class::ALL[number as usize % Class::ALL.len()];
            ready.push(class, &client(["a", "b"][number as usize % 2]), 4096 * number, number);
        }
        while let Some(first) = ready.first().copied() {
            assert_eq!(ready.pop(), Some(first));
        }
    }

    #[test]
    fn bulk_is_not_starved() {
        let mut ready = Ready::default();
        for number in 0..100 {
            ready.push(Class::Transactional, &client("shop"), 4096, number);
            ready.push(Class::Bulk, &client("news"), 4096, 1000 + number);
        }
        let bulk = (0..90).filter_map(|_| ready.pop()).filter(|number| *number >= 1000).count();
        assert_eq!(bulk, 10, "one after eight");
    }

    #[test]
    fn clients_take_turns_by_octets() {
        let mut ready = Ready::default();
        for number in 0..100 {
            ready.push(Class::Normal, &client("large"), 40_960, number);
            ready.push(Class::Normal, &client("small"), 4096, 1000 + number);
        }
        let order: Vec<_> = (0..55).filter_map(|_| ready.pop()).collect();
        let large = order.iter().filter(|number| **number < 1000).count();
        assert_eq!(large, 5, "ten small ones for a large one");
        // who comes late has no claim for the time before
        (0..100).for_each(|number| ready.push(Class::Normal, &client("late"), 4096, 2000 + number));
        let order: Vec<_> = (0..21).filter_map(|_| ready.pop()).collect();
        let late = order.iter().filter(|number| **number >= 2000).count();
        assert!((9..=12).contains(&late), "{order:?}");
    }

    #[test]
    fn what_is_put_back_is_next_and_everything_comes_out() {
        let mut ready = Ready::default();
        (0..3).for_each(|number| ready.push(Class::Normal, &client("a"), 1, number));
        let first = ready.pop().expect("an item");
        ready.push_front(Class::Normal, &client("a"), 1, first);
        assert_eq!((ready.len(), ready.take_all(), ready.len()), (3, vec![0, 1, 2], 0));
    }
}
