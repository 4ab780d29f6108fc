//! Unpacks zstd: one stream without end, whose blocks come in flushed pieces.
//!
//! What an agent needs to take a packed direction, and no more: it holds at most [`MEMORY_BYTES`], has no part that
//! packs, and gives each piece out whole as soon as it came, while what was unpacked before stays at hand for the
//! next. The stream is a frame of RFC 8878 with a window of at most [`WINDOW_BYTES`], without a content size, a
//! dictionary, a checksum or an end.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "numbers of a few bits, or below a limit that was checked"
)]
#![expect(clippy::inline_always, reason = "the innermost loops, which a build for size would take apart")]

mod bits;
mod fse;
mod literals;
mod sequences;

use crate::unzstd::literals::Literals;
use crate::unzstd::sequences::Sequences;

/// How far back a piece may point, in bytes.
pub const WINDOW_BYTES: usize = 1 << 21;
/// The base-2 logarithm of [`WINDOW_BYTES`], as a packer wants it.
pub const WINDOW_LOG: u32 = 21;
/// What a block unpacks to at most, in bytes.
const MAX_BLOCK_BYTES: usize = 128 * 1024;
/// Copies of a fixed length may write so many bytes too far.
const SLACK_BYTES: usize = 32;
/// Past this, what is further back than the window makes room.
const HISTORY_BYTES: usize = 2 * WINDOW_BYTES;
/// What one unpacker holds at most for pieces of up to 256 KiB, in bytes.
pub const MEMORY_BYTES: usize = 5 << 20;

const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
const HEAD_BYTES: usize = MAGIC.len() + 2;
const BLOCK_HEAD_BYTES: usize = 3;

/// The bytes are not a piece of a stream that can be unpacked here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UnpackError(pub(crate) &'static str);

/// Unpacks one direction. After an error it is unusable.
#[derive(Debug, Default)]
pub struct Unpacker {
    is_started: bool,
    /// What was unpacked, up to `filled`; behind it room for what comes.
    history: Vec<u8>,
    filled: usize,
    literals: Literals,
    sequences: Sequences,
}

impl Unpacker {
    /// Starts at the beginning of a stream. Memory is taken as it is needed.
    pub fn new() -> Self {
        Self::default()
    }

    /// Unpacks the stream's next piece, whole blocks that stand for exactly `length` bytes, and returns these.
    ///
    /// Allocates no more than `length` asks for beside the window, and stops at the first byte too many.
    pub fn unpack(&mut self, packed: &[u8], length: usize) -> Result<&[u8], UnpackError> {
        let mut rest = packed;
        if !self.is_started {
            rest = skip_head(packed)?;
            self.is_started = true;
        }
        self.make_room(length);
        let start = self.filled;
        let end = start + length;
        while !rest.is_empty() {
            rest = self.block(rest, end)?;
        }
        if self.filled != end {
            return Err(UnpackError("a piece is shorter than announced"));
        }
        Ok(&self.history[start..end])
    }

    /// Returns how much memory it holds, in bytes.
    pub fn memory_bytes(&self) -> usize {
        self.history.capacity() + self.literals.memory_bytes() + self.sequences.memory_bytes()
    }

    fn make_room(&mut self, length: usize) {
        if self.filled + length > HISTORY_BYTES {
            let kept = self.filled.min(WINDOW_BYTES);
            self.history.copy_within(self.filled - kept..self.filled, 0);
            self.filled = kept;
        }
        let needed = self.filled + length + SLACK_BYTES;
        if self.history.len() < needed {
            let limit = (HISTORY_BYTES + SLACK_BYTES).max(needed);
            let size = needed.next_power_of_two().min(limit);
            self.history.reserve_exact(size - self.history.len());
            self.history.resize(size, 0);
        }
    }

    /// Unpacks one block and returns what follows it.
    fn block<'a>(&mut self, input: &'a [u8], end: usize) -> Result<&'a [u8], UnpackError> {
        let (head, rest) =
            input.split_first_chunk::<BLOCK_HEAD_BYTES>().ok_or(UnpackError("a block is cut short"))?;
        let head = u32::from_le_bytes([head[0], head[1], head[2], 0]);
        let size = (head >> 3) as usize;
        let kind = head >> 1 & 3;
        if head & 1 == 1 {
            return Err(UnpackError("the stream has an end"));
        }
        let room = (end - self.filled).min(MAX_BLOCK_BYTES);
        let taken = if kind == 1 { 1 } else { size };
        let (body, rest) = rest.split_at_checked(taken).ok_or(UnpackError("a block is cut short"))?;
        match kind {
            0 | 1 if size > room => return Err(UnpackError("a block is longer than announced")),
            0 => self.history[self.filled..][..size].copy_from_slice(body),
            1 => self.history[self.filled..][..size].fill(body[0]),
            2 => {
                let body = self.literals.read(body, room)?;
                let (literals, limit) = (self.literals.bytes(), self.filled + room);
                self.filled = self.sequences.run(body, literals, &mut self.history, self.filled, limit)?;
                return Ok(rest);
            }
            _ => return Err(UnpackError("a block is of no known kind")),
        }
        self.filled += size;
        Ok(rest)
    }
}

fn skip_head(packed: &[u8]) -> Result<&[u8], UnpackError> {
    let (head, rest) =
        packed.split_first_chunk::<HEAD_BYTES>().ok_or(UnpackError("the beginning is cut short"))?;
    let [magic @ .., descriptor, window] = *head;
    if magic != MAGIC {
        return Err(UnpackError("it does not begin as zstd does"));
    }
    if descriptor != 0 {
        return Err(UnpackError("it wants what is not done here"));
    }
    let base = 1u64 << (10 + (window >> 3));
    if base + base / 8 * u64::from(window & 7) > WINDOW_BYTES as u64 {
        return Err(UnpackError("its window is too large"));
    }
    Ok(rest)
}
