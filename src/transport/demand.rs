//! What one host must prove, and what it has proven.

use std::fmt;
use std::sync::Arc;

use super::dane::{Dane, find_dane};
use super::stance::{Floor, Stance};
use crate::clock::Clock;
use crate::mail::Domain;
use crate::net::{Chain, DaneFault, DnsError, Fingerprint, Pkix, PkixFault, Resolver, TlsFacts, Tlsa};

/// What a host must prove.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Demand {
    /// Nothing: it is spoken to in clear.
    Clear,
    /// Nothing: by TLS where that works, else in clear (RFC 7435).
    Opportunistic,
    /// That it speaks TLS.
    Encrypted,
    /// That it speaks TLS, for it has records that name a certificate, of which none serves (RFC 7672 2.2.3, 3.1.3).
    Unusable {
        /// The name that they stand under.
        base: Domain,
        /// The records.
        records: Arc<[Tlsa]>,
    },
    /// That its certificate is for its name, by a known root.
    Verified {
        /// Whether an MTA-STS policy says so.
        is_sts: bool,
    },
    /// That its certificate is one of these.
    Fingerprint(Arc<[Fingerprint]>),
    /// That its certificate is one that these records name.
    Dane {
        /// The name that they stand under.
        base: Domain,
        /// The records.
        records: Arc<[Tlsa]>,
    },
}

/// What a connection has shown of who is at its other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// Nothing, in clear.
    Clear,
    /// Nothing, under TLS.
    Unproven,
    /// A certificate for its name.
    Pkix,
    /// A certificate for its name, which the domain's MTA-STS policy lists.
    Sts,
    /// A certificate that the operator knows.
    Fingerprint,
    /// A certificate that its zone names.
    Dane,
}

impl Proof {
    /// Whether it is of who the host is.
    pub const fn is_of_identity(self) -> bool {
        !matches!(self, Proof::Clear | Proof::Unproven)
    }

    /// The name in logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Proof::Clear => "clear",
            Proof::Unproven => "unproven",
            Proof::Pkix => "pkix",
            Proof::Sts => "mta-sts",
            Proof::Fingerprint => "fingerprint",
            Proof::Dane => "dane",
        }
    }
}

/// Why a host has not proven what it must.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unproven {
    /// It does not offer TLS, and must.
    #[error("TLS is demanded ({0}), and the server does not offer it")]
    NoTls(&'static str),
    /// Its certificate does not prove its name.
    #[error("a certificate for the server's name is demanded ({by}), but {fault}")]
    Pkix {
        /// Who demands it.
        by: &'static str,
        /// What is wrong.
        fault: PkixFault,
    },
    /// Its certificate is none of those that the operator knows.
    #[error("the certificate is none of those that are configured for the domain")]
    Fingerprint,
    /// Its zone names other certificates.
    #[error("DANE: {0}")]
    Dane(DaneFault),
}

/// What a host must prove, at a port. An error keeps the host out.
pub async fn demand(
    resolver: &dyn Resolver,
    stance: &Stance,
    host: &str,
    port: u16,
) -> Result<Demand, DnsError> {
    let dane = if stance.uses_dane {
        let host = Domain::parse(host).map_err(|error| DnsError::Failed(error.to_string().into()))?;
        find_dane(resolver, &host, port).await?
    } else {
        Dane::Absent
    };
    Ok(match (dane, &stance.floor) {
        (Dane::Usable { base, records }, _) => Demand::Dane { base, records },
        (Dane::Unusable { base, records }, Floor::Opportunistic | Floor::Encrypted) => {
            Demand::Unusable { base, records }
        }
        (_, floor) => Demand::from(floor),
    })
}

impl From<&Floor> for Demand {
    fn from(floor: &Floor) -> Self {
        match floor {
            Floor::Clear => Demand::Clear,
            Floor::Opportunistic => Demand::Opportunistic,
            Floor::Encrypted => Demand::Encrypted,
            Floor::Verified => Demand::Verified { is_sts: false },
            Floor::Sts => Demand::Verified { is_sts: true },
            Floor::Fingerprint(any) => Demand::Fingerprint(any.clone()),
        }
    }
}

impl Demand {
    /// Whether TLS is tried.
    pub fn tries_tls(&self) -> bool {
        *self != Demand::Clear
    }

    /// Whether mail may go in clear where TLS is not offered, or does not work.
    pub fn allows_clear(&self) -> bool {
        matches!(self, Demand::Clear | Demand::Opportunistic)
    }

    /// The name that is asked for in the handshake: for DANE that of its records (RFC 7672 8.1).
    pub fn server_name<'a>(&'a self, host: &'a str) -> &'a str {
        match self {
            Demand::Dane { base, .. } => base.as_str(),
            _ => host,
        }
    }

    /// What a server without TLS proves.
    pub fn judge_clear(&self) -> Result<Proof, Unproven> {
        if self.allows_clear() { Ok(Proof::Clear) } else { Err(Unproven::NoTls(self.as_str())) }
    }

    /// What a handshake proves. Under DANE an authority may vouch for one of `names`, beside that of the records.
    pub fn judge(
        &self,
        facts: &TlsFacts,
        chain: &Chain,
        names: &[&str],
        clock: &Clock,
    ) -> Result<Proof, Unproven> {
        match self {
            Demand::Clear | Demand::Opportunistic | Demand::Encrypted | Demand::Unusable { .. } => {
                Ok(match facts.pkix {
                    Pkix::Valid => Proof::Pkix,
                    Pkix::Invalid(_) | Pkix::NotEvaluated => Proof::Unproven,
                })
            }
            Demand::Verified { is_sts } => match facts.pkix {
                Pkix::Valid if *is_sts => Ok(Proof::Sts),
                Pkix::Valid => Ok(Proof::Pkix),
                Pkix::Invalid(fault) => Err(self.untrusted(fault)),
                Pkix::NotEvaluated => Err(self.untrusted(PkixFault::Unfit)),
            },
            Demand::Fingerprint(known) => match facts.certificate {
                Some(shown) if known.contains(&shown) => Ok(Proof::Fingerprint),
                _ => Err(Unproven::Fingerprint),
            },
            Demand::Dane { base, records } => {
                let names: Vec<&str> = [base.as_str()].into_iter().chain(names.iter().copied()).collect();
                chain.judge_by(records, &names, clock).map(|_| Proof::Dane).map_err(Unproven::Dane)
            }
        }
    }

    /// What it means that a certificate does not prove the server's name.
    pub fn untrusted(&self, fault: PkixFault) -> Unproven {
        Unproven::Pkix { by: self.as_str(), fault }
    }

    /// In a word, for logs and people.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Demand::Clear => "never",
            Demand::Opportunistic => "opportunistic",
            Demand::Encrypted | Demand::Unusable { .. } => "encrypted",
            Demand::Verified { is_sts: true } => "MTA-STS",
            Demand::Verified { is_sts: false } => "verify",
            Demand::Fingerprint(_) => "fingerprint",
            Demand::Dane { .. } => "DANE",
        }
    }
}

impl fmt::Display for Demand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{ManualClock, Timestamp};
    use crate::net::TlsVersion;

    fn facts(pkix: Pkix) -> TlsFacts {
        let certificate = Some(Fingerprint::of(b"shown"));
        TlsFacts {
            version: TlsVersion::V1_3,
            cipher: "TLS_AES_128_GCM_SHA256",
            resumed: false,
            pkix,
            certificate,
        }
    }

    #[test]
    fn what_is_shown_is_held_against_what_is_demanded() {
        let clock = Clock::Manual(ManualClock::at(Timestamp::from_millis(0)));
        let pinned = |text: &[u8]| Demand::Fingerprint([Fingerprint::of(text)].into());
        let (sts, verify) = (Demand::Verified { is_sts: true }, Demand::Verified { is_sts: false });
        let (good, bad) = (Pkix::Valid, Pkix::Invalid(PkixFault::WrongName));
        let refused = |demand: &Demand| Err(demand.untrusted(PkixFault::WrongName));
        for (demand, pkix, want) in [
            (Demand::Opportunistic, good, Ok(Proof::Pkix)),
            (Demand::Opportunistic, bad, Ok(Proof::Unproven)),
            (Demand::Encrypted, bad, Ok(Proof::Unproven)),
            (sts.clone(), good, Ok(Proof::Sts)),
            (sts.clone(), bad, refused(&sts)),
            (verify.clone(), good, Ok(Proof::Pkix)),
            (verify.clone(), bad, refused(&verify)),
            (pinned(b"shown"), bad, Ok(Proof::Fingerprint)),
            (pinned(b"other"), good, Err(Unproven::Fingerprint)),
        ] {
            let judged = demand.judge(&facts(pkix), &Chain::default(), &[], &clock);
            assert_eq!(judged, want, "{demand:?}");
        }
        let base = Domain::parse("mx.example").expect("a name");
        let unusable = Demand::Unusable { base: base.clone(), records: Arc::default() };
        let dane = Demand::Dane { base, records: Arc::default() };
        let judged = dane.judge(&facts(good), &Chain::default(), &[], &clock);
        assert_eq!(judged, Err(Unproven::Dane(DaneFault::NoMatch)), "public roots do not count");
        for demand in [Demand::Encrypted, unusable, sts, verify, pinned(b"shown"), dane] {
            assert!(demand.judge_clear().is_err() && !demand.allows_clear(), "{demand:?}");
        }
        for demand in [Demand::Clear, Demand::Opportunistic] {
            assert_eq!(demand.judge_clear(), Ok(Proof::Clear));
        }
    }
}
