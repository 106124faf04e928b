//! The conversation with an authority (RFC 8555 7).

use std::fs;
use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::time::Duration;

use instant_acme::{
    Account, AccountCredentials, AuthorizationStatus, ChallengeType, Error, Identifier, NewAccount, NewOrder,
    Order, OrderStatus, RetryPolicy,
};
use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256};
use serde::{Deserialize, Serialize};
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
    #[error("the authority did not find the challenge at http://{name}/: {why}")]
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
    /// Whom it writes to about certificates that run out.
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

fn is_unknown_account(error: &Error) -> bool {
    matches!(error, Error::Api(problem) if problem.r#type.as_deref() == Some(NO_ACCOUNT))
}

impl Authority {
    /// With an account that is kept in `file`.
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
        let kept = match fs::read(&self.file) {
            Ok(octets) => serde_json::from_slice::<Kept>(&octets).ok(),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(self.unkept(error)),
        };
        match kept {
            // another authority knows nothing of it
            Some(kept) if kept.directory == self.settings.directory => {
                let builder = Account::builder_with_http(Box::new(Web(self.https.clone())));
                Ok((builder.from_credentials(kept.credentials).await?, false))
            }
            _ => Ok((self.register().await?, true)),
        }
    }

    async fn register(&self) -> Result<Account, AcmeError> {
        let contact = self.settings.email.as_ref().map(|email| format!("mailto:{email}"));
        let contact: Vec<&str> = contact.iter().map(String::as_str).collect();
        let account =
            NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
        let directory = self.settings.directory.clone();
        let builder = Account::builder_with_http(Box::new(Web(self.https.clone())));
        let (account, credentials) = builder.create(&account, directory.clone(), None).await?;
        let octets = serde_json::to_vec(&Kept { directory, credentials }).unwrap_or_default();
        keep(&self.file, &octets, Former::Replaced).map_err(|error| self.unkept(error))?;
        tracing::info!(event = "acme_account_made", directory = self.settings.directory);
        Ok(account)
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
