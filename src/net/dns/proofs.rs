//! What the proofs on the records of an answer amount to.
//!
//! There are three of them: secure, proven to be insecure, and anything else, which is bogus. What is only *not
//! secure* must never be taken for insecure: whoever can spoil an answer could end DANE with it.

use hickory_resolver::proto::dnssec::Proof;
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};

use super::resolver::DnsError;

/// How far an answer can be believed (RFC 4035 4.3, RFC 7672 2.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Standing {
    /// Its zone signs nothing, and that is proven; or it was not asked for.
    Insecure,
    /// It is what its zone signed.
    Secure,
}

impl Standing {
    fn of(record: &Record) -> Result<Self, DnsError> {
        match record.proof {
            Proof::Secure => Ok(Standing::Secure),
            Proof::Insecure => Ok(Standing::Insecure),
            Proof::Bogus | Proof::Indeterminate => Err(DnsError::Bogus),
        }
    }
}

/// Says of records that nothing of them is proven, and need not be.
pub(super) fn waive<'a>(records: impl IntoIterator<Item = &'a mut Record>) {
    records.into_iter().for_each(|record| record.proof = Proof::Insecure);
}

/// The records of a name, at the end of its aliases.
#[derive(Debug)]
pub(super) struct Found {
    /// The name that was asked for.
    pub(super) name: Name,
    /// The one at the end of its aliases.
    pub(super) end: Name,
    /// How far the first alias can be believed; nothing where there is none.
    first_alias: Option<Standing>,
    /// How far everything can be believed.
    standing: Standing,
    /// The records of the end.
    pub(super) records: Vec<Record>,
}

impl Found {
    /// Nothing yet.
    pub(super) fn nothing(name: Name) -> Self {
        let (end, standing) = (name.clone(), Standing::Secure);
        Found { name, end, first_alias: None, standing, records: Vec::new() }
    }

    /// Takes what an answer has: the aliases from where we are (RFC 1034 3.6.2), and the records of their end.
    /// Records of other names say nothing, whoever put them there. Whether there were any.
    pub(super) fn take(&mut self, answers: &[Record], kind: RecordType) -> Result<bool, DnsError> {
        // each alias is followed once
        for _ in answers {
            let is_alias =
                |record: &&Record| record.record_type() == RecordType::CNAME && record.name == self.end;
            let Some(alias) = answers.iter().find(is_alias) else { break };
            let RData::CNAME(target) = &alias.data else { break };
            let standing = Standing::of(alias)?;
            self.first_alias.get_or_insert(standing);
            self.standing = self.standing.min(standing);
            self.end = target.0.clone();
        }
        let is_wanted = |record: &&Record| record.record_type() == kind && record.name == self.end;
        self.records = answers.iter().filter(is_wanted).cloned().collect();
        for record in &self.records {
            self.standing = self.standing.min(Standing::of(record)?);
        }
        Ok(!self.records.is_empty())
    }

    /// Whether the records and all that leads to them are secure.
    pub(super) fn is_secure(&self) -> bool {
        self.standing == Standing::Secure && !self.records.is_empty()
    }

    /// The name and its end, where they differ: those of a domain that certificates of its mail hosts may be for
    /// (RFC 7672 3.2.2).
    pub(super) fn names(&self) -> Vec<&Name> {
        if self.end == self.name { vec![&self.name] } else { vec![&self.name, &self.end] }
    }

    /// The names that TLSA records of a host may stand under, where these are its addresses (RFC 7672 2.2.2): where
    /// its aliases are secure all the way, the last of them and then the first; where only the first is, so that
    /// the host's own zone vouches for it, the host's name; and that too where it has no aliases and its addresses
    /// are secure.
    pub(super) fn tlsa_bases(&self) -> Vec<&Name> {
        match (self.first_alias, self.is_secure()) {
            (None, true) | (Some(Standing::Secure), false) => vec![&self.name],
            (Some(_), true) => vec![&self.end, &self.name],
            (None | Some(Standing::Insecure), false) => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_resolver::proto::rr::rdata::{A, CNAME};

    fn name(text: &str) -> Name {
        Name::from_ascii(format!("{text}.")).expect("a name")
    }

    fn record(from: &str, data: RData, proof: Proof) -> Record {
        let mut record = Record::from_rdata(name(from), 60, data);
        record.proof = proof;
        record
    }

    const SECURE: Proof = Proof::Secure;
    const INSECURE: Proof = Proof::Insecure;

    fn alias(from: &str, to: &str, proof: Proof) -> Record {
        record(from, RData::CNAME(CNAME(name(to))), proof)
    }

    fn address(from: &str, proof: Proof) -> Record {
        record(from, RData::A(A::new(192, 0, 2, 1)), proof)
    }

    fn told(names: Vec<&Name>) -> String {
        names.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn tlsa_records_stand_where_dnssec_vouches_for_them() {
        for (answers, want) in [
            (vec![address("mx", SECURE)], Ok("mx.")),
            (vec![address("mx", INSECURE)], Ok("")),
            (vec![address("mx", SECURE), address("mx", INSECURE)], Ok("")),
            (vec![address("mx", Proof::Indeterminate)], Err(DnsError::Bogus)),
            (vec![address("mx", Proof::Bogus)], Err(DnsError::Bogus)),
            (vec![alias("mx", "end", SECURE), address("end", SECURE)], Ok("end. mx.")),
            (
                vec![alias("mx", "a", SECURE), alias("a", "end", SECURE), address("end", SECURE)],
                Ok("end. mx."),
            ),
            (
                vec![address("end", SECURE), alias("a", "end", SECURE), alias("mx", "a", SECURE)],
                Ok("end. mx."),
            ),
            (vec![alias("mx", "a", SECURE), alias("a", "end", INSECURE), address("end", SECURE)], Ok("mx.")),
            (vec![alias("mx", "end", SECURE), address("end", INSECURE)], Ok("mx.")),
            (vec![alias("mx", "end", INSECURE), address("end", SECURE)], Ok("")),
            (vec![alias("mx", "end", Proof::Bogus), address("end", SECURE)], Err(DnsError::Bogus)),
        ] {
            let mut found = Found::nothing(name("mx"));
            let taken = found.take(&answers, RecordType::A);
            let bases = taken.map(|is_there| {
                assert!(is_there);
                told(found.tlsa_bases())
            });
            assert_eq!(bases, want.map(str::to_owned), "{answers:?}");
        }
    }

    #[test]
    fn records_of_other_names_neither_help_nor_spoil() {
        let mut found = Found::nothing(name("mx"));
        let foreign = [address("other", INSECURE), address("mx", SECURE), address("bogus", Proof::Bogus)];
        assert_eq!(found.take(&foreign, RecordType::A), Ok(true));
        assert_eq!((found.records.len(), told(found.tlsa_bases())), (1, "mx.".to_owned()));
        // an end without what leads to it
        let mut found = Found::nothing(name("mx"));
        assert_eq!(found.take(&[address("end", SECURE)], RecordType::A), Ok(false));
        // which is asked for by itself then
        assert_eq!(found.take(&[alias("mx", "end", SECURE)], RecordType::A), Ok(false));
        assert_eq!(found.take(&[address("end", SECURE)], RecordType::A), Ok(true));
        assert_eq!((told(found.names()), told(found.tlsa_bases())), ("mx. end.".into(), "end. mx.".into()));
    }

    #[test]
    fn aliases_that_go_round_end() {
        let mut found = Found::nothing(name("mx"));
        let round = [alias("mx", "a", SECURE), alias("a", "mx", SECURE)];
        assert_eq!(found.take(&round, RecordType::A), Ok(false));
    }
}
