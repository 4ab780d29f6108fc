//! A channel as a stream of bytes.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, ReadBuf};
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
    /// A piece that was received, as far as it is not yet used.
    piece: Bytes,
    /// Its length when it came.
    piece_bytes: usize,
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
        let reader = ChannelReader { shared: Arc::clone(&shared), id, piece: Bytes::new(), piece_bytes: 0 };
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

impl ChannelReader {
    /// Returns the next bytes as they came, without a copy; `None` at the end. Cancel-safe.
    pub async fn read_bytes(&mut self) -> io::Result<Option<Bytes>> {
        poll_fn(|cx| self.poll_piece(cx)).await?;
        let piece = std::mem::take(&mut self.piece);
        self.settle();
        Ok(Some(piece).filter(|piece| !piece.is_empty()))
    }

    /// Makes sure of a piece that is not used up, unless all was read.
    fn poll_piece(&mut self, cx: &Context<'_>) -> Poll<io::Result<()>> {
        if self.piece.is_empty() {
            self.piece = ready!(self.shared.lock().poll_read(cx, self.id))?;
            self.piece_bytes = self.piece.len();
        }
        Poll::Ready(Ok(()))
    }

    /// Gives the credit for the piece back when it is used up.
    fn settle(&mut self) {
        if self.piece.is_empty() && self.piece_bytes > 0 {
            self.shared.lock().consume(self.id, std::mem::take(&mut self.piece_bytes));
        }
    }
}

impl ChannelWriter {
    /// Writes all of `bytes` without a copy. Not cancel-safe: a part may have been written.
    pub async fn write_bytes(&mut self, mut bytes: Bytes) -> io::Result<()> {
        while !bytes.is_empty() {
            poll_fn(|cx| self.shared.lock().poll_write_bytes(cx, self.id, &mut bytes)).await?;
        }
        Ok(())
    }

    /// Ends the channel in both directions; the peer is told the reason (its first KiB).
    pub fn reset(self, reason: &str) {
        self.shared.lock().reset(self.id, reason);
    }
}

impl Drop for ChannelReader {
    fn drop(&mut self) {
        self.shared.lock().release(self.id, Half::Read, !self.piece.is_empty());
    }
}

impl Drop for ChannelWriter {
    fn drop(&mut self) {
        self.shared.lock().release(self.id, Half::Write, false);
    }
}

impl AsyncRead for ChannelReader {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // Copied without the lock.
        ready!(this.poll_piece(cx))?;
        let count = this.piece.len().min(buffer.remaining());
        buffer.put_slice(&this.piece[..count]);
        this.piece.advance(count);
        this.settle();
        Poll::Ready(Ok(()))
    }
}

impl AsyncBufRead for ChannelReader {
    fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        let this = self.get_mut();
        ready!(this.poll_piece(cx))?;
        Poll::Ready(Ok(&this.piece))
    }

    fn consume(self: Pin<&mut Self>, count: usize) {
        let this = self.get_mut();
        this.piece.advance(count);
        this.settle();
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
