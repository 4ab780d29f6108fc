//! Frames to the stream's bytes.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};

use crate::config::Compression;
use crate::frame::{ChannelId, Frame, HEADER_BYTES, Kind, Position};
use crate::hello::{Hello, Role};
use crate::pace::Pace;
use crate::pack::{Packer, saved};

/// Shorter payloads are copied behind their header: one piece more costs the stream about as much.
const COPIED_BYTES: usize = 4 * 1024;
/// What [`Outbound`] sets aside for headers and short payloads at once, in bytes.
const SMALL_BYTES: usize = 16 * 1024;

/// A frame that the mux wants to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// What is sent.
    pub frame: Frame,
    /// It may be packed together with other data of this direction.
    pub may_pack: bool,
}

/// Makes one direction's bytes of frames, packs data where that pays, and watches how the stream takes them.
///
/// Its owner gives it frames as long as there is [`room`](Self::room), writes what it then has ([`Buf`]: in pieces,
/// so that data need not be copied), and says how that went: [`wrote`](Self::wrote), [`blocked`](Self::blocked),
/// [`idle`](Self::idle).
#[derive(Debug)]
pub struct Outbound {
    position: Position,
    /// In order; then comes `small`.
    pieces: VecDeque<Bytes>,
    small: BytesMut,
    remaining: usize,
    /// Payloads up to this length are copied.
    copied_bytes: usize,
    packer: Packer,
    pace: Pace,
    sent: u64,
    saved: i64,
}

impl Outbound {
    /// Starts with the hello, which is there to be written.
    ///
    /// `takes_pieces`: whether several pieces at once cost the stream no more than one.
    pub fn new(
        hello: &Hello,
        role: Role,
        compression: Compression,
        takes_pieces: bool,
        now: Instant,
    ) -> Self {
        let bytes = Bytes::from(hello.encode(role));
        Self {
            position: Position::new(hello.nonce),
            remaining: bytes.len(),
            sent: bytes.len() as u64,
            pieces: [bytes].into(),
            small: BytesMut::new(),
            copied_bytes: if takes_pieces { COPIED_BYTES } else { usize::MAX },
            packer: Packer::new(role),
            pace: Pace::new(compression, now),
            saved: 0,
        }
    }

    /// Returns how many more bytes of data may be given to it now: what it was given can't be overtaken. At most
    /// 256 KiB, or what a slow link carries in 20 ms.
    pub fn room(&self) -> usize {
        self.pace.unpacked(self.pace.room().saturating_sub(self.remaining))
    }

    /// Returns the bytes of the stream so far, and what they would be if nothing were packed.
    pub fn sent(&self) -> (u64, u64) {
        (self.sent, self.sent.saturating_add_signed(self.saved))
    }

    /// Returns whether data is being packed, as far as it shrinks.
    pub fn is_packing(&self) -> bool {
        self.pace.is_packing()
    }

    /// Takes a frame. The `clock` is asked what packing costs.
    ///
    /// The limits of [`Frame`]'s fields are the caller's to keep: the other end refuses what is outside them.
    pub fn push(&mut self, outgoing: Outgoing, mut clock: impl FnMut() -> Instant) {
        let before = self.remaining;
        let raw_bytes = match outgoing.frame {
            Frame::Open { channel, priority, opening } => {
                let payload = [&[priority as u8], &opening[..]].concat();
                self.seal(Kind::Open, channel.0, Bytes::from(payload))
            }
            Frame::Data { channel, bytes } => self.push_data(channel, bytes, outgoing.may_pack, &mut clock),
            Frame::Finish { channel } => self.seal(Kind::Finish, channel.0, Bytes::new()),
            Frame::Reset { channel, reason } => self.seal(Kind::Reset, channel.0, reason.into()),
            Frame::Credit { channel, bytes } => {
                self.seal_number(Kind::Credit, channel.0, &bytes.to_le_bytes())
            }
            Frame::Ping { token } => self.seal_number(Kind::Ping, 0, &token.to_le_bytes()),
            Frame::Pong { token } => self.seal_number(Kind::Pong, 0, &token.to_le_bytes()),
            Frame::Acknowledge { received } => {
                self.seal_number(Kind::Acknowledge, 0, &received.to_le_bytes())
            }
            Frame::GoAway { reason } => self.seal(Kind::GoAway, 0, reason.into()),
        };
        self.pace.given(raw_bytes, self.remaining - before);
    }

    fn push_data(
        &mut self,
        channel: ChannelId,
        bytes: Bytes,
        may_pack: bool,
        clock: &mut impl FnMut() -> Instant,
    ) -> usize {
        let length = bytes.len();
        if may_pack && self.pace.is_packing() {
            let began = clock();
            if let Some((kind, packed)) = self.packer.pack(&bytes) {
                let took = clock().saturating_duration_since(began);
                self.pace.packed(length, took.max(Duration::from_nanos(1)));
                self.saved += saved(length, packed.len());
                self.seal(kind, channel.0, packed.freeze());
                return HEADER_BYTES + length;
            }
        }
        self.seal(Kind::Data, channel.0, bytes)
    }

    fn seal_number(&mut self, kind: Kind, channel: u32, payload: &[u8]) -> usize {
        let header = self.position.seal(kind, channel, payload);
        self.append(&[&header, payload])
    }

    /// Returns the length of the frame.
    fn seal(&mut self, kind: Kind, channel: u32, payload: Bytes) -> usize {
        let header = self.position.seal(kind, channel, &payload);
        if payload.len() <= self.copied_bytes {
            return self.append(&[&header, &payload]);
        }
        let length = self.append(&[&header]) + payload.len();
        self.pieces.push_back(self.small.split().freeze());
        self.remaining += payload.len();
        self.sent += payload.len() as u64;
        self.pieces.push_back(payload);
        length
    }

    fn append(&mut self, parts: &[&[u8]]) -> usize {
        let length = parts.iter().map(|part| part.len()).sum();
        if self.small.capacity() - self.small.len() < length {
            self.small.reserve(length.max(SMALL_BYTES));
        }
        for part in parts {
            self.small.extend_from_slice(part);
        }
        self.remaining += length;
        self.sent += length as u64;
        length
    }

    /// The stream is about to be given what is there.
    pub fn begin(&mut self, now: Instant) {
        self.pace.begin(now);
    }

    /// The stream took the next `bytes`, by which this was advanced.
    pub fn wrote(&mut self, now: Instant, bytes: usize) {
        self.pace.wrote(now, bytes);
    }

    /// There is something to send, and the stream takes nothing now.
    pub fn blocked(&mut self, now: Instant) {
        self.pace.blocked(now);
    }

    /// There is nothing to send.
    pub fn idle(&mut self, now: Instant) {
        self.pace.idle(now);
    }
}

impl Buf for Outbound {
    fn remaining(&self) -> usize {
        self.remaining
    }

    fn chunk(&self) -> &[u8] {
        self.pieces.front().map_or(&self.small, |piece| piece)
    }

    fn advance(&mut self, mut count: usize) {
        self.remaining -= count;
        while let Some(piece) = self.pieces.front_mut() {
            if count < piece.len() {
                return piece.advance(count);
            }
            count -= piece.len();
            self.pieces.pop_front();
        }
        self.small.advance(count);
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let last = Some(&self.small[..]).filter(|small| !small.is_empty());
        let pieces = self.pieces.iter().map(|piece| &piece[..]).chain(last);
        let mut count = 0;
        for (slice, piece) in slices.iter_mut().zip(pieces) {
            *slice = IoSlice::new(piece);
            count += 1;
        }
        count
    }
}
