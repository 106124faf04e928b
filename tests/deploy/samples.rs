//! Each sample, with other addresses, ports and another directory, relays for those that it names and for nobody
//! else.

use std::net::{Ipv4Addr, SocketAddr};

use barid::mail::{Address, Recipient, ReversePath};
use barid::sim::{Behaviour, Letter, SendError, Sender};
use tempfile::TempDir;
use tokio::net::{TcpSocket, TcpStream};

use crate::support::{DEADLINE, Relay, World, eventually, run_barid};
use crate::{SAMPLES, read, repository};

#[test]
fn every_sample_is_there_to_be_tested_and_is_accepted_as_it_is_written() {
    let listed = std::fs::read_dir(repository().join("deploy/samples")).expect("lists");
    assert_eq!(listed.count(), SAMPLES.iter().filter(|file| file.starts_with("deploy/samples/")).count());
    for file in SAMPLES {
        let path = repository().join(file);
        let (status, out, err) = run_barid(&["config", "check", "--config", &path.to_string_lossy()]);
        assert!(status.success() && out.contains("no faults"), "{file}: {out}{err}");
    }
}

/// A relay that runs a sample with other addresses, ports and another directory, and its destinations.
struct Running {
    relay: Relay,
    world: World,
    dir: TempDir,
}

impl Running {
    /// `places` are what the sample says, and what is said here instead; each must be there.
    async fn start(sample: &str, places: &[(&str, &str)]) -> Self {
        let world = World::build(&[("prompt.test", Behaviour::default())]).await;
        Self::start_in(sample, places, world).await
    }

    async fn start_in(sample: &str, places: &[(&str, &str)], world: World) -> Self {
        let dir = TempDir::new().expect("a directory");
        let data = format!("data_dir = {:?}", dir.path().join("data").display().to_string());
        let mut text = read(sample);
        for (said, instead) in [("data_dir = \"/var/lib/barid\"", &*data)].iter().chain(places) {
            assert!(text.contains(said), "{sample} does not say {said}");
            text = text.replacen(said, instead, 1);
        }
        // where the world is: its DNS, the port of its mail hosts, and that they are on this machine
        text = with(&text, "[dns]", &format!("servers = [\"{}\"]", world.dns));
        let delivery = format!("port = {}\nallow_loopback = true", world.mail.port());
        text = with(&text, "[delivery]", &delivery);
        let config = dir.path().join("barid.toml");
        std::fs::write(&config, text).expect("written");
        let relay = Relay::start(&config, &[]).await;
        Running { relay, world, dir }
    }

    /// A connection from one of loopback's many addresses.
    async fn connect(&self, from: [u8; 4]) -> Result<Sender, SendError> {
        Sender::over(connect(self.relay.smtp, from).await).await
    }

    /// Hands one message over.
    async fn send(&self, from: [u8; 4], sender: &str, to: &str) -> Result<(), SendError> {
        self.connect(from).await?.send(&letter(sender, to)).await
    }

    async fn arrives(&self, to: &str) {
        let mine = |(_, recipients): &(String, Vec<String>)| recipients.iter().any(|one| one == to);
        eventually(to, || self.world.arrived().iter().any(mine).then_some(())).await;
    }

    /// Who is no client is told so at once, and a client that its sender's domain is another's.
    async fn refuses_strangers_and_forgers(&self, client: [u8; 4], forged: &str, to: &str) {
        let told = refusal(self.connect(STRANGER).await);
        assert!(told.starts_with("554 5.7.1 relaying denied"), "{told}");
        let told = refusal(self.send(client, forged, to).await);
        assert!(told.starts_with("550 5.7.1 you may not send from this domain"), "{told}");
    }

    fn accepted_from(&self, client: &str) -> u64 {
        let (_, metrics) = self.relay.get("/metrics");
        // of whatever class
        let head = format!("barid_accepted_messages_total{{client=\"{client}\"");
        let samples = metrics.lines().filter(|line| line.starts_with(&head));
        samples.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
    }

    async fn end(self) {
        assert!(self.relay.terminate().await.success());
        drop(self.dir);
    }
}

/// Where the office of the sample is in a test.
const OFFICE: [(&str, &str); 4] = [
    ("0.0.0.0:25", "127.0.0.1:0"),
    ("127.0.0.1:8025", "127.0.0.1:0"),
    ("192.168.10.0/24", "127.0.10.0/24"),
    ("192.168.20.0/24", "127.0.20.0/24"),
];

/// A configuration with more lines in a section, which may be missing yet.
fn with(text: &str, section: &str, lines: &str) -> String {
    let header = format!("\n{section}\n");
    let longer = format!("{header}{lines}\n");
    if text.contains(&header) { text.replacen(&header, &longer, 1) } else { format!("{text}{longer}") }
}

async fn connect(to: SocketAddr, from: [u8; 4]) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind((Ipv4Addr::from(from), 0).into()).expect("binds");
    socket.connect(to).await.expect("connects")
}

fn letter(sender: &str, to: &str) -> Letter {
    let address = |text: &str| Address::parse(text).expect("an address");
    Letter {
        from: ReversePath::Address(address(sender)),
        recipients: vec![Recipient::plain(address(to))],
        content: format!("From: {sender}\r\nSubject: to {to}\r\n\r\ntext\r\n").into_bytes(),
    }
}

/// The reply by which something was refused.
fn refusal<T>(result: Result<T, SendError>) -> String {
    match result {
        Err(SendError::Refused(reply)) => reply.to_string(),
        Err(other) => panic!("not refused: {other}"),
        Ok(_) => panic!("not refused"),
    }
}

const PC: [u8; 4] = [127, 0, 10, 5];
const PRINTER: [u8; 4] = [127, 0, 20, 5];
const STRANGER: [u8; 4] = [127, 0, 99, 9];

#[tokio::test(flavor = "multi_thread")]
async fn the_office_sends_from_its_networks_and_its_domain_and_nobody_else_does() {
    let office = Running::start("deploy/samples/office.toml", &OFFICE).await;
    office.send(PC, "anna@example.org", "pc@prompt.test").await.expect("accepted");
    office.send(PRINTER, "scans@example.org", "scan@prompt.test").await.expect("accepted");
    office.send([127, 0, 0, 1], "root@relay.example.org", "cron@prompt.test").await.expect("accepted");
    for to in ["pc@prompt.test", "scan@prompt.test", "cron@prompt.test"] {
        office.arrives(to).await;
    }
    for (client, sent) in [("pcs", 1), ("printers", 1), ("this-machine", 1)] {
        assert_eq!(office.accepted_from(client), sent, "{client}");
    }
    office.refuses_strangers_and_forgers(PC, "anna@example.com", "forged@prompt.test").await;
    office.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_printer_of_the_office_that_runs_amok_is_put_off_and_its_bare_line_ends_are_mended() {
    let office = Running::start("deploy/samples/office.toml", &OFFICE).await;
    let mut bare = letter("scans@example.org", "bare@prompt.test");
    bare.content = b"Subject: a scan\r\n\r\none\ntwo\r\n".to_vec();
    let refused = office.connect(PC).await.expect("connects").send(&bare).await;
    let reply = refusal(refused);
    assert!(reply.starts_with('5'), "a PC may not send bare line ends: {reply}");
    office.connect(PRINTER).await.expect("connects").send(&bare).await.expect("accepted");
    office.arrives("bare@prompt.test").await;
    assert!(office.world.arrived().iter().any(|(content, _)| content.ends_with("\r\n\r\none\r\ntwo\r\n")));
    // ten a minute; what little comes in while this runs is not worth three more
    let mut printer = office.connect(PRINTER).await.expect("connects");
    let scan = letter("scans@example.org", "scan@prompt.test");
    let mut refused = None;
    for _ in 0..12 {
        if let Err(error) = printer.send(&scan).await {
            refused = Some(error);
            break;
        }
    }
    let reply = refusal(refused.map_or(Ok(()), Err));
    assert!(reply.starts_with("450 4.7.1 too many messages"), "{reply}");
    office.send(PC, "anna@example.org", "pc@prompt.test").await.expect("nobody else is put off for it");
    office.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_office_is_offered_starttls() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let places = [
        ("0.0.0.0:25", "127.0.0.1:0"),
        ("127.0.0.1:8025", "127.0.0.1:0"),
        ("192.168.10.0/24", "127.0.10.0/24"),
    ];
    let office = Running::start("deploy/samples/office.toml", &places).await;
    let mut stream = connect(office.relay.smtp, PC).await;
    stream.write_all(b"EHLO pc.example.org\r\nQUIT\r\n").await.expect("written");
    let mut said = String::new();
    tokio::time::timeout(DEADLINE, stream.read_to_string(&mut said)).await.expect("in time").expect("read");
    assert!(said.contains("STARTTLS\r\n") && said.starts_with("220 relay.example.org "), "{said}");
    office.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn applications_have_their_own_domains_and_limits() {
    const SHOP: [u8; 4] = [127, 20, 1, 4];
    const BACK_OFFICE: [u8; 4] = [127, 20, 2, 9];
    const NEWSLETTER: [u8; 4] = [127, 20, 2, 70];
    let places = [
        ("10.20.0.5:25", "127.0.0.1:0"),
        ("127.0.0.1:8025", "127.0.0.1:0"),
        ("10.20.1.0/28", "127.20.1.0/28"),
        ("10.20.2.0/24", "127.20.2.0/24"),
        ("10.20.2.70/32", "127.20.2.70/32"),
    ];
    let relay = Running::start("deploy/samples/applications.toml", &places).await;
    for (from, sender, to) in [
        (SHOP, "orders@example.org", "receipt@prompt.test"),
        (BACK_OFFICE, "bills@erp.example.org", "bill@prompt.test"),
        (NEWSLETTER, "weekly@news.example.org", "reader@prompt.test"),
    ] {
        relay.send(from, sender, to).await.expect("accepted");
        relay.arrives(to).await;
    }
    for client in ["shop", "back-office", "newsletter"] {
        assert_eq!(relay.accepted_from(client), 1, "{client}");
    }
    // the newsletter stands in the back office's network, and may not use its domains for all that
    for (from, sender) in [
        (NEWSLETTER, "orders@example.org"),
        (SHOP, "weekly@news.example.org"),
        (BACK_OFFICE, "somebody@example.com"),
    ] {
        let told = refusal(relay.send(from, sender, "forged@prompt.test").await);
        assert!(told.starts_with("550 5.7.1 you may not send from this domain"), "{told}");
    }
    let told = refusal(relay.connect([127, 20, 1, 16]).await);
    assert!(told.starts_with("554 5.7.1 relaying denied"), "behind the shop's /28: {told}");
    let mut open = Vec::new();
    for _ in 0..20 {
        open.push(relay.connect(NEWSLETTER).await.expect("within its limit"));
    }
    let told = refusal(relay.connect(NEWSLETTER).await);
    assert!(told.starts_with("421 4.7.0 too many connections"), "{told}");
    relay.send(SHOP, "orders@example.org", "late@prompt.test").await.expect("the shop has its own places");
    drop(open);
    relay.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_relay_everything_goes_there_but_what_stays_in_the_house() {
    let (world, house) = (World::build(&[]).await, World::build(&[]).await);
    let (next, inside) = (world.mail.to_string(), house.mail.to_string());
    let places = [
        ("0.0.0.0:25", "127.0.0.1:0"),
        ("127.0.0.1:8025", "127.0.0.1:0"),
        ("192.168.30.0/24", "127.0.30.0/24"),
        ("192.0.2.25:25", &*next),
        ("192.168.30.9:25", &*inside),
    ];
    let branch = Running::start_in("deploy/samples/behind-a-relay.toml", &places, world).await;
    let pc = [127, 0, 30, 7];
    // no DNS knows this domain
    branch.send(pc, "ben@example.org", "you@nowhere.invalid").await.expect("accepted");
    branch.send(pc, "ben@example.org", "colleague@intern.example.org").await.expect("accepted");
    branch.arrives("you@nowhere.invalid").await;
    let (_, to) = eventually("mail within the house", || house.arrived().pop()).await;
    assert_eq!(to, ["colleague@intern.example.org"]);
    assert_eq!(branch.world.arrived().len(), 1, "the house's mail went to the next relay");
    branch.refuses_strangers_and_forgers(pc, "ben@example.com", "forged@nowhere.invalid").await;
    branch.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_may_send_and_what_comes_by_the_gateway_may_not() {
    let places = [
        ("0.0.0.0:2525", "127.0.0.1:0"),
        ("0.0.0.0:8025", "127.0.0.1:0"),
        ("172.31.25.128/25", "127.31.25.128/25"),
    ];
    let world = World::build(&[("prompt.test", Behaviour::default())]).await;
    let relay = Running::start_in("deploy/container/barid.toml", &places, world).await;
    relay.send([127, 31, 25, 130], "app@example.org", "you@prompt.test").await.expect("accepted");
    relay.arrives("you@prompt.test").await;
    let told = refusal(relay.connect([127, 31, 25, 1]).await);
    assert!(told.starts_with("554 5.7.1 relaying denied"), "{told}");
    relay.end().await;
}
