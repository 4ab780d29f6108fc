//! A peer that does what it may not: each is found, named, and ends the link.

use std::time::Instant;

use bytes::Bytes;
use towline_wire::frame::MAX_PAYLOAD_BYTES;
use towline_wire::{ChannelId, Config, ConnectionError, Event, Frame, Priority, Received, Role, Violation};

use crate::pair::{Stack, hello};

/// A client under test, and the hand of an agent that may write anything.
struct Rogue {
    now: Instant,
    client: Stack,
}

impl Rogue {
    fn new() -> Self {
        let now = Instant::now();
        let config = Config { max_channels: 4, ..Config::default() };
        let mut client = Stack::new(Role::Client, &hello(1), config, now);
        client.handle_bytes(now, &hello(2).encode(Role::Agent));
        assert!(matches!(client.poll_event(), Some(Event::Connected(_))));
        Self { now, client }
    }

    fn send(&mut self, frame: &Frame) {
        self.client.handle_received(self.now, Ok(Received::Frame(frame.clone())));
    }

    fn end(&mut self) -> Option<ConnectionError> {
        std::iter::from_fn(|| self.client.poll_event()).find_map(|event| match event {
            Event::Closed(error) => Some(error),
            _ => None,
        })
    }
}

/// The numbers that an agent gives.
fn agents(count: usize) -> Vec<ChannelId> {
    let config = Config { max_channels: 100, ..Config::default() };
    let mut mux = Stack::new(Role::Agent, &hello(3), config, Instant::now());
    (0..count).map(|_| mux.open(b"", Priority::Normal).unwrap()).collect()
}

fn open(channel: ChannelId) -> Frame {
    Frame::Open { channel, priority: Priority::Normal, opening: Bytes::new() }
}

#[test]
fn each_violation_is_named_and_ends_the_link() {
    let check = |frames: &[Frame], expected: Violation| {
        let mut rogue = Rogue::new();
        let own = rogue.client.open(b"", Priority::Normal).unwrap();
        assert_eq!(own.number(), 1);
        let (last, first) = frames.split_last().unwrap();
        for frame in first {
            rogue.send(frame);
        }
        assert_eq!(rogue.end(), None, "before {last:?}");
        rogue.send(last);
        assert_eq!(rogue.end(), Some(expected.clone().into()));
        let mut out = Vec::new();
        rogue.client.poll_transmit(rogue.now, &mut out);
        let text = ConnectionError::from(expected).to_string();
        assert!(out.windows(text.len()).any(|window| window == text.as_bytes()), "the peer is told why");
    };
    let ids = agents(10);
    let (a, b) = (ids[0], ids[1]);
    let own = {
        let mut mux = Stack::new(Role::Client, &hello(1), Config::default(), Instant::now());
        mux.open(b"", Priority::Normal).unwrap()
    };
    let data = |channel, count| Frame::Data { channel, bytes: vec![0; count].into() };
    let finish = |channel| Frame::Finish { channel };
    check(&[data(a, 1)], Violation::NeverOpened { channel: a });
    check(&[finish(a)], Violation::NeverOpened { channel: a });
    check(&[Frame::Reset { channel: a, reason: String::new() }], Violation::NeverOpened { channel: a });
    check(&[Frame::Credit { channel: a, bytes: 1 }], Violation::NeverOpened { channel: a });
    check(&[open(a), open(a)], Violation::WrongNumber { channel: a });
    check(&[open(b), open(a)], Violation::WrongNumber { channel: a });
    check(&[open(own)], Violation::WrongNumber { channel: own });
    let five: Vec<_> = ids.iter().take(5).map(|id| open(*id)).collect();
    check(&five, Violation::TooManyChannels { limit: 4 });
    check(&[open(a), data(a, 64 * 1024), data(a, 1)], Violation::OverCredit { channel: a });
    check(&[open(a), data(a, MAX_PAYLOAD_BYTES)], Violation::OverCredit { channel: a });
    check(&[open(a), finish(a), data(a, 1)], Violation::AfterFinish { channel: a });
    check(&[open(a), finish(a), finish(a)], Violation::AfterFinish { channel: a });
    check(&[Frame::Credit { channel: own, bytes: u32::MAX }], Violation::CreditOverflow { channel: own });
    check(&[Frame::Acknowledge { received: 1 }], Violation::AcknowledgedUnsent);
    check(&[Frame::Pong { token: 1 }], Violation::UnexpectedPong);
}

#[test]
fn answers_that_nobody_reads_do_not_pile_up() {
    let mut rogue = Rogue::new();
    for channel in agents(99) {
        rogue.send(&open(channel));
        rogue.client.reset(channel, "refused");
    }
    assert_eq!(rogue.end(), Some(Violation::AnswersUnread.into()));

    let mut rogue = Rogue::new();
    (0..100_000).for_each(|token| rogue.send(&Frame::Ping { token }));
    let mut out = Vec::new();
    rogue.client.poll_transmit(rogue.now, &mut out);
    assert!(out.len() < 1000, "{} bytes of pongs", out.len());
}

#[test]
fn frames_that_cross_with_a_reset_are_forgiven() {
    let mut rogue = Rogue::new();
    let channel = agents(1)[0];
    rogue.send(&open(channel));
    rogue.client.reset(channel, "enough");
    rogue.send(&Frame::Data { channel, bytes: vec![0; 100].into() });
    rogue.send(&Frame::Credit { channel, bytes: 5 });
    rogue.send(&Frame::Finish { channel });
    rogue.send(&Frame::Reset { channel, reason: "mine".to_owned() });
    let events: Vec<_> = std::iter::from_fn(|| rogue.client.poll_event()).collect();
    assert!(matches!(events[..], [Event::Opened { .. }]), "{events:?}");
}
