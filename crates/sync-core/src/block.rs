//! Block sums of a file: what a peer needs to find the parts it shares with another version.

use std::io::{self, Read};

use crate::message::Signature;

/// The smallest block, in bytes.
pub const MIN_BLOCK_SIZE: u32 = 1024;
/// The most blocks in a signature, so that it fits a message.
pub const MAX_BLOCKS: u64 = 32 * 1024;

/// Returns the block size for a file of `size` bytes: 1 KiB up to 256 KiB, then the power of two above √(8·size)
/// within 4 to 64 KiB, and more where a signature would grow too long.
pub fn block_size(size: u64) -> u32 {
    if size <= 256 * 1024 {
        return MIN_BLOCK_SIZE;
    }
    let root = size.saturating_mul(8).isqrt();
    let mut block = root.next_power_of_two().clamp(4 * 1024, 64 * 1024);
    while size.div_ceil(block) > MAX_BLOCKS && block < 1 << 31 {
        block *= 2;
    }
    u32::try_from(block).unwrap_or(1 << 31)
}

/// Signs the blocks of a file of `size` bytes, read from `reader`.
///
/// Fails with [`io::ErrorKind::UnexpectedEof`] where the file is shorter, and [`io::ErrorKind::InvalidData`] where it
/// is longer: it is changing.
pub fn sign(mut reader: impl Read, size: u64) -> io::Result<Signature> {
    let block_size = block_size(size);
    let mut buffer = vec![0; block_size as usize];
    let mut blocks = Vec::new();
    let mut left = size;
    while left > 0 {
        let length = left.min(u64::from(block_size));
        let block = &mut buffer[..usize::try_from(length).map_err(io::Error::other)?];
        reader.read_exact(block)?;
        blocks.push((Rolling::of(block).value(), strong(block)));
        left -= length;
    }
    if reader.read(&mut buffer[..1])? != 0 {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "file is longer than it was"));
    }
    Ok(Signature { block_size, size, blocks })
}

impl Signature {
    /// Tells whether the parts fit together and keep to the limits, as a signature of a file of `size` bytes must.
    pub fn is_sound(&self, size: u64) -> bool {
        self.size == size
            && self.block_size >= MIN_BLOCK_SIZE
            && self.blocks.len() as u64 <= MAX_BLOCKS
            && self.blocks.len() as u64 == size.div_ceil(u64::from(self.block_size))
    }
}

/// Returns the first 8 bytes of the block's BLAKE3, little endian.
pub(crate) fn strong(block: &[u8]) -> u64 {
    let hash = blake3::hash(block);
    let mut first = [0; 8];
    first.copy_from_slice(&hash.as_bytes()[..8]);
    u64::from_le_bytes(first)
}

/// A sum of a window of bytes that can be moved on by one byte without reading the window again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rolling {
    plain: u32,
    weighted: u32,
    length: u32,
}

impl Rolling {
    pub(crate) fn of(window: &[u8]) -> Self {
        let (mut plain, mut weighted) = (0u32, 0u32);
        for byte in window {
            plain = plain.wrapping_add(u32::from(*byte) + 31);
            weighted = weighted.wrapping_add(plain);
        }
        // Wraps: only the low 16 bits of a product with it are used.
        #[expect(clippy::cast_possible_truncation, reason = "only the low bits count")]
        Self { plain, weighted, length: window.len() as u32 }
    }

    /// Moves the window one byte on.
    pub(crate) fn roll(&mut self, out: u8, into: u8) {
        let out = u32::from(out) + 31;
        self.plain = self.plain.wrapping_sub(out).wrapping_add(u32::from(into) + 31);
        self.weighted = self.weighted.wrapping_sub(self.length.wrapping_mul(out)).wrapping_add(self.plain);
    }

    pub(crate) fn value(self) -> u32 {
        (self.weighted << 16) | (self.plain & 0xffff)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(size: u64, expected: u32) {
        assert_eq!(block_size(size), expected, "{size}");
        assert!(size.div_ceil(u64::from(block_size(size))) <= MAX_BLOCKS, "{size}");
    }

    #[test]
    fn block_sizes() {
        check(0, 1024);
        check(256 * 1024, 1024);
        check(256 * 1024 + 1, 4096);
        check(10 << 20, 16 * 1024);
        check(1 << 30, 64 * 1024);
        check(4 << 30, 128 * 1024);
        check(1 << 40, 32 << 20);
    }

    #[test]
    fn a_changing_file_is_an_error() {
        assert_eq!(sign(&b"abc"[..], 4).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(sign(&b"abc"[..], 2).unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert!(sign(&b"abc"[..], 3).unwrap().is_sound(3));
        assert!(sign(&b""[..], 0).unwrap().is_sound(0));
    }

    #[test]
    fn unsound_signatures_are_seen() {
        let sound = sign(&[1; 3000][..], 3000).unwrap();
        assert!(sound.is_sound(3000) && !sound.is_sound(2999));
        assert!(!Signature { block_size: 0, ..sound.clone() }.is_sound(3000));
        assert!(!Signature { blocks: vec![], ..sound }.is_sound(3000));
    }

    proptest! {
        #[test]
        fn rolling_is_the_sum_of_the_window(bytes: Vec<u8>, window in 1usize..50) {
            prop_assume!(bytes.len() >= window);
            let mut sum = Rolling::of(&bytes[..window]);
            for at in 1..=bytes.len() - window {
                sum.roll(bytes[at - 1], bytes[at + window - 1]);
                prop_assert_eq!(sum, Rolling::of(&bytes[at..at + window]));
            }
        }
    }
}
