//! What all hosts of a domain must prove.

use std::fmt;
use std::sync::Arc;

use crate::net::Fingerprint;

/// What an operator orders for a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// TLS, whoever is at the other end.
    Require,
    /// TLS with a certificate that proves the host's name.
    Verify,
    /// TLS with one of these certificates, whatever the domain publishes.
    Fingerprint(Arc<[Fingerprint]>),
    /// TLS where it works, whatever the domain publishes.
    Opportunistic,
    /// No TLS, whatever the domain publishes.
    Never,
}

impl Mode {
    /// Whether what the domain publishes counts too.
    pub fn heeds_policies(&self) -> bool {
        matches!(self, Mode::Require | Mode::Verify)
    }

    /// Whether less may be demanded than the domain asks for.
    pub fn weakens(&self) -> bool {
        matches!(self, Mode::Opportunistic | Mode::Never)
    }
}

/// What is demanded where a host has no usable DANE records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Floor {
    /// That it be spoken to in clear.
    Clear,
    /// Nothing: TLS where it works.
    Opportunistic,
    /// TLS.
    Encrypted,
    /// A certificate for its name, as the operator wishes.
    Verified,
    /// The same, as the domain's MTA-STS policy has it.
    Sts,
    /// One of these certificates.
    Fingerprint(Arc<[Fingerprint]>),
}

/// What all hosts of a domain must prove. Connections are shared among domains of one stance only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stance {
    /// What is demanded at least.
    pub floor: Floor,
    /// Whether a host's DANE records go before that.
    pub uses_dane: bool,
}

impl Default for Stance {
    /// That of most domains.
    fn default() -> Self {
        Stance { floor: Floor::Opportunistic, uses_dane: true }
    }
}

impl Stance {
    /// By the operator's order, and whether an MTA-STS policy is in force.
    pub(super) fn ordered(order: Option<&Mode>, is_sts: bool) -> Self {
        let floor = match order {
            Some(Mode::Verify) => Floor::Verified,
            Some(Mode::Fingerprint(any)) => Floor::Fingerprint(any.clone()),
            Some(Mode::Never) => Floor::Clear,
            Some(Mode::Opportunistic) => Floor::Opportunistic,
            Some(Mode::Require) | None if is_sts => Floor::Sts,
            Some(Mode::Require) => Floor::Encrypted,
            None => Floor::Opportunistic,
        };
        Stance { floor, uses_dane: order.is_none_or(Mode::heeds_policies) }
    }

    /// By the operator's order alone, where no domain has a say: mail goes to a configured host.
    pub fn by_order(order: Option<&Mode>) -> Self {
        Stance::ordered(order, false)
    }

    /// TLS where it works, whatever anybody publishes.
    pub const fn undemanding() -> Self {
        Stance { floor: Floor::Opportunistic, uses_dane: false }
    }

    /// Whether TLS is used at all.
    pub fn tries_tls(&self) -> bool {
        self.floor != Floor::Clear
    }
}

impl fmt::Display for Stance {
    /// In a word, for logs; two stances have the same only where they are the same, but for digests.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.floor, self.uses_dane) {
            (Floor::Clear, _) => f.write_str("never"),
            (Floor::Opportunistic, true) => f.write_str("usual"),
            (Floor::Opportunistic, false) => f.write_str("opportunistic"),
            (Floor::Encrypted, _) => f.write_str("require"),
            (Floor::Verified, _) => f.write_str("verify"),
            (Floor::Sts, _) => f.write_str("mta-sts"),
            (Floor::Fingerprint(any), _) => {
                f.write_str("fingerprint")?;
                any.iter().try_for_each(|one| write!(f, " {one}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_strengthen_what_a_domain_publishes_or_stand_in_its_place() {
        let pinned: Arc<[Fingerprint]> = [Fingerprint::of(b"")].into();
        for (order, sts, floor, uses_dane, told) in [
            (None, false, Floor::Opportunistic, true, "usual"),
            (None, true, Floor::Sts, true, "mta-sts"),
            (Some(Mode::Require), false, Floor::Encrypted, true, "require"),
            (Some(Mode::Require), true, Floor::Sts, true, "mta-sts"),
            (Some(Mode::Verify), true, Floor::Verified, true, "verify"),
            (Some(Mode::Opportunistic), true, Floor::Opportunistic, false, "opportunistic"),
            (Some(Mode::Never), true, Floor::Clear, false, "never"),
        ] {
            let stance = Stance::ordered(order.as_ref(), sts);
            assert_eq!(stance, Stance { floor, uses_dane }, "{order:?}");
            assert_eq!(stance.to_string(), told);
        }
        let stance = Stance::ordered(Some(&Mode::Fingerprint(pinned.clone())), true);
        assert_eq!(stance, Stance { floor: Floor::Fingerprint(pinned), uses_dane: false });
        assert!(stance.to_string().starts_with("fingerprint e3b0c442"));
    }
}
