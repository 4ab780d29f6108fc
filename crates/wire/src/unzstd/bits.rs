//! Bits from the back of a slice to its front, as zstd writes its streams.

use super::UnpackError;

/// A stream of bits; its end is told by [`finish`](Self::finish), reading past it gives zeros.
#[derive(Debug)]
pub(super) struct Bits<'a> {
    source: &'a [u8],
    /// Bytes before this are not in `window` yet, or not counted there.
    at: usize,
    /// The next bits, from the highest one down.
    window: u64,
    /// How many bits of `window` count. Below 0 after more was read than there is.
    count: i32,
}

impl<'a> Bits<'a> {
    /// Starts behind the highest set bit of the last byte.
    pub(super) fn new(source: &'a [u8]) -> Result<Self, UnpackError> {
        let last =
            source.last().filter(|last| **last != 0).ok_or(UnpackError("a stream of bits has no end"))?;
        let mut bits = Self { source, at: source.len(), window: 0, count: 0 };
        bits.refill();
        bits.take(last.leading_zeros() + 1);
        Ok(bits)
    }

    #[inline(always)]
    pub(super) fn refill(&mut self) {
        if let Some(chunk) =
            self.at.checked_sub(8).and_then(|from| self.source.get(from..)?.first_chunk::<8>())
        {
            // Bits beyond those that count are the same ones that come again, so they may stay.
            self.window |= u64::from_le_bytes(*chunk) >> self.count;
            let taken = (63 - self.count) >> 3;
            self.at -= taken as usize;
            self.count += taken * 8;
        } else {
            self.refill_slowly();
        }
    }

    #[cold]
    fn refill_slowly(&mut self) {
        while (0..=56).contains(&self.count) && self.at > 0 {
            self.at -= 1;
            self.window |= u64::from(self.source[self.at]) << (56 - self.count);
            self.count += 8;
        }
    }

    /// Takes up to 56 bits.
    #[inline(always)]
    pub(super) fn take(&mut self, bits: u32) -> u64 {
        let value = (self.window >> 1) >> (63 - bits);
        self.skip(bits);
        value
    }

    /// Returns the next 1 to 56 bits without taking them.
    #[inline(always)]
    pub(super) fn peek(&self, bits: u32) -> u64 {
        self.window >> (64 - bits)
    }

    #[inline(always)]
    pub(super) fn skip(&mut self, bits: u32) {
        self.window <<= bits;
        self.count -= bits as i32;
    }

    /// Returns whether more was taken than there is.
    pub(super) fn is_overdrawn(&self) -> bool {
        self.count < 0
    }

    /// Fails unless exactly all was taken.
    pub(super) fn finish(&self) -> Result<(), UnpackError> {
        if self.at == 0 && self.count == 0 {
            Ok(())
        } else {
            Err(UnpackError("a stream of bits has the wrong length"))
        }
    }
}
