//! What one session may cost, and how much of that it has used up.

use crate::mail::{EnhancedStatus, Reply};

/// What one session may cost.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Octets of a message's content.
    pub message_max_octets: u64,
    /// Octets of a line of content, without its end.
    pub text_line_max_octets: usize,
    /// Recipients of a message.
    pub recipients_max: usize,
    /// Commands that were refused or malformed, before the session is ended; a message that is taken
    /// forgives them.
    pub errors_max: u32,
    /// Commands that do not exist.
    pub unknown_commands_max: u32,
    /// Commands that made no sense where they came.
    pub out_of_order_max: u32,
    /// Commands that lead to nothing (NOOP, RSET, VRFY, HELP, another EHLO, an empty chunk) between two
    /// messages.
    pub idle_commands_max: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            message_max_octets: 50 << 20,
            text_line_max_octets: 256 << 10,
            recipients_max: 1000,
            errors_max: 20,
            unknown_commands_max: 10,
            out_of_order_max: 20,
            idle_commands_max: 100,
        }
    }
}

/// Which limit of a session was exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Excess {
    /// [`Limits::errors_max`].
    Errors,
    /// [`Limits::unknown_commands_max`].
    UnknownCommands,
    /// [`Limits::out_of_order_max`].
    OutOfOrder,
    /// [`Limits::idle_commands_max`].
    IdleCommands,
    /// A command line, or a chunk that no message could have.
    Length,
    /// It speaks another protocol.
    Foreign,
}

impl Excess {
    /// The word in metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Excess::Errors => "errors",
            Excess::UnknownCommands => "unknown_commands",
            Excess::OutOfOrder => "out_of_order",
            Excess::IdleCommands => "idle_commands",
            Excess::Length => "length",
            Excess::Foreign => "foreign_protocol",
        }
    }

    pub(super) fn reply(self) -> Reply {
        let text = match self {
            Excess::Errors => "too many errors, goodbye",
            Excess::UnknownCommands => "too many unknown commands, goodbye",
            Excess::OutOfOrder => "too many commands out of order, goodbye",
            Excess::IdleCommands => "too many commands that lead to nothing, goodbye",
            Excess::Length => "that is too long, goodbye",
            Excess::Foreign => "this is a mail server, goodbye",
        };
        Reply::new(421, EnhancedStatus::new(4, 7, 0), text)
    }
}

/// What a command did that brings no mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Misstep {
    /// It was refused or malformed.
    Error,
    Unknown,
    OutOfOrder,
    Idle,
}

/// How often a session went astray.
#[derive(Debug, Default)]
pub(super) struct Tally {
    errors: u32,
    unknown: u32,
    out_of_order: u32,
    idle: u32,
}

impl Tally {
    /// Counts one; the limit that is exceeded now, where one is.
    pub(super) fn note(&mut self, misstep: Misstep, limits: &Limits) -> Option<Excess> {
        let (count, most, excess) = match misstep {
            Misstep::Error => (&mut self.errors, limits.errors_max, Excess::Errors),
            Misstep::Unknown => (&mut self.unknown, limits.unknown_commands_max, Excess::UnknownCommands),
            Misstep::OutOfOrder => (&mut self.out_of_order, limits.out_of_order_max, Excess::OutOfOrder),
            Misstep::Idle => (&mut self.idle, limits.idle_commands_max, Excess::IdleCommands),
        };
        *count += 1;
        (*count >= most).then_some(excess)
    }

    /// A message was taken: the client means well.
    pub(super) fn forgive(&mut self) {
        *self = Tally::default();
    }
}
