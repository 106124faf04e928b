//! What the responder knows: names, their records, and how they fail.
//!
//! Owns the data of a [`Zone`] and the decision whether a name exists. Names
//! are compared without regard to case or a trailing dot.
//!
//! Promises that an ancestor of a known name exists too, without data, and
//! that failures may be set and healed while the zone is being served.
//!
//! Never touches a socket or a packet.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    net::{Ipv4Addr, Ipv6Addr},
    sync::{PoisonError, RwLock},
};

/// How long answers may be cached unless [`Zone::ttl`] says otherwise.
const DEFAULT_TTL_SECONDS: u32 = 60;
/// The preference of the one MX of a patterned domain.
const PATTERN_PREFERENCE: u16 = 10;

/// One record as the zone's author writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Data {
    Mx { preference: u16, host: String },
    A(Ipv4Addr),
    Aaaa(Ipv6Addr),
    Cname(String),
    Txt(String),
}

/// How a name fails instead of being answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The name is denied, whatever the zone holds for it.
    Nxdomain,
    /// The server confesses to a failure.
    Servfail,
    /// The server says nothing at all.
    Silence,
}

/// Many domains at the price of one: `d<k>.<suffix>` has the MX
/// `mx<k>.<suffix>` for each k in `1..=domains`, whose address is the
/// `(k-1) % addresses`-th after `first` — with one address, all share it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    /// The name below which the domains lie, such as `load.test`.
    pub suffix: String,
    /// How many domains there are.
    pub domains: u32,
    /// The address of `mx1`.
    pub first: Ipv4Addr,
    /// How many consecutive addresses the mail exchangers take in turn.
    pub addresses: u32,
}

impl Pattern {
    fn find(&self, name: &str) -> Option<Vec<Data>> {
        if is_within(&self.suffix, name) {
            return Some(Vec::new());
        }
        let label = name.strip_suffix(&self.suffix)?.strip_suffix('.')?;
        if let Some(digits) = label.strip_prefix("mx") {
            let k = self.number(digits)?;
            return Some(vec![Data::A(self.address(k))]);
        }
        let k = self.number(label.strip_prefix('d')?)?;
        let host = format!("mx{k}.{}", self.suffix);
        Some(vec![Data::Mx { preference: PATTERN_PREFERENCE, host }])
    }

    /// The k that `digits` spell, if it is one of the pattern's; no number has
    /// two spellings, so none with a leading zero or sign.
    fn number(&self, digits: &str) -> Option<u32> {
        let plain = digits.bytes().all(|byte| byte.is_ascii_digit()) && !digits.starts_with('0');
        let k = digits.parse().ok()?;
        (plain && k <= self.domains).then_some(k)
    }

    fn address(&self, k: u32) -> Ipv4Addr {
        let step = (k - 1) % self.addresses.max(1);
        Ipv4Addr::from_bits(self.first.to_bits().wrapping_add(step))
    }
}

/// The whole of what a responder knows, built by chaining:
/// `Zone::new().mx("a.test", 10, "mx.a.test").a("mx.a.test", address)`.
#[derive(Debug)]
pub struct Zone {
    records: HashMap<String, Vec<Data>>,
    ancestors: HashSet<String>,
    patterns: Vec<Pattern>,
    failures: RwLock<HashMap<String, Failure>>,
    ttl_seconds: u32,
}

impl Default for Zone {
    fn default() -> Self {
        Self {
            records: HashMap::new(),
            // The root, the one name that always exists.
            ancestors: HashSet::from([String::new()]),
            patterns: Vec::new(),
            failures: RwLock::default(),
            ttl_seconds: DEFAULT_TTL_SECONDS,
        }
    }
}

impl Zone {
    /// A zone in which no name exists but the root.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a mail exchanger; host `.` makes it a null MX.
    #[must_use]
    pub fn mx(self, name: &str, preference: u16, host: &str) -> Self {
        self.record(name, Data::Mx { preference, host: canonical(host) })
    }

    /// Adds an IPv4 address.
    #[must_use]
    pub fn a(self, name: &str, address: Ipv4Addr) -> Self {
        self.record(name, Data::A(address))
    }

    /// Adds an IPv6 address.
    #[must_use]
    pub fn aaaa(self, name: &str, address: Ipv6Addr) -> Self {
        self.record(name, Data::Aaaa(address))
    }

    /// Makes `name` an alias of `target`.
    #[must_use]
    pub fn cname(self, name: &str, target: &str) -> Self {
        self.record(name, Data::Cname(canonical(target)))
    }

    /// Adds a text record.
    #[must_use]
    pub fn txt(self, name: &str, text: &str) -> Self {
        self.record(name, Data::Txt(text.to_owned()))
    }

    /// Adds the domains of a [`Pattern`]; a name entered by itself wins over
    /// the pattern's.
    #[must_use]
    pub fn pattern(mut self, mut pattern: Pattern) -> Self {
        pattern.suffix = canonical(&pattern.suffix);
        self.patterns.push(pattern);
        self
    }

    /// Makes `name` fail from the start; see [`Zone::fail`].
    #[must_use]
    pub fn failing(self, name: &str, failure: Failure) -> Self {
        self.fail(name, failure);
        self
    }

    /// Sets how long answers, denials included, may be cached.
    #[must_use]
    pub fn ttl(mut self, seconds: u32) -> Self {
        self.ttl_seconds = seconds;
        self
    }

    /// Makes every query for `name` fail from now on.
    pub fn fail(&self, name: &str, failure: Failure) {
        let mut failures = self.failures.write().unwrap_or_else(PoisonError::into_inner);
        failures.insert(canonical(name), failure);
    }

    /// Ends the failure of `name`.
    pub fn heal(&self, name: &str) {
        let mut failures = self.failures.write().unwrap_or_else(PoisonError::into_inner);
        failures.remove(&canonical(name));
    }

    /// The failure set for a canonical name.
    pub(super) fn failure(&self, name: &str) -> Option<Failure> {
        let failures = self.failures.read().unwrap_or_else(PoisonError::into_inner);
        failures.get(name).copied()
    }

    /// The records of a canonical name: `None` when it does not exist, empty
    /// when it exists only because something lies below it.
    pub(super) fn find(&self, name: &str) -> Option<Cow<'_, [Data]>> {
        if let Some(records) = self.records.get(name) {
            return Some(Cow::Borrowed(records));
        }
        if let Some(records) = self.patterns.iter().find_map(|pattern| pattern.find(name)) {
            return Some(Cow::Owned(records));
        }
        self.ancestors.contains(name).then_some(Cow::Borrowed(&[]))
    }

    pub(super) fn ttl_seconds(&self) -> u32 {
        self.ttl_seconds
    }

    fn record(mut self, name: &str, data: Data) -> Self {
        let name = canonical(name);
        let mut rest = name.as_str();
        while let Some((_, parent)) = rest.split_once('.') {
            self.ancestors.insert(parent.to_owned());
            rest = parent;
        }
        self.records.entry(name).or_default().push(data);
        self
    }
}

/// The one spelling under which a name is kept and found.
pub(super) fn canonical(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

/// Whether `name` is `ancestor` or lies below it.
fn is_within(name: &str, ancestor: &str) -> bool {
    name.strip_suffix(ancestor).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterned(addresses: u32) -> Zone {
        Zone::new().pattern(Pattern {
            suffix: "Load.Test.".into(),
            domains: 300,
            first: Ipv4Addr::new(127, 0, 2, 1),
            addresses,
        })
    }

    fn address(zone: &Zone, name: &str) -> Option<Ipv4Addr> {
        match zone.find(name)?.first()? {
            Data::A(address) => Some(*address),
            _ => None,
        }
    }

    #[test]
    fn patterned_domains_have_one_exchanger_each() {
        let zone = patterned(254);
        let expected = Data::Mx { preference: 10, host: "mx300.load.test".into() };
        assert_eq!(zone.find("d300.load.test").as_deref(), Some(&[expected][..]));
        for absent in ["d0", "d301", "d01", "d+1", "d", "mx", "x1", "a.d1", "d99999999999"] {
            assert_eq!(zone.find(&format!("{absent}.load.test")), None, "{absent}");
        }
    }

    #[test]
    fn patterned_addresses_go_round() {
        let zone = patterned(254);
        assert_eq!(address(&zone, "mx254.load.test"), Some(Ipv4Addr::new(127, 0, 2, 254)));
        assert_eq!(address(&zone, "mx255.load.test"), Some(Ipv4Addr::new(127, 0, 2, 1)));
        let shared = patterned(1);
        assert_eq!(address(&shared, "mx77.load.test"), Some(Ipv4Addr::new(127, 0, 2, 1)));
    }

    #[test]
    fn ancestors_exist_without_data() {
        let zone = patterned(1).a("a.b.c.test", Ipv4Addr::LOCALHOST);
        for name in ["", "test", "load.test", "b.c.test", "c.test"] {
            assert_eq!(zone.find(name).as_deref(), Some(&[][..]), "{name}");
        }
        for name in ["oad.test", "est", "x.b.c.test"] {
            assert_eq!(zone.find(name), None, "{name}");
        }
    }

    #[test]
    fn failures_come_and_go() {
        let zone = Zone::new().failing("Gone.test.", Failure::Servfail);
        assert_eq!(zone.failure("gone.test"), Some(Failure::Servfail));
        zone.heal("gone.TEST");
        assert_eq!(zone.failure("gone.test"), None);
    }
}
