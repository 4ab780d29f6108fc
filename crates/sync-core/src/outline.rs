//! What a side is believed to hold, in so few words that it fits one message: a side that holds the same says so in
//! fewer still.
//!
//! Entries in the order of their paths are cut into pieces, each of which begins at a path whose hash says so. The same
//! entries are thus cut the same way wherever they are, and a change touches the piece that it is in, or two. A piece
//! is known by a digest of all that is in it, paths and all: who has a piece of that digest has those entries.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use serde::{Deserialize, Serialize};
use twox_hash::XxHash3_64;

use crate::path::RelPath;
use crate::snapshot::Entry;

/// A piece ends after this many times the number of entries that a piece has on average.
const LONGEST: usize = 8;
/// The largest pieces have 2 to this power entries on average.
const MAX_SPREAD: u8 = 16;

/// So much is hashed at once, in bytes.
const HASHED_BYTES: usize = 64 * 1024;

/// The digest of a piece: half a BLAKE3.
pub type Digest = [u8; 16];

/// The digests of a picture's pieces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outline {
    /// A piece has 2 to this power entries on average.
    spread: u8,
    /// In the order of the pieces.
    digests: Vec<Digest>,
}

/// How a picture compares with an outline of what it was believed to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comparison<'a> {
    /// One bit for each of the outline's pieces, the lowest of the first byte first: it is here just so.
    pub same: Vec<u8>,
    /// What is in no piece that is here just so.
    pub rest: Vec<(&'a RelPath, &'a Entry)>,
}

/// Why an answer to an outline can't be understood: it speaks of other pieces than there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an answer to an outline of {pieces} pieces has {bytes} bytes, or names another piece")]
pub struct SameError {
    /// How many pieces there are.
    pub pieces: usize,
    /// How long the answer is.
    pub bytes: usize,
}

impl Outline {
    /// Returns the outline of a picture.
    ///
    /// Many small pieces make it long, few large ones make a change dear: both grow with the root of the number of
    /// entries.
    pub fn of(entries: &BTreeMap<RelPath, Entry>) -> Self {
        let bits = u8::try_from(entries.len().checked_ilog2().unwrap_or(0)).unwrap_or(MAX_SPREAD);
        let spread = (bits / 2).saturating_sub(1).clamp(4, MAX_SPREAD);
        let pieces = Pieces::new(spread, entries.iter());
        Self { spread, digests: pieces.map(|piece| digest(&piece)).collect() }
    }

    /// Compares a picture, given in the order of paths, with this outline.
    pub fn compare<'a>(&self, entries: impl Iterator<Item = (&'a RelPath, &'a Entry)>) -> Comparison<'a> {
        let entries: Vec<_> = entries.collect();
        let mut comparing = self.comparing();
        for (path, entry) in &entries {
            comparing.push(path.as_str(), entry);
        }
        let (same, rest) = comparing.end();
        Comparison { same, rest: rest.into_iter().flat_map(|range| entries[range].iter().copied()).collect() }
    }

    /// Begins to compare a picture with this outline, entry by entry.
    pub fn comparing(&self) -> Comparing<'_> {
        Comparing {
            spread: self.spread.min(MAX_SPREAD),
            known: self.digests.iter().zip(0..).collect(),
            same: vec![0; self.digests.len().div_ceil(8)],
            rest: Vec::new(),
            piece: 0..0,
            digesting: Digesting::default(),
        }
    }

    /// Returns what of `entries`, whose outline this is, lies in the pieces that somebody said were the same.
    pub fn keep(
        &self,
        mut entries: BTreeMap<RelPath, Entry>,
        same: &[u8],
    ) -> Result<BTreeMap<RelPath, Entry>, SameError> {
        let pieces = self.digests.len();
        let is_same = |index: usize| same[index / 8] & 1 << (index % 8) != 0;
        if same.len() != pieces.div_ceil(8) || (pieces..same.len() * 8).any(is_same) {
            return Err(SameError { pieces, bytes: same.len() });
        }
        if (0..pieces).all(is_same) {
            return Ok(entries);
        }
        let others =
            Pieces::new(self.spread, entries.iter()).enumerate().filter(|(index, _)| !is_same(*index));
        let others: Vec<RelPath> =
            others.flat_map(|(_, piece)| piece.into_iter().map(|(path, _)| path.clone())).collect();
        if others.len() == entries.len() {
            return Ok(BTreeMap::new());
        }
        for path in others {
            entries.remove(&path);
        }
        Ok(entries)
    }
}

/// A comparison of a picture, which need not be all there at once, with an outline.
#[derive(Debug)]
pub struct Comparing<'a> {
    spread: u8,
    known: HashMap<&'a Digest, usize>,
    same: Vec<u8>,
    rest: Vec<Range<usize>>,
    /// The numbers of the entries in the piece under way.
    piece: Range<usize>,
    digesting: Digesting,
}

impl Comparing<'_> {
    /// Adds the next entry, in the order of paths.
    pub fn push(&mut self, path: &str, entry: &Entry) {
        let is_full = self.piece.len() == LONGEST << self.spread;
        if is_full || (!self.piece.is_empty() && begins_piece(path, self.spread)) {
            self.end_piece();
        }
        self.digesting.add(path, entry);
        self.piece.end += 1;
    }

    /// Returns [`Comparison::same`], and of what is in no such piece the numbers of the entries, counted from the first.
    pub fn end(mut self) -> (Vec<u8>, Vec<Range<usize>>) {
        if !self.piece.is_empty() {
            self.end_piece();
        }
        (self.same, self.rest)
    }

    fn end_piece(&mut self) {
        match self.known.get(&self.digesting.end()) {
            Some(index) => self.same[index / 8] |= 1 << (index % 8),
            None => match self.rest.last_mut().filter(|last| last.end == self.piece.start) {
                Some(last) => last.end = self.piece.end,
                None => self.rest.push(self.piece.clone()),
            },
        }
        self.piece = self.piece.end..self.piece.end;
    }
}

/// Cuts entries into pieces.
struct Pieces<'a, I: Iterator<Item = (&'a RelPath, &'a Entry)>> {
    entries: std::iter::Peekable<I>,
    spread: u8,
}

impl<'a, I: Iterator<Item = (&'a RelPath, &'a Entry)>> Pieces<'a, I> {
    fn new(spread: u8, entries: I) -> Self {
        Self { entries: entries.peekable(), spread: spread.min(MAX_SPREAD) }
    }
}

impl<'a, I: Iterator<Item = (&'a RelPath, &'a Entry)>> Iterator for Pieces<'a, I> {
    type Item = Vec<(&'a RelPath, &'a Entry)>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut piece = vec![self.entries.next()?];
        let longest = LONGEST << self.spread;
        while piece.len() < longest
            && let Some((path, _)) = self.entries.peek()
            && !begins_piece(path.as_str(), self.spread)
        {
            piece.extend(self.entries.next());
        }
        Some(piece)
    }
}

fn begins_piece(path: &str, spread: u8) -> bool {
    XxHash3_64::oneshot(path.as_bytes()).trailing_zeros() >= spread.into()
}

fn digest(piece: &[(&RelPath, &Entry)]) -> Digest {
    let mut digesting = Digesting::default();
    for (path, entry) in piece {
        digesting.add(path.as_str(), entry);
    }
    digesting.end()
}

/// The digest of a piece in the making. Each entry's bytes say how many they are, so no two pieces have the same.
#[derive(Debug, Default)]
struct Digesting {
    hasher: blake3::Hasher,
    /// Not yet hashed: many bytes at once are hashed faster.
    bytes: Vec<u8>,
}

impl Digesting {
    fn add(&mut self, path: &str, entry: &Entry) {
        let bytes = &mut self.bytes;
        bytes.extend((path.len() as u64).to_le_bytes());
        bytes.extend(path.as_bytes());
        match entry {
            Entry::Directory => bytes.push(0),
            Entry::File(file) => {
                bytes.extend([1, u8::from(file.executable)]);
                bytes.extend(file.size.to_le_bytes());
                bytes.extend(file.hash.0);
            }
            Entry::Symlink { target } => {
                bytes.push(2);
                bytes.extend((target.len() as u64).to_le_bytes());
                bytes.extend(target.as_bytes());
            }
            Entry::Opaque(opaque) => bytes.extend([3, *opaque as u8]),
        }
        if bytes.len() >= HASHED_BYTES {
            self.hasher.update(bytes);
            bytes.clear();
        }
    }

    /// Returns the digest and begins anew.
    fn end(&mut self) -> Digest {
        let hash = self.hasher.update(&self.bytes).finalize();
        self.hasher.reset();
        self.bytes.clear();
        let mut digest = [0; 16];
        digest.copy_from_slice(&hash.as_bytes()[..16]);
        digest
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::snapshot::{File, Hash, Opaque};

    type Tree = BTreeMap<RelPath, Entry>;

    fn tree(count: usize) -> Tree {
        let file = |n: usize| File { hash: Hash::of(&n.to_le_bytes()), size: 1, executable: false };
        (0..count).map(|n| (RelPath::new(format!("{}/{n}", n % 97)).unwrap(), Entry::File(file(n)))).collect()
    }

    /// What the other end makes of an answer.
    fn understood(believed: &Tree, real: &Tree) -> (Tree, usize) {
        let outline = Outline::of(believed);
        let Comparison { same, rest } = outline.compare(real.iter());
        let mut tree = outline.keep(believed.clone(), &same).unwrap();
        let told = rest.len();
        tree.extend(rest.into_iter().map(|(path, entry)| (path.clone(), entry.clone())));
        (tree, told)
    }

    fn entry() -> impl Strategy<Value = Entry> {
        prop_oneof![
            Just(Entry::Directory),
            "[xy]{0,2}".prop_map(|target| Entry::Symlink { target }),
            any::<bool>().prop_map(|mount| Entry::Opaque(if mount {
                Opaque::Mount
            } else {
                Opaque::Special
            })),
            (0..3u8, 0..3u64, any::<bool>()).prop_map(|(hash, size, executable)| Entry::File(File {
                hash: Hash([hash; 32]),
                size,
                executable
            })),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn an_answer_gives_the_picture_whatever_was_believed(
            edits in prop::collection::vec((0..600usize, prop::option::of(entry())), 0..40),
            count in 0..400usize,
        ) {
            let believed = tree(count);
            let mut real = believed.clone();
            for (at, entry) in edits {
                let path = RelPath::new(format!("{}/{at}", at % 97)).unwrap();
                match entry {
                    Some(entry) => real.insert(path, entry),
                    None => real.remove(&path),
                };
            }
            prop_assert_eq!(&understood(&believed, &real).0, &real);
            prop_assert_eq!(&understood(&real, &believed).0, &believed);
            prop_assert_eq!(&understood(&Tree::new(), &real).0, &real);
            prop_assert_eq!(understood(&real, &real), (real, 0));
        }
    }

    #[test]
    fn every_difference_is_seen() {
        let file =
            |hash: u8, size, executable| Entry::File(File { hash: Hash([hash; 32]), size, executable });
        let link = |target: &str| Entry::Symlink { target: target.to_owned() };
        let mut entries =
            vec![Entry::Directory, Entry::Opaque(Opaque::Mount), Entry::Opaque(Opaque::Special)];
        entries.extend([link("a"), link("b"), link("ab"), file(0, 0, false), file(0, 0, true)]);
        entries.extend([file(0, 1, false), file(1, 0, false)]);
        let trees: Vec<Tree> = entries
            .iter()
            .flat_map(|entry| ["a", "b"].map(|at| Tree::from([(RelPath::new(at).unwrap(), entry.clone())])))
            .collect();
        for (index, one) in trees.iter().enumerate() {
            for (other_index, other) in trees.iter().enumerate() {
                assert_eq!(Outline::of(one) == Outline::of(other), index == other_index, "{one:?} {other:?}");
            }
        }
    }

    #[test]
    fn one_change_costs_about_one_piece() {
        let believed = tree(50_000);
        let outline = Outline::of(&believed);
        assert!((400..1600).contains(&outline.digests.len()), "{}", outline.digests.len());
        let mut worst = 0;
        for at in (0..50_000).step_by(10_000) {
            let mut real = believed.clone();
            real.remove(&RelPath::new(format!("{}/{at}", at % 97)).unwrap());
            worst = worst.max(understood(&believed, &real).1);
        }
        assert!((1..1100).contains(&worst), "{worst}");
    }

    #[test]
    fn an_answer_about_other_pieces_is_refused() {
        let believed = tree(500);
        let outline = Outline::of(&believed);
        let pieces = outline.digests.len();
        let all = outline.compare(believed.iter()).same;
        assert_eq!(outline.keep(believed.clone(), &all).unwrap(), believed);
        assert_eq!(outline.keep(believed.clone(), &vec![0; all.len()]).unwrap(), Tree::new());
        assert!(outline.keep(believed.clone(), &all[1..]).is_err());
        assert!(outline.keep(believed.clone(), &[&all[..], &[0]].concat()).is_err());
        assert!(!pieces.is_multiple_of(8), "{pieces} pieces leave bits over");
        let mut over = all;
        *over.last_mut().unwrap() |= 0x80;
        assert!(outline.keep(believed, &over).is_err());
    }

    #[test]
    fn golden_outline() {
        let hash = Hash::of(&0usize.to_le_bytes());
        let bytes = [&3u64.to_le_bytes()[..], b"0/0", &[1, 0], &1u64.to_le_bytes(), &hash.0].concat();
        let digest = blake3::hash(&bytes).as_bytes()[..16].try_into().unwrap();
        assert_eq!(Outline::of(&tree(1)), Outline { spread: 4, digests: vec![digest] });
        // The first path is the end of a piece, the other two are the next.
        assert_eq!(Outline::of(&tree(3)).digests.len(), 2);
    }

    #[test]
    fn a_strange_spread_does_no_harm() {
        let real = tree(100);
        let outline = Outline { spread: 255, digests: vec![] };
        assert_eq!(outline.compare(real.iter()).rest.len(), 100);
    }
}
