//! What was said about a recipient, and where in a session: an answer to the content means something else
//! than one to the greeting.

use super::reply::{EnhancedStatus, Reply, Severity};

/// Where in a session a reply came, or that it is ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// No server said it: there was none, or what it offers was not enough.
    Ours,
    /// Before MAIL, or the end of the session at whatever point.
    Session,
    /// MAIL.
    Mail,
    /// RCPT.
    Rcpt,
    /// DATA, and the content.
    Content,
}

/// The subject of statuses on the protocol (RFC 3463 3.6).
const PROTOCOL: u16 = 5;

/// What a reply is about, and so what it may decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// This message, for whomever.
    Message,
    /// This recipient.
    Recipient,
    /// The server that said it: another may say otherwise, and so may this one later.
    Host,
    /// Where it came from: our address, our name in the DNS, the state of our connection.
    Source,
}

/// A reply with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What was said.
    pub reply: Reply,
    /// Where.
    pub stage: Stage,
}

impl Verdict {
    /// One of our own.
    pub fn ours(reply: Reply) -> Self {
        Verdict { reply, stage: Stage::Ours }
    }

    /// What the first digit says.
    pub fn severity(&self) -> Severity {
        self.reply.severity()
    }

    /// What it is about: the one place where that is judged. The three digits come first, for enhanced codes
    /// are used as their writers please (RFC 5321 4.2.1, RFC 3463 3, RFC 7372).
    pub fn scope(&self) -> Scope {
        let subject = self.reply.enhanced.map(|status| status.subject);
        match (self.stage, self.reply.code) {
            (Stage::Ours, _) => Scope::Message,
            (Stage::Session, _) | (_, 421) => Scope::Host,
            // no such command, bad parameters, bad sequence, and parameters that it offered itself: the session
            // went wrong, not the message; unless a status on something else than the protocol says otherwise
            (_, 500..=504 | 555) if matches!(subject, None | Some(PROTOCOL)) => Scope::Host,
            // it wants to know us first (RFC 4954 6, RFC 3207 4, RFC 5248)
            (_, 530 | 534 | 535 | 538) => Scope::Source,
            (stage, _) => self.reply.enhanced.map_or(Self::scope_at(stage), |status| match status {
                // no name for our address (RFC 7372 3.3)
                EnhancedStatus { subject: 7, detail: 25, .. } => Scope::Source,
                _ => Self::scope_at(stage),
            }),
        }
    }

    fn scope_at(stage: Stage) -> Scope {
        if stage == Stage::Rcpt { Scope::Recipient } else { Scope::Message }
    }

    /// Whether it is the end for the recipient: only what is said of them or of the message can be.
    pub fn is_final(&self) -> bool {
        let is_theirs = matches!(self.scope(), Scope::Message | Scope::Recipient);
        self.severity() == Severity::Permanent && is_theirs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_said_of_the_message_or_the_recipient_is_an_end() {
        use Scope::{Host, Message, Recipient, Source};
        for (stage, code, enhanced, scope, is_final) in [
            (Stage::Rcpt, 550, Some((5, 1, 1)), Recipient, true),
            (Stage::Rcpt, 550, None, Recipient, true),
            (Stage::Rcpt, 450, Some((4, 2, 0)), Recipient, false),
            (Stage::Mail, 553, Some((5, 1, 8)), Message, true),
            (Stage::Content, 554, Some((5, 7, 1)), Message, true),
            (Stage::Content, 552, Some((5, 3, 4)), Message, true),
            (Stage::Rcpt, 503, Some((5, 5, 1)), Host, false),
            (Stage::Mail, 555, Some((5, 5, 4)), Host, false),
            (Stage::Rcpt, 500, Some((5, 3, 0)), Recipient, true),
            (Stage::Rcpt, 500, None, Host, false),
            (Stage::Mail, 530, Some((5, 7, 0)), Source, false),
            (Stage::Rcpt, 550, Some((5, 7, 25)), Source, false),
            (Stage::Session, 554, None, Host, false),
            (Stage::Session, 421, None, Host, false),
            (Stage::Ours, 554, Some((5, 6, 3)), Message, true),
            (Stage::Rcpt, 250, None, Recipient, false),
        ] {
            let enhanced =
                enhanced.map(|(class, subject, detail)| EnhancedStatus::new(class, subject, detail));
            let verdict = Verdict { reply: Reply { code, enhanced, text: "".into() }, stage };
            assert_eq!((verdict.scope(), verdict.is_final()), (scope, is_final), "{verdict:?}");
        }
    }
}
