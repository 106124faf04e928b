//! What a remote server offers, as its reply to EHLO says.

use super::replies::WholeReply;

/// What the remote server offers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// RFC 2920.
    pub pipelining: bool,
    /// RFC 6152.
    pub eight_bit_mime: bool,
    /// RFC 1870; zero where it names no limit.
    pub size: Option<u64>,
    /// RFC 3030.
    pub chunking: bool,
    /// RFC 6531.
    pub utf8: bool,
    /// RFC 3461.
    pub dsn: bool,
    /// RFC 6710.
    pub priority: bool,
    /// RFC 3207.
    pub start_tls: bool,
    /// RFC 8689.
    pub require_tls: bool,
    /// Transactions in a session, and recipients in a transaction (RFC 9422).
    pub mail_max: Option<u32>,
    /// See above.
    pub rcpt_max: Option<u32>,
}

impl Capabilities {
    /// Reads the reply to EHLO.
    pub(super) fn read(whole: &WholeReply) -> Self {
        let mut capabilities = Capabilities::default();
        // the first line is the server's name
        for line in whole.lines.iter().skip(1) {
            let (keyword, rest) = line.split_once([' ', '=']).unwrap_or((line, ""));
            match keyword.to_ascii_uppercase().as_str() {
                "PIPELINING" => capabilities.pipelining = true,
                "8BITMIME" => capabilities.eight_bit_mime = true,
                "CHUNKING" => capabilities.chunking = true,
                "SMTPUTF8" => capabilities.utf8 = true,
                "DSN" => capabilities.dsn = true,
                "MT-PRIORITY" => capabilities.priority = true,
                "STARTTLS" => capabilities.start_tls = true,
                "REQUIRETLS" => capabilities.require_tls = true,
                "LIMITS" => read_limits(&mut capabilities, rest),
                "SIZE" => capabilities.size = Some(rest.trim().parse().unwrap_or(0)),
                _ => {}
            }
        }
        capabilities
    }
}

/// RFC 9422 4: `MAILMAX=20 RCPTMAX=100`; others are for whoever knows them.
fn read_limits(capabilities: &mut Capabilities, limits: &str) {
    for limit in limits.split_ascii_whitespace() {
        let Some((name, value)) = limit.split_once('=') else { continue };
        // a limit of nothing would be no server for mail
        let value = value.parse().ok().filter(|value| *value > 0);
        match name.to_ascii_uppercase().as_str() {
            "MAILMAX" => capabilities.mail_max = value,
            "RCPTMAX" => capabilities.rcpt_max = value,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::Reply;

    #[test]
    fn offers_and_limits_are_read_and_others_left() {
        let lines = [
            "them",
            "pipelining",
            "SIZE 1000",
            "starttls",
            "DSN",
            "MT-PRIORITY MIXER",
            "SMTPUTF8",
            "LIMITS RCPTMAX=7 mailmax=3 RCPTDOMAINMAX=1 X= MAILMAX=0",
        ];
        let lines = lines.map(Box::from).to_vec();
        let reply = Reply { code: 250, enhanced: None, text: "them".into() };
        let read = Capabilities::read(&WholeReply { reply, lines });
        let want = Capabilities {
            pipelining: true,
            size: Some(1000),
            rcpt_max: Some(7),
            mail_max: None,
            start_tls: true,
            dsn: true,
            priority: true,
            utf8: true,
            ..Capabilities::default()
        };
        assert_eq!(read, want, "the last word counts");
    }
}
