//! Whether others find our signatures good: verified as a receiver does, by what the DNS shows now.

use std::borrow::Borrow;
use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::sync::Arc;
use std::time::Instant;

use mail_auth::common::parse::TxtRecordParser as _;
use mail_auth::common::verify::DomainKey;
use mail_auth::dkim::Signature;
use mail_auth::hickory_resolver::TokioResolver;
use mail_auth::hickory_resolver::config::ResolverConfig;
use mail_auth::hickory_resolver::net::runtime::TokioRuntimeProvider;
use mail_auth::{
    AuthenticatedMessage, DkimResult, DnsError as NoAnswer, Error, MessageAuthenticator, Parameters,
    ResolverCache, Txt,
};

use super::key::Key;
use super::record::is_of_known_kind;
use super::selector::Selector;
use super::signers::{Choice, Signers};
use crate::clock::Timestamp;
use crate::mail::Domain;
use crate::net::{DnsError, Resolver};

/// What a receiver would find.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The signature is good.
    Pass,
    /// It is not, and why.
    Fail(Box<str>),
    /// The DNS did not answer.
    Unsure(Box<str>),
}

/// Records that were looked up before: the verifier asks no DNS by itself.
#[derive(Default)]
struct Shown(HashMap<Box<str>, Txt>);

impl ResolverCache<Box<str>, Txt> for Shown {
    fn get<Q>(&self, name: &Q) -> Option<Txt>
    where
        Box<str>: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.0.get(name).cloned()
    }

    fn remove<Q>(&self, _: &Q) -> Option<Txt>
    where
        Box<str>: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        None
    }

    fn insert(&self, _: Box<str>, _: Txt, _: Instant) {}
}

/// Whether the verifier judges such a message rightly. It takes lines of white space at the end of a body for lines with
/// content, which they are not (RFC 6376 3.4.4), and does not find a field whose name has white space behind it.
pub(super) fn is_judged_rightly(message: &[u8]) -> bool {
    let content = message.trim_ascii_end().len();
    let tail = message.get(content..).unwrap_or_default();
    let first_end = tail.iter().position(|octet| *octet == b'\n').unwrap_or(tail.len());
    let has_space =
        tail.get(first_end..).unwrap_or_default().iter().any(|octet| matches!(octet, b' ' | b'\t'));
    let header = memchr::memmem::find(message, b"\r\n\r\n").unwrap_or(message.len());
    let mut lines = message[..header].split(|octet| *octet == b'\n');
    let is_spaced = |line: &[u8]| {
        let name = line.split(|octet| *octet == b':').next().unwrap_or_default();
        name.first().is_some_and(u8::is_ascii_graphic) && name.last().is_some_and(u8::is_ascii_whitespace)
    };
    !has_space && !lines.any(is_spaced)
}

/// Verifies those signatures of a message that are by these keys, by what the DNS shows now.
pub async fn verify(
    message: &[u8],
    keys: &HashSet<(Domain, Selector)>,
    resolver: &dyn Resolver,
) -> Vec<(Selector, Verdict)> {
    let Some(parsed) = AuthenticatedMessage::parse(message) else { return Vec::new() };
    let mut shown = Shown::default();
    let is_ours = |signature: &Signature| {
        let name = Domain::parse(&signature.d).ok().zip(Selector::parse(&signature.s).ok());
        name.is_some_and(|name| keys.contains(&name))
    };
    for header in &parsed.dkim_headers {
        let name = format!("{}._domainkey.{}.", header.header.s, header.header.d);
        // others' are nobody's business here
        let record = match is_ours(&header.header) {
            true if shown.0.contains_key(name.as_str()) => continue,
            true => shown_at(&name, resolver).await,
            false => Txt::Error(Error::Dns(NoAnswer::InvalidRecordType)),
        };
        shown.0.insert(name.into(), record);
    }
    let asks_nobody =
        TokioResolver::builder_with_config(ResolverConfig::default(), TokioRuntimeProvider::default());
    let Ok(asks_nobody) = asks_nobody.build() else { return Vec::new() };
    let parameters = Parameters::new(&parsed).with_txt_cache(&shown);
    let found = MessageAuthenticator(asks_nobody).verify_dkim(parameters).await;
    found
        .iter()
        .filter_map(|found| {
            let signature = found.signature().filter(|signature| is_ours(signature))?;
            let selector = Selector::parse(&signature.s).ok()?;
            let verdict = match found.result() {
                DkimResult::Pass => Verdict::Pass,
                DkimResult::TempError(why) => Verdict::Unsure(why.to_string().into()),
                other => Verdict::Fail(other.to_string().into()),
            };
            Some((selector, verdict))
        })
        .collect()
}

async fn shown_at(name: &str, resolver: &dyn Resolver) -> Txt {
    let nothing = |why: DnsError| Txt::Error(Error::Dns(NoAnswer::Resolver(why.to_string())));
    let Ok(name) = Domain::parse(name) else { return nothing(DnsError::NoSuchName) };
    match resolver.uncached().txt(&name).await {
        Ok(found) => {
            // the library takes a key of unknown kind for one of RSA
            let known = found.texts.iter().filter(|text| is_of_known_kind(text));
            let key = known.filter_map(|text| DomainKey::parse(text).ok()).next();
            let none = || Txt::Error(Error::Dns(NoAnswer::InvalidRecordType));
            key.map_or_else(none, |key| Txt::DomainKey(Arc::new(key)))
        }
        Err(error) if error.is_denial() => Txt::Error(Error::Dns(NoAnswer::InvalidRecordType)),
        Err(error) => nothing(error),
    }
}

/// Signs a message with a key and has it verified.
pub async fn sign_and_verify(key: Key, resolver: &dyn Resolver, now: Timestamp) -> Verdict {
    let domain = key.domain().clone();
    let header = format!("From: postmaster@{domain}\r\nSubject: a test of {}\r\n", key.selector());
    let body = b"signed by one key, to be verified by what the DNS shows.\r\n";
    let signers = Signers::new([Arc::new(key)], None);
    let Choice::Signed(mut pending) = signers.begin(header.as_bytes(), &|_| true, now) else {
        return Verdict::Fail("the key is not chosen for its own domain".into());
    };
    pending.body(body);
    match pending.sign() {
        Err(error) => Verdict::Fail(error.to_string().into()),
        Ok((signature, _)) => {
            let message = [&signature, header.as_bytes(), b"\r\n", body].concat();
            let verdicts = verify(&message, &signers.names(), resolver).await;
            let none = || Verdict::Fail("the signature is not found in the message".into());
            verdicts.into_iter().next().map_or_else(none, |(_, verdict)| verdict)
        }
    }
}
