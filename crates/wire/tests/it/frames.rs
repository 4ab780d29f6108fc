//! Frames: what comes out is what went in, or an error.

use std::fmt::Write as _;

use bytes::{Buf, Bytes};
use proptest::collection::vec;
use proptest::prelude::*;
use towline_wire::frame::{HEADER_BYTES, MAX_OPENING_BYTES, MAX_REASON_BYTES};
use towline_wire::{
    ChannelId, Compression, Config, ConnectionError, Frame, FrameError, Inbound, Outbound, Outgoing,
    Priority, Received, Role,
};
use twox_hash::XxHash3_64;

use crate::pair::{Stack, hello};

/// Returns a channel's number; they are made by a mux only.
fn channel(index: usize) -> ChannelId {
    let now = std::time::Instant::now();
    let mut mux = Stack::new(Role::Client, &hello(1), Config::default(), now);
    (0..=index).map(|_| mux.open(b"", Priority::Normal).unwrap()).last().unwrap()
}

fn any_frame() -> impl Strategy<Value = Frame> {
    let channel = (0usize..50).prop_map(channel).boxed();
    let reason = || "\\PC{0,200}";
    prop_oneof![
        (channel.clone(), 0usize..3, vec(any::<u8>(), 0..2000)).prop_map(|(channel, priority, opening)| {
            Frame::Open { channel, priority: Priority::ALL[priority], opening: opening.into() }
        }),
        (channel.clone(), vec(any::<u8>(), 1..4000))
            .prop_map(|(channel, bytes)| Frame::Data { channel, bytes: bytes.into() }),
        channel.clone().prop_map(|channel| Frame::Finish { channel }),
        (channel.clone(), reason()).prop_map(|(channel, reason)| Frame::Reset { channel, reason }),
        (channel, 1u32..).prop_map(|(channel, bytes)| Frame::Credit { channel, bytes }),
        any::<u64>().prop_map(|token| Frame::Ping { token }),
        any::<u64>().prop_map(|token| Frame::Pong { token }),
        any::<u64>().prop_map(|received| Frame::Acknowledge { received }),
        reason().prop_map(|reason| Frame::GoAway { reason }),
    ]
}

/// Seals the first frame of a session as its format has it, whatever is in it.
pub(crate) fn seal(seed: u8, kind: u8, channel: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap();
    let fields = [&length.to_le_bytes()[..], &[kind], &channel.to_le_bytes()].concat();
    let sum = XxHash3_64::oneshot(payload).to_le_bytes();
    let covered = [&[seed; 16][..], &[0; 8], &fields, &sum].concat();
    [&fields[..], &XxHash3_64::oneshot(&covered).to_le_bytes(), payload].concat()
}

/// Takes all bytes of the stream.
fn drain(outbound: &mut Outbound) -> Bytes {
    let count = outbound.remaining();
    outbound.copy_to_bytes(count)
}

/// An end that has introduced itself.
fn sender(compression: Compression, takes_pieces: bool) -> Outbound {
    let now = std::time::Instant::now();
    let mut outbound = Outbound::new(&hello(7), Role::Client, compression, takes_pieces, now);
    assert_eq!(drain(&mut outbound), hello(7).encode(Role::Client));
    outbound
}

/// Returns the bytes of each frame.
fn encode_each(outbound: &mut Outbound, frames: &[Frame]) -> Vec<Bytes> {
    let encode = |frame: &Frame| {
        outbound.push(Outgoing { frame: frame.clone(), may_pack: true }, std::time::Instant::now);
        drain(outbound)
    };
    frames.iter().map(encode).collect()
}

fn encode(frames: &[Frame]) -> Vec<u8> {
    encode_each(&mut sender(Compression::Never, false), frames).concat()
}

/// Returns the frames that are read before the bytes, which come in pieces of this size, end or fail.
fn decode_pieces(seed: u8, bytes: &[u8], size: usize) -> (Vec<Frame>, Option<ConnectionError>) {
    let (mut inbound, mut frames) = (Inbound::new(), Vec::new());
    let introduction = hello(seed).encode(Role::Client);
    for mut piece in introduction.chunks(size).chain(bytes.chunks(size)) {
        while !piece.is_empty() {
            inbound.push(&mut piece);
            loop {
                match inbound.poll() {
                    Ok(Some(Received::Frame(frame))) => frames.push(frame),
                    Ok(Some(Received::Hello(..))) => {}
                    Ok(None) => break,
                    Err(error) => return (frames, Some(error)),
                }
            }
        }
    }
    (frames, None)
}

fn decode(bytes: &[u8]) -> (Vec<Frame>, Option<FrameError>) {
    let (frames, error) = decode_pieces(7, bytes, usize::MAX);
    let error = error.map(|error| match error {
        ConnectionError::Frame(error) => error,
        other => panic!("{other:?}"),
    });
    (frames, error)
}

proptest! {
    #[test]
    fn what_was_encoded_is_decoded(frames in vec(any_frame(), 0..20)) {
        prop_assert_eq!(decode(&encode(&frames)), (frames, None));
    }

    #[test]
    fn neither_pieces_nor_packing_change_what_arrives(
        frames in vec(any_frame(), 0..20),
        long in vec((0usize..50, 0usize..150_000, 1u64..4), 0..4),
        compression in prop::sample::select(vec![Compression::Never, Compression::Always]),
        size in prop_oneof![1usize..40, 1000usize..200_000],
    ) {
        let long = long.into_iter().map(|(index, length, kind)| {
            Frame::Data { channel: channel(index), bytes: crate::packing::sample(kind, length + 1) }
        });
        let frames: Vec<_> = frames.into_iter().chain(long).collect();
        let mut outbound = sender(compression, true);
        let bytes = encode_each(&mut outbound, &frames).concat();
        prop_assert_eq!(decode_pieces(7, &bytes, size), (frames, None));
    }

    #[test]
    fn any_changed_byte_is_found_out(
        frames in vec(any_frame(), 1..6), at in any::<prop::sample::Index>(), flip in 1u8..,
    ) {
        let mut bytes = encode(&frames);
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        let (read, error) = decode(&bytes);
        // A shorter prefix of the truth, never anything else; only a longer length still waits for its bytes.
        prop_assert!(read.len() < frames.len() && frames.starts_with(&read));
        bytes.resize(bytes.len() + 300_000, 0);
        prop_assert!(error.is_some() || decode(&bytes).1.is_some());
    }

    #[test]
    fn lost_repeated_and_moved_frames_are_found_out(frames in vec(any_frame(), 2..6), first in 0usize..6) {
        let first = first % (frames.len() - 1);
        let pieces = encode_each(&mut sender(Compression::Never, true), &frames);
        let mut lost = pieces.clone();
        lost.remove(first);
        let mut repeated = pieces.clone();
        repeated.insert(first, pieces[first].clone());
        let mut moved = pieces.clone();
        moved.swap(first, first + 1);
        for wrong in [lost, repeated, moved] {
            let (read, error) = decode(&wrong.concat());
            prop_assert!(read.len() <= first + 1);
            prop_assert!(matches!(error, Some(FrameError::Checksum { .. })), "{:?}", error);
        }
    }

    #[test]
    fn arbitrary_bytes_are_refused_or_wait(bytes in vec(any::<u8>(), 0..600)) {
        prop_assert!(decode(&bytes).0.is_empty());
    }
}

#[test]
fn a_frame_of_another_session_is_found_out() {
    let bytes = encode(&[Frame::Ping { token: 1 }]);
    let (_, error) = decode_pieces(8, &bytes, usize::MAX);
    assert_eq!(error, Some(FrameError::Checksum { sequence: 0 }.into()));
}

#[test]
fn limits_are_checked_before_the_payload_is_there() {
    let header = |length: u32, kind: u8| {
        let mut bytes = length.to_le_bytes().to_vec();
        bytes.push(kind);
        bytes.resize(HEADER_BYTES, 0);
        bytes
    };
    let check = |length, kind, expected: Option<FrameError>| {
        assert_eq!(decode(&header(length, kind)).1, expected, "length {length}, kind {kind}");
    };
    let malformed = Some(FrameError::Malformed { sequence: 0, what: "length" });
    let bound = |bytes: usize| u32::try_from(bytes).unwrap();
    check(u32::MAX, 2, Some(FrameError::TooLong { sequence: 0, length: 0xffff_ffff }));
    check(256 * 1024 + 1, 2, Some(FrameError::TooLong { sequence: 0, length: 256 * 1024 + 1 }));
    check(256 * 1024, 2, None);
    check(0, 2, malformed.clone());
    check(bound(MAX_OPENING_BYTES) + 2, 1, malformed.clone());
    check(bound(MAX_OPENING_BYTES) + 1, 1, None);
    check(bound(MAX_REASON_BYTES) + 1, 4, malformed.clone());
    check(bound(MAX_REASON_BYTES) + 1, 9, malformed.clone());
    check(1, 3, malformed.clone());
    check(5, 5, malformed.clone());
    check(7, 6, malformed.clone());
    check(0, 0, Some(FrameError::UnknownKind { sequence: 0, kind: 0 }));
    check(4, 10, malformed.clone());
    check(4, 11, malformed);
    check(0, 12, Some(FrameError::UnknownKind { sequence: 0, kind: 12 }));
}

#[test]
fn the_bytes_of_each_kind_stay_as_they_are() {
    let channel = channel(0);
    let frames = [
        Frame::Open { channel, priority: Priority::Bulk, opening: Bytes::from_static(b"go") },
        Frame::Data { channel, bytes: Bytes::from_static(b"abc") },
        Frame::Finish { channel },
        Frame::Reset { channel, reason: "no".to_owned() },
        Frame::Credit { channel, bytes: 65536 },
        Frame::Ping { token: 1 },
        Frame::Pong { token: 2 },
        Frame::Acknowledge { received: 3 },
        Frame::GoAway { reason: "bye".to_owned() },
    ];
    let hex = |frame: &Frame| -> String {
        let mut hex = String::new();
        for byte in encode(std::slice::from_ref(frame)) {
            write!(hex, "{byte:02x}").unwrap();
        }
        hex
    };
    let expected = [
        "0300000001010000009b1b428a47439f0e02676f",
        "030000000201000000912abde2ffd2a0b5616263",
        "00000000030100000078ffcd87d50a3777",
        "020000000401000000d505fa75b570c3e86e6f",
        "040000000501000000ec8171cabcd1b9a300000100",
        "08000000060000000034c70eb58c891bc40100000000000000",
        "08000000070000000034fe8dc4a16e6aa70200000000000000",
        "080000000800000000c76f2a10ca5df4200300000000000000",
        "030000000900000000794a656a29a18be6627965",
    ];
    assert_eq!(frames.each_ref().map(hex).as_slice(), expected);
}
