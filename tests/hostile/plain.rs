//! A destination of the plainest kind, which takes down every octet.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// What came between DATA and the final dot, which is no part of it, as it was on the wire.
pub(crate) type OnTheWire = Arc<Mutex<Vec<Vec<u8>>>>;

/// It knows DATA but not BDAT. Its address, and what it takes down.
pub(crate) async fn listen() -> (SocketAddr, OnTheWire) {
    let socket = TcpListener::bind(("127.0.0.1", 0)).await.expect("a socket");
    let (address, on_the_wire) = (socket.local_addr().expect("bound"), OnTheWire::default());
    let notes = on_the_wire.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = socket.accept().await {
            tokio::spawn(converse(stream, notes.clone()));
        }
    });
    (address, on_the_wire)
}

/// A session to its end, by the book: only CRLF ends lines, and only CRLF.CRLF ends content.
async fn converse(stream: TcpStream, notes: OnTheWire) -> Option<()> {
    let mut stream = BufReader::new(stream);
    stream.write_all(b"220 plain.test\r\n").await.ok()?;
    loop {
        let line = read_to(&mut stream, b"\r\n").await?;
        let reply = match line.get(..4)? {
            b"EHLO" => "250-plain.test\r\n250 8BITMIME\r\n",
            // whoever is smuggled in gives himself away by his address
            b"MAIL" if line.starts_with(b"MAIL FROM:<app@sender.test>") => "250 ok\r\n",
            b"RCPT" | b"RSET" => "250 ok\r\n",
            b"DATA" => {
                stream.write_all(b"354 go ahead\r\n").await.ok()?;
                let content = read_to(&mut stream, b"\r\n.\r\n").await?;
                notes.lock().expect("not poisoned").push(content);
                "250 ok\r\n"
            }
            _ => "502 no\r\n",
        };
        stream.write_all(reply.as_bytes()).await.ok()?;
    }
}

/// Everything up to these octets and not with them; nothing where they do not come.
async fn read_to(stream: &mut BufReader<TcpStream>, end: &[u8]) -> Option<Vec<u8>> {
    let mut octets = Vec::new();
    while !octets.ends_with(end) {
        if stream.read_until(b'\n', &mut octets).await.ok()? == 0 {
            return None;
        }
    }
    octets.truncate(octets.len() - end.len());
    Some(octets)
}
