//! The sum that finds blocks at any offset.

/// Lanes that a window is summed in: as many bytes as a vector of the smallest machine has.
const LANES: usize = 16;
/// The bits of a sum's value that hold the weighted sum: the low ones. The rest are of the plain sum.
const WEIGHTED_BITS: u32 = 24;

/// A set of sums that may hold more than was put in: the weighted sum chooses a word and the plain sum a bit of it.
#[derive(Debug)]
pub(crate) struct Filter {
    /// A power of two of them.
    words: Vec<u64>,
}

impl Filter {
    /// Returns an empty set with at least this many words of 64 bits, as far as a value can tell them apart.
    pub(crate) fn new(words: usize) -> Self {
        Self { words: vec![0; words.next_power_of_two().min(1 << WEIGHTED_BITS)] }
    }

    /// Puts in the sum with this value.
    pub(crate) fn insert(&mut self, value: u32) {
        let mask = self.words.len() - 1;
        self.words[value as usize & mask] |= 1 << ((value >> WEIGHTED_BITS) % 64);
    }

    fn holds(&self, sum: Rolling) -> bool {
        let mask = self.words.len().wrapping_sub(1);
        self.words.get(sum.weighted as usize & mask).is_some_and(|word| (word >> (sum.plain % 64)) & 1 != 0)
    }
}

/// A sum of a window of bytes that can be moved on by one byte without reading the window again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rolling {
    /// The sum of the bytes.
    plain: u32,
    /// The sum of the bytes, each as often as there are bytes from it to the window's end.
    weighted: u32,
    length: u32,
}

impl Rolling {
    #[expect(clippy::cast_possible_truncation, reason = "a lane's number, and sums that wrap anyway")]
    pub(crate) fn of(window: &[u8]) -> Self {
        // Each lane is summed by itself, so that the compiler can do them at once.
        let (mut plains, mut weights) = ([0u32; LANES], [0u32; LANES]);
        let (rows, rest) = window.as_chunks::<LANES>();
        for row in rows {
            for lane in 0..LANES {
                plains[lane] = plains[lane].wrapping_add(u32::from(row[lane]));
                weights[lane] = weights[lane].wrapping_add(plains[lane]);
            }
        }
        let (mut plain, mut weighted) = (0u32, 0u32);
        for lane in 0..LANES {
            plain = plain.wrapping_add(plains[lane]);
            let before = plains[lane].wrapping_mul(lane as u32);
            weighted = weighted.wrapping_add(weights[lane].wrapping_mul(LANES as u32)).wrapping_sub(before);
        }
        for byte in rest {
            plain = plain.wrapping_add(u32::from(*byte));
            weighted = weighted.wrapping_add(plain);
        }
        Self { plain, weighted, length: window.len() as u32 }
    }

    /// Moves the window one byte on.
    fn roll(&mut self, out: u8, into: u8) {
        let (out, into) = (u32::from(out), u32::from(into));
        self.plain = self.plain.wrapping_add(into.wrapping_sub(out));
        // Both sums wait for one addition of the round before, and for nothing else.
        self.weighted = self.weighted.wrapping_add(self.plain.wrapping_sub(self.length.wrapping_mul(out)));
    }

    /// Moves the window on, out of `out` and into `into`, until `filter` holds its sum.
    ///
    /// Returns how many bytes it moved, at least one; `None` when it moved by all there are.
    pub(crate) fn roll_until(&mut self, out: &[u8], into: &[u8], filter: &Filter) -> Option<usize> {
        // This loop is what a version that shares nothing costs: the sum is a local, and eight bytes share a counter.
        let mut sum = *self;
        let mut step = |out: u8, into: u8| {
            sum.roll(out, into);
            filter.holds(sum)
        };
        let count = out.len().min(into.len());
        let (out_rows, out_rest) = out[..count].as_chunks::<8>();
        let (into_rows, into_rest) = into[..count].as_chunks::<8>();
        let in_row = |(row, (out, into)): (usize, (&[u8; 8], &[u8; 8]))| {
            (0..8).find(|at| step(out[*at], into[*at])).map(|at| row * 8 + at)
        };
        let found = out_rows.iter().zip(into_rows).enumerate().find_map(in_row).or_else(|| {
            let at = out_rest.iter().zip(into_rest).position(|(out, into)| step(*out, *into))?;
            Some(count - out_rest.len() + at)
        });
        *self = sum;
        found.map(|before| before + 1)
    }

    pub(crate) fn value(self) -> u32 {
        (self.weighted & ((1 << WEIGHTED_BITS) - 1)) | (self.plain << WEIGHTED_BITS)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The same sum, byte by byte.
    fn slowly(window: &[u8]) -> (u32, u32) {
        window.iter().fold((0, 0), |(plain, weighted): (u32, u32), byte| {
            let plain = plain.wrapping_add(u32::from(*byte));
            (plain, weighted.wrapping_add(plain))
        })
    }

    proptest! {
        #[test]
        fn lanes_give_the_same_sum(window: Vec<u8>) {
            let sum = Rolling::of(&window);
            prop_assert_eq!((sum.plain, sum.weighted), slowly(&window));
        }

        #[test]
        fn rolling_is_the_sum_of_the_window(bytes: Vec<u8>, window in 1usize..50) {
            prop_assume!(bytes.len() >= window);
            let mut sum = Rolling::of(&bytes[..window]);
            for at in 1..=bytes.len() - window {
                sum.roll(bytes[at - 1], bytes[at + window - 1]);
                prop_assert_eq!(sum, Rolling::of(&bytes[at..at + window]));
            }
        }

        #[test]
        fn rolling_stops_where_the_filter_holds(bytes: Vec<u8>, window in 1usize..20, to in any::<prop::sample::Index>()) {
            prop_assume!(bytes.len() > window);
            let (out, into) = (&bytes[..bytes.len() - window], &bytes[window..]);
            let wanted = to.index(out.len()) + 1;
            let mut filter = Filter::new(4);
            filter.insert(Rolling::of(&bytes[wanted..wanted + window]).value());
            let first = (1..=wanted).find(|at| filter.holds(Rolling::of(&bytes[*at..at + window])));
            let mut sum = Rolling::of(&bytes[..window]);
            prop_assert_eq!(sum.roll_until(out, into, &filter), first);
            let at = first.unwrap();
            prop_assert_eq!(sum, Rolling::of(&bytes[at..at + window]));
            let mut sum = Rolling::of(&bytes[..window]);
            prop_assert_eq!(sum.roll_until(out, into, &Filter::new(4)), None);
            prop_assert_eq!(sum, Rolling::of(&bytes[bytes.len() - window..]));
        }
    }
}
