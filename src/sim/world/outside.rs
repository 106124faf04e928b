//! What changes outside the relay as the seed has it: hosts, the DNS, operators; and how all of it heals at last.

use super::*;

impl World {
    /// Something changes outside.
    pub(super) fn stir(&mut self, life: &Life) {
        if self.rng.u8(..4) > 0 {
            return;
        }
        let host = self.rng.usize(..HOSTS - 1);
        let (rng, rarely) = (&mut self.rng, 60);
        let temper = Temper {
            is_down: rng.u8(..6) == 0,
            is_silent: rng.u8(..12) == 0,
            bad_greeting: if rng.u8(..4) == 0 { 400 } else { 0 },
            sends_away: if rng.u8(..5) == 0 { 300 } else { 0 },
            breaks: if rng.u8(..3) == 0 { rarely } else { 0 },
            puts_off: if rng.u8(..3) == 0 { 500 } else { 0 },
            blocks: if rng.u8(..5) == 0 { 300 } else { 0 },
            pauses: if rng.u8(..5) == 0 { 300 } else { 0 },
            takes: (rng.u8(..5) == 0).then_some(2.0),
            defers: if rng.u8(..4) == 0 { 300 } else { 0 },
            forgets_reply: if rng.u8(..4) == 0 { 200 } else { 0 },
            connections_max: rng.usize(1..6),
            latency: Duration::from_millis(rng.u64(1..300)),
        };
        life.network.set_temper(host, temper);
        let zones = zones();
        let (name, _) = zones[self.rng.usize(..zones.len())];
        let moods = [Mood::Answers, Mood::Answers, Mood::ServFail, Mood::Silent];
        life.names.set_mood(&domain(name), moods[self.rng.usize(..moods.len())]);
        if self.rng.u8(..4) == 0 {
            self.operate(life);
        }
        if self.rng.u8(..8) == 0 {
            self.release_blocked(life);
        }
        if self.reloads {
            self.reload(life);
        }
    }

    /// An operator gives or lifts an order.
    fn operate(&mut self, life: &Life) {
        let kind = [Kind::Suspend, Kind::Hold, Kind::Flush][self.rng.usize(..3)];
        let targets = targets();
        let target = targets[self.rng.usize(..targets.len())].clone();
        if self.rng.bool() {
            let now = life.network.clock.now();
            let until = self.rng.bool().then(|| now.after(self.size.life.mul_f64(self.rng.f64())));
            life.manager.do_send(outbound::Operate(Order::new(kind, target, now, until)));
        } else {
            life.manager.do_send(outbound::Lift { kind, target });
        }
    }

    /// Everything outside works again.
    pub(super) fn heal(&self, life: &Life) {
        (0..DEAD_HOST).for_each(|host| life.network.set_temper(host, Temper::GOOD));
        life.names.heal();
        self.lift_orders(life);
        self.release_blocked(life);
    }

    /// An operator has what receivers blocked tried again.
    pub(super) fn release_blocked(&self, life: &Life) {
        let deps = life.deps.clone();
        // where the disk does not let them now, they come again
        tokio::spawn(async move { drop(blocks::release(&deps).await) });
    }

    pub(super) fn lift_orders(&self, life: &Life) {
        let Ok(orders) = OrderSet::read(life.store.reader()) else { return };
        for order in orders.iter().filter(|order| matches!(order.kind, Kind::Suspend | Kind::Hold)) {
            life.manager.do_send(outbound::Lift { kind: order.kind, target: order.target.clone() });
        }
    }
}
