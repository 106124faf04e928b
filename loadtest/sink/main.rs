//! `barid-sink`: where the mail of a load test ends.
//!
//! Owns the listeners, the DNS responder that leads to them, and the end of
//! the run. Promises exit code 0 only if what was expected arrived, nothing
//! accepted was lost and nothing was damaged; 1 if not so, 2 if there was no
//! run.
//!
//! One thread serves all: the sink shares its machine with the relay it
//! watches.

mod arrivals;
mod command;
mod dots;
mod house;
mod inspection;
#[path = "../ledger.rs"]
mod ledger;
#[path = "../message.rs"]
mod message;
mod options;
#[path = "../process.rs"]
mod process;
#[path = "../quantity.rs"]
mod quantity;
mod session;
mod summary;
mod timeline;
mod tls;
#[path = "../wire.rs"]
mod wire;

use std::{cell::RefCell, io, net::SocketAddr, process::ExitCode, rc::Rc, sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use barid::sim::dns::{DnsServer, Pattern, Zone};
use clap::Parser as _;
use tokio::{
    net::{TcpListener, TcpSocket},
    sync::Notify,
    task::{LocalSet, spawn_local},
    time::{Instant, interval, sleep},
};

use arrivals::Arrivals;
use dots::Dots;
use house::House;
use ledger::{FLUSH_EVERY_MILLIS, Ledger};
use options::Options;
use session::{Counts, Session, Sink};
use summary::Summary;

/// How long the sink stays after the last expected id: for its reply, for
/// duplicates, and for the load's ledger, flushed more often than that.
const SETTLE_MILLIS: u64 = 250;
/// How often a port free on one address but taken on another is exchanged.
const BIND_ATTEMPTS: usize = 16;
/// Connections that may wait to be accepted, as far as the system allows. When
/// a short queue runs over, SYN cookies leave clients with connections of which
/// only they know, waiting for a greeting.
const BACKLOG_CONNECTIONS: u32 = 4096;
/// The rest after an accept that failed, so that it cannot spin.
const ACCEPT_PAUSE_MILLIS: u64 = 10;
/// The exit code of a run that could not be made.
const CANNOT_RUN: u8 = 2;
/// Where the load's domains lie.
const SUFFIX: &str = "load.test";

fn main() -> ExitCode {
    sink(Options::parse()).unwrap_or_else(|error| {
        eprintln!("barid-sink: {error:#}");
        ExitCode::from(CANNOT_RUN)
    })
}

fn sink(options: Options) -> Result<ExitCode> {
    options.check()?;
    process::raise_descriptor_limit();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let mut arrivals = Arrivals::new(Ledger::open(options.ledger.as_deref())?);
    arrivals.stamps = options.stamps.as_deref().map(|path| Ledger::open(Some(path))).transpose()?;
    let tls = options.tls.then(tls::acceptor).transpose()?;
    let sink = Rc::new(Sink {
        options,
        tls,
        arrivals: RefCell::new(arrivals),
        dots: RefCell::new(Dots::new()),
        counts: Counts::default(),
        complete: Notify::new(),
    });
    LocalSet::new().block_on(&runtime, serve(&sink))?;
    let summary = Summary::new(&sink)?;
    if sink.options.json {
        println!("{}", summary.json());
    } else {
        println!("{}", summary.text());
    }
    Ok(if summary.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Listens, and takes what comes until the end.
async fn serve(sink: &Rc<Sink>) -> Result<()> {
    let listeners = listen(&sink.options)?;
    let first = listeners.first().context("no address to listen on")?.local_addr()?;
    eprintln!("listening {first} ({} addresses)", listeners.len());
    for listener in listeners {
        let house = House::new(sink.options.max_connections, sink.options.rate, Instant::now());
        spawn_local(receive(listener, Rc::new(house), Rc::clone(sink)));
    }
    answer_dns(&sink.options).await?;
    let end = end(sink);
    let timeline = timeline::keep(sink);
    tokio::pin!(end, timeline);
    let mut ticker = interval(Duration::from_millis(FLUSH_EVERY_MILLIS));
    loop {
        tokio::select! {
            _ = ticker.tick() => sink.arrivals.borrow_mut().flush()?,
            kept = &mut timeline => kept?,
            () = &mut end => break,
        }
    }
    sink.arrivals.borrow_mut().flush()
}

/// Listens on all addresses, at the same port.
fn listen(options: &Options) -> Result<Vec<TcpListener>> {
    let mut attempt = 1;
    loop {
        match try_listen(options) {
            Err(error)
                if options.listen.port() == 0
                    && error.kind() == io::ErrorKind::AddrInUse
                    && attempt < BIND_ATTEMPTS =>
            {
                attempt += 1;
            }
            listeners => return listeners.context("cannot listen"),
        }
    }
}

fn try_listen(options: &Options) -> io::Result<Vec<TcpListener>> {
    let mut port = options.listen.port();
    let mut listeners = Vec::new();
    for place in 0..options.addresses {
        let listener = open(SocketAddr::from((options.address(place), port)))?;
        port = listener.local_addr()?.port();
        listeners.push(listener);
    }
    Ok(listeners)
}

fn open(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG_CONNECTIONS)
}

/// Takes the connections of one address.
async fn receive(listener: TcpListener, house: Rc<House>, sink: Rc<Sink>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                spawn_local(Session::new(Rc::clone(&sink), stream, &house).run());
            }
            Err(_) => sleep(Duration::from_millis(ACCEPT_PAUSE_MILLIS)).await,
        }
    }
}

/// Starts the responder that leads the load's domains to the addresses.
async fn answer_dns(options: &Options) -> Result<()> {
    let Some(address) = options.dns else { return Ok(()) };
    let zone = Zone::new().pattern(Pattern {
        suffix: SUFFIX.into(),
        domains: options.domains.unwrap_or(options.addresses),
        first: *options.listen.ip(),
        addresses: options.addresses,
    });
    let server = DnsServer::bind(address, Arc::new(zone)).await;
    let server = server.with_context(|| format!("cannot answer DNS on {address}"))?;
    eprintln!("dns {}", server.local_addr());
    spawn_local(server.run());
    Ok(())
}

/// Waits until all that is expected has arrived, or time is up, or a signal
/// asks for the end.
async fn end(sink: &Sink) {
    let time_is_up = async {
        match sink.options.expect {
            Some(_) => sleep(sink.options.timeout).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = sink.complete.notified() => sleep(Duration::from_millis(SETTLE_MILLIS)).await,
        () = time_is_up => eprintln!("time is up"),
        () = process::asked_to_end() => {}
    }
}
