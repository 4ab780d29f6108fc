//! A peer that gets the checksums right and keeps to nothing else: any frames in any order.
#![no_main]

use std::time::Instant;

use bytes::{Buf, Bytes};
use libfuzzer_sys::fuzz_target;
use towline_wire::{Compression, Config, Event, Hello, Inbound, Mux, Outbound, Priority, Role};
use twox_hash::XxHash3_64;

const NONCE: [u8; 16] = [2; 16];

/// Seals one frame as the format of `towline_wire` has it.
fn seal(sequence: u64, kind: u8, channel: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("at most 255 bytes");
    let fields = [&length.to_le_bytes()[..], &[kind], &channel.to_le_bytes()].concat();
    let sum = XxHash3_64::oneshot(payload).to_le_bytes();
    let covered = [&NONCE[..], &sequence.to_le_bytes(), &fields, &sum].concat();
    [&fields[..], &XxHash3_64::oneshot(&covered).to_le_bytes(), payload].concat()
}

fuzz_target!(|data: &[u8]| {
    let hello = |nonce| Hello { program: [0; 32], version: "1".to_owned(), nonce };
    let now = Instant::now();
    let ours = hello([1; 16]);
    let mut mux = Mux::new(Role::Client, &ours, Config::default(), now);
    let mut outbound = Outbound::new(&ours, Role::Client, Compression::Always, false, now);
    let mut inbound = Inbound::new();
    let _ = mux.open(now, Bytes::from_static(b"ours"), Priority::Bulk);
    let mut rest = data;
    let mut bytes = hello(NONCE).encode(Role::Agent);
    for sequence in 0.. {
        let mut stream = &bytes[..];
        while !stream.is_empty() && !mux.is_ended() {
            inbound.push(&mut stream);
            loop {
                match inbound.poll() {
                    Ok(Some(received)) => mux.handle_received(now, Ok(received)),
                    Ok(None) => break,
                    Err(error) => {
                        mux.handle_received(now, Err(error));
                        break;
                    }
                }
            }
        }
        let ended = mux.is_ended();
        while let Some(event) = mux.poll_event() {
            match event {
                Event::Data { channel, bytes } if bytes.len() % 2 == 0 => {
                    mux.consume(now, channel, bytes.len())
                }
                Event::Opened { channel, opening, .. } => {
                    let _ = mux.write(channel, &opening);
                }
                Event::Finished { channel } => mux.finish(channel),
                Event::Reset { channel, .. } => assert!(mux.write(channel, b"late").is_err()),
                _ => {}
            }
        }
        let mut room = outbound.room();
        while let Some(outgoing) = mux.poll_frame(now, room) {
            room = room.saturating_sub(outgoing.frame.data_bytes());
            outbound.push(outgoing, || now);
        }
        outbound.advance(outbound.remaining());
        if ended {
            assert!(mux.poll_event().is_none());
            break;
        }
        // A frame: its kind, its channel, the length of its payload, its payload.
        let Some((&[kind, channel, length], after)) = rest.split_first_chunk::<3>() else { break };
        let (payload, after) = after.split_at(usize::from(length).min(after.len()));
        rest = after;
        bytes = seal(sequence, kind % 16, u32::from(channel % 8), payload);
    }
});
