//! The limits of one end.

use std::time::Duration;

/// When data is packed before it is sent. What comes is unpacked in any case.
///
/// Only channels of the bulk and interactive classes are packed: a forward carries what strangers may have chosen
/// next to secrets, and lengths would tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    /// The first 4 MiB after a pause, and all of it while the link is what holds us up and packing is clearly faster
    /// than it; as far as the data shrinks.
    #[default]
    Auto,
    /// Always, as far as the data shrinks.
    Always,
    /// Never.
    Never,
}

/// The limits of one end. Ends with different ones understand each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Channels that each end may have opened at once. A peer that opens more is cut off.
    pub max_channels: usize,
    /// What a channel of [`Priority::Interactive`](crate::Priority::Interactive) may hold for its reader at first, in
    /// bytes.
    pub interactive_window: u32,
    /// What any other channel may hold for its reader at first, in bytes.
    pub bulk_window: u32,
    /// What a channel's window may grow to, in bytes, while its reader takes all of it faster than the link's delay
    /// lets more come.
    pub max_window: u32,
    /// What all windows may sum up to, in bytes; further channels get [`INITIAL_WINDOW`](crate::credit::INITIAL_WINDOW).
    pub receive_budget: u64,
    /// What a channel takes from its writer before the peer can take it, in bytes.
    pub send_buffer: usize,
    /// The most that may be under way on the link, in bytes of data before packing, except on interactive channels.
    pub max_in_flight: u64,
    /// Between two pings.
    pub ping_interval: Duration,
    /// So many unanswered pings mean that the peer is dead, half an interval after the last of them was due.
    pub missed_pings: u32,
    /// When data is packed.
    pub compression: Compression,
    /// How long the peer's hello may take.
    pub handshake_deadline: Duration,
    /// How long [`Mux::close`](crate::Mux::close) waits for what was written before.
    pub close_deadline: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_channels: 1024,
            interactive_window: 512 * 1024,
            bulk_window: 2 * 1024 * 1024,
            max_window: 24 * 1024 * 1024,
            receive_budget: 64 * 1024 * 1024,
            send_buffer: 512 * 1024,
            max_in_flight: 32 * 1024 * 1024,
            compression: Compression::Auto,
            ping_interval: Duration::from_secs(2),
            missed_pings: 2,
            handshake_deadline: Duration::from_secs(5),
            close_deadline: Duration::from_secs(1),
        }
    }
}
