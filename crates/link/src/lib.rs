//! Drives wire over any `AsyncRead` and `AsyncWrite`.
//!
//! [`establish`] exchanges the hellos and gives a [`Connection`]: its [`Driver`] is to be run by a task of the
//! caller's; its [`Link`] opens channels, its [`Incoming`] accepts the peer's. A [`Channel`] is a stream of bytes
//! like a socket; [`message`] puts the protocol's messages on one.

#![forbid(unsafe_code)]

pub mod message;

mod driver;
mod error;
mod shared;
mod stream;
mod traffic;

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;
use towline_wire::{Mux, Outbound};

pub use towline_wire::{Compression, Config, Hello, Priority, Role};

pub use crate::driver::Driver;
pub use crate::error::{LinkError, ResetReason};
use crate::shared::Shared;
pub use crate::stream::{Channel, ChannelReader, ChannelWriter};
pub use crate::traffic::Traffic;

/// What one end brings to a link.
#[derive(Debug, Clone)]
pub struct LinkOptions {
    /// What it says of itself.
    pub hello: Hello,
    /// Which end it is.
    pub role: Role,
    /// Its limits.
    pub config: Config,
}

/// A link whose peer has introduced itself.
#[derive(Debug)]
pub struct Connection {
    /// Opens channels.
    pub link: Link,
    /// Accepts the peer's channels; dropping it refuses them.
    pub incoming: Incoming,
    /// What the peer says of itself: check its program before anything is entrusted to it.
    pub peer: Hello,
    /// Moves the bytes; nothing happens unless it runs. Dropping it ends the link.
    pub driver: Driver,
}

/// Sends our hello over the stream and waits for the peer's, at most for the handshake deadline.
pub async fn establish<R, W>(reader: R, writer: W, options: LinkOptions) -> Result<Connection, LinkError>
where
    R: AsyncRead + Send + Unpin + 'static,
    W: AsyncWrite + Send + Unpin + 'static,
{
    let LinkOptions { hello, role, config } = options;
    let waiting_limit = config.max_channels;
    let now = Instant::now().into_std();
    let outbound = Outbound::new(&hello, role, config.compression, writer.is_write_vectored(), now);
    let mux = Mux::new(role, &hello, config, now);
    let shared = Arc::new(Shared::new(mux, waiting_limit));
    let mut driver = Driver::new(Box::new(reader), Box::new(writer), outbound, Arc::clone(&shared));
    let peer = poll_fn(|cx| {
        let end = driver.poll(cx);
        match (shared.lock().peer.take(), end) {
            (Some(peer), _) => Poll::Ready(Ok(peer)),
            (None, Poll::Ready(error)) => Poll::Ready(Err(error)),
            (None, Poll::Pending) => Poll::Pending,
        }
    })
    .await?;
    let link = Link { shared: Arc::clone(&shared) };
    Ok(Connection { link, incoming: Incoming { shared }, peer, driver })
}

/// Opens channels, and tells how the link fares. Clones are the same link.
#[derive(Debug, Clone)]
pub struct Link {
    shared: Arc<Shared>,
}

impl Link {
    /// Opens a channel; the peer is given the opening bytes (at most 64 KiB) with it.
    ///
    /// Returns at once: bytes can be written before the peer has accepted, and a refusal comes as a reset.
    #[expect(clippy::unused_async, reason = "callers are not to depend on it never having to wait")]
    pub async fn open(&self, opening: impl Into<Bytes>, priority: Priority) -> Result<Channel, LinkError> {
        let id = self.shared.lock().open(opening.into(), priority)?;
        Ok(Channel::new(Arc::clone(&self.shared), id))
    }

    /// Ends the link: what was written before still goes out, for at most the close deadline.
    pub fn close(&self) {
        self.shared.lock().close();
    }

    /// Asks the peer for a sign of life at once and gives it one ping interval to answer: for a caller who learns
    /// that the machine slept or the network changed.
    pub fn probe(&self) {
        self.shared.lock().probe();
    }

    /// Waits until the link has ended, and returns why.
    pub async fn closed(&self) -> LinkError {
        let closed = Arc::clone(&self.shared.lock().closed);
        loop {
            // Made before the look at the state, so that an end in between is not missed.
            let notified = closed.notified();
            if let Some(end) = self.shared.lock().end() {
                return end.clone();
            }
            notified.await;
        }
    }

    /// Returns the last measured round trip; `None` before the first.
    pub fn round_trip(&self) -> Option<Duration> {
        self.shared.lock().mux.round_trip()
    }

    /// Returns the bytes of the stream so far.
    pub fn traffic(&self) -> Traffic {
        self.shared.lock().traffic
    }
}

/// Accepts the channels that the peer opens.
#[derive(Debug)]
pub struct Incoming {
    shared: Arc<Shared>,
}

impl Incoming {
    /// Waits for the peer's next channel and returns its opening bytes with it; `None` when the link has ended.
    ///
    /// Cancel-safe.
    pub async fn accept(&mut self) -> Option<(Bytes, Channel)> {
        let (opening, id) = poll_fn(|cx| self.shared.lock().poll_accept(cx)).await?;
        Some((opening, Channel::new(Arc::clone(&self.shared), id)))
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        self.shared.lock().refuse_incoming();
    }
}
