//! Where the blocks of a file lie. Follows from the file's size alone, so that nobody can lie about it.

/// The most blocks in a signature: with more it would not fit a message.
const MAX_BLOCKS: u64 = 19 << 14;
/// Longer files have no signature: their blocks would be too large to be worth finding.
const MAX_SIGNED_BYTES: u64 = 1 << 40;
/// How far around an edit a reader of a newer version looks, in bytes, where blocks are large.
const MAX_REACH_BYTES: usize = 1 << 20;

/// Bytes of an anchor's rolling sum.
pub(crate) const ROLLING_BYTES: usize = 4;
/// Bytes of a block's strong sum.
pub(crate) const STRONG_BYTES: usize = 3;

/// The blocks of a file, all of one length but the last; the first of every `stride` is an anchor, found at any offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Bytes in each block but the last.
    pub(crate) block: usize,
    /// Blocks from one anchor to the next.
    pub(crate) stride: usize,
    /// How many blocks there are, the last and shorter one too.
    pub(crate) blocks: usize,
    /// Bytes in the last block.
    last: usize,
}

impl Layout {
    pub(crate) fn of(size: u64) -> Self {
        let (mut block, stride) = match size >> 10 {
            ..64 => (128, 2),
            64..256 => (512, 1),
            256..2048 => (1024, 4),
            2048..16_384 => (2048, 8),
            _ => (4096, 16),
        };
        if size == 0 || size > MAX_SIGNED_BYTES {
            return Self { block, stride, blocks: 0, last: 0 };
        }
        while size.div_ceil(block as u64) > MAX_BLOCKS {
            block *= 2;
        }
        // At most MAX_BLOCKS, and at most a block.
        let number = |value: u64| usize::try_from(value).unwrap_or_default();
        let blocks = number(size.div_ceil(block as u64));
        Self { block, stride, blocks, last: number((size - 1) % block as u64) + 1 }
    }

    /// Returns the length of the signature's sums, in bytes.
    pub(crate) fn sum_bytes(self) -> usize {
        self.blocks.div_ceil(self.stride) * ROLLING_BYTES + self.blocks * STRONG_BYTES
    }

    /// Returns where the strong sum of a block lies in the sums; an anchor's rolling sum lies right before it.
    pub(crate) fn strong_at(self, block: usize) -> usize {
        (block / self.stride + 1) * ROLLING_BYTES + block * STRONG_BYTES
    }

    /// Returns the length of a block in bytes, if there is such a block.
    pub(crate) fn length(self, block: usize) -> Option<usize> {
        match self.blocks.checked_sub(block + 1)? {
            0 => Some(self.last),
            _ => Some(self.block),
        }
    }

    /// Returns how many blocks before a found one may belong to it.
    pub(crate) fn reach(self) -> usize {
        self.stride.min(MAX_REACH_BYTES / self.block).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::MAX_SUM_BYTES;

    #[track_caller]
    fn check(size: u64, block: usize, stride: usize, blocks: usize) {
        let layout = Layout::of(size);
        assert_eq!((layout.block, layout.stride, layout.blocks), (block, stride, blocks), "{size}");
        assert!(layout.sum_bytes() <= MAX_SUM_BYTES, "{size}");
        let lengths: u64 =
            (0..blocks).filter_map(|block| layout.length(block)).map(|length| length as u64).sum();
        assert_eq!(lengths, if blocks == 0 { 0 } else { size }, "{size}");
        assert_eq!(layout.length(blocks), None, "{size}");
        if let Some(last) = blocks.checked_sub(1) {
            assert_eq!(layout.strong_at(last) + STRONG_BYTES, layout.sum_bytes(), "{size}");
        }
    }

    #[test]
    fn layouts() {
        check(0, 128, 2, 0);
        check(1, 128, 2, 1);
        check(128, 128, 2, 1);
        check(129, 128, 2, 2);
        check((64 << 10) - 1, 128, 2, 512);
        check(64 << 10, 512, 1, 128);
        check(256 << 10, 1024, 4, 256);
        check((2 << 20) - 1, 1024, 4, 2048);
        check(2 << 20, 2048, 8, 1024);
        check(16 << 20, 4096, 16, 4096);
        check(1 << 30, 4096, 16, 1 << 18);
        check((1 << 30) + 1, 4096, 16, (1 << 18) + 1);
        check(MAX_BLOCKS << 12, 4096, 16, 19 << 14);
        check((MAX_BLOCKS << 12) + 1, 8192, 16, (19 << 13) + 1);
        check(1 << 40, 4 << 20, 16, 1 << 18);
        check((1 << 40) + 1, 4096, 16, 0);
        check(u64::MAX, 4096, 16, 0);
        assert_eq!(Layout::of(MAX_BLOCKS << 12).sum_bytes(), MAX_SUM_BYTES);
    }

    #[test]
    fn sums_stay_below_four_percent() {
        for size in [2048, 4096, 65_535, 65_536, 262_144, 2 << 20, 16 << 20, 1 << 30] {
            assert!(Layout::of(size).sum_bytes() as u64 * 100 < size * 4, "{size}");
        }
    }
}
