//! Commands: what is parsed, written again by the grammar, parses to the same; what is not, gets a reply of one
//! clean line.
#![no_main]

use barid::mail::{BodyKind, Notify, ReversePath};
use barid::smtp::{Command, MailParameters, RcptParameters};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    match Command::parse(input) {
        Err(error) => {
            let reply = error.reply().to_string();
            assert!(reply.starts_with('5') && !reply.chars().any(char::is_control), "{reply:?}");
        }
        Ok(command) => {
            let again = written(&command);
            let mut parsed = Command::parse(again.as_bytes());
            if let (Ok(Command::Rcpt(_, parsed)), Command::Rcpt(_, first)) = (&mut parsed, &command) {
                // a domain in Unicode has become A-labels
                parsed.needs_utf8 = first.needs_utf8;
            }
            assert_eq!(parsed.as_ref(), Ok(&command), "{again:?}");
        }
    }
});

fn written(command: &Command) -> String {
    match command {
        Command::Ehlo(name) => format!("EHLO {name}"),
        Command::Helo(name) => format!("HELO {name}"),
        Command::Mail(from, parameters) => mail(from, parameters),
        Command::Rcpt(to, parameters) => {
            let to = to.as_ref().map_or("postmaster".to_owned(), ToString::to_string);
            rcpt(&to, parameters)
        }
        Command::Data => "DATA".into(),
        Command::Bdat(chunk) => format!("BDAT {}{}", chunk.octets, if chunk.is_last { " LAST" } else { "" }),
        Command::StartTls => "STARTTLS".into(),
        Command::Rset => "RSET".into(),
        Command::Noop => "NOOP".into(),
        Command::Help => "HELP".into(),
        Command::Vrfy => "VRFY x".into(),
        Command::Quit => "QUIT".into(),
    }
}

fn mail(from: &ReversePath, parameters: &MailParameters) -> String {
    let MailParameters { size, body, priority, is_utf8, ret, envelope_id, requires_tls } = parameters;
    let said = [
        size.map(|size| format!(" SIZE={size}")),
        (*body == BodyKind::EightBitMime).then(|| " BODY=8BITMIME".into()),
        priority.map(|priority| format!(" MT-PRIORITY={priority}")),
        is_utf8.then(|| " SMTPUTF8".into()),
        ret.map(|ret| format!(" RET={}", ret.as_str())),
        envelope_id.as_ref().map(|id| format!(" ENVID={id}")),
        requires_tls.then(|| " REQUIRETLS".into()),
    ];
    format!("MAIL FROM:<{from}>{}", said.into_iter().flatten().collect::<String>())
}

fn rcpt(to: &str, parameters: &RcptParameters) -> String {
    let RcptParameters { notify, original, .. } = parameters;
    let said = [
        (*notify != Notify::Unsaid).then(|| format!(" NOTIFY={notify}")),
        original.as_ref().map(|original| format!(" ORCPT={original}")),
    ];
    format!("RCPT TO:<{to}>{}", said.into_iter().flatten().collect::<String>())
}
