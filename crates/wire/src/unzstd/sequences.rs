//! The sequences of a block: some literals, then a copy of what came before, again and again.

use super::bits::Bits;
use super::fse::Counts;
use super::{SLACK_BYTES, UnpackError, WINDOW_BYTES};

const MAX_STATES: usize = 512;
/// A copy or a run of literals is made in strides of so many bytes, the last of which may go too far.
const STRIDE: usize = 16;
/// Longer copies are left to the system's own.
const MAX_STRIDDEN: usize = 8 * STRIDE;

/// One state of a table.
#[derive(Debug, Clone, Copy, Default)]
struct Cell {
    /// What the symbol stands for, before `extra` bits are added.
    value: u32,
    extra: u8,
    /// How many bits lead on.
    bits: u8,
    /// What they are added to.
    base: u16,
}

/// A table, and where in it the reader is.
#[derive(Debug, Clone)]
struct Table {
    accuracy: u32,
    cells: [Cell; MAX_STATES],
}

/// What one of the three kinds of number may look like.
struct Alphabet {
    /// For each symbol what it stands for and how many bits are added.
    symbols: &'static [(u32, u8)],
    max_accuracy: u32,
    usual_accuracy: u32,
    usual: &'static [i16],
}

const LITERAL_LENGTHS: Alphabet = Alphabet {
    symbols: &follow_each_other(
        0,
        [
            0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 3, 3, 4, 6, 7, 8, 9, 10, 11,
            12, 13, 14, 15, 16,
        ],
    ),
    max_accuracy: 9,
    usual_accuracy: 6,
    usual: &[
        4, 3, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 3, 2, 1, 1, 1, 1, 1, -1,
        -1, -1, -1,
    ],
};

const COPY_LENGTHS: Alphabet = Alphabet {
    symbols: &follow_each_other(
        3,
        [
            0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
            1, 1, 1, 1, 2, 2, 3, 3, 4, 4, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16,
        ],
    ),
    max_accuracy: 9,
    usual_accuracy: 6,
    usual: &[
        1, 4, 3, 2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
        1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, -1, -1,
    ],
};

const DISTANCES: Alphabet = Alphabet {
    symbols: &follow_each_other(
        1,
        [
            0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26,
            27, 28, 29, 30, 31,
        ],
    ),
    max_accuracy: 8,
    usual_accuracy: 5,
    usual: &[1, 1, 1, 1, 1, 1, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1],
};

/// Gives each symbol, of which the added bits are known, the numbers that come after those of the one before.
const fn follow_each_other<const N: usize>(first: u32, extra: [u8; N]) -> [(u32, u8); N] {
    let mut symbols = [(first, 0); N];
    let mut at = 0;
    let mut value = first;
    while at < N {
        symbols[at] = (value, extra[at]);
        value = value.wrapping_add(1 << extra[at]);
        at += 1;
    }
    symbols
}

impl Table {
    fn empty() -> Box<Self> {
        Box::new(Self { accuracy: 0, cells: [Cell::default(); MAX_STATES] })
    }

    fn set(&mut self, alphabet: &Alphabet, counts: &Counts) -> Result<(), UnpackError> {
        self.accuracy = counts.accuracy;
        counts.spread(|state, symbol, bits, base| {
            // Counts are read for as many symbols as the alphabet has.
            let (value, extra) = alphabet.symbols[usize::from(symbol)];
            self.cells[state] = Cell { value, extra, bits, base };
        })
    }
}

/// A table that later blocks may use again.
#[derive(Debug, Default)]
struct Kept(Option<Box<Table>>);

impl Kept {
    /// Reads what a block says of one table, and returns what follows it.
    fn read<'a>(&mut self, alphabet: &Alphabet, mode: u8, input: &'a [u8]) -> Result<&'a [u8], UnpackError> {
        match mode {
            0 => {
                let counts = Counts::of(alphabet.usual_accuracy, alphabet.usual);
                self.0.get_or_insert_with(Table::empty).set(alphabet, &counts)?;
                Ok(input)
            }
            1 => {
                let (symbol, rest) = input.split_first().ok_or(UnpackError("a table is cut short"))?;
                let symbol = alphabet.symbols.get(usize::from(*symbol));
                let (value, extra) = *symbol.ok_or(UnpackError("a symbol is of no alphabet"))?;
                let table = self.0.get_or_insert_with(Table::empty);
                table.accuracy = 0;
                table.cells[0] = Cell { value, extra, bits: 0, base: 0 };
                Ok(rest)
            }
            2 => {
                let (counts, rest) = Counts::read(input, alphabet.max_accuracy, alphabet.symbols.len())?;
                self.0.get_or_insert_with(Table::empty).set(alphabet, &counts)?;
                Ok(rest)
            }
            _ if self.0.is_some() => Ok(input),
            _ => Err(UnpackError("a table refers to none before")),
        }
    }
}

/// Runs sequences, and keeps what the next block may refer to.
#[derive(Debug)]
pub(super) struct Sequences {
    literal_lengths: Kept,
    copy_lengths: Kept,
    distances: Kept,
    /// The last three distances, newest first.
    recent: [usize; 3],
}

impl Default for Sequences {
    fn default() -> Self {
        let [literal_lengths, copy_lengths, distances] = Default::default();
        Self { literal_lengths, copy_lengths, distances, recent: [1, 4, 8] }
    }
}

impl Sequences {
    pub(super) fn memory_bytes(&self) -> usize {
        let tables = [&self.literal_lengths, &self.copy_lengths, &self.distances];
        tables.iter().filter(|kept| kept.0.is_some()).count() * size_of::<Table>()
    }

    /// Appends to `history[..at]` what the sequences in `input` make of the literals, which are followed by slack as
    /// the history is; not beyond `end`. Returns where it ends.
    pub(super) fn run(
        &mut self,
        input: &[u8],
        literals: &[u8],
        history: &mut [u8],
        mut at: usize,
        end: usize,
    ) -> Result<usize, UnpackError> {
        let (count, input) = count(input)?;
        let literal_count = literals.len() - SLACK_BYTES;
        let mut used = 0;
        if count > 0 {
            (at, used) = self.run_some(count, input, literals, history, at, end)?;
        } else if !input.is_empty() {
            return Err(UnpackError("a block has more bytes than it uses"));
        }
        let rest = &literals[used..literal_count];
        if rest.len() > end - at {
            return Err(UnpackError("a block is longer than announced"));
        }
        history[at..at + rest.len()].copy_from_slice(rest);
        Ok(at + rest.len())
    }

    /// Returns where the history ends then, and how many literals were used.
    fn run_some(
        &mut self,
        count: usize,
        input: &[u8],
        literals: &[u8],
        history: &mut [u8],
        mut at: usize,
        end: usize,
    ) -> Result<(usize, usize), UnpackError> {
        let (modes, input) = input.split_first().ok_or(UnpackError("a table is cut short"))?;
        if modes & 3 != 0 {
            return Err(UnpackError("a reserved bit is set"));
        }
        let input = self.literal_lengths.read(&LITERAL_LENGTHS, modes >> 6, input)?;
        let input = self.distances.read(&DISTANCES, modes >> 4 & 3, input)?;
        let input = self.copy_lengths.read(&COPY_LENGTHS, modes >> 2 & 3, input)?;
        let (Some(literal_table), Some(copy_table), Some(distance_table)) =
            (&self.literal_lengths.0, &self.copy_lengths.0, &self.distances.0)
        else {
            return Err(UnpackError("a table refers to none before"));
        };
        let literal_count = literals.len() - SLACK_BYTES;
        let mut bits = Bits::new(input)?;
        let mut literal_state = bits.take(literal_table.accuracy) as usize;
        let mut distance_state = bits.take(distance_table.accuracy) as usize;
        let mut copy_state = bits.take(copy_table.accuracy) as usize;
        let mut recent = self.recent;
        let mut used = 0;
        for left in (0..count).rev() {
            let literal_cell = literal_table.cells[literal_state % MAX_STATES];
            let copy_cell = copy_table.cells[copy_state % MAX_STATES];
            let distance_cell = distance_table.cells[distance_state % MAX_STATES];
            bits.refill();
            let distance = distance_cell.value as usize + bits.take(distance_cell.extra.into()) as usize;
            let copied = copy_cell.value as usize + bits.take(copy_cell.extra.into()) as usize;
            bits.refill();
            let taken = literal_cell.value as usize + bits.take(literal_cell.extra.into()) as usize;
            if left > 0 {
                literal_state = usize::from(literal_cell.base) + bits.take(literal_cell.bits.into()) as usize;
                copy_state = usize::from(copy_cell.base) + bits.take(copy_cell.bits.into()) as usize;
                distance_state =
                    usize::from(distance_cell.base) + bits.take(distance_cell.bits.into()) as usize;
            }
            let distance = resolve(&mut recent, distance, taken == 0);
            let start = at + taken;
            if taken > literal_count - used || taken + copied > end - at {
                return Err(UnpackError("a block is longer than announced"));
            }
            if distance == 0 || distance > start || distance > WINDOW_BYTES {
                return Err(UnpackError("a copy points before the window"));
            }
            copy_literals(&literals[used..], &mut history[at..], taken);
            copy_back(history, start, distance, copied);
            used += taken;
            at = start + copied;
        }
        bits.finish()?;
        self.recent = recent;
        Ok((at, used))
    }
}

/// Reads how many sequences there are.
fn count(input: &[u8]) -> Result<(usize, &[u8]), UnpackError> {
    let cut = UnpackError("a block is cut short");
    let (&first, rest) = input.split_first().ok_or(cut)?;
    let first = usize::from(first);
    match first {
        0..128 => Ok((first, rest)),
        128..255 => {
            let (&second, rest) = rest.split_first().ok_or(cut)?;
            Ok(((first - 128) << 8 | usize::from(second), rest))
        }
        _ => {
            let (more, rest) = rest.split_first_chunk::<2>().ok_or(cut)?;
            Ok((usize::from(u16::from_le_bytes(*more)) + 0x7f00, rest))
        }
    }
}

/// Makes a distance of its code: one of the last three, or a new one. 0 when there can be none.
#[inline(always)]
fn resolve(recent: &mut [usize; 3], code: usize, is_without_literals: bool) -> usize {
    if code > 3 {
        let distance = code - 3;
        *recent = [distance, recent[0], recent[1]];
        return distance;
    }
    match code - 1 + usize::from(is_without_literals) {
        0 => {}
        1 => *recent = [recent[1], recent[0], recent[2]],
        2 => *recent = [recent[2], recent[0], recent[1]],
        _ => *recent = [recent[0] - 1, recent[0], recent[1]],
    }
    recent[0]
}

/// Copies `count` bytes between slices that both have [`SLACK_BYTES`] more.
#[inline(always)]
fn copy_literals(from: &[u8], to: &mut [u8], count: usize) {
    if count <= STRIDE
        && let (Some(from), Some(to)) = (from.first_chunk::<STRIDE>(), to.first_chunk_mut::<STRIDE>())
    {
        *to = *from;
    } else {
        to[..count].copy_from_slice(&from[..count]);
    }
}

/// Copies `count` bytes from so far back to `at`; behind what it fills there is slack. The copy may run into itself.
#[inline(always)]
fn copy_back(history: &mut [u8], at: usize, distance: usize, count: usize) {
    if distance >= STRIDE && count <= MAX_STRIDDEN {
        let mut done = 0;
        while done < count {
            history.copy_within(at - distance + done..at - distance + done + STRIDE, at + done);
            done += STRIDE;
        }
    } else if distance >= count {
        history.copy_within(at - distance..at - distance + count, at);
    } else {
        // What was copied doubles what can be copied next.
        let mut done = 0;
        while done < count {
            let piece = (distance + done).min(count - done);
            history.copy_within(at - distance..at - distance + piece, at + done);
            done += piece;
        }
    }
}
