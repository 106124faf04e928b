//! Whose mail it is, shown by signatures: DKIM keys, what they sign, and how one takes another's place.
//!
//! Owns the key ring in the data directory, the choice of keys for a message, the form of a signature, and the
//! rotation of keys. Promises that a key signs only once the DNS shows it, and goes on as long as it may be needed;
//! that a signature covers what it must and cannot be added to; that private keys are nobody else's to read. Never
//! decides whether a message may leave unsigned.

mod dkim;

pub use dkim::{
    Algorithm, Choice, Entry, Findings, Keeper, KeeperSettings, Key, KeyError, KeyRing, MadeKey, Pending,
    RingError, Seen, Selector, SelectorError, Signers, SigningError, Stage, Verdict, View, Whole, look_up,
    sign_and_verify, verify,
};
