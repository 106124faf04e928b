//! A relay under attack: warmed up, watched, and used by a normal client all the while.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use barid::sim::{Behaviour, Sender};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::support::{DEADLINE, Place, Relay, Variation, World, eventually, letter};

/// What an attack may leave behind in memory.
const LEFT_BEHIND_MAX_KIB: u64 = 16 << 10;
/// How often the normal client comes.
const WITNESS_COMES: Duration = Duration::from_millis(50);
/// Nearly all of its mail is taken within this; the machine may be slow, but not always.
const SERVED_WITHIN: Duration = Duration::from_secs(2);
/// Messages before the attack, over each of so many connections.
const WARM_UP: (usize, usize) = (8, 25);

/// A relay, its destinations, and the client that must not notice anything.
pub(crate) struct Siege {
    pub(crate) relay: Relay,
    place: Place,
    world: World,
    calm_kib: u64,
    served: Arc<AtomicUsize>,
    over: watch::Sender<bool>,
    witness: JoinHandle<Vec<Duration>>,
}

/// What came out at the other end: content, and recipients.
pub(crate) type Arrived = Vec<(Vec<u8>, String)>;

impl Siege {
    /// A relay with these lines at the end of its configuration. Mail for `prompt.test` is delivered at once.
    pub(crate) async fn begin(more: &'static str) -> Self {
        let world = World::build(&[("prompt.test", Behaviour::default())]).await;
        let place = Place::new(&world, &Variation { more, ..Variation::default() });
        let relay = place.start().await;
        warm_up(&relay).await;
        eventually("everything is delivered", || is_delivered(&relay)).await;
        let calm_kib = rss_kib(&relay);
        let (over, ends) = watch::channel(false);
        let served = Arc::new(AtomicUsize::new(0));
        let witness = tokio::spawn(come_again_and_again(relay.smtp, served.clone(), ends));
        Siege { relay, place, world, calm_kib, served, over, witness }
    }

    /// Waits until the normal client was served so many more times.
    pub(crate) async fn others_are_served(&self, times: usize) {
        let before = self.served.load(Ordering::Relaxed);
        eventually("the normal client is served", || {
            (self.served.load(Ordering::Relaxed) >= before + times).then_some(())
        })
        .await;
    }

    /// The attack is over: looks at everything that it must not have harmed, and gives what was delivered,
    /// the normal client's mail aside.
    pub(crate) async fn end(self, what: &str) -> Arrived {
        let Siege { relay, place, world, calm_kib, over, witness, .. } = self;
        over.send(true).expect("the normal client waits for it");
        let mut took = witness.await.expect("the normal client is served");
        eventually("everything is delivered", || is_delivered(&relay)).await;
        eventually("no connections", || {
            (metric(&relay, "barid_inbound_connections_open", "role=\"relay\"") == 0.0).then_some(())
        })
        .await;
        let at_once = rss_kib(&relay);
        let peak_kib = memory_kib(&relay, "VmHWM:");
        // the allocator gives pages back in its own time
        let least_kib = eventually("memory to come back", || {
            Some(rss_kib(&relay)).filter(|now| *now <= calm_kib + LEFT_BEHIND_MAX_KIB)
        })
        .await;
        took.sort();
        let most = took.last().copied().unwrap_or_default();
        let usual = took[(took.len() - 1) * 19 / 20];
        println!(
            "{what}: {} served, 95 % within {usual:?}, all within {most:?}; RSS {calm_kib} KiB before, \
             {peak_kib} KiB at most, {at_once} KiB after, {least_kib} KiB in the end",
            took.len()
        );
        assert!(usual <= SERVED_WITHIN && most <= DEADLINE / 3, "{what}: others waited {usual:?}, {most:?}");
        let panicked: Vec<_> = relay.log().into_iter().filter(|line| line.contains("panicked")).collect();
        assert!(panicked.is_empty(), "{what}: {panicked:?}");
        assert!(relay.terminate().await.success(), "{what}");
        let (status, out, _) = place.barid(&["spool", "verify", "--json"]);
        assert!(status.success() && out.contains("\"bodies\":0"), "{what}: {out}");
        let files = std::fs::read_dir(place.data().join("bodies")).expect("lists").count();
        assert_eq!(files, 0, "{what}: bodies that belong to no message");
        arrived(&world, took.len())
    }
}

/// What was delivered, without what is normal.
fn arrived(world: &World, witnessed: usize) -> Arrived {
    let told = |(content, to): (Vec<u8>, Vec<_>)| {
        (content, to.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
    };
    let (normal, others): (Arrived, Arrived) =
        world.remote.take_arrivals().messages.into_iter().map(told).partition(|(_, to)| {
            let to = to.as_str();
            to == "normal@prompt.test" || to == "warm@prompt.test"
        });
    let normal = normal.iter().filter(|(_, to)| to == "normal@prompt.test").count();
    assert_eq!(normal, witnessed, "each message of the normal client arrives once");
    others
}

/// Normal mail, so that everything that grows once has grown.
async fn warm_up(relay: &Relay) {
    let (connections, messages) = WARM_UP;
    let clients = (0..connections).map(|_| {
        let to = relay.smtp;
        tokio::spawn(async move {
            let mut sender = Sender::connect(to).await.expect("connects");
            for number in 0..messages {
                let mut mail = letter(&["warm@prompt.test"], "warm");
                mail.content.extend_from_slice("a line of text\r\n".repeat(number * 100).as_bytes());
                sender.send(&mail).await.expect("accepted");
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.expect("is served");
    }
}

/// The normal client: a connection and a message every so often; how long each took.
async fn come_again_and_again(
    relay: std::net::SocketAddr,
    served: Arc<AtomicUsize>,
    mut over: watch::Receiver<bool>,
) -> Vec<Duration> {
    let (mut took, mut ticks) = (Vec::new(), interval(WITNESS_COMES));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let begun = Instant::now();
        let mut sender = Sender::connect(relay).await.expect("the normal client is let in");
        sender.send(&letter(&["normal@prompt.test"], "normal")).await.expect("normal mail is taken");
        took.push(begun.elapsed());
        served.fetch_add(1, Ordering::Relaxed);
        tokio::select! {
            _ = over.wait_for(|over| *over) => return took,
            _ = ticks.tick() => {}
        }
    }
}

/// The sum of a metric over those of its labels that hold this.
fn metric(relay: &Relay, name: &str, label: &str) -> f64 {
    let (_, text) = relay.get("/metrics");
    let of_name = |line: &&str| line.starts_with(name) && line.contains(label);
    let value = |line: &str| line.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok());
    text.lines().filter(of_name).filter_map(value).sum()
}

/// Whether everything that was accepted has been delivered; each message here has one recipient.
fn is_delivered(relay: &Relay) -> Option<()> {
    let accepted = metric(relay, "barid_accepted_messages_total", "");
    (metric(relay, "barid_delivered_recipients_total", "") >= accepted).then_some(())
}

/// Memory of the relay that is in use.
fn rss_kib(relay: &Relay) -> u64 {
    memory_kib(relay, "VmRSS:")
}

fn memory_kib(relay: &Relay, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", relay.pid())).expect("it lives");
    let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a size");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}
