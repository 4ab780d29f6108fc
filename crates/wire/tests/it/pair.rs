//! Two ends and the path between them, in virtual time.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use towline_wire::{
    ChannelId, Config, ConnectionError, Event, Hello, Inbound, Mux, OpenError, Outbound, Outgoing, Priority,
    Role,
};

pub(crate) fn hello(seed: u8) -> Hello {
    Hello { program: [seed; 32], version: format!("test {seed}"), nonce: [seed; 16] }
}

/// One end's three parts, from bytes to bytes.
pub(crate) struct Stack {
    mux: Mux,
    pub(crate) inbound: Inbound,
    pub(crate) outbound: Outbound,
    /// When it was last told the time.
    now: Instant,
}

impl Stack {
    pub(crate) fn new(role: Role, hello: &Hello, config: Config, now: Instant) -> Self {
        let outbound = Outbound::new(hello, role, config.compression, true, now);
        Self { mux: Mux::new(role, hello, config, now), inbound: Inbound::new(), outbound, now }
    }

    pub(crate) fn open(&mut self, opening: &[u8], priority: Priority) -> Result<ChannelId, OpenError> {
        self.mux.open(self.now, Bytes::copy_from_slice(opening), priority)
    }

    pub(crate) fn consume(&mut self, channel: ChannelId, bytes: usize) {
        self.mux.consume(self.now, channel, bytes);
    }

    pub(crate) fn handle_bytes(&mut self, now: Instant, mut bytes: &[u8]) {
        self.now = now;
        while !bytes.is_empty() {
            self.inbound.push(&mut bytes);
            loop {
                match self.inbound.poll() {
                    Ok(Some(received)) => self.mux.handle_received(now, Ok(received)),
                    Ok(None) => break,
                    Err(error) => return self.mux.handle_received(now, Err(error)),
                }
            }
        }
    }

    /// Takes the frames that are to go out now.
    pub(crate) fn poll_frames(&mut self, now: Instant) -> Vec<Outgoing> {
        self.now = now;
        let (mut room, mut frames) = (self.outbound.room(), Vec::new());
        while let Some(outgoing) = self.mux.poll_frame(now, room) {
            room = room.saturating_sub(outgoing.frame.data_bytes());
            frames.push(outgoing);
        }
        frames
    }

    /// Appends what is to go out now to `out`, which takes it at once.
    pub(crate) fn poll_transmit(&mut self, now: Instant, out: &mut Vec<u8>) {
        for outgoing in self.poll_frames(now) {
            self.outbound.push(outgoing, || now);
        }
        let count = self.outbound.remaining();
        out.extend_from_slice(&self.outbound.copy_to_bytes(count));
        self.outbound.wrote(now, count);
        self.outbound.idle(now);
    }
}

impl std::ops::Deref for Stack {
    type Target = Mux;

    fn deref(&self) -> &Mux {
        &self.mux
    }
}

impl std::ops::DerefMut for Stack {
    fn deref_mut(&mut self) -> &mut Mux {
        &mut self.mux
    }
}

/// What an end has seen of one channel.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) opening: Option<Bytes>,
    pub(crate) bytes: Vec<u8>,
    pub(crate) is_finished: bool,
    pub(crate) reset: Option<String>,
    pub(crate) writable: usize,
    pub(crate) unconsumed: usize,
}

pub(crate) struct End {
    pub(crate) mux: Stack,
    pub(crate) seen: BTreeMap<u32, Seen>,
    pub(crate) opened: Vec<ChannelId>,
    pub(crate) peer: Option<Hello>,
    pub(crate) closed: Option<ConnectionError>,
    /// Bytes on their way to this end, with their time of arrival.
    path: VecDeque<(Instant, Vec<u8>)>,
    /// Gives credit back as soon as data comes.
    pub(crate) is_reading: bool,
}

impl End {
    fn new(role: Role, seed: u8, config: Config, now: Instant) -> Self {
        Self {
            mux: Stack::new(role, &hello(seed), config, now),
            seen: BTreeMap::new(),
            opened: Vec::new(),
            peer: None,
            closed: None,
            path: VecDeque::new(),
            is_reading: true,
        }
    }

    pub(crate) fn drain(&mut self) {
        while let Some(event) = self.mux.poll_event() {
            match event {
                Event::Connected(hello) => assert!(self.peer.replace(hello).is_none()),
                Event::Opened { channel, opening, .. } => {
                    let seen = Seen { opening: Some(opening), ..Seen::default() };
                    assert!(self.seen.insert(channel.number(), seen).is_none());
                    self.opened.push(channel);
                }
                Event::Data { channel, bytes } => {
                    let seen = self.seen.entry(channel.number()).or_default();
                    assert!(!seen.is_finished && seen.reset.is_none(), "data after the end");
                    seen.bytes.extend_from_slice(&bytes);
                    if self.is_reading {
                        self.mux.consume(channel, bytes.len());
                    } else {
                        seen.unconsumed += bytes.len();
                    }
                }
                Event::Finished { channel } => {
                    let seen = self.seen.entry(channel.number()).or_default();
                    assert!(!std::mem::replace(&mut seen.is_finished, true));
                }
                Event::Reset { channel, reason } => {
                    let seen = self.seen.entry(channel.number()).or_default();
                    assert!(seen.reset.replace(reason).is_none());
                }
                Event::Writable { channel } => {
                    self.seen.entry(channel.number()).or_default().writable += 1;
                }
                Event::Closed(error) => assert!(self.closed.replace(error).is_none()),
            }
        }
    }

    pub(crate) fn seen(&self, channel: ChannelId) -> Seen {
        self.seen.get(&channel.number()).cloned().unwrap_or_default()
    }
}

pub(crate) struct Pair {
    pub(crate) now: Instant,
    pub(crate) client: End,
    pub(crate) agent: End,
    pub(crate) latency: Duration,
    /// Everything sent is lost.
    pub(crate) is_cut: bool,
    /// The longest piece in which bytes arrive.
    pub(crate) chunk: usize,
}

impl Pair {
    pub(crate) fn new(config: &Config) -> Self {
        let now = Instant::now();
        Self {
            now,
            client: End::new(Role::Client, 1, config.clone(), now),
            agent: End::new(Role::Agent, 2, config.clone(), now),
            latency: Duration::from_millis(10),
            is_cut: false,
            chunk: usize::MAX,
        }
    }

    /// A pair that has shaken hands.
    pub(crate) fn connected(config: &Config) -> Self {
        let mut pair = Self::new(config);
        pair.settle();
        assert!(pair.client.peer.is_some() && pair.agent.peer.is_some());
        pair
    }

    /// Gives what both ends have to say to the path, once.
    pub(crate) fn transmit(&mut self) {
        let at = self.now + self.latency;
        let mut sent = Vec::new();
        for (is_client, end) in [(true, &mut self.client), (false, &mut self.agent)] {
            end.drain();
            let mut out = Vec::new();
            end.mux.poll_transmit(self.now, &mut out);
            end.drain();
            sent.push((is_client, out));
        }
        for (is_client, out) in sent {
            if !out.is_empty() && !self.is_cut {
                let to = if is_client { &mut self.agent } else { &mut self.client };
                to.path.push_back((at, out));
            }
        }
    }

    /// Delivers what has arrived; returns whether anything had.
    pub(crate) fn deliver(&mut self) -> bool {
        let mut has_moved = false;
        for end in [&mut self.client, &mut self.agent] {
            while end.path.front().is_some_and(|(at, _)| *at <= self.now) {
                let (_, bytes) = end.path.pop_front().unwrap();
                for piece in bytes.chunks(self.chunk) {
                    end.mux.handle_bytes(self.now, piece);
                    end.drain();
                }
                has_moved = true;
            }
        }
        has_moved
    }

    fn next_time(&self) -> Option<Instant> {
        let ends = [&self.client, &self.agent];
        let arrivals = ends.iter().filter_map(|end| end.path.front().map(|(at, _)| *at));
        arrivals.chain(ends.iter().filter_map(|end| end.mux.poll_timeout())).min()
    }

    /// Lets time pass until the next thing is due, and does it.
    pub(crate) fn step(&mut self) {
        if let Some(at) = self.next_time() {
            self.now = self.now.max(at);
        }
        if !self.deliver() {
            for end in [&mut self.client, &mut self.agent] {
                end.mux.handle_timeout(self.now);
                end.drain();
            }
        }
    }

    /// Lets time pass until then, doing everything when it is due.
    pub(crate) fn run_until(&mut self, until: Instant) {
        loop {
            self.transmit();
            if self.deliver() {
                continue;
            }
            for end in [&mut self.client, &mut self.agent] {
                if end.mux.poll_timeout().is_some_and(|at| at <= self.now) {
                    end.mux.handle_timeout(self.now);
                    end.drain();
                }
            }
            self.transmit();
            match self.next_time().filter(|at| *at <= until) {
                Some(at) => self.now = self.now.max(at),
                None => break,
            }
        }
        self.now = self.now.max(until);
    }

    /// Runs for a second: long enough for everything but large transfers.
    pub(crate) fn settle(&mut self) {
        self.run_for(Duration::from_secs(1));
    }

    pub(crate) fn run_for(&mut self, time: Duration) {
        self.run_until(self.now + time);
    }
}
