//! Messages on the stream, batched into frames. To pack them is the business of whoever carries the stream.
//!
//! A frame is the length of its body (1 to 3 bytes, 7 bits in each, the lowest first; all but the last have their high
//! bit set) and the body: messages in postcard, one after the other.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::message::MAX_MESSAGE_BYTES;

/// Messages are gathered until a frame has this many bytes.
const BATCH_BYTES: usize = 256 * 1024;
/// The longest body of a frame: a full batch and one longest message.
pub const MAX_FRAME_BYTES: usize = BATCH_BYTES + MAX_MESSAGE_BYTES;
/// The most bytes that a frame's length takes.
const MAX_HEAD_BYTES: usize = 3;

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
    /// A frame's length is not written as short as it can be, or is 0.
    #[error("frame has no sound length")]
    Length,
    /// A body is not a row of messages.
    #[error("message can't be decoded")]
    Message,
}

/// Makes frames of messages.
#[derive(Debug, Default)]
pub struct Encoder {
    frames: Vec<u8>,
}

impl Encoder {
    /// Returns an encoder.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the frames that carry `messages`, in order. Each message must keep to [`MAX_MESSAGE_BYTES`]: the other
    /// end refuses a longer one.
    ///
    /// They lie in a buffer that the next call uses again, so that no page of it has to be cleared anew.
    pub fn encode<T: Serialize>(&mut self, messages: &[T]) -> &[u8] {
        self.frames.clear();
        self.frames.shrink_to(MAX_FRAME_BYTES);
        let mut start = self.begin();
        for message in messages {
            // Only sequences of unknown length fail to serialise, and no message has one.
            self.frames = postcard::to_extend(message, std::mem::take(&mut self.frames))
                .expect("a message has no unknown length");
            if self.frames.len() - start >= BATCH_BYTES {
                self.end(start);
                start = self.begin();
            }
        }
        self.end(start);
        &self.frames
    }

    /// Leaves room for the longest head, and returns where the body begins.
    fn begin(&mut self) -> usize {
        self.frames.extend_from_slice(&[0; MAX_HEAD_BYTES]);
        self.frames.len()
    }

    /// Writes the head of the body that begins at `start` and ends here; an empty one is no frame.
    fn end(&mut self, start: usize) {
        let body = self.frames.len() - start;
        let (mut head, mut bytes, mut length) = ([0; MAX_HEAD_BYTES], 0, body);
        while length > 0 && bytes < MAX_HEAD_BYTES {
            head[bytes] = length.to_le_bytes()[0] | 0x80;
            length >>= 7;
            bytes += 1;
        }
        if let Some(last) = head[..bytes].last_mut() {
            *last &= 0x7f;
        }
        let first = start - MAX_HEAD_BYTES;
        self.frames[first..first + bytes].copy_from_slice(&head[..bytes]);
        if bytes < MAX_HEAD_BYTES {
            // A short body moves up.
            self.frames.copy_within(start.., first + bytes);
            self.frames.truncate(first + bytes + body);
        }
    }
}

/// Makes messages of a stream of bytes.
#[derive(Debug, Default)]
pub struct Decoder {
    received: Vec<u8>,
    /// How much of `received` is done with.
    consumed: usize,
    /// Where the body ends of the frame that is being read.
    end: usize,
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
            self.end -= self.consumed.min(self.end);
            self.consumed = 0;
        }
        self.received.extend_from_slice(bytes);
    }

    #[expect(clippy::should_implement_trait, reason = "what comes is of the caller's type and can fail")]
    /// Returns the next message, or `None` until more bytes come. An error ends the stream.
    pub fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, CodecError> {
        if self.consumed >= self.end && !self.next_frame()? {
            return Ok(None);
        }
        let rest = &self.received[self.consumed..self.end];
        let (message, left) = postcard::take_from_bytes(rest).map_err(|_| CodecError::Message)?;
        let bytes = rest.len() - left.len();
        // A message of no bytes would come for ever.
        if bytes == 0 {
            return Err(CodecError::Message);
        }
        limit("message", bytes, MAX_MESSAGE_BYTES)?;
        self.consumed += bytes;
        Ok(Some(message))
    }

    /// Goes on to the next frame, if all of it is there.
    fn next_frame(&mut self) -> Result<bool, CodecError> {
        let rest = &self.received[self.consumed..];
        let (mut length, mut head) = (0, 0);
        loop {
            let Some(byte) = rest.get(head) else { return Ok(false) };
            length |= usize::from(byte & 0x7f) << (7 * head);
            head += 1;
            if byte & 0x80 == 0 {
                // One length is written in one way only.
                if *byte == 0 {
                    return Err(CodecError::Length);
                }
                break;
            }
            if head == MAX_HEAD_BYTES {
                return Err(CodecError::Length);
            }
        }
        limit("frame", length, MAX_FRAME_BYTES)?;
        if rest.len() - head < length {
            return Ok(false);
        }
        self.consumed += head;
        self.end = self.consumed + length;
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
            let mut bytes = encoder.encode(&sent).to_vec();
            bytes.extend(encoder.encode(&sent));
            prop_assert_eq!(decode_all(&bytes, step).unwrap(), [sent.clone(), sent].concat());
        }

        #[test]
        fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 1..127)) {
            let _ = decode_all(&bytes, 7);
            let length = u8::try_from(bytes.len()).unwrap();
            let _ = decode_all(&[&[length][..], &bytes].concat(), 1000);
        }

        #[test]
        fn a_flipped_bit_never_panics(at in any::<prop::sample::Index>(), bit in 0u8..8) {
            let mut bytes = Encoder::new().encode(&[data(1, vec![5; 3000]), data(2, vec![1, 2, 3])]).to_vec();
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            let _ = decode_all(&bytes, 100);
        }
    }

    #[test]
    fn batches_are_split() {
        let messages: Vec<_> = (0..20).map(|id| data(id, vec![0; 100_000])).collect();
        let bytes = Encoder::new().encode(&messages).to_vec();
        assert!(bytes.len() < 20 * 100_010, "{}", bytes.len());
        assert_eq!(decode_all(&bytes, 999).unwrap(), messages);
        assert_eq!(Encoder::new().encode::<Reply>(&[]), []);
    }

    #[track_caller]
    fn check(bytes: &[u8], expected: &CodecError) {
        assert_eq!(decode_all(bytes, 64).as_ref(), Err(expected), "{bytes:?}");
    }

    #[test]
    fn limits_come_before_memory() {
        let bytes = MAX_FRAME_BYTES + 1;
        let too_long = CodecError::TooLong { what: "frame", bytes, limit: MAX_FRAME_BYTES };
        let [low, middle, high] = [bytes, bytes >> 7, bytes >> 14].map(|bits| bits.to_le_bytes()[0] & 0x7f);
        check(&[low | 0x80, middle | 0x80, high], &too_long);
        check(&[255, 255, 255, 255, 0], &CodecError::Length);
        check(&[0, 0], &CodecError::Length);
        check(&[0x81, 0, 0], &CodecError::Length);
        check(&[1, 255], &CodecError::Message);
    }

    #[test]
    fn golden_bytes() {
        assert_eq!(
            Encoder::new().encode(&[Request::Scan { eager: false }, Request::Cancel { id: 300 }]),
            [5, 1, 0, 9, 0xac, 2]
        );
        let long = Encoder::new().encode(&[data(0, vec![7; 300])]).to_vec();
        // The length of the frame, and the message: its kind, its id, its one step (a literal of 300 bytes).
        assert_eq!(long[..9], [0xb3, 2, 3, 0, 1, 0, 0xac, 2, 7]);
    }
}
