//! Signatures for what comes in: begun when the header is settled, made when the body has ended.

use std::sync::Arc;

use metrics::{Counter, counter};

use crate::accounts::Client;
use crate::authentication::{Algorithm, Choice, Keeper, Pending, SigningError};
use crate::clock::Timestamp;
use crate::mail::Domain;
use crate::observe::names;
use crate::work::Cpu;

/// Of larger messages none is kept to be verified.
const SAMPLE_MAX_OCTETS: usize = 64 << 10;

/// What signs.
#[derive(Clone)]
pub struct Signing {
    keeper: Arc<Keeper>,
    cpu: Cpu,
    meters: Meters,
}

/// Handles, looked up once: most mail may well be unsigned.
#[derive(Clone)]
struct Meters {
    rsa: Counter,
    ed25519: Counter,
    taken: Counter,
    refused: Counter,
}

impl Default for Meters {
    fn default() -> Self {
        let signed = |algorithm: Algorithm| counter!(names::DKIM_SIGNED, "algorithm" => algorithm.as_str());
        let unsigned = |outcome: &'static str| counter!(names::DKIM_UNSIGNED, "outcome" => outcome);
        Meters {
            rsa: signed(Algorithm::Rsa),
            ed25519: signed(Algorithm::Ed25519),
            taken: unsigned("taken"),
            refused: unsigned("refused"),
        }
    }
}

/// Why a message was not signed that should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsigned {
    /// A key failed.
    #[error("{0}")]
    Failed(#[from] SigningError),
    /// The work was not done.
    #[error("the message was not signed: a fault of the program")]
    Panicked,
}

impl Signing {
    /// With the keys that `keeper` has, on the threads of `cpu`.
    pub fn new(keeper: Arc<Keeper>, cpu: Cpu) -> Self {
        Signing { keeper, cpu, meters: Meters::default() }
    }

    /// Begins with a header, for whom `sender` may sign; the relay itself may for all.
    pub(super) fn begin(&self, header: &[u8], sender: Option<&Client>, now: Timestamp) -> Choice {
        let may_sign = |domain: &Domain| sender.is_none_or(|sender| sender.owns(domain));
        self.keeper.signers().now().begin(header, &may_sign, now)
    }

    /// Signs what is in memory; its body begins at `body_at`. The signatures stand first.
    pub(super) async fn sign(
        &self,
        mut pending: Pending,
        mut message: Vec<u8>,
        body_at: usize,
    ) -> Result<Vec<u8>, Unsigned> {
        let work = move || {
            pending.body(message.get(body_at..).unwrap_or_default());
            let (fields, algorithms) = pending.sign()?;
            message.splice(0..0, fields);
            Ok((message, algorithms))
        };
        let (message, algorithms) = self.cpu.run(work).await.unwrap_or(Err(Unsigned::Panicked))?;
        self.count(&algorithms);
        if message.len() <= SAMPLE_MAX_OCTETS {
            self.keeper.offer_sample(&message);
        }
        Ok(message)
    }

    /// The signatures of a message whose body went by.
    pub(super) async fn sign_passed(&self, pending: Pending) -> Result<Vec<u8>, Unsigned> {
        let work = move || pending.sign().map_err(Unsigned::from);
        let (fields, algorithms) = self.cpu.run(work).await.unwrap_or(Err(Unsigned::Panicked))?;
        self.count(&algorithms);
        Ok(fields)
    }

    fn count(&self, algorithms: &[Algorithm]) {
        for algorithm in algorithms {
            match algorithm {
                Algorithm::Rsa => self.meters.rsa.increment(1),
                Algorithm::Ed25519 => self.meters.ed25519.increment(1),
            }
        }
    }

    /// Counts a message that no key is for.
    pub(super) fn count_unsigned(&self, is_refused: bool) {
        let count = if is_refused { &self.meters.refused } else { &self.meters.taken };
        count.increment(1);
    }
}
