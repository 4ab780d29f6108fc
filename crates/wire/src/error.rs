//! Why a link ended, and why a call on it was refused.

use std::time::Duration;

use crate::frame::{ChannelId, MAX_OPENING_BYTES, MAX_PAYLOAD_BYTES};

/// Why the whole link ended; nothing more travels on it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectionError {
    /// The peer's first bytes are not an acceptable hello.
    #[error("handshake failed: {0}")]
    Hello(#[from] HelloError),
    /// The peer's hello did not come in time.
    #[error("the peer did not introduce itself within {} ms", .after.as_millis())]
    HandshakeTimeout {
        /// How long it was waited for.
        after: Duration,
    },
    /// Bytes of the stream were changed, lost, or are not of this protocol.
    #[error("broken stream: {0}")]
    Frame(#[from] FrameError),
    /// A sound frame that the protocol does not allow here.
    #[error("the peer broke the protocol: {0}")]
    Violation(#[from] Violation),
    /// Nothing was heard from the peer, which was asked repeatedly.
    #[error("the peer has been silent for {} ms", .silence.as_millis())]
    PeerDead {
        /// Since when nothing was heard.
        silence: Duration,
    },
    /// The peer ended the link and said why.
    #[error("the peer closed the link: {reason}")]
    PeerClosed {
        /// The peer's words: to be sanitised before they reach a terminal.
        reason: String,
    },
    /// This end closed the link.
    #[error("the link was closed")]
    Closed,
}

/// Why the peer's first bytes are not an acceptable hello.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HelloError {
    /// Something else speaks there: a shell, a proxy, a container runtime's error.
    #[error("the other end does not speak this protocol, it says \"{start}\"")]
    NotTowline {
        /// The first bytes, escaped.
        start: String,
    },
    /// Another version of the wire format.
    #[error("the peer speaks wire format {theirs}, this end {ours}")]
    Format {
        /// The peer's.
        theirs: u16,
        /// Ours.
        ours: u16,
    },
    /// The announced length is outside the limits.
    #[error("a hello of {length} bytes is not possible")]
    Length {
        /// As announced, in bytes.
        length: usize,
    },
    /// The bytes were changed on the way.
    #[error("the hello's checksum does not fit")]
    Checksum,
    /// A field is outside its limits.
    #[error("the hello's {field} is malformed")]
    Malformed {
        /// Which one.
        field: &'static str,
    },
    /// Both ends play the same part.
    #[error("both ends play the same role")]
    SameRole,
    /// The peer's nonce is ours: the stream leads back to ourselves.
    #[error("the peer answers with our own nonce")]
    Reflected,
}

/// Why bytes are not the next frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The announced length is over the limit.
    #[error("frame {sequence} announces {length} bytes, more than {MAX_PAYLOAD_BYTES}")]
    TooLong {
        /// The frame's number in this direction, from 0.
        sequence: u64,
        /// As announced, in bytes.
        length: usize,
    },
    /// No such kind of frame.
    #[error("frame {sequence} is of unknown kind {kind}")]
    UnknownKind {
        /// The frame's number in this direction, from 0.
        sequence: u64,
        /// As received.
        kind: u8,
    },
    /// Bits were changed, or a frame was lost, repeated, moved, or is of another session.
    #[error("the checksum of frame {sequence} does not fit")]
    Checksum {
        /// The frame's number in this direction, from 0.
        sequence: u64,
    },
    /// The payload or the channel is not what this kind has.
    #[error("the {what} of frame {sequence} is malformed")]
    Malformed {
        /// The frame's number in this direction, from 0.
        sequence: u64,
        /// Which part.
        what: &'static str,
    },
    /// The payload is packed, and can't be unpacked into what it says.
    #[error("frame {sequence} can't be unpacked: {what}")]
    Packed {
        /// The frame's number in this direction, from 0.
        sequence: u64,
        /// What is wrong with it.
        what: &'static str,
    },
}

/// What a peer may not do, though each frame of it is sound.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// A frame for a channel that was never opened.
    #[error("a frame for channel {channel}, which was never opened")]
    NeverOpened {
        /// The channel.
        channel: ChannelId,
    },
    /// A channel number that is not the opener's to give, or not larger than its last one.
    #[error("channel {channel} can't be opened by the peer now")]
    WrongNumber {
        /// The channel.
        channel: ChannelId,
    },
    /// More channels at once than allowed.
    #[error("more than {limit} channels at once")]
    TooManyChannels {
        /// The limit.
        limit: usize,
    },
    /// More bytes than this end gave credit for.
    #[error("channel {channel} was sent more than its credit")]
    OverCredit {
        /// The channel.
        channel: ChannelId,
    },
    /// Credit that no receiver could mean.
    #[error("channel {channel} was given impossible credit")]
    CreditOverflow {
        /// The channel.
        channel: ChannelId,
    },
    /// Data or a second finish after a finish.
    #[error("channel {channel} was sent more after its end")]
    AfterFinish {
        /// The channel.
        channel: ChannelId,
    },
    /// More bytes acknowledged than were sent.
    #[error("more bytes were acknowledged than sent")]
    AcknowledgedUnsent,
    /// An answer to a question that was not asked.
    #[error("a pong without its ping")]
    UnexpectedPong,
    /// The peer keeps asking for answers that it does not read.
    #[error("answers pile up that the peer does not read")]
    AnswersUnread,
}

/// Why a channel could not be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The link has ended or is closing.
    #[error("the link is closed")]
    Closed,
    /// As many as allowed are open.
    #[error("{limit} channels are open already")]
    TooMany {
        /// The limit.
        limit: usize,
    },
    /// The opening bytes are over the limit.
    #[error("opening bytes of {length} bytes are more than {MAX_OPENING_BYTES}")]
    OpeningTooLong {
        /// Their length.
        length: usize,
    },
}

/// The channel is closed in this direction, or was never open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("channel {0} is closed")]
pub struct UnknownChannel(pub ChannelId);
