//! An application that hands mail over: one connection, letters one after the other.

use std::io;
use std::net::SocketAddr;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::mail::{Recipient, Reply, ReversePath, Severity};
use crate::smtp::{Client, ClientEvent, DotStuffer, Outgoing};

const READ_OCTETS: usize = 4 << 10;

/// One message and its envelope.
#[derive(Clone, Debug)]
pub struct Letter {
    /// MAIL FROM.
    pub from: ReversePath,
    /// RCPT TO.
    pub recipients: Vec<Recipient>,
    /// Header and body.
    pub content: Vec<u8>,
}

/// Why a letter was not taken.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The connection failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The server said no.
    #[error("{0}")]
    Refused(Reply),
}

/// The application.
pub struct Sender {
    stream: TcpStream,
    client: Client,
    input: BytesMut,
}

impl Sender {
    /// Connects and greets.
    pub async fn connect(address: SocketAddr) -> Result<Self, SendError> {
        Self::over(TcpStream::connect(address).await?).await
    }

    /// Greets over a connection that is there.
    pub async fn over(stream: TcpStream) -> Result<Self, SendError> {
        stream.set_nodelay(true)?;
        let mut sender = Sender { stream, client: Client::new("app.example"), input: BytesMut::new() };
        match sender.next_event().await? {
            ClientEvent::Closing(reply) => Err(SendError::Refused(reply)),
            _ => Ok(sender),
        }
    }

    /// Sends one letter; returns when the server took it for all recipients.
    pub async fn send(&mut self, letter: &Letter) -> Result<(), SendError> {
        let outgoing = Outgoing::plain(&letter.from, &letter.recipients, letter.content.len() as u64);
        let begun = self.client.begin(outgoing, false);
        let verdicts = match begun {
            Err(verdicts) => verdicts,
            Ok(_) => loop {
                match self.next_event().await? {
                    ClientEvent::SendContent => {
                        let (mut stuffer, mut wire) = (DotStuffer::default(), Vec::new());
                        stuffer.stuff(&letter.content, &mut wire);
                        stuffer.finish(&mut wire);
                        self.stream.write_all(&wire).await?;
                        self.client.content_sent();
                    }
                    ClientEvent::SendChunk => {
                        self.stream.write_all(&letter.content).await?;
                        self.client.content_sent();
                    }
                    ClientEvent::Done(verdicts) => break verdicts,
                    ClientEvent::Closing(reply) => return Err(SendError::Refused(reply)),
                    ClientEvent::Ready | ClientEvent::StartTls => {}
                }
            },
        };
        match verdicts.recipients.into_iter().find(|verdict| verdict.severity() != Severity::Success) {
            Some(refusal) => Err(SendError::Refused(refusal.reply)),
            None => Ok(()),
        }
    }

    async fn next_event(&mut self) -> Result<ClientEvent, SendError> {
        loop {
            let event = self.client.receive(&mut self.input).map_err(io::Error::other)?;
            self.stream.write_all(self.client.output()).await?;
            self.client.output().clear();
            if let Some(event) = event {
                return Ok(event);
            }
            self.input.reserve(READ_OCTETS);
            if self.stream.read_buf(&mut self.input).await? == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
        }
    }
}
