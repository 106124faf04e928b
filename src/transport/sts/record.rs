//! The record that says a policy is there, and which version (RFC 8461 3.1).

use super::NoPolicy;

const ID_MAX_OCTETS: usize = 32;

/// The version of the policy, from all TXT records of the name.
///
/// ```text
/// sts-text-record = "v=STSv1" 1*(*WSP ";" *WSP sts-field) [*WSP ";" *WSP]
/// sts-field       = "id=" 1*32(ALPHA / DIGIT) / extension-name "=" extension-value
/// ```
pub(super) fn version<'a>(texts: impl Iterator<Item = &'a [u8]>) -> Result<Box<str>, NoPolicy> {
    // others may stand at the same name (RFC 8461 3.1)
    let mut ours = texts.filter_map(|text| text.strip_prefix(b"v=STSv1")).filter(|rest| {
        let rest = rest.trim_ascii_start();
        rest.is_empty() || rest.starts_with(b";")
    });
    let (Some(fields), None) = (ours.next(), ours.next()) else {
        return Err(NoPolicy::NotPublished);
    };
    let malformed = |why| NoPolicy::Record(why);
    let fields = std::str::from_utf8(fields).map_err(|_| malformed("it is no text"))?;
    let mut id = None;
    for field in fields.split(';').map(str::trim).filter(|field| !field.is_empty()) {
        let (name, value) = field.split_once('=').ok_or(malformed("a field has no value"))?;
        if name == "id" && id.is_none() {
            id = Some(value);
        }
    }
    let id = id.ok_or(malformed("it has no id"))?;
    let is_fit =
        (1..=ID_MAX_OCTETS).contains(&id.len()) && id.bytes().all(|octet| octet.is_ascii_alphanumeric());
    if is_fit { Ok(id.into()) } else { Err(malformed("its id is not 1 to 32 letters and digits")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_record_names_the_version() {
        let read = |texts: &[&str]| version(texts.iter().map(|text| text.as_bytes()));
        for texts in [
            &["v=STSv1; id=20160831085700Z;"][..],
            &["v=STSv1;id=20160831085700Z"],
            &["v=STSv1 ;\tid=20160831085700Z ; later=x y"],
            &["something else", "v=STSv1; id=20160831085700Z", "v=STSv10; id=1"],
            &["v=STSv1; id=20160831085700Z; id=2"],
        ] {
            assert_eq!(read(texts).as_deref(), Ok("20160831085700Z"), "{texts:?}");
        }
        for texts in [
            &[][..],
            &["v=spf1 -all"],
            &["v=STSv1; id=1", "v=STSv1; id=1"],
            &["v=stsv1; id=1"],
            &[" v=STSv1; id=1"],
        ] {
            assert_eq!(read(texts), Err(NoPolicy::NotPublished), "{texts:?}");
        }
        for text in ["v=STSv1", "v=STSv1;", "v=STSv1; id=", "v=STSv1; id=a-b", "v=STSv1; id", "v=STSv1; ID=1"]
        {
            assert!(matches!(read(&[text]), Err(NoPolicy::Record(_))), "{text}");
        }
        let (most, more) =
            (format!("v=STSv1; id={}", "a".repeat(32)), format!("v=STSv1; id={}", "a".repeat(33)));
        assert!(read(&[&most]).is_ok() && read(&[&more]).is_err());
        assert!(version([b"v=STSv1; id=\xff".as_slice()].into_iter()).is_err());
    }
}
