//! Settings that change while mail is under way.

use std::net::SocketAddr;

use super::names::host_address;
use super::*;
use crate::outbound::FixedRoute;

/// Soon enough for a person who waits.
const SOON: Duration = Duration::from_secs(4);

impl World {
    /// Other settings hold from now on, within the limits that the world knows.
    pub(super) fn reload(&mut self, life: &Life) {
        let rng = &mut self.rng;
        let mut other = settings(self.size);
        other.connections_max = rng.usize(1..=other.connections_max);
        other.connections_per_site_max = rng.usize(1..=other.connections_per_site_max);
        other.rate_per_site_max = rng.bool().then(|| 1.0 + 9.0 * rng.f64());
        other.messages_per_connection_max = rng.u32(1..20);
        if rng.bool() {
            other.caps.providers.clear();
        }
        if rng.bool() {
            other.caps.domains.clear();
        }
        if rng.bool() {
            other.routes = route("d.example", rng.usize(3..5));
        }
        // the network outside counts connections to the most that there may ever be
        self.settings = Settings { connections_max: settings(self.size).connections_max, ..other.clone() };
        life.deps.change(other);
    }
}

/// Mail for a domain goes to a host.
fn route(name: &str, host: usize) -> Routes {
    let domains = vec![DomainPattern::parse(name).expect("a pattern")];
    Routes(vec![FixedRoute { domains, via: SocketAddr::new(host_address(host), 25) }])
}

fn start(world: &mut World) -> Life {
    let clock = Clock::Runtime(RuntimeClock::starting_at(world.now));
    world.start(clock, Faults::default()).expect("starts")
}

fn arrived(world: &World) -> usize {
    let ledger = lock(&world.ledger);
    assert_eq!(ledger.violation, None);
    ledger.arrivals.len()
}

async fn post(world: &World, life: &Life, numbers: std::ops::Range<u32>, domain: &str) {
    for number in numbers {
        post_one(world, life, (number, domain), ("apps", Class::Normal)).await;
    }
}

#[test]
fn settings_that_change_all_the_time_cost_no_mail() {
    for seed in 0..60 {
        let mut world = World::new(seed);
        world.reloads = true;
        if let Err(why) = run_world(&mut world, Wrong::Nothing) {
            panic!("seed {seed}: {why}");
        }
    }
}

#[test]
fn mail_behind_a_dead_host_goes_by_a_new_route_at_once() {
    paused_system().block_on(async {
        let mut world = World::new(1);
        let life = start(&mut world);
        life.network.set_temper(3, Temper { is_down: true, ..Temper::GOOD });
        life.network.set_temper(4, Temper { is_down: true, ..Temper::GOOD });
        post(&world, &life, 0..5, "d.example").await;
        // so long that nobody lives any more who could hear of it
        sleep(Duration::from_secs(30)).await;
        assert_eq!(arrived(&world), 0);
        life.deps.change(Settings { routes: route("d.example", 5), ..settings(world.size) });
        life.manager.do_send(outbound::WaysChanged);
        sleep(SOON).await;
        assert_eq!(arrived(&world), 5);
    });
}

#[test]
fn what_waits_within_a_limit_goes_when_there_is_none_and_a_new_one_is_obeyed() {
    paused_system().block_on(async {
        let mut world = World::new(1);
        world.settings.caps = Caps::default();
        let life = start(&mut world);
        let (limited, free) =
            (settings(world.size), Settings { caps: Caps::default(), ..settings(world.size) });
        // awake while the limit of its own comes: half a message a second
        post(&world, &life, 0..1, "b.example").await;
        sleep(SOON).await;
        life.deps.change(limited);
        sleep(SOON).await;
        post(&world, &life, 1..61, "b.example").await;
        sleep(Duration::from_secs(20)).await;
        let by_then = arrived(&world);
        assert!((8..16).contains(&by_then), "{by_then} in 20 seconds, at half a message a second");
        life.deps.change(free);
        sleep(SOON + SOON).await;
        assert_eq!(arrived(&world), 61);
    });
}

#[test]
fn a_site_gets_more_connections_and_fewer_as_the_settings_have_it() {
    paused_system().block_on(async {
        let mut world = World::new(1);
        world.settings.copies_max = 1000;
        let life = start(&mut world);
        life.network.set_temper(0, Temper { latency: Duration::from_millis(100), ..Temper::GOOD });
        let with = |most: usize| Settings {
            connections_per_site_max: most,
            copies_max: 1000,
            ..settings(world.size)
        };
        life.deps.change(with(1));
        post(&world, &life, 0..900, "a.example").await;
        let mut rates = Vec::new();
        for most in [1, 3, 1] {
            life.deps.change(with(most));
            sleep(Duration::from_secs(10)).await;
            let before = arrived(&world);
            sleep(Duration::from_secs(20)).await;
            rates.push(arrived(&world) - before);
        }
        assert!(rates[1] > 2 * rates[0] && rates[1] > 2 * rates[2], "{rates:?}");
    });
}
