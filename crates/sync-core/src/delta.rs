//! A file as the difference to another version of it, found at any offset, in one pass over the new version.

use std::collections::HashMap;
use std::io::{self, Read};

use crate::block::{Rolling, strong};
use crate::message::{Block, DeltaOp, MAX_BLOCK_BYTES, Signature};

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
        let mut literal = 0;
        let mut written = self.written;
        for op in &block.ops {
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
        if literal > MAX_BLOCK_BYTES || block.ops.len() > MAX_BLOCK_OPS {
            return Err(DeltaError::TooLarge);
        }
        if written > self.size {
            return Err(DeltaError::TooLong);
        }
        if block.last && written < self.size {
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
/// Blocks of the older version are found at any offset. Memory is bounded by a few blocks, time by the reader's length
/// whatever the signature says.
pub fn delta(
    signature: &Signature,
    reader: impl Read,
    emit: impl FnMut(Block) -> io::Result<()>,
) -> io::Result<()> {
    let size = signature.block_size as usize;
    if signature.blocks.is_empty() || !signature.is_sound(signature.size) {
        return whole(reader, emit);
    }
    let index = Index::new(signature);
    let mut output = Output { emit, ops: Vec::new(), literal: 0 };
    let mut input = Input { reader, buffer: Vec::new(), at: 0, ended: false };
    // Looks in vain cost a block's hash each: this many for each block's worth of input, then no more looking.
    let mut vain: u64 = 64;

    input.fill(size)?;
    let mut sum = Rolling::of(input.window(size));
    // Where the bytes that nothing was found for begin.
    let mut plain = 0;
    let mut next = 0;
    while input.window(size).len() == size {
        let window = input.window(size);
        let found = match index.find(sum.value(), window, next, vain > 0) {
            Found::At(block) => Some(block),
            Found::Vain => {
                vain -= 1;
                None
            }
            Found::Nothing => None,
        };
        if let Some(block) = found {
            output.literal(&input.buffer[plain..input.at])?;
            output.copy(block as u64 * size as u64, size as u64)?;
            input.at += size;
            vain = vain.saturating_add(8);
            next = block + 1;
            input.fill(size)?;
            plain = input.at;
            sum = Rolling::of(input.window(size));
            continue;
        }
        let out = input.buffer[input.at];
        input.at += 1;
        if input.at - plain == MAX_BLOCK_BYTES {
            output.literal(&input.buffer[plain..input.at])?;
            vain = vain.saturating_add(MAX_BLOCK_BYTES as u64 / size as u64);
            plain = input.at;
        }
        if input.buffer.len() < input.at + size {
            output.literal(&input.buffer[plain..input.at])?;
            input.fill(size)?;
            plain = input.at;
        }
        match input.buffer.get(input.at + size - 1) {
            Some(into) => sum.roll(out, *into),
            None => break,
        }
    }
    let rest = &input.buffer[plain..];
    let tail = usize::try_from(signature.size % size as u64).unwrap_or(0);
    let (before, end) = rest.split_at(rest.len().saturating_sub(tail));
    let last = signature.blocks.len() - 1;
    if tail > 0 && end.len() == tail && signature.blocks[last] == (Rolling::of(end).value(), strong(end)) {
        output.literal(before)?;
        output.copy(last as u64 * size as u64, tail as u64)?;
    } else {
        output.literal(rest)?;
    }
    output.flush(true)
}

/// Whole blocks by their sums.
struct Index<'a> {
    signature: &'a Signature,
    /// One bit for each low half of a rolling sum: nearly every offset is settled here.
    filter: Vec<u64>,
    by_sums: HashMap<(u32, u64), usize>,
}

enum Found {
    At(usize),
    Nothing,
    /// The rolling sum was known and the block was not.
    Vain,
}

impl<'a> Index<'a> {
    fn new(signature: &'a Signature) -> Self {
        let whole = usize::try_from(signature.size / u64::from(signature.block_size)).unwrap_or(usize::MAX);
        let mut filter = vec![0; 1 << 10];
        let mut by_sums = HashMap::new();
        for (number, sums) in signature.blocks.iter().enumerate().take(whole) {
            let bit = Self::bit(sums.0);
            filter[bit / 64] |= 1 << (bit % 64);
            by_sums.entry(*sums).or_insert(number);
        }
        Self { signature, filter, by_sums }
    }

    fn bit(sum: u32) -> usize {
        ((sum >> 16) ^ sum) as usize & 0xffff
    }

    /// Finds a block like `window`: first the one that follows the last found, then any, if `look`ing is allowed.
    fn find(&self, sum: u32, window: &[u8], next: usize, look: bool) -> Found {
        let bit = Self::bit(sum);
        if !look || self.filter[bit / 64] & (1 << (bit % 64)) == 0 {
            return Found::Nothing;
        }
        let sums = (sum, strong(window));
        if self.signature.blocks.get(next) == Some(&sums) && self.by_sums.contains_key(&sums) {
            return Found::At(next);
        }
        self.by_sums.get(&sums).map_or(Found::Vain, |block| Found::At(*block))
    }
}

/// A window on a reader.
struct Input<R> {
    reader: R,
    buffer: Vec<u8>,
    at: usize,
    ended: bool,
}

impl<R: Read> Input<R> {
    /// Reads until `size` bytes follow `at`, or the end; what lies before `at` is dropped where more is read.
    fn fill(&mut self, size: usize) -> io::Result<()> {
        if self.ended || self.buffer.len() >= self.at + size {
            return Ok(());
        }
        self.buffer.drain(..self.at);
        self.at = 0;
        let wanted = size + READ_BYTES - self.buffer.len();
        let got = (&mut self.reader).take(wanted as u64).read_to_end(&mut self.buffer)?;
        self.ended = got < wanted;
        Ok(())
    }

    fn window(&self, size: usize) -> &[u8] {
        &self.buffer[self.at..(self.at + size).min(self.buffer.len())]
    }
}

/// Gathers steps into blocks.
struct Output<E> {
    emit: E,
    ops: Vec<DeltaOp>,
    literal: usize,
}

impl<E: FnMut(Block) -> io::Result<()>> Output<E> {
    fn literal(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            if self.literal == MAX_BLOCK_BYTES || self.ops.len() == MAX_BLOCK_OPS {
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

    fn copy(&mut self, offset: u64, length: u64) -> io::Result<()> {
        if let Some(DeltaOp::Copy { offset: start, length: before }) = self.ops.last_mut()
            && *start + *before == offset
        {
            *before += length;
            return Ok(());
        }
        if self.ops.len() == MAX_BLOCK_OPS {
            self.flush(false)?;
        }
        self.ops.push(DeltaOp::Copy { offset, length });
        Ok(())
    }

    fn flush(&mut self, last: bool) -> io::Result<()> {
        self.literal = 0;
        (self.emit)(Block { ops: std::mem::take(&mut self.ops), last })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::block::sign;

    fn apply(old: &[u8], blocks: &[Block]) -> Vec<u8> {
        let mut new = Vec::new();
        for op in blocks.iter().flat_map(|block| &block.ops) {
            match op {
                DeltaOp::Literal(bytes) => new.extend_from_slice(bytes),
                DeltaOp::Copy { offset, length } => {
                    let offset = usize::try_from(*offset).unwrap();
                    new.extend_from_slice(&old[offset..offset + usize::try_from(*length).unwrap()]);
                }
            }
        }
        new
    }

    /// Returns the literal bytes that the difference takes.
    #[track_caller]
    fn check(old: &[u8], new: &[u8]) -> usize {
        let signature = sign(old, old.len() as u64).unwrap();
        let mut blocks = Vec::new();
        let mut check = DeltaCheck::new(new.len() as u64, old.len() as u64);
        delta(&signature, new, |block| {
            check.push(&block).unwrap();
            blocks.push(block);
            Ok(())
        })
        .unwrap();
        assert!(blocks.iter().rev().skip(1).all(|block| !block.last) && blocks.last().unwrap().last);
        assert_eq!(check.written(), new.len() as u64);
        assert!(apply(old, &blocks) == new, "{} → {} bytes", old.len(), new.len());
        blocks
            .iter()
            .flat_map(|block| &block.ops)
            .map(|op| if let DeltaOp::Literal(bytes) = op { bytes.len() } else { 0 })
            .sum()
    }

    /// Returns bytes that look random and are the same every time.
    fn noise(seed: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
        bytes
    }

    #[test]
    fn only_the_difference_travels() {
        let old = noise(1, 3_000_000);
        let block = crate::block::block_size(3_000_000) as usize;
        assert_eq!(check(&old, &old), 0);
        assert_eq!(check(&old, &old[..1_000_000]), 1_000_000 % block);
        assert!(check(&old, &[&old[..], b"appended"].concat()) <= block + 8);
        assert!(check(&old, &[b"in front", &old[..]].concat()) <= 8);
        assert!(
            check(&old, &[&old[..1_234_567], b"in the middle", &old[1_234_567..]].concat()) <= block + 13
        );
        assert!(check(&old, &[&old[2_000_000..], &old[..2_000_000]].concat()) <= 2 * block);
        assert_eq!(check(&old, &noise(2, 500_000)), 500_000);
        assert_eq!(check(&old, b""), 0);
        assert_eq!(check(b"", &old), old.len());
        assert!(check(&vec![0; 2_000_000], &vec![0; 3_000_000]) < 4096);
    }

    #[test]
    fn a_whole_file_in_blocks() {
        for length in [0, 1, MAX_BLOCK_BYTES - 1, MAX_BLOCK_BYTES, MAX_BLOCK_BYTES + 1, 3 * MAX_BLOCK_BYTES] {
            let bytes = noise(3, length);
            let mut blocks = Vec::new();
            whole(&bytes[..], |block| {
                blocks.push(block);
                Ok(())
            })
            .unwrap();
            assert!(apply(&[], &blocks) == bytes, "{length}");
            assert_eq!(blocks.len(), length.div_ceil(MAX_BLOCK_BYTES).max(1));
            assert_eq!(blocks.iter().filter(|block| block.last).count(), 1);
            assert!(blocks.last().unwrap().last);
        }
    }

    #[test]
    fn a_signature_that_hits_everywhere_costs_no_more() {
        // Every rolling sum is known, no block is: without a limit this would hash 64 KiB at each of 2 M offsets.
        let blocks = (0..=0xffff).map(|low| (low, 0)).take(32 * 1024).collect();
        let signature = Signature { block_size: 64 * 1024, size: 2 << 30, blocks };
        let bytes = noise(4, 2_000_000);
        let mut got = Vec::new();
        delta(&signature, &bytes[..], |block| {
            got.push(block);
            Ok(())
        })
        .unwrap();
        assert!(apply(&[], &got) == bytes);
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

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn applying_the_delta_gives_the_new_version(
            old in prop::collection::vec(0u8..3, 0..6000),
            edits in prop::collection::vec((any::<prop::sample::Index>(), 0usize..3000, prop::collection::vec(0u8..3, 0..300)), 0..4),
        ) {
            let mut new = old.clone();
            for (at, drop, insert) in edits {
                let at = at.index(new.len() + 1);
                let end = (at + drop).min(new.len());
                new.splice(at..end, insert);
            }
            check(&old, &new);
        }
    }
}
