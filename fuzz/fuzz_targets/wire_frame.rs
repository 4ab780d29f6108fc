//! Bytes of a peer as hello and as frames.
#![no_main]

use bytes::Buf;
use libfuzzer_sys::fuzz_target;
use std::time::Instant;
use towline_wire::{Compression, Hello, Inbound, Outbound, Outgoing, Received};

/// Returns what these bytes are, in pieces of this size, up to the first error.
fn read(bytes: &[u8], size: usize) -> Vec<Received> {
    let (mut inbound, mut all) = (Inbound::new(), Vec::new());
    for mut piece in bytes.chunks(size) {
        while !piece.is_empty() {
            inbound.push(&mut piece);
            loop {
                match inbound.poll() {
                    Ok(Some(received)) => all.push(received),
                    Ok(None) => break,
                    Err(_) => return all,
                }
            }
        }
    }
    all
}

fuzz_target!(|data: &[u8]| {
    let Some((&size, data)) = data.split_first() else { return };
    let mut input = data;
    if let Ok(Some((role, hello))) = Hello::decode(&mut input) {
        assert_eq!(Hello::decode(&mut &*hello.encode(role)), Ok(Some((role, hello))));
    }
    let received = read(data, usize::from(size) + 1);
    assert_eq!(received, read(data, usize::MAX));
    let Some(Received::Hello(role, hello)) = received.first() else { return };
    let now = Instant::now();
    let mut outbound = Outbound::new(hello, *role, Compression::Never, false, now);
    for received in &received[1..] {
        let Received::Frame(frame) = received else { panic!("a second hello") };
        outbound.push(Outgoing { frame: frame.clone(), may_pack: false }, || now);
    }
    let count = outbound.remaining();
    assert_eq!(read(&outbound.copy_to_bytes(count), usize::MAX), received);
});
