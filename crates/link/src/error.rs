//! Why a link or a channel ended.

use std::io;
use std::sync::Arc;

use towline_wire::{ConnectionError, OpenError};

/// Why the link ended, or why a channel could not be opened on it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LinkError {
    /// The protocol ended it: closed by either end, silent peer, broken stream.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// The channel could not be opened; the link goes on.
    #[error("can't open a channel: {0}")]
    Open(#[from] OpenError),
    /// The stream ended without a farewell.
    #[error("the stream to the peer ended")]
    StreamEnded,
    /// Reading the stream failed.
    #[error("can't read from the peer: {0}")]
    Read(#[source] Arc<io::Error>),
    /// Writing to the stream failed.
    #[error("can't write to the peer: {0}")]
    Write(#[source] Arc<io::Error>),
    /// The driver was dropped.
    #[error("the link was abandoned")]
    Abandoned,
}

/// Why the peer ended a channel: the inner error of a [`ConnectionReset`](io::ErrorKind::ConnectionReset).
///
/// The peer's words are to be sanitised before they reach a terminal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ResetReason(pub String);

impl ResetReason {
    /// Returns the reason when `error` is a reset by the peer.
    pub fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }
}
