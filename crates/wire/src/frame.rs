//! One frame to bytes and back.

use std::fmt;

use bytes::Bytes;
use twox_hash::XxHash3_64;

use crate::error::FrameError;

/// The longest payload, in bytes.
pub const MAX_PAYLOAD_BYTES: usize = 256 * 1024;
/// The most bytes of data that we put into one frame: room is left for packing that makes them more.
pub const MAX_DATA_BYTES: usize = MAX_PAYLOAD_BYTES - MAX_PAYLOAD_BYTES / 64;
/// The longest opening bytes of a channel.
pub const MAX_OPENING_BYTES: usize = 64 * 1024;
/// The longest reason of a reset or a going away, in bytes of UTF-8.
pub const MAX_REASON_BYTES: usize = 1024;
/// What a frame has before its payload, in bytes.
pub const HEADER_BYTES: usize = LENGTH_BYTES + 1 + 4 + CHECKSUM_BYTES;

const LENGTH_BYTES: usize = 4;
const CHECKSUM_BYTES: usize = 8;
const CHECKSUM_AT: usize = HEADER_BYTES - CHECKSUM_BYTES;
/// What a packed payload has before the packed bytes: the length of what they stand for.
pub(crate) const PACKED_HEAD_BYTES: usize = 4;

/// A channel's number, never 0 and never used twice on one link: odd ones are opened by the client, even ones by
/// the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelId(pub(crate) u32);

impl ChannelId {
    /// Returns the number as it travels.
    pub fn number(self) -> u32 {
        self.0
    }
}

impl fmt::Display for ChannelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Who goes first when not everything can go at once: a lower class waits while a higher one has anything to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// A person waits for it: keys, terminal output, small edits.
    Interactive,
    /// A program waits for it: forwards, answers.
    Normal,
    /// It fills what the others leave: large transfers.
    Bulk,
}

impl Priority {
    /// All of them, highest first.
    pub const ALL: [Self; 3] = [Self::Interactive, Self::Normal, Self::Bulk];

    fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.get(usize::from(byte)).copied()
    }
}

/// One frame, as it travels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// Kind 1: a new channel; the payload is its priority as one byte, then the opening bytes.
    Open {
        /// Chosen by the sender.
        channel: ChannelId,
        /// Of both directions.
        priority: Priority,
        /// At most [`MAX_OPENING_BYTES`].
        opening: Bytes,
    },
    /// Kind 2: the channel's next bytes, at least one and at most [`MAX_PAYLOAD_BYTES`].
    ///
    /// Kinds 10 (zstd) and 11 (lz4) are the same, packed: the payload is the length of the bytes as 4 bytes, then what
    /// they were packed into. All of a direction's zstd payloads together are one stream.
    Data {
        /// The channel.
        channel: ChannelId,
        /// Unpacked.
        bytes: Bytes,
    },
    /// Kind 3: no more bytes come in this direction.
    Finish {
        /// The channel.
        channel: ChannelId,
    },
    /// Kind 4: the channel ends in both directions.
    Reset {
        /// The channel.
        channel: ChannelId,
        /// Why, at most [`MAX_REASON_BYTES`].
        reason: String,
    },
    /// Kind 5: so many more bytes may be sent on this channel.
    Credit {
        /// The channel.
        channel: ChannelId,
        /// Beside what was allowed before; not 0.
        bytes: u32,
    },
    /// Kind 6: asks for a pong.
    Ping {
        /// To be given back.
        token: u64,
    },
    /// Kind 7: answers a ping.
    Pong {
        /// The ping's.
        token: u64,
    },
    /// Kind 8: bytes of data that arrived on all channels since the link began.
    Acknowledge {
        /// In bytes.
        received: u64,
    },
    /// Kind 9: the link ends; nothing follows.
    GoAway {
        /// Why, at most [`MAX_REASON_BYTES`].
        reason: String,
    },
}

/// What a header says that a payload is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    Open = 1,
    Data = 2,
    Finish = 3,
    Reset = 4,
    Credit = 5,
    Ping = 6,
    Pong = 7,
    Acknowledge = 8,
    GoAway = 9,
    DataZstd = 10,
    DataLz4 = 11,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Open,
            2 => Self::Data,
            3 => Self::Finish,
            4 => Self::Reset,
            5 => Self::Credit,
            6 => Self::Ping,
            7 => Self::Pong,
            8 => Self::Acknowledge,
            9 => Self::GoAway,
            10 => Self::DataZstd,
            11 => Self::DataLz4,
            _ => return None,
        })
    }

    /// Returns how long the payload may be.
    fn lengths(self) -> std::ops::RangeInclusive<usize> {
        match self {
            Self::Open => 1..=1 + MAX_OPENING_BYTES,
            Self::Data => 1..=MAX_PAYLOAD_BYTES,
            Self::Finish => 0..=0,
            Self::Reset | Self::GoAway => 0..=MAX_REASON_BYTES,
            Self::Credit => 4..=4,
            Self::Ping | Self::Pong | Self::Acknowledge => 8..=8,
            Self::DataZstd | Self::DataLz4 => PACKED_HEAD_BYTES + 1..=MAX_PAYLOAD_BYTES,
        }
    }

    fn concerns_channel(self) -> bool {
        !matches!(self, Self::Ping | Self::Pong | Self::Acknowledge | Self::GoAway)
    }
}

/// Counts the frames of one direction and knows whose they are.
#[derive(Debug, Clone)]
pub(crate) struct Position {
    nonce: [u8; 16],
    sequence: u64,
}

impl Position {
    /// Starts at frame 0 of the session with this nonce, which is that of the sender's hello.
    pub(crate) fn new(nonce: [u8; 16]) -> Self {
        Self { nonce, sequence: 0 }
    }

    fn checksum(&self, fields: &[u8; CHECKSUM_AT], payload: &[u8]) -> [u8; CHECKSUM_BYTES] {
        let mut covered = [0; 16 + 8 + CHECKSUM_AT + 8];
        covered[..16].copy_from_slice(&self.nonce);
        covered[16..24].copy_from_slice(&self.sequence.to_le_bytes());
        covered[24..24 + CHECKSUM_AT].copy_from_slice(fields);
        covered[24 + CHECKSUM_AT..].copy_from_slice(&XxHash3_64::oneshot(payload).to_le_bytes());
        XxHash3_64::oneshot(&covered).to_le_bytes()
    }

    /// Returns the header of the next frame.
    ///
    /// The limits of [`Frame`]'s fields are the caller's to keep: the other end refuses what is outside them.
    pub(crate) fn seal(&mut self, kind: Kind, channel: u32, payload: &[u8]) -> [u8; HEADER_BYTES] {
        let length = u32::try_from(payload.len()).expect("senders keep payloads below MAX_PAYLOAD_BYTES");
        let mut fields = [0; CHECKSUM_AT];
        fields[..4].copy_from_slice(&length.to_le_bytes());
        fields[4] = kind as u8;
        fields[5..].copy_from_slice(&channel.to_le_bytes());
        let mut header = [0; HEADER_BYTES];
        header[..CHECKSUM_AT].copy_from_slice(&fields);
        header[CHECKSUM_AT..].copy_from_slice(&self.checksum(&fields, payload));
        self.sequence += 1;
        header
    }

    /// Reads the header of the next frame; fails when its length or kind can't be.
    pub(crate) fn read_header(&self, header: &[u8; HEADER_BYTES]) -> Result<Header, FrameError> {
        let sequence = self.sequence;
        let [l0, l1, l2, l3, kind, c0, c1, c2, c3, checksum @ ..] = *header;
        let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        if length > MAX_PAYLOAD_BYTES {
            return Err(FrameError::TooLong { sequence, length });
        }
        let kind = Kind::from_byte(kind).ok_or(FrameError::UnknownKind { sequence, kind })?;
        if !kind.lengths().contains(&length) {
            return Err(FrameError::Malformed { sequence, what: "length" });
        }
        let mut fields = [0; CHECKSUM_AT];
        fields.copy_from_slice(&header[..CHECKSUM_AT]);
        Ok(Header { kind, channel: u32::from_le_bytes([c0, c1, c2, c3]), length, fields, checksum })
    }

    /// Fails unless the payload is this header's, which is the next frame's; goes on to the one after.
    pub(crate) fn check(&mut self, header: &Header, payload: &[u8]) -> Result<(), FrameError> {
        let sequence = self.sequence;
        if header.checksum != self.checksum(&header.fields, payload) {
            return Err(FrameError::Checksum { sequence });
        }
        if (header.channel != 0) != header.kind.concerns_channel() {
            return Err(FrameError::Malformed { sequence, what: "channel" });
        }
        self.sequence += 1;
        Ok(())
    }

    /// Returns the number of the frame that was checked last.
    pub(crate) fn checked(&self) -> u64 {
        self.sequence.saturating_sub(1)
    }
}

/// What stands before a payload; its length and kind are possible.
#[derive(Debug, Clone)]
pub(crate) struct Header {
    pub(crate) kind: Kind,
    pub(crate) channel: u32,
    /// Of the payload, in bytes.
    pub(crate) length: usize,
    fields: [u8; CHECKSUM_AT],
    checksum: [u8; CHECKSUM_BYTES],
}

impl Frame {
    /// Returns how many bytes of data it carries.
    pub fn data_bytes(&self) -> usize {
        match self {
            Self::Data { bytes, .. } => bytes.len(),
            _ => 0,
        }
    }

    /// Makes a frame of a payload that was checked; `None` when it is malformed. Packed data is the caller's.
    pub(crate) fn parse(kind: Kind, channel: u32, payload: &[u8]) -> Option<Self> {
        let channel = ChannelId(channel);
        let text = || String::from_utf8(payload.to_vec()).ok();
        let number = || payload.try_into().ok().map(u64::from_le_bytes);
        Some(match kind {
            Kind::Open => {
                let (&priority, opening) = payload.split_first()?;
                let priority = Priority::from_byte(priority)?;
                Self::Open { channel, priority, opening: Bytes::copy_from_slice(opening) }
            }
            Kind::Data => Self::Data { channel, bytes: Bytes::copy_from_slice(payload) },
            Kind::Finish => Self::Finish { channel },
            Kind::Reset => Self::Reset { channel, reason: text()? },
            Kind::Credit => {
                let bytes = u32::from_le_bytes(payload.try_into().ok()?);
                if bytes == 0 {
                    return None;
                }
                Self::Credit { channel, bytes }
            }
            Kind::Ping => Self::Ping { token: number()? },
            Kind::Pong => Self::Pong { token: number()? },
            Kind::Acknowledge => Self::Acknowledge { received: number()? },
            Kind::GoAway => Self::GoAway { reason: text()? },
            Kind::DataZstd | Kind::DataLz4 => return None,
        })
    }
}

/// Returns the beginning of `reason` that fits into a frame, cut between characters.
pub(crate) fn bounded_reason(reason: &str) -> String {
    let end = reason.floor_char_boundary(MAX_REASON_BYTES);
    reason[..end].to_owned()
}
