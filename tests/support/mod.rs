//! A built relay in a directory of its own, with a DNS and destinations beside it.
#![allow(clippy::expect_used, dead_code, unreachable_pub, reason = "each test binary uses a part of it")]

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use barid::clock::Clock;
use barid::mail::{Address, Domain, Recipient, ReversePath};
use barid::net::{ClientTls, Handshake, Roots, TlsPolicy};
use barid::sim::dns::{DnsServer, Zone};
use barid::sim::{Arrivals, Behaviour, Letter, RemoteHost};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufStream};
use tokio::net::TcpStream;

/// Nothing in these tests takes longer unless it is broken.
pub const DEADLINE: Duration = Duration::from_secs(30);
/// How often an observable event is looked for.
const LOOK: Duration = Duration::from_millis(10);

/// Waits until `look` gives something.
pub async fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let waited = tokio::time::timeout(DEADLINE, async {
        let mut looks = tokio::time::interval(LOOK);
        loop {
            looks.tick().await;
            if let Some(found) = look() {
                return found;
            }
        }
    });
    waited.await.unwrap_or_else(|_| panic!("in vain: {what}"))
}

/// The destinations of a test.
pub struct World {
    pub remote: RemoteHost,
    pub mail: SocketAddr,
    pub dns: SocketAddr,
    arrived: Mutex<Arrivals>,
    serving: tokio::task::JoinHandle<()>,
}

impl World {
    /// Domains `*.test` with their behaviours; `mx.NAME` is their host.
    pub async fn build(behaviours: &[(&str, Behaviour)]) -> Self {
        Self::build_with(behaviours, &[]).await
    }

    /// The same, and TXT records.
    pub async fn build_with(behaviours: &[(&str, Behaviour)], texts: &[(&str, &str)]) -> Self {
        let mut zone =
            Zone::new().mx("sender.test", 10, "mx.sender.test").a("mx.sender.test", Ipv4Addr::LOCALHOST);
        let mut by_domain = HashMap::new();
        for (name, behaviour) in behaviours {
            let host = format!("mx.{name}");
            zone = zone.mx(name, 10, &host).a(&host, Ipv4Addr::LOCALHOST);
            by_domain.insert(Domain::parse(name).expect("a domain"), behaviour.clone());
        }
        for (name, text) in texts {
            zone = zone.txt(name, text);
        }
        let dns = DnsServer::bind((Ipv4Addr::LOCALHOST, 0).into(), Arc::new(zone)).await.expect("a DNS");
        let dns_address = dns.local_addr();
        tokio::spawn(dns.run());
        let remote = RemoteHost::new(Domain::parse("there.test").expect("a name"), by_domain);
        let (socket, mail) = RemoteHost::bind().await.expect("a socket");
        let serving = tokio::spawn(remote.clone().run(socket));
        World { remote, mail, dns: dns_address, arrived: Mutex::default(), serving }
    }

    /// The destinations go away: connections are refused from now on.
    pub async fn go_down(&mut self) {
        self.serving.abort();
        // the socket is closed when the task is gone
        let _ = (&mut self.serving).await;
    }

    /// The destinations come back on the same port.
    pub async fn come_back(&mut self) {
        let socket = tokio::net::TcpListener::bind(self.mail).await.expect("the port is still free");
        self.serving = tokio::spawn(self.remote.clone().run(socket));
    }

    /// Everything that has arrived, as text, with its recipients.
    pub fn arrived(&self) -> Vec<(String, Vec<String>)> {
        let mut arrived = self.arrived.lock().expect("not poisoned");
        arrived.messages.extend(self.remote.take_arrivals().messages);
        let told = |(content, to): &(Vec<u8>, Vec<Address>)| {
            (String::from_utf8_lossy(content).into_owned(), to.iter().map(ToString::to_string).collect())
        };
        arrived.messages.iter().map(told).collect()
    }
}

/// A letter from `app@sender.test`.
pub fn letter(recipients: &[&str], subject: &str) -> Letter {
    let address = |text: &&str| Address::parse(text).expect("an address");
    Letter {
        from: ReversePath::Address(Address::parse("app@sender.test").expect("an address")),
        recipients: recipients.iter().map(|to| Recipient::plain(address(to))).collect(),
        content: format!("Subject: {subject}\r\n\r\n.dots\r\n..\r\nand an end\r\n").into_bytes(),
    }
}

/// How a relay under test differs from the usual one.
#[derive(Clone, Default)]
pub struct Variation {
    /// Instead of all of loopback.
    pub client_network: Option<&'static str>,
    /// Instead of any.
    pub sender_domains: Option<&'static str>,
    /// A DNS server that is named before the usual one.
    pub dns_before: Option<SocketAddr>,
    /// More lines for `[delivery]`.
    pub delivery: &'static str,
    /// More lines at the end.
    pub more: &'static str,
}

/// A data directory and a configuration, for one relay after another.
pub struct Place {
    dir: TempDir,
    config: PathBuf,
}

impl Place {
    pub fn new(world: &World, variation: &Variation) -> Self {
        let dir = TempDir::new().expect("a directory");
        let config = dir.path().join("barid.toml");
        let mut text = String::new();
        let network = variation.client_network.unwrap_or("127.0.0.0/8");
        let domains = variation.sender_domains.unwrap_or("*");
        let before = variation.dns_before.map_or(String::new(), |server| format!("\"{server}\", "));
        write!(
            text,
            "hostname = \"relay.test\"\ndata_dir = {:?}\n\
             [[listener]]\nrole = \"relay\"\naddress = \"127.0.0.1:0\"\n\
             [[listener]]\nrole = \"admin\"\naddress = \"127.0.0.1:0\"\n\
             [[client]]\nname = \"apps\"\nnetworks = [\"{network}\"]\nsender_domains = [\"{domains}\"]\n\
             [dns]\nservers = [{before}\"{}\"]\n\
             [delivery]\nport = {}\nallow_loopback = true\nretry = [\"100ms\"]\n{}\n{}\n",
            dir.path().join("data").display().to_string(),
            world.dns,
            world.mail.port(),
            variation.delivery,
            variation.more,
        )
        .expect("a string");
        std::fs::write(&config, text).expect("written");
        Place { dir, config }
    }

    pub fn config(&self) -> &Path {
        &self.config
    }

    /// Changes a piece of the configuration file.
    pub fn edit(&self, from: &str, to: &str) {
        let text = std::fs::read_to_string(&self.config).expect("read");
        assert!(text.contains(from), "{from} is not in\n{text}");
        std::fs::write(&self.config, text.replacen(from, to, 1)).expect("written");
    }

    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Runs `barid` with a subcommand and `--config`, to its end.
    pub fn barid(&self, words: &[&str]) -> (ExitStatus, String, String) {
        let mut command = barid();
        command.args(words).arg("--config").arg(&self.config);
        run(command)
    }

    /// Starts a relay here; returns when it listens.
    pub async fn start(&self) -> Relay {
        Relay::start(&self.config, &[]).await
    }
}

fn barid() -> Command {
    Command::new(env!("CARGO_BIN_EXE_barid"))
}

/// Runs a command to its end.
pub fn run(mut command: Command) -> (ExitStatus, String, String) {
    let output = command.output().expect("runs");
    let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
    (output.status, text(&output.stdout), text(&output.stderr))
}

/// Runs `barid` with these words, to its end.
pub fn run_barid(words: &[&str]) -> (ExitStatus, String, String) {
    let mut command = barid();
    command.args(words);
    run(command)
}

/// A running relay.
pub struct Relay {
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
    pub smtp: SocketAddr,
    pub admin: SocketAddr,
}

impl Relay {
    /// Starts one with a configuration and more in its environment; returns when it listens.
    pub async fn start(config: &Path, environment: &[(&str, &OsStr)]) -> Relay {
        let mut child = barid()
            .args(["serve", "--config"])
            .arg(config)
            .envs(environment.iter().copied())
            .stderr(Stdio::piped())
            .spawn()
            .expect("barid starts");
        let log: Arc<Mutex<Vec<String>>> = Arc::default();
        let stderr = child.stderr.take().expect("piped");
        let lines = log.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                lines.lock().expect("not poisoned").push(line);
            }
        });
        let mut relay = Relay { child, log, smtp: ([0, 0, 0, 0], 0).into(), admin: ([0, 0, 0, 0], 0).into() };
        relay.smtp = relay.listening("relay").await;
        relay.admin = relay.listening("admin").await;
        relay
    }

    async fn listening(&self, role: &str) -> SocketAddr {
        let mark = format!("event=listening role={role} address=");
        let what = format!("a listener of role {role}");
        let address = eventually(&what, || {
            let line = self.log().into_iter().find(|line| line.contains(&mark))?;
            line.split("address=").nth(1)?.parse().ok()
        });
        address.await
    }

    /// The lines of its log so far.
    pub fn log(&self) -> Vec<String> {
        self.log.lock().expect("not poisoned").clone()
    }

    /// Waits for a line of the log that holds all of these.
    pub async fn logged(&self, parts: &[&str]) -> String {
        let find = || self.log().into_iter().find(|line| parts.iter().all(|part| line.contains(part)));
        let what = format!("a log line with {parts:?}");
        eventually(&what, find).await
    }

    /// GET over HTTP: status and body.
    pub fn get(&self, path: &str) -> (u16, String) {
        use std::io::{Read as _, Write as _};
        let mut stream = std::net::TcpStream::connect(self.admin).expect("connects");
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            .expect("written");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("read");
        let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
        (status, answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
    }

    /// The number of its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// kill -9.
    pub fn kill(mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("ended");
    }

    /// SIGTERM.
    pub fn tell_to_stop(&self) {
        self.signal("-TERM");
    }

    /// SIGHUP: it reads its configuration again.
    pub fn hang_up(&self) {
        self.signal("-HUP");
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().expect("kill runs").success());
    }

    /// SIGTERM, and the exit status.
    pub async fn terminate(self) -> ExitStatus {
        self.tell_to_stop();
        self.ended().await
    }

    /// Waits for its end.
    pub async fn ended(mut self) -> ExitStatus {
        let child = &mut self.child;
        eventually("the end of the relay", || child.try_wait().expect("waits")).await
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // a failed test must not leave a relay behind
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A connection to a relay that goes on under TLS, whoever the relay says it is.
pub async fn under_tls(relay: &Relay) -> Handshake {
    let mut stream = BufStream::new(TcpStream::connect(relay.smtp).await.expect("connects"));
    let mut line = String::new();
    stream.read_line(&mut line).await.expect("a greeting");
    stream.write_all(b"STARTTLS\r\n").await.expect("written");
    stream.flush().await.expect("written");
    stream.read_line(&mut line).await.expect("a reply");
    let tls = ClientTls::new(TlsPolicy::Opportunistic, &Roots::public(), clock()).expect("a client");
    tls.connect(Box::new(stream.into_inner()), "relay.test").await.expect("TLS works")
}

/// Time, for the tests that look at how long something took.
pub fn clock() -> Clock {
    Clock::System
}
