//! TLS as the sink offers it.
//!
//! Owns the certificate, made anew at each start and vouched for by nobody.
//! Promises TLS 1.2 and 1.3, and sessions that can be resumed in both. Built
//! from the libraries alone: the relay's own TLS is what it is to test.

use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow};
use rcgen::generate_simple_self_signed;
use rustls::{
    ALL_VERSIONS, ServerConfig,
    crypto::aws_lc_rs::{Ticketer, default_provider},
    pki_types::PrivateKeyDer,
};
use tokio_rustls::TlsAcceptor;

/// The name in the certificate.
const NAME: &str = "sink.load.test";

pub(crate) fn acceptor() -> Result<TlsAcceptor> {
    let made = generate_simple_self_signed([NAME.to_owned()]).context("cannot make a certificate")?;
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der());
    let key = key.map_err(|why| anyhow!("the key made is none: {why}"))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(ALL_VERSIONS)?
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.into()], key)?;
    config.ticketer = Ticketer::new()?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}
