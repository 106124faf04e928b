//! Whole handshakes, in memory.

use std::io::{self, IoSlice};
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use bytes::Buf;
use rcgen::{BasicConstraints, Certificate, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, SupportedProtocolVersion};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, duplex};

use super::*;
use crate::net::Stream;

const NAME: &str = "mx.example.org";
/// What a stream in memory holds, as a socket's buffers would.
const PIPE_OCTETS: usize = 256 << 10;

/// A root of our own.
pub(super) struct Authority {
    certificate: Certificate,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(super) fn new() -> Self {
        let key = KeyPair::generate().expect("makes");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).expect("signs");
        Authority { certificate, issuer: Issuer::new(params, key) }
    }

    pub(super) fn issuer(&self) -> &Issuer<'static, KeyPair> {
        &self.issuer
    }

    pub(super) fn roots(&self, dir: &Path) -> Roots {
        let file = dir.join("roots.pem");
        std::fs::write(&file, self.certificate.pem()).expect("writes");
        Roots::with_files(&[file]).expect("are roots")
    }

    fn identity(&self, name: &str) -> Identity {
        let key = KeyPair::generate().expect("makes");
        let params = CertificateParams::new([name.to_owned()]).expect("a name");
        let chain = vec![params.signed_by(&key, &self.issuer).expect("signs").into()];
        let der = key.serialize_der().try_into().expect("a key");
        let certified =
            rustls::sign::CertifiedKey::from_der(chain, der, &provider()).expect("belong together");
        Identity::of(certified).expect("reads")
    }
}

fn server(identity: Identity) -> ServerTls {
    ServerTls::new(vec![identity], ClientCertificates::NotAsked, Clock::System).expect("is right")
}

fn client(policy: TlsPolicy, roots: &Roots) -> ClientTls {
    ClientTls::new(policy, roots, Clock::System).expect("is right")
}

fn boxed(stream: DuplexStream) -> Box<dyn Stream> {
    Box::new(stream)
}

type Side = (Box<dyn Stream>, TlsFacts);

fn both(shaken: Handshake) -> Side {
    (shaken.stream, shaken.facts)
}

async fn meet(server: &ServerTls, client: &ClientTls, host: &str) -> (Side, Side) {
    let (near, far) = duplex(PIPE_OCTETS);
    let (accepted, connected) = tokio::join!(server.accept(boxed(far)), client.connect(boxed(near), host));
    (accepted.expect("is accepted"), both(connected.expect("connects")))
}

/// One line each way, which also brings the client its tickets.
async fn talk(server: &mut Box<dyn Stream>, client: &mut Box<dyn Stream>) {
    let mut octets = [0; 6];
    client.write_all(b"NOOP\r\n").await.expect("writes");
    server.read_exact(&mut octets).await.expect("reads");
    assert_eq!(&octets, b"NOOP\r\n");
    server.write_all(b"250 \r\n").await.expect("writes");
    client.read_exact(&mut octets).await.expect("reads");
    assert_eq!(&octets, b"250 \r\n");
}

/// What a read finds at this moment.
fn probe(stream: &mut Box<dyn Stream>) -> Poll<io::Result<usize>> {
    let mut octets = [0; 8];
    let (mut found, mut nobody) = (ReadBuf::new(&mut octets), Context::from_waker(Waker::noop()));
    Pin::new(stream).poll_read(&mut nobody, &mut found).map_ok(|()| found.filled().len())
}

#[tokio::test]
async fn a_handshake_tells_its_facts() {
    let (dir, authority) = (tempfile::tempdir().expect("a directory"), Authority::new());
    let server = server(authority.identity(NAME));
    let client = client(TlsPolicy::Verified, &authority.roots(dir.path()));
    let ((mut accepted, theirs), (mut connected, ours)) = meet(&server, &client, NAME).await;
    talk(&mut accepted, &mut connected).await;
    assert_eq!((ours.version, ours.cipher), (TlsVersion::V1_3, "TLS_AES_256_GCM_SHA384"));
    assert_eq!((ours.resumed, ours.pkix), (false, Pkix::Valid));
    assert_eq!((theirs.resumed, theirs.pkix, theirs.certificate), (false, Pkix::NotEvaluated, None));
}

#[tokio::test]
async fn a_session_is_resumed_with_what_was_known() {
    let (dir, authority) = (tempfile::tempdir().expect("a directory"), Authority::new());
    let roots = authority.roots(dir.path());
    for version in [&TLS12, &TLS13] {
        for policy in [TlsPolicy::Opportunistic, TlsPolicy::Verified] {
            let versions: &[&'static SupportedProtocolVersion] = &[version];
            let identities = vec![authority.identity(NAME)];
            let server =
                ServerTls::with_versions(identities, ClientCertificates::NotAsked, Clock::System, versions);
            let (server, client) = (server.expect("is right"), client(policy, &roots));
            let ((mut accepted, _), (mut connected, first)) = meet(&server, &client, NAME).await;
            talk(&mut accepted, &mut connected).await;
            let ((mut accepted, theirs), (mut connected, second)) = meet(&server, &client, NAME).await;
            talk(&mut accepted, &mut connected).await;
            assert!(!first.resumed && second.resumed && theirs.resumed, "{version:?} {policy:?}");
            assert_eq!(second, TlsFacts { resumed: true, ..first });
            // names do not differ by case, and each ticket serves once
            let (_, (_, other)) = meet(&server, &client, NAME.to_uppercase().as_str()).await;
            assert!(other.resumed);
        }
    }
}

#[tokio::test]
async fn a_policy_takes_what_it_says() {
    let (dir, authority) = (tempfile::tempdir().expect("a directory"), Authority::new());
    let roots = authority.roots(dir.path());
    let self_signed = || Identity::self_signed(NAME, dir.path()).expect("is made").0;
    for (identity, host, roots, want) in [
        (authority.identity(NAME), NAME, &roots, Pkix::Valid),
        (authority.identity("*.example.org"), NAME, &roots, Pkix::Valid),
        (authority.identity("192.0.2.1"), "[192.0.2.1]", &roots, Pkix::Valid),
        (authority.identity(NAME), "mx.example.net", &roots, Pkix::Invalid(PkixFault::WrongName)),
        (authority.identity(NAME), NAME, &Roots::public(), Pkix::Invalid(PkixFault::NotTrusted)),
        (self_signed(), NAME, &roots, Pkix::Invalid(PkixFault::NotTrusted)),
    ] {
        let server = server(identity);
        let (_, (_, facts)) = meet(&server, &client(TlsPolicy::Opportunistic, roots), host).await;
        assert_eq!(facts.pkix, want, "{host}");
        let (near, far) = duplex(PIPE_OCTETS);
        let verified = client(TlsPolicy::Verified, roots);
        let (accepted, connected) =
            tokio::join!(server.accept(boxed(far)), verified.connect(boxed(near), host));
        match (want, connected) {
            (Pkix::Valid, Ok(Handshake { facts, .. })) => assert_eq!(facts.pkix, Pkix::Valid),
            (Pkix::Invalid(fault), Err(TlsError::Untrusted(told))) => {
                assert_eq!(told, fault, "{host}");
                assert!(accepted.is_err(), "the server is told");
            }
            (want, connected) => panic!("{host}: {want:?}, but {:?}", connected.map(|shaken| shaken.facts)),
        }
    }
}

#[tokio::test]
async fn the_certificate_is_the_one_for_the_name() {
    let authority = Authority::new();
    let names = ["mx.example.org", "mx.example.net"];
    let identities: Vec<Identity> = names.iter().map(|name| authority.identity(name)).collect();
    let prints: Vec<Fingerprint> =
        identities.iter().map(|identity| Fingerprint::of(&identity.certified.cert[0])).collect();
    let server = ServerTls::new(identities, ClientCertificates::NotAsked, Clock::System).expect("is right");
    let client = client(TlsPolicy::Opportunistic, &Roots::public());
    for (host, want) in [(names[0], 0), (names[1], 1), ("mx.example.com", 0), ("192.0.2.1", 0)] {
        let (_, (_, facts)) = meet(&server, &client, host).await;
        assert_eq!(facts.certificate, Some(prints[want]), "{host}");
    }
    let none = ServerTls::new(Vec::new(), ClientCertificates::NotAsked, Clock::System);
    assert!(matches!(none.err(), Some(CertificateError::None)));
}

#[tokio::test]
async fn a_clients_certificate_is_told_by_its_fingerprint() {
    let authority = Authority::new();
    let own = Authority::new().identity("client.example.net").certified;
    let print = Fingerprint::of(&own.cert[0]);
    for version in [&TLS12, &TLS13] {
        let config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[version])
            .expect("is spoken")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier::ServersCertificate::new(None)))
            .with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(own.clone())));
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        for (asked, want) in [(ClientCertificates::Asked, Some(print)), (ClientCertificates::NotAsked, None)]
        {
            let server =
                ServerTls::new(vec![authority.identity(NAME)], asked, Clock::System).expect("is right");
            for is_resumed in [false, true] {
                let (near, far) = duplex(PIPE_OCTETS);
                let name = ServerName::try_from(format!("{asked:?}.example.org")).expect("a name");
                let (accepted, connected) =
                    tokio::join!(server.accept(boxed(far)), connector.connect(name, boxed(near)));
                let (mut accepted, facts) = accepted.expect("is accepted");
                let connected = stream::Covered::new(connected.expect("connects"));
                talk(&mut accepted, &mut (Box::new(connected) as Box<dyn Stream>)).await;
                assert_eq!((facts.resumed, facts.certificate), (is_resumed, want), "{version:?} {asked:?}");
            }
        }
    }
}

#[tokio::test]
async fn what_is_no_tls_is_an_error() {
    let authority = Authority::new();
    let (server, client) =
        (server(authority.identity(NAME)), client(TlsPolicy::Opportunistic, &Roots::public()));
    for octets in [
        &b"EHLO client.example.net\r\n"[..],
        b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00",
        b"\x16\x03\x03\xff\xff",
        b"\x15\x03\x03\x00\x02\x02\x28",
        &[0; 512],
        &[0xff; 512],
    ] {
        let (mut near, far) = duplex(PIPE_OCTETS);
        near.write_all(octets).await.expect("writes");
        near.shutdown().await.expect("closes");
        assert!(server.accept(boxed(far)).await.is_err(), "{}", octets.escape_ascii());
        let (near, mut far) = duplex(PIPE_OCTETS);
        far.write_all(octets).await.expect("writes");
        far.shutdown().await.expect("closes");
        let told = client.connect(boxed(near), NAME).await.err().expect("is no TLS");
        assert!(matches!(told, TlsError::Handshake(_)), "{}: {told}", octets.escape_ascii());
    }
    // a server that is asked for TLS and leaves, and one that says no
    let (near, far) = duplex(PIPE_OCTETS);
    drop(far);
    let told = client.connect(boxed(near), NAME).await.err().expect("is broken");
    assert!(!told.is_of_tls(), "{told}");
    let (near, _far) = duplex(PIPE_OCTETS);
    assert!(matches!(client.connect(boxed(near), "no name").await, Err(TlsError::NoName)));
}

#[tokio::test]
async fn a_side_that_has_closed_is_still_answered() {
    let authority = Authority::new();
    let (server, client) =
        (server(authority.identity(NAME)), client(TlsPolicy::Opportunistic, &Roots::public()));
    let ((mut accepted, _), (mut connected, _)) = meet(&server, &client, NAME).await;
    connected.write_all(b"QUIT\r\n").await.expect("writes");
    connected.shutdown().await.expect("closes");
    let mut heard = Vec::new();
    accepted.read_to_end(&mut heard).await.expect("reads");
    assert_eq!(heard, b"QUIT\r\n");
    accepted.write_all(b"221 bye\r\n").await.expect("writes");
    accepted.shutdown().await.expect("closes");
    let mut heard = Vec::new();
    connected.read_to_end(&mut heard).await.expect("reads");
    assert_eq!(heard, b"221 bye\r\n");
    // and one that just goes has closed as well
    let ((mut accepted, _), (connected, _)) = meet(&server, &client, NAME).await;
    drop(connected);
    assert_eq!(accepted.read(&mut [0; 8]).await.expect("ends"), 0);
}

#[tokio::test]
async fn tickets_are_no_input_but_words_and_ends_are() {
    let authority = Authority::new();
    let (server, client) =
        (server(authority.identity(NAME)), client(TlsPolicy::Opportunistic, &Roots::public()));
    for version in 0..3 {
        let ((mut accepted, _), (mut connected, facts)) = meet(&server, &client, NAME).await;
        assert_eq!(facts.version, TlsVersion::V1_3);
        // the server's tickets are on their way by now
        assert!(probe(&mut connected).is_pending() && probe(&mut connected).is_pending());
        assert!(probe(&mut accepted).is_pending());
        match version {
            0 => accepted.write_all(b"421 \r\n").await.expect("writes"),
            1 => accepted.shutdown().await.expect("closes"),
            _ => drop(accepted),
        }
        let want = if version == 0 { 6 } else { 0 };
        assert!(matches!(probe(&mut connected), Poll::Ready(Ok(found)) if found == want));
    }
}

/// Counts the writes that reach the socket.
struct Counting(DuplexStream, Arc<Mutex<Vec<usize>>>);

impl Counting {
    fn note(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(octets)) = written {
            self.1.lock().expect("is whole").push(octets);
        }
        written
    }
}

impl AsyncRead for Counting {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, into)
    }
}

impl AsyncWrite for Counting {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.0).poll_write(context, octets);
        self.note(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.0).poll_write_vectored(context, pieces);
        self.note(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

#[tokio::test]
async fn one_write_is_one_write() {
    let authority = Authority::new();
    let (server, client) =
        (server(authority.identity(NAME)), client(TlsPolicy::Opportunistic, &Roots::public()));
    let ((near, far), writes) = (duplex(PIPE_OCTETS), Arc::default());
    let near = Box::new(Counting(near, Arc::clone(&writes)));
    let (accepted, connected) = tokio::join!(server.accept(boxed(far)), client.connect(near, NAME));
    let ((mut accepted, _), (mut connected, _)) =
        (accepted.expect("accepts"), both(connected.expect("connects")));
    // a batch of commands, a body of one record, one of three
    for size in [300, 16 << 10, 40 << 10] {
        writes.lock().expect("is whole").clear();
        connected.write_all(&vec![b'x'; size]).await.expect("writes");
        assert_written(&writes, size);
        accepted.read_exact(&mut vec![0; size]).await.expect("reads");
    }
    // a command and its chunk leave in one record
    writes.lock().expect("is whole").clear();
    let mut both = Buf::chain(&b"BDAT 300 LAST\r\n"[..], &[b'x'; 300][..]);
    connected.write_all_buf(&mut both).await.expect("writes");
    assert_written(&writes, 315);
    accepted.read_exact(&mut [0; 315]).await.expect("reads");
}

/// One write to the socket, of whole records: 22 octets round 16 KiB at most.
fn assert_written(writes: &Mutex<Vec<usize>>, octets: usize) {
    let writes = writes.lock().expect("is whole");
    assert_eq!(writes.as_slice(), [octets + 22 * octets.div_ceil(16 << 10)], "{octets}");
}

#[tokio::test]
async fn nobody_needs_to_flush() {
    const CONTENT_OCTETS: usize = 300_000;
    let authority = Authority::new();
    let (server, client) =
        (server(authority.identity(NAME)), client(TlsPolicy::Opportunistic, &Roots::public()));
    let (near, far) = duplex(4 << 10);
    let (accepted, connected) = tokio::join!(server.accept(boxed(far)), client.connect(boxed(near), NAME));
    let ((mut accepted, _), (mut connected, _)) =
        (accepted.expect("accepts"), both(connected.expect("connects")));
    let sends = async {
        connected.write_all(&[b'x'; CONTENT_OCTETS]).await.expect("writes");
        let mut heard = [0; 6];
        connected.read_exact(&mut heard).await.expect("reads");
        heard
    };
    let takes = async {
        accepted.read_exact(&mut vec![0; CONTENT_OCTETS]).await.expect("reads");
        accepted.write_all(b"250 \r\n").await.expect("writes");
    };
    let (heard, ()) = tokio::join!(sends, takes);
    assert_eq!(&heard, b"250 \r\n");
    // nor whoever closes
    let sends = async {
        connected.write_all(&[b'x'; 40_000]).await.expect("writes");
        connected.shutdown().await.expect("closes");
    };
    let takes = async {
        let mut heard = Vec::new();
        accepted.read_to_end(&mut heard).await.expect("reads");
        heard.len()
    };
    assert_eq!(tokio::join!(sends, takes).1, 40_000);
}
