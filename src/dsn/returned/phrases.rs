//! The words of mailers.
//!
//! Owns all phrases by which prose is known, so that one more language or mailer is one more phrase here.
//! Promises that they are lower-case: texts are compared in lower case.

use crate::mail::EnhancedStatus;

/// Phrases, parted by `|`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Phrases(&'static str);

impl Phrases {
    /// Whether any of them stands in a text of lower case.
    pub(super) fn are_in(self, text: &str) -> bool {
        self.0.split('|').any(|phrase| text.contains(phrase))
    }

    /// Whether a word of lower case is one of them.
    pub(super) fn include(self, word: &str) -> bool {
        self.0.split('|').any(|phrase| phrase == word)
    }
}

/// In the From field of mail systems.
pub(super) const MACHINES: Phrases = Phrases(
    "mailer-daemon|mailer daemon|mailerdaemon|postmaster|mdaemon@|mail delivery|mail.delivery|\
     delivery subsystem|delivery system|system administrator|mail_service",
);

/// In the Subject of bounces.
pub(super) const SUBJECTS: Phrases = Phrases(
    "undeliver|delivery fail|delivery status|delivery problem|delivery error|delivery warning|\
     delivery has failed|failure notice|failed mail|mail failure|returned mail|returned to sender|mail error|\
     mail system error|non-delivery|nondeliverable|not be delivered|not delivered|not been delivered|\
     mail delivery|failure notification|failed delivery|message delayed|delayed mail|processing error|\
     error sending your mail|rejected mail|user unknown|non remis|unzustellbar|non recapitat|не доставлен|\
     no entregado|no se pudo entregar|não entregue|退信|配信不能",
);

/// In the text of bounces.
pub(super) const FAILURE: Phrases = Phrases(
    "not be delivered|not delivered|undeliverable|unable to deliver|wasn't able to deliver|\
     not able to deliver|could not deliver|trouble delivering|error delivering|did not reach|\
     could not be reached|delivery failed|delivery to the following|delivery failure|delivery problem|\
     delivery has failed|permanent error|permanent fatal|fatal error|has been returned|did not receive|\
     not receive this message|failed recipient|failed address|unknown user|user unknown|no such user|\
     was rejected|automatically rejected|error occurred|error has occurred|had delivery errors|\
     addresses failed|address failed|recipients failed|failed:|mailbox is full|did not exactly match|\
     invalid final delivery|transcript of session|could not find|invalid address|no pudo ser entregado|\
     pas pu être|konnte nicht zugestellt|доставлено",
);

/// In the text of warnings that it is still being tried.
pub(super) const DELAY: Phrases = Phrases(
    "has been delayed|not yet been delivered|warning message only|message will be retried|\
     delivery attempts will continue|will continue to try|will continue to attempt|has been postponed|\
     delivery is delayed|still being tried|will keep trying|not been delivered yet",
);

/// What no warning says.
pub(super) const GIVEN_UP: Phrases =
    Phrases("permanent error|failed permanently|could not be delivered to one or more");

/// Headings, behind a rule of dashes and the like, below which the original stands.
pub(super) const RULED_HEADINGS: Phrases = Phrases(
    "original message|original mail|returned message|returned mail|unsent message|message header|\
     message body|message text|source mail|forwarded message|undelivered message|start of returned|\
     mensaje original|message original|mensagem original|originalnachricht|ursprüngliche nachricht|\
     копия письма|原信|原邮件|元のメッセージ",
);

/// Words before the address of a recipient.
pub(super) const BEFORE_RECIPIENTS: Phrases = Phrases(
    "to|recipient|recipients|address|user|mailbox|for|userid|addressed|smtp|rcpt|account|full|attempts|\
     undeliverable|size|a|à|an|für|para|aan|til|destinatario|destinataire|destinatário|empfänger|адресу",
);

/// Words before the address of a sender, or of somebody to ask.
pub(super) const BEFORE_OTHERS: Phrases = Phrases(
    "from|sender|contact|by|reply|please|help|assistance|send|questions|envelope|von|de|kontakt|mailto|http",
);

/// What is meant beyond doubt, in the order in which it is believed (RFC 3463 3).
pub(super) const MEANINGS: [(EnhancedStatus, Phrases); 6] = [
    (
        EnhancedStatus::new(5, 2, 2),
        Phrases(
            "quota|mailbox is full|mailbox full|mail box space not enough|mailfolder is full|full mailbox|\
             mailbox exceeds|too much mail stored|exceeded storage|over disk",
        ),
    ),
    (
        EnhancedStatus::new(5, 1, 2),
        Phrases(
            "host unknown|unknown host|host not found|domain does not exist|no such domain|\
             unrouteable address|unrouteable mail domain|name service error|couldn't find any host|\
             dns lookup failure|could not find a gateway|domain not found",
        ),
    ),
    (
        EnhancedStatus::new(5, 2, 1),
        Phrases("account has been disabled|mailbox disabled|account disabled|account is disabled"),
    ),
    (
        EnhancedStatus::new(5, 1, 1),
        Phrases(
            "user unknown|unknown user|no such user|user not found|unknown recipient|recipient not found|\
             no mailbox here by that name|recipient name is not recognized|not listed in domino directory|\
             this user doesn't have a|user not known|invalid mailbox|unknown address|no such recipient|\
             recipient unknown|unknown local part|invalid final delivery userid|unknown or illegal user|\
             no longer valid|no such mailbox|address does not exist|usuario desconocido|\
             utilisateur inconnu|benutzer unbekannt|empfänger unbekannt",
        ),
    ),
    (
        EnhancedStatus::new(5, 3, 4),
        Phrases("message too big|message too large|message size exceeds|exceeds size limit"),
    ),
    (
        EnhancedStatus::new(4, 4, 7),
        Phrases(
            "retry timeout exceeded|timed out|maximum delivery attempts|queue too long|not responding|\
             giving up|failing for a long time",
        ),
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phrases_are_lower_case_and_none_is_empty() {
        let tables =
            [MACHINES, SUBJECTS, FAILURE, DELAY, GIVEN_UP, RULED_HEADINGS, BEFORE_RECIPIENTS, BEFORE_OTHERS];
        for phrases in tables.into_iter().chain(MEANINGS.map(|(_, phrases)| phrases)) {
            for phrase in phrases.0.split('|') {
                assert!(!phrase.is_empty() && phrase == phrase.to_lowercase(), "{phrase:?}");
            }
        }
        assert!(GIVEN_UP.are_in("a permanent error") && !BEFORE_OTHERS.include("d"));
    }
}
