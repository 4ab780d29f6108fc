//! How much a link carried.

/// Bytes of a link's stream so far, frames and all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    /// Given to the stream.
    pub sent: u64,
    /// Taken from the stream.
    pub received: u64,
    /// What `sent` would be if nothing were packed.
    pub sent_unpacked: u64,
    /// What `received` would be if nothing were packed.
    pub received_unpacked: u64,
}

impl Traffic {
    pub(crate) fn set_sent(&mut self, (sent, unpacked): (u64, u64)) {
        (self.sent, self.sent_unpacked) = (sent, unpacked);
    }

    pub(crate) fn set_received(&mut self, (received, unpacked): (u64, u64)) {
        (self.received, self.received_unpacked) = (received, unpacked);
    }
}
