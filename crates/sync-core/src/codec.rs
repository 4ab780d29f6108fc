//! Messages on the stream: batched into frames, compressed where it pays.
//!
//! A frame is a length (4 bytes, little endian, of what follows), a kind (1 byte: 0 raw, 1 lz4) and the body: messages
//! in postcard, one after the other. An lz4 body begins with its length when unpacked (4 bytes, little endian).

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::message::MAX_MESSAGE_BYTES;

/// Messages are gathered until a frame has this many bytes.
const BATCH_BYTES: usize = 256 * 1024;
/// The longest body of a frame, packed or not: a full batch and one longest message.
pub const MAX_FRAME_BYTES: usize = BATCH_BYTES + MAX_MESSAGE_BYTES;
/// Below this, packing is not worth its time.
const MIN_PACK_BYTES: usize = 256;
/// A byte of lz4 can't stand for more than 255 bytes: a body that claims more is a lie.
const MAX_RATIO: usize = 255;

const RAW: u8 = 0;
const LZ4: u8 = 1;
const HEAD_BYTES: usize = 5;

/// Why a stream can't be understood. It ends there: nothing after can be trusted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// A frame or message is longer than allowed.
    #[error("{what} of {bytes} bytes is longer than {limit}")]
    TooLong {
        /// Frame or message.
        what: &'static str,
        /// Its length in bytes.
        bytes: usize,
        /// The longest allowed, in bytes.
        limit: usize,
    },
    /// The kind of a frame is unknown.
    #[error("frame of unknown kind {0}")]
    Kind(u8),
    /// A body could not be unpacked.
    #[error("frame can't be unpacked")]
    Packed,
    /// A body is not a row of messages.
    #[error("message can't be decoded")]
    Message,
}

/// Makes frames of messages.
#[derive(Debug, Default)]
pub struct Encoder {
    body: Vec<u8>,
}

impl Encoder {
    /// Returns an encoder.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the frames that carry `messages`, in order. Each message must keep to [`MAX_MESSAGE_BYTES`]: the other
    /// end refuses a longer one.
    pub fn encode<T: Serialize>(&mut self, messages: &[T]) -> Vec<u8> {
        let mut frames = Vec::new();
        self.body.clear();
        for message in messages {
            // Only sequences of unknown length fail to serialise, and no message has one.
            self.body = postcard::to_extend(message, std::mem::take(&mut self.body))
                .expect("a message has no unknown length");
            if self.body.len() >= BATCH_BYTES {
                self.frame(&mut frames);
            }
        }
        if !self.body.is_empty() {
            self.frame(&mut frames);
        }
        frames
    }

    fn frame(&mut self, frames: &mut Vec<u8>) {
        let start = frames.len();
        frames.extend_from_slice(&[0; HEAD_BYTES]);
        let packed = (self.body.len() >= MIN_PACK_BYTES)
            .then(|| lz4_flex::block::compress_prepend_size(&self.body))
            .filter(|packed| packed.len() < self.body.len() / 8 * 7);
        frames[start + 4] = if packed.is_some() { LZ4 } else { RAW };
        frames.extend_from_slice(packed.as_ref().unwrap_or(&self.body));
        let length = u32::try_from(frames.len() - start - 4).unwrap_or(u32::MAX);
        frames[start..start + 4].copy_from_slice(&length.to_le_bytes());
        self.body.clear();
    }
}

/// Makes messages of a stream of bytes.
#[derive(Debug, Default)]
pub struct Decoder {
    received: Vec<u8>,
    /// How much of `received` is done with.
    consumed: usize,
    /// The frame being read.
    body: Vec<u8>,
    at: usize,
}

impl Decoder {
    /// Returns a decoder at the start of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes bytes as they came. Call [`Self::next`] until it has nothing before pushing more: what waits here is
    /// bounded by a frame and one push.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.consumed > 0 {
            self.received.drain(..self.consumed);
            self.consumed = 0;
        }
        self.received.extend_from_slice(bytes);
    }

    #[expect(clippy::should_implement_trait, reason = "what comes is of the caller's type and can fail")]
    /// Returns the next message, or `None` until more bytes come. An error ends the stream.
    pub fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, CodecError> {
        while self.at == self.body.len() {
            if !self.next_frame()? {
                return Ok(None);
            }
        }
        let rest = &self.body[self.at..];
        let (message, left) = postcard::take_from_bytes(rest).map_err(|_| CodecError::Message)?;
        let bytes = rest.len() - left.len();
        // A message of no bytes would come for ever.
        if bytes == 0 {
            return Err(CodecError::Message);
        }
        limit("message", bytes, MAX_MESSAGE_BYTES)?;
        self.at += bytes;
        Ok(Some(message))
    }

    /// Unpacks the next frame, if all of it is there.
    fn next_frame(&mut self) -> Result<bool, CodecError> {
        let rest = &self.received[self.consumed..];
        let Some((head, rest)) = rest.split_at_checked(HEAD_BYTES) else { return Ok(false) };
        let length = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
        limit("frame", length, MAX_FRAME_BYTES)?;
        let kind = head[4];
        if kind > LZ4 {
            return Err(CodecError::Kind(kind));
        }
        let length = length.checked_sub(1).ok_or(CodecError::Message)?;
        let Some(body) = rest.get(..length) else { return Ok(false) };
        self.at = 0;
        if kind == RAW {
            self.body.clear();
            self.body.extend_from_slice(body);
        } else {
            let (size, packed) = lz4_flex::block::uncompressed_size(body).map_err(|_| CodecError::Packed)?;
            limit("frame", size, MAX_FRAME_BYTES.min(packed.len() * MAX_RATIO))?;
            self.body = lz4_flex::block::decompress(packed, size).map_err(|_| CodecError::Packed)?;
            if self.body.len() != size {
                return Err(CodecError::Packed);
            }
        }
        self.consumed += HEAD_BYTES + length;
        Ok(true)
    }
}

fn limit(what: &'static str, bytes: usize, limit: usize) -> Result<(), CodecError> {
    if bytes > limit { Err(CodecError::TooLong { what, bytes, limit }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::message::{Block, DeltaOp, Reply, Request};

    fn data(id: u64, bytes: Vec<u8>) -> Request {
        Request::Data { id, block: Block { ops: vec![DeltaOp::Literal(bytes)], last: id == 0 } }
    }

    fn decode_all(bytes: &[u8], step: usize) -> Result<Vec<Request>, CodecError> {
        let mut decoder = Decoder::new();
        let mut messages = Vec::new();
        for piece in bytes.chunks(step) {
            decoder.push(piece);
            while let Some(message) = decoder.next()? {
                messages.push(message);
            }
        }
        Ok(messages)
    }

    proptest! {
        #[test]
        fn what_is_sent_is_received(
            literals in prop::collection::vec(prop::collection::vec(0u8..4, 0..2000), 0..20),
            step in 1usize..5000,
        ) {
            let sent: Vec<_> = literals.into_iter().zip(0..).map(|(bytes, id)| data(id, bytes)).collect();
            let mut encoder = Encoder::new();
            let mut bytes = encoder.encode(&sent);
            bytes.extend(encoder.encode(&sent));
            prop_assert_eq!(decode_all(&bytes, step).unwrap(), [sent.clone(), sent].concat());
        }

        #[test]
        fn garbage_never_panics(bytes: Vec<u8>, kind in 0u8..3) {
            let _ = decode_all(&bytes, 7);
            let length = u32::try_from(bytes.len() + 1).unwrap().to_le_bytes();
            let _ = decode_all(&[&length, &[kind][..], &bytes].concat(), 1000);
        }

        #[test]
        fn a_flipped_bit_never_panics(at in any::<prop::sample::Index>(), bit in 0u8..8) {
            let mut bytes = Encoder::new().encode(&[data(1, vec![5; 3000]), data(2, vec![1, 2, 3])]);
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            let _ = decode_all(&bytes, 100);
        }
    }

    #[test]
    fn repeats_are_packed_and_batches_are_split() {
        let messages: Vec<_> = (0..20).map(|id| data(id, vec![0; 100_000])).collect();
        let bytes = Encoder::new().encode(&messages);
        assert!(bytes.len() < 20_000, "{}", bytes.len());
        assert_eq!(decode_all(&bytes, 999).unwrap(), messages);
        assert_eq!(Encoder::new().encode::<Reply>(&[]), []);
    }

    #[track_caller]
    fn check(bytes: &[u8], expected: &CodecError) {
        assert_eq!(decode_all(bytes, 64).as_ref(), Err(expected), "{bytes:?}");
    }

    #[test]
    fn limits_come_before_memory() {
        let too_long = |bytes, limit| CodecError::TooLong { what: "frame", bytes, limit };
        check(&[255, 255, 255, 255, 0], &too_long(u32::MAX as usize, MAX_FRAME_BYTES));
        check(&[0, 0, 0, 0, 0], &CodecError::Message);
        check(&[1, 0, 0, 0, 9], &CodecError::Kind(9));
        // 4 GiB out of one byte.
        check(&[6, 0, 0, 0, 1, 255, 255, 255, 255, 0], &too_long(u32::MAX as usize, 255));
        check(&[6, 0, 0, 0, 1, 255, 0, 0, 0, 0], &CodecError::Packed);
        check(&[2, 0, 0, 0, 0, 255], &CodecError::Message);
    }

    #[test]
    fn golden_bytes() {
        assert_eq!(
            Encoder::new().encode(&[Request::Scan { eager: false }, Request::Cancel { id: 300 }]),
            [6, 0, 0, 0, 0, 1, 0, 9, 0xac, 2]
        );
    }
}
