//! Certificates by ACME (RFC 8555), each for one name that is proven by HTTP-01 (RFC 8555 8.3).
//!
//! Owns the account and the conversation with an authority, and answers its challenges. Promises that an account is
//! kept and used again, that nothing takes longer than it may, and that the challenge listener holds a bounded number of
//! connections and serves nothing else. Never decides when a certificate is wanted.

mod authority;
mod challenges;
mod web;

pub use authority::{AcmeError, Authority, AuthoritySettings, Issued};
pub use challenges::Challenges;
