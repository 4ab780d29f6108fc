//! Frames: what comes out is what went in, or an error.

use std::fmt::Write as _;

use proptest::collection::vec;
use proptest::prelude::*;
use towline_wire::frame::{Decoder, Encoder, HEADER_BYTES, MAX_OPENING_BYTES, MAX_REASON_BYTES};
use towline_wire::{ChannelId, Config, Frame, FrameError, Mux, Priority, Role};

use crate::pair::hello;

/// Returns a channel's number; they are made by a mux only.
fn channel(index: usize) -> ChannelId {
    let now = std::time::Instant::now();
    let mut mux = Mux::new(Role::Client, &hello(1), Config::default(), now);
    (0..=index).map(|_| mux.open(b"", Priority::Normal).unwrap()).last().unwrap()
}

fn any_frame() -> impl Strategy<Value = Frame> {
    let channel = (0usize..50).prop_map(channel).boxed();
    let reason = || "\\PC{0,200}";
    prop_oneof![
        (channel.clone(), 0usize..3, vec(any::<u8>(), 0..2000)).prop_map(|(channel, priority, opening)| {
            Frame::Open { channel, priority: Priority::ALL[priority], opening }
        }),
        (channel.clone(), vec(any::<u8>(), 1..4000))
            .prop_map(|(channel, bytes)| Frame::Data { channel, bytes }),
        channel.clone().prop_map(|channel| Frame::Finish { channel }),
        (channel.clone(), reason()).prop_map(|(channel, reason)| Frame::Reset { channel, reason }),
        (channel, 1u32..).prop_map(|(channel, bytes)| Frame::Credit { channel, bytes }),
        any::<u64>().prop_map(|token| Frame::Ping { token }),
        any::<u64>().prop_map(|token| Frame::Pong { token }),
        any::<u64>().prop_map(|received| Frame::Acknowledge { received }),
        reason().prop_map(|reason| Frame::GoAway { reason }),
    ]
}

fn encode(frames: &[Frame]) -> Vec<u8> {
    let (mut encoder, mut bytes) = (Encoder::new([7; 16]), Vec::new());
    for frame in frames {
        encoder.encode(&mut bytes, frame);
    }
    bytes
}

/// Returns the frames that are read before the bytes end or fail.
fn decode(mut bytes: &[u8]) -> (Vec<Frame>, Option<FrameError>) {
    let (mut decoder, mut frames) = (Decoder::new([7; 16]), Vec::new());
    loop {
        match decoder.decode(&mut bytes) {
            Ok(Some(frame)) => frames.push(frame),
            Ok(None) => return (frames, None),
            Err(error) => return (frames, Some(error)),
        }
    }
}

proptest! {
    #[test]
    fn what_was_encoded_is_decoded(frames in vec(any_frame(), 0..20)) {
        prop_assert_eq!(decode(&encode(&frames)), (frames, None));
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
        let mut pieces = Vec::new();
        let mut encoder = Encoder::new([7; 16]);
        for frame in &frames {
            let mut piece = Vec::new();
            encoder.encode(&mut piece, frame);
            pieces.push(piece);
        }
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
    let result = Decoder::new([8; 16]).decode(&mut bytes.as_slice());
    assert_eq!(result, Err(FrameError::Checksum { sequence: 0 }));
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
    check(7, 6, malformed);
    check(0, 0, Some(FrameError::UnknownKind { sequence: 0, kind: 0 }));
    check(0, 10, Some(FrameError::UnknownKind { sequence: 0, kind: 10 }));
}

#[test]
fn the_bytes_of_each_kind_stay_as_they_are() {
    let channel = channel(0);
    let frames = [
        Frame::Open { channel, priority: Priority::Bulk, opening: b"go".to_vec() },
        Frame::Data { channel, bytes: b"abc".to_vec() },
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
        "0300000001010000006c6c96ba43f55aab02676f",
        "030000000201000000d0bc160b73ca5930616263",
        "000000000301000000c8bb4de6ba56aeaa",
        "0200000004010000007364363e3c37ad266e6f",
        "040000000501000000922ea7fe07185ea600000100",
        "080000000600000000ee4672a196bf3adf0100000000000000",
        "080000000700000000d5abd2db43cef0fe0200000000000000",
        "0800000008000000002f31cb6cbf9cccf50300000000000000",
        "030000000900000000a9c6db0371b40e01627965",
    ];
    assert_eq!(frames.each_ref().map(hex).as_slice(), expected);
}
