//! Headers of the PROXY protocol: once there is an answer, more octets do not change it.
#![no_main]

use barid::net::proxy::{PROXY_HEADER_MAX_OCTETS, parse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let whole = parse(input);
    if let Ok(Some((_, used))) = whole {
        assert!((16..=input.len().min(PROXY_HEADER_MAX_OCTETS)).contains(&used));
    }
    if whole == Ok(None)
        && let Some([.., high, low]) = input.first_chunk::<16>()
    {
        let end = 16 + usize::from(u16::from_be_bytes([*high, *low]));
        assert!(input.len() < end && end <= PROXY_HEADER_MAX_OCTETS, "it waits for {end} octets");
    }
    let first = (0..=input.len()).map(|end| parse(&input[..end])).find(|found| *found != Ok(None));
    assert_eq!(first.unwrap_or(Ok(None)), whole);
});
