//! Who goes first: scripted worlds in which much mail waits for one destination.

use super::*;

/// A world with one slow host and a queue of bulk mail for it; nothing fails.
async fn with_backlog(letters: u32) -> (World, Life) {
    let mut world = World::new(1);
    // more than a path's window, which bulk mail can fill
    world.settings.copies_max = 1000;
    let clock = Clock::Runtime(RuntimeClock::starting_at(world.now));
    let life = world.start(clock, Faults::default()).expect("starts");
    life.network.set_temper(0, Temper { latency: Duration::from_millis(3), ..Temper::GOOD });
    for number in 0..letters {
        post_one(&world, &life, (number, "a.example"), ("news", Class::Bulk)).await;
    }
    (world, life)
}

async fn until_arrived(world: &World, number: u32) -> usize {
    let started = Instant::now();
    loop {
        let at = lock(&world.ledger).arrivals.iter().position(|arrived| *arrived == number);
        if let Some(at) = at {
            return at;
        }
        assert!(started.elapsed() < Duration::from_secs(600), "letter {number} does not arrive");
        sleep(Duration::from_millis(10)).await;
    }
}

#[test]
fn a_transactional_message_is_the_next_one_behind_a_long_line_of_bulk() {
    paused_system().block_on(async {
        let (world, life) = with_backlog(900).await;
        until_arrived(&world, 20).await;
        let before = lock(&world.ledger).arrivals.len();
        post_one(&world, &life, (9000, "a.example"), ("shop", Class::Transactional)).await;
        let at = until_arrived(&world, 9000).await;
        // what is on the wire is finished: one on each connection, and one more taken meanwhile
        let in_flight = 2 * world.settings.connections_per_site_max;
        assert!(at <= before + in_flight, "{} bulk messages went before it", at - before);
    });
}

#[test]
fn a_clients_few_messages_do_not_wait_behind_anothers_many() {
    paused_system().block_on(async {
        let (world, life) = with_backlog(900).await;
        until_arrived(&world, 20).await;
        let before = lock(&world.ledger).arrivals.len();
        for number in 9000..9010 {
            post_one(&world, &life, (number, "a.example"), ("office", Class::Bulk)).await;
        }
        let at = until_arrived(&world, 9009).await;
        // a window of the other's may be read already; behind it they take turns
        let window = 256;
        assert!(at <= before + window + 40, "{} went before the tenth of them", at - before);
    });
}
