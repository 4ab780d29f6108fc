//! A channel as a stream of bytes.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use towline_wire::ChannelId;

use crate::shared::{Half, Shared};

/// One channel: a stream each way.
///
/// Shutting down the writing side tells the peer that all was sent, waits until it has gone out, and leaves the
/// reading side open. A channel that is dropped before both ends were reached is reset: the peer sees an error and
/// never takes a part for the whole.
#[derive(Debug)]
pub struct Channel {
    reader: ChannelReader,
    writer: ChannelWriter,
}

/// The reading half of a [`Channel`]; dropped before the end, it resets the channel in both directions.
#[derive(Debug)]
pub struct ChannelReader {
    shared: Arc<Shared>,
    id: ChannelId,
}

/// The writing half of a [`Channel`]; dropped before its shutdown is through, it resets the channel in both
/// directions.
#[derive(Debug)]
pub struct ChannelWriter {
    shared: Arc<Shared>,
    id: ChannelId,
}

impl Channel {
    pub(crate) fn new(shared: Arc<Shared>, id: ChannelId) -> Self {
        let reader = ChannelReader { shared: Arc::clone(&shared), id };
        Self { reader, writer: ChannelWriter { shared, id } }
    }

    /// Parts the two directions, for two tasks.
    pub fn split(self) -> (ChannelReader, ChannelWriter) {
        (self.reader, self.writer)
    }

    /// Ends the channel in both directions; the peer is told the reason (its first KiB).
    pub fn reset(self, reason: &str) {
        self.writer.shared.lock().reset(self.writer.id, reason);
    }
}

impl ChannelWriter {
    /// Ends the channel in both directions; the peer is told the reason (its first KiB).
    pub fn reset(self, reason: &str) {
        self.shared.lock().reset(self.id, reason);
    }
}

impl Drop for ChannelReader {
    fn drop(&mut self) {
        self.shared.lock().release(self.id, Half::Read);
    }
}

impl Drop for ChannelWriter {
    fn drop(&mut self) {
        self.shared.lock().release(self.id, Half::Write);
    }
}

impl AsyncRead for ChannelReader {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.shared.lock().poll_read(cx, self.id, |first, second| {
            let mut used = 0;
            for piece in [first, second] {
                let count = piece.len().min(buffer.remaining());
                buffer.put_slice(&piece[..count]);
                used += count;
            }
            used
        })
    }
}

impl AsyncWrite for ChannelWriter {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.shared.lock().poll_write(cx, self.id, bytes)
    }

    /// Does nothing: what was written goes out by itself as soon as it can.
    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.shared.lock().poll_finish(cx, self.id)
    }
}

impl AsyncRead for Channel {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.reader).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Channel {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.writer).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writer).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writer).poll_shutdown(cx)
    }
}
