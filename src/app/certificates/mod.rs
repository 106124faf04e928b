//! The certificates that are shown to clients: from files, by ACME, or made here.
//!
//! ```text
//! config -> Shown (files of [[tls.certificates]], of data_dir/acme, stand-ins of data_dir/tls)
//!   -> ServerTls, in the rules of sessions
//! keeper: orders what runs out, looks whether files have changed -> what is shown is gathered anew
//! ```
//!
//! Owns which certificate is shown for a name, and when it is replaced. Promises that each name has one from the first
//! start on; that one which serves is shown until another serves; that an authority that refused is not asked again
//! before a wait that grows, whatever fails here meanwhile; that a key is never lost. Sessions that are open keep what they began with.

mod due;
mod gather;
mod keeper;
mod orders;
mod shelf;
#[cfg(test)]
mod tests;
mod trouble;
mod watch;

use std::path::PathBuf;
use std::time::Duration;

pub(super) use gather::{Gathered, gather};
pub(super) use keeper::{AcmeSettings, CertificateKeeper, KeeperParts, Showing, Shows};
pub(super) use trouble::Asker;

use super::control::iso;
use crate::clock::Timestamp;
use crate::mail::Domain;
use crate::net::{Described, Identity};

/// Those that end so soon are told of, or with so much of their life left.
const TOLD_BEFORE: Duration = Duration::from_secs(7 * 86_400);
const TOLD_WITH: u32 = 6;

/// Where a certificate is from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// The configuration names its files.
    File,
    /// An authority signed it for us.
    Acme {
        /// Where that tells of itself.
        directory: String,
    },
    /// It was made here, and nobody vouches for it.
    SelfSigned,
}

impl Origin {
    pub(super) const fn as_str(&self) -> &'static str {
        match self {
            Origin::File => "file",
            Origin::Acme { .. } => "acme",
            Origin::SelfSigned => "self-signed",
        }
    }
}

/// One that is shown.
#[derive(Clone, Debug)]
pub(super) struct Shown {
    pub(super) origin: Origin,
    /// Where its chain is.
    pub(super) file: PathBuf,
    /// The name that it was ordered for, or is to be.
    pub(super) ordered: Option<Domain>,
    pub(super) described: Described,
    pub(super) identity: Identity,
}

impl Shown {
    fn new(identity: Identity, (origin, file): (Origin, PathBuf), ordered: Option<Domain>) -> Self {
        Shown { origin, file, ordered, described: identity.described().clone(), identity }
    }

    /// When it is to be replaced, where that is ours to do: with a third of its life left.
    pub(super) fn renew_at(&self) -> Option<Timestamp> {
        let Described { not_before, not_after, .. } = self.described;
        let is_ours = matches!(self.origin, Origin::Acme { .. });
        is_ours.then(|| not_before.after(not_after.since(not_before) / 3 * 2))
    }

    /// What is wrong with it, in words.
    fn ailment(&self, now: Timestamp) -> Option<String> {
        let described = &self.described;
        let life = described.not_after.since(described.not_before);
        if let (Origin::SelfSigned, Some(name)) = (&self.origin, &self.ordered) {
            Some(format!("{name} has no certificate yet"))
        } else if now >= described.not_after {
            Some(format!("that for {described} has expired"))
        } else if now.after(TOLD_BEFORE.min(life / TOLD_WITH)) >= described.not_after {
            Some(format!("that for {described} expires at {}", iso(described.not_after).unwrap_or_default()))
        } else {
            None
        }
    }
}
