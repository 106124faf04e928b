//! The conversation with an authority (RFC 8555 7).

use std::fs;
use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::time::Duration;

use instant_acme::{
    Account, AccountBuilder, AccountCredentials, AuthorizationStatus, ChallengeType, Error, Identifier,
    NewAccount, NewOrder, Order, OrderStatus, RetryPolicy,
};
use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256};
use serde::{Deserialize, Serialize};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::challenges::{Challenges, Posted};
use super::web::Web;
use crate::files::{Former, keep};
use crate::mail::Domain;
use crate::net::Https;

/// An order from its beginning to its end.
const PATIENCE: Duration = Duration::from_secs(180);
/// How long an authority may take to look at a challenge, or to sign.
const POLLED_FOR: Duration = Duration::from_secs(75);
const NO_ACCOUNT: &str = "urn:ietf:params:acme:error:accountDoesNotExist";

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum AcmeError {
    /// The authority, or the way to it.
    #[error("{0}")]
    Authority(Box<str>),
    /// The authority did not find the name to be ours.
    #[error(
        "the authority did not find its challenge at http://{name}/ (port 80 there must lead to acme.listen): {why}"
    )]
    NotProven {
        /// The name.
        name: Domain,
        /// What it says.
        why: Box<str>,
    },
    /// It took too long.
    #[error("the authority took more than {} seconds", PATIENCE.as_secs())]
    TimedOut,
    /// No key, or none that serves.
    #[error("the certificate's key: {0}")]
    Key(Box<str>),
    /// The account could not be kept, or read.
    #[error("the account's file {}: {error}", file.display())]
    File {
        /// Which file.
        file: PathBuf,
        /// What the system said.
        error: io::Error,
    },
}

/// Whom to ask, and who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthoritySettings {
    /// Where it tells of itself: `https://...`.
    pub directory: String,
    /// Whom it may write to.
    pub email: Option<String>,
}

/// A certificate as it came, and the key that it is for.
pub struct Issued {
    /// The certificate and those of its issuers, in PEM.
    pub chain: String,
    /// The key, in PEM.
    pub key: String,
}

/// The account as it is kept.
#[derive(Deserialize, Serialize)]
struct Kept {
    directory: String,
    #[serde(default)]
    email: Option<String>,
    credentials: AccountCredentials,
}

/// An authority, with our account there.
pub struct Authority {
    settings: AuthoritySettings,
    https: Https,
    file: PathBuf,
}

impl From<Error> for AcmeError {
    fn from(error: Error) -> Self {
        match error {
            Error::Api(problem) => AcmeError::Authority(format!("the authority refuses: {problem}").into()),
            Error::Other(error) => {
                AcmeError::Authority(format!("the authority cannot be reached: {error}").into())
            }
            error => AcmeError::Authority(error.to_string().into()),
        }
    }
}

/// Does what may wait for a disk, elsewhere.
async fn unblocked<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

fn copy(credentials: &AccountCredentials) -> Option<AccountCredentials> {
    serde_json::from_value(serde_json::to_value(credentials).ok()?).ok()
}

fn is_unknown_account(error: &Error) -> bool {
    matches!(error, Error::Api(problem) if problem.r#type.as_deref() == Some(NO_ACCOUNT))
}

impl Authority {
    /// With an account that is kept in `file`, which should be another for each directory.
    pub fn new(settings: AuthoritySettings, https: Https, file: PathBuf) -> Self {
        Authority { settings, https, file }
    }

    /// Has a certificate signed for a name, and for this key (in PEM) where one is given. One order at a time.
    pub async fn issue(
        &self,
        name: &Domain,
        key: Option<&str>,
        challenges: &Challenges,
    ) -> Result<Issued, AcmeError> {
        timeout(PATIENCE, self.order(name, key, challenges)).await.unwrap_or(Err(AcmeError::TimedOut))
    }

    async fn order(
        &self,
        name: &Domain,
        key: Option<&str>,
        challenges: &Challenges,
    ) -> Result<Issued, AcmeError> {
        let identifiers = [Identifier::Dns(name.as_str().to_owned())];
        let wanted = NewOrder::new(&identifiers);
        let (account, is_new) = self.account().await?;
        let mut order = match account.new_order(&wanted).await {
            // it has forgotten us
            Err(error) if is_unknown_account(&error) && !is_new => {
                tracing::warn!(event = "acme_account_forgotten", directory = self.settings.directory);
                self.register().await?.new_order(&wanted).await?
            }
            order => order?,
        };
        let posted = answer(&mut order, challenges).await?;
        let policy = RetryPolicy::default().timeout(POLLED_FOR);
        let ready = order.poll_ready(&policy).await;
        drop(posted);
        if !matches!(ready, Ok(OrderStatus::Ready)) {
            return Err(match (why_not(&mut order).await, ready) {
                (Some(why), _) => AcmeError::NotProven { name: name.clone(), why },
                (None, Err(error)) => error.into(),
                (None, Ok(_)) => AcmeError::Authority("the authority gave the order up".into()),
            });
        }
        let key = match key {
            Some(pem) => KeyPair::from_pem(pem),
            None => KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256),
        };
        let unfit = |error: rcgen::Error| AcmeError::Key(error.to_string().into());
        let key = key.map_err(unfit)?;
        let mut params = CertificateParams::new([name.as_str().to_owned()]).map_err(unfit)?;
        params.distinguished_name = DistinguishedName::new();
        order.finalize_csr(params.serialize_request(&key).map_err(unfit)?.der()).await?;
        let chain = order.poll_certificate(&policy).await?;
        Ok(Issued { chain, key: key.serialize_pem() })
    }

    /// The account that is kept, or a new one, and whether it is.
    async fn account(&self) -> Result<(Account, bool), AcmeError> {
        let file = self.file.clone();
        let kept = match unblocked(move || fs::read(file)).await {
            Ok(octets) => serde_json::from_slice::<Kept>(&octets).ok(),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(self.unkept(error)),
        };
        // another authority knows nothing of it
        let Some(kept) = kept.filter(|kept| kept.directory == self.settings.directory) else {
            return Ok((self.register().await?, true));
        };
        let has_moved = kept.email != self.settings.email;
        let again = if has_moved { copy(&kept.credentials) } else { None };
        let account = self.builder().from_credentials(kept.credentials).await?;
        if let Some(credentials) = again {
            match account
                .update_contacts(&self.contact().iter().map(String::as_str).collect::<Vec<_>>())
                .await
            {
                Ok(()) => self.keep(credentials).await?,
                // found out by whatever comes next, which says it better
                Err(error) => tracing::warn!(event = "acme_contact_not_told", error = %error),
            }
        }
        Ok((account, false))
    }

    fn builder(&self) -> AccountBuilder {
        Account::builder_with_http(Box::new(Web(self.https.clone())))
    }

    fn contact(&self) -> Vec<String> {
        self.settings.email.iter().map(|email| format!("mailto:{email}")).collect()
    }

    async fn register(&self) -> Result<Account, AcmeError> {
        let contact = self.contact();
        let contact: Vec<&str> = contact.iter().map(String::as_str).collect();
        let account =
            NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
        let directory = self.settings.directory.clone();
        let (account, credentials) = self.builder().create(&account, directory, None).await?;
        self.keep(credentials).await?;
        tracing::info!(event = "acme_account_made", directory = self.settings.directory);
        Ok(account)
    }

    async fn keep(&self, credentials: AccountCredentials) -> Result<(), AcmeError> {
        let AuthoritySettings { directory, email } = self.settings.clone();
        let octets = serde_json::to_vec(&Kept { directory, email, credentials });
        let file = self.file.clone();
        let kept = unblocked(move || keep(&file, &octets.map_err(io::Error::other)?, Former::Replaced));
        kept.await.map_err(|error| self.unkept(error))
    }

    fn unkept(&self, error: io::Error) -> AcmeError {
        AcmeError::File { file: self.file.clone(), error }
    }
}

/// Answers the challenges of an order. Names that were proven lately need none.
async fn answer(order: &mut Order, challenges: &Challenges) -> Result<Vec<Posted>, AcmeError> {
    let (mut authorizations, mut posted) = (order.authorizations(), Vec::new());
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        if authorization.status == AuthorizationStatus::Valid {
            continue;
        }
        let mut challenge = authorization
            .challenge(ChallengeType::Http01)
            .ok_or_else(|| AcmeError::Authority("the authority offers no HTTP-01 challenge".into()))?;
        posted.push(challenges.post(&challenge.token, challenge.key_authorization().as_str()));
        challenge.set_ready().await?;
    }
    Ok(posted)
}

/// What the authority found instead of the challenge's answer.
async fn why_not(order: &mut Order) -> Option<Box<str>> {
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        let state = authorization.refresh().await.ok()?;
        let problems = state.challenges.iter().filter_map(|challenge| challenge.error.as_ref());
        if let Some(why) = problems.map(ToString::to_string).next() {
            return Some(why.into());
        }
    }
    None
}
