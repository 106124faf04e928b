//! Whether a message that is no proper report is a bounce all the same.
//!
//! Owns the judgment. Promises that one sign alone makes no bounce: a subject may speak of undelivered
//! mail in any message, and a postmaster writes letters too. Never asks who is named.

use super::phrases::{DELAY, FAILURE, GIVEN_UP, MACHINES, SUBJECTS};

/// What is known before the text is read for recipients.
#[derive(Clone, Copy, Debug)]
pub(super) struct Signs<'a> {
    /// The From field.
    pub(super) from: &'a str,
    /// The Return-Path field, where the delivering server wrote one.
    pub(super) return_path: Option<&'a str>,
    /// The Subject field, decoded.
    pub(super) subject: &'a str,
    /// What is said before the original.
    pub(super) text: &'a str,
}

impl Signs<'_> {
    /// Whether the text may be read as a bounce: the machine that wrote it or its subject says so, and
    /// the text too.
    pub(super) fn speak_of_a_bounce(&self) -> bool {
        let text = self.text.to_lowercase();
        let (machine, subject) = (self.is_by_machine(), self.subject_says());
        let words = FAILURE.are_in(&text) || DELAY.are_in(&text);
        (machine && subject) || ((machine || subject) && words)
    }

    /// A mail system's own name, or no sender at all (RFC 5321 4.5.5).
    fn is_by_machine(&self) -> bool {
        let from = self.from.to_lowercase();
        let path = self.return_path.map(|path| path.trim().to_lowercase());
        path.is_some_and(|path| path == "<>" || path.contains("mailer-daemon"))
            || from.trim_end().ends_with("<>")
            || MACHINES.are_in(&from)
    }

    fn subject_says(&self) -> bool {
        SUBJECTS.are_in(&self.subject.to_lowercase())
    }

    /// Whether it is still being tried.
    pub(super) fn speak_of_delay(&self) -> bool {
        let (text, subject) = (self.text.to_lowercase(), self.subject.to_lowercase());
        if GIVEN_UP.are_in(&text) {
            return false;
        }
        DELAY.are_in(&text)
            || subject.contains("(delay)")
            || subject.contains("warning: message") && subject.contains("delayed")
    }
}
