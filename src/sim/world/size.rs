//! How much happens in a world.

use std::time::Duration;

/// Seeds below this are those of every day: worlds of the usual size.
const USUAL_BELOW: u64 = 1000;
/// Of the others one in so many is as large; the rest are small, as a million of them is to be lived through.
const LARGE_ONE_IN: u64 = 16;

#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    pub(super) letters_per_life: u32,
    pub(super) letters_of_last_life: u32,
    /// A life that nothing ends otherwise.
    pub(super) life: Duration,
    /// Mail is tried at least for so long: longer than all lives together, and some more.
    pub(super) expiry: Duration,
}

impl Size {
    const USUAL: Size = Size {
        letters_per_life: 14,
        letters_of_last_life: 30,
        life: Duration::from_secs(50),
        expiry: Duration::from_secs(600),
    };

    const SMALL: Size = Size {
        letters_per_life: 6,
        letters_of_last_life: 10,
        life: Duration::from_secs(16),
        expiry: Duration::from_secs(280),
    };

    pub(super) fn of(seed: u64) -> Self {
        if seed < USUAL_BELOW || seed.is_multiple_of(LARGE_ONE_IN) { Self::USUAL } else { Self::SMALL }
    }
}
