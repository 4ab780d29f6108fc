//! Both ends over a path with latency, pieces of any size, and loss of the link.

use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use towline_wire::{Config, ConnectionError, OpenError, Priority};

use crate::pair::Pair;

const SECOND: Duration = Duration::from_secs(1);
const HEADER: usize = towline_wire::frame::HEADER_BYTES;

fn pattern(seed: usize, length: usize) -> Vec<u8> {
    (0..length)
        .map(|at| (at.wrapping_mul(31) ^ (at >> 8) ^ seed.wrapping_mul(101)).to_le_bytes()[0])
        .collect()
}

#[test]
fn a_channel_carries_both_directions_and_ends_each_by_itself() {
    let mut pair = Pair::connected(&Config::default());
    let channel = pair.client.mux.open(b"what for", Priority::Normal).unwrap();
    assert_eq!(pair.client.mux.write(channel, b"question"), Ok(8));
    pair.client.mux.finish(channel);
    assert!(pair.client.mux.write(channel, b"more").is_err());
    pair.settle();
    let seen = pair.agent.seen(channel);
    assert_eq!((seen.opening.as_deref(), &seen.bytes[..]), (Some(&b"what for"[..]), &b"question"[..]));
    assert!(seen.is_finished && pair.client.mux.is_finish_sent(channel));
    assert_eq!(pair.agent.mux.write(channel, b"answer"), Ok(6));
    pair.agent.mux.finish(channel);
    pair.settle();
    let seen = pair.client.seen(channel);
    assert_eq!((&seen.bytes[..], seen.is_finished, seen.writable), (&b"answer"[..], true, 1));
    assert!(pair.agent.mux.write(channel, b"x").is_err());
}

#[test]
fn a_reset_ends_both_directions_and_says_why() {
    let mut pair = Pair::connected(&Config::default());
    let channel = pair.client.mux.open(b"", Priority::Normal).unwrap();
    pair.settle();
    let reason = "\u{e9}".repeat(600);
    pair.agent.mux.reset(channel, &reason);
    pair.settle();
    assert_eq!(pair.client.seen(channel).reset.as_deref(), Some(&reason[..1024]));
    assert!(pair.client.mux.write(channel, b"x").is_err());
    assert!(pair.agent.mux.write(channel, b"x").is_err());
    assert_eq!((&pair.client.closed, &pair.agent.closed), (&None, &None));
}

#[test]
fn the_number_of_channels_is_limited_and_places_become_free() {
    let mut pair = Pair::connected(&Config { max_channels: 3, ..Config::default() });
    for round in 0..20 {
        let opened: Vec<_> = (0..3).map(|_| pair.client.mux.open(b"", Priority::Bulk).unwrap()).collect();
        assert_eq!(pair.client.mux.open(b"", Priority::Bulk), Err(OpenError::TooMany { limit: 3 }));
        pair.agent.is_reading = round % 2 == 0;
        for channel in &opened {
            pair.client.mux.write(*channel, b"left unread").unwrap();
            pair.client.mux.finish(*channel);
        }
        pair.settle();
        for channel in &opened {
            pair.agent.mux.finish(*channel);
        }
        pair.settle();
        for channel in &opened {
            let unconsumed = pair.agent.seen(*channel).unconsumed;
            pair.agent.mux.consume(*channel, unconsumed);
        }
    }
    assert_eq!((&pair.client.closed, &pair.agent.closed), (&None, &None));
}

#[test]
fn opening_bytes_are_limited() {
    let mut pair = Pair::connected(&Config::default());
    let too_long = vec![0; 64 * 1024 + 1];
    let refused = pair.client.mux.open(&too_long, Priority::Normal);
    assert_eq!(refused, Err(OpenError::OpeningTooLong { length: 64 * 1024 + 1 }));
    let channel = pair.client.mux.open(&too_long[1..], Priority::Normal).unwrap();
    pair.settle();
    assert_eq!(pair.agent.seen(channel).opening.as_deref(), Some(&too_long[1..]));
}

/// Keeps writing zeros to a channel for a while; returns what arrived.
fn pump(pair: &mut Pair, channel: towline_wire::ChannelId, rounds: usize) -> usize {
    let before = pair.agent.seen(channel).bytes.len();
    for _ in 0..rounds {
        while pair.client.mux.write(channel, &[0; 8192]).unwrap() > 0 {}
        pair.run_for(Duration::from_millis(5));
    }
    pair.agent.seen(channel).bytes.len() - before
}

#[test]
fn a_stalled_reader_stops_its_own_channel_only() {
    let mut pair = Pair::connected(&Config::default());
    pair.agent.is_reading = false;
    let bulk = pair.client.mux.open(b"", Priority::Bulk).unwrap();
    pump(&mut pair, bulk, 200);
    let held = pair.agent.seen(bulk).bytes.len();
    assert_eq!(held, 2 * 1024 * 1024, "exactly the window");
    let keys = pair.client.mux.open(b"", Priority::Interactive).unwrap();
    pair.client.mux.write(keys, b"ls\n").unwrap();
    let more = pair.client.mux.open(b"", Priority::Bulk).unwrap();
    pair.client.mux.write(more, b"goes too").unwrap();
    pair.run_for(Duration::from_millis(20));
    assert_eq!(pair.agent.seen(keys).bytes, b"ls\n");
    assert_eq!(pair.agent.seen(more).bytes, b"goes too");
    pair.agent.mux.consume(bulk, held);
    assert!(pump(&mut pair, bulk, 100) >= 1024 * 1024);
}

#[test]
fn all_windows_together_keep_to_the_budget() {
    let config = Config { receive_budget: 3 * 1024 * 1024, bulk_window: 1024 * 1024, ..Config::default() };
    let mut pair = Pair::connected(&config);
    pair.agent.is_reading = false;
    let held: Vec<_> = (0..5)
        .map(|_| {
            let channel = pair.client.mux.open(b"", Priority::Bulk).unwrap();
            pump(&mut pair, channel, 100);
            pair.agent.seen(channel).bytes.len()
        })
        .collect();
    let (window, initial) = (1024 * 1024, 64 * 1024);
    assert_eq!(held, [window, window, window, initial, initial]);
}

#[test]
fn an_interactive_frame_overtakes_everything_that_waits() {
    let mut pair = Pair::connected(&Config::default());
    let bulk: Vec<_> = (0..10).map(|_| pair.client.mux.open(b"", Priority::Bulk).unwrap()).collect();
    pair.settle();
    for channel in &bulk {
        pair.client.mux.write(*channel, &vec![0; 256 * 1024]).unwrap();
    }
    // What was given to the stream before the key was struck is all that it waits for.
    pair.transmit();
    let before = pair.client.mux.outbound.sent().0;
    let keys = pair.client.mux.open(b"", Priority::Interactive).unwrap();
    pair.client.mux.write(keys, b"q").unwrap();
    let mut out = Vec::new();
    pair.client.mux.poll_transmit(pair.now, &mut out);
    let given = pair.client.mux.outbound.sent().0 - before;
    assert!(given <= 256 * 1024, "{given} bytes at once");
    let at = out.windows(HEADER + 1).position(|window| window[4] == 2 && window[HEADER] == b'q').unwrap();
    assert!(at < 200, "{at} bytes before it");
}

/// Sends so many bytes as fast as a stream takes them that takes everything; returns how long it took.
fn send_all(pair: &mut Pair, channel: towline_wire::ChannelId, total: usize) -> Duration {
    let (start, block) = (pair.now, bytes::Bytes::from(vec![0; 512 * 1024]));
    let (before, mut written) = (pair.agent.seen(channel).bytes.len(), 0);
    while pair.agent.seen[&channel.number()].bytes.len() < before + total {
        loop {
            let mut rest = block.slice(..block.len().min(total - written));
            let length = rest.len();
            pair.client.mux.write_bytes(channel, &mut rest).unwrap();
            written += length - rest.len();
            let before = pair.client.mux.outbound.sent();
            pair.transmit();
            if before == pair.client.mux.outbound.sent() {
                break;
            }
        }
        pair.step();
    }
    pair.now - start
}

#[test]
fn a_long_path_is_filled_within_a_few_round_trips() {
    let mut pair = Pair::new(&Config::default());
    pair.latency = Duration::from_millis(75);
    pair.settle();
    let bulk = pair.client.mux.open(b"", Priority::Bulk).unwrap();
    pair.settle();
    let trips = send_all(&mut pair, bulk, 64 << 20).as_secs_f64() / 0.15;
    assert!(trips < 8.0, "{trips:.1} round trips for 64 MiB");
    let trips = send_all(&mut pair, bulk, 20 << 20).as_secs_f64() / 0.15;
    assert!(trips < 2.0, "{trips:.1} round trips for 20 MiB more");
}

#[test]
fn a_path_that_becomes_longer_is_filled_again() {
    let mut pair = Pair::connected(&Config::default());
    let bulk = pair.client.mux.open(b"", Priority::Bulk).unwrap();
    pair.settle();
    send_all(&mut pair, bulk, 4 << 20);
    pair.latency = Duration::from_millis(150);
    send_all(&mut pair, bulk, 24 << 20);
    let trips = send_all(&mut pair, bulk, 20 << 20).as_secs_f64() / 0.3;
    assert!(trips < 3.0, "{trips:.1} round trips for 20 MiB");
}

#[test]
fn channels_of_one_class_share_alike() {
    let mut pair = Pair::connected(&Config { max_in_flight: 64 * 1024, ..Config::default() });
    let channels: Vec<_> = (0..5).map(|_| pair.client.mux.open(b"", Priority::Normal).unwrap()).collect();
    let last = pair.client.mux.open(b"", Priority::Bulk).unwrap();
    for _ in 0..100 {
        for channel in channels.iter().chain([&last]) {
            while pair.client.mux.write(*channel, &[0; 5000]).unwrap() > 0 {}
        }
        pair.run_for(Duration::from_millis(10));
    }
    let got: Vec<_> = channels.iter().map(|channel| pair.agent.seen(*channel).bytes.len()).collect();
    let (min, max) = (got.iter().min().unwrap(), got.iter().max().unwrap());
    assert!(*min > 500_000 && max - min <= 64 * 1024, "{got:?}");
    assert_eq!(pair.agent.seen(last).bytes.len(), 0, "a lower class waits");
}

#[test]
fn a_silent_peer_is_dead_within_five_seconds() {
    let mut pair = Pair::connected(&Config::default());
    pair.run_for(61 * SECOND);
    assert_eq!(pair.client.closed, None, "pings keep an idle link alive");
    assert_eq!(pair.client.mux.round_trip(), Some(Duration::from_millis(20)));
    for offset in [0, 700, 1999] {
        let mut pair = Pair::connected(&Config::default());
        pair.run_for(Duration::from_millis(10_000 + offset));
        pair.is_cut = true;
        let cut = pair.now;
        while pair.client.closed.is_none() {
            assert!(pair.now - cut < 6 * SECOND);
            pair.run_for(Duration::from_millis(100));
        }
        let after = pair.now - cut;
        assert!(after <= Duration::from_millis(5100) && after >= 2 * SECOND, "{after:?}");
        assert!(matches!(pair.client.closed, Some(ConnectionError::PeerDead { .. })));
        pair.run_for(Duration::from_millis(200));
        assert!(matches!(pair.agent.closed, Some(ConnectionError::PeerDead { .. })));
    }
}

#[test]
fn after_a_sleep_the_peer_gets_one_interval_to_answer() {
    let mut pair = Pair::connected(&Config::default());
    pair.now += Duration::from_hours(8);
    pair.run_for(10 * SECOND);
    assert_eq!((&pair.client.closed, &pair.agent.closed), (&None, &None));

    let mut pair = Pair::connected(&Config::default());
    pair.now += Duration::from_hours(8);
    pair.is_cut = true;
    let woken = pair.now;
    pair.run_for(Duration::from_millis(1900));
    assert_eq!(pair.client.closed, None);
    pair.run_until(woken + Duration::from_millis(2100));
    assert!(matches!(pair.client.closed, Some(ConnectionError::PeerDead { .. })));
}

#[test]
fn a_probe_asks_at_once_and_shortens_the_wait() {
    let mut pair = Pair::connected(&Config::default());
    pair.settle();
    pair.is_cut = true;
    pair.client.mux.probe(pair.now);
    pair.run_for(Duration::from_millis(2100));
    assert!(matches!(pair.client.closed, Some(ConnectionError::PeerDead { .. })));
}

#[test]
fn closing_lets_out_what_was_written_before() {
    let mut pair = Pair::connected(&Config::default());
    let channel = pair.client.mux.open(b"", Priority::Bulk).unwrap();
    pair.settle();
    let bytes = pattern(1, 200_000);
    assert_eq!(pair.client.mux.write(channel, &bytes), Ok(bytes.len()));
    pair.client.mux.finish(channel);
    pair.client.mux.close(pair.now, "done");
    assert_eq!(pair.client.mux.open(b"", Priority::Bulk), Err(OpenError::Closed));
    pair.settle();
    assert_eq!(pair.client.closed, Some(ConnectionError::Closed));
    assert_eq!(pair.agent.closed, Some(ConnectionError::PeerClosed { reason: "done".to_owned() }));
    let seen = pair.agent.seen(channel);
    assert!(seen.bytes == bytes && seen.is_finished);
}

#[test]
fn closing_waits_for_a_stalled_reader_no_longer_than_the_deadline() {
    let mut pair = Pair::connected(&Config::default());
    pair.agent.is_reading = false;
    let channel = pair.client.mux.open(b"", Priority::Bulk).unwrap();
    pump(&mut pair, channel, 200);
    pair.client.mux.close(pair.now, "done");
    pair.run_for(Duration::from_millis(900));
    assert_eq!(pair.client.closed, None);
    pair.run_for(Duration::from_millis(200));
    assert_eq!(pair.client.closed, Some(ConnectionError::Closed));
    assert!(matches!(pair.agent.closed, Some(ConnectionError::PeerClosed { .. })));
}

#[derive(Debug, Clone)]
enum Step {
    Write { channel: usize, from_client: bool, length: usize },
    Read { from_client: bool },
    Stall { from_client: bool },
    Wait { milliseconds: u64 },
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0usize..6, any::<bool>(), 1usize..150_000)
            .prop_map(|(channel, from_client, length)| Step::Write { channel, from_client, length }),
        1 => any::<bool>().prop_map(|from_client| Step::Read { from_client }),
        1 => any::<bool>().prop_map(|from_client| Step::Stall { from_client }),
        2 => (0u64..40).prop_map(|milliseconds| Step::Wait { milliseconds }),
    ]
}

fn start_reading(end: &mut crate::pair::End, channels: &[towline_wire::ChannelId]) {
    end.is_reading = true;
    for channel in channels {
        if let Some(seen) = end.seen.get_mut(&channel.number()) {
            end.mux.consume(*channel, std::mem::take(&mut seen.unconsumed));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn each_channel_delivers_its_bytes_in_order_exactly_once(
        steps in vec(any_step(), 1..60),
        chunk in prop_oneof![1usize..50, 1000usize..100_000],
        window in prop_oneof![Just(0u32), Just(100_000), Just(1 << 20)],
        max_in_flight in prop_oneof![Just(0u64), Just(8 << 20)],
    ) {
        let config = Config {
            interactive_window: window, bulk_window: window, max_in_flight,
            send_buffer: 50_000, receive_budget: 300_000, ..Config::default()
        };
        let mut pair = Pair::connected(&config);
        pair.chunk = chunk;
        let channels: Vec<_> = (0..6)
            .map(|index| {
                let priority = Priority::ALL[index % 3];
                if index < 3 { &mut pair.client } else { &mut pair.agent }.mux.open(b"", priority).unwrap()
            })
            .collect();
        pair.settle();
        let mut written = vec![[Vec::new(), Vec::new()]; 6];
        for step in steps {
            match step {
                Step::Write { channel, from_client, length } => {
                    let bytes = pattern(written[channel][0].len() + channel, length);
                    let end = if from_client { &mut pair.client } else { &mut pair.agent };
                    let count = end.mux.write(channels[channel], &bytes).unwrap();
                    written[channel][usize::from(from_client)].extend_from_slice(&bytes[..count]);
                }
                Step::Read { from_client } => {
                    let end = if from_client { &mut pair.client } else { &mut pair.agent };
                    start_reading(end, &channels);
                }
                Step::Stall { from_client } => {
                    if from_client { &mut pair.client } else { &mut pair.agent }.is_reading = false;
                }
                Step::Wait { milliseconds } => pair.run_for(Duration::from_millis(milliseconds)),
            }
        }
        for channel in &channels {
            pair.client.mux.finish(*channel);
            pair.agent.mux.finish(*channel);
        }
        start_reading(&mut pair.client, &channels);
        start_reading(&mut pair.agent, &channels);
        pair.run_for(20 * SECOND);
        prop_assert_eq!((&pair.client.closed, &pair.agent.closed), (&None, &None));
        for (channel, [from_agent, from_client]) in channels.iter().zip(&written) {
            let (client, agent) = (pair.client.seen(*channel), pair.agent.seen(*channel));
            prop_assert!(client.is_finished && agent.is_finished);
            prop_assert!(&client.bytes == from_agent && &agent.bytes == from_client);
            prop_assert!(pair.client.mux.write(*channel, b"x").is_err());
        }
    }

    #[test]
    fn a_changed_byte_ends_the_link_and_delivers_nothing_wrong(at in any::<prop::sample::Index>(), flip in 1u8..) {
        use crate::pair::Stack;
        use towline_wire::{Event, Role};
        let now = std::time::Instant::now();
        let mut sender = Stack::new(Role::Client, &crate::pair::hello(1), Config::default(), now);
        let mut receiver = Stack::new(Role::Agent, &crate::pair::hello(2), Config::default(), now);
        sender.handle_bytes(now, &crate::pair::hello(2).encode(Role::Agent));
        let channel = sender.open(b"opening", Priority::Normal).unwrap();
        let bytes = pattern(1, 5000);
        sender.write(channel, &bytes).unwrap();
        sender.finish(channel);
        let mut out = Vec::new();
        sender.poll_transmit(now, &mut out);
        let at = at.index(out.len());
        out[at] ^= flip;
        receiver.handle_bytes(now, &out);
        // It is found out, or a longer length waits in vain: the end is never reached, and nothing is wrong.
        while let Some(event) = receiver.poll_event() {
            match event {
                Event::Data { bytes: read, .. } => prop_assert_eq!(&read, &bytes),
                Event::Opened { opening, .. } => prop_assert_eq!(opening, &b"opening"[..]),
                Event::Finished { .. } | Event::Reset { .. } => prop_assert!(false, "the end was reached"),
                Event::Connected(_) | Event::Writable { .. } | Event::Closed(_) => {}
            }
        }
    }
}
