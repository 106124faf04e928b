//! The grammar of commands (RFC 5321 4.1, 4.1.2).

use crate::mail::{Address, BodyKind, Domain, EnhancedStatus, Notify, Reply, Return, ReversePath, Xtext};

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
    Rcpt(Option<Address>, RcptParameters),
    /// `DATA`.
    Data,
    /// `BDAT SP chunk-size [SP LAST]` (RFC 3030 2).
    Bdat(Chunk),
    /// `STARTTLS` (RFC 3207 4).
    StartTls,
    /// `RSET`.
    Rset,
    /// `NOOP [SP String]`.
    Noop,
    /// `HELP [SP String]`.
    Help,
    /// `VRFY SP String [SP SMTPUTF8]` (RFC 6531 3.7.4.2).
    Vrfy,
    /// `QUIT`.
    Quit,
}

/// What may follow a reverse-path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MailParameters {
    /// `SIZE=` (RFC 1870), in octets.
    pub size: Option<u64>,
    /// `BODY=` (RFC 6152).
    pub body: BodyKind,
    /// `MT-PRIORITY=` (RFC 6710), from -9 to 9.
    pub priority: Option<i8>,
    /// `SMTPUTF8` (RFC 6531 3.4).
    pub is_utf8: bool,
    /// `RET=` (RFC 3461 4.3).
    pub ret: Option<Return>,
    /// `ENVID=` (RFC 3461 4.4).
    pub envelope_id: Option<Xtext>,
    /// `REQUIRETLS` (RFC 8689 3).
    pub requires_tls: bool,
}

/// What may follow a forward-path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RcptParameters {
    /// `NOTIFY=` (RFC 3461 4.1).
    pub notify: Notify,
    /// `ORCPT=` (RFC 3461 4.2).
    pub original: Option<Xtext>,
    /// Whether anything in the command needs SMTPUTF8.
    pub needs_utf8: bool,
}

/// A piece of content that follows its command without an end of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// How long it is.
    pub octets: u64,
    /// Whether it is the last.
    pub is_last: bool,
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
    /// A word by which clients of other protocols begin: somebody lets a browser or the like speak to us, and
    /// what follows is not meant for us.
    #[error("this is no command of SMTP")]
    Foreign,
    /// An address beyond ASCII, and SMTPUTF8 was not said (RFC 6531 3.2).
    #[error("an address beyond ASCII needs the parameter SMTPUTF8")]
    NeedsUtf8,
}

impl CommandError {
    fn syntax(why: impl Into<Box<str>>) -> Self {
        CommandError::Syntax(why.into())
    }

    /// The reply that tells it.
    pub fn reply(&self) -> Reply {
        let (code, enhanced) = match self {
            CommandError::Unknown | CommandError::Foreign => (500, EnhancedStatus::new(5, 5, 2)),
            CommandError::Syntax(_) => (501, EnhancedStatus::new(5, 5, 4)),
            CommandError::Parameter(_) => (555, EnhancedStatus::new(5, 5, 4)),
            CommandError::NeedsUtf8 => (553, EnhancedStatus::new(5, 6, 7)),
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
            "BDAT" => parse_bdat(rest),
            "STARTTLS" => alone(Command::StartTls),
            "RSET" => alone(Command::Rset),
            "QUIT" => alone(Command::Quit),
            "NOOP" => Ok(Command::Noop),
            "HELP" => Ok(Command::Help),
            "VRFY" if rest.is_empty() => Err(CommandError::syntax("a name must follow")),
            "VRFY" => Ok(Command::Vrfy),
            "GET" | "POST" | "PUT" | "HEAD" | "OPTIONS" | "CONNECT" | "PRI" | "USER" => {
                Err(CommandError::Foreign)
            }
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
    let parameters = parse_mail_parameters(parameters)?;
    if !path.is_ascii() && !parameters.is_utf8 {
        return Err(CommandError::NeedsUtf8);
    }
    Ok(Command::Mail(from, parameters))
}

fn parse_rcpt(rest: &str) -> Result<Command, CommandError> {
    let (path, parameters) = parse_path(after_keyword(rest, "TO:")?)?;
    let parameters = RcptParameters { needs_utf8: !rest.is_ascii(), ..parse_rcpt_parameters(parameters)? };
    if path.eq_ignore_ascii_case("postmaster") {
        return Ok(Command::Rcpt(None, parameters));
    }
    Ok(Command::Rcpt(Some(parse_address(path)?), parameters))
}

/// ABNF: `bdat-cmd = "BDAT" SP chunk-size [ SP end-marker ] CRLF`, `chunk-size = 1*DIGIT` (RFC 3030 2).
fn parse_bdat(rest: &str) -> Result<Command, CommandError> {
    let mut words = rest.split_ascii_whitespace();
    let size =
        words.next().filter(|size| size.len() <= 20 && size.bytes().all(|digit| digit.is_ascii_digit()));
    // what exceeds u64 will not end in anybody's lifetime
    let octets = size.map(|size| size.parse().unwrap_or(u64::MAX));
    let is_last = match words.next() {
        None => Some(false),
        Some(word) => word.eq_ignore_ascii_case("LAST").then_some(true),
    };
    match (octets, is_last, words.next()) {
        (Some(octets), Some(is_last), None) => Ok(Command::Bdat(Chunk { octets, is_last })),
        _ => Err(CommandError::syntax("BDAT needs a size, and perhaps LAST")),
    }
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

/// ABNF: `Mail-parameters = esmtp-param *(SP esmtp-param)`, `esmtp-param = esmtp-keyword ["=" esmtp-value]`
/// (RFC 5321 4.1.2). Each at most once; but some say the same again, and mean nothing by it.
fn parameters(text: &str) -> impl Iterator<Item = Result<(String, &str), CommandError>> {
    let mut seen: Vec<(String, &str)> = Vec::new();
    text.split_ascii_whitespace().map(move |parameter| {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let name = name.to_ascii_uppercase();
        let before = seen.iter().find(|(known, _)| *known == name);
        if before.is_some_and(|(_, said)| *said != value || !SAID_AGAIN.contains(&name.as_str())) {
            return Err(CommandError::syntax("a parameter may be given once"));
        }
        seen.push((name.clone(), value));
        Ok((name, value))
    })
}

/// Parameters of which no standard says that they may be given once; Python's smtplib says BODY twice.
const SAID_AGAIN: [&str; 3] = ["BODY", "SIZE", "SMTPUTF8"];

fn parse_mail_parameters(text: &str) -> Result<MailParameters, CommandError> {
    let mut parsed = MailParameters::default();
    for parameter in parameters(text) {
        let (name, value) = parameter?;
        match name.as_str() {
            "SIZE" => parsed.size = Some(parse_size(value)?),
            "BODY" => parsed.body = parse_body(value)?,
            "MT-PRIORITY" => parsed.priority = Some(parse_priority(value)?),
            "SMTPUTF8" if value.is_empty() => parsed.is_utf8 = true,
            "REQUIRETLS" if value.is_empty() => parsed.requires_tls = true,
            "RET" => parsed.ret = Some(parse_return(value)?),
            "ENVID" => {
                let id = Xtext::envelope_id(value).filter(|_| !value.is_empty());
                parsed.envelope_id =
                    Some(id.ok_or_else(|| CommandError::syntax("ENVID is 1 to 100 octets of xtext"))?);
            }
            _ => return Err(CommandError::Parameter(keyword(&name))),
        }
    }
    Ok(parsed)
}

fn parse_rcpt_parameters(text: &str) -> Result<RcptParameters, CommandError> {
    let mut parsed = RcptParameters::default();
    for parameter in parameters(text) {
        let (name, value) = parameter?;
        match name.as_str() {
            "NOTIFY" => {
                let notify = Notify::parse(value);
                let why = "NOTIFY is NEVER, or some of SUCCESS,FAILURE,DELAY";
                parsed.notify = notify.ok_or_else(|| CommandError::syntax(why))?;
            }
            "ORCPT" => {
                let original = Xtext::original_recipient(value);
                let why = "ORCPT is a type, a semicolon, and an address in xtext";
                parsed.original = Some(original.ok_or_else(|| CommandError::syntax(why))?);
            }
            _ => return Err(CommandError::Parameter(keyword(&name))),
        }
    }
    Ok(parsed)
}

fn parse_return(value: &str) -> Result<Return, CommandError> {
    match value.to_ascii_uppercase().as_str() {
        "FULL" => Ok(Return::Full),
        "HDRS" => Ok(Return::Headers),
        _ => Err(CommandError::syntax("RET is FULL or HDRS")),
    }
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
fn keyword(name: &str) -> Box<str> {
    name.chars().take(32).map(|c| if c.is_ascii_graphic() { c } else { '?' }).collect()
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
        let sized = MailParameters {
            size: Some(77),
            body: BodyKind::EightBitMime,
            priority: Some(-4),
            ..MailParameters::default()
        };
        let reporting = MailParameters {
            is_utf8: true,
            ret: Some(Return::Headers),
            envelope_id: Xtext::envelope_id("Q+2B1"),
            ..MailParameters::default()
        };
        let bare = RcptParameters::default();
        let noted = RcptParameters {
            notify: Notify::On { success: true, failure: true, delay: false },
            original: Xtext::original_recipient("rfc822;list@c.example"),
            needs_utf8: false,
        };
        let utf8 = RcptParameters { needs_utf8: true, ..RcptParameters::default() };
        for (line, want) in [
            ("EHLO client.example", Command::Ehlo("client.example".into())),
            ("helo [192.0.2.1]", Command::Helo("[192.0.2.1]".into())),
            ("MAIL FROM:<>", Command::Mail(ReversePath::Null, plain.clone())),
            ("mail from: <a@Example.net>", Command::Mail(from("a@example.net"), plain.clone())),
            (
                "MAIL FROM:<a@b.example> BODY=8BITMIME size=77 MT-PRIORITY=-4",
                Command::Mail(from("a@b.example"), sized),
            ),
            (
                "MAIL FROM:<@x.example,@y.example:a@b.example>",
                Command::Mail(from("a@b.example"), plain.clone()),
            ),
            (
                "MAIL FROM:<zoë@bücher.example> SMTPUTF8 ret=hdrs ENVID=Q+2B1",
                Command::Mail(from("zoë@xn--bcher-kva.example"), reporting),
            ),
            (
                "RCPT TO:<\"a> b\"@c.example>",
                Command::Rcpt(Some(address("\"a> b\"@c.example")), bare.clone()),
            ),
            ("MAIL FROM:<> BODY=7BIT body=7BIT", Command::Mail(ReversePath::Null, plain)),
            ("RCPT TO:<Postmaster>", Command::Rcpt(None, bare)),
            (
                "RCPT TO:<a@b.example> NOTIFY=SUCCESS,FAILURE orcpt=rfc822;list@c.example",
                Command::Rcpt(Some(address("a@b.example")), noted),
            ),
            ("RCPT TO:<zoë@b.example>", Command::Rcpt(Some(address("zoë@b.example")), utf8)),
            ("BDAT 86 last", Command::Bdat(Chunk { octets: 86, is_last: true })),
            ("BDAT 0", Command::Bdat(Chunk { octets: 0, is_last: false })),
            ("BDAT 99999999999999999999", Command::Bdat(Chunk { octets: u64::MAX, is_last: false })),
            ("starttls", Command::StartTls),
            ("VRFY ann SMTPUTF8", Command::Vrfy),
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
            ("GET / HTTP/1.1", 500),
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
            ("RCPT TO:<a@b.example> NOTIFY=NEVER,DELAY", 501),
            ("RCPT TO:<a@b.example> NOTIFY=", 501),
            ("RCPT TO:<a@b.example> NOTIFY=NEVER NOTIFY=NEVER", 501),
            ("RCPT TO:<a@b.example> ORCPT=a@b.example", 501),
            ("RCPT TO:<a@b.example> RET=FULL", 555),
            ("MAIL FROM:<a@b.example> RET=SOME", 501),
            ("MAIL FROM:<a@b.example> ENVID=", 501),
            ("MAIL FROM:<a@b.example> SMTPUTF8=yes", 555),
            ("MAIL FROM:<zoë@b.example>", 553),
            ("MAIL FROM:<a@bücher.example>", 553),
            ("MAIL FROM:<> NOTIFY=NEVER", 555),
            ("MAIL FROM:<> BODY=7BIT BODY=8BITMIME", 501),
            ("BDAT", 501),
            ("BDAT -1", 501),
            ("BDAT 1 FIRST", 501),
            ("BDAT 1 LAST LAST", 501),
            ("BDAT 1x", 501),
            ("STARTTLS now", 501),
            ("VRFY", 501),
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
