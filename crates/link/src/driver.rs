//! Moves bytes between the stream and the mux.

use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::error::LinkError;
use crate::shared::Shared;

/// How much is read at once, in bytes.
const READ_BYTES: usize = 64 * 1024;
/// After so many rounds others get their turn.
const ROUNDS: usize = 16;
/// How long the last words may take to go out.
const FAREWELL_DEADLINE: Duration = Duration::from_secs(1);

/// The engine of one link: everything waits unless [`run`](Self::run) is polled.
pub struct Driver {
    shared: Arc<Shared>,
    reader: Box<dyn AsyncRead + Send + Unpin>,
    writer: Box<dyn AsyncWrite + Send + Unpin>,
    input: Box<[u8]>,
    /// Frames on their way into the stream, of which `written` bytes are there.
    output: Vec<u8>,
    written: usize,
    needs_flush: bool,
    timer: Pin<Box<Sleep>>,
}

impl Driver {
    pub(crate) fn new(
        reader: Box<dyn AsyncRead + Send + Unpin>,
        writer: Box<dyn AsyncWrite + Send + Unpin>,
        shared: Arc<Shared>,
    ) -> Self {
        Self {
            shared,
            reader,
            writer,
            input: vec![0; READ_BYTES].into_boxed_slice(),
            output: Vec::new(),
            written: 0,
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
        let mut buffer = ReadBuf::new(&mut self.input);
        let Poll::Ready(result) = Pin::new(&mut self.reader).poll_read(cx, &mut buffer) else {
            return false;
        };
        let mut state = self.shared.lock();
        match result {
            Ok(()) if buffer.filled().is_empty() => state.fail(LinkError::StreamEnded),
            Ok(()) => {
                state.mux.handle_bytes(Instant::now().into_std(), buffer.filled());
                state.drain_events();
            }
            Err(error) => state.fail(LinkError::Read(Arc::new(error))),
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
        state.mux.handle_timeout(Instant::now().into_std());
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
            let mut state = self.shared.lock();
            state.mux.poll_transmit(Instant::now().into_std(), &mut self.output);
            state.drain_events();
            drop(state);
            if !self.output.is_empty() {
                has_moved = true;
                continue;
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

    /// Brings everything given out by the mux into the stream.
    fn poll_output(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.output.len() {
            let count =
                std::task::ready!(Pin::new(&mut self.writer).poll_write(cx, &self.output[self.written..]))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += count;
            self.needs_flush = true;
        }
        self.output.clear();
        self.written = 0;
        Poll::Ready(Ok(()))
    }

    /// Tells the peer why the link ended, and ends the stream.
    fn poll_farewell(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            std::task::ready!(self.poll_output(cx))?;
            self.shared.lock().mux.poll_transmit(Instant::now().into_std(), &mut self.output);
            if self.output.is_empty() {
                break;
            }
        }
        std::task::ready!(Pin::new(&mut self.writer).poll_flush(cx))?;
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
        f.debug_struct("Driver").field("output", &(self.output.len() - self.written)).finish_non_exhaustive()
    }
}
