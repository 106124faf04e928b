//! What the service manager hears.

use std::ffi::OsStr;
use std::os::unix::net::UnixDatagram;

use barid::sim::{Behaviour, Sender};

use crate::support::{Place, Relay, Variation, World, eventually};

/// The next word to the service manager.
async fn heard(manager: &UnixDatagram) -> String {
    eventually("a word to the service manager", || {
        let mut word = [0; 256];
        let length = manager.recv(&mut word).ok()?;
        Some(String::from_utf8_lossy(&word[..length]).into_owned())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_manager_hears_of_readiness_when_mail_can_come_in_and_of_the_stop() {
    let world = World::build(&[("prompt.test", Behaviour::default())]).await;
    let place = Place::new(&world, &Variation::default());
    let socket = place.data().with_file_name("notify");
    let manager = UnixDatagram::bind(&socket).expect("binds");
    manager.set_nonblocking(true).expect("set");
    let environment: [(&str, &OsStr); 1] = [("NOTIFY_SOCKET", socket.as_os_str())];
    let relay = Relay::start(place.config(), &environment).await;
    assert_eq!(heard(&manager).await, "STATUS=opening the queue");
    assert!(heard(&manager).await.starts_with("READY=1\n"));
    Sender::connect(relay.smtp).await.expect("mail can come in");
    relay.tell_to_stop();
    assert!(heard(&manager).await.starts_with("STOPPING=1\n"));
    assert!(relay.ended().await.success());
}
