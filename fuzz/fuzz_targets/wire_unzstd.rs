//! Pieces of a packed direction: what comes out is as long as announced, and no more memory is held than said.
//!
//! The first byte says how the input is used: as pieces that are packed first, which must come out as they went in, or
//! as the pieces themselves.
#![no_main]

use libfuzzer_sys::fuzz_target;
use towline_wire::unzstd::{MEMORY_BYTES, Unpacker, WINDOW_LOG};
use zstd::stream::raw::{CParameter, Encoder, InBuffer, Operation, OutBuffer};

const HEAD: [u8; 6] = [0x28, 0xb5, 0x2f, 0xfd, 0, 11 << 3];

fn pack(encoder: &mut Encoder<'_>, piece: &[u8]) -> Vec<u8> {
    let mut buffer = vec![0; piece.len() + piece.len() / 64 + 1000];
    let mut out = OutBuffer::around(&mut buffer[..]);
    let mut input = InBuffer::around(piece);
    while input.pos < piece.len() {
        encoder.run(&mut input, &mut out).expect("there is room");
    }
    assert_eq!(encoder.flush(&mut out).expect("there is room"), 0);
    let length = out.pos();
    buffer.truncate(length);
    buffer
}

fuzz_target!(|data: &[u8]| {
    let Some((&[how, size], data)) = data.split_first_chunk::<2>() else { return };
    let mut unpacker = Unpacker::new();
    if how & 1 == 0 {
        let mut encoder = Encoder::new(i32::from(how >> 1) % 8).expect("a level of zstd's");
        encoder.set_parameter(CParameter::WindowLog(WINDOW_LOG)).expect("a window of zstd's");
        for piece in data.chunks(usize::from(size) + 1) {
            let packed = pack(&mut encoder, piece);
            assert_eq!(unpacker.unpack(&packed, piece.len()), Ok(piece));
        }
        return;
    }
    // The beginning of a stream, where it need not be found out.
    let mut head = if how & 2 == 0 { &HEAD[..] } else { &[] };
    let mut rest = data;
    while let Some((length, after)) = rest.split_first_chunk::<2>() {
        let length = usize::from(u16::from_le_bytes(*length)) * 4;
        let (piece, after) = after.split_at(after.len().min(usize::from(size) * 8));
        rest = after;
        match unpacker.unpack(&[std::mem::take(&mut head), piece].concat(), length) {
            Ok(bytes) => assert_eq!(bytes.len(), length),
            Err(_) => break,
        }
        assert!(unpacker.memory_bytes() <= MEMORY_BYTES);
    }
});
