//! What is asked of the DNS, and what DNSSEC proves of the answers.
//!
//! Owns the resolver port, hickory behind it, and the knowledge whether its answers are validated. Promises that
//! an answer which fails validation is never given; that "secure" is only said of what was validated here, from
//! the trust anchor down, whatever flags the servers that are asked may set; and that where no validation takes
//! place nothing is said to be secure.

mod denials;
mod failures;
mod hickory;
#[cfg(test)]
mod maps;
mod meters;
mod nsec;
mod proofs;
mod resolver;
mod second_look;
mod servers;
mod sifted;
mod tlsa;
mod validating;

pub use hickory::{HickoryResolver, Validation};
#[cfg(test)]
pub use maps::Maps;
pub use resolver::{DnsError, Lookup, Mx, Resolver, Txt};
pub use servers::{DnsSettings, check_trust_anchor};
pub use tlsa::Tlsa;
