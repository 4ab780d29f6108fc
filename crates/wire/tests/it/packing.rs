//! Packed directions: what comes out is what went in, hostile bytes are refused, and packing is chosen where it pays.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "rates and lengths of a simulation"
)]

use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use proptest::collection::vec;
use proptest::prelude::*;
use towline_wire::frame::MAX_DATA_BYTES;
use towline_wire::unzstd::{MEMORY_BYTES, Unpacker};
use towline_wire::{Compression, Config, Frame, Inbound, Outbound, Outgoing, Priority, Role};

use crate::pair::{Pair, Stack, hello};

/// Returns bytes of one of four kinds: zeros, text, records of numbers, noise.
pub(crate) fn sample(kind: u64, length: usize) -> Bytes {
    let mut state = kind.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u32
    };
    let words =
        ["const ", "return ", "function ", "require(", ");\n", "  ", "index", "module.exports = ", "'./"];
    let mut bytes = Vec::with_capacity(length + 20);
    while bytes.len() < length {
        match kind % 4 {
            0 => bytes.push(0),
            1 if next() % 5 == 0 => bytes.extend_from_slice(next().to_string().as_bytes()),
            1 => bytes.extend_from_slice(words[next() as usize % words.len()].as_bytes()),
            2 => bytes.extend_from_slice(&[1, 0, 0, next() as u8 % 16, 7, next() as u8]),
            _ => bytes.extend_from_slice(&next().to_le_bytes()),
        }
    }
    bytes.truncate(length);
    bytes.into()
}

/// Packs pieces as libzstd does, each flushed.
fn pack(level: i32, window_log: u32, pieces: &[Bytes]) -> Vec<Vec<u8>> {
    use zstd::stream::raw::{CParameter, Encoder, InBuffer, Operation, OutBuffer};
    let mut encoder = Encoder::new(level).unwrap();
    encoder.set_parameter(CParameter::WindowLog(window_log)).unwrap();
    let pack = |piece: &Bytes| {
        let mut buffer = vec![0; piece.len() + piece.len() / 64 + 1000];
        let mut out = OutBuffer::around(&mut buffer[..]);
        let mut input = InBuffer::around(piece);
        while input.pos < piece.len() {
            encoder.run(&mut input, &mut out).unwrap();
        }
        assert_eq!(encoder.flush(&mut out).unwrap(), 0);
        let length = out.pos();
        buffer.truncate(length);
        buffer
    };
    pieces.iter().map(pack).collect()
}

/// Returns pieces that have something in common with each other.
fn any_pieces() -> impl Strategy<Value = Vec<Bytes>> {
    vec((0u64..8, 0usize..140_000, 0usize..5000), 1..8).prop_map(|pieces| {
        let piece = |(kind, length, skipped): (u64, usize, usize)| {
            sample(kind, length + skipped + 1).slice(skipped..)
        };
        pieces.into_iter().map(piece).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn what_libzstd_packs_is_unpacked(pieces in any_pieces(), level in -5i32..13, window_log in 10u32..22) {
        let mut unpacker = Unpacker::new();
        for (packed, piece) in pack(level, window_log, &pieces).iter().zip(&pieces) {
            prop_assert_eq!(unpacker.unpack(packed, piece.len()).unwrap(), &piece[..]);
        }
    }

    #[test]
    fn damaged_pieces_are_refused_or_come_out_as_long_as_announced(
        pieces in any_pieces(),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..10),
        cut in any::<prop::sample::Index>(),
        announced in prop_oneof![Just(None), (0usize..MAX_DATA_BYTES).prop_map(Some)],
    ) {
        let mut unpacker = Unpacker::new();
        for (packed, piece) in pack(3, 21, &pieces).iter_mut().zip(&pieces) {
            for (at, byte) in &damage {
                let at = at.index(packed.len());
                packed[at] = *byte;
            }
            if announced.is_some() {
                packed.truncate(cut.index(packed.len() + 1));
            }
            let length = announced.unwrap_or(piece.len());
            match unpacker.unpack(packed, length) {
                Ok(bytes) => prop_assert_eq!(bytes.len(), length),
                Err(_) => break,
            }
        }
    }

    #[test]
    fn modes_change_in_the_middle_of_a_direction(pieces in any_pieces(), packed in vec(any::<bool>(), 8)) {
        for role in [Role::Client, Role::Agent] {
            let mut outbound = Outbound::new(&hello(1), role, Compression::Always, true, Instant::now());
            let mut inbound = Inbound::new();
            let channel = Pair::new(&Config::default()).client.mux.open(b"", Priority::Bulk).unwrap();
            let mut arrived = Vec::new();
            for (bytes, may_pack) in pieces.iter().zip(&packed) {
                let frame = Frame::Data { channel, bytes: bytes.clone() };
                outbound.push(Outgoing { frame, may_pack: *may_pack }, Instant::now);
                let mut stream = &outbound.copy_to_bytes(outbound.remaining())[..];
                while !stream.is_empty() {
                    inbound.push(&mut stream);
                    while let Some(received) = inbound.poll().unwrap() {
                        arrived.push(received);
                    }
                }
            }
            let expected: Vec<_> = pieces.iter().map(|bytes| Frame::Data { channel, bytes: bytes.clone() }).collect();
            let frames: Vec<_> = arrived
                .into_iter()
                .filter_map(|received| match received {
                    towline_wire::Received::Frame(frame) => Some(frame),
                    towline_wire::Received::Hello(..) => None,
                })
                .collect();
            prop_assert_eq!(frames, expected);
            prop_assert_eq!(outbound.sent(), inbound.received());
        }
    }
}

/// A block as it travels: its kind and length, then its body.
fn block(kind: u32, length: u32, body: &[u8]) -> Vec<u8> {
    [&(length << 3 | kind << 1).to_le_bytes()[..3], body].concat()
}

#[test]
fn hostile_streams_are_refused_by_name() {
    const HEAD: [u8; 6] = [0x28, 0xb5, 0x2f, 0xfd, 0, 11 << 3];
    let check = |stream: &[u8], length: usize, expected: &str| {
        let error = Unpacker::new().unpack(stream, length).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}, not {expected}: {stream:?}");
    };
    let after_head = |body: &[u8]| [&HEAD[..], body].concat();
    check(b"", 1, "cut short");
    check(b"PK\x03\x04\x00\x00", 1, "does not begin");
    check(&[0x28, 0xb5, 0x2f, 0xfd, 0, 12 << 3], 1, "window");
    check(&[0x28, 0xb5, 0x2f, 0xfd, 0, 255], 1, "window");
    // A dictionary, a content size, a checksum.
    for descriptor in [1, 0x20, 0x40, 4, 8] {
        check(&[0x28, 0xb5, 0x2f, 0xfd, descriptor, 11 << 3], 1, "not done here");
    }
    check(&HEAD, 1, "shorter than announced");
    check(&after_head(&[1, 0, 0]), 0, "has an end");
    check(&after_head(&block(3, 1, b"a")), 1, "no known kind");
    check(&after_head(&block(0, 2, b"a")), 2, "cut short");
    check(&after_head(&block(0, 2, b"ab")), 1, "longer than announced");
    // Three bytes that stand for 128 KiB, over and over.
    let bomb = block(1, 128 * 1024, b"a").repeat(1000);
    check(&after_head(&bomb), MAX_DATA_BYTES, "longer than announced");
    check(&after_head(&block(1, 128 * 1024 + 1, b"a")), MAX_DATA_BYTES, "longer than announced");
    // Literals: raw ones cut short, a tree that was never sent, more than fit.
    check(&after_head(&block(2, 2, &[2 << 3, b'a'])), 2, "cut short");
    check(&after_head(&block(2, 4, &[3 | 1 << 4, 0, 1, 0])), 1, "cut short");
    check(&after_head(&block(2, 5, &[3 | 1 << 4, 1 << 6, 0, 1, 0])), 1, "refer to no tree");
    check(&after_head(&block(2, 4, &[1 | 3 << 2, 0xff, 0xff, b'a'])), 4000, "longer than announced");
    // No sequences, and yet more bytes; one sequence without its tables.
    check(&after_head(&block(2, 4, &[1 << 3, b'a', 0, 9])), 1, "more bytes than it uses");
    check(&after_head(&block(2, 3, &[1 << 3, b'a', 1])), 1, "cut short");
    check(&after_head(&block(2, 4, &[1 << 3, b'a', 1, 3 << 6])), 1, "none before");
    check(&after_head(&block(2, 4, &[1 << 3, b'a', 1, 1])), 1, "reserved");
    // A copy of three bytes from 5 bytes back, where there is one.
    let sequence = [1 << 3, b'a', 1, 0b0101_0100, 1, 3, 0, 1 << 3];
    check(&after_head(&block(2, 8, &sequence)), 4, "before the window");
    let sound = after_head(&block(2, 3, &[1 << 3, b'a', 0]));
    assert_eq!(Unpacker::new().unpack(&sound, 1).unwrap(), b"a");
}

#[test]
fn packed_frames_that_lie_end_the_link() {
    let (now, config) = (Instant::now(), Config::default());
    let mut stack = Stack::new(Role::Client, &hello(1), config, now);
    stack.handle_bytes(now, &hello(2).encode(Role::Agent));
    let channel = stack.open(b"", Priority::Bulk).unwrap();
    for kind in [10, 11] {
        for (announced, body) in [(0, &b"abc"[..]), (300_000, b"abc"), (u32::MAX, b"abc"), (100, b"\xffabc")]
        {
            let payload = [&announced.to_le_bytes()[..], body].concat();
            let bytes = crate::frames::seal(2, kind, channel.number(), &payload);
            let mut inbound = Inbound::new();
            let mut stream = &[hello(2).encode(Role::Agent), bytes].concat()[..];
            inbound.push(&mut stream);
            assert!(matches!(inbound.poll(), Ok(Some(towline_wire::Received::Hello(..)))));
            let error = inbound.poll().unwrap_err().to_string();
            assert!(error.contains("frame 0 can't be unpacked"), "{error}");
        }
    }
}

#[test]
fn an_unpacker_stays_within_its_memory() {
    let pieces: Vec<_> = (0..60).map(|seed| sample(seed * 4 + 1, MAX_DATA_BYTES)).collect();
    let mut unpacker = Unpacker::new();
    for (packed, piece) in pack(3, 21, &pieces).iter().zip(&pieces) {
        assert!(unpacker.unpack(packed, piece.len()).unwrap() == piece);
        assert!(unpacker.memory_bytes() <= MEMORY_BYTES, "{}", unpacker.memory_bytes());
    }
}

#[cfg(feature = "zstd-encoder")]
#[test]
fn a_direction_remembers_what_it_sent() {
    const INTRODUCTION: u64 = 83;
    let mut outbound = Outbound::new(&hello(1), Role::Client, Compression::Always, true, Instant::now());
    let channel = Pair::new(&Config::default()).client.mux.open(b"", Priority::Bulk).unwrap();
    let mut sent = vec![INTRODUCTION];
    for _ in 0..3 {
        let frame = Frame::Data { channel, bytes: sample(1, 100_000) };
        outbound.push(Outgoing { frame, may_pack: true }, Instant::now);
        sent.push(outbound.sent().0);
    }
    let each: Vec<_> = sent.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(each[0] < 50_000 && each[1] < 200 && each[2] < 200, "{each:?}");
    assert!(outbound.sent().1 > 300_000, "{:?}", outbound.sent());
}

/// A link of one direction in virtual time: a buffer that the stream fills and the path empties.
struct Path {
    bytes_per_second: f64,
    buffer_bytes: f64,
    /// What the other end makes of it, in raw bytes a second: it is as slow with packed bytes.
    reader: f64,
    /// When it carries no more than 20 MB a second, in seconds from the start.
    slow: std::ops::Range<f64>,
}

/// What packing costs in these tests, in bytes a second.
const PACKING: f64 = 250e6;

/// Sends `total` bytes of a kind over a path, as fast as it takes them; returns how many travelled, and how long it
/// took.
fn send(path: &Path, config: Compression, kind: u64, total: usize) -> (u64, f64) {
    let start = Instant::now();
    let mut seconds = 0.0;
    let mut outbound = Outbound::new(&hello(1), Role::Client, config, true, start);
    let channel = Pair::new(&Config::default()).client.mux.open(b"", Priority::Bulk).unwrap();
    let (mut given, mut buffered, mut seed) = (0, 0.0f64, kind);
    let mut bytes_per_second = path.bytes_per_second;
    let at = |seconds: f64| start + Duration::from_secs_f64(seconds);
    while given < total || outbound.has_remaining() {
        if !outbound.has_remaining() {
            let before = outbound.sent();
            let mut room = outbound.room();
            while room > 0 {
                let length = room.min(128 * 1024);
                seed += 4;
                let frame = Frame::Data { channel, bytes: sample(seed, length) };
                let (before, cost) =
                    (seconds, if outbound.is_packing() { length as f64 / PACKING } else { 0.0 });
                let mut calls = 0;
                outbound.push(Outgoing { frame, may_pack: true }, || {
                    calls += 1;
                    at(before + if calls > 1 { cost } else { 0.0 })
                });
                if calls > 1 {
                    seconds += cost;
                }
                given += length;
                room -= length;
            }
            let after = outbound.sent();
            let ratio = (after.1 - before.1) as f64 / (after.0 - before.0) as f64;
            bytes_per_second = path.bytes_per_second.min(path.reader / ratio.max(1.0));
        }
        let bytes_per_second =
            if path.slow.contains(&seconds) { bytes_per_second.min(20e6) } else { bytes_per_second };
        outbound.begin(at(seconds));
        // What the path took while we packed and wrote.
        seconds += 20e-6;
        buffered = (buffered - bytes_per_second * 20e-6).max(0.0);
        let free = path.buffer_bytes - buffered;
        let count = outbound.chunk().len().min(free as usize);
        if free < 4096.0 {
            outbound.blocked(at(seconds));
            // It takes more when a quarter of the buffer is free.
            let pause = path.buffer_bytes / 4.0 / bytes_per_second;
            seconds += pause;
            buffered = (buffered - path.buffer_bytes / 4.0).max(0.0);
        } else {
            outbound.advance(count);
            buffered += count as f64;
            outbound.wrote(at(seconds), count);
        }
    }
    (outbound.sent().0, seconds)
}

#[test]
fn packing_is_chosen_where_it_pays() {
    const TOTAL: usize = 30_000_000;
    let check_reader = |what: &str, (rate, reader), compression, kind, expected: std::ops::Range<f64>| {
        let path = Path { bytes_per_second: rate, buffer_bytes: 64e3, reader, slow: 0.0..0.0 };
        let (sent, seconds) = send(&path, compression, kind, TOTAL);
        let share = sent as f64 / TOTAL as f64;
        assert!(expected.contains(&share), "{what}: {share:.2} of the bytes in {seconds:.2} s");
    };
    let check = |what: &str, rate: f64, compression, kind, expected| {
        check_reader(what, (rate, f64::INFINITY), compression, kind, expected);
    };
    let (text, noise) = (1, 3);
    check_reader("a reader that is slow", (2e9, 50e6), Compression::Auto, text, 0.7..1.01);
    check("a fast link", 2e9, Compression::Auto, text, 0.85..0.95);
    check("a fast link, and told to", 2e9, Compression::Always, text, 0.05..0.7);
    check("a slow link", 20e6, Compression::Auto, text, 0.05..0.7);
    check("a very slow link", 1e6, Compression::Auto, text, 0.05..0.7);
    check("a slow link, and told not to", 20e6, Compression::Never, text, 1.0..1.01);
    check("a slow link, and nothing that shrinks", 20e6, Compression::Auto, noise, 1.0..1.01);
    check("told to, and nothing that shrinks", 20e6, Compression::Always, noise, 1.0..1.01);
}

#[test]
fn a_fast_link_that_is_slow_for_a_moment_is_not_packed_for() {
    const TOTAL: usize = 60_000_000;
    let check = |slow: std::ops::Range<f64>, expected: std::ops::Range<f64>| {
        let path =
            Path { bytes_per_second: 200e6, buffer_bytes: 64e3, reader: f64::INFINITY, slow: slow.clone() };
        let (sent, seconds) = send(&path, Compression::Auto, 1, TOTAL);
        let share = sent as f64 / TOTAL as f64;
        assert!(expected.contains(&share), "{slow:?}: {share:.3} of the bytes in {seconds:.2} s");
    };
    check(0.0..0.0, 0.94..0.98);
    check(0.2..0.3, 0.94..0.98);
    check(0.2..9.0, 0.3..0.9);
}

#[test]
fn what_comes_after_a_pause_is_packed_up_to_4_mib() {
    const BURST: usize = 4 << 20;
    let start = Instant::now();
    let mut outbound = Outbound::new(&hello(1), Role::Client, Compression::Auto, true, start);
    let channel = Pair::new(&Config::default()).client.mux.open(b"", Priority::Bulk).unwrap();
    let mut packed_after = |pause: Duration, now: &mut Instant| {
        *now += pause;
        let mut packed = 0;
        for seed in 0..60 {
            let frame = Frame::Data { channel, bytes: sample(seed * 4 + 1, 128 * 1024) };
            outbound.begin(*now);
            let (sent, unpacked) = outbound.sent();
            outbound.push(Outgoing { frame, may_pack: true }, || *now);
            let after = outbound.sent();
            packed += if after.1 - unpacked > after.0 - sent { 128 * 1024 } else { 0 };
            let count = outbound.remaining();
            outbound.advance(count);
            outbound.wrote(*now, count);
            outbound.idle(*now);
            *now += Duration::from_micros(100);
        }
        packed
    };
    let mut now = start;
    assert_eq!(packed_after(Duration::ZERO, &mut now), BURST);
    assert_eq!(packed_after(Duration::from_millis(200), &mut now), 0);
    assert_eq!(packed_after(Duration::from_millis(300), &mut now), BURST);
}

#[test]
fn what_is_given_out_at_once_is_what_a_slow_link_carries_soon() {
    let start = Instant::now();
    let mut outbound = Outbound::new(&hello(1), Role::Agent, Compression::Never, true, start);
    outbound.advance(outbound.remaining());
    assert_eq!(outbound.room(), 256 * 1024);
    let channel = Pair::new(&Config::default()).client.mux.open(b"", Priority::Bulk).unwrap();
    let mut now = start;
    for _ in 0..20 {
        let frame = Frame::Data { channel, bytes: sample(0, 16_000) };
        outbound.push(Outgoing { frame, may_pack: false }, || now);
        outbound.begin(now);
        outbound.blocked(now);
        now += Duration::from_millis(8);
        let count = outbound.remaining();
        outbound.advance(count);
        outbound.wrote(now, count);
    }
    // 2 MB/s.
    assert!((38_000..42_000).contains(&outbound.room()), "{}", outbound.room());
}

#[test]
fn forwards_are_never_packed() {
    let config = Config { compression: Compression::Always, ..Config::default() };
    for (priority, is_packed) in
        [(Priority::Interactive, true), (Priority::Normal, false), (Priority::Bulk, true)]
    {
        let mut pair = Pair::connected(&config);
        let channel = pair.client.mux.open(b"", priority).unwrap();
        pair.client.mux.write(channel, &sample(1, 50_000)).unwrap();
        pair.settle();
        assert_eq!(pair.agent.seen(channel).bytes, sample(1, 50_000));
        let (sent, unpacked) = pair.client.mux.outbound.sent();
        assert_eq!(sent < unpacked, is_packed, "{priority:?}: {sent} of {unpacked}");
    }
}
