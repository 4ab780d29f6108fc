//! How many instructions frames take: the same number every run.
#![expect(
    missing_docs,
    unused_qualifications,
    clippy::exit,
    reason = "the macros of the harness expand to it"
)]

use std::hint::black_box;
use std::time::Instant;

use benches::Random;
use bytes::{Buf, Bytes};
use gungraun::{library_benchmark, library_benchmark_group, main};
use towline_wire::unzstd::Unpacker;
use towline_wire::{
    ChannelId, Compression, Config, Frame, Hello, Inbound, Mux, Outbound, Outgoing, Priority, Role,
};

const FRAME_BYTES: usize = 64 * 1024;

fn text(length: usize) -> Bytes {
    let mut random = Random::new(3);
    let words =
        ["const ", "return ", "index", "require('./", "');\n", "  ", "function ", "module.exports = "];
    let mut text = String::new();
    while text.len() < length {
        text.push_str(random.pick(&words));
        if random.below(4) == 0 {
            text.push_str(&random.below(1000).to_string());
        }
    }
    text.truncate(length);
    text.into()
}

fn hello() -> Hello {
    Hello { program: [1; 32], version: "bench".to_owned(), nonce: [1; 16] }
}

fn channel(now: Instant) -> ChannelId {
    let mut mux = Mux::new(Role::Client, &hello(), Config::default(), now);
    mux.open(now, Bytes::new(), Priority::Bulk).unwrap()
}

/// An end whose packer has what it needs, and a frame for it.
fn sender(compression: Compression) -> (Outbound, Outgoing, Instant) {
    let now = Instant::now();
    let mut outbound = Outbound::new(&hello(), Role::Client, compression, true, now);
    let outgoing =
        Outgoing { frame: Frame::Data { channel: channel(now), bytes: text(FRAME_BYTES) }, may_pack: true };
    let warm = Frame::Data { channel: channel(now), bytes: text(1000) };
    outbound.push(Outgoing { frame: warm, may_pack: true }, || now);
    outbound.advance(outbound.remaining());
    (outbound, outgoing, now)
}

#[library_benchmark]
#[bench::raw(setup = sender, args = (Compression::Never))]
#[bench::zstd(setup = sender, args = (Compression::Always))]
fn encode((mut outbound, outgoing, now): (Outbound, Outgoing, Instant)) -> usize {
    black_box(&mut outbound).push(outgoing, || now);
    outbound.remaining()
}

/// An end that has read a hello and one frame, and the bytes of the next.
fn receiver(compression: Compression) -> (Inbound, Bytes) {
    let now = Instant::now();
    let mut outbound = Outbound::new(&hello(), Role::Client, compression, true, now);
    let mut frame = |length| {
        let frame = Frame::Data { channel: channel(now), bytes: text(length) };
        outbound.push(Outgoing { frame, may_pack: true }, || now);
        outbound.copy_to_bytes(outbound.remaining())
    };
    let (first, next) = (frame(1000), frame(FRAME_BYTES));
    let mut inbound = Inbound::new();
    read(&mut inbound, &first);
    (inbound, next)
}

fn read(inbound: &mut Inbound, mut bytes: &[u8]) -> usize {
    let mut count = 0;
    while !bytes.is_empty() {
        inbound.push(&mut bytes);
        while let Some(received) = inbound.poll().unwrap() {
            count += 1;
            black_box(received);
        }
    }
    count
}

#[library_benchmark]
#[bench::raw(setup = receiver, args = (Compression::Never))]
#[bench::zstd(setup = receiver, args = (Compression::Always))]
fn decode((mut inbound, bytes): (Inbound, Bytes)) -> usize {
    read(black_box(&mut inbound), &bytes)
}

/// A mebibyte of text in flushed pieces.
fn packed() -> Vec<(Vec<u8>, usize)> {
    use zstd::stream::raw::{CParameter, Encoder, InBuffer, Operation, OutBuffer};
    let mut encoder = Encoder::new(3).unwrap();
    encoder.set_parameter(CParameter::WindowLog(towline_wire::unzstd::WINDOW_LOG)).unwrap();
    let text = text(1 << 20);
    let pack = |piece: &[u8]| {
        let mut buffer = vec![0; piece.len() * 2];
        let mut out = OutBuffer::around(&mut buffer[..]);
        let mut input = InBuffer::around(piece);
        encoder.run(&mut input, &mut out).unwrap();
        assert_eq!(encoder.flush(&mut out).unwrap(), 0);
        (out.as_slice().to_vec(), piece.len())
    };
    text.chunks(FRAME_BYTES).map(pack).collect()
}

#[library_benchmark]
#[bench::text(setup = packed)]
fn unzstd(pieces: Vec<(Vec<u8>, usize)>) -> usize {
    let mut unpacker = Unpacker::new();
    pieces.iter().map(|(packed, length)| unpacker.unpack(black_box(packed), *length).unwrap().len()).sum()
}

library_benchmark_group!(name = wire, benchmarks = [encode, decode, unzstd]);

main!(library_benchmark_groups = wire);
