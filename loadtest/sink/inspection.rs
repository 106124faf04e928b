//! The inspection of one message, octet by octet.
//!
//! Owns the verdict whether a message is what the load sent. Whatever a relay
//! prepends is passed over; from the mark line on, all must be as it was made.
//!
//! Promises to compare whole stretches with what the template yields, without
//! building the expected message.

use memchr::memmem::Finder;

use crate::message::{MARK, Template};

const MARK_LINE_BYTES: usize = 256;

/// What a message turned out to be.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict<'a> {
    Intact(&'a str),
    /// Altered; the id is that of the mark line, as far as there is one.
    Damaged(Option<&'a str>, String),
    /// Not of the load's making: its headers bear no mark.
    Other,
}

pub(crate) struct Inspector {
    template: Template,
    mark: Finder<'static>,
    head: Vec<u8>,
}

impl Inspector {
    pub(crate) fn new() -> Self {
        Self { template: Template::new(), mark: Finder::new(MARK), head: Vec::new() }
    }

    pub(crate) fn inspect<'a>(&mut self, message: &'a [u8]) -> Verdict<'a> {
        let Some(place) = self.mark.find(message) else { return Verdict::Other };
        let (before, marked) = message.split_at(place);
        // A mark within a body is that of a message returned, not relayed.
        let begins_line = before.is_empty() || before.ends_with(b"\r\n");
        if !begins_line || before.starts_with(b"\r\n") || contains_empty_line(before) {
            return Verdict::Other;
        }
        let Some((id, size)) = read_mark(marked) else {
            return Verdict::Damaged(None, "its mark line is malformed".into());
        };
        match self.difference(marked, id, size) {
            None => Verdict::Intact(id),
            Some(difference) => Verdict::Damaged(Some(id), difference),
        }
    }

    /// How `marked` differs from message `id` of `size` octets.
    fn difference(&mut self, marked: &[u8], id: &str, size: usize) -> Option<String> {
        let body = match self.template.message(id, size, &mut self.head) {
            Ok(body) => body,
            Err(unfit) => return Some(format!("its mark line is impossible: {unfit}")),
        };
        let mut rest = marked;
        for piece in std::iter::once(&self.head[..]).chain(body) {
            let (start, after) = rest.split_at_checked(piece.len()).unwrap_or((rest, &[]));
            if start != piece {
                let place = marked.len() - rest.len();
                return Some(describe(place, piece, start, marked.len(), size));
            }
            rest = after;
        }
        (!rest.is_empty()).then(|| format!("{} octets follow its {size}", rest.len()))
    }
}

fn contains_empty_line(headers: &[u8]) -> bool {
    memchr::memmem::find(headers, b"\r\n\r\n").is_some()
}

/// The id and size of the mark line that `marked` begins with.
fn read_mark(marked: &[u8]) -> Option<(&str, usize)> {
    let line = &marked[..marked.len().min(MARK_LINE_BYTES)];
    let line = &line[..memchr::memmem::find(line, b"\r\n")?];
    let line = std::str::from_utf8(line.strip_prefix(MARK)?).ok()?;
    let (id, size) = line.split_once("; size=")?;
    Some((id, size.parse().ok()?))
}

/// Where and how two stretches differ that are not the same.
fn describe(place: usize, wanted: &[u8], found: &[u8], length: usize, size: usize) -> String {
    let same = wanted.iter().zip(found).take_while(|(wanted, found)| wanted == found).count();
    let octet =
        |stretch: &[u8]| stretch.get(same).map_or("missing".to_owned(), |octet| format!("{octet:#04x}"));
    format!(
        "octet {} is {}, not {} ({length} octets from the mark on, of {size})",
        place + same,
        octet(found),
        octet(wanted)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Unfit;

    fn message(id: &str, size: usize) -> Result<Vec<u8>, Unfit> {
        let template = Template::new();
        let mut whole = Vec::new();
        let body = template.message(id, size, &mut whole)?;
        body.for_each(|piece| whole.extend_from_slice(piece));
        Ok(whole)
    }

    #[test]
    fn intact_with_and_without_a_trace() -> Result<(), Unfit> {
        let mut inspector = Inspector::new();
        for size in [300, 4096, 100_000] {
            let plain = message("run-7", size)?;
            assert_eq!(inspector.inspect(&plain), Verdict::Intact("run-7"));
            let traced = [b"Received: by relay\r\n\tfor you\r\n", &plain[..]].concat();
            assert_eq!(inspector.inspect(&traced), Verdict::Intact("run-7"));
        }
        Ok(())
    }

    #[test]
    fn every_flipped_octet_is_noticed() -> Result<(), Unfit> {
        let mut inspector = Inspector::new();
        let mut altered = message("run-7", 4096)?;
        for place in 0..altered.len() {
            altered[place] ^= 1;
            let verdict = inspector.inspect(&altered);
            if place < MARK.len() {
                assert_eq!(verdict, Verdict::Other, "octet {place}");
            } else {
                assert!(matches!(verdict, Verdict::Damaged(..)), "octet {place}: {verdict:?}");
            }
            altered[place] ^= 1;
        }
        altered[1000] ^= 0x20;
        let Verdict::Damaged(Some("run-7"), why) = inspector.inspect(&altered) else {
            return Err(Unfit::Id);
        };
        assert!(why.starts_with("octet 1000 is "), "{why}");
        Ok(())
    }

    #[test]
    fn octets_lost_added_or_exchanged_are_noticed() -> Result<(), Unfit> {
        let mut inspector = Inspector::new();
        let whole = message("run-7", 4096)?;
        let other = message("run-8", 4096)?;
        let altered = [
            whole[..4095].to_vec(),
            whole[..400].to_vec(),
            [&whole[..], b"\r\n"].concat(),
            [&whole[..2000], &whole[2001..]].concat(),
            [&whole[..2000], &other[2000..]].concat(),
        ];
        for altered in altered {
            let verdict = inspector.inspect(&altered);
            assert!(matches!(verdict, Verdict::Damaged(Some("run-7"), _)), "{verdict:?}");
        }
        Ok(())
    }

    #[test]
    fn marks_elsewhere_are_no_marks() -> Result<(), Unfit> {
        let mut inspector = Inspector::new();
        let whole = message("run-7", 4096)?;
        let returned = [b"Subject: undeliverable\r\n\r\n", &whole[..]].concat();
        let bodyonly = [b"\r\n", &whole[..]].concat();
        let quoted = [b"Subject: ", &whole[..]].concat();
        for message in [&b""[..], b"Subject: hello\r\n\r\nhello\r\n", &returned, &bodyonly, &quoted] {
            assert_eq!(inspector.inspect(message), Verdict::Other);
        }
        Ok(())
    }
}
