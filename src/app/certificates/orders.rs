//! When a certificate is ordered, and how that ends.

use metrics::counter;
use tokio::task::{JoinHandle, spawn_blocking};

use super::keeper::{CertificateKeeper, Shows};
use super::trouble::{Asker, Trouble, WAIT_MAX};
use super::{Origin, Shown};
use crate::app::control::iso;
use crate::clock::Timestamp;
use crate::mail::Domain;
use crate::net::{Authority, Issued};
use crate::observe::names;

/// When a certificate for a name is to be ordered: at once where what is shown is a stand-in or from another authority,
/// with a third of its life left else; but not before trouble is over. A time further ahead than any wait was reckoned
/// by a clock that was wrong.
pub(super) fn due(shown: &Shown, trouble: Option<&Trouble>, directory: &str, now: Timestamp) -> Timestamp {
    let wanted = match &shown.origin {
        Origin::Acme { directory: by } if by == directory => shown.renew_at(),
        _ => None,
    };
    let wanted = wanted.unwrap_or(Timestamp::from_millis(0));
    let next = trouble.map(Trouble::next).filter(|next| next.since(now) <= WAIT_MAX);
    next.map_or(wanted, |next| next.max(wanted))
}

/// A task that ends with whoever waits for it.
struct Aborted<T>(JoinHandle<T>);

impl<T> Drop for Aborted<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl CertificateKeeper {
    /// When a name's certificate is to be ordered, if it is to be.
    pub(super) fn due(&self, name: &Domain) -> Option<Timestamp> {
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
        // somebody may have seen to it meanwhile
        let is_due = || self.due(name).is_some_and(|at| at <= self.clock.now());
        if asker == Asker::Keeper && !is_due() {
            return Ok(());
        }
        let mut trouble = Trouble::begun(self.trouble(name).as_ref(), self.clock.now(), asker);
        let renewed = match self.note(name, &trouble).await {
            // an authority that is asked again and again refuses for days
            Err(error) => Err(format!("nothing is ordered, for it cannot be kept: {error}")),
            Ok(()) => self.order_and_show(name, with_new_key, shows).await,
        };
        let result = if renewed.is_ok() { "issued" } else { "failed" };
        counter!(names::CERTIFICATES_ORDERED, "result" => result).increment(1);
        match &renewed {
            Ok(until) => {
                self.forget_trouble(name).await;
                tracing::info!(event = "certificate_issued", domain = %name, not_after = until);
            }
            Err(error) => {
                let next = iso(trouble.next()).unwrap_or_default();
                tracing::error!(event = "certificate_not_renewed", domain = %name, error, next);
                trouble.error.clone_from(error);
                // that an order was begun is kept already, with the same time
                let _ = self.note(name, &trouble).await;
            }
        }
        renewed.map(drop)
    }

    /// Gives when the new one ends.
    async fn order_and_show(
        &self,
        name: &Domain,
        with_new_key: bool,
        shows: &dyn Shows,
    ) -> Result<String, String> {
        self.listen().await?;
        let issued = self.order(name, with_new_key).await?;
        let (shelf, of) = (self.shelf.clone(), name.clone());
        let directory = self.settings.now().acme.authority.directory.clone();
        let by = directory.clone();
        let kept = spawn_blocking(move || shelf.put(&of, &issued, &by));
        kept.await.map_err(|error| error.to_string())??;
        let shown = shows.show().await;
        let (now, all) = (self.clock.now(), self.shown());
        match all.iter().find(|one| one.ordered.as_ref() == Some(name)) {
            Some(one) if due(one, None, &directory, now) > now => {
                Ok(iso(one.described.not_after).unwrap_or_default())
            }
            Some(one) if shown.is_ok() && matches!(one.origin, Origin::Acme { .. }) => {
                Err("it was issued, and is to be replaced at once: is the clock right?".into())
            }
            _ => Err(format!("it was issued, but is not shown: {}", shown.err().unwrap_or_default())),
        }
    }

    /// In a task of its own: a panic there is a failure like any other.
    async fn order(&self, name: &Domain, with_new_key: bool) -> Result<Issued, String> {
        let (settings, shelf, of) = (self.settings.now(), self.shelf.clone(), name.clone());
        let keeps = settings.acme.keeps_keys && !with_new_key;
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
        let authority = settings.acme.authority.clone();
        let account = self.shelf.account(&authority.directory);
        let authority = Authority::new(authority, self.https.clone(), account);
        let (challenges, of) = (self.challenges.clone(), name.clone());
        let mut ordering = Aborted(tokio::spawn(async move {
            authority.issue(&of, key.as_deref(), &challenges).await.map_err(|error| error.to_string())
        }));
        (&mut ordering.0).await.unwrap_or_else(|_| Err("the order ended in a fault of this program".into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{Described, Identity};
    use std::path::PathBuf;
    use std::time::Duration;

    const CA: &str = "https://ca.example/";
    const DAY: Duration = Duration::from_secs(86_400);
    const START: Timestamp = Timestamp::from_millis(1_000_000_000_000);

    fn shown(origin: Origin) -> Shown {
        let described = Described {
            names: Vec::new(),
            title: String::new(),
            not_before: START,
            not_after: START.after(90 * DAY),
            key_digest: String::new(),
        };
        let identity = Identity::unkept("mx.example.org").expect("is made");
        Shown { origin, file: PathBuf::new(), ordered: None, described, identity }
    }

    #[test]
    fn an_order_is_due_when_it_is_wanted_and_trouble_is_over() {
        let now = START.after(DAY);
        let ours = shown(Origin::Acme { directory: CA.into() });
        let trouble = Trouble::until;
        assert_eq!(due(&ours, None, CA, now), START.after(60 * DAY));
        assert!(due(&ours, None, "https://other.example/", now) <= now, "another authority");
        assert!(due(&shown(Origin::SelfSigned), None, CA, now) <= now);
        let later = now.after(Duration::from_secs(60));
        assert_eq!(due(&shown(Origin::SelfSigned), Some(&trouble(later)), CA, now), later);
        assert_eq!(due(&ours, Some(&trouble(later)), CA, now), START.after(60 * DAY));
        let absurd = trouble(now.after(365 * DAY));
        assert!(due(&shown(Origin::SelfSigned), Some(&absurd), CA, now) <= now, "the clock was wrong then");
    }
}
