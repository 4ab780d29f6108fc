//! Bytes of a peer as hello and as frames.
#![no_main]

use libfuzzer_sys::fuzz_target;
use towline_wire::Hello;
use towline_wire::frame::{Decoder, Encoder};

const NONCE: [u8; 16] = [7; 16];

fuzz_target!(|data: &[u8]| {
    let mut input = data;
    if let Ok(Some((role, hello))) = Hello::decode(&mut input) {
        assert_eq!(Hello::decode(&mut &*hello.encode(role)), Ok(Some((role, hello))));
    }
    let mut decoder = Decoder::new(NONCE);
    let mut encoder = Encoder::new(NONCE);
    let mut input = data;
    loop {
        let before = input;
        let Ok(Some(frame)) = decoder.decode(&mut input) else { break };
        let mut bytes = Vec::new();
        encoder.encode(&mut bytes, &frame);
        assert_eq!(bytes, before[..before.len() - input.len()]);
    }
});
