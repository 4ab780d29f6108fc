//! Hellos: what comes out is what went in, or an error.

use std::time::{Duration, Instant};

use proptest::collection::vec;
use proptest::prelude::*;
use towline_wire::{Config, ConnectionError, Event, Hello, HelloError, Role};

use crate::pair::{Stack, hello};

/// Feeds a client with these bytes; returns how the handshake ended, if it did.
fn answer_with(bytes: &[u8], chunk: usize) -> Option<Result<Hello, ConnectionError>> {
    let now = Instant::now();
    let mut mux = Stack::new(Role::Client, &hello(1), Config::default(), now);
    bytes.chunks(chunk).for_each(|piece| mux.handle_bytes(now, piece));
    match mux.poll_event()? {
        Event::Connected(hello) => Some(Ok(hello)),
        Event::Closed(error) => Some(Err(error)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_hello_stays_as_it_is() {
    let expected = [
        &b"TOWLINE\0"[..],
        &[2, 0],
        &[55, 0],
        &[1],
        &[2; 32],
        &[2; 16],
        b"test 2",
        &[59, 135, 235, 68, 200, 21, 68, 128],
    ];
    assert_eq!(hello(2).encode(Role::Agent), expected.concat());
}

#[test]
fn a_sound_hello_is_taken_in_any_pieces() {
    let bytes = hello(2).encode(Role::Agent);
    for chunk in 1..=bytes.len() {
        assert_eq!(answer_with(&bytes, chunk), Some(Ok(hello(2))));
    }
}

#[test]
fn anything_unexpected_is_refused() {
    let sound = hello(2).encode(Role::Agent);
    let check = |bytes: &[u8], expected: HelloError| {
        assert_eq!(answer_with(bytes, 1000), Some(Err(expected.into())));
    };
    check(b"sh: not found\n", HelloError::NotTowline { start: "sh: not found\\n".to_owned() });
    check(b"TOWLINF", HelloError::NotTowline { start: "TOWLINF".to_owned() });
    check(&hello(2).encode(Role::Client), HelloError::SameRole);
    check(&hello(1).encode(Role::Agent), HelloError::Reflected);
    let changed = |at: usize, byte: u8| {
        let mut bytes = sound.clone();
        bytes[at] = byte;
        bytes
    };
    check(&changed(8, 1), HelloError::Format { theirs: 1, ours: 2 });
    check(&changed(9, 1), HelloError::Format { theirs: 258, ours: 2 });
    check(&changed(11, 255), HelloError::Length { length: 255 * 256 + 55 });
    check(&changed(12, 0), HelloError::Checksum);
    // With a sound checksum, the fields are looked at all the same.
    let signed = |at: usize, byte: u8| {
        let mut bytes = changed(at, byte);
        let end = bytes.len() - 8;
        let hash = blake3::hash(&bytes[..end]);
        bytes[end..].copy_from_slice(&hash.as_bytes()[..8]);
        bytes
    };
    check(&signed(12, 2), HelloError::Malformed { field: "role" });
    check(&signed(61, 0x1b), HelloError::Malformed { field: "version" });
}

#[test]
fn a_hello_cut_short_runs_into_the_deadline() {
    let bytes = hello(2).encode(Role::Agent);
    for length in 0..bytes.len() {
        assert_eq!(answer_with(&bytes[..length], 1000), None);
    }
    let now = Instant::now();
    let mut mux = Stack::new(Role::Client, &hello(1), Config::default(), now);
    mux.handle_bytes(now, &bytes[..20]);
    let after = Duration::from_secs(5);
    assert_eq!(mux.poll_timeout(), Some(now + after));
    mux.handle_timeout(now + after);
    assert_eq!(mux.poll_event(), Some(Event::Closed(ConnectionError::HandshakeTimeout { after })));
}

#[test]
fn nothing_but_the_hello_goes_to_a_stranger() {
    let now = Instant::now();
    let mut mux = Stack::new(Role::Client, &hello(1), Config::default(), now);
    let channel = mux.open(b"secret", towline_wire::Priority::Normal).unwrap();
    mux.write(channel, b"secret").unwrap();
    let mut out = Vec::new();
    mux.poll_transmit(now, &mut out);
    mux.poll_transmit(now, &mut out);
    assert_eq!(out, hello(1).encode(Role::Client));
}

#[test]
fn an_odd_version_is_mended() {
    let check = |version: &str, expected: &str| {
        let hello = Hello { version: version.to_owned(), ..hello(2) };
        let bytes = hello.encode(Role::Agent);
        let (_, read) = Hello::decode(&mut bytes.as_slice()).unwrap().unwrap();
        assert_eq!(read.version, expected);
    };
    check("", "?");
    check("1.0 \u{1b}[1m\u{e9}", "1.0 ?[1m?");
    check(&"x".repeat(1000), &"x".repeat(64));
}

proptest! {
    #[test]
    fn any_changed_byte_is_refused(at in any::<prop::sample::Index>(), flip in 1u8..) {
        let mut bytes = hello(2).encode(Role::Agent);
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        // A longer length waits for bytes that never come right.
        bytes.extend([0; 100]);
        prop_assert!(matches!(answer_with(&bytes, 7), Some(Err(ConnectionError::Hello(_)))));
    }

    #[test]
    fn arbitrary_bytes_never_pass(bytes in vec(any::<u8>(), 0..400), prefix in 0usize..80) {
        let mut all = hello(2).encode(Role::Agent)[..prefix.min(60)].to_vec();
        all.extend(bytes);
        prop_assert!(!matches!(answer_with(&all, 13), Some(Ok(_))));
    }
}
