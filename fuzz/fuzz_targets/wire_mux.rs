//! A peer that gets the checksums right and keeps to nothing else: any frames in any order.
#![no_main]

use std::time::Instant;

use libfuzzer_sys::fuzz_target;
use towline_wire::{Config, Event, Hello, Mux, Priority, Role};

const NONCE: [u8; 16] = [2; 16];

/// Seals one frame as the format of `towline_wire::frame` has it.
fn seal(sequence: u64, kind: u8, channel: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("at most 255 bytes");
    let mut frame = [&length.to_le_bytes()[..], &[kind], &channel.to_le_bytes()].concat();
    let mut hasher = blake3::Hasher::new();
    hasher.update(&NONCE).update(&sequence.to_le_bytes()).update(&frame).update(payload);
    frame.extend_from_slice(&hasher.finalize().as_bytes()[..8]);
    frame.extend_from_slice(payload);
    frame
}

fuzz_target!(|data: &[u8]| {
    let hello = |nonce| Hello { program: [0; 32], version: "1".to_owned(), nonce };
    let now = Instant::now();
    let config = Config::default();
    let mut mux = Mux::new(Role::Client, &hello([1; 16]), config.clone(), now);
    mux.handle_bytes(now, &hello(NONCE).encode(Role::Agent));
    let _ = mux.open(b"ours", Priority::Bulk);
    let mut sent = Vec::new();
    let mut rest = data;
    for sequence in 0.. {
        // A frame: its kind, its channel, the length of its payload, its payload.
        let Some((&[kind, channel, length], after)) = rest.split_first_chunk::<3>() else { break };
        let (payload, after) = after.split_at(usize::from(length).min(after.len()));
        rest = after;
        mux.handle_bytes(now, &seal(sequence, kind % 16, u32::from(channel % 8), payload));
        let ended = mux.is_ended();
        while let Some(event) = mux.poll_event() {
            match event {
                Event::Data { channel, bytes } if payload.len() % 2 == 0 => mux.consume(channel, bytes.len()),
                Event::Opened { channel, opening, .. } => {
                    let _ = mux.write(channel, &opening);
                }
                Event::Finished { channel } => mux.finish(channel),
                Event::Reset { channel, .. } => assert!(mux.write(channel, b"late").is_err()),
                _ => {}
            }
        }
        sent.clear();
        mux.poll_transmit(now, &mut sent);
        if ended {
            assert!(mux.poll_event().is_none());
            break;
        }
    }
});
