//! What must not cost mail: scripted worlds in which something around the relay is wrong for long.

use super::*;

const DAY: Duration = Duration::from_secs(86_400);

/// A world with good hosts and mail that lives for five days.
fn calm_world() -> (World, Life, RuntimeClock) {
    let mut world = World::new(1);
    world.settings.expire_after = 5 * DAY;
    let clock = RuntimeClock::starting_at(world.now);
    let life = world.start(Clock::Runtime(clock.clone()), Faults::default()).expect("starts");
    (world, life, clock)
}

fn arrived(world: &World) -> usize {
    lock(&world.ledger).arrivals.len()
}

fn check_no_violation(world: &World) {
    assert_eq!(lock(&world.ledger).violation, None);
}

#[test]
fn a_resolver_that_denies_everything_for_an_hour_bounces_nothing() {
    paused_system().block_on(async {
        let (world, life, _) = calm_world();
        life.names.deny_all(true);
        let domains = ["a.example", "b.example", "c.example", "d.example", "e.example", "f.example"];
        for number in 0..60 {
            post_one(
                &world,
                &life,
                (number, domains[number as usize % domains.len()]),
                ("apps", Class::Normal),
            )
            .await;
            sleep(Duration::from_secs(60)).await;
        }
        assert_eq!(arrived(&world), 0);
        check_no_violation(&world);
        life.names.deny_all(false);
        sleep(Duration::from_secs(15 * 60)).await;
        assert_eq!((arrived(&world), queue::count(life.store.reader()).expect("counts")), (60, 0));
        check_no_violation(&world);
    });
}

#[test]
fn a_clock_that_jumps_a_month_ahead_expires_nothing() {
    paused_system().block_on(async {
        let (world, life, clock) = calm_world();
        (0..HOSTS).for_each(|host| {
            life.network.set_temper(host, Temper { puts_off: 1000, ..Temper::GOOD });
        });
        for number in 0..20 {
            post_one(
                &world,
                &life,
                (number, ["a.example", "c.example"][number as usize % 2]),
                ("apps", Class::Normal),
            )
            .await;
        }
        sleep(Duration::from_secs(120)).await;
        clock.set_ahead(30 * DAY);
        sleep(Duration::from_secs(600)).await;
        assert_eq!(queue::count(life.store.reader()).expect("counts"), 20, "tried, and kept");
        (0..HOSTS).for_each(|host| life.network.set_temper(host, Temper::GOOD));
        sleep(Duration::from_secs(600)).await;
        assert_eq!((arrived(&world), queue::count(life.store.reader()).expect("counts")), (20, 0));
        check_no_violation(&world);
    });
}
