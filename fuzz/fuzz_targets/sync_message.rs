//! A stream of sync messages from a peer, in pieces.
#![no_main]

use libfuzzer_sys::fuzz_target;
use towline_sync_core::codec::{Decoder, Encoder};
use towline_sync_core::message::{Reply, Request};

/// Reads messages until the stream ends or breaks, and checks that what came is what would be sent.
macro_rules! check {
    ($data:expr, $message:ty) => {{
        let mut decoder = Decoder::new();
        let mut messages: Vec<$message> = Vec::new();
        'stream: for piece in $data.chunks(7) {
            decoder.push(piece);
            loop {
                match decoder.next() {
                    Ok(Some(message)) => messages.push(message),
                    Ok(None) => break,
                    Err(_) => break 'stream,
                }
            }
        }
        let mut again = Decoder::new();
        again.push(Encoder::new().encode(&messages));
        for message in messages {
            assert_eq!(again.next(), Ok(Some(message)));
        }
    }};
}

fuzz_target!(|data: &[u8]| {
    check!(data, Request);
    check!(data, Reply);
});
