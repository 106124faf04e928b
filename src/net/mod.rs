//! Sockets and names: the resolver port, where mail for a domain goes, listening and dialling, TLS, HTTPS, ACME.
//!
//! Owns what is asked of the DNS and of the kernel. Promises that look-ups are bounded in time and
//! number, that an answer which does not exist is told from one that did not come, and that
//! addresses which mail may not be sent to are left out. Never decides what a failure means for a message.

mod acme;
mod dial;
mod dns;
mod https;
mod listen;
pub mod proxy;
mod site;
mod tls;

pub use acme::{AcmeError, Authority, AuthoritySettings, Challenges, Issued};
pub use dial::{Dial, Dialled, Dialling, Stream, TcpDialler, is_own_want};
#[cfg(test)]
pub use dns::Maps;
pub use dns::{
    DnsError, DnsSettings, HickoryResolver, Lookup, Mx, Resolver, Tlsa, Txt, Validation, check_trust_anchor,
};
pub use https::{Https, HttpsError};
pub use listen::{is_local, listen, tune};
pub use site::{ADDRESSES_MAX, HOSTS_MAX, Host, Judge, RouteError, Site, find_site};
pub use tls::{
    CertificateError, Chain, ClientCertificates, ClientTls, DaneFault, Described, Fingerprint, Handshake,
    Identity, Pkix, PkixFault, Roots, ServerTls, TlsError, TlsFacts, TlsPolicy, TlsVersion,
};
