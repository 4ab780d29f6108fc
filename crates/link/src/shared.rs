//! What the handles and the driver of one link share: the mux, and for each channel what its reader has not taken.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::Instant;
use towline_wire::{ChannelId, Event, Hello, Mux, Priority};

use crate::error::{LinkError, ResetReason};

/// A reader's emptied buffer larger than this is given back, in bytes.
const KEPT_BYTES: usize = 64 * 1024;
/// What openings that wait to be accepted may hold, in bytes; the next one is refused.
const WAITING_BYTES: usize = 4 * 1024 * 1024;

/// [`State`] behind a lock that is never held across an await.
#[derive(Debug)]
pub(crate) struct Shared(Mutex<State>);

impl Shared {
    pub(crate) fn new(mux: Mux, waiting_limit: usize) -> Self {
        Self(Mutex::new(State {
            mux,
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
    received: VecDeque<u8>,
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
    pub(crate) fn open(&mut self, opening: &[u8], priority: Priority) -> Result<ChannelId, LinkError> {
        if let Some(end) = &self.end {
            return Err(end.clone());
        }
        let id = self.mux.open(opening, priority)?;
        self.channels.insert(id, Stream { handles: 2, ..Stream::default() });
        wake(&mut self.driver);
        Ok(id)
    }

    pub(crate) fn close(&mut self) {
        self.mux.close(Instant::now().into_std(), "closed");
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

    /// Hands what happened in the mux to those whom it concerns.
    pub(crate) fn drain_events(&mut self) {
        while let Some(event) = self.mux.poll_event() {
            match event {
                Event::Connected(hello) => self.peer = Some(hello),
                Event::Opened { channel, priority: _, opening } => self.handle_opened(channel, opening),
                Event::Data { channel, bytes } => {
                    if let Some(stream) = self.channels.get_mut(&channel) {
                        stream.received.extend(&bytes);
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

    fn handle_opened(&mut self, channel: ChannelId, opening: Vec<u8>) {
        if !self.is_accepting {
            self.mux.reset(channel, "no channels are accepted");
        } else if self.waiting.len() >= self.waiting_limit
            || self.waiting_bytes + opening.len() > WAITING_BYTES
        {
            self.mux.reset(channel, "too many channels wait to be accepted");
        } else {
            self.waiting_bytes += opening.len();
            self.waiting.push_back((opening.into(), channel));
            self.channels.insert(channel, Stream { handles: 2, ..Stream::default() });
            wake(&mut self.acceptor);
        }
    }

    /// Gives received bytes to `take`, which returns how many it used; 0 bytes given mean the end.
    pub(crate) fn poll_read(
        &mut self,
        cx: &Context<'_>,
        id: ChannelId,
        take: impl FnOnce(&[u8], &[u8]) -> usize,
    ) -> Poll<io::Result<()>> {
        let Some(stream) = self.channels.get_mut(&id) else { return Poll::Ready(Ok(())) };
        if !stream.received.is_empty() {
            let (first, second) = stream.received.as_slices();
            let used = take(first, second);
            stream.received.drain(..used);
            if stream.received.is_empty() && stream.received.capacity() > KEPT_BYTES {
                stream.received = VecDeque::new();
            }
            self.mux.consume(id, used);
            wake(&mut self.driver);
            return Poll::Ready(Ok(()));
        }
        if stream.is_finished {
            return Poll::Ready(Ok(()));
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

    pub(crate) fn poll_write(
        &mut self,
        cx: &Context<'_>,
        id: ChannelId,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if bytes.is_empty() {
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
        match self.mux.write(id, bytes) {
            Ok(0) => {
                register(&mut stream.writer, cx);
                Poll::Pending
            }
            Ok(count) => {
                wake(&mut self.driver);
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

    /// Lets go of a half; one that is not at its end takes the whole channel with it.
    pub(crate) fn release(&mut self, id: ChannelId, half: Half) {
        let Some(stream) = self.channels.get_mut(&id) else { return };
        let is_complete = match half {
            Half::Read => stream.is_finished && stream.received.is_empty(),
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
