//! What others tell a domain.

use actix::Message;

use crate::clock::Timestamp;
use crate::outbound::lane::Credit;
use crate::outbound::path::PathHandle;

/// Mail may be due at this time; whether somebody waits for it.
#[derive(Message)]
#[rtype(result = "()")]
pub(in crate::outbound) struct Wake {
    pub(in crate::outbound) at: Timestamp,
    pub(in crate::outbound) is_urgent: bool,
}

/// The path lets copies in.
#[derive(Message)]
#[rtype(result = "()")]
pub(in crate::outbound) struct Credits(pub(in crate::outbound) Vec<Credit>);

/// Places for urgent mail, or none.
#[derive(Message)]
#[rtype(result = "()")]
pub(in crate::outbound) struct UrgentCredits(pub(in crate::outbound) Vec<Credit>);

/// The path is down.
#[derive(Message)]
#[rtype(result = "()")]
pub(in crate::outbound) struct PathDown {
    pub(in crate::outbound) until: Timestamp,
    /// Whether that is a fact, which ends for all who wait; else nothing is known yet.
    pub(in crate::outbound) is_known: bool,
}

/// The manager's answer to [`FindPath`].
#[derive(Message)]
#[rtype(result = "()")]
pub(in crate::outbound) struct PathIs(pub(in crate::outbound) PathHandle);

/// The path is up, and was not known to be when the domain was sent away.
#[derive(Message)]
#[rtype(result = "()")]
pub(in crate::outbound) struct PathUp;

/// Operators' orders have changed.
#[derive(Message)]
#[rtype(result = "()")]
pub(in crate::outbound) struct Reconsider;

/// The manager has forgotten this domain.
#[derive(Message)]
#[rtype(result = "()")]
pub(in crate::outbound) struct StopDomain;
