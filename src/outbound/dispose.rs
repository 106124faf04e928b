//! Copies that an operator gives up.

use super::Deps;
use super::conclude::{self, unreached};
use super::session::{for_report, read_body};
use super::settle::Tried;
use crate::queue::{Lease, Leased, Queued};
use crate::store::StoreError;

/// Gives a copy up, whatever it waits for or why it is held: its sender is told, with `text` for a reason, in
/// the write that removes it. Durable when this returns.
pub async fn give_up(deps: &Deps, queued: Queued, lease: Lease, text: &str) -> Result<(), StoreError> {
    let verdict = unreached(554, (5, 0, 0), text.to_owned());
    let verdicts = vec![verdict; queued.envelope.recipients.len()];
    // one whose body does not read is given up all the same, without it
    let content = match read_body(deps, &queued).await {
        Ok(body) => for_report(body, &queued.envelope).await,
        Err(_) => None,
    };
    let tried = Tried { verdicts: &verdicts, remote: None, content: content.as_deref() };
    conclude::give_up(deps, Leased { queued, lease, body: None }, tried).await
}
