//! Which fields of a header a signature covers (RFC 6376 5.4).

use super::canonical::relax_field;
use super::header::fields;

/// Signed once more than they are there, so that whoever adds another breaks the signature (RFC 6376 8.15).
const OVERSIGNED: [&str; 5] = ["From", "Subject", "To", "Cc", "Date"];
/// Signed as often as they are there. Fields that name the way (`Received:`) or that others must be able to add
/// are not among them.
const SIGNED: [&str; 22] = [
    "Message-ID",
    "Reply-To",
    "Sender",
    "In-Reply-To",
    "References",
    "List-Id",
    "List-Help",
    "List-Unsubscribe",
    // RFC 8058 4 wants both under a signature
    "List-Unsubscribe-Post",
    "List-Subscribe",
    "List-Post",
    "List-Owner",
    "List-Archive",
    "MIME-Version",
    "Content-Type",
    "Content-Transfer-Encoding",
    "Content-ID",
    "Content-Description",
    "Content-Disposition",
    "Content-Language",
    // RFC 8460 5.3
    "TLS-Report-Domain",
    "TLS-Report-Submitter",
];

/// Of more fields of one name only the last are covered: what nobody means must not make the signature as large as the
/// header.
const OF_A_NAME_MAX: usize = 16;

/// What is covered: the names as `h=` lists them, and the fields in that order, relaxed (RFC 6376 3.4.2).
pub(super) struct Covered {
    pub(super) names: Vec<String>,
    pub(super) canonical: Vec<u8>,
}

/// Chooses from a header. Of fields of one name the last is taken first (RFC 6376 5.4.2).
pub(super) fn cover(header: &[u8]) -> Covered {
    let all = OVERSIGNED.iter().chain(&SIGNED);
    let mut found: Vec<Vec<(&[u8], &[u8])>> = vec![Vec::new(); OVERSIGNED.len() + SIGNED.len()];
    for (name, value) in fields(header) {
        let is_it = |known: &&str| name.eq_ignore_ascii_case(known.as_bytes());
        if let Some(at) = all.clone().position(is_it) {
            found[at].push((name, value));
        }
    }
    let (mut names, mut canonical) = (Vec::new(), Vec::new());
    for (at, (name, fields)) in all.zip(&found).enumerate() {
        let covered = fields.len().min(OF_A_NAME_MAX);
        // where some are not covered, once more would cover one of those
        let once_more = usize::from(at < OVERSIGNED.len() && covered == fields.len());
        names.extend(std::iter::repeat_n(String::from(*name), covered + once_more));
        fields.iter().rev().take(covered).for_each(|(name, value)| relax_field(name, value, &mut canonical));
    }
    Covered { names, canonical }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_covered_from_the_last_and_those_that_count_once_more() {
        let header =
            b"Received: a\r\nto : one@a.example\r\nTo: two@a.example\r\nFrom:  x \r\n\ty\r\nX-Own: z\r\n\
            Reply-To: r\r\nSubject: s\r\n";
        let Covered { names, canonical } = cover(header);
        assert_eq!(names, ["From", "From", "Subject", "Subject", "To", "To", "To", "Cc", "Date", "Reply-To"]);
        assert_eq!(
            String::from_utf8_lossy(&canonical),
            "from:x y\r\nsubject:s\r\nto:two@a.example\r\nto:one@a.example\r\nreply-to:r\r\n"
        );
        assert_eq!(cover(b"").names, OVERSIGNED);
        let many = cover("To: x\r\n".repeat(1000).as_bytes());
        assert_eq!(many.names.iter().filter(|name| *name == "To").count(), OF_A_NAME_MAX);
        assert_eq!(many.canonical.len(), OF_A_NAME_MAX * "to:x\r\n".len());
    }
}
