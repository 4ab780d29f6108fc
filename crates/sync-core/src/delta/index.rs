//! The anchors of a signature by their sums.

use crate::block::{Filter, Layout, Signature};

/// Slots that are looked at for one sum: a hostile signature can't make it more.
const PROBES: usize = 16;
/// Words of filter for each anchor: it lets one in 256 offsets through for nothing.
const WORDS_PER_ANCHOR: usize = 4;
/// The most words of filter: with 16,384 anchors, twice as many offsets come through.
const MAX_WORDS: usize = 1 << 15;

/// Finds anchors by their rolling sums, in a table with open addressing.
#[derive(Debug)]
pub(super) struct Index {
    /// Holds each anchor's rolling sum: settles nearly every offset.
    filter: Filter,
    /// A rolling sum and the number of the anchor's block plus one; 0 where the slot is free.
    slots: Vec<(u32, u32)>,
    layout: Layout,
}

/// What is known of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// It is this block.
    At(usize),
    /// Its rolling sum is unknown.
    Nothing,
    /// Its rolling sum was known and the block was not: the window was hashed for nothing.
    Vain,
}

impl Index {
    pub(super) fn new(signature: &Signature) -> Self {
        let layout = signature.layout();
        let anchors = layout.blocks.div_ceil(layout.stride).max(1);
        let filter = Filter::new((anchors * WORDS_PER_ANCHOR).min(MAX_WORDS));
        let slots = vec![(0, 0); (anchors * 2).next_power_of_two()];
        let mut index = Self { filter, slots, layout };
        for (block, sum) in signature.anchors() {
            index.add(signature, block, sum);
        }
        index
    }

    /// Adds an anchor, unless its like is there or too many slots are taken.
    fn add(&mut self, signature: &Signature, block: usize, sum: u32) {
        let strong = signature.strong(self.layout, block);
        let Ok(number) = u32::try_from(block + 1) else { return };
        for place in self.places(sum) {
            match self.slots[place] {
                (_, 0) => {
                    self.slots[place] = (sum, number);
                    self.filter.insert(sum);
                    return;
                }
                (held, number)
                    if held == sum && signature.strong(self.layout, number as usize - 1) == strong =>
                {
                    return;
                }
                _ => {}
            }
        }
    }

    /// Returns the slots where a sum may be, in order. All are within the table.
    fn places(&self, sum: u32) -> impl Iterator<Item = usize> + use<> {
        let mask = self.slots.len() - 1;
        let first = (sum.wrapping_mul(0x9e37_79b1) >> 8) as usize;
        (first..first + PROBES).map(move |place| place & mask)
    }

    pub(super) fn filter(&self) -> &Filter {
        &self.filter
    }

    /// Finds the block with the rolling sum `sum` and the strong sum that `strong` computes if it is needed.
    pub(super) fn find(&self, signature: &Signature, sum: u32, strong: impl Fn() -> u32) -> Found {
        let mut hashed = None;
        for place in self.places(sum) {
            match self.slots[place] {
                (_, 0) => break,
                (held, number) if held == sum => {
                    let block = number as usize - 1;
                    if *hashed.get_or_insert_with(&strong) == signature.strong(self.layout, block) {
                        return Found::At(block);
                    }
                }
                _ => {}
            }
        }
        if hashed.is_some() { Found::Vain } else { Found::Nothing }
    }
}
