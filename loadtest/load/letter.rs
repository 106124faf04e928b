//! One message in the form it takes on the wire.
//!
//! Owns the id, the envelope commands and the dot-stuffed octets of the
//! message a session is about to send, in buffers that are used again for the
//! next. Never touches a socket.

use std::{fmt::Write as _, io::Write as _};

use memchr::memmem::Finder;

use crate::message::{Template, Unfit};

/// What ends a message on the wire, after the CRLF of its last line.
const END: &[u8] = b".\r\n";

/// The buffers of one session.
pub(crate) struct Letter {
    id: String,
    commands: Vec<u8>,
    plain: Vec<u8>,
    wire: Vec<u8>,
    dotted_line: Finder<'static>,
}

impl Letter {
    pub(crate) fn new() -> Self {
        Self {
            id: String::new(),
            commands: Vec::new(),
            plain: Vec::new(),
            wire: Vec::new(),
            dotted_line: Finder::new(b"\r\n."),
        }
    }

    /// Makes this the letter `<run>-<number>`.
    pub(crate) fn compose(
        &mut self,
        template: &Template,
        run: &str,
        number: u64,
        size: usize,
    ) -> Result<(), Unfit> {
        self.id.clear();
        self.id.push_str(run);
        // Writing to a String cannot fail.
        let _ = write!(self.id, "-{number}");
        let body = template.message(&self.id, size, &mut self.plain)?;
        body.for_each(|piece| self.plain.extend_from_slice(piece));
        self.wire.clear();
        stuff(&self.plain, &self.dotted_line, &mut self.wire);
        self.wire.extend_from_slice(END);
        Ok(())
    }

    /// Writes MAIL, RCPT and DATA for the letter; the size is declared to
    /// servers that asked for it.
    pub(crate) fn address(&mut self, recipient: u64, domain: u64, declare_size: bool) {
        self.commands.clear();
        let size = if declare_size { format!(" SIZE={}", self.plain.len()) } else { String::new() };
        // Writing to a Vec cannot fail.
        let _ = write!(
            self.commands,
            "MAIL FROM:<load@sender.test>{size}\r\n\
             RCPT TO:<u{recipient}@d{domain}.load.test>\r\n\
             DATA\r\n"
        );
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// The three commands, one after the other.
    pub(crate) fn commands(&self) -> &[u8] {
        &self.commands
    }

    /// The message with everything that ends it.
    pub(crate) fn wire(&self) -> &[u8] {
        &self.wire
    }
}

/// Appends `plain` to `wire` with a dot before each line that begins with one
/// (RFC 5321 4.5.2).
fn stuff(plain: &[u8], dotted_line: &Finder, wire: &mut Vec<u8>) {
    let mut done = 0;
    if plain.starts_with(b".") {
        wire.push(b'.');
    }
    for place in dotted_line.find_iter(plain) {
        let dot = place + 2;
        wire.extend_from_slice(&plain[done..dot]);
        wire.push(b'.');
        done = dot;
    }
    wire.extend_from_slice(&plain[done..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_that_begin_lines_are_doubled() {
        for (plain, expected) in [
            ("", ""),
            (".\r\n", "..\r\n"),
            ("a\r\n.\r\n..\r\nb.\r\n", "a\r\n..\r\n...\r\nb.\r\n"),
            (".a\r\n\r\n.", "..a\r\n\r\n.."),
            ("a.\r\n", "a.\r\n"),
        ] {
            let mut wire = Vec::new();
            stuff(plain.as_bytes(), &Finder::new(b"\r\n."), &mut wire);
            assert_eq!(String::from_utf8_lossy(&wire), expected);
        }
    }

    #[test]
    fn a_letter_ends_only_at_its_end() -> Result<(), Unfit> {
        let template = Template::new();
        let mut letter = Letter::new();
        for number in 0..500 {
            letter.compose(&template, "run", number, 8192)?;
            let end = Finder::new(b"\r\n.\r\n").find(letter.wire());
            assert_eq!(end, Some(letter.wire().len() - 5), "letter {number}");
        }
        Ok(())
    }
}
