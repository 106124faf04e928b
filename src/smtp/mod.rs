//! SMTP without I/O: octets in, events and octets out, both ways round.
//!
//! Owns the grammar (RFC 5321), the framing of lines and of message content, and the two state
//! machines. Promises that only CRLF ends a line and only CRLF.CRLF ends content, coming and going;
//! that no input panics or grows memory beyond the named limits; that any chunking of the same octets
//! gives the same events. Never reads a clock, opens a socket or decides whom to trust.

mod capabilities;
mod client;
mod command;
mod content;
mod line;
mod replies;
mod server;

pub use capabilities::Capabilities;
pub use client::{Client, ClientError, ClientEvent, Flight, Outgoing, Verdicts};
pub use command::{Chunk, Command, CommandError, MailParameters, RcptParameters};
pub use content::{ContentDecoder, ContentFault, ContentRules, DotStuffer, Fed};
pub use line::{COMMAND_LINE_MAX_OCTETS, Line, LineError, next_line};
pub use replies::{REPLY_LINES_MAX, REPLY_MAX_OCTETS, REPLY_TEXT_MAX_OCTETS, ReplyError, ReplyReader};
pub use server::{Excess, Fault, Limits, Next, Server, ServerSettings, StartTls};
