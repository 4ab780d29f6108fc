//! Many channels on one stream.

mod channel;

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::config::Config;
use crate::credit::{INITIAL_WINDOW, InFlight, ReceiveWindow};
use crate::error::{ConnectionError, HelloError, OpenError, UnknownChannel, Violation};
use crate::frame::{ChannelId, Frame, MAX_DATA_BYTES, MAX_OPENING_BYTES, Priority, bounded_reason};
use crate::hello::{Hello, Role};
use crate::inbound::Received;
use crate::liveness::Liveness;
use crate::mux::channel::{Channel, SendEnd};
use crate::outbound::Outgoing;

/// Arrived data is acknowledged after this many bytes.
const ACKNOWLEDGE_EVERY: u64 = 16 * 1024;

/// What happened on the link, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The peer's hello came; it is for the owner to judge.
    Connected(Hello),
    /// The peer opened a channel.
    Opened {
        /// Its number.
        channel: ChannelId,
        /// As the peer chose it.
        priority: Priority,
        /// The opening bytes.
        opening: Bytes,
    },
    /// A channel's next bytes, to be given back by [`Mux::consume`] when they are used.
    Data {
        /// The channel.
        channel: ChannelId,
        /// At least one byte.
        bytes: Bytes,
    },
    /// The peer sends nothing more on this channel.
    Finished {
        /// The channel.
        channel: ChannelId,
    },
    /// The peer ended this channel; nothing can be written to it any more.
    Reset {
        /// The channel.
        channel: ChannelId,
        /// The peer's words: to be sanitised before they reach a terminal.
        reason: String,
    },
    /// A write that was cut short can go on, or everything up to the finish has been sent.
    Writable {
        /// The channel.
        channel: ChannelId,
    },
    /// The link has ended; the last event.
    Closed(ConnectionError),
}

/// One end of a link, in frames; [`Inbound`](crate::Inbound) and [`Outbound`](crate::Outbound) make bytes of them.
///
/// Feed it with [`handle_received`](Self::handle_received) and [`handle_timeout`](Self::handle_timeout), command it
/// with `open`, `write`, `finish`, `reset`, `consume` and `close`; after each of these, drain
/// [`poll_event`](Self::poll_event), then [`poll_frame`](Self::poll_frame), and arm a timer for
/// [`poll_timeout`](Self::poll_timeout).
#[derive(Debug)]
pub struct Mux {
    role: Role,
    nonce: [u8; 16],
    config: Config,
    state: State,
    events: VecDeque<Event>,
    channels: BTreeMap<ChannelId, Channel>,
    last_id: [u32; 2],
    open_count: [usize; 2],
    /// The sum of all windows.
    windows: u64,
    /// Frames that go before all data, in order.
    control: VecDeque<Control>,
    /// Channels that have something to send, for each priority.
    ready: [VecDeque<ChannelId>; 3],
    /// Bytes in all send buffers.
    queued_bytes: usize,
    pong: Option<u64>,
    in_flight: InFlight,
    liveness: Liveness,
    data_received: u64,
    data_acknowledged: u64,
}

#[derive(Debug)]
enum State {
    Handshake { deadline: Instant },
    Open,
    Closing { deadline: Instant, reason: String },
    Ended { farewell: Option<String> },
}

#[derive(Debug)]
enum Control {
    Open { channel: ChannelId, priority: Priority, opening: Bytes },
    Credit { channel: ChannelId },
    Reset { channel: ChannelId, reason: String },
}

impl Mux {
    /// Begins a link: `hello`, which the [`Outbound`](crate::Outbound) begins with, is on its way, and the peer's is
    /// waited for.
    pub fn new(role: Role, hello: &Hello, config: Config, now: Instant) -> Self {
        Self {
            role,
            nonce: hello.nonce,
            state: State::Handshake { deadline: now + config.handshake_deadline },
            events: VecDeque::new(),
            channels: BTreeMap::new(),
            last_id: [0; 2],
            open_count: [0; 2],
            windows: 0,
            control: VecDeque::new(),
            ready: Default::default(),
            queued_bytes: 0,
            pong: None,
            in_flight: InFlight::new(config.max_in_flight),
            liveness: Liveness::new(config.ping_interval, config.missed_pings, now),
            data_received: 0,
            data_acknowledged: 0,
            config,
        }
    }

    /// Returns the last measured round trip.
    pub fn round_trip(&self) -> Option<Duration> {
        self.liveness.round_trip()
    }

    /// Returns whether the link has ended; a last frame may still be there to be sent.
    pub fn is_ended(&self) -> bool {
        matches!(self.state, State::Ended { .. })
    }

    /// Returns whether everything written to this channel and its finish were given to the stream, or never will
    /// be.
    pub fn is_finish_sent(&self, channel: ChannelId) -> bool {
        self.channels.get(&channel).is_none_or(|channel| channel.send_end == SendEnd::Sent)
    }

    /// Notes that bytes came, though they may not be a whole frame yet: a sign of life.
    pub fn handle_progress(&mut self, now: Instant) {
        self.liveness.heard(now);
    }

    /// Takes what the peer sent next, or why that can't be known.
    pub fn handle_received(&mut self, now: Instant, received: Result<Received, ConnectionError>) {
        if self.is_ended() {
            return;
        }
        let result = received.and_then(|received| match received {
            Received::Hello(role, hello) => self.handle_hello(now, role, hello),
            Received::Frame(frame) => {
                self.liveness.heard(now);
                self.handle_frame(now, frame)
            }
        });
        if let Err(error) = result {
            // During the handshake the peer is a stranger; after its own farewell it is gone.
            let is_told = !matches!(error, ConnectionError::Hello(_) | ConnectionError::PeerClosed { .. });
            let farewell = is_told.then(|| error.to_string());
            self.end(error, farewell);
        }
    }

    fn handle_hello(&mut self, now: Instant, role: Role, hello: Hello) -> Result<(), ConnectionError> {
        if role != self.role.peer() {
            return Err(HelloError::SameRole.into());
        }
        if hello.nonce == self.nonce {
            return Err(HelloError::Reflected.into());
        }
        self.liveness = Liveness::new(self.config.ping_interval, self.config.missed_pings, now);
        self.state = State::Open;
        self.events.push_back(Event::Connected(hello));
        Ok(())
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        match &self.state {
            State::Handshake { deadline } if now >= *deadline => {
                let after = self.config.handshake_deadline;
                return self.end(ConnectionError::HandshakeTimeout { after }, None);
            }
            State::Closing { deadline, reason } if now >= *deadline => {
                let farewell = Some(reason.clone());
                return self.end(ConnectionError::Closed, farewell);
            }
            State::Handshake { .. } | State::Ended { .. } => return,
            State::Open | State::Closing { .. } => {}
        }
        if let Err(silence) = self.liveness.handle_timeout(now) {
            self.end(ConnectionError::PeerDead { silence }, None);
        }
    }

    /// Asks the peer for a sign of life at once and gives it one ping interval to answer: for an owner who learns
    /// that the machine slept or the network changed.
    pub fn probe(&mut self, now: Instant) {
        self.liveness.probe(now);
    }

    /// Opens a channel; it can be written to at once.
    pub fn open(&mut self, now: Instant, opening: Bytes, priority: Priority) -> Result<ChannelId, OpenError> {
        if matches!(self.state, State::Closing { .. } | State::Ended { .. }) {
            return Err(OpenError::Closed);
        }
        if opening.len() > MAX_OPENING_BYTES {
            return Err(OpenError::OpeningTooLong { length: opening.len() });
        }
        let (side, limit) = (self.role as usize, self.config.max_channels);
        let first = if self.role == Role::Client { 1 } else { 2 };
        let number = match self.last_id[side] {
            0 => Some(first),
            last => last.checked_add(2),
        };
        let Some(number) = number.filter(|_| self.open_count[side] < limit) else {
            return Err(OpenError::TooMany { limit });
        };
        let channel = ChannelId(number);
        self.control.push_back(Control::Open { channel, priority, opening });
        self.insert(now, channel, priority);
        Ok(channel)
    }

    /// Takes a copy of bytes for a channel and returns how many; when fewer than given, [`Event::Writable`] tells when
    /// to go on.
    pub fn write(&mut self, channel: ChannelId, bytes: &[u8]) -> Result<usize, UnknownChannel> {
        let send_buffer = self.config.send_buffer.max(1);
        let entry = self.writable(channel)?;
        let taken = send_buffer.saturating_sub(entry.buffer.len()).min(bytes.len());
        if taken > 0 {
            entry.buffer.extend(&bytes[..taken]);
        }
        entry.is_awaited = taken < bytes.len();
        self.queued_bytes += taken;
        self.mark_ready(channel);
        Ok(taken)
    }

    /// Takes the beginning of `bytes` for a channel without a copy; when not all of it, [`Event::Writable`] tells when
    /// to go on.
    pub fn write_bytes(&mut self, channel: ChannelId, bytes: &mut Bytes) -> Result<(), UnknownChannel> {
        let send_buffer = self.config.send_buffer.max(1);
        let entry = self.writable(channel)?;
        let taken = send_buffer.saturating_sub(entry.buffer.len()).min(bytes.len());
        if taken > 0 {
            entry.buffer.push(bytes.split_to(taken));
        }
        entry.is_awaited = !bytes.is_empty();
        self.queued_bytes += taken;
        self.mark_ready(channel);
        Ok(())
    }

    fn writable(&mut self, channel: ChannelId) -> Result<&mut Channel, UnknownChannel> {
        let entry = self.channels.get_mut(&channel).filter(|entry| entry.send_end == SendEnd::Open);
        entry.ok_or(UnknownChannel(channel))
    }

    /// Ends this direction of a channel after what was written; [`Event::Writable`] tells when that has been sent.
    pub fn finish(&mut self, channel: ChannelId) {
        if let Some(entry) = self.channels.get_mut(&channel)
            && entry.send_end == SendEnd::Open
        {
            entry.send_end = SendEnd::Requested;
            entry.is_awaited = true;
            self.mark_ready(channel);
        }
    }

    /// Ends a channel in both directions at once; what was written and not yet sent is dropped. Does nothing when
    /// the channel has ended already.
    pub fn reset(&mut self, channel: ChannelId, reason: &str) {
        if let Some(entry) = self.remove(channel)
            && entry.is_counted
        {
            self.control.push_back(Control::Reset { channel, reason: bounded_reason(reason) });
        }
    }

    /// Gives credit back for bytes that were used.
    pub fn consume(&mut self, now: Instant, channel: ChannelId, bytes: usize) {
        if let Some(entry) = self.channels.get_mut(&channel) {
            entry.receive.consume(bytes);
            if !entry.is_finished {
                let budget = self.config.receive_budget.saturating_sub(self.windows);
                let more = entry.receive.grow(now, self.in_flight.shortest_round_trip(), budget);
                self.windows += u64::from(more);
            }
            self.queue_grant(channel);
            self.settle(channel);
        }
    }

    /// Ends the link when everything written was given to the stream, at the latest after the close deadline.
    pub fn close(&mut self, now: Instant, reason: &str) {
        match self.state {
            State::Handshake { .. } => self.end(ConnectionError::Closed, None),
            State::Open => {
                let deadline = now + self.config.close_deadline;
                self.state = State::Closing { deadline, reason: bounded_reason(reason) };
            }
            State::Closing { .. } | State::Ended { .. } => {}
        }
    }

    /// Returns the next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Returns when [`handle_timeout`](Self::handle_timeout) is to be called next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match &self.state {
            State::Handshake { deadline } => Some(*deadline),
            State::Open => Some(self.liveness.deadline()),
            State::Closing { deadline, .. } => Some(self.liveness.deadline().min(*deadline)),
            State::Ended { .. } => None,
        }
    }

    /// Returns whether [`poll_frame`](Self::poll_frame) has something.
    pub fn has_frame(&self) -> bool {
        match &self.state {
            State::Handshake { .. } => false,
            State::Ended { farewell } => farewell.is_some(),
            State::Closing { .. } => true,
            State::Open => {
                self.liveness.is_ping_due()
                    || self.pong.is_some()
                    || self.is_acknowledgement_due()
                    || !self.control.is_empty()
                    || !self.ready[Priority::Interactive as usize].is_empty()
                    || (self.in_flight.has_room() && self.ready.iter().any(|ready| !ready.is_empty()))
            }
        }
    }

    /// Returns whether there is data that can't go because of what is still on the path. A peer that does not read is
    /// no such reason.
    pub fn is_held_back(&self) -> bool {
        let is_ready = self.ready.iter().any(|ready| !ready.is_empty());
        if is_ready {
            !self.in_flight.has_room()
        } else {
            self.queued_bytes > 0 && self.in_flight.is_path_busy()
        }
    }

    /// Returns the next frame that is to be sent; data is cut to at most `limit` bytes, and there is none for 0.
    ///
    /// To be called when everything given out before has been written: what is given out can't be overtaken.
    pub fn poll_frame(&mut self, now: Instant, limit: usize) -> Option<Outgoing> {
        let frame = match &mut self.state {
            State::Handshake { .. } => return None,
            State::Ended { farewell } => {
                farewell.take().map(|reason| Frame::GoAway { reason: bounded_reason(&reason) })
            }
            State::Open | State::Closing { .. } => {
                if let Some(token) = self.liveness.take_ping(now) {
                    Some(Frame::Ping { token })
                } else if let Some(token) = self.pong.take() {
                    Some(Frame::Pong { token })
                } else if self.is_acknowledgement_due() {
                    self.data_acknowledged = self.data_received;
                    Some(Frame::Acknowledge { received: self.data_received })
                } else {
                    self.poll_control()
                }
            }
        };
        if let Some(frame) = frame {
            return Some(Outgoing { frame, may_pack: false });
        }
        if let Some(outgoing) = self.poll_data(now, limit) {
            return Some(outgoing);
        }
        if let State::Closing { reason, .. } = &self.state
            && self.queued_bytes == 0
            && self.ready.iter().all(VecDeque::is_empty)
        {
            let frame = Frame::GoAway { reason: reason.clone() };
            self.end(ConnectionError::Closed, None);
            return Some(Outgoing { frame, may_pack: false });
        }
        None
    }

    fn is_acknowledgement_due(&self) -> bool {
        self.data_received - self.data_acknowledged >= ACKNOWLEDGE_EVERY
    }

    fn poll_control(&mut self) -> Option<Frame> {
        while let Some(control) = self.control.pop_front() {
            return Some(match control {
                Control::Open { channel, priority, opening } => Frame::Open { channel, priority, opening },
                Control::Reset { channel, reason } => Frame::Reset { channel, reason },
                Control::Credit { channel } => {
                    let Some(entry) = self.channels.get_mut(&channel) else { continue };
                    entry.is_grant_queued = false;
                    Frame::Credit { channel, bytes: entry.receive.take_grant() }
                }
            });
        }
        None
    }

    /// Returns data by strict priority, one frame of each ready channel in turn.
    fn poll_data(&mut self, now: Instant, limit: usize) -> Option<Outgoing> {
        for priority in Priority::ALL {
            while !self.ready[priority as usize].is_empty() {
                if priority != Priority::Interactive && !self.in_flight.has_room() {
                    self.in_flight.held_back();
                    return None;
                }
                if limit == 0 {
                    return None;
                }
                let Some(channel) = self.ready[priority as usize].pop_front() else { break };
                if let Some(frame) = self.poll_channel(now, channel, limit) {
                    return Some(Outgoing { frame, may_pack: priority != Priority::Normal });
                }
            }
        }
        None
    }

    fn poll_channel(&mut self, now: Instant, channel: ChannelId, limit: usize) -> Option<Frame> {
        let entry = self.channels.get_mut(&channel)?;
        entry.is_ready = false;
        let count = entry.buffer.len().min(entry.credit.available()).min(MAX_DATA_BYTES).min(limit);
        let frame = if count > 0 {
            let bytes = entry.buffer.take(count);
            entry.credit.spend(bytes.len());
            self.queued_bytes -= bytes.len();
            self.in_flight.sent(now, bytes.len());
            Some(Frame::Data { channel, bytes })
        } else if entry.buffer.is_empty() && entry.send_end == SendEnd::Requested {
            entry.send_end = SendEnd::Sent;
            Some(Frame::Finish { channel })
        } else {
            None
        };
        let is_eased = match entry.send_end {
            SendEnd::Open => entry.buffer.len() <= self.config.send_buffer / 2,
            SendEnd::Requested => false,
            SendEnd::Sent => true,
        };
        if is_eased && std::mem::take(&mut entry.is_awaited) {
            self.events.push_back(Event::Writable { channel });
        }
        self.mark_ready(channel);
        self.settle(channel);
        frame
    }

    fn handle_frame(&mut self, now: Instant, frame: Frame) -> Result<(), ConnectionError> {
        match frame {
            Frame::Open { channel, priority, opening } => {
                let (side, limit) = (self.role.peer() as usize, self.config.max_channels);
                if owner(channel) != self.role.peer() || channel.0 <= self.last_id[side] {
                    return Err(Violation::WrongNumber { channel }.into());
                }
                // Ended ones that still hold unread bytes are more than the peer can count, but not for ever.
                if self.open_count[side] >= limit || self.channels.len() >= limit.saturating_mul(4) {
                    return Err(Violation::TooManyChannels { limit }.into());
                }
                self.insert(now, channel, priority);
                self.events.push_back(Event::Opened { channel, priority, opening });
            }
            Frame::Data { channel, bytes } => {
                self.data_received += bytes.len() as u64;
                let Some(entry) = self.known(channel)? else { return Ok(()) };
                if entry.is_finished {
                    return Err(Violation::AfterFinish { channel }.into());
                }
                if !entry.receive.receive(now, bytes.len()) {
                    return Err(Violation::OverCredit { channel }.into());
                }
                self.events.push_back(Event::Data { channel, bytes });
            }
            Frame::Finish { channel } => {
                let Some(entry) = self.known(channel)? else { return Ok(()) };
                if std::mem::replace(&mut entry.is_finished, true) {
                    return Err(Violation::AfterFinish { channel }.into());
                }
                self.events.push_back(Event::Finished { channel });
                self.settle(channel);
            }
            Frame::Reset { channel, reason } => {
                if self.known(channel)?.is_some_and(|entry| entry.is_counted) {
                    self.remove(channel);
                    self.events.push_back(Event::Reset { channel, reason });
                }
            }
            Frame::Credit { channel, bytes } => {
                let Some(entry) = self.known(channel)? else { return Ok(()) };
                if !entry.credit.grant(bytes) {
                    return Err(Violation::CreditOverflow { channel }.into());
                }
                self.mark_ready(channel);
            }
            Frame::Ping { token } => self.pong = Some(token),
            Frame::Pong { token } => {
                if !self.liveness.handle_pong(now, token) {
                    return Err(Violation::UnexpectedPong.into());
                }
                self.in_flight.measured(self.liveness.round_trip().unwrap_or_default());
            }
            Frame::Acknowledge { received } => {
                if !self.in_flight.acknowledge(now, received) {
                    return Err(Violation::AcknowledgedUnsent.into());
                }
            }
            Frame::GoAway { reason } => return Err(ConnectionError::PeerClosed { reason }),
        }
        if self.control.len() > self.config.max_channels.saturating_mul(4).max(64) {
            return Err(Violation::AnswersUnread.into());
        }
        Ok(())
    }

    /// Returns the channel; `None` when it has ended, as frames for it may have crossed with its end.
    fn known(&mut self, channel: ChannelId) -> Result<Option<&mut Channel>, Violation> {
        if channel.0 > self.last_id[owner(channel) as usize] {
            return Err(Violation::NeverOpened { channel });
        }
        Ok(self.channels.get_mut(&channel))
    }

    fn insert(&mut self, now: Instant, channel: ChannelId, priority: Priority) {
        let wanted = match priority {
            Priority::Interactive => self.config.interactive_window,
            Priority::Normal | Priority::Bulk => self.config.bulk_window,
        };
        let is_affordable = self.windows + u64::from(wanted) <= self.config.receive_budget;
        let window = if is_affordable { wanted } else { INITIAL_WINDOW };
        let receive = ReceiveWindow::new(window, self.config.max_window, now);
        self.windows += u64::from(receive.window());
        let side = owner(channel) as usize;
        self.last_id[side] = channel.0;
        self.open_count[side] += 1;
        self.channels.insert(channel, Channel::new(priority, receive));
        self.queue_grant(channel);
    }

    fn remove(&mut self, channel: ChannelId) -> Option<Channel> {
        let entry = self.channels.remove(&channel)?;
        self.queued_bytes -= entry.buffer.len();
        self.windows -= u64::from(entry.receive.window());
        if entry.is_counted {
            self.open_count[owner(channel) as usize] -= 1;
        }
        Some(entry)
    }

    /// Counts a channel out when both directions have ended, and forgets it when its bytes are used up.
    fn settle(&mut self, channel: ChannelId) {
        let Some(entry) = self.channels.get_mut(&channel) else { return };
        if entry.send_end != SendEnd::Sent || !entry.is_finished {
            return;
        }
        if std::mem::take(&mut entry.is_counted) {
            self.open_count[owner(channel) as usize] -= 1;
        }
        if entry.receive.is_empty() {
            self.remove(channel);
        }
    }

    fn mark_ready(&mut self, channel: ChannelId) {
        if let Some(entry) = self.channels.get_mut(&channel)
            && !entry.is_ready
            && entry.can_send()
        {
            entry.is_ready = true;
            self.ready[entry.priority as usize].push_back(channel);
        }
    }

    fn queue_grant(&mut self, channel: ChannelId) {
        if let Some(entry) = self.channels.get_mut(&channel)
            && !entry.is_grant_queued
            && !entry.is_finished
            && entry.receive.is_grant_due()
        {
            entry.is_grant_queued = true;
            self.control.push_back(Control::Credit { channel });
        }
    }

    fn end(&mut self, error: ConnectionError, farewell: Option<String>) {
        self.state = State::Ended { farewell };
        self.channels.clear();
        self.control.clear();
        self.ready = Default::default();
        self.queued_bytes = 0;
        self.events.push_back(Event::Closed(error));
    }
}

fn owner(channel: ChannelId) -> Role {
    if channel.0 % 2 == 1 { Role::Client } else { Role::Agent }
}
