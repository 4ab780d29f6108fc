//! What the mux knows of one channel.

use std::collections::VecDeque;

use crate::credit::{ReceiveWindow, SendCredit};
use crate::frame::Priority;

/// How far the end of our direction has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SendEnd {
    Open,
    Requested,
    Sent,
}

/// A channel that has not ended, or whose last bytes are still unread.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own, in any combination")]
pub(super) struct Channel {
    pub(super) priority: Priority,
    pub(super) buffer: VecDeque<u8>,
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
            buffer: VecDeque::new(),
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
