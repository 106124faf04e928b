//! Limits that many share: scripted worlds with thousands of domains.

use super::*;

/// Domains that share something.
const DOMAINS: usize = 10_000;

/// A world with room for much, and that many domains more, each at the hosts named.
fn world_of(hosts: impl Fn(usize) -> Vec<(u16, usize)>) -> World {
    let mut world = World::new(1);
    (0..DOMAINS).for_each(|number| world.names.add(domain(&format!("t{number}.example")), hosts(number)));
    world.settings.copies_max = 4096;
    world.settings.domains_max = 2048;
    world.settings.connections_max = 1000;
    world.settings.connections_per_site_max = 10;
    world
}

/// Sends a letter to each domain; gives the most connections that the first host ever had, how many there
/// were, and how long it took.
fn send_to_all(mut world: World) -> (usize, usize, Duration) {
    paused_system().block_on(async {
        let clock = Clock::Runtime(RuntimeClock::starting_at(world.now));
        let life = world.start(clock, Faults::default()).expect("starts");
        // all these hosts are one in this world
        life.network.set_temper(0, Temper { connections_max: 1000, ..Temper::GOOD });
        let started = Instant::now();
        for number in 0..DOMAINS {
            post_one(&world, &life, (number as u32, &format!("t{number}.example")), ("apps", Class::Normal))
                .await;
        }
        while lock(&world.ledger).arrivals.len() < DOMAINS {
            assert!(
                started.elapsed() < Duration::from_secs(3600),
                "{:?}",
                lock(&world.ledger).arrivals.len()
            );
            sleep(Duration::from_secs(1)).await;
        }
        assert_eq!(lock(&world.ledger).violation, None);
        let (peak, taken) = life.network.connections(0);
        (peak, taken, started.elapsed())
    })
}

#[test]
fn domains_on_one_mx_set_share_one_window_and_its_connections() {
    let (peak, taken, _) = send_to_all(world_of(|_| vec![(10, 0)]));
    assert!(peak <= 10, "{peak} connections at once");
    // twenty messages a connection are the limit here
    assert!(taken < DOMAINS / 15, "{taken} connections");
}

/// Ten thousand tenants with mail hosts of their own, under a provider's limit of 40 messages a second.
fn send_to_tenants(connections_max: Option<usize>) -> (usize, usize) {
    let mut world = world_of(|number| vec![(10, 1000 + number)]);
    let cap = Cap { connections_max, per_second: Some(40.0), messages_per_connection: None };
    let below = vec![DomainPattern::parse("*.example").expect("a pattern")];
    world.settings.caps.providers = vec![("tenants".into(), below, cap)];
    let (peak, taken, took) = send_to_all(world);
    let least = DOMAINS as f64 / 40.0;
    assert!((least - 5.0..1.2 * least).contains(&took.as_secs_f64()), "{took:?} at 40 a second");
    (peak, taken)
}

#[test]
fn tenants_with_mail_hosts_of_their_own_share_the_providers_limit() {
    let (peak, _) = send_to_tenants(Some(15));
    // a host may be a little behind: what the relay has closed is still open there for a moment
    assert!(peak <= 17, "{peak} connections at once");
}

#[test]
fn no_connection_is_opened_for_a_tenants_message_that_has_to_wait_for_long() {
    let (peak, taken) = send_to_tenants(None);
    // two seconds' worth stand in line, five seconds' worth are kept for what may come
    assert!(peak <= 40 * 8, "{peak} connections at once");
    assert!(taken <= DOMAINS + DOMAINS / 10, "{taken} connections");
}

#[test]
fn a_dead_host_among_three_costs_no_message_an_attempt() {
    let mut world = World::new(1);
    world.names.add(domain("three.example"), vec![(10, DEAD_HOST), (10, 1), (10, 2)]);
    paused_system().block_on(async {
        let clock = Clock::Runtime(RuntimeClock::starting_at(world.now));
        let life = world.start(clock, Faults::default()).expect("starts");
        for number in 0..200 {
            post_one(&world, &life, (number, "three.example"), ("apps", Class::Normal)).await;
            sleep(Duration::from_millis(200)).await;
        }
        sleep(Duration::from_secs(10)).await;
        let ledger = lock(&world.ledger);
        assert_eq!((ledger.arrivals.len(), ledger.deferred, ledger.violation.clone()), (200, 0, None));
    });
}
