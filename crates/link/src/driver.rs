//! Moves bytes between the stream and the mux.

use std::fmt;
use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BufMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::time::{Instant, Sleep, sleep_until};
use towline_wire::{Inbound, Outbound, Outgoing, Received};

use crate::error::LinkError;
use crate::shared::Shared;

/// So much is read, in bytes, before what came is passed on.
const READ_BYTES: usize = 256 * 1024;
/// How many pieces the stream is given at once.
const PIECES: usize = 16;
/// After so many rounds others get their turn.
const ROUNDS: usize = 16;
/// How long the last words may take to go out.
const FAREWELL_DEADLINE: Duration = Duration::from_secs(1);

/// The engine of one link: everything waits unless [`run`](Self::run) is polled.
pub struct Driver {
    shared: Arc<Shared>,
    reader: Box<dyn AsyncRead + Send + Unpin>,
    writer: Box<dyn AsyncWrite + Send + Unpin>,
    inbound: Inbound,
    outbound: Outbound,
    /// What came and is not yet passed on, and what is to go out: only while the shared state is not locked.
    received: Vec<Received>,
    outgoing: Vec<Outgoing>,
    needs_flush: bool,
    timer: Pin<Box<Sleep>>,
}

impl Driver {
    pub(crate) fn new(
        reader: Box<dyn AsyncRead + Send + Unpin>,
        writer: Box<dyn AsyncWrite + Send + Unpin>,
        outbound: Outbound,
        shared: Arc<Shared>,
    ) -> Self {
        Self {
            shared,
            reader,
            writer,
            inbound: Inbound::new(),
            outbound,
            received: Vec::new(),
            outgoing: Vec::new(),
            needs_flush: false,
            timer: Box::pin(sleep_until(Instant::now())),
        }
    }

    /// Runs the link until it ends, and returns why. Then all channels have ended too.
    pub async fn run(mut self) -> LinkError {
        let error = poll_fn(|cx| self.poll(cx)).await;
        // The last words may find nobody; the link has ended anyway.
        let _ = tokio::time::timeout(FAREWELL_DEADLINE, poll_fn(|cx| self.poll_farewell(cx))).await;
        error
    }

    /// Returns the end of the link when it has come.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<LinkError> {
        self.shared.lock().register_driver(cx);
        for _ in 0..ROUNDS {
            let is_read = self.poll_read(cx);
            let is_due = self.poll_timer(cx);
            let is_written = self.poll_write(cx);
            if let Some(end) = self.shared.lock().end() {
                return Poll::Ready(end.clone());
            }
            if !(is_read || is_due || is_written) {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Returns whether anything was read, or the stream failed.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> bool {
        let mut count = 0;
        let mut end = None;
        while count < READ_BYTES && end.is_none() {
            let (buffer, limit) = self.inbound.buffer();
            let read = pin!(self.reader.read_buf(&mut buffer.limit(limit))).poll(cx);
            match read {
                Poll::Pending => break,
                Poll::Ready(Ok(0)) => end = Some(LinkError::StreamEnded),
                Poll::Ready(Err(error)) => end = Some(LinkError::Read(Arc::new(error))),
                Poll::Ready(Ok(bytes)) => {
                    count += bytes;
                    self.inbound.handle_read(bytes);
                    loop {
                        match self.inbound.poll() {
                            Ok(Some(received)) => self.received.push(received),
                            Ok(None) => break,
                            Err(error) => {
                                end = Some(error.into());
                                break;
                            }
                        }
                    }
                }
            }
        }
        if count == 0 && end.is_none() {
            return false;
        }
        let now = Instant::now().into_std();
        let mut state = self.shared.lock();
        state.traffic.set_received(self.inbound.received());
        state.mux.handle_progress(now);
        for received in self.received.drain(..) {
            state.mux.handle_received(now, Ok(received));
            state.drain_events();
        }
        match end {
            // Said to the peer, too.
            Some(LinkError::Connection(error)) => {
                state.mux.handle_received(now, Err(error));
                state.drain_events();
            }
            Some(error) => state.fail(error),
            None => {}
        }
        true
    }

    /// Returns whether something was due.
    fn poll_timer(&mut self, cx: &mut Context<'_>) -> bool {
        let mut state = self.shared.lock();
        let Some(deadline) = state.mux.poll_timeout() else { return false };
        let deadline = Instant::from_std(deadline);
        if self.timer.deadline() != deadline {
            self.timer.as_mut().reset(deadline);
        }
        if self.timer.as_mut().poll(cx).is_pending() {
            return false;
        }
        let now = Instant::now().into_std();
        state.mux.handle_timeout(now);
        state.drain_events();
        true
    }

    /// Writes and flushes what the mux has to say; returns whether anything moved.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> bool {
        let mut has_moved = false;
        loop {
            match self.poll_output(cx) {
                Poll::Pending => return has_moved,
                Poll::Ready(Err(error)) => {
                    self.shared.lock().fail(LinkError::Write(Arc::new(error)));
                    return true;
                }
                Poll::Ready(Ok(())) => {}
            }
            let is_held_back = self.fill();
            if self.outbound.has_remaining() {
                has_moved = true;
                continue;
            }
            let now = Instant::now().into_std();
            if is_held_back {
                self.outbound.blocked(now);
            } else {
                self.outbound.idle(now);
            }
            if self.needs_flush {
                match Pin::new(&mut self.writer).poll_flush(cx) {
                    Poll::Pending => {}
                    Poll::Ready(Ok(())) => self.needs_flush = false,
                    Poll::Ready(Err(error)) => {
                        self.shared.lock().fail(LinkError::Write(Arc::new(error)));
                        return true;
                    }
                }
            }
            return has_moved;
        }
    }

    /// Takes from the mux what is to go out now; returns whether there is more that the path has no room for.
    fn fill(&mut self) -> bool {
        let now = Instant::now().into_std();
        let mut room = self.outbound.room();
        let mut state = self.shared.lock();
        while let Some(outgoing) = state.mux.poll_frame(now, room) {
            room = room.saturating_sub(outgoing.frame.data_bytes());
            self.outgoing.push(outgoing);
        }
        state.drain_events();
        state.traffic.set_sent(self.outbound.sent());
        let is_held_back = state.mux.is_held_back();
        drop(state);
        // Packing takes its time; nobody waits for the lock meanwhile.
        for outgoing in self.outgoing.drain(..) {
            self.outbound.push(outgoing, || Instant::now().into_std());
        }
        is_held_back
    }

    /// Brings everything given out by the mux into the stream.
    fn poll_output(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.outbound.has_remaining() {
            return Poll::Ready(Ok(()));
        }
        self.outbound.begin(Instant::now().into_std());
        while self.outbound.has_remaining() {
            let writer = Pin::new(&mut self.writer);
            let written = if writer.is_write_vectored() {
                let mut pieces = [IoSlice::new(&[]); PIECES];
                let count = self.outbound.chunks_vectored(&mut pieces);
                writer.poll_write_vectored(cx, &pieces[..count])
            } else {
                writer.poll_write(cx, self.outbound.chunk())
            };
            let now = Instant::now().into_std();
            let Poll::Ready(count) = written else {
                self.outbound.blocked(now);
                return Poll::Pending;
            };
            let count = count?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.outbound.advance(count);
            self.outbound.wrote(now, count);
            self.needs_flush = true;
        }
        Poll::Ready(Ok(()))
    }

    /// Tells the peer why the link ended, and ends the stream.
    fn poll_farewell(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.poll_output(cx))?;
            self.fill();
            if !self.outbound.has_remaining() {
                break;
            }
        }
        ready!(Pin::new(&mut self.writer).poll_flush(cx))?;
        Pin::new(&mut self.writer).poll_shutdown(cx)
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.shared.lock().fail(LinkError::Abandoned);
    }
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver").field("output", &self.outbound.remaining()).finish_non_exhaustive()
    }
}
