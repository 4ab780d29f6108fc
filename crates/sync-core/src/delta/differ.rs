//! Finds what a newer version shares with an older one, in one pass.

use std::io;

use super::index::{Found, Index};
use crate::block::{Layout, Rolling, Signature, strong};

/// Bytes taken at once of a longer piece.
const PIECE_BYTES: usize = 256 * 1024;
/// Blocks that may be hashed for nothing, at the start and for each block's worth of content: hashing is many times
/// faster than rolling, and with a limit a signature that hits everywhere can't slow anything down.
const VAIN_AT_START: u64 = 64;
const VAIN_PER_BLOCK: u64 = 8;
/// Bytes that may be rolled over twice at the start; later as many as there were bytes.
const DETOUR_AT_START: u64 = 1 << 20;

/// One step in building the newer version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step<'a> {
    /// A range of the older version, in bytes; never empty. Ranges that follow each other come as one.
    Copy {
        /// From where.
        offset: u64,
        /// How many.
        length: u64,
    },
    /// Bytes that the older version does not have, or not where they could be found; never empty.
    Literal {
        /// Where they are in the newer version.
        offset: u64,
        /// The bytes.
        bytes: &'a [u8],
    },
}

/// Compares a newer version, which comes in pieces of any length, with the signature of an older one.
///
/// While the content goes on as the older version does, at any shift, each block is hashed once and nothing else. A
/// block that differs is first held against those that follow it (an overwrite in place); then a sum is rolled from
/// byte to byte until an anchor is found, the next one if it is near, and from there the blocks are compared backwards too. So an edit costs about
/// one block of literals.
///
/// The steps don't depend on how the content was cut into pieces. Memory is the caller's longest piece, a few hundred
/// KiB around an edit and, once something differs, at most 0.6 MB to find anchors in; more only for versions above
/// 1 GiB. Time is bounded by the content's length, whatever the signature says.
#[derive(Debug)]
pub struct Differ {
    signature: Signature,
    layout: Layout,
    /// Made when something differs for the first time.
    index: Option<Index>,
    /// The content from `start` on; what lies beyond `end` is yet to come.
    buffer: Vec<u8>,
    start: u64,
    end: usize,
    /// Where in the buffer the bytes begin that nothing is known of yet.
    literal: usize,
    /// Where in the buffer the search is: `literal` and what follows, up to here, is not the start of anything.
    at: usize,
    mode: Mode,
    /// A range to be copied that may still grow.
    copy: Option<(u64, u64)>,
    /// How many blocks were hashed for nothing.
    vain: u64,
    /// How many bytes were rolled over for nothing, to be rolled over again.
    detour: u64,
}

#[derive(Debug, Clone, Copy)]
enum Mode {
    /// The next block should be this one.
    Follow { block: usize },
    /// It was not; the ones behind it may be.
    Differs { block: usize },
    /// They were not; the next anchor should not be far. From this place in the content it is looked for.
    Near { anchor: usize, from: u64, sum: Rolling },
    /// Anything may come.
    Search,
    /// Nothing was found so far, and this is the sum of the window.
    Roll(Rolling),
}

/// What a [`Differ`] calls with each step.
pub type Emit<'a> = dyn FnMut(Step<'_>) -> io::Result<()> + 'a;

impl Differ {
    /// Returns a comparison with the version that `signature` was made of.
    pub fn new(signature: &Signature) -> Self {
        Self {
            signature: signature.clone(),
            layout: signature.layout(),
            index: None,
            buffer: Vec::new(),
            start: 0,
            end: 0,
            literal: 0,
            at: 0,
            mode: Mode::Follow { block: 0 },
            copy: None,
            vain: 0,
            detour: 0,
        }
    }

    /// Returns room for the next `length` bytes of content, to be read into and then [`filled`](Self::filled): so they
    /// are never copied.
    pub fn space(&mut self, length: usize) -> &mut [u8] {
        if self.buffer.len() - self.end < length {
            self.buffer.copy_within(self.literal..self.end, 0);
            self.start += self.literal as u64;
            self.end -= self.literal;
            self.at -= self.literal;
            self.literal = 0;
            // Twice what is kept, so that short pieces don't move it every time.
            let wanted = (self.end + length).max(2 * self.end);
            if self.buffer.len() < wanted {
                self.buffer.resize(wanted, 0);
            }
        }
        &mut self.buffer[self.end..self.end + length]
    }

    /// Compares the first `count` bytes of the [`space`](Self::space) given last.
    ///
    /// Fails only with what `emit` fails with; nothing may be done with it then.
    pub fn filled(&mut self, count: usize, emit: &mut Emit<'_>) -> io::Result<()> {
        self.end = (self.end + count).min(self.buffer.len());
        self.run(false, emit)?;
        // What is left before the search can still turn out to belong to a block that is found later.
        let searched = match self.mode {
            Mode::Near { from, .. } => place_in(from, self.start),
            _ => self.at,
        };
        let keep = self.layout.reach() * self.layout.block;
        self.emit_literal(searched.saturating_sub(keep), emit)
    }

    /// Compares bytes that lie elsewhere already, as [`filled`](Self::filled) does.
    pub fn push(&mut self, bytes: &[u8], emit: &mut Emit<'_>) -> io::Result<()> {
        for piece in bytes.chunks(PIECE_BYTES) {
            self.space(piece.len()).copy_from_slice(piece);
            self.filled(piece.len(), emit)?;
        }
        Ok(())
    }

    /// Ends the content.
    pub fn finish(mut self, emit: &mut Emit<'_>) -> io::Result<()> {
        self.run(true, emit)?;
        if self.literal < self.end {
            // The end may be that of the older version, with no anchor near.
            let (from, block) = self.extend_back(self.end, self.layout.blocks);
            self.emit_literal(from, emit)?;
            if from < self.end {
                let offset = self.offset_of(block);
                self.add_copy(offset, self.signature.size() - offset, emit)?;
            }
        }
        self.emit_copy(emit)
    }

    /// Goes on until more content is needed.
    fn run(&mut self, ended: bool, emit: &mut Emit<'_>) -> io::Result<()> {
        loop {
            let goes_on = match self.mode {
                Mode::Follow { block } => self.follow(block, emit)?,
                Mode::Differs { block } => self.look_ahead(block, ended),
                Mode::Near { anchor, from, sum } => self.look_near(anchor, from, sum, ended, emit)?,
                Mode::Search | Mode::Roll(_) => self.search(emit)?,
            };
            if !goes_on {
                return Ok(());
            }
        }
    }

    /// Takes blocks as long as they are those of the older version, in order.
    fn follow(&mut self, mut block: usize, emit: &mut Emit<'_>) -> io::Result<bool> {
        self.mode = loop {
            let Some(length) = self.layout.length(block) else { break Mode::Search };
            if self.end - self.at < length {
                self.mode = Mode::Follow { block };
                return Ok(false);
            }
            if !self.is_block(self.at, block) {
                break Mode::Differs { block };
            }
            self.emit_literal(self.at, emit)?;
            self.add_copy(self.offset_of(block), length as u64, emit)?;
            self.at += length;
            self.literal = self.at;
            block += 1;
        };
        Ok(true)
    }

    /// Steps over blocks that were overwritten in place.
    fn look_ahead(&mut self, block: usize, ended: bool) -> bool {
        let ahead = self.layout.reach() / 2;
        if !ended && self.end - self.at < (ahead + 1) * self.layout.block {
            return false;
        }
        let found =
            (1..=ahead).find(|ahead| self.is_block(self.at + ahead * self.layout.block, block + ahead));
        self.mode = match found {
            Some(ahead) => {
                self.at += ahead * self.layout.block;
                Mode::Follow { block: block + ahead }
            }
            None => self.near(block),
        };
        true
    }

    /// Returns how to go on where `block` and what follows it differs.
    ///
    /// Content may repeat: what is found first is often a likeness that ends soon. So the place where the older
    /// version goes on is looked for first, if it can be near.
    fn near(&self, block: usize) -> Mode {
        let length = self.layout.block;
        let anchor = block.next_multiple_of(self.layout.stride);
        let from = self.start + self.at as u64;
        match self.buffer[self.at..self.end].get(..length) {
            Some(window)
                if self.layout.reach() > 1
                    && self.layout.length(anchor) == Some(length)
                    && self.detour <= from + DETOUR_AT_START =>
            {
                Mode::Near { anchor, from, sum: Rolling::of(window) }
            }
            _ => Mode::Search,
        }
    }

    /// Rolls on until one of the next two anchors is found, and back if none is where a small edit would have left it.
    fn look_near(
        &mut self,
        anchor: usize,
        from: u64,
        mut sum: Rolling,
        ended: bool,
        emit: &mut Emit<'_>,
    ) -> io::Result<bool> {
        let length = self.layout.block;
        let index = self.index.get_or_insert_with(|| Index::new(&self.signature));
        // The edit may have hit the first of them.
        let anchors = [anchor, anchor + self.layout.stride];
        let sums = anchors.map(|anchor| self.signature.rolling(self.layout, anchor));
        let start = place_in(from, self.start);
        let limit = start + 2 * self.layout.reach() * length;
        let last = limit.min(self.end - length);
        while !sums.contains(&sum.value()) {
            let (out, into) = (&self.buffer[self.at..last], &self.buffer[self.at + length..last + length]);
            if let Some(moved) = sum.roll_until(out, into, index.filter()) {
                self.at += moved;
                continue;
            }
            self.at = last;
            if last < limit && !ended {
                self.mode = Mode::Near { anchor, from, sum };
                return Ok(false);
            }
            break;
        }
        let mut held = anchors.into_iter().zip(sums).filter(|(_, held)| *held == sum.value());
        if let Some((anchor, _)) = held.find(|(anchor, _)| self.is_block(self.at, *anchor)) {
            self.found(anchor, emit)?;
        } else {
            self.detour += (self.at - start) as u64;
            self.at = start;
            self.mode = Mode::Search;
        }
        Ok(true)
    }

    /// Rolls on until an anchor is found.
    fn search(&mut self, emit: &mut Emit<'_>) -> io::Result<bool> {
        let length = self.layout.block;
        let Some(last) = self.end.checked_sub(length).filter(|last| self.at <= *last) else {
            return Ok(false);
        };
        if self.signature.size() < length as u64 {
            // There is no anchor.
            self.at = self.end;
            return Ok(false);
        }
        let index = self.index.get_or_insert_with(|| Index::new(&self.signature));
        let (mut sum, mut looked) = match self.mode {
            Mode::Roll(sum) => (sum, true),
            _ => (Rolling::of(&self.buffer[self.at..self.at + length]), false),
        };
        loop {
            let window = &self.buffer[self.at..self.at + length];
            // A block's length is a power of two.
            let seen = (self.start + self.at as u64) >> length.trailing_zeros();
            if !looked && self.vain <= VAIN_AT_START + seen * VAIN_PER_BLOCK {
                match index.find(&self.signature, sum.value(), || strong(window)) {
                    Found::At(block) => return self.found(block, emit).map(|()| true),
                    Found::Vain => self.vain += 1,
                    Found::Nothing => {}
                }
            }
            looked = false;
            let (out, into) = (&self.buffer[self.at..last], &self.buffer[self.at + length..self.end]);
            let Some(moved) = sum.roll_until(out, into, index.filter()) else {
                self.at = last;
                self.mode = Mode::Roll(sum);
                return Ok(false);
            };
            self.at += moved;
        }
    }

    /// Takes a block that was found at `at`, and those before it.
    fn found(&mut self, block: usize, emit: &mut Emit<'_>) -> io::Result<()> {
        let (from, first) = self.extend_back(self.at, block);
        self.emit_literal(from, emit)?;
        let offset = self.offset_of(first);
        if first < block {
            self.add_copy(offset, self.offset_of(block) - offset, emit)?;
        }
        self.literal = self.at;
        self.mode = Mode::Follow { block };
        Ok(())
    }

    /// Returns where the blocks that end before `block`, which begins `at`, begin, and the first of them.
    fn extend_back(&self, mut at: usize, mut block: usize) -> (usize, usize) {
        for _ in 0..self.layout.reach() {
            let Some(before) = block.checked_sub(1) else { break };
            let from = self.layout.length(before).and_then(|length| at.checked_sub(length));
            let Some(from) = from.filter(|from| *from >= self.literal && self.is_block(*from, before)) else {
                break;
            };
            (at, block) = (from, before);
        }
        (at, block)
    }

    /// Tells whether the content `at` is this block of the older version.
    fn is_block(&self, at: usize, block: usize) -> bool {
        let end = self.layout.length(block).map(|length| at + length).filter(|end| *end <= self.end);
        end.is_some_and(|end| strong(&self.buffer[at..end]) == self.signature.strong(self.layout, block))
    }

    /// Returns where in the older version a block begins.
    fn offset_of(&self, block: usize) -> u64 {
        block as u64 * self.layout.block as u64
    }

    fn emit_literal(&mut self, until: usize, emit: &mut Emit<'_>) -> io::Result<()> {
        if self.literal < until {
            self.emit_copy(emit)?;
            let offset = self.start + self.literal as u64;
            emit(Step::Literal { offset, bytes: &self.buffer[self.literal..until] })?;
            self.literal = until;
        }
        Ok(())
    }

    fn add_copy(&mut self, offset: u64, length: u64, emit: &mut Emit<'_>) -> io::Result<()> {
        if let Some((start, before)) = &mut self.copy
            && *start + *before == offset
        {
            *before += length;
            return Ok(());
        }
        self.emit_copy(emit)?;
        self.copy = Some((offset, length));
        Ok(())
    }

    fn emit_copy(&mut self, emit: &mut Emit<'_>) -> io::Result<()> {
        self.copy.take().map_or(Ok(()), |(offset, length)| emit(Step::Copy { offset, length }))
    }
}

/// Returns where a place in the content is in a buffer that begins at `start`. What is in memory fits.
fn place_in(offset: u64, start: u64) -> usize {
    usize::try_from(offset - start).unwrap_or_default()
}
