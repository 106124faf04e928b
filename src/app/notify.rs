//! What the service manager hears: that the relay listens, and that it stops (sd_notify(3)).

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Where the manager waits for us: a path, or behind `@` the name of an abstract socket.
const NOTIFY_SOCKET: &str = "NOTIFY_SOCKET";

/// Whoever has started the relay and waits for word from it; often nobody. That a word was lost is logged
/// and changes nothing: a relay works without a manager.
pub(super) struct ServiceManager(Option<UnixDatagram>);

impl ServiceManager {
    /// The one that the environment names.
    pub(super) fn from_environment() -> Self {
        let socket = std::env::var_os(NOTIFY_SOCKET).filter(|name| !name.is_empty());
        ServiceManager(socket.and_then(|name| match connect(&name) {
            Ok(socket) => Some(socket),
            Err(error) => {
                tracing::warn!(event = "notify_failed", socket = %name.display(), error = %error);
                None
            }
        }))
    }

    /// The queue is being opened, which takes its time where there is much to replay.
    pub(super) fn starting(&self) {
        self.say("STATUS=opening the queue");
    }

    /// Every listener takes connections.
    pub(super) fn ready(&self) {
        self.say("READY=1\nSTATUS=relaying");
    }

    /// No mail is taken any more; what is under way is finished.
    pub(super) fn stopping(&self) {
        self.say("STOPPING=1\nSTATUS=finishing what is under way");
    }

    fn say(&self, word: &str) {
        if let Some(Err(error)) = self.0.as_ref().map(|socket| socket.send(word.as_bytes())) {
            tracing::warn!(event = "notify_failed", error = %error);
        }
    }
}

fn connect(name: &OsStr) -> io::Result<UnixDatagram> {
    let address = match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    // a manager that does not read must not hold up the relay
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(socket: &UnixDatagram) -> String {
        let mut word = [0; 256];
        let length = socket.recv(&mut word).expect("a word");
        String::from_utf8_lossy(&word[..length]).into_owned()
    }

    #[test]
    fn a_socket_is_found_by_its_path_and_by_its_abstract_name() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("notify");
        let by_path = UnixDatagram::bind(&path).expect("binds");
        ServiceManager(connect(path.as_os_str()).ok()).ready();
        assert_eq!(heard(&by_path), "READY=1\nSTATUS=relaying");
        let name = format!("barid-test-{}", std::process::id());
        let abstract_address = SocketAddr::from_abstract_name(&name).expect("a name");
        let by_name = UnixDatagram::bind_addr(&abstract_address).expect("binds");
        ServiceManager(connect(OsStr::new(&format!("@{name}"))).ok()).stopping();
        assert!(heard(&by_name).starts_with("STOPPING=1\n"));
    }

    #[test]
    fn a_manager_that_is_gone_or_does_not_read_holds_nothing_up() {
        assert!(connect(OsStr::new("/nonexistent/notify")).is_err());
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("notify");
        let deaf = UnixDatagram::bind(&path).expect("binds");
        let manager = ServiceManager(connect(path.as_os_str()).ok());
        // more than any socket holds
        for _ in 0..10_000 {
            manager.starting();
        }
        drop(deaf);
        manager.ready();
    }
}
