//! What operators order of TLS towards some domains.

use crate::accounts::DomainPattern;
use crate::mail::Domain;
use crate::transport::Mode;

/// An order for some domains.
#[derive(Clone, Debug)]
pub struct TlsOrder {
    /// Which domains.
    pub domains: Vec<DomainPattern>,
    /// What is demanded of their hosts.
    pub mode: Mode,
}

/// All orders; the first that matches counts.
#[derive(Clone, Debug, Default)]
pub struct TlsOrders {
    /// For some domains.
    pub domains: Vec<TlsOrder>,
    /// For all others; what they publish themselves where there is none.
    pub others: Option<Mode>,
}

impl TlsOrders {
    /// The order for a domain.
    pub(super) fn order(&self, domain: &Domain) -> Option<&Mode> {
        let matching = |order: &&TlsOrder| order.domains.iter().any(|pattern| pattern.matches(domain));
        self.domains.iter().find(matching).map(|order| &order.mode).or(self.others.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_matching_order_counts() {
        let order = |pattern: &str, mode| TlsOrder {
            domains: vec![DomainPattern::parse(pattern).expect("a pattern")],
            mode,
        };
        let domains = vec![order("a.example", Mode::Verify), order("*.example", Mode::Require)];
        let orders = TlsOrders { domains, others: Some(Mode::Never) };
        for (domain, want) in
            [("a.example", Mode::Verify), ("b.example", Mode::Require), ("example.org", Mode::Never)]
        {
            let domain = Domain::parse(domain).expect("a name");
            assert_eq!(orders.order(&domain), Some(&want), "{domain}");
        }
    }
}
