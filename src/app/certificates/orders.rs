//! How a certificate is ordered, and what becomes of that.

use metrics::counter;
use tokio::task::{JoinHandle, spawn_blocking};

use super::Origin;
use super::due::due;
use super::keeper::{AcmeSettings, CertificateKeeper, Shows};
use super::trouble::{Asker, Trouble};
use crate::app::control::iso;
use crate::clock::Timestamp;
use crate::mail::Domain;
use crate::net::{Authority, Issued};
use crate::observe::names;

/// A task that ends with whoever waits for it.
struct Aborted<T>(JoinHandle<T>);

impl<T> Drop for Aborted<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl CertificateKeeper {
    /// When a name's certificate is to be ordered, if it is to be.
    pub(in crate::app) fn due(&self, name: &Domain) -> Option<Timestamp> {
        let (settings, shown) = (self.settings.now(), self.shown());
        let one = shown.iter().find(|one| one.ordered.as_ref() == Some(name))?;
        let trouble = self.trouble(name);
        Some(due(one, trouble.as_ref(), &settings.acme.authority.directory, self.clock.now()))
    }

    /// Has a new certificate signed for a name, and shows it.
    pub(in crate::app) async fn renew(
        &self,
        name: &Domain,
        (asker, with_new_key): (Asker, bool),
        shows: &dyn Shows,
    ) -> Result<(), String> {
        let _turn = self.turn.lock().await;
        // somebody may have seen to it meanwhile, or it is not wanted any more
        let due = self.due(name).ok_or("it is none of acme.domains any more")?;
        if asker == Asker::Keeper && due > self.clock.now() {
            return Ok(());
        }
        let acme = self.settings.now().acme.clone();
        let before = self.trouble(name);
        let trouble = Trouble::begun(before.as_ref(), self.clock.now(), asker, &acme.authority.directory);
        let renewed = match self.note(name, &trouble).await {
            // an authority that is asked again and again refuses for days
            Err(error) => Err(format!("nothing is ordered, for it cannot be kept: {error}")),
            Ok(()) => self.order_and_show(name, (&acme, with_new_key), shows).await,
        };
        let result = if renewed.is_ok() { "issued" } else { "failed" };
        counter!(names::CERTIFICATES_ORDERED, "result" => result).increment(1);
        match &renewed {
            Ok(until) => {
                self.forget_trouble(name).await;
                tracing::info!(event = "certificate_issued", domain = %name, not_after = until);
            }
            Err(error) => {
                // it may have taken longer than the wait
                let failed =
                    Trouble::begun(before.as_ref(), self.clock.now(), asker, &acme.authority.directory);
                let next = iso(failed.next()).unwrap_or_default();
                tracing::error!(event = "certificate_not_renewed", domain = %name, error, next);
                // that an order was begun is kept already; and what was asked otherwise says nothing of what is now
                if self.settings.now().acme.authority == acme.authority {
                    let _ = self.note(name, &failed.because(error)).await;
                }
            }
        }
        renewed.map(drop)
    }

    /// Gives when the new one ends.
    async fn order_and_show(
        &self,
        name: &Domain,
        (acme, with_new_key): (&AcmeSettings, bool),
        shows: &dyn Shows,
    ) -> Result<String, String> {
        self.listen().await?;
        let issued = self.order(name, acme, with_new_key).await?;
        let (shelf, of, directory) = (self.shelf.clone(), name.clone(), &acme.authority.directory);
        let by = directory.clone();
        let kept = spawn_blocking(move || shelf.put(&of, &issued, &by));
        kept.await.map_err(|error| error.to_string())??;
        let shown = shows.show().await;
        let (now, all) = (self.clock.now(), self.shown());
        match all.iter().find(|one| one.ordered.as_ref() == Some(name)) {
            Some(one) if due(one, None, directory, now) > now => {
                Ok(iso(one.described.not_after).unwrap_or_default())
            }
            Some(one) if shown.is_ok() && matches!(one.origin, Origin::Acme { .. }) => {
                Err("it was issued, and is to be replaced at once: is the clock right?".into())
            }
            _ => Err(format!("it was issued, but is not shown: {}", shown.err().unwrap_or_default())),
        }
    }

    /// In a task of its own: a panic there is a failure like any other.
    async fn order(&self, name: &Domain, acme: &AcmeSettings, with_new_key: bool) -> Result<Issued, String> {
        let (shelf, of) = (self.shelf.clone(), name.clone());
        let keeps = acme.keeps_keys && !with_new_key;
        let shown = self.shown();
        let stand_in = shown.iter().find(|one| one.ordered.as_ref() == Some(name));
        let stand_in = stand_in.filter(|one| one.origin == Origin::SelfSigned).map(|one| one.file.clone());
        let key =
            spawn_blocking(
                move || {
                    if keeps { shelf.key(&of, &stand_in.unwrap_or_default()) } else { Ok(None) }
                },
            );
        let key = key.await.map_err(|error| error.to_string())??;
        let authority = acme.authority.clone();
        let account = self.shelf.account(&authority.directory);
        let authority = Authority::new(authority, self.https.clone(), account);
        let (challenges, of) = (self.challenges.clone(), name.clone());
        let mut ordering = Aborted(tokio::spawn(async move {
            authority.issue(&of, key.as_deref(), &challenges).await.map_err(|error| error.to_string())
        }));
        (&mut ordering.0).await.unwrap_or_else(|_| Err("the order ended in a fault of this program".into()))
    }
}
