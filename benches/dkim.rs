//! What signing costs: a message of 4 KiB with an RSA and an Ed25519 key, beside the raw operations that it cannot do
//! without.
#![allow(clippy::expect_used, reason = "a bench that cannot begin has nothing to say")]

use std::hint::black_box;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeyPair as RsaKeyPair;
use aws_lc_rs::signature::{Ed25519KeyPair, RSA_PKCS1_SHA256};
use barid::authentication::{Algorithm, Choice, Key, MadeKey, Selector, Signers};
use barid::clock::Timestamp;
use barid::mail::Domain;
use criterion::{Criterion, criterion_group, criterion_main};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject as _;

const HEADER: &[u8] =
    b"From: Ann <ann@a.example>\r\nTo: Bob <bob@b.example>\r\nSubject: a message of the usual kind\r\n\
    Date: Wed, 18 Nov 2026 11:06:40 +0000\r\nMessage-ID: <1@a.example>\r\nMIME-Version: 1.0\r\n\
    Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n";

fn signing(criterion: &mut Criterion) {
    let made = Algorithm::ALL.map(|algorithm| MadeKey::generate(algorithm).expect("made"));
    let domain = Domain::parse("a.example").expect("a domain");
    let keys = made.each_ref().map(|made| {
        let selector = Selector::parse(made.algorithm.as_str()).expect("a selector");
        Arc::new(Key::from_pem(domain.clone(), selector, &made.pem).expect("reads"))
    });
    let body = b"a line of text as people write it, and its end\r\n".repeat(4096 / 48);
    let signers = Signers::new(keys, None);
    let mut group = criterion.benchmark_group("dkim");
    group.bench_function("both signatures", |bench| {
        bench.iter(|| {
            let now = Timestamp::from_millis(1_795_000_000_000);
            let Choice::Signed(mut pending) = signers.begin(HEADER, &|_| true, now) else { panic!("a key") };
            pending.body(black_box(&body));
            pending.sign().expect("signs")
        });
    });
    let der = made.map(|made| PrivatePkcs8KeyDer::from_pem_slice(made.pem.as_bytes()).expect("reads"));
    let rsa = RsaKeyPair::from_pkcs8(der[0].secret_pkcs8_der()).expect("reads");
    let ed25519 = Ed25519KeyPair::from_pkcs8(der[1].secret_pkcs8_der()).expect("reads");
    let random = SystemRandom::new();
    group.bench_function("raw operations", |bench| {
        bench.iter(|| {
            let body = digest(&SHA256, black_box(&body));
            let mut signature = vec![0; rsa.public_modulus_len()];
            rsa.sign(&RSA_PKCS1_SHA256, &random, HEADER, &mut signature).expect("signs");
            let second = ed25519.sign(digest(&SHA256, HEADER).as_ref());
            (body, signature, second)
        });
    });
    group.finish();
}

criterion_group!(benches, signing);
criterion_main!(benches);
