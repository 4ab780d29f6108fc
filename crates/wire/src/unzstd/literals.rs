//! The bytes of a block that are not copies: as they are, one repeated, or in Huffman's code.

use super::bits::Bits;
use super::fse::{Counts, read_symbols};
use super::{SLACK_BYTES, UnpackError};

/// The longest code, in bits.
const MAX_CODE_BITS: u32 = 11;
const TABLE: usize = 1 << MAX_CODE_BITS;
/// So many codes of the longest kind are there after each refill.
const CODES_AT_ONCE: usize = 5;

/// A block's literals, and the tree that later blocks may use again.
#[derive(Debug, Default)]
pub(super) struct Literals {
    /// With [`SLACK_BYTES`] behind them.
    bytes: Vec<u8>,
    tree: Option<Box<Tree>>,
}

impl Literals {
    /// Returns the block's literals, followed by [`SLACK_BYTES`] that are none.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.bytes.capacity() + self.tree.as_ref().map_or(0, |_| size_of::<Tree>())
    }

    /// Reads the literals of a block, at most `limit` bytes, and returns what follows them.
    pub(super) fn read<'a>(&mut self, block: &'a [u8], limit: usize) -> Result<&'a [u8], UnpackError> {
        let cut = UnpackError("literals are cut short");
        let first = *block.first().ok_or(cut)?;
        let (kind, format) = (first & 3, first >> 2 & 3);
        let head_bytes = match (kind, format) {
            (0 | 1, 0 | 2) => 1,
            (0 | 1, 1) => 2,
            (0 | 1, _) | (_, 0 | 1) => 3,
            (_, 2) => 4,
            _ => 5,
        };
        let (head, rest) = block.split_at_checked(head_bytes).ok_or(cut)?;
        let mut number = [0; 8];
        number[..head_bytes].copy_from_slice(head);
        let number = u64::from_le_bytes(number);
        let size_bits = match (kind, head_bytes) {
            (0 | 1, 1) => 5,
            (0 | 1, _) => head_bytes as u32 * 8 - 4,
            _ => head_bytes as u32 * 4 - 2,
        };
        let skipped = if head_bytes == 1 { 3 } else { 4 };
        let size = (number >> skipped & ((1 << size_bits) - 1)) as usize;
        if size > limit {
            return Err(UnpackError("literals are longer than announced"));
        }
        self.bytes.clear();
        match kind {
            0 => {
                let (raw, rest) = rest.split_at_checked(size).ok_or(cut)?;
                self.bytes.extend_from_slice(raw);
                self.bytes.resize(size + SLACK_BYTES, 0);
                Ok(rest)
            }
            1 => {
                let (byte, rest) = rest.split_first().ok_or(cut)?;
                self.bytes.resize(size + SLACK_BYTES, *byte);
                Ok(rest)
            }
            _ => {
                let packed_size = (number >> (4 + size_bits)) as usize;
                let (mut packed, rest) = rest.split_at_checked(packed_size).ok_or(cut)?;
                if kind == 2 {
                    packed = self.tree.get_or_insert_default().read(packed)?;
                }
                let tree = self.tree.as_ref().ok_or(UnpackError("literals refer to no tree"))?;
                self.bytes.resize(size + SLACK_BYTES, 0);
                let bytes = &mut self.bytes[..size];
                if format == 0 {
                    tree.decode(packed, bytes)?;
                } else {
                    tree.decode_four(packed, bytes)?;
                }
                Ok(rest)
            }
        }
    }
}

/// Huffman's code as a table of what the next bits mean.
#[derive(Debug)]
struct Tree {
    code_bits: u32,
    /// The symbol in the low byte, how many bits it has in the high one.
    cells: [u16; TABLE],
}

impl Default for Tree {
    fn default() -> Self {
        Self { code_bits: 1, cells: [0; TABLE] }
    }
}

impl Tree {
    /// Reads a tree and returns what follows it.
    fn read<'a>(&mut self, input: &'a [u8]) -> Result<&'a [u8], UnpackError> {
        let cut = UnpackError("a tree is cut short");
        let (&head, rest) = input.split_first().ok_or(cut)?;
        let head = usize::from(head);
        if head < 128 {
            let (described, rest) = rest.split_at_checked(head).ok_or(cut)?;
            let (counts, stream) = Counts::read(described, 6, 16)?;
            self.build(&read_symbols(&counts, stream, 255)?)?;
            Ok(rest)
        } else {
            let count = head - 127;
            let (described, rest) = rest.split_at_checked(count.div_ceil(2)).ok_or(cut)?;
            let mut weights: Vec<u8> = described.iter().flat_map(|byte| [byte >> 4, byte & 15]).collect();
            weights.truncate(count);
            self.build(&weights)?;
            Ok(rest)
        }
    }

    /// Makes the table of all weights but the last, which follows from them.
    fn build(&mut self, weights: &[u8]) -> Result<(), UnpackError> {
        let damaged = UnpackError("a tree is damaged");
        let mut per_weight = [0u32; MAX_CODE_BITS as usize + 2];
        let mut sum = 0u32;
        for weight in weights {
            *per_weight.get_mut(usize::from(*weight)).ok_or(damaged)? += 1;
            sum += (1 << weight) >> 1;
        }
        if sum == 0 {
            return Err(damaged);
        }
        let code_bits = u32::BITS - sum.leading_zeros();
        let left = (1 << code_bits) - sum;
        if code_bits > MAX_CODE_BITS || !left.is_power_of_two() {
            return Err(damaged);
        }
        let last = left.ilog2() as u8 + 1;
        per_weight[usize::from(last)] += 1;
        let mut starts = [0usize; MAX_CODE_BITS as usize + 2];
        let mut start = 0;
        for (weight, count) in per_weight.iter().enumerate().skip(1) {
            starts[weight] = start;
            start += (*count as usize) << (weight - 1);
        }
        for (symbol, weight) in (0u16..).zip(weights.iter().chain([&last])) {
            if *weight == 0 {
                continue;
            }
            let bits =
                (code_bits + 1).checked_sub(u32::from(*weight)).filter(|bits| *bits > 0).ok_or(damaged)?;
            let start = &mut starts[usize::from(*weight)];
            let span = 1 << (weight - 1);
            let cells = self.cells.get_mut(*start..*start + span).ok_or(damaged)?;
            cells.fill(symbol | (bits as u16) << 8);
            *start += span;
        }
        self.code_bits = code_bits;
        Ok(())
    }

    /// Takes one symbol.
    #[inline(always)]
    fn symbol(&self, bits: &mut Bits<'_>) -> u8 {
        let cell = self.cells[bits.peek(self.code_bits) as usize % TABLE];
        bits.skip(u32::from(cell >> 8));
        cell as u8
    }

    fn decode(&self, packed: &[u8], out: &mut [u8]) -> Result<(), UnpackError> {
        self.rest(Bits::new(packed)?, out)
    }

    /// Reads symbols until `out` is full, and the bits must have ended then.
    fn rest(&self, mut bits: Bits<'_>, out: &mut [u8]) -> Result<(), UnpackError> {
        for chunk in out.chunks_mut(CODES_AT_ONCE) {
            bits.refill();
            for byte in chunk {
                *byte = self.symbol(&mut bits);
            }
        }
        bits.finish()
    }

    /// Reads four streams side by side, each of which has a quarter of `out`.
    fn decode_four(&self, packed: &[u8], out: &mut [u8]) -> Result<(), UnpackError> {
        let cut = UnpackError("literals are cut short");
        let (sizes, packed) = packed.split_first_chunk::<6>().ok_or(cut)?;
        let size = |at: usize| usize::from(u16::from_le_bytes([sizes[at], sizes[at + 1]]));
        let (first, packed) = packed.split_at_checked(size(0)).ok_or(cut)?;
        let (second, packed) = packed.split_at_checked(size(2)).ok_or(cut)?;
        let (third, fourth) = packed.split_at_checked(size(4)).ok_or(cut)?;
        let (mut a, mut b) = (Bits::new(first)?, Bits::new(second)?);
        let (mut c, mut d) = (Bits::new(third)?, Bits::new(fourth)?);
        let quarter = out.len().div_ceil(4);
        let (out_a, out) = out.split_at_mut_checked(quarter).ok_or(cut)?;
        let (out_b, out) = out.split_at_mut_checked(quarter).ok_or(cut)?;
        let (out_c, out_d) = out.split_at_mut_checked(quarter).ok_or(cut)?;
        // The last quarter may be shorter; what is beyond it is read afterwards.
        let together = out_d.len() / CODES_AT_ONCE * CODES_AT_ONCE;
        let [(now_a, out_a), (now_b, out_b), (now_c, out_c), (now_d, out_d)] =
            [out_a, out_b, out_c, out_d].map(|out| out.split_at_mut(together));
        let rows = now_a.as_chunks_mut::<CODES_AT_ONCE>().0.iter_mut();
        let rows = rows.zip(now_b.as_chunks_mut::<CODES_AT_ONCE>().0);
        let rows = rows.zip(now_c.as_chunks_mut::<CODES_AT_ONCE>().0);
        let rows = rows.zip(now_d.as_chunks_mut::<CODES_AT_ONCE>().0);
        for (((row_a, row_b), row_c), row_d) in rows {
            a.refill();
            b.refill();
            c.refill();
            d.refill();
            for at in 0..CODES_AT_ONCE {
                row_a[at] = self.symbol(&mut a);
                row_b[at] = self.symbol(&mut b);
                row_c[at] = self.symbol(&mut c);
                row_d[at] = self.symbol(&mut d);
            }
        }
        self.rest(a, out_a)?;
        self.rest(b, out_b)?;
        self.rest(c, out_c)?;
        self.rest(d, out_d)
    }
}
