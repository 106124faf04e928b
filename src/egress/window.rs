//! How many connections a site takes at once: found out gently.
//!
//! Grows with every session that opens, until the site refuses one; then it is what the site took, and
//! opens again by one connection a minute.

use std::time::Duration;

use crate::clock::Timestamp;

/// What a session that opens adds while nothing was ever refused: 1, 3, 7, 15 and so on.
const GROWTH: usize = 2;
/// After a refusal the window is one wider after this.
const REOPENS_AFTER: Duration = Duration::from_secs(60);

/// Connections that there may be at once.
#[derive(Debug)]
pub struct Window {
    max: usize,
    size: usize,
    /// When a connection was refused, or the window was last widened since.
    refused: Option<Timestamp>,
}

impl Window {
    /// Begins with one connection.
    pub fn new(max: usize) -> Self {
        Window { max, size: 1, refused: None }
    }

    /// So many at most from now on. A window that was as wide as it might be goes on growing.
    pub fn limit(&mut self, max: usize) {
        let was_full = self.size >= self.max && self.refused.is_none();
        self.max = max;
        self.size = if was_full { (self.size + GROWTH).min(max) } else { self.size.min(max) };
    }

    /// How many connections there may be.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Connections that may be open by configuration.
    pub fn max(&self) -> usize {
        self.max
    }

    /// A session opened.
    pub fn opened(&mut self) {
        if self.refused.is_none() {
            self.size = (self.size + GROWTH).min(self.max);
        }
    }

    /// A connection was refused beside others that work: so many are what the site takes.
    pub fn refused_beyond(&mut self, now: Timestamp, working: usize) {
        (self.size, self.refused) = (working.clamp(1, self.max), Some(now));
    }

    /// What was found out, to be kept.
    pub fn found(&self) -> Option<usize> {
        self.refused.filter(|_| self.size < self.max).map(|_| self.size)
    }

    /// Goes on from what was found out before a restart.
    pub fn recall(&mut self, now: Timestamp, found: usize) {
        self.refused_beyond(now, found);
    }

    /// Time passes.
    pub fn tick(&mut self, now: Timestamp) {
        if self.size < self.max && self.refused.is_some_and(|at| now.since(at) >= REOPENS_AFTER) {
            (self.size, self.refused) = (self.size + 1, Some(now));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    #[test]
    fn it_grows_fast_until_the_site_refuses_and_slowly_after_that() {
        let mut window = Window::new(20);
        let mut sizes = vec![window.size()];
        for _ in 0..12 {
            window.opened();
            sizes.push(window.size());
        }
        assert_eq!((&sizes[..4], sizes[12]), (&[1, 3, 5, 7][..], 20));
        window.refused_beyond(at(5), 7);
        window.opened();
        assert_eq!(window.size(), 7);
        window.tick(at(64));
        assert_eq!(window.size(), 7);
        window.tick(at(65));
        window.tick(at(66));
        assert_eq!(window.size(), 8, "one more a minute");
    }

    #[test]
    fn another_limit_counts_at_once_and_lets_a_full_window_grow_on() {
        let mut window = Window::new(3);
        (0..4).for_each(|_| window.opened());
        window.limit(20);
        assert_eq!(window.size(), 5);
        window.limit(2);
        assert_eq!(window.size(), 2);
        window.refused_beyond(at(0), 1);
        window.limit(9);
        assert_eq!(window.size(), 1, "what the site refused it may refuse still");
    }

    #[test]
    fn it_never_closes_altogether() {
        let mut window = Window::new(20);
        window.refused_beyond(at(0), 0);
        assert_eq!(window.size(), 1);
    }
}
