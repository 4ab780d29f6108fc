//! Tables of finite state entropy: how often each symbol is, and the states that follow from it.

use super::UnpackError;
use super::bits::Bits;

/// How often each symbol is, of 2^`accuracy`; -1 for less than once.
#[derive(Debug, Clone)]
pub(super) struct Counts {
    pub(super) accuracy: u32,
    each: [i16; MAX_SYMBOLS],
    symbols: usize,
}

/// More than any alphabet that is coded so has.
pub(super) const MAX_SYMBOLS: usize = 64;
const MAX_STATES: usize = 512;

impl Counts {
    pub(super) fn of(accuracy: u32, given: &[i16]) -> Self {
        let mut each = [0; MAX_SYMBOLS];
        each[..given.len()].copy_from_slice(given);
        Self { accuracy, each, symbols: given.len() }
    }

    /// Reads a description of up to `max_symbols` symbols, and returns what follows it.
    pub(super) fn read(
        input: &[u8],
        max_accuracy: u32,
        max_symbols: usize,
    ) -> Result<(Self, &[u8]), UnpackError> {
        let mut forward = Forward { input, at: 0 };
        let accuracy = forward.take(4) + 5;
        if accuracy > max_accuracy {
            return Err(UnpackError("a table is too fine"));
        }
        let mut read = Self { accuracy, each: [0; MAX_SYMBOLS], symbols: 0 };
        // One more than is left to give out, as the format counts.
        let mut left = (1i32 << accuracy) + 1;
        while left > 1 {
            if read.symbols >= max_symbols {
                return Err(UnpackError("a table has too many symbols"));
            }
            let bits = u32::BITS - left.leading_zeros();
            let half = 1i32 << (bits - 1);
            // So many of the values need a bit less.
            let short = 2 * half - 1 - left;
            let low = forward.peek(bits - 1) as i32;
            let value = if low < short {
                forward.at += bits as usize - 1;
                low
            } else {
                let value = forward.take(bits) as i32;
                if value >= half { value - short } else { value }
            };
            let count = value - 1;
            left -= count.abs();
            read.each[read.symbols] = i16::try_from(count).map_err(|_| UnpackError("a table is damaged"))?;
            read.symbols += 1;
            if count == 0 {
                loop {
                    let more = forward.take(2) as usize;
                    read.symbols += more;
                    if more < 3 {
                        break;
                    }
                    if read.symbols > max_symbols {
                        return Err(UnpackError("a table has too many symbols"));
                    }
                }
            }
        }
        let used = forward.at.div_ceil(8);
        if left != 1 || read.symbols > max_symbols || used > input.len() {
            return Err(UnpackError("a table is damaged"));
        }
        Ok((read, &input[used..]))
    }

    /// Calls `set` with each state: its number, its symbol, how many bits lead on from it, and what they are added
    /// to.
    pub(super) fn spread(&self, mut set: impl FnMut(usize, u8, u8, u16)) -> Result<(), UnpackError> {
        let size = 1usize << self.accuracy;
        let counts = &self.each[..self.symbols];
        let mut symbols = [0u8; MAX_STATES];
        let symbols = &mut symbols[..size];
        let mut next = [0u16; MAX_SYMBOLS];
        let mut high = size;
        for (symbol, count) in (0u8..).zip(counts) {
            next[usize::from(symbol)] = count.unsigned_abs();
            if *count < 0 {
                high = high.checked_sub(1).ok_or(UnpackError("a table is damaged"))?;
                symbols[high] = symbol;
            }
        }
        let step = size / 2 + size / 8 + 3;
        let mut at = 0;
        for (symbol, count) in (0u8..).zip(counts) {
            for _ in 0..*count {
                symbols[at] = symbol;
                at = (at + step) & (size - 1);
                while at >= high {
                    at = (at + step) & (size - 1);
                }
            }
        }
        for (state, symbol) in symbols.iter().enumerate() {
            let next = &mut next[usize::from(*symbol)];
            let bits = self.accuracy + next.leading_zeros() - 15;
            let base = (usize::from(*next) << bits) - size;
            *next += 1;
            set(state, *symbol, bits as u8, base as u16);
        }
        Ok(())
    }
}

/// Bits from the front of a slice; behind its end come zeros.
struct Forward<'a> {
    input: &'a [u8],
    /// In bits.
    at: usize,
}

impl Forward<'_> {
    /// Returns the next bits, at most 16, without taking them.
    fn peek(&self, bits: u32) -> u32 {
        let byte = |index: usize| u32::from(self.input.get(self.at / 8 + index).copied().unwrap_or(0));
        let window = byte(0) | byte(1) << 8 | byte(2) << 16;
        window >> (self.at % 8) & ((1 << bits) - 1)
    }

    fn take(&mut self, bits: u32) -> u32 {
        let value = self.peek(bits);
        self.at += bits as usize;
        value
    }
}

/// Reads symbols by two states in turn until the bits end, as the weights of a Huffman tree are written; at most
/// `limit`.
pub(super) fn read_symbols(counts: &Counts, source: &[u8], limit: usize) -> Result<Vec<u8>, UnpackError> {
    let mut table = [(0u8, 0u8, 0u16); MAX_STATES];
    counts.spread(|state, symbol, bits, base| table[state] = (symbol, bits, base))?;
    let mut bits = Bits::new(source)?;
    let mut states = [0usize; 2];
    for state in &mut states {
        *state = bits.take(counts.accuracy) as usize;
    }
    if bits.is_overdrawn() {
        return Err(UnpackError("a stream of bits has the wrong length"));
    }
    let mut symbols = Vec::with_capacity(limit);
    for turn in [0, 1].into_iter().cycle() {
        if symbols.len() + 2 > limit {
            return Err(UnpackError("a tree has too many symbols"));
        }
        let (symbol, count, base) = table[states[turn]];
        symbols.push(symbol);
        bits.refill();
        states[turn] = usize::from(base) + bits.take(u32::from(count)) as usize;
        if bits.is_overdrawn() {
            symbols.push(table[states[1 - turn]].0);
            break;
        }
    }
    Ok(symbols)
}
