//! What is to be shown now.

use std::path::PathBuf;

use super::shelf::AcmeShelf;
use super::{Origin, Shown};
use crate::app::config::Config;
use crate::mail::Domain;
use crate::net::{CertificateError, Identity};

/// What was found.
pub(in crate::app) struct Gathered {
    /// All that are to be shown, the first to whoever asks for none of their names.
    pub(in crate::app) shown: Vec<Shown>,
    /// Why files that others write do not serve: they may be half replaced.
    pub(in crate::app) unfit: Vec<String>,
    /// Why some of our own are not those that they should be.
    pub(in crate::app) faults: Vec<String>,
}

impl Gathered {
    /// All that is wrong.
    pub(in crate::app) fn all_faults(&self) -> Vec<String> {
        self.unfit.iter().chain(&self.faults).cloned().collect()
    }
}

/// Gathers them. What does not serve any more is shown on as it was before; names without any have stand-ins. Fails where
/// a file that the configuration names never served.
pub(in crate::app) fn gather(config: &Config, former: &[Shown]) -> Result<Gathered, CertificateError> {
    let mut gathered = Gathered { shown: Vec::new(), unfit: Vec::new(), faults: Vec::new() };
    for (chain, key) in &config.tls.certificates {
        let before = former.iter().find(|one| one.origin == Origin::File && one.file == *chain);
        match (Identity::from_files(chain, key), before) {
            (Ok(identity), _) => {
                gathered.shown.push(Shown::new(identity, (Origin::File, chain.clone()), None))
            }
            (Err(error), Some(before)) => {
                gathered.unfit.push(error.to_string());
                gathered.shown.push(before.clone());
            }
            (Err(error), None) => return Err(error),
        }
    }
    let shelf = AcmeShelf::of(&config.data_dir);
    for name in &config.acme.domains {
        let before = |is_stand_in: bool| {
            let is_it = |one: &&Shown| {
                one.ordered.as_ref() == Some(name) && (one.origin == Origin::SelfSigned) == is_stand_in
            };
            former.iter().find(is_it).cloned()
        };
        let missing = || format!("{} is missing", shelf.file(name).display());
        let (one, fault) = match (shelf.find(name), before(false)) {
            (Ok(Some((identity, directory))), _) => {
                let from = (Origin::Acme { directory }, shelf.file(name));
                (Shown::new(identity, from, Some(name.clone())), None)
            }
            (found, Some(before)) => {
                (before, Some(found.map_or_else(|error| error.to_string(), |_| missing())))
            }
            (found, None) => {
                let (one, unkept) = stand_in(config, name, Some(name.clone()), before(true))?;
                (one, found.err().map(|error| error.to_string()).or(unkept))
            }
        };
        gathered.shown.push(one);
        gathered.faults.extend(fault);
    }
    if gathered.shown.is_empty() {
        let before =
            former.iter().find(|one| one.origin == Origin::SelfSigned && one.ordered.is_none()).cloned();
        let (one, unkept) = stand_in(config, &config.hostname, None, before)?;
        gathered.shown.push(one);
        gathered.faults.extend(unkept);
    }
    Ok(gathered)
}

/// One that nobody vouches for. Where it cannot be kept it is made anew with each start: mail must not wait for that.
fn stand_in(
    config: &Config,
    name: &Domain,
    ordered: Option<Domain>,
    before: Option<Shown>,
) -> Result<(Shown, Option<String>), CertificateError> {
    match (Identity::self_signed(name.as_str(), &config.data_dir.join("tls")), before) {
        (Ok((identity, file)), _) => Ok((Shown::new(identity, (Origin::SelfSigned, file), ordered), None)),
        (Err(error), Some(before)) => Ok((before, Some(error.to_string()))),
        (Err(error), None) => {
            let identity = Identity::unkept(name.as_str())?;
            let made = Shown::new(identity, (Origin::SelfSigned, PathBuf::new()), ordered);
            Ok((made, Some(error.to_string())))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::{Former, keep};
    use crate::net::Issued;
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;

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
    const ACME: &str = "[acme]\ndomains = [\"mx.example.org\", \"mail.example.org\"]\n";

    fn config(data_dir: &Path, more: &str) -> Config {
        let text = format!("data_dir = \"{}\"\n{FILE}{more}", data_dir.display());
        Config::parse("test", &text).expect("no faults")
    }

    fn told(gathered: &Gathered) -> Vec<String> {
        let told = |one: &Shown| format!("{} {}", one.origin.as_str(), one.described);
        gathered.shown.iter().map(told).collect()
    }

    fn issued(name: &str) -> Issued {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).expect("makes");
        Issued { chain: made.cert.pem(), key: made.signing_key.serialize_pem() }
    }

    #[test]
    fn every_name_has_a_certificate_and_a_good_one_gives_way_to_a_good_one_alone() {
        let dir = tempfile::tempdir().expect("a directory");
        let plain = gather(&config(dir.path(), ""), &[]).expect("are there");
        assert_eq!(told(&plain), ["self-signed relay.example.org"]);
        let acme = config(dir.path(), ACME);
        let first = gather(&acme, &[]).expect("are there");
        assert_eq!(told(&first), ["self-signed mx.example.org", "self-signed mail.example.org"]);
        let (shelf, name) = (AcmeShelf::of(dir.path()), Domain::parse("mail.example.org").expect("a name"));
        shelf.ensure().expect("is made");
        shelf.put(&name, &issued(name.as_str()), "https://ca.example/").expect("is kept");
        // a copy that lost its mode serves all the same
        fs::set_permissions(shelf.file(&name), fs::Permissions::from_mode(0o644)).expect("is ours");
        let second = gather(&acme, &first.shown).expect("are there");
        assert_eq!(told(&second), ["self-signed mx.example.org", "acme mail.example.org"]);
        let by = Origin::Acme { directory: "https://ca.example/".into() };
        assert_eq!((&second.shown[1].origin, second.faults.len()), (&by, 0));
        fs::write(shelf.file(&name), "no PEM").expect("writes");
        let third = gather(&acme, &second.shown).expect("are there");
        assert_eq!(told(&third), told(&second));
        assert_eq!(third.shown[1].described, second.shown[1].described);
        assert_eq!(third.faults.len(), 1, "{:?}", third.faults);
        std::fs::remove_file(shelf.file(&name)).expect("is there");
        let gone = gather(&acme, &third.shown).expect("are there");
        assert_eq!((told(&gone), gone.faults.len()), (told(&second), 1));
        fs::write(shelf.file(&name), "no PEM").expect("writes");
        // after a start nothing is known of it: a stand-in is shown, and the rest
        let fourth = gather(&acme, &[]).expect("are there");
        assert_eq!((told(&fourth), fourth.faults.len()), (told(&first), 1));
    }

    #[test]
    fn files_of_others_may_be_half_replaced_and_stand_ins_need_no_disk() {
        let dir = tempfile::tempdir().expect("a directory");
        let files = ["chain.pem", "key.pem"].map(|file| dir.path().join(file));
        let write = |file: &Path, text: &str| keep(file, text.as_bytes(), Former::Replaced).expect("writes");
        let (old, new) = (issued("mx.example.org"), issued("mx.example.org"));
        write(&files[0], &old.chain);
        write(&files[1], &old.key);
        let [chain, key] = files.each_ref().map(|file| file.display());
        let both = format!("[[tls.certificates]]\nchain = \"{chain}\"\nkey = \"{key}\"\n");
        let config = config(dir.path(), &both);
        let before = gather(&config, &[]).expect("are there");
        write(&files[0], &new.chain);
        let half = gather(&config, &before.shown).expect("are there");
        assert_eq!(half.shown[0].described, before.shown[0].described);
        assert_eq!((half.unfit.len(), half.faults.len()), (1, 0));
        assert!(gather(&config, &[]).is_err(), "nothing else would be shown for it");
        write(&files[1], &new.key);
        let after = gather(&config, &half.shown).expect("are there");
        assert_ne!(after.shown[0].described, before.shown[0].described);
        // where a file is in the way of the directory
        let blocked = tempfile::tempdir().expect("a directory");
        fs::write(blocked.path().join("tls"), "").expect("writes");
        let unkept = gather(&self::config(blocked.path(), ""), &[]).expect("are there");
        assert_eq!((told(&unkept), unkept.faults.len()), (vec!["self-signed relay.example.org".into()], 1));
        let again = gather(&self::config(blocked.path(), ""), &unkept.shown).expect("are there");
        assert_eq!(
            again.shown[0].described, unkept.shown[0].described,
            "it is the same as long as nothing starts anew"
        );
    }
}
