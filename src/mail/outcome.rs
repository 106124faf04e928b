//! What became of a recipient in one attempt: the value that metrics, and later reputation, learn from.

use std::sync::Arc;

use super::address::Address;
use super::id::MessageId;

/// The end of one attempt for one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A remote server took responsibility.
    Delivered {
        /// The copy.
        id: MessageId,
        /// The recipient.
        recipient: Address,
    },
    /// Put off.
    Deferred {
        /// The copy.
        id: MessageId,
        /// The recipient.
        recipient: Address,
    },
    /// Kept, until the receiver does not block it any more.
    Held {
        /// The copy.
        id: MessageId,
        /// The recipient.
        recipient: Address,
    },
    /// Given up.
    Bounced {
        /// The copy.
        id: MessageId,
        /// The recipient.
        recipient: Address,
    },
}

/// Hears of every outcome, when it is durable. Must not block.
pub type OutcomeSink = Arc<dyn Fn(&Outcome) + Send + Sync>;
