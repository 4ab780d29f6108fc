//! A file as the difference to another version of it, found at any offset, in one pass over the new version.
//!
//! Only the delta, without the engine: one side signs what it has, the other compares, the first builds.
//!
//! ```
//! use towline_sync_core::block::sign;
//! use towline_sync_core::delta::{delta, patch};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let old = b"all that is gold does not glitter".repeat(100);
//! let new = [b"not ".as_slice(), &old].concat();
//!
//! let signature = sign(old.as_slice(), old.len() as u64)?;
//! let mut blocks = Vec::new();
//! delta(&signature, new.as_slice(), |block| {
//!     blocks.push(block);
//!     Ok(())
//! })?;
//!
//! assert_eq!(patch(&old, new.len() as u64, blocks)?, new);
//! # Ok(())
//! # }
//! ```
//!
//! One pass over a file gives the delta, the signature of the new version and its hash: read into
//! [`Differ::space`], and show the same bytes to a [`SignatureBuilder`](crate::block::SignatureBuilder) and a hasher.
//!
//! ```
//! use std::io::Read;
//!
//! use towline_sync_core::block::{SignatureBuilder, sign};
//! use towline_sync_core::delta::{Differ, Step};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let old: Vec<u8> = (0..20_000u32).flat_map(u32::to_le_bytes).collect();
//! let new = [&old[..30_000], b"in the middle", &old[30_000..]].concat();
//! let signature = sign(old.as_slice(), old.len() as u64)?;
//!
//! let mut file = new.as_slice();
//! let mut differ = Differ::new(&signature);
//! let mut newer = SignatureBuilder::new(new.len() as u64);
//! let mut literals = 0;
//! let mut count = |step: Step<'_>| {
//!     if let Step::Literal { bytes, .. } = step {
//!         literals += bytes.len();
//!     }
//!     Ok(())
//! };
//! loop {
//!     let space = differ.space(16 * 1024);
//!     let read = file.read(space)?;
//!     if read == 0 {
//!         break;
//!     }
//!     newer.push(&space[..read]);
//!     differ.filled(read, &mut count)?;
//! }
//! differ.finish(&mut count)?;
//!
//! assert_eq!(newer.finish()?, sign(new.as_slice(), new.len() as u64)?);
//! assert!(literals < 600, "a block and what was put in");
//! # Ok(())
//! # }
//! ```

use std::io::{self, Read};

pub use self::differ::{Differ, Emit, Step};
use crate::message::{Block, DeltaOp, MAX_BLOCK_BYTES, Signature};

mod differ;
mod index;

/// The most steps in one [`Block`].
pub const MAX_BLOCK_OPS: usize = 1024;
/// Bytes asked of the reader at once.
const READ_BYTES: usize = 128 * 1024;

/// Why a block of a delta can't be applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DeltaError {
    /// It has too many bytes or steps.
    #[error("block has more than {MAX_BLOCK_BYTES} bytes or {MAX_BLOCK_OPS} steps")]
    TooLarge,
    /// It copies what the older version does not have.
    #[error("block copies from beyond the older version's end")]
    OutOfBasis,
    /// It makes the file longer than it was said to be.
    #[error("block makes the file longer than expected")]
    TooLong,
    /// It ends the file before its expected length.
    #[error("file ends before its expected length")]
    TooShort,
}

/// Checks the blocks of one file as they come, before anything is written.
#[derive(Debug, Clone, Copy)]
pub struct DeltaCheck {
    size: u64,
    basis: u64,
    written: u64,
}

impl DeltaCheck {
    /// Returns the check of a file of `size` bytes, built from an older version of `basis` bytes (0 where there is none).
    pub fn new(size: u64, basis: u64) -> Self {
        Self { size, basis, written: 0 }
    }

    /// Takes the next block into account.
    pub fn push(&mut self, block: &Block) -> Result<(), DeltaError> {
        self.push_ops(&block.ops, block.last)
    }

    /// Takes the next steps into account, the `last` of them or not.
    pub fn push_ops(&mut self, ops: &[DeltaOp], last: bool) -> Result<(), DeltaError> {
        let mut literal = 0;
        let mut written = self.written;
        for op in ops {
            let length = match op {
                DeltaOp::Literal(bytes) => {
                    literal += bytes.len();
                    bytes.len() as u64
                }
                DeltaOp::Copy { offset, length } => {
                    let end = offset.checked_add(*length).ok_or(DeltaError::OutOfBasis)?;
                    if end > self.basis {
                        return Err(DeltaError::OutOfBasis);
                    }
                    *length
                }
            };
            written = written.checked_add(length).ok_or(DeltaError::TooLong)?;
        }
        if literal > MAX_BLOCK_BYTES || ops.len() > MAX_BLOCK_OPS {
            return Err(DeltaError::TooLarge);
        }
        if written > self.size {
            return Err(DeltaError::TooLong);
        }
        if last && written < self.size {
            return Err(DeltaError::TooShort);
        }
        self.written = written;
        Ok(())
    }

    /// Returns how many bytes of the file there are by now.
    pub fn written(&self) -> u64 {
        self.written
    }
}

/// Sends a whole file in blocks, the last of them marked.
pub fn whole(mut reader: impl Read, mut emit: impl FnMut(Block) -> io::Result<()>) -> io::Result<()> {
    let mut waiting: Option<Vec<u8>> = None;
    loop {
        let mut bytes = Vec::new();
        (&mut reader).take(MAX_BLOCK_BYTES as u64).read_to_end(&mut bytes)?;
        let full = bytes.len() == MAX_BLOCK_BYTES;
        if let Some(before) = waiting.take() {
            let last = bytes.is_empty();
            emit(Block { ops: vec![DeltaOp::Literal(before)], last })?;
            if last {
                return Ok(());
            }
        }
        if full {
            waiting = Some(bytes);
        } else {
            let ops = if bytes.is_empty() { Vec::new() } else { vec![DeltaOp::Literal(bytes)] };
            return emit(Block { ops, last: true });
        }
    }
}

/// Sends a file as the difference to the version that `signature` was made of, in blocks, the last of them marked.
///
/// A [`Differ`] does the work; memory and time are bounded as its are.
pub fn delta(
    signature: &Signature,
    mut reader: impl Read,
    emit: impl FnMut(Block) -> io::Result<()>,
) -> io::Result<()> {
    let length = usize::try_from(signature.size()).map_or(READ_BYTES, |size| size.clamp(4096, READ_BYTES));
    let mut writer = BlockWriter::new(emit);
    let mut differ = Differ::new(signature);
    loop {
        match reader.read(differ.space(length)) {
            Ok(0) => break,
            Ok(count) => differ.filled(count, &mut |step| writer.step(step))?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    differ.finish(&mut |step| writer.step(step))?;
    writer.finish()
}

/// Builds the newer version of `size` bytes from the older one and a delta in blocks.
///
/// Nothing is taken from a block that is refused, and never more than `size` bytes are made. A block that is missing
/// at the end is [`DeltaError::TooShort`]. The result is what the sums say, not what the peer has: compare the hash.
pub fn patch(old: &[u8], size: u64, blocks: impl IntoIterator<Item = Block>) -> Result<Vec<u8>, DeltaError> {
    let mut check = DeltaCheck::new(size, old.len() as u64);
    let mut new = Vec::new();
    for block in blocks {
        check.push(&block)?;
        for op in &block.ops {
            match op {
                DeltaOp::Literal(bytes) => new.extend_from_slice(bytes),
                DeltaOp::Copy { offset, length } => {
                    let start = usize::try_from(*offset).map_err(|_| DeltaError::OutOfBasis)?;
                    let length = usize::try_from(*length).map_err(|_| DeltaError::OutOfBasis)?;
                    let from = old.get(start..).and_then(|old| old.get(..length));
                    new.extend_from_slice(from.ok_or(DeltaError::OutOfBasis)?);
                }
            }
        }
        if block.last {
            return Ok(new);
        }
    }
    Err(DeltaError::TooShort)
}

/// Gathers steps into blocks of at most [`MAX_BLOCK_BYTES`] and [`MAX_BLOCK_OPS`].
#[derive(Debug)]
pub struct BlockWriter<E> {
    emit: E,
    ops: Vec<DeltaOp>,
    literal: usize,
}

impl<E: FnMut(Block) -> io::Result<()>> BlockWriter<E> {
    /// Returns a writer of one file's blocks, which go to `emit`.
    pub fn new(emit: E) -> Self {
        Self { emit, ops: Vec::new(), literal: 0 }
    }

    /// Takes the next step.
    pub fn step(&mut self, step: Step<'_>) -> io::Result<()> {
        match step {
            Step::Literal { bytes, .. } => self.literal(bytes),
            Step::Copy { offset, length } => {
                if self.ops.len() == MAX_BLOCK_OPS {
                    self.flush(false)?;
                }
                self.ops.push(DeltaOp::Copy { offset, length });
                Ok(())
            }
        }
    }

    /// Sends the last block.
    pub fn finish(mut self) -> io::Result<()> {
        self.flush(true)
    }

    fn literal(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let goes_on = matches!(self.ops.last(), Some(DeltaOp::Literal(_)));
            if self.literal == MAX_BLOCK_BYTES || self.ops.len() == MAX_BLOCK_OPS && !goes_on {
                self.flush(false)?;
            }
            let (now, later) = bytes.split_at(bytes.len().min(MAX_BLOCK_BYTES - self.literal));
            self.literal += now.len();
            if let Some(DeltaOp::Literal(before)) = self.ops.last_mut() {
                before.extend_from_slice(now);
            } else {
                self.ops.push(DeltaOp::Literal(now.to_vec()));
            }
            bytes = later;
        }
        Ok(())
    }

    fn flush(&mut self, last: bool) -> io::Result<()> {
        self.literal = 0;
        (self.emit)(Block { ops: std::mem::take(&mut self.ops), last })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_file_in_blocks() {
        for length in [0, 1, MAX_BLOCK_BYTES - 1, MAX_BLOCK_BYTES, MAX_BLOCK_BYTES + 1, 3 * MAX_BLOCK_BYTES] {
            let bytes = vec![3; length];
            let mut blocks = Vec::new();
            whole(&bytes[..], |block| {
                blocks.push(block);
                Ok(())
            })
            .unwrap();
            assert_eq!(blocks.len(), length.div_ceil(MAX_BLOCK_BYTES).max(1));
            assert_eq!(blocks.iter().filter(|block| block.last).count(), 1);
            assert!(blocks.last().unwrap().last);
            assert!(patch(&[], length as u64, blocks).unwrap() == bytes, "{length}");
        }
    }

    #[test]
    fn bounds() {
        let block = |ops, last| Block { ops, last };
        let copy = |offset, length| DeltaOp::Copy { offset, length };
        let check = |ops, last, expected| {
            assert_eq!(DeltaCheck::new(10, 5).push(&block(ops, last)), expected);
        };
        check(vec![copy(0, 5), copy(0, 5)], true, Ok(()));
        check(vec![copy(0, 5)], false, Ok(()));
        check(vec![copy(0, 5)], true, Err(DeltaError::TooShort));
        check(vec![copy(1, 5)], false, Err(DeltaError::OutOfBasis));
        check(vec![copy(u64::MAX, 2)], false, Err(DeltaError::OutOfBasis));
        check(vec![copy(0, 5); 3], false, Err(DeltaError::TooLong));
        check(vec![DeltaOp::Literal(vec![0; 11])], false, Err(DeltaError::TooLong));
        check(vec![DeltaOp::Literal(vec![0; MAX_BLOCK_BYTES + 1])], false, Err(DeltaError::TooLarge));
        check(vec![copy(0, 0); MAX_BLOCK_OPS + 1], false, Err(DeltaError::TooLarge));
    }

    #[test]
    fn a_delta_that_lies_builds_nothing() {
        let literal = |length, last| Block { ops: vec![DeltaOp::Literal(vec![0; length])], last };
        let copy = |offset, length| Block { ops: vec![DeltaOp::Copy { offset, length }], last: false };
        let check = |blocks: Vec<Block>, expected| assert_eq!(patch(b"old", 4, blocks), Err(expected));
        check(vec![copy(0, 3), copy(1, 3)], DeltaError::OutOfBasis);
        check(vec![copy(u64::MAX, 1)], DeltaError::OutOfBasis);
        check(vec![copy(0, 3), copy(0, 3)], DeltaError::TooLong);
        check(vec![copy(0, 3), literal(1, false)], DeltaError::TooShort);
        check(vec![literal(3, true)], DeltaError::TooShort);
        assert_eq!(patch(b"old", 4, [copy(0, 3), literal(1, true)]).unwrap(), b"old\0");
    }

    #[test]
    fn blocks_keep_to_their_limits() {
        let mut blocks = Vec::new();
        let mut writer = BlockWriter::new(|block| {
            blocks.push(block);
            Ok(())
        });
        let bytes = vec![1; 3 * MAX_BLOCK_BYTES];
        writer.step(Step::Literal { offset: 0, bytes: &bytes }).unwrap();
        for _ in 0..2 * MAX_BLOCK_OPS {
            writer.step(Step::Copy { offset: 0, length: 1 }).unwrap();
            writer.step(Step::Literal { offset: 0, bytes: b"12" }).unwrap();
        }
        writer.finish().unwrap();
        let size = (bytes.len() + 6 * MAX_BLOCK_OPS) as u64;
        assert_eq!(patch(b"o", size, blocks).unwrap().len() as u64, size);
    }
}
