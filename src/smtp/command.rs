//! The grammar of commands (RFC 5321 4.1, 4.1.2).

use crate::mail::{Address, BodyKind, Domain, EnhancedStatus, Reply, ReversePath};

/// One command, parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// `EHLO SP ( Domain / address-literal )`; the name as given, it proves nothing.
    Ehlo(Box<str>),
    /// `HELO SP Domain`.
    Helo(Box<str>),
    /// `MAIL FROM:Reverse-path [SP Mail-parameters]`.
    Mail(ReversePath, MailParameters),
    /// `RCPT TO:( "<Postmaster>" / Forward-path ) [SP Rcpt-parameters]`; `None` for the bare
    /// postmaster, who lives here.
    Rcpt(Option<Address>),
    /// `DATA`.
    Data,
    /// `RSET`.
    Rset,
    /// `NOOP [SP String]`.
    Noop,
    /// `HELP [SP String]`.
    Help,
    /// `VRFY SP String`.
    Vrfy,
    /// `QUIT`.
    Quit,
}

/// What may follow a reverse-path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MailParameters {
    /// `SIZE=` (RFC 1870), in octets.
    pub size: Option<u64>,
    /// `BODY=` (RFC 6152).
    pub body: BodyKind,
    /// `MT-PRIORITY=` (RFC 6710), from -9 to 9.
    pub priority: Option<i8>,
}

/// Why a line is no command that we obey.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// No such verb.
    #[error("unrecognized command")]
    Unknown,
    /// A verb we know with something behind it that we do not understand.
    #[error("syntax error: {0}")]
    Syntax(Box<str>),
    /// A parameter that we do not offer (RFC 5321 4.1.1.11).
    #[error("parameter {0} is not supported")]
    Parameter(Box<str>),
}

impl CommandError {
    fn syntax(why: impl Into<Box<str>>) -> Self {
        CommandError::Syntax(why.into())
    }

    /// The reply that tells it.
    pub fn reply(&self) -> Reply {
        let (code, enhanced) = match self {
            CommandError::Unknown => (500, EnhancedStatus::new(5, 5, 2)),
            CommandError::Syntax(_) => (501, EnhancedStatus::new(5, 5, 4)),
            CommandError::Parameter(_) => (555, EnhancedStatus::new(5, 5, 4)),
        };
        Reply::new(code, enhanced, self.to_string())
    }
}

impl Command {
    /// Parses a line without its CRLF.
    pub fn parse(line: &[u8]) -> Result<Self, CommandError> {
        let text = std::str::from_utf8(line).map_err(|_| CommandError::Unknown)?;
        if text.bytes().any(|octet| octet.is_ascii_control() && octet != b'\t') {
            return Err(CommandError::syntax("control characters"));
        }
        let text = text.trim_end_matches([' ', '\t']);
        let (verb, rest) = text.split_once(' ').unwrap_or((text, ""));
        let alone = |command| {
            if rest.is_empty() { Ok(command) } else { Err(CommandError::syntax("no parameters allowed")) }
        };
        match verb.to_ascii_uppercase().as_str() {
            "EHLO" => Ok(Command::Ehlo(parse_greeting(rest)?)),
            "HELO" => Ok(Command::Helo(parse_greeting(rest)?)),
            "MAIL" => parse_mail(rest),
            "RCPT" => parse_rcpt(rest),
            "DATA" => alone(Command::Data),
            "RSET" => alone(Command::Rset),
            "QUIT" => alone(Command::Quit),
            "NOOP" => Ok(Command::Noop),
            "HELP" => Ok(Command::Help),
            "VRFY" => Ok(Command::Vrfy),
            _ => Err(CommandError::Unknown),
        }
    }
}

/// ABNF: `( Domain / address-literal )`. Real clients send names that are neither; they are taken as
/// text, since nothing is decided by them, but must be one printable word.
fn parse_greeting(rest: &str) -> Result<Box<str>, CommandError> {
    let name = rest.trim();
    let good = !name.is_empty() && name.len() <= 255 && name.bytes().all(|octet| octet.is_ascii_graphic());
    if good { Ok(name.into()) } else { Err(CommandError::syntax("a host name must follow")) }
}

fn parse_mail(rest: &str) -> Result<Command, CommandError> {
    let (path, parameters) = parse_path(after_keyword(rest, "FROM:")?)?;
    let from = match path {
        "" => ReversePath::Null,
        path => ReversePath::Address(parse_address(path)?),
    };
    Ok(Command::Mail(from, parse_mail_parameters(parameters)?))
}

fn parse_rcpt(rest: &str) -> Result<Command, CommandError> {
    let (path, parameters) = parse_path(after_keyword(rest, "TO:")?)?;
    if let Some(parameter) = parameters.split_ascii_whitespace().next() {
        return Err(CommandError::Parameter(keyword(parameter)));
    }
    if path.eq_ignore_ascii_case("postmaster") {
        return Ok(Command::Rcpt(None));
    }
    Ok(Command::Rcpt(Some(parse_address(path)?)))
}

fn after_keyword<'a>(rest: &'a str, expected: &str) -> Result<&'a str, CommandError> {
    match rest.split_at_checked(expected.len()) {
        // a space behind the colon is wrong, common and harmless
        Some((word, rest)) if word.eq_ignore_ascii_case(expected) => Ok(rest.trim_start_matches(' ')),
        _ => Err(CommandError::syntax(format!("{expected}<address> must follow"))),
    }
}

/// ABNF: `Path = "<" [ A-d-l ":" ] Mailbox ">"`; gives the mailbox and what follows the path. Source
/// routes are read and ignored (RFC 5321 appendix C).
fn parse_path(text: &str) -> Result<(&str, &str), CommandError> {
    let inner = text.strip_prefix('<').ok_or_else(|| CommandError::syntax("the address must stand in <>"))?;
    let end = closing_bracket(inner).ok_or_else(|| CommandError::syntax("the address has no end"))?;
    let (path, rest) = (&inner[..end], &inner[end + 1..]);
    if !rest.is_empty() && !rest.starts_with(' ') {
        return Err(CommandError::syntax("a space must follow the address"));
    }
    let mailbox = match path.strip_prefix('@') {
        Some(route) => route.split_once(':').map(|(_, mailbox)| mailbox),
        None => Some(path),
    };
    let mailbox = mailbox.ok_or_else(|| CommandError::syntax("a source route has no end"))?;
    Ok((mailbox, rest))
}

/// The `>` that is not inside quotes.
fn closing_bracket(path: &str) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    path.bytes().position(|octet| {
        if std::mem::take(&mut escaped) {
            return false;
        }
        match octet {
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'>' if !quoted => return true,
            _ => {}
        }
        false
    })
}

fn parse_address(text: &str) -> Result<Address, CommandError> {
    Address::parse(text).map_err(|error| CommandError::syntax(error.to_string()))
}

/// ABNF: `Mail-parameters = esmtp-param *(SP esmtp-param)`.
fn parse_mail_parameters(text: &str) -> Result<MailParameters, CommandError> {
    let mut parameters = MailParameters::default();
    for parameter in text.split_ascii_whitespace() {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        match name.to_ascii_uppercase().as_str() {
            "SIZE" => parameters.size = Some(parse_size(value)?),
            "BODY" => parameters.body = parse_body(value)?,
            "MT-PRIORITY" if parameters.priority.is_some() => {
                return Err(CommandError::syntax("MT-PRIORITY may be given once"));
            }
            "MT-PRIORITY" => parameters.priority = Some(parse_priority(value)?),
            _ => return Err(CommandError::Parameter(keyword(parameter))),
        }
    }
    Ok(parameters)
}

/// ABNF: `size-value = 1*20DIGIT` (RFC 1870 4).
fn parse_size(value: &str) -> Result<u64, CommandError> {
    let digits = !value.is_empty() && value.len() <= 20 && value.bytes().all(|digit| digit.is_ascii_digit());
    // twenty digits may exceed u64: too large is then all that matters
    if digits {
        Ok(value.parse().unwrap_or(u64::MAX))
    } else {
        Err(CommandError::syntax("SIZE needs a number"))
    }
}

fn parse_body(value: &str) -> Result<BodyKind, CommandError> {
    match value.to_ascii_uppercase().as_str() {
        "7BIT" => Ok(BodyKind::SevenBit),
        "8BITMIME" => Ok(BodyKind::EightBitMime),
        _ => Err(CommandError::syntax("BODY is 7BIT or 8BITMIME")),
    }
}

/// ABNF: `priority-value = ( [ "-" ] NZDIGIT ) / "0"` (RFC 6710 6).
fn parse_priority(value: &str) -> Result<i8, CommandError> {
    let digit = value.strip_prefix('-').unwrap_or(value);
    let is_good = digit.len() == 1 && digit.bytes().all(|digit| digit.is_ascii_digit()) && value != "-0";
    let parsed = value.parse().ok().filter(|_| is_good);
    parsed.ok_or_else(|| CommandError::syntax("MT-PRIORITY is a number from -9 to 9"))
}

/// A parameter's name, fit to be said back.
fn keyword(parameter: &str) -> Box<str> {
    parameter.split('=').next().unwrap_or_default().chars().take(32).collect()
}

/// The postmaster of this host (RFC 5321 4.5.1).
pub(super) fn postmaster_at(hostname: &Domain) -> Option<Address> {
    Address::parse(&format!("postmaster@{hostname}")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        Address::parse(text).expect(text)
    }

    fn from(text: &str) -> ReversePath {
        ReversePath::Address(address(text))
    }

    #[test]
    fn commands_are_read_as_the_grammar_has_them() {
        let plain = MailParameters::default();
        let sized = MailParameters { size: Some(77), body: BodyKind::EightBitMime, priority: Some(-4) };
        for (line, want) in [
            ("EHLO client.example", Command::Ehlo("client.example".into())),
            ("helo [192.0.2.1]", Command::Helo("[192.0.2.1]".into())),
            ("MAIL FROM:<>", Command::Mail(ReversePath::Null, plain)),
            ("mail from: <a@Example.net>", Command::Mail(from("a@example.net"), plain)),
            (
                "MAIL FROM:<a@b.example> BODY=8BITMIME size=77 MT-PRIORITY=-4",
                Command::Mail(from("a@b.example"), sized),
            ),
            ("MAIL FROM:<@x.example,@y.example:a@b.example>", Command::Mail(from("a@b.example"), plain)),
            ("RCPT TO:<\"a> b\"@c.example>", Command::Rcpt(Some(address("\"a> b\"@c.example")))),
            ("RCPT TO:<Postmaster>", Command::Rcpt(None)),
            ("DATA", Command::Data),
            ("data  ", Command::Data),
            ("NOOP whatever", Command::Noop),
            ("QUIT", Command::Quit),
        ] {
            assert_eq!(Command::parse(line.as_bytes()), Ok(want), "{line}");
        }
    }

    #[test]
    fn what_is_no_command_gets_the_right_reply() {
        for (line, code) in [
            ("", 500),
            ("BREW coffee", 500),
            ("EHLO", 501),
            ("EHLO two words", 501),
            ("MAIL", 501),
            ("MAIL FROM:a@b.example", 501),
            ("MAIL FROM:<a@b.example", 501),
            ("MAIL FROM:<a@b.example>x", 501),
            ("MAIL FROM:<a>", 501),
            ("MAIL FROM:<@x.example>", 501),
            ("MAIL FROM:<a@b.example> SIZE=", 501),
            ("MAIL FROM:<a@b.example> SIZE=1e9", 501),
            ("MAIL FROM:<a@b.example> BODY=BINARYMIME", 501),
            ("MAIL FROM:<a@b.example> MT-PRIORITY=10", 501),
            ("MAIL FROM:<a@b.example> MT-PRIORITY=-0", 501),
            ("MAIL FROM:<a@b.example> MT-PRIORITY=1 MT-PRIORITY=1", 501),
            ("MAIL FROM:<a@b.example> MT-PRIORITY=+1", 501),
            ("MAIL FROM:<a@b.example> AUTH=<>", 555),
            ("RCPT TO:<>", 501),
            ("RCPT TO:<a@b.example> NOTIFY=NEVER", 555),
            ("DATA now", 501),
            ("NOOP \u{1}", 501),
        ] {
            let error = Command::parse(line.as_bytes()).expect_err(line);
            assert_eq!(error.reply().code, code, "{line}");
        }
        assert_eq!(Command::parse(b"\xff\xfe"), Err(CommandError::Unknown));
    }

    #[test]
    fn a_size_beyond_all_numbers_is_very_large() {
        let parsed = Command::parse(b"MAIL FROM:<> SIZE=99999999999999999999");
        let parameters = MailParameters { size: Some(u64::MAX), ..MailParameters::default() };
        assert_eq!(parsed, Ok(Command::Mail(ReversePath::Null, parameters)));
    }
}
