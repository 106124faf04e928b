//! Receivers that keep mail away: scripted worlds in which one blocks the relay, or wants nothing for a while.

use super::*;
use crate::egress::Closure;
use crate::queue::{BLOCKED, Filter, Walk, WalkOrder};
use crate::store::{Batch, Haste};

/// Rows looked at in one piece.
const PIECE: usize = 500;
/// The hosts of the receiver that is known by name, and of two domains of somebody else.
const KNOWN: [usize; 2] = [1, 2];

/// Does what an operator does: opens the ways that are closed, and releases what was held for that.
pub(super) async fn release(deps: &Deps) -> Result<u64, StoreError> {
    for (receiver, _) in deps.standing.all_closed(deps.clock.now()) {
        outbound::open_receiver(deps, &receiver).await?;
    }
    let mut walk = deps.store.read(|reader| Walk::new(reader, Filter::default(), WalkOrder::Steady)).await?;
    let mut released = 0;
    while !walk.is_over() {
        let leases = deps.leases.clone();
        let read = deps.store.read(move |reader| {
            let piece = walk.lease_piece(reader, &leases, PIECE)?;
            Ok((walk, piece))
        });
        let (next, piece) = read.await?;
        walk = next;
        let mut batch = Batch::new();
        let found = piece.found.iter().filter(|(copy, _)| is_blocked(copy));
        for (copy, _) in found {
            queue::release(&mut batch, copy, deps.clock.now());
            released += 1;
        }
        if !batch.is_empty() {
            deps.store.commit_with(batch, Haste::Now).await?;
        }
    }
    Ok(released)
}

/// How many copies are held because somebody blocks them, and how many there are in all.
fn held(life: &Life) -> (usize, usize) {
    let all = census::all(life.store.reader()).expect("reads");
    (all.iter().filter(|copy| is_blocked(copy)).count(), all.len())
}

fn is_blocked(copy: &queue::Queued) -> bool {
    copy.held().is_some_and(|reason| reason.starts_with(BLOCKED))
}

fn arrived(world: &World) -> usize {
    let ledger = lock(&world.ledger);
    assert_eq!(ledger.violation, None);
    ledger.arrivals.len()
}

fn begin(world: &mut World) -> Life {
    let clock = Clock::Runtime(RuntimeClock::starting_at(world.now));
    world.start(clock, Faults::default()).expect("starts")
}

fn roomy_world() -> World {
    let mut world = World::new(1);
    world.settings.expire_after = Duration::from_secs(5 * 86_400);
    world.settings.block_probe = Duration::from_secs(4 * 3600);
    world.settings.copies_max = 512;
    world.settings.caps = Caps::default();
    world
}

#[test]
fn a_block_in_the_middle_of_a_queue_holds_it_and_one_release_sends_each_once() {
    const MESSAGES: u32 = 10_000;
    let mut world = roomy_world();
    paused_system().block_on(async {
        let life = begin(&mut world);
        KNOWN
            .iter()
            .for_each(|host| life.network.set_temper(*host, Temper { is_down: true, ..Temper::GOOD }));
        for number in 0..MESSAGES {
            post_one(&world, &life, (number, "c.example"), ("apps", Class::Bulk)).await;
        }
        KNOWN.iter().for_each(|host| life.network.set_temper(*host, Temper::GOOD));
        while arrived(&world) < 3000 {
            sleep(Duration::from_millis(100)).await;
        }
        let blocked = Temper { blocks: 1000, ..Temper::GOOD };
        KNOWN.iter().for_each(|host| life.network.set_temper(*host, blocked));
        let deferred = lock(&world.ledger).deferred;
        sleep(Duration::from_secs(60)).await;
        let sent = arrived(&world);
        assert_eq!(held(&life), (MESSAGES as usize - sent, MESSAGES as usize - sent));
        // those that were under way; no more were tried
        let tried = lock(&world.ledger).deferred - deferred;
        assert!(tried <= 3 * world.settings.connections_per_site_max, "{tried} were refused");
        // others get their mail, and new mail for the blocked one is held as it comes
        post_one(&world, &life, (MESSAGES, "a.example"), ("apps", Class::Bulk)).await;
        post_one(&world, &life, (MESSAGES + 1, "c.example"), ("apps", Class::Bulk)).await;
        sleep(Duration::from_secs(60)).await;
        assert_eq!((arrived(&world), held(&life).0), (sent + 1, MESSAGES as usize - sent + 1));
        world.now = life.network.clock.now();
    });
    world.crash(&End::Killed);
    paused_system().block_on(async {
        let life = begin(&mut world);
        post_one(&world, &life, (MESSAGES + 2, "c.example"), ("apps", Class::Bulk)).await;
        sleep(Duration::from_secs(60)).await;
        let (left, all) = held(&life);
        assert_eq!(left, all, "a start forgets no block");
        KNOWN.iter().for_each(|host| life.network.set_temper(*host, Temper::GOOD));
        assert_eq!(release(&life.deps).await.expect("releases"), left as u64);
        while held(&life).1 > 0 {
            sleep(Duration::from_secs(1)).await;
        }
        assert_eq!(arrived(&world), MESSAGES as usize + 3, "each once");
    });
}

#[test]
fn a_message_that_comes_after_a_while_shows_whether_a_block_is_over() {
    let mut world = roomy_world();
    paused_system().block_on(async {
        let life = begin(&mut world);
        let post =
            async |number| post_one(&world, &life, (number, "c.example"), ("apps", Class::Normal)).await;
        KNOWN.iter().for_each(|host| life.network.set_temper(*host, Temper { blocks: 1000, ..Temper::GOOD }));
        post(1).await;
        sleep(Duration::from_secs(5 * 3600)).await;
        assert_eq!(held(&life), (1, 1), "it is not tried again by itself");
        post(2).await;
        sleep(Duration::from_secs(60)).await;
        assert_eq!((held(&life), lock(&world.ledger).deferred), ((2, 2), 2), "that was tried");
        KNOWN.iter().for_each(|host| life.network.set_temper(*host, Temper::GOOD));
        sleep(Duration::from_secs(5 * 3600)).await;
        post(3).await;
        sleep(Duration::from_secs(60)).await;
        post(4).await;
        sleep(Duration::from_secs(60)).await;
        assert_eq!((arrived(&world), held(&life)), (2, (2, 2)));
        assert!(life.deps.standing.all_closed(life.network.clock.now()).is_empty());
    });
}

#[test]
fn one_message_that_somebody_unknown_seems_to_block_closes_nothing() {
    let mut world = roomy_world();
    paused_system().block_on(async {
        let life = begin(&mut world);
        let of_host = |temper| life.network.set_temper(0, temper);
        let post =
            async |number| post_one(&world, &life, (number, "a.example"), ("apps", Class::Normal)).await;
        for number in 0..2 {
            of_host(Temper { blocks: 1000, ..Temper::GOOD });
            post(2 * number).await;
            sleep(Duration::from_secs(20)).await;
            of_host(Temper::GOOD);
            post(2 * number + 1).await;
            sleep(Duration::from_secs(20)).await;
        }
        sleep(Duration::from_secs(120)).await;
        // they are tried again, as nothing shows that all mail is meant
        assert_eq!((arrived(&world), held(&life)), (4, (0, 0)));
        of_host(Temper { blocks: 1000, ..Temper::GOOD });
        for number in 10..20 {
            post(number).await;
        }
        sleep(Duration::from_secs(120)).await;
        assert_eq!((held(&life), arrived(&world)), ((10, 10), 4), "three in a row are enough");
    });
}

#[test]
fn a_pause_costs_waiting_mail_no_attempt_and_ends() {
    let mut world = roomy_world();
    paused_system().block_on(async {
        let life = begin(&mut world);
        let post =
            async |number| post_one(&world, &life, (number, "c.example"), ("apps", Class::Normal)).await;
        KNOWN.iter().for_each(|host| life.network.set_temper(*host, Temper { pauses: 1000, ..Temper::GOOD }));
        post(0).await;
        sleep(Duration::from_secs(5)).await;
        let closed = life.deps.standing.all_closed(life.network.clock.now());
        assert_eq!(closed.iter().map(|(_, closed)| closed.closure).collect::<Vec<_>>(), [Closure::Pause]);
        for number in 1..50 {
            post(number).await;
        }
        sleep(Duration::from_secs(10)).await;
        assert_eq!((lock(&world.ledger).deferred, held(&life)), (1, (0, 50)));
        KNOWN.iter().for_each(|host| life.network.set_temper(*host, Temper::GOOD));
        sleep(Duration::from_secs(30)).await;
        assert_eq!((arrived(&world), lock(&world.ledger).deferred), (50, 1));
    });
}
