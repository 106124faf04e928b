//! Destinations that take so many messages a second and do not say how many: scripted worlds in which that is found out.

use super::*;

/// What is taken at first.
const LIMIT: f64 = 10.0;
const MINUTE: Duration = Duration::from_secs(60);

/// Two hosts of one known provider, which share a limit, with a domain each.
struct Limited {
    world: World,
    life: Life,
    next: u32,
}

impl Limited {
    fn begin(mut world: World) -> Self {
        let clock = Clock::Runtime(RuntimeClock::starting_at(world.now));
        let life = world.start(clock, Faults::default()).expect("starts");
        Limited { world, life, next: 1 }
    }

    fn takes(&self, per_second: f64) {
        [1, 2].iter().for_each(|host| {
            self.life.network.set_temper(*host, Temper { takes: Some(per_second), ..Temper::GOOD });
        });
    }

    /// Lets time pass with more mail in the queue than goes; gives how many messages were taken a second, and which
    /// share was refused.
    async fn run(&mut self, time: Duration) -> (f64, f64) {
        let began = Instant::now();
        self.life.network.within_limit();
        while began.elapsed() < time {
            while queue::count(self.life.store.reader()).expect("counts") < 300 {
                for domain in ["one.example", "two.example"] {
                    post_one(&self.world, &self.life, (self.next, domain), ("apps", Class::Bulk)).await;
                    self.next += 1;
                }
            }
            sleep(Duration::from_secs(2)).await;
        }
        let (taken, refused) = self.life.network.within_limit();
        (taken as f64 / time.as_secs_f64(), refused as f64 / (taken + refused) as f64)
    }
}

fn world() -> World {
    let mut world = World::new(1);
    world.names.add(domain("one.example"), vec![(10, 1)]);
    world.names.add(domain("two.example"), vec![(10, 2)]);
    world.settings.expire_after = Duration::from_secs(5 * 86_400);
    world.settings.delay_notice_after = None;
    world.settings.copies_max = 512;
    world.settings.caps = Caps::default();
    let known = vec![
        DomainPattern::parse("mx1.example").expect("a pattern"),
        DomainPattern::parse("mx2.example").expect("a pattern"),
    ];
    world.settings.caps.providers = vec![("known".into(), known, Cap::default())];
    world.settings.connections_max = 20;
    world
}

#[test]
fn a_limit_that_two_sites_share_is_found_and_left_when_it_is_lifted() {
    paused_system().block_on(async {
        let mut limited = Limited::begin(world());
        limited.takes(LIMIT);
        limited.run(10 * MINUTE).await;
        let (rate, refused) = limited.run(10 * MINUTE).await;
        assert!((rate - LIMIT).abs() < 0.1 * LIMIT, "{rate} a second");
        assert!(refused < 0.01, "{refused} were refused");
        limited.takes(2.0 * LIMIT);
        limited.run(15 * MINUTE).await;
        let (rate, refused) = limited.run(5 * MINUTE).await;
        assert!(rate > 0.9 * 2.0 * LIMIT, "{rate} a second");
        assert!(refused < 0.01, "{refused} were refused");
        assert_eq!(lock(&limited.world.ledger).violation, None);
    });
}

#[test]
fn what_was_found_out_is_known_after_a_restart() {
    let mut world = world();
    let next = paused_system().block_on(async {
        let mut limited = Limited::begin(world);
        limited.takes(LIMIT);
        limited.run(5 * MINUTE).await;
        limited.world.now = limited.life.network.clock.now();
        (limited.world, limited.next)
    });
    world = next.0;
    world.crash(&End::Killed);
    paused_system().block_on(async {
        let mut limited = Limited { next: next.1, ..Limited::begin(world) };
        limited.takes(LIMIT);
        let (_, refused) = limited.run(MINUTE / 6).await;
        assert!(refused < 0.05, "{refused} were refused at once");
        assert_eq!(lock(&limited.world.ledger).violation, None);
    });
}
