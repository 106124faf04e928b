//! One session of the load: takes messages and sees each accepted or failed.
//!
//! Owns its connection and the letter it is sending. Promises that a message
//! is counted and entered in the ledger only after its own 250, and that an id
//! is sent once: another attempt bears another id.
//!
//! Shares a [`Run`] with the other sessions of the same thread.

use std::{cell::RefCell, rc::Rc, time::Duration};

use anyhow::anyhow;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tokio_rustls::TlsConnector;

use crate::{
    connection::{Connection, Reply, Trouble},
    ledger::Ledger,
    letter::Letter,
    message::Template,
    options::Options,
    pace::Pace,
    process,
    tally::Tally,
};

/// The rest before the second attempt; it doubles for each further one.
const BACKOFF_FIRST_MILLIS: u64 = 20;
const BACKOFF_LAST_MILLIS: u64 = 1000;
/// How long a server may take to greet. A connection its queue has lost is
/// never greeted, and must not cost a message all its time.
const OPEN_SECONDS: u64 = 10;
/// How long a server may take to answer QUIT before it is left alone.
const QUIT_MILLIS: u64 = 1000;
/// The reply that announces the end of the connection.
const CLOSING: u16 = 421;

/// What all sessions share.
pub(crate) struct Run {
    pub(crate) options: Options,
    pub(crate) template: Template,
    /// Makes handshakes, where TLS is wanted.
    pub(crate) tls: Option<TlsConnector>,
    pub(crate) state: RefCell<State>,
}

/// The part of a run that changes.
pub(crate) struct State {
    pub(crate) tally: Tally,
    pub(crate) ledger: Ledger,
    pub(crate) stamps: Ledger,
    pub(crate) pace: Pace,
    /// Messages taken by sessions so far.
    pub(crate) taken: u64,
    /// Ids given out so far.
    pub(crate) ids: u64,
}

pub(crate) struct Session {
    run: Rc<Run>,
    connection: Option<Connection>,
    /// Messages tried over the connection.
    carried: u64,
    letter: Letter,
}

impl Session {
    pub(crate) fn new(run: Rc<Run>) -> Self {
        Self { run, connection: None, carried: 0, letter: Letter::new() }
    }

    /// Sends messages until none are left.
    pub(crate) async fn run(mut self) {
        while let Some(recipient) = self.take() {
            let start = self.run.state.borrow_mut().pace.next(Instant::now());
            if let Some(start) = start {
                sleep_until(start).await;
            }
            self.deliver(recipient).await;
        }
        self.quit().await;
    }

    /// The number of the next message, as long as there is one.
    fn take(&self) -> Option<u64> {
        let mut state = self.run.state.borrow_mut();
        (state.taken < self.run.options.messages).then(|| {
            state.taken += 1;
            state.taken
        })
    }

    /// Sees one message accepted or failed.
    async fn deliver(&mut self, recipient: u64) {
        let deadline = Instant::now() + self.run.options.timeout;
        let mut backoff = Duration::from_millis(BACKOFF_FIRST_MILLIS);
        loop {
            let attempt = timeout_at(deadline, self.attempt(recipient)).await;
            let trouble = match attempt {
                Ok(Ok((dot, stamp))) => return self.accept(dot, stamp),
                Ok(Err(trouble)) => trouble,
                Err(_) => Trouble::Broken(anyhow!("no reply in time")),
            };
            if ends_connection(&trouble) {
                self.connection = None;
            }
            self.run.state.borrow_mut().tally.trouble(&trouble, self.letter.id());
            let resume = Instant::now() + backoff.mul_f64(0.5 + fastrand::f64());
            if !self.run.options.retry || is_final(&trouble) || resume >= deadline {
                self.run.state.borrow_mut().tally.failed += 1;
                return;
            }
            self.run.state.borrow_mut().tally.retries += 1;
            sleep_until(resume).await;
            backoff = (backoff * 2).min(Duration::from_millis(BACKOFF_LAST_MILLIS));
        }
    }

    fn accept(&self, dot: Instant, stamp: u128) {
        let mut state = self.run.state.borrow_mut();
        state.tally.accept(dot, Instant::now());
        state.ledger.note(self.letter.id());
        if self.run.options.stamps.is_some() {
            state.stamps.note(&format!("{} {stamp}", self.letter.id()));
        }
    }

    /// Tries one message under a new id; returns when its final dot was sent.
    async fn attempt(&mut self, recipient: u64) -> Result<(Instant, u128), Trouble> {
        let run = Rc::clone(&self.run);
        let options = &run.options;
        let number = {
            let mut state = run.state.borrow_mut();
            state.ids += 1;
            state.ids
        };
        let composed = self.letter.compose(&run.template, &options.run_id, number, options.size);
        composed.map_err(|unfit| Trouble::Broken(anyhow!(unfit)))?;
        if self.carried >= options.per_connection {
            self.quit().await;
        }
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => {
                let opening = Connection::open(options.target, options.source, run.tls.as_ref());
                let opened = timeout(Duration::from_secs(OPEN_SECONDS), opening).await;
                let opened = opened.map_err(|_| Trouble::Broken(anyhow!("no greeting in time")))??;
                run.state.borrow_mut().tally.open(opened.is_resumed());
                self.carried = 0;
                none.insert(opened)
            }
        };
        self.carried += 1;
        let extensions = connection.extensions();
        self.letter.address(recipient, 1 + recipient % options.domains, extensions.size);
        transact(connection, &self.letter).await
    }

    /// Takes leave of the server, if there is one.
    async fn quit(&mut self) {
        let Some(mut connection) = self.connection.take() else { return };
        let leave = async {
            connection.send(b"QUIT\r\n").await?;
            connection.reply().await
        };
        // All messages have been replied to, so nothing depends on the farewell.
        let _ = timeout(Duration::from_millis(QUIT_MILLIS), leave).await;
    }
}

/// One transaction; after a refusal the connection is ready for the next.
async fn transact(connection: &mut Connection, letter: &Letter) -> Result<(Instant, u128), Trouble> {
    if let Err(trouble) = offer(connection, letter.commands()).await {
        if !ends_connection(&trouble) {
            connection.send(b"RSET\r\n").await?;
            connection.expect(250).await?;
        }
        return Err(trouble);
    }
    connection.send(letter.wire()).await?;
    let dot = (Instant::now(), process::monotonic_ns());
    connection.expect(250).await?;
    Ok(dot)
}

/// Sends MAIL, RCPT and DATA, in one write if the server pipelines, and
/// returns the first refusal, if any, when all replies due have been read.
async fn offer(connection: &mut Connection, commands: &[u8]) -> Result<(), Trouble> {
    let is_pipelining = connection.extensions().pipelining;
    if is_pipelining {
        connection.send(commands).await?;
    }
    let mut refusal: Option<Reply> = None;
    for command in commands.split_inclusive(|byte| *byte == b'\n') {
        if !is_pipelining {
            if refusal.is_some() {
                break;
            }
            connection.send(command).await?;
        }
        let reply = connection.reply().await?;
        let is_data = command.starts_with(b"DATA");
        if is_data && reply.code == 354 && refusal.is_some() {
            // The server waits for a message that nobody is to receive.
            connection.send(b".\r\n").await?;
            connection.reply().await?;
        } else if reply.code != if is_data { 354 } else { 250 } {
            if reply.code == CLOSING {
                return Err(Trouble::Refused(reply));
            }
            refusal.get_or_insert(reply);
        }
    }
    refusal.map_or(Ok(()), |reply| Err(Trouble::Refused(reply)))
}

fn ends_connection(trouble: &Trouble) -> bool {
    match trouble {
        Trouble::Broken(_) => true,
        Trouble::Refused(reply) => reply.code == CLOSING,
    }
}

/// Whether another attempt would be refused just the same.
fn is_final(trouble: &Trouble) -> bool {
    matches!(trouble, Trouble::Refused(reply) if reply.code >= 500)
}
