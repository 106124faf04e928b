//! Many connections at once: idle ones, and more than there may be.

use std::net::Ipv4Addr;

use crate::peer::Peer;
use crate::siege::Siege;

/// Connections from one address (`connections_per_address`, as it is where nothing is configured).
const PER_ADDRESS: usize = 200;

#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_idle_connections_are_nobodys_trouble() {
    let siege = Siege::begin("").await;
    let mut idle = Vec::new();
    for (last, count) in [(10, PER_ADDRESS), (11, PER_ADDRESS), (12, PER_ADDRESS / 2)] {
        for _ in 0..count {
            idle.push(Peer::connect_from(Ipv4Addr::new(127, 0, 0, last), siege.relay.smtp).await);
        }
    }
    for peer in &mut idle {
        assert_eq!(peer.codes(1).await, [220]);
    }
    // some stand in the middle of things
    for peer in idle.iter_mut().step_by(3) {
        peer.say(
            b"EHLO c\r\nMAIL FROM:<app@sender.test>\r\nRCPT TO:<never@prompt.test>\r\nDATA\r\nSubject: nev",
        )
        .await;
        assert_eq!(peer.codes(4).await, [250, 250, 250, 354]);
    }
    siege.others_are_served(3).await;
    // more from one address are sent away, others are let in
    for (last, code) in [(10, 421), (11, 421), (12, 220), (13, 220)] {
        let mut more = Peer::connect_from(Ipv4Addr::new(127, 0, 0, last), siege.relay.smtp).await;
        assert_eq!(more.codes(1).await, [code], "from 127.0.0.{last}");
    }
    siege.others_are_served(1).await;
    drop(idle);
    assert_eq!(siege.end("500 idle connections").await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_come_and_go_leave_nothing() {
    let siege = Siege::begin("").await;
    for _ in 0..20 {
        let mut storm = tokio::task::JoinSet::new();
        for _ in 0..50 {
            let relay = siege.relay.smtp;
            // gone before the banner, or with a reset behind it
            storm.spawn(async move {
                let mut peer = Peer::connect_from(Ipv4Addr::new(127, 0, 0, 14), relay).await;
                if fastrand::bool() {
                    assert_eq!(peer.codes(1).await, [220]);
                    peer.stream.set_zero_linger().expect("set");
                }
            });
        }
        storm.join_all().await;
    }
    siege.others_are_served(1).await;
    assert_eq!(siege.end("1000 short connections").await, []);
}
