//! What the engine knows of one side.

use std::cell::OnceCell;
use std::collections::BTreeSet;

use crate::message::{Request, WatchMode};
use crate::outline::{Outline, SameError};
use crate::path::{RelPath, below, below_in};
use crate::reconcile::Tree;
use crate::snapshot::{Entry, Hash};

/// How far a side is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum State {
    /// Not connected, or its root can't be used.
    #[default]
    Away,
    /// Asked to open its root.
    Opening,
    /// Open; the first scan is not complete.
    Scanning,
    /// Known.
    Ready,
}

/// One side's picture and the state of the talk with it.
#[derive(Debug, Default)]
pub(super) struct Replica {
    state: State,
    tree: Tree,
    /// How many entries of `tree` can't be synced.
    opaque: usize,
    /// Every file of `tree` by content, from when it was first asked for.
    contents: OnceCell<BTreeSet<(Hash, RelPath)>>,
    /// What came to or left a path since this was asked the last time.
    stirred: Vec<Hash>,
    /// What the scan under way has told.
    scan: Option<Tree>,
    /// The scan under way has begun: what the side told before may be older than what it finds.
    telling: bool,
    /// What the side was believed to hold when it was asked to compare, and the outline that it was given.
    believed: Option<(Tree, Outline)>,
    pub(super) writable: bool,
    pub(super) watching: Option<WatchMode>,
}

impl Replica {
    pub(super) fn begin(&mut self) {
        *self = Self { state: State::Opening, scan: Some(Tree::new()), ..Self::default() };
    }

    pub(super) fn end(&mut self) {
        *self = Self::default();
    }

    pub(super) fn opened(&mut self, writable: bool) {
        self.state = State::Scanning;
        self.writable = writable;
    }

    pub(super) fn state(&self) -> State {
        self.state
    }

    pub(super) fn tree(&self) -> &Tree {
        &self.tree
    }

    /// Begins a new scan, unless one is under way or the side is away. Returns what to ask.
    pub(super) fn rescan(&mut self) -> Option<Request> {
        let possible = matches!(self.state, State::Ready | State::Scanning) && self.scan.is_none();
        possible.then(|| {
            self.scan = Some(Tree::new());
            self.telling = false;
            self.believe(self.tree.clone())
        })
    }

    /// Takes note of what the side is thought to hold, while it is asked what it does. Returns what to ask.
    pub(super) fn believe(&mut self, tree: Tree) -> Request {
        if tree.is_empty() {
            return Request::Scan { eager: false };
        }
        let outline = Outline::of(&tree);
        self.believed = Some((tree, outline.clone()));
        Request::Compare(outline)
    }

    /// Tells whether it has something that can't be synced.
    pub(super) fn has_opaque(&self) -> bool {
        self.opaque > 0
    }

    pub(super) fn is_scanning(&self) -> bool {
        self.scan.is_some()
    }

    pub(super) fn scan_failed(&mut self) {
        self.scan = None;
        self.believed = None;
    }

    /// Returns how many entries the larger of the picture and the scan under way has.
    pub(super) fn len(&self) -> usize {
        self.tree.len().max(self.scan.as_ref().map_or(0, Tree::len))
    }

    pub(super) fn scanned(&mut self, entries: impl IntoIterator<Item = (RelPath, Entry)>) {
        self.scan.get_or_insert_default().extend(entries);
        self.telling = true;
    }

    /// Takes the pieces of the outline that the scan under way found as they were believed to be. `None` when nothing
    /// was asked about them.
    pub(super) fn same(&mut self, same: &[u8]) -> Option<Result<(), SameError>> {
        let (tree, outline) = self.believed.take()?;
        let kept = match outline.keep(tree, same) {
            Ok(kept) => kept,
            Err(error) => return Some(Err(error)),
        };
        let told = self.scan.replace(kept).unwrap_or_default();
        self.scanned(told);
        Some(Ok(()))
    }

    /// Ends the scan under way and returns what it found.
    pub(super) fn scan_complete(&mut self) -> Tree {
        self.believed = None;
        self.scan.take().unwrap_or_default()
    }

    /// Takes the first scan as the picture.
    pub(super) fn ready(&mut self, tree: Tree) {
        self.state = State::Ready;
        self.contents = OnceCell::new();
        self.opaque = tree.values().filter(|entry| is_opaque(entry)).count();
        self.tree = tree;
    }

    /// Takes what stands at a path now into the picture. Returns the paths that are gone with it, which lay below.
    pub(super) fn set(&mut self, path: &RelPath, entry: Option<&Entry>) -> Vec<RelPath> {
        let mut gone = Vec::new();
        if !matches!(entry, Some(Entry::Directory | Entry::Opaque(_))) {
            gone.extend(below(&self.tree, path).map(|(path, _)| path.clone()));
            if let Some(scan) = self.scan.as_mut().filter(|_| self.telling) {
                let below: Vec<_> = below(scan, path).map(|(path, _)| path.clone()).collect();
                for path in &below {
                    scan.remove(path);
                }
            }
        }
        if let Some(scan) = self.scan.as_mut().filter(|_| self.telling) {
            match entry {
                Some(entry) => scan.insert(path.clone(), entry.clone()),
                None => scan.remove(path),
            };
        }
        for path in &gone {
            self.put(path, None);
        }
        self.put(path, entry);
        gone
    }

    fn put(&mut self, path: &RelPath, entry: Option<&Entry>) {
        let old = match entry {
            Some(entry) => self.tree.insert(path.clone(), entry.clone()),
            None => self.tree.remove(path),
        };
        self.opaque += usize::from(entry.is_some_and(is_opaque));
        self.opaque -= usize::from(old.as_ref().is_some_and(is_opaque));
        let Some(contents) = self.contents.get_mut() else { return };
        if let Some(hash) = old.as_ref().and_then(Entry::hash) {
            contents.remove(&(hash, path.clone()));
            self.stirred.push(hash);
        }
        if let Some(hash) = entry.and_then(Entry::hash) {
            contents.insert((hash, path.clone()));
            self.stirred.push(hash);
        }
    }

    /// Returns contents that came to or left a path since this was asked the last time, if anybody has asked for
    /// [`holders`](Self::holders) before.
    pub(super) fn take_stirred(&mut self) -> Vec<Hash> {
        std::mem::take(&mut self.stirred)
    }

    /// Returns the files that have this content.
    pub(super) fn holders(&self, hash: Hash) -> impl Iterator<Item = &RelPath> {
        let contents = self.contents.get_or_init(|| {
            let files = self.tree.iter().filter_map(|(path, entry)| Some((entry.hash()?, path.clone())));
            files.collect()
        });
        // A path is never empty, so the first possible one is a single lowest byte.
        let lowest = RelPath::new("\u{1}").ok();
        let from = lowest.map(|path| (hash, path));
        from.into_iter()
            .flat_map(|from| contents.range(from..))
            .take_while(move |(held, _)| *held == hash)
            .map(|(_, path)| path)
    }
}

fn is_opaque(entry: &Entry) -> bool {
    matches!(entry, Entry::Opaque(_))
}

/// Moves everything in `set` at or below `path` to `into`.
pub(super) fn take_from(set: &mut BTreeSet<RelPath>, path: &RelPath, into: &mut BTreeSet<RelPath>) {
    let mut found: Vec<_> = below_in(set, path).cloned().collect();
    found.extend(set.get(path).cloned());
    for path in found {
        set.remove(&path);
        into.insert(path);
    }
}
