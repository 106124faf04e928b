//! What operators order: scripted worlds in which mail is stopped, let go and pushed.

use super::*;
use crate::outbound::{Lift, Operate};

/// Soon enough for a person who waits.
const SOON: Duration = Duration::from_secs(4);

fn start(world: &mut World) -> Life {
    let clock = Clock::Runtime(RuntimeClock::starting_at(world.now));
    world.start(clock, Faults::default()).expect("starts")
}

async fn order(life: &Life, kind: Kind, target: Target, until: Option<Timestamp>) {
    let order = Order::new(kind, target, life.network.clock.now(), until);
    life.manager.send(Operate(order)).await.expect("lives").expect("is written");
}

async fn lift(life: &Life, kind: Kind, target: Target) {
    assert!(life.manager.send(Lift { kind, target }).await.expect("lives").expect("is written"));
}

/// The letters that arrived, in order of their numbers.
fn arrived(world: &World) -> Vec<u32> {
    assert_eq!(lock(&world.ledger).violation, None);
    let mut arrived = lock(&world.ledger).arrivals.clone();
    arrived.sort_unstable();
    arrived
}

fn of_domain(name: &str) -> Target {
    Target::Domain(domain(name))
}

#[test]
fn a_suspended_domain_waits_until_it_is_resumed_and_others_do_not() {
    paused_system().block_on(async {
        let mut world = World::new(1);
        let life = start(&mut world);
        post_one(&world, &life, (0, "a.example"), ("apps", Class::Normal)).await;
        sleep(SOON).await;
        order(&life, Kind::Suspend, of_domain("a.example"), None).await;
        // the domain is awake at first, and has long gone to sleep at last
        for number in 1..4 {
            post_one(&world, &life, (number, "a.example"), ("apps", Class::Normal)).await;
            post_one(&world, &life, (10 + number, "c.example"), ("apps", Class::Normal)).await;
            sleep(Duration::from_secs(60)).await;
        }
        assert_eq!(arrived(&world), [0, 11, 12, 13]);
        lift(&life, Kind::Suspend, of_domain("a.example")).await;
        sleep(SOON).await;
        assert_eq!(arrived(&world), [0, 1, 2, 3, 11, 12, 13]);
    });
}

#[test]
fn an_order_that_is_given_again_while_it_is_lifted_is_in_force_where_its_row_is() {
    paused_system().block_on(async {
        let mut world = World::new(1);
        let life = start(&mut world);
        order(&life, Kind::Suspend, of_domain("a.example"), None).await;
        let again = Order::new(Kind::Suspend, of_domain("a.example"), life.network.clock.now(), None);
        let lifted = Lift { kind: Kind::Suspend, target: of_domain("a.example") };
        let (given, lifted) = tokio::join!(life.manager.send(Operate(again)), life.manager.send(lifted));
        assert!(given.expect("lives").is_ok() && lifted.expect("lives").is_ok());
        let left = OrderSet::read(life.store.reader()).expect("reads");
        let is_written = left.iter().any(|order| order.kind == Kind::Suspend);
        post_one(&world, &life, (1, "a.example"), ("apps", Class::Normal)).await;
        sleep(SOON).await;
        assert_eq!(arrived(&world).is_empty(), is_written);
    });
}

#[test]
fn a_clients_mail_is_held_beside_others_and_comes_when_it_is_released() {
    paused_system().block_on(async {
        let mut world = World::new(1);
        let life = start(&mut world);
        let news = || Target::Client(ClientName::parse("news").expect("a name"));
        order(&life, Kind::Hold, news(), None).await;
        for number in 0..5 {
            post_one(&world, &life, (number, "a.example"), ("news", Class::Normal)).await;
            post_one(&world, &life, (10 + number, "a.example"), ("shop", Class::Normal)).await;
        }
        sleep(Duration::from_secs(120)).await;
        assert_eq!(arrived(&world), [10, 11, 12, 13, 14]);
        lift(&life, Kind::Hold, news()).await;
        sleep(SOON).await;
        assert_eq!(arrived(&world).len(), 10);
    });
}

#[test]
fn everything_may_stop_for_a_while_and_that_outlives_a_crash() {
    let mut world = World::new(1);
    let until = paused_system().block_on(async {
        let life = start(&mut world);
        let until = world.now.after(Duration::from_secs(600));
        order(&life, Kind::Suspend, Target::Everything, Some(until)).await;
        post_one(&world, &life, (0, "a.example"), ("apps", Class::Normal)).await;
        sleep(Duration::from_secs(20)).await;
        world.now = life.network.clock.now();
        until
    });
    world.crash(&End::Killed);
    paused_system().block_on(async {
        let life = start(&mut world);
        post_one(&world, &life, (1, "c.example"), ("apps", Class::Normal)).await;
        sleep(until.since(life.network.clock.now())).await;
        assert_eq!(arrived(&world).len(), 0);
        sleep(SOON).await;
        assert_eq!(arrived(&world), [0, 1]);
    });
}

#[test]
fn a_flush_tries_at_once_what_was_put_off_and_what_rests() {
    paused_system().block_on(async {
        let mut world = World::new(1);
        let life = start(&mut world);
        life.network.set_temper(0, Temper { puts_off: 1000, ..Temper::GOOD });
        life.network.set_temper(3, Temper { is_down: true, ..Temper::GOOD });
        life.network.set_temper(4, Temper { is_down: true, ..Temper::GOOD });
        for number in 0..3 {
            post_one(&world, &life, (number, "a.example"), ("apps", Class::Normal)).await;
            post_one(&world, &life, (10 + number, "d.example"), ("apps", Class::Normal)).await;
        }
        // the last wait of the schedule is a minute, and a dead host rests for longer
        sleep(Duration::from_secs(200)).await;
        [0, 3, 4].iter().for_each(|host| life.network.set_temper(*host, Temper::GOOD));
        order(&life, Kind::Flush, of_domain("a.example"), None).await;
        sleep(SOON).await;
        assert_eq!(arrived(&world), [0, 1, 2]);
        order(&life, Kind::Flush, Target::Everything, None).await;
        sleep(SOON).await;
        assert_eq!(arrived(&world), [0, 1, 2, 10, 11, 12]);
    });
}
