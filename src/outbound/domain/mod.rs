//! The domain: one with mail that is due. Finds its way, asks its path for credits, reads rows.

mod actor;
mod block;
mod core;
mod guard;
mod messages;
mod steps;

pub(super) use actor::{DomainActor, DomainHandle, ManagerPort};
pub(super) use messages::{Credits, PathDown, PathIs, PathUp, Reconsider, StopDomain, UrgentCredits, Wake};
