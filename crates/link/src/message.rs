//! Messages on a stream: postcard behind a 4-byte little-endian length.

use std::io;

use bytes::{Buf, BytesMut};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use towline_protocol::{DecodeError, MAX_MESSAGE_BYTES};

const LENGTH_BYTES: usize = 4;
/// How much is asked of the stream at least, in bytes: several small messages come at once.
const READ_BYTES: usize = 8 * 1024;

/// Why no message came or went.
#[derive(Debug, thiserror::Error)]
pub enum MessageError {
    /// The stream failed: reset by the peer, or the link has ended.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The bytes are not a message.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The stream ended within a message.
    #[error("the stream ended within a message")]
    Truncated,
    /// A message of ours is over the limit; nothing was sent.
    #[error("a message of {length} bytes is longer than {limit}")]
    TooLong {
        /// Its length, in bytes.
        length: usize,
        /// The stream's limit, in bytes.
        limit: usize,
    },
}

/// Reads messages.
#[derive(Debug)]
pub struct MessageReader<R> {
    inner: R,
    buffer: BytesMut,
    limit: usize,
}

impl<R: AsyncRead + Unpin> MessageReader<R> {
    /// Reads messages of `towline-protocol`, with its limit.
    pub fn new(inner: R) -> Self {
        Self::with_limit(inner, MAX_MESSAGE_BYTES)
    }

    /// Reads messages of at most so many bytes.
    pub fn with_limit(inner: R, limit: usize) -> Self {
        Self { inner, buffer: BytesMut::new(), limit }
    }

    /// Returns the next message; `None` when the peer has finished.
    ///
    /// Cancel-safe. After an error the stream is unusable.
    pub async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, MessageError> {
        loop {
            let missing = match self.buffer.first_chunk::<LENGTH_BYTES>() {
                None => LENGTH_BYTES - self.buffer.len(),
                Some(length) => {
                    let length = u32::from_le_bytes(*length) as usize;
                    if length > self.limit {
                        return Err(DecodeError::TooLong { length }.into());
                    }
                    let whole = LENGTH_BYTES + length;
                    if let Some(body) = self.buffer.get(LENGTH_BYTES..whole) {
                        let message = towline_protocol::decode_within(body, self.limit)?;
                        self.buffer.advance(whole);
                        return Ok(Some(message));
                    }
                    whole - self.buffer.len()
                }
            };
            self.buffer.reserve(missing.max(READ_BYTES));
            if self.inner.read_buf(&mut self.buffer).await? == 0 {
                return if self.buffer.is_empty() { Ok(None) } else { Err(MessageError::Truncated) };
            }
        }
    }
}

/// Writes messages.
#[derive(Debug)]
pub struct MessageWriter<W> {
    inner: W,
    limit: usize,
}

impl<W: AsyncWrite + Unpin> MessageWriter<W> {
    /// Writes messages of `towline-protocol`, with its limit.
    pub fn new(inner: W) -> Self {
        Self::with_limit(inner, MAX_MESSAGE_BYTES)
    }

    /// Writes messages of at most so many bytes.
    pub fn with_limit(inner: W, limit: usize) -> Self {
        Self { inner, limit }
    }

    /// Sends one message. Not cancel-safe: a message that was begun must be completed.
    pub async fn send<T: Serialize>(&mut self, message: &T) -> Result<(), MessageError> {
        let body = towline_protocol::encode(message);
        let (length, limit) = (body.len(), self.limit);
        let prefix = u32::try_from(length).ok().filter(|_| length <= limit);
        let prefix = prefix.ok_or(MessageError::TooLong { length, limit })?;
        let mut bytes = Vec::with_capacity(LENGTH_BYTES + length);
        bytes.extend_from_slice(&prefix.to_le_bytes());
        bytes.extend_from_slice(&body);
        self.inner.write_all(&bytes).await?;
        self.inner.flush().await?;
        Ok(())
    }

    /// Tells the peer that no more messages come, and waits until all have gone out.
    pub async fn finish(&mut self) -> Result<(), MessageError> {
        Ok(self.inner.shutdown().await?)
    }

    /// Returns the stream.
    pub fn into_inner(self) -> W {
        self.inner
    }
}
