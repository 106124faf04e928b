//! DKIM (RFC 6376, RFC 8301, RFC 8463): rsa-sha256 and ed25519-sha256, relaxed/relaxed, never `l=`.
//!
//! ```text
//! header -> author (whose) -> signers (which keys) -> fields (what is covered) -> signature (what is written)
//! ring (keys and stages on the disk) <- rotation (the next stage) <- keeper (what the DNS shows)
//! ```

mod algorithm;
mod author;
mod canonical;
mod check;
mod entry;
mod fields;
mod header;
mod keeper;
mod key;
mod list;
mod record;
mod ring;
mod rotation;
mod selector;
mod signature;
mod signers;
#[cfg(test)]
mod tests;

pub use algorithm::Algorithm;
pub use check::{Verdict, sign_and_verify, verify};
pub use entry::{Entry, Seen, Stage};
pub use keeper::{Findings, Keeper, KeeperSettings, look_up};
pub use key::{Key, KeyError, MadeKey};
pub use ring::{KeyRing, RingError};
pub use rotation::View;
pub use selector::{Selector, SelectorError};
pub use signature::{Pending, SigningError};
pub use signers::{Choice, Signers, Whole};
