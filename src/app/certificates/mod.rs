//! The certificates that are shown to clients: from files, by ACME, or made here.
//!
//! ```text
//! config -> Certificate (files of [[tls.certificates]], of data_dir/acme, stand-ins of data_dir/tls)
//!   -> ServerTls, in the rules of sessions
//! keeper: orders what runs out, looks whether files have changed -> the rules are made anew
//! ```
//!
//! Sessions that are open keep what they began with.

mod keeper;
mod shelf;

use std::path::PathBuf;

use anyhow::Context as _;
use metrics::gauge;

pub(super) use keeper::{AcmeSettings, CertificateKeeper, KeeperParts};
use shelf::AcmeShelf;

use super::config::Config;
use crate::clock::Timestamp;
use crate::mail::Domain;
use crate::net::{Described, Identity};
use crate::observe::names;

/// Where a certificate is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// The configuration names its files.
    File,
    /// An authority signed it for us.
    Acme,
    /// It was made here, and nobody vouches for it.
    SelfSigned,
}

impl Origin {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Origin::File => "file",
            Origin::Acme => "acme",
            Origin::SelfSigned => "self-signed",
        }
    }
}

/// One that is shown.
#[derive(Clone, Debug)]
pub(super) struct Shown {
    pub(super) origin: Origin,
    /// Where its chain is.
    pub(super) file: PathBuf,
    /// The name that it was ordered for, or is to be.
    pub(super) ordered: Option<Domain>,
    pub(super) described: Described,
}

impl Shown {
    /// When it is to be replaced, where that is ours to do: with a third of its life left.
    pub(super) fn renew_at(&self) -> Option<Timestamp> {
        let Described { not_before, not_after, .. } = self.described;
        (self.origin == Origin::Acme).then(|| not_before.after(not_after.since(not_before) / 3 * 2))
    }
}

/// All that are to be shown, the first to whoever asks for none of their names. Makes stand-ins where they are missing.
pub(super) fn all(config: &Config) -> anyhow::Result<(Vec<Identity>, Vec<Shown>)> {
    let (shelf, stand_ins) = (AcmeShelf::of(&config.data_dir), config.data_dir.join("tls"));
    let stand_in = |name: &Domain| -> anyhow::Result<(Origin, PathBuf, Identity)> {
        let (identity, file) = Identity::self_signed(name.as_str(), &stand_ins)
            .context("making a certificate; or name one under [tls]")?;
        Ok((Origin::SelfSigned, file, identity))
    };
    let mut found = Vec::new();
    for (chain, key) in &config.tls.certificates {
        let identity = Identity::from_files(chain, key).context("reading tls.certificates")?;
        found.push((None, (Origin::File, chain.clone(), identity)));
    }
    for name in &config.acme.domains {
        let signed = shelf.identity(name).map(|identity| (Origin::Acme, shelf.file(name), identity));
        found.push((Some(name.clone()), signed.map_or_else(|| stand_in(name), Ok)?));
    }
    if found.is_empty() {
        found.push((None, stand_in(&config.hostname)?));
    }
    let (mut identities, mut shown) = (Vec::new(), Vec::new());
    for (ordered, (origin, file, identity)) in found {
        if let Some(described) = identity.described() {
            shown.push(Shown { origin, file, ordered, described });
        }
        identities.push(identity);
    }
    Ok((identities, shown))
}

/// Tells how long they hold.
pub(super) fn tell(shown: &[Shown]) {
    for one in shown.iter().filter(|one| one.origin != Origin::SelfSigned) {
        let name = one.described.names.first().cloned().unwrap_or_default();
        // seconds since 1970 are exact in a float for longer than certificates hold
        gauge!(names::CERTIFICATE_EXPIRY, "name" => name).set(one.described.not_after.as_secs() as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Issued;

    const FILE: &str = r#"
hostname = "relay.example.org"
[[listener]]
role = "relay"
address = "127.0.0.1:2525"
[[client]]
name = "apps"
networks = ["127.0.0.0/8"]
sender_domains = ["*"]
"#;

    fn shown(data_dir: &std::path::Path, more: &str) -> Vec<String> {
        let text = format!("data_dir = \"{}\"\n{FILE}{more}", data_dir.display());
        let config = Config::parse("test", &text).expect("no faults");
        let (identities, shown) = all(&config).expect("are there");
        assert_eq!(identities.len(), shown.len());
        let told = |one: &Shown| {
            let renewed = if one.renew_at().is_some() { " renewed" } else { "" };
            format!("{} {}{renewed}", one.origin.as_str(), one.described)
        };
        shown.iter().map(told).collect()
    }

    #[test]
    fn every_name_has_a_certificate_from_the_first_start_on() {
        let dir = tempfile::tempdir().expect("a directory");
        assert_eq!(shown(dir.path(), ""), ["self-signed relay.example.org"]);
        let acme = "[acme]\ndomains = [\"mx.example.org\", \"mail.example.org\"]\n";
        assert_eq!(shown(dir.path(), acme), ["self-signed mx.example.org", "self-signed mail.example.org"]);
        let shelf = AcmeShelf::of(dir.path());
        shelf.ensure().expect("is made");
        let name = Domain::parse("mail.example.org").expect("a name");
        let made = rcgen::generate_simple_self_signed([name.as_str().to_owned()]).expect("makes");
        let issued = Issued { chain: made.cert.pem(), key: made.signing_key.serialize_pem() };
        shelf.put(&name, &issued).expect("is kept");
        assert_eq!(shown(dir.path(), acme), ["self-signed mx.example.org", "acme mail.example.org renewed"]);
        // what is damaged is ordered again, and keeps nothing from starting
        std::fs::write(shelf.file(&name), "no PEM").expect("writes");
        assert_eq!(shown(dir.path(), acme)[1], "self-signed mail.example.org");
        let files = ["chain.pem", "key.pem"].map(|file| dir.path().join(file));
        for (file, text) in files.iter().zip([&issued.chain, &issued.key]) {
            crate::files::keep(file, text.as_bytes(), crate::files::Former::Replaced).expect("writes");
        }
        let both = format!(
            "{acme}[[tls.certificates]]\nchain = \"{}\"\nkey = \"{}\"\n",
            files[0].display(),
            files[1].display()
        );
        assert_eq!(shown(dir.path(), &both)[0], "file mail.example.org");
    }

    #[test]
    fn two_thirds_of_a_life_are_used() {
        let described = Described {
            names: Vec::new(),
            not_before: Timestamp::from_millis(0),
            not_after: Timestamp::from_millis(90 * 86_400_000),
            key_digest: String::new(),
        };
        let of = |origin| Shown { origin, file: PathBuf::new(), ordered: None, described: described.clone() };
        assert_eq!(of(Origin::Acme).renew_at(), Some(Timestamp::from_millis(60 * 86_400_000)));
        assert_eq!(of(Origin::File).renew_at(), None);
    }
}
