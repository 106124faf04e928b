//! Dot-stuffing undone, and the end of a message found.
//!
//! Owns the two searches and the buffer for messages that differ from their
//! form on the wire. Most do not, and are not copied.

use memchr::memmem::Finder;

const END: &[u8] = b"\r\n.\r\n";
const STUFFED: &[u8] = b"\r\n..";

pub(crate) struct Dots {
    end: Finder<'static>,
    stuffed: Finder<'static>,
    plain: Vec<u8>,
}

impl Dots {
    pub(crate) fn new() -> Self {
        Self { end: Finder::new(END), stuffed: Finder::new(STUFFED), plain: Vec::new() }
    }

    /// Where in `wire` the message ends and where what follows it begins. Of
    /// `wire` the first `searched` octets are known not to hold an end.
    pub(crate) fn end(&self, wire: &[u8], searched: usize) -> Option<(usize, usize)> {
        if wire.starts_with(b".\r\n") {
            return Some((0, 3));
        }
        let from = searched.saturating_sub(END.len() - 1);
        let place = from + self.end.find(&wire[from..])?;
        Some((place + 2, place + END.len()))
    }

    /// The message that `wire` stands for.
    pub(crate) fn plain<'a>(&'a mut self, wire: &'a [u8]) -> &'a [u8] {
        let wire = if wire.starts_with(b".") { &wire[1..] } else { wire };
        let mut done = 0;
        self.plain.clear();
        for place in self.stuffed.find_iter(wire) {
            self.plain.extend_from_slice(&wire[done..place + 2]);
            done = place + 3;
        }
        if done == 0 {
            return wire;
        }
        self.plain.extend_from_slice(&wire[done..]);
        &self.plain
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_found_wherever_the_search_resumes() {
        let dots = Dots::new();
        let wire = b"a\r\n..\r\nb\r\n.\r\nQUIT\r\n";
        for searched in 0..13 {
            assert_eq!(dots.end(wire, searched), Some((10, 13)), "{searched}");
        }
        assert_eq!(dots.end(b".\r\n", 0), Some((0, 3)));
        assert_eq!(dots.end(b"a\r\n.\r", 0), None);
        assert_eq!(dots.end(b"a\n.\n", 0), None);
    }

    #[test]
    fn stuffing_is_undone() {
        for (wire, expected) in [
            ("", ""),
            ("..\r\n", ".\r\n"),
            ("a\r\n..\r\n...\r\nb.\r\n", "a\r\n.\r\n..\r\nb.\r\n"),
            ("a..\r\n", "a..\r\n"),
            ("\r\n..\r\n..\r\n", "\r\n.\r\n.\r\n"),
        ] {
            let mut dots = Dots::new();
            assert_eq!(String::from_utf8_lossy(dots.plain(wire.as_bytes())), expected);
        }
    }
}
