//! A gauge that counts what is there.

use metrics::Gauge;

/// One more of what a gauge counts, until it is dropped, on whatever way: a panic must not leave it there.
pub struct Raised(Gauge);

impl Raised {
    /// Adds one.
    pub fn by_one(gauge: &Gauge) -> Self {
        gauge.increment(1.0);
        Raised(gauge.clone())
    }
}

impl Drop for Raised {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}
