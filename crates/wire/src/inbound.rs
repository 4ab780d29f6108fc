//! The stream's bytes to frames.

use bytes::{Buf, BytesMut};

use crate::error::{ConnectionError, FrameError};
use crate::frame::{
    ChannelId, Frame, HEADER_BYTES, Header, Kind, MAX_PAYLOAD_BYTES, PACKED_HEAD_BYTES, Position,
};
use crate::hello::{Hello, Role};
use crate::pack::saved;
use crate::unzstd::Unpacker;

/// How much is asked of the stream at once, in bytes.
const READ_BYTES: usize = 64 * 1024;
/// The same when large payloads follow each other: the next header and little of what is to be copied on.
const HEAD_READ_BYTES: usize = 4 * 1024;
/// A payload of at least so many bytes that has not all come yet is read into memory of its own.
const OWN_BYTES: usize = 8 * 1024;

/// What the peer sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// Who it is: the first thing, once.
    Hello(Role, Hello),
    /// The next frame.
    Frame(Frame),
}

/// Makes frames of one direction's bytes. After an error it is unusable.
///
/// Lends the place where the next bytes are to go ([`buffer`](Self::buffer)), so that a large payload is read where
/// it stays. Allocates no more than the payload of one frame whose length and kind are possible, beside what it takes
/// to unpack zstd ([`unzstd::MEMORY_BYTES`](crate::unzstd::MEMORY_BYTES)), and that only when such a frame comes.
#[derive(Debug, Default)]
pub struct Inbound {
    /// `None` until the hello has come.
    position: Option<Position>,
    /// Bytes before the next frame's end, unless they are in `large`.
    input: BytesMut,
    /// A frame that has not all come, and what has of its payload.
    large: Option<(Header, BytesMut)>,
    is_bulk: bool,
    zstd: Option<Box<Unpacker>>,
    received: u64,
    /// What packing has saved of it; below 0 when it did not pay.
    saved: i64,
}

impl Inbound {
    /// Starts at the beginning of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns where the stream's next bytes are to be appended, and how many at most.
    pub fn buffer(&mut self) -> (&mut BytesMut, usize) {
        if let Some((header, payload)) = &mut self.large {
            let missing = header.length - payload.len();
            return (payload, missing);
        }
        let limit = if self.is_bulk { HEAD_READ_BYTES } else { READ_BYTES };
        self.input.reserve(limit);
        (&mut self.input, limit)
    }

    /// Notes that so many bytes were appended to [`buffer`](Self::buffer); [`poll`](Self::poll) is to be called until
    /// it has nothing more.
    pub fn handle_read(&mut self, bytes: usize) {
        self.received += bytes as u64;
    }

    /// Copies the beginning of `bytes` to where it is to go, and moves on past it; [`poll`](Self::poll) is to be
    /// called until it has nothing more, and then this until nothing is left.
    pub fn push(&mut self, bytes: &mut &[u8]) {
        let (buffer, limit) = self.buffer();
        let (now, later) = bytes.split_at(limit.min(bytes.len()));
        buffer.extend_from_slice(now);
        *bytes = later;
        self.handle_read(now.len());
    }

    /// Returns the bytes of the stream so far, and what they would be if nothing were packed.
    pub fn received(&self) -> (u64, u64) {
        (self.received, self.received.saturating_add_signed(self.saved))
    }

    /// Returns what the peer sent next; `None` when it is not yet complete.
    pub fn poll(&mut self) -> Result<Option<Received>, ConnectionError> {
        let Some(position) = &mut self.position else {
            let mut rest: &[u8] = &self.input;
            let Some((role, hello)) = Hello::decode(&mut rest)? else { return Ok(None) };
            let used = self.input.len() - rest.len();
            self.input.advance(used);
            self.position = Some(Position::new(hello.nonce));
            return Ok(Some(Received::Hello(role, hello)));
        };
        if let Some((header, payload)) =
            self.large.take_if(|(header, payload)| payload.len() == header.length)
        {
            position.check(&header, &payload)?;
            if header.kind == Kind::Data {
                let (channel, bytes) = (ChannelId(header.channel), payload.freeze());
                return Ok(Some(Received::Frame(Frame::Data { channel, bytes })));
            }
            return self.frame(&header, &payload).map(Some);
        }
        if self.large.is_some() {
            return Ok(None);
        }
        let Some((header, rest)) = self.input.split_first_chunk::<HEADER_BYTES>() else { return Ok(None) };
        let header = position.read_header(header)?;
        let Some(payload) = rest.get(..header.length) else {
            if header.length >= OWN_BYTES {
                let mut payload = BytesMut::with_capacity(header.length);
                payload.extend_from_slice(rest);
                self.input.clear();
                self.is_bulk = true;
                self.large = Some((header, payload));
            }
            return Ok(None);
        };
        position.check(&header, payload)?;
        self.is_bulk = header.length >= OWN_BYTES;
        let mut input = std::mem::take(&mut self.input);
        let received = self.frame(&header, &input[HEADER_BYTES..][..header.length]);
        input.advance(HEADER_BYTES + header.length);
        self.input = input;
        received.map(Some)
    }

    /// Makes a frame of a payload that was checked.
    fn frame(&mut self, header: &Header, payload: &[u8]) -> Result<Received, ConnectionError> {
        let sequence = self.position.as_ref().map_or(0, Position::checked);
        let packed = |what| FrameError::Packed { sequence, what };
        let frame = match header.kind {
            Kind::DataZstd | Kind::DataLz4 => {
                let (length, body) =
                    payload.split_first_chunk::<PACKED_HEAD_BYTES>().ok_or(packed("it is too short"))?;
                let length = u32::from_le_bytes(*length) as usize;
                if !(1..=MAX_PAYLOAD_BYTES).contains(&length) {
                    return Err(packed("it stands for an impossible length").into());
                }
                let bytes = if header.kind == Kind::DataZstd {
                    let unpacker = self.zstd.get_or_insert_default();
                    let bytes = unpacker.unpack(body, length).map_err(|error| packed(error.0))?;
                    BytesMut::from(bytes)
                } else {
                    let mut bytes = BytesMut::zeroed(length);
                    match lz4_flex::block::decompress_into(body, &mut bytes) {
                        Ok(count) if count == length => bytes,
                        _ => return Err(packed("the packed bytes are damaged").into()),
                    }
                };
                self.saved += saved(length, payload.len());
                Some(Frame::Data { channel: ChannelId(header.channel), bytes: bytes.freeze() })
            }
            kind => Frame::parse(kind, header.channel, payload),
        };
        let frame = frame.ok_or(FrameError::Malformed { sequence, what: "payload" })?;
        Ok(Received::Frame(frame))
    }
}
