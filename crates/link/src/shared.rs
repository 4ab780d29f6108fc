//! What the handles and the driver of one link share: the mux, and for each channel what its reader has not taken.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::Instant;
use towline_wire::{ChannelId, Event, Hello, Mux, Priority, UnknownChannel};

use crate::error::{LinkError, ResetReason};
use crate::traffic::Traffic;

/// What openings that wait to be accepted may hold, in bytes; the next one is refused.
const WAITING_BYTES: usize = 4 * 1024 * 1024;

/// [`State`] behind a lock that is never held across an await.
#[derive(Debug)]
pub(crate) struct Shared(Mutex<State>);

impl Shared {
    pub(crate) fn new(mux: Mux, waiting_limit: usize) -> Self {
        Self(Mutex::new(State {
            mux,
            traffic: Traffic::default(),
            peer: None,
            end: None,
            channels: BTreeMap::new(),
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            waiting_limit,
            is_accepting: true,
            acceptor: None,
            driver: None,
            closed: Arc::new(Notify::new()),
        }))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) mux: Mux,
    pub(crate) traffic: Traffic,
    /// The peer's hello, until the handshake takes it.
    pub(crate) peer: Option<Hello>,
    end: Option<LinkError>,
    channels: BTreeMap<ChannelId, Stream>,
    /// Opened by the peer and not yet accepted.
    waiting: VecDeque<(Bytes, ChannelId)>,
    waiting_bytes: usize,
    waiting_limit: usize,
    is_accepting: bool,
    acceptor: Option<Waker>,
    driver: Option<Waker>,
    /// Tells those who wait for the end.
    pub(crate) closed: Arc<Notify>,
}

/// A channel as its handles see it.
#[derive(Debug, Default)]
struct Stream {
    /// In the pieces that came.
    received: VecDeque<Bytes>,
    is_finished: bool,
    reset: Option<ResetReason>,
    reader: Option<Waker>,
    writer: Option<Waker>,
    /// Halves of the channel that are still held.
    handles: u8,
}

impl Stream {
    fn wake(&mut self) {
        wake(&mut self.reader);
        wake(&mut self.writer);
    }
}

/// A half of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Half {
    Read,
    Write,
}

impl State {
    pub(crate) fn open(&mut self, opening: Bytes, priority: Priority) -> Result<ChannelId, LinkError> {
        if let Some(end) = &self.end {
            return Err(end.clone());
        }
        let id = self.mux.open(Instant::now().into_std(), opening, priority)?;
        self.channels.insert(id, Stream { handles: 2, ..Stream::default() });
        wake(&mut self.driver);
        Ok(id)
    }

    pub(crate) fn close(&mut self) {
        let now = Instant::now().into_std();
        self.mux.close(now, "closed");
        self.drain_events();
        wake(&mut self.driver);
    }

    pub(crate) fn probe(&mut self) {
        self.mux.probe(Instant::now().into_std());
        wake(&mut self.driver);
    }

    pub(crate) fn poll_accept(&mut self, cx: &Context<'_>) -> Poll<Option<(Bytes, ChannelId)>> {
        if let Some((opening, id)) = self.waiting.pop_front() {
            self.waiting_bytes -= opening.len();
            return Poll::Ready(Some((opening, id)));
        }
        if self.end.is_some() {
            return Poll::Ready(None);
        }
        register(&mut self.acceptor, cx);
        Poll::Pending
    }

    pub(crate) fn refuse_incoming(&mut self) {
        self.is_accepting = false;
        self.waiting_bytes = 0;
        for (_, id) in std::mem::take(&mut self.waiting) {
            self.channels.remove(&id);
            self.mux.reset(id, "no more channels are accepted");
        }
        wake(&mut self.driver);
    }

    pub(crate) fn register_driver(&mut self, cx: &Context<'_>) {
        register(&mut self.driver, cx);
    }

    /// Returns why the link has ended.
    pub(crate) fn end(&self) -> Option<&LinkError> {
        self.end.as_ref()
    }

    /// Ends everything, unless it has ended already.
    pub(crate) fn fail(&mut self, error: LinkError) {
        if self.end.is_some() {
            return;
        }
        self.end = Some(error);
        self.channels.values_mut().for_each(Stream::wake);
        // Nobody could read what these have to say: the peer is gone.
        self.waiting_bytes = 0;
        for (_, id) in std::mem::take(&mut self.waiting) {
            self.channels.remove(&id);
        }
        wake(&mut self.acceptor);
        self.closed.notify_waiters();
    }

    /// Wakes the driver when the mux has something for it.
    fn wake_driver(&mut self) {
        if self.mux.has_frame() {
            wake(&mut self.driver);
        }
    }

    /// Hands what happened in the mux to those whom it concerns.
    pub(crate) fn drain_events(&mut self) {
        while let Some(event) = self.mux.poll_event() {
            match event {
                Event::Connected(hello) => self.peer = Some(hello),
                Event::Opened { channel, priority: _, opening } => self.handle_opened(channel, opening),
                Event::Data { channel, bytes } => {
                    if let Some(stream) = self.channels.get_mut(&channel) {
                        stream.received.push_back(bytes);
                        wake(&mut stream.reader);
                    }
                }
                Event::Finished { channel } => {
                    if let Some(stream) = self.channels.get_mut(&channel) {
                        stream.is_finished = true;
                        wake(&mut stream.reader);
                    }
                }
                Event::Reset { channel, reason } => {
                    if let Some(at) = self.waiting.iter().position(|(_, id)| *id == channel) {
                        if let Some((opening, _)) = self.waiting.remove(at) {
                            self.waiting_bytes -= opening.len();
                        }
                        self.channels.remove(&channel);
                    } else if let Some(stream) = self.channels.get_mut(&channel) {
                        stream.reset = Some(ResetReason(reason));
                        stream.wake();
                    }
                }
                Event::Writable { channel } => {
                    if let Some(stream) = self.channels.get_mut(&channel) {
                        wake(&mut stream.writer);
                    }
                }
                Event::Closed(error) => self.fail(error.into()),
            }
        }
    }

    fn handle_opened(&mut self, channel: ChannelId, opening: Bytes) {
        if !self.is_accepting {
            self.mux.reset(channel, "no channels are accepted");
        } else if self.waiting.len() >= self.waiting_limit
            || self.waiting_bytes + opening.len() > WAITING_BYTES
        {
            self.mux.reset(channel, "too many channels wait to be accepted");
        } else {
            self.waiting_bytes += opening.len();
            self.waiting.push_back((opening, channel));
            self.channels.insert(channel, Stream { handles: 2, ..Stream::default() });
            wake(&mut self.acceptor);
        }
    }

    /// Returns the next piece that was received, of which [`consume`](Self::consume) is to be told when it is used;
    /// an empty one at the end.
    pub(crate) fn poll_read(&mut self, cx: &Context<'_>, id: ChannelId) -> Poll<io::Result<Bytes>> {
        let Some(stream) = self.channels.get_mut(&id) else { return Poll::Ready(Ok(Bytes::new())) };
        if let Some(piece) = stream.received.pop_front() {
            return Poll::Ready(Ok(piece));
        }
        if stream.is_finished {
            return Poll::Ready(Ok(Bytes::new()));
        }
        if let Some(reason) = &stream.reset {
            return Poll::Ready(Err(reset_error(reason)));
        }
        if let Some(end) = &self.end {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::UnexpectedEof, end.clone())));
        }
        register(&mut stream.reader, cx);
        Poll::Pending
    }

    pub(crate) fn consume(&mut self, id: ChannelId, bytes: usize) {
        self.mux.consume(Instant::now().into_std(), id, bytes);
        self.wake_driver();
    }

    /// Takes the beginning of `bytes`, which move on past it.
    pub(crate) fn poll_write_bytes(
        &mut self,
        cx: &Context<'_>,
        id: ChannelId,
        bytes: &mut Bytes,
    ) -> Poll<io::Result<()>> {
        let before = bytes.len();
        self.poll_write_with(cx, id, before, |mux| {
            mux.write_bytes(id, bytes)?;
            Ok(before - bytes.len())
        })
        .map_ok(|_| ())
    }

    pub(crate) fn poll_write(
        &mut self,
        cx: &Context<'_>,
        id: ChannelId,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_with(cx, id, bytes.len(), |mux| mux.write(id, bytes))
    }

    /// Has `write` give some of `length` bytes to the mux, and returns how many.
    fn poll_write_with(
        &mut self,
        cx: &Context<'_>,
        id: ChannelId,
        length: usize,
        write: impl FnOnce(&mut Mux) -> Result<usize, UnknownChannel>,
    ) -> Poll<io::Result<usize>> {
        if length == 0 {
            return Poll::Ready(Ok(0));
        }
        let Some(stream) = self.channels.get_mut(&id) else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        if let Some(reason) = &stream.reset {
            return Poll::Ready(Err(reset_error(reason)));
        }
        if let Some(end) = &self.end {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::BrokenPipe, end.clone())));
        }
        match write(&mut self.mux) {
            Ok(0) => {
                register(&mut stream.writer, cx);
                Poll::Pending
            }
            Ok(count) => {
                self.wake_driver();
                Poll::Ready(Ok(count))
            }
            Err(closed) => Poll::Ready(Err(io::Error::new(io::ErrorKind::BrokenPipe, closed))),
        }
    }

    /// Ends our direction and waits until everything written has gone out.
    pub(crate) fn poll_finish(&mut self, cx: &Context<'_>, id: ChannelId) -> Poll<io::Result<()>> {
        let Some(stream) = self.channels.get_mut(&id) else { return Poll::Ready(Ok(())) };
        if let Some(reason) = &stream.reset {
            return Poll::Ready(Err(reset_error(reason)));
        }
        if let Some(end) = &self.end {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::BrokenPipe, end.clone())));
        }
        self.mux.finish(id);
        if self.mux.is_finish_sent(id) {
            return Poll::Ready(Ok(()));
        }
        register(&mut stream.writer, cx);
        wake(&mut self.driver);
        Poll::Pending
    }

    pub(crate) fn reset(&mut self, id: ChannelId, reason: &str) {
        self.mux.reset(id, reason);
        if let Some(stream) = self.channels.get_mut(&id) {
            stream.received = VecDeque::new();
        }
        wake(&mut self.driver);
    }

    /// Lets go of a half; one that is not at its end, or whose owner holds unread bytes, takes the whole channel with
    /// it.
    pub(crate) fn release(&mut self, id: ChannelId, half: Half, holds_unread: bool) {
        let Some(stream) = self.channels.get_mut(&id) else { return };
        let is_complete = match half {
            Half::Read => stream.is_finished && stream.received.is_empty() && !holds_unread,
            Half::Write => self.mux.is_finish_sent(id),
        };
        stream.handles -= 1;
        if !is_complete {
            // What the peer has finished stays readable for the other half.
            self.mux.reset(id, "dropped");
            if stream.reset.is_none() {
                stream.reset = Some(ResetReason("the other half was dropped".to_owned()));
            }
            if half == Half::Read {
                stream.received = VecDeque::new();
            }
            stream.wake();
        }
        if stream.handles == 0 {
            self.channels.remove(&id);
        }
        wake(&mut self.driver);
    }
}

fn reset_error(reason: &ResetReason) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, reason.clone())
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

fn register(slot: &mut Option<Waker>, cx: &Context<'_>) {
    match slot {
        Some(waker) => waker.clone_from(cx.waker()),
        None => *slot = Some(cx.waker().clone()),
    }
}
