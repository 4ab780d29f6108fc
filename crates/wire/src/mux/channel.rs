//! What the mux knows of one channel.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use crate::credit::{ReceiveWindow, SendCredit};
use crate::frame::Priority;

/// The least and the most that is set aside for writes that are put together into one frame, in bytes.
const MIN_PIECE_BYTES: usize = 4 * 1024;
const MAX_PIECE_BYTES: usize = 128 * 1024;

/// How far the end of our direction has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SendEnd {
    Open,
    Requested,
    Sent,
}

/// What was written and not yet sent: pieces that go out as they are, the last of which still takes small writes.
#[derive(Debug, Default)]
pub(super) struct SendBuffer {
    pieces: VecDeque<Bytes>,
    last: BytesMut,
    length: usize,
}

impl SendBuffer {
    pub(super) fn len(&self) -> usize {
        self.length
    }

    pub(super) fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Appends a copy.
    pub(super) fn extend(&mut self, bytes: &[u8]) {
        if self.last.capacity() - self.last.len() < bytes.len() {
            self.close_last();
            // A writer that is ahead of the stream gets larger pieces.
            let size = self.length.clamp(MIN_PIECE_BYTES, MAX_PIECE_BYTES).max(bytes.len());
            self.last = BytesMut::with_capacity(size);
        }
        self.last.extend_from_slice(bytes);
        self.length += bytes.len();
    }

    /// Appends without a copy.
    pub(super) fn push(&mut self, bytes: Bytes) {
        self.close_last();
        self.length += bytes.len();
        self.pieces.push_back(bytes);
    }

    fn close_last(&mut self) {
        if !self.last.is_empty() {
            self.pieces.push_back(self.last.split().freeze());
        }
    }

    /// Takes the next bytes that lie together, at most `limit` of them.
    pub(super) fn take(&mut self, limit: usize) -> Bytes {
        let taken = match self.pieces.front_mut() {
            Some(piece) if piece.len() > limit => piece.split_to(limit),
            Some(_) => self.pieces.pop_front().unwrap_or_default(),
            None => self.last.split_to(limit.min(self.last.len())).freeze(),
        };
        self.length -= taken.len();
        if self.is_empty() && self.last.capacity() > MIN_PIECE_BYTES {
            self.last = BytesMut::new();
        }
        taken
    }
}

/// A channel that has not ended, or whose last bytes are still unread.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own, in any combination")]
pub(super) struct Channel {
    pub(super) priority: Priority,
    pub(super) buffer: SendBuffer,
    pub(super) credit: SendCredit,
    pub(super) send_end: SendEnd,
    /// It is in its ready queue.
    pub(super) is_ready: bool,
    /// A write was cut short, or a finish is waited for.
    pub(super) is_awaited: bool,
    pub(super) receive: ReceiveWindow,
    pub(super) is_finished: bool,
    /// A credit frame for it is in the control queue.
    pub(super) is_grant_queued: bool,
    /// It counts among the open ones.
    pub(super) is_counted: bool,
}

impl Channel {
    pub(super) fn new(priority: Priority, receive: ReceiveWindow) -> Self {
        Self {
            priority,
            buffer: SendBuffer::default(),
            credit: SendCredit::new(),
            send_end: SendEnd::Open,
            is_ready: false,
            is_awaited: false,
            receive,
            is_finished: false,
            is_grant_queued: false,
            is_counted: true,
        }
    }

    /// Returns whether a frame of it could go now.
    pub(super) fn can_send(&self) -> bool {
        if self.buffer.is_empty() { self.send_end == SendEnd::Requested } else { self.credit.available() > 0 }
    }
}
