//! The sum that finds blocks at any offset.

/// Lanes that a window is summed in: as many bytes as a vector of the smallest machine has.
const LANES: usize = 16;
/// The low bits of a sum's value that a filter may look at.
pub(crate) const FILTER_BITS: u32 = 18;

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

    /// Moves the window on, out of `out` and into `into`, until `filter` holds something at the low bits of its value.
    /// The filter's length is a power of two within [`FILTER_BITS`].
    ///
    /// Returns how many bytes it moved, at least one; `None` when it moved by all there are.
    pub(crate) fn roll_until(&mut self, out: &[u8], into: &[u8], filter: &[u8]) -> Option<usize> {
        // On the stack, the sums would be stored at each byte.
        let mut sum = *self;
        let mask = filter.len().wrapping_sub(1);
        let found = out.iter().zip(into).position(|(out, into)| {
            sum.roll(*out, *into);
            // The low bits of the value are those of the weighted sum.
            filter.get(sum.weighted as usize & mask).is_some_and(|held| *held != 0)
        });
        *self = sum;
        found.map(|before| before + 1)
    }

    pub(crate) fn value(self) -> u32 {
        self.weighted.wrapping_add(self.plain << FILTER_BITS)
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
            let mut filter = [0; 256];
            let slot = |at: usize| Rolling::of(&bytes[at..at + window]).value() as usize & 255;
            filter[slot(wanted)] = 1;
            let first = (1..=wanted).find(|at| slot(*at) == slot(wanted));
            let mut sum = Rolling::of(&bytes[..window]);
            prop_assert_eq!(sum.roll_until(out, into, &filter), first);
            let at = first.unwrap();
            prop_assert_eq!(sum, Rolling::of(&bytes[at..at + window]));
            let mut sum = Rolling::of(&bytes[..window]);
            prop_assert_eq!(sum.roll_until(out, into, &[0; 256]), None);
            prop_assert_eq!(sum, Rolling::of(&bytes[bytes.len() - window..]));
        }
    }
}
