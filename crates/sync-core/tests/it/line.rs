//! What lies between the engine and a replica: two queues, or the real codec and the real wire over a path that takes
//! its time.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use serde::Serialize;
use serde::de::DeserializeOwned;
use towline_sync_core::codec::{Decoder, Encoder};
use towline_sync_core::message::{Reply, Request};
use towline_wire::{ChannelId, Compression, Config, Event, Hello, Inbound, Mux, Outbound, Priority, Role};

use crate::random::Random;

/// Requests one way, replies the other.
pub(crate) enum Line {
    Queues { requests: VecDeque<Request>, replies: VecDeque<Reply> },
    Wire(Box<Wire>),
}

impl Default for Line {
    fn default() -> Self {
        Self::Queues { requests: VecDeque::new(), replies: VecDeque::new() }
    }
}

impl Line {
    /// Takes a request to the replica.
    pub(crate) fn ask(&mut self, request: Request) {
        match self {
            Self::Queues { requests, .. } => requests.push_back(request),
            Self::Wire(wire) => wire.client.send(&request),
        }
    }

    /// Takes a reply to the engine.
    pub(crate) fn answer(&mut self, reply: Reply) {
        match self {
            Self::Queues { replies, .. } => replies.push_back(reply),
            Self::Wire(wire) => wire.agent.send(&reply),
        }
    }

    pub(crate) fn next_request(&mut self) -> Option<Request> {
        match self {
            Self::Queues { requests, .. } => requests.pop_front(),
            Self::Wire(wire) => wire.agent.inbox.pop_front(),
        }
    }

    pub(crate) fn next_reply(&mut self) -> Option<Reply> {
        match self {
            Self::Queues { replies, .. } => replies.pop_front(),
            Self::Wire(wire) => wire.client.inbox.pop_front(),
        }
    }

    /// Returns the requests that are on their way, where they can be seen.
    pub(crate) fn requests(&self) -> impl Iterator<Item = &Request> {
        match self {
            Self::Queues { requests, .. } => requests.iter(),
            Self::Wire(wire) => wire.agent.inbox.iter(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Self::Queues { requests, replies } => requests.is_empty() && replies.is_empty(),
            Self::Wire(wire) => wire.is_empty(),
        }
    }

    /// Loses what is on its way; what is said next is said on a new line.
    pub(crate) fn cut(&mut self) {
        match self {
            Self::Queues { requests, replies } => {
                requests.clear();
                replies.clear();
            }
            Self::Wire(wire) => **wire = wire.anew(),
        }
    }
}

/// A link in virtual time.
pub(crate) struct Wire {
    client: End<Reply>,
    agent: End<Request>,
    now: Instant,
    links: u8,
    /// Of the path, in milliseconds.
    latency: u64,
    /// What the path carries in a millisecond, in bytes.
    speed: usize,
    compression: Compression,
    /// Nothing arrives any more, and nobody says so.
    pub(crate) stalled: bool,
}

impl Wire {
    pub(crate) fn new(random: &mut Random) -> Self {
        let latency = *random.pick(&[0, 1, 20, 300]);
        let speed = *random.pick(&[40, 1000, 1_000_000]);
        let compression = *random.pick(&[Compression::Auto, Compression::Never, Compression::Always]);
        Self::between(Instant::now(), 0, latency, speed, compression)
    }

    fn between(now: Instant, links: u8, latency: u64, speed: usize, compression: Compression) -> Self {
        let config = Config { compression, ..Config::default() };
        let hello = |who| Hello {
            program: [0; 32],
            version: "1".to_owned(),
            nonce: [links.wrapping_mul(2) + who; 16],
        };
        let mut client = End::new(Role::Client, &hello(0), config.clone(), now);
        client.channel = client.mux.open(now, Bytes::new(), Priority::Interactive).ok();
        Self {
            client,
            agent: End::new(Role::Agent, &hello(1), config, now),
            now,
            links,
            latency,
            speed,
            compression,
            stalled: false,
        }
    }

    fn anew(&self) -> Self {
        Self::between(self.now, self.links.wrapping_add(1), self.latency, self.speed, self.compression)
    }

    /// Lets time go by. Tells whether the link still stands.
    pub(crate) fn pass(&mut self, milliseconds: u64) -> bool {
        self.now += Duration::from_millis(milliseconds);
        let (client, agent) = (&mut self.client, &mut self.agent);
        if self.stalled {
            client.path.clear();
            agent.path.clear();
        }
        let (latency, speed) = (Duration::from_millis(self.latency), self.speed);
        client.pass(self.now, &mut agent.path, latency, speed);
        agent.pass(self.now, &mut client.path, latency, speed);
        !client.ended && !agent.ended
    }

    /// Returns how long it takes until something arrives or is due.
    pub(crate) fn wait(&self) -> u64 {
        let arrivals = self.client.path.front().into_iter().chain(self.agent.path.front()).map(|(at, _)| *at);
        let next = arrivals.min().map_or(1, |at| at.saturating_duration_since(self.now).as_millis());
        u64::try_from(next).unwrap_or(1).max(1)
    }

    /// Flips a bit that is on its way to the engine; tells whether there was one.
    pub(crate) fn flip(&mut self, random: &mut Random) -> bool {
        let Some((_, bytes)) = self.client.path.back_mut().filter(|(_, bytes)| !bytes.is_empty()) else {
            return false;
        };
        let at = random.below(bytes.len());
        bytes[at] ^= 1 << random.below(8);
        true
    }

    fn is_empty(&self) -> bool {
        let (client, agent) = (&self.client, &self.agent);
        let nothing_waits = client.inbox.is_empty() && agent.inbox.is_empty();
        nothing_waits && client.sent == agent.received && agent.sent == client.received
    }
}

/// One end, from messages to bytes.
struct End<In> {
    mux: Mux,
    inbound: Inbound,
    outbound: Outbound,
    channel: Option<ChannelId>,
    encoder: Encoder,
    decoder: Decoder,
    unsent: Bytes,
    inbox: VecDeque<In>,
    /// Bytes on their way to this end, with their time of arrival.
    path: VecDeque<(Instant, Vec<u8>)>,
    ended: bool,
    /// How many messages.
    sent: u64,
    received: u64,
}

impl<In: DeserializeOwned> End<In> {
    fn new(role: Role, hello: &Hello, config: Config, now: Instant) -> Self {
        Self {
            outbound: Outbound::new(hello, role, config.compression, false, now),
            mux: Mux::new(role, hello, config, now),
            inbound: Inbound::new(),
            channel: None,
            encoder: Encoder::new(),
            decoder: Decoder::new(),
            unsent: Bytes::new(),
            inbox: VecDeque::new(),
            path: VecDeque::new(),
            ended: false,
            sent: 0,
            received: 0,
        }
    }

    fn send<T: Serialize>(&mut self, message: &T) {
        let bytes = self.encoder.encode(std::slice::from_ref(message));
        self.unsent = [&self.unsent[..], bytes].concat().into();
        self.sent += 1;
    }

    /// Does all that can be done at this time.
    fn pass(
        &mut self,
        now: Instant,
        out: &mut VecDeque<(Instant, Vec<u8>)>,
        latency: Duration,
        speed: usize,
    ) {
        while let Some((_, bytes)) = self.path.pop_front_if(|(at, _)| *at <= now) {
            let mut stream = &bytes[..];
            while !stream.is_empty() && !self.ended {
                self.inbound.push(&mut stream);
                loop {
                    match self.inbound.poll() {
                        Ok(Some(received)) => self.mux.handle_received(now, Ok(received)),
                        Ok(None) => break,
                        Err(error) => {
                            self.mux.handle_received(now, Err(error));
                            self.ended = true;
                            break;
                        }
                    }
                }
            }
        }
        if self.mux.poll_timeout().is_some_and(|due| due <= now) {
            self.mux.handle_timeout(now);
        }
        while let Some(event) = self.mux.poll_event() {
            match event {
                Event::Opened { channel, .. } => self.channel = Some(channel),
                Event::Data { channel, bytes } => {
                    self.decoder.push(&bytes);
                    while let Some(message) = self.decoder.next().expect("the wire has checked the bytes") {
                        self.inbox.push_back(message);
                        self.received += 1;
                    }
                    self.mux.consume(now, channel, bytes.len());
                }
                Event::Finished { .. } | Event::Reset { .. } | Event::Closed(_) => self.ended = true,
                Event::Connected(_) | Event::Writable { .. } => {}
            }
        }
        if let Some(channel) = self.channel.filter(|_| !self.unsent.is_empty()) {
            // A channel that is gone takes its link with it.
            let _ = self.mux.write_bytes(channel, &mut self.unsent);
        }
        let mut room = self.outbound.room();
        while let Some(outgoing) = self.mux.poll_frame(now, room) {
            room = room.saturating_sub(outgoing.frame.data_bytes());
            self.outbound.push(outgoing, || now);
        }
        let count = self.outbound.remaining();
        if count > 0 {
            let bytes = self.outbound.copy_to_bytes(count).to_vec();
            self.outbound.wrote(now, count);
            self.outbound.idle(now);
            let takes = Duration::from_millis(u64::try_from(count / speed).unwrap_or(u64::MAX));
            let before = out.back().map_or(now, |(at, _)| *at);
            out.push_back((before.max(now + latency) + takes, bytes));
        }
    }
}
