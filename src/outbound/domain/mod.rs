//! The domain: one with mail that is due. Finds its way, asks its path for credits, reads rows.

mod actor;
mod core;
mod steps;

pub(super) use actor::{
    Credits, DomainActor, DomainHandle, ManagerPort, PathDown, PathIs, PathUp, Reconsider, StopDomain,
    UrgentCredits, Wake,
};
