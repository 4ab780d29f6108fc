//! Numbers by their hashes, in eight bytes each: who looks one up knows what else to compare.

/// Stands for nothing.
const EMPTY: u32 = u32::MAX;
/// Where a table begins, a power of two.
const LEAST_SLOTS: usize = 16;

/// A table of numbers, several of which may have the same hash.
#[derive(Debug, Default)]
pub(crate) struct Index {
    /// Hash and number; none, or a power of two. Each is at its hash or after it with no gap between.
    slots: Vec<(u32, u32)>,
    len: usize,
}

impl Index {
    /// Adds a number, which is not the greatest of all.
    pub(crate) fn insert(&mut self, hash: u32, number: u32) {
        if (self.len + 1) * 4 > self.slots.len() * 3 {
            let slots = vec![(0, EMPTY); (self.slots.len() * 2).max(LEAST_SLOTS)];
            for (hash, number) in std::mem::replace(&mut self.slots, slots) {
                if number != EMPTY {
                    self.put(hash, number);
                }
            }
        }
        self.put(hash, number);
        self.len += 1;
    }

    /// Takes a number away.
    pub(crate) fn remove(&mut self, hash: u32, number: u32) {
        let Some(mut gap) = self.probe(hash).find(|at| self.slots[*at] == (hash, number)) else { return };
        self.len -= 1;
        let mask = self.slots.len() - 1;
        let mut at = gap;
        loop {
            at = (at + 1) & mask;
            let (hash, number) = self.slots[at];
            if number == EMPTY {
                break;
            }
            // What would be found no more with a gap before it moves into the gap.
            if at.wrapping_sub(hash as usize) & mask >= at.wrapping_sub(gap) & mask {
                self.slots[gap] = (hash, number);
                gap = at;
            }
        }
        self.slots[gap] = (0, EMPTY);
    }

    /// Returns the numbers of this hash.
    pub(crate) fn numbers(&self, hash: u32) -> impl Iterator<Item = u32> {
        let alike = self.probe(hash).map(|at| self.slots[at]).filter(move |(other, _)| *other == hash);
        alike.map(|(_, number)| number)
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    fn put(&mut self, hash: u32, number: u32) {
        let mask = self.slots.len() - 1;
        let mut at = hash as usize & mask;
        // A quarter of the slots is empty.
        while self.slots[at].1 != EMPTY {
            at = (at + 1) & mask;
        }
        self.slots[at] = (hash, number);
    }

    /// Goes through the slots that are taken, from the one of a hash on.
    fn probe(&self, hash: u32) -> impl Iterator<Item = usize> {
        let mask = self.slots.len().wrapping_sub(1);
        let first = hash as usize;
        (0..self.slots.len())
            .map(move |step| (first + step) & mask)
            .take_while(|at| self.slots[*at].1 != EMPTY)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_was_put_in_is_found(steps in prop::collection::vec((any::<bool>(), 0..40_u32, 0..20_u32), 0..400)) {
            let (mut index, mut model) = (Index::default(), Vec::new());
            for (add, hash, number) in steps {
                // Most of them are close together, and around the end.
                let hash = hash.wrapping_sub(10);
                let at = model.iter().position(|entry| *entry == (hash, number));
                match (add, at) {
                    (true, None) => {
                        index.insert(hash, number);
                        model.push((hash, number));
                    }
                    (true, Some(_)) => {}
                    (false, at) => {
                        index.remove(hash, number);
                        at.map(|at| model.swap_remove(at));
                    }
                }
                prop_assert_eq!(index.len(), model.len());
            }
            for hash in (0..40_u32).map(|hash| hash.wrapping_sub(10)) {
                let mut found: Vec<_> = index.numbers(hash).collect();
                let mut all: Vec<_> = model.iter().filter(|(of, _)| *of == hash).map(|(_, number)| *number).collect();
                found.sort_unstable();
                all.sort_unstable();
                prop_assert_eq!(found, all);
            }
        }
    }
}
