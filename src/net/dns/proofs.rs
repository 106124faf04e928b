//! What the proofs on the records of an answer amount to.

use hickory_resolver::proto::rr::{Name, RData, Record};

/// Aliases that are followed.
const ALIASES_MAX: usize = 16;

/// Where a name leads by its aliases.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Aliases<'a> {
    /// The name at their end.
    pub(super) end: &'a Name,
    /// Whether the first of them is secure; nothing where there are none.
    pub(super) is_first_secure: Option<bool>,
    /// Whether all of them are.
    pub(super) are_secure: bool,
}

/// Follows the aliases in an answer (RFC 1034 3.6.2).
pub(super) fn follow<'a>(name: &'a Name, answers: &'a [Record]) -> Aliases<'a> {
    let mut aliases = Aliases { end: name, is_first_secure: None, are_secure: true };
    for _ in 0..ALIASES_MAX {
        let alias = answers.iter().find_map(|record| match &record.data {
            RData::CNAME(target) if record.name == *aliases.end => {
                Some((&target.0, record.proof.is_secure()))
            }
            _ => None,
        });
        let Some((target, is_secure)) = alias else { break };
        aliases.end = target;
        aliases.is_first_secure.get_or_insert(is_secure);
        aliases.are_secure &= is_secure;
    }
    aliases
}

/// Whether an answer has records of a kind, and these and the aliases that lead to them are secure.
pub(super) fn is_secure(name: &Name, answers: &[Record], is_kind: impl Fn(&RData) -> bool) -> bool {
    let aliases = follow(name, answers);
    let mut wanted = answers.iter().filter(|record| is_kind(&record.data)).peekable();
    aliases.are_secure
        && wanted.peek().is_some()
        && wanted.all(|record| record.proof.is_secure() && record.name == *aliases.end)
}

/// The names that TLSA records of a host may stand under (RFC 7672 2.2.2): where its aliases are secure all the
/// way, the last of them and then the first; where only the first is, so that the host's own zone vouches for
/// it, the host's name; and that too where it has no aliases and its addresses are secure.
pub(super) fn tlsa_bases<'a>(host: &'a Name, answers: &'a [Record]) -> Vec<&'a Name> {
    let aliases = follow(host, answers);
    let is_whole = is_secure(host, answers, |data| matches!(data, RData::A(_) | RData::AAAA(_)));
    match (aliases.is_first_secure, is_whole) {
        (None, true) | (Some(true), false) => vec![host],
        (Some(_), true) => vec![aliases.end, host],
        (None | Some(false), false) => Vec::new(),
    }
}

/// The names of a domain that certificates of its mail hosts may be for (RFC 7672 3.2.2).
pub(super) fn next_hop_names<'a>(domain: &'a Name, answers: &'a [Record]) -> Vec<&'a Name> {
    let end = follow(domain, answers).end;
    match is_secure(domain, answers, |data| matches!(data, RData::MX(_))) {
        true if end == domain => vec![domain],
        true => vec![domain, end],
        false => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_resolver::proto::dnssec::Proof;
    use hickory_resolver::proto::rr::rdata::{A, CNAME, MX};

    fn name(text: &str) -> Name {
        Name::from_ascii(format!("{text}.")).expect("a name")
    }

    fn record(from: &str, data: RData, proof: Proof) -> Record {
        let mut record = Record::from_rdata(name(from), 60, data);
        record.proof = proof;
        record
    }

    #[test]
    fn tlsa_records_stand_where_dnssec_vouches_for_them() {
        let (secure, insecure) = (Proof::Secure, Proof::Insecure);
        let alias = |from: &str, to: &str, proof| record(from, RData::CNAME(CNAME(name(to))), proof);
        let address = |from: &str, proof| record(from, RData::A(A::new(192, 0, 2, 1)), proof);
        for (answers, want) in [
            (vec![address("mx", secure)], "mx."),
            (vec![address("mx", insecure)], ""),
            (vec![address("mx", Proof::Indeterminate)], ""),
            (vec![address("mx", secure), address("mx", insecure)], ""),
            // whoever adds an address of another name has said nothing about this one
            (vec![address("other", secure)], ""),
            (vec![], ""),
            (vec![alias("mx", "end", secure), address("end", secure)], "end. mx."),
            (vec![alias("mx", "a", secure), alias("a", "end", secure), address("end", secure)], "end. mx."),
            (vec![address("end", secure), alias("a", "end", secure), alias("mx", "a", secure)], "end. mx."),
            (vec![alias("mx", "a", secure), alias("a", "end", insecure), address("end", secure)], "mx."),
            (vec![alias("mx", "end", secure), address("end", insecure)], "mx."),
            (vec![alias("mx", "end", insecure), address("end", secure)], ""),
            (vec![alias("mx", "mx", secure)], "mx."),
        ] {
            let host = name("mx");
            let bases = tlsa_bases(&host, &answers);
            let told: Vec<String> = bases.iter().map(ToString::to_string).collect();
            assert_eq!(told.join(" "), want, "{answers:?}");
        }
    }

    #[test]
    fn a_domains_own_names_count_where_its_mx_records_are_secure() {
        let mx = |from: &str, proof| record(from, RData::MX(MX::new(10, name("mx"))), proof);
        let alias = |proof| record("d", RData::CNAME(CNAME(name("end"))), proof);
        let (secure, insecure) = (Proof::Secure, Proof::Insecure);
        for (answers, want) in [
            (vec![mx("d", secure)], "d."),
            (vec![mx("d", insecure)], ""),
            (vec![alias(secure), mx("end", secure)], "d. end."),
            (vec![alias(insecure), mx("end", secure)], ""),
            (vec![alias(secure)], ""),
        ] {
            let domain = name("d");
            let names = next_hop_names(&domain, &answers);
            let told: Vec<String> = names.iter().map(ToString::to_string).collect();
            assert_eq!(told.join(" "), want, "{answers:?}");
        }
    }

    #[test]
    fn records_are_secure_with_all_that_leads_to_them() {
        let is_address = |data: &RData| matches!(data, RData::A(_));
        let answers = |alias: Proof, address: Proof| {
            let alias = record("mx", RData::CNAME(CNAME(name("end"))), alias);
            [alias, record("end", RData::A(A::new(192, 0, 2, 1)), address)]
        };
        for (alias, address, want) in [
            (Proof::Secure, Proof::Secure, true),
            (Proof::Insecure, Proof::Secure, false),
            (Proof::Secure, Proof::Insecure, false),
        ] {
            assert_eq!(is_secure(&name("mx"), &answers(alias, address), is_address), want);
        }
        assert!(!is_secure(&name("mx"), &answers(Proof::Secure, Proof::Secure)[..1], is_address));
    }
}
