//! One frame to bytes and back.

use std::fmt;

use crate::error::FrameError;

/// The longest payload, in bytes.
pub const MAX_PAYLOAD_BYTES: usize = 256 * 1024;
/// The longest opening bytes of a channel.
pub const MAX_OPENING_BYTES: usize = 64 * 1024;
/// The longest reason of a reset or a going away, in bytes of UTF-8.
pub const MAX_REASON_BYTES: usize = 1024;
/// What a frame has before its payload, in bytes.
pub const HEADER_BYTES: usize = LENGTH_BYTES + 1 + 4 + CHECKSUM_BYTES;

const LENGTH_BYTES: usize = 4;
const CHECKSUM_BYTES: usize = 8;
const CHECKSUM_AT: usize = HEADER_BYTES - CHECKSUM_BYTES;

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
        opening: Vec<u8>,
    },
    /// Kind 2: the channel's next bytes, at least one.
    Data {
        /// The channel.
        channel: ChannelId,
        /// The payload.
        bytes: Vec<u8>,
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

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Kind {
    Open = 1,
    Data = 2,
    Finish = 3,
    Reset = 4,
    Credit = 5,
    Ping = 6,
    Pong = 7,
    Acknowledge = 8,
    GoAway = 9,
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
        }
    }

    fn concerns_channel(self) -> bool {
        matches!(self, Self::Open | Self::Data | Self::Finish | Self::Reset | Self::Credit)
    }
}

/// Counts the frames of one direction and knows whose they are.
#[derive(Debug, Clone)]
struct Position {
    nonce: [u8; 16],
    sequence: u64,
}

impl Position {
    fn checksum(&self, header: &[u8], payload: &[u8]) -> [u8; CHECKSUM_BYTES] {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.nonce).update(&self.sequence.to_le_bytes()).update(header).update(payload);
        let mut checksum = [0; CHECKSUM_BYTES];
        checksum.copy_from_slice(&hasher.finalize().as_bytes()[..CHECKSUM_BYTES]);
        checksum
    }
}

/// Writes the frames of one direction.
#[derive(Debug, Clone)]
pub struct Encoder {
    position: Position,
}

impl Encoder {
    /// Starts at frame 0 of the session with this nonce, which is that of the sender's hello.
    pub fn new(nonce: [u8; 16]) -> Self {
        Self { position: Position { nonce, sequence: 0 } }
    }

    /// Appends one frame to `out`.
    ///
    /// The limits of [`Frame`]'s fields are the caller's to keep: the decoder refuses what is outside them.
    pub fn encode(&mut self, out: &mut Vec<u8>, frame: &Frame) {
        match frame {
            Frame::Open { channel, priority, opening } => {
                self.write(out, Kind::Open, channel.0, &[&[*priority as u8], opening]);
            }
            Frame::Data { channel, bytes } => self.encode_data(out, *channel, bytes, &[]),
            Frame::Finish { channel } => self.write(out, Kind::Finish, channel.0, &[]),
            Frame::Reset { channel, reason } => {
                self.write(out, Kind::Reset, channel.0, &[reason.as_bytes()]);
            }
            Frame::Credit { channel, bytes } => {
                self.write(out, Kind::Credit, channel.0, &[&bytes.to_le_bytes()]);
            }
            Frame::Ping { token } => self.write(out, Kind::Ping, 0, &[&token.to_le_bytes()]),
            Frame::Pong { token } => self.write(out, Kind::Pong, 0, &[&token.to_le_bytes()]),
            Frame::Acknowledge { received } => {
                self.write(out, Kind::Acknowledge, 0, &[&received.to_le_bytes()]);
            }
            Frame::GoAway { reason } => self.write(out, Kind::GoAway, 0, &[reason.as_bytes()]),
        }
    }

    /// Appends one data frame whose bytes lie in two pieces, as those of a ring buffer do.
    pub fn encode_data(&mut self, out: &mut Vec<u8>, channel: ChannelId, first: &[u8], second: &[u8]) {
        self.write(out, Kind::Data, channel.0, &[first, second]);
    }

    fn write(&mut self, out: &mut Vec<u8>, kind: Kind, channel: u32, payload: &[&[u8]]) {
        let length: usize = payload.iter().map(|piece| piece.len()).sum();
        let length = u32::try_from(length).expect("senders keep payloads below MAX_PAYLOAD_BYTES");
        let start = out.len();
        out.extend_from_slice(&length.to_le_bytes());
        out.push(kind as u8);
        out.extend_from_slice(&channel.to_le_bytes());
        out.extend_from_slice(&[0; CHECKSUM_BYTES]);
        for piece in payload {
            out.extend_from_slice(piece);
        }
        let (header, body) = out[start..].split_at_mut(HEADER_BYTES);
        let (fields, checksum) = header.split_at_mut(CHECKSUM_AT);
        checksum.copy_from_slice(&self.position.checksum(fields, body));
        self.position.sequence += 1;
    }
}

/// Reads the frames of one direction.
#[derive(Debug, Clone)]
pub struct Decoder {
    position: Position,
}

impl Decoder {
    /// Starts at frame 0 of the session with this nonce, which is that of the sender's hello.
    pub fn new(nonce: [u8; 16]) -> Self {
        Self { position: Position { nonce, sequence: 0 } }
    }

    /// Takes one frame from the front of `input`, which moves on past it; `None` when it is not yet complete.
    ///
    /// Allocates only for the payload of a complete frame whose length, kind and checksum are sound. After an
    /// error the stream is unusable.
    pub fn decode(&mut self, input: &mut &[u8]) -> Result<Option<Frame>, FrameError> {
        let sequence = self.position.sequence;
        let Some((header, rest)) = input.split_first_chunk::<HEADER_BYTES>() else { return Ok(None) };
        let [l0, l1, l2, l3, kind, c0, c1, c2, c3, checksum @ ..] = *header;
        let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        if length > MAX_PAYLOAD_BYTES {
            return Err(FrameError::TooLong { sequence, length });
        }
        let kind = Kind::from_byte(kind).ok_or(FrameError::UnknownKind { sequence, kind })?;
        if !kind.lengths().contains(&length) {
            return Err(FrameError::Malformed { sequence, what: "length" });
        }
        let Some((payload, rest)) = rest.split_at_checked(length) else { return Ok(None) };
        if checksum != self.position.checksum(&header[..CHECKSUM_AT], payload) {
            return Err(FrameError::Checksum { sequence });
        }
        let channel = u32::from_le_bytes([c0, c1, c2, c3]);
        if (channel != 0) != kind.concerns_channel() {
            return Err(FrameError::Malformed { sequence, what: "channel" });
        }
        let frame = parse(kind, ChannelId(channel), payload)
            .ok_or(FrameError::Malformed { sequence, what: "payload" })?;
        *input = rest;
        self.position.sequence += 1;
        Ok(Some(frame))
    }
}

fn parse(kind: Kind, channel: ChannelId, payload: &[u8]) -> Option<Frame> {
    let text = || String::from_utf8(payload.to_vec()).ok();
    let number = || payload.try_into().ok().map(u64::from_le_bytes);
    Some(match kind {
        Kind::Open => {
            let (&priority, opening) = payload.split_first()?;
            Frame::Open { channel, priority: Priority::from_byte(priority)?, opening: opening.to_vec() }
        }
        Kind::Data => Frame::Data { channel, bytes: payload.to_vec() },
        Kind::Finish => Frame::Finish { channel },
        Kind::Reset => Frame::Reset { channel, reason: text()? },
        Kind::Credit => {
            let bytes = u32::from_le_bytes(payload.try_into().ok()?);
            if bytes == 0 {
                return None;
            }
            Frame::Credit { channel, bytes }
        }
        Kind::Ping => Frame::Ping { token: number()? },
        Kind::Pong => Frame::Pong { token: number()? },
        Kind::Acknowledge => Frame::Acknowledge { received: number()? },
        Kind::GoAway => Frame::GoAway { reason: text()? },
    })
}

/// Returns the beginning of `reason` that fits into a frame, cut between characters.
pub(crate) fn bounded_reason(reason: &str) -> String {
    let end = reason.floor_char_boundary(MAX_REASON_BYTES);
    reason[..end].to_owned()
}
