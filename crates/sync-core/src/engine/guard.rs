//! Stops what looks like the loss of a folder from being taken for the wish to delete it.

use std::collections::BTreeSet;

use crate::engine::{Engine, Side, SyncEvent};
use crate::path::RelPath;
use crate::snapshot::Entry;

/// Files that one side lacks while the other still has them.
#[derive(Debug, Default)]
pub(super) struct Guard {
    gone: [BTreeSet<RelPath>; 2],
    /// Those of them that somebody said may go.
    approved: [BTreeSet<RelPath>; 2],
    halted: [Option<(usize, usize)>; 2],
}

impl Guard {
    /// Tells whether nothing may flow from `side` now.
    pub(super) fn is_halted(&self, side: Side) -> bool {
        self.halted[side as usize].is_some()
    }

    /// Returns how many files are missing on a side that is halted, and of how many.
    pub(super) fn halted(&self, side: Side) -> Option<(usize, usize)> {
        self.halted[side as usize]
    }

    /// Lets go what is gone on the sides that are halted; tells whether there was one.
    pub(super) fn approve(&mut self) -> bool {
        let mut any = false;
        for side in 0..2 {
            if self.halted[side].take().is_some() {
                any = true;
                self.approved[side].extend(self.gone[side].iter().cloned());
            }
        }
        any
    }

    pub(super) fn forget(&mut self) {
        self.gone = Default::default();
        self.approved = Default::default();
    }

    fn set(&mut self, side: Side, path: &RelPath, gone: bool) {
        if gone {
            self.gone[side as usize].insert(path.clone());
        } else if self.gone[side as usize].remove(path) {
            self.approved[side as usize].remove(path);
        }
    }
}

impl Engine {
    /// Looks whether a path is one that only one side has lost.
    pub(super) fn watch_deletion(&mut self, path: &RelPath) {
        let was_leaf = matches!(self.base.entries().get(path), Some(Entry::File(_) | Entry::Symlink { .. }))
            && !self.base.is_tombstoned(path);
        for side in Side::BOTH {
            let gone = was_leaf
                && !self.replicas[side as usize].tree().contains_key(path)
                && self.replicas[side.other() as usize].tree().contains_key(path);
            self.guard.set(side, path, gone);
        }
    }

    /// Halts a side that lost too much at once, and lets it go on when its files are back.
    pub(super) fn check_guard(&mut self) {
        for side in Side::BOTH {
            let of = self.base.files();
            let missing = self.missing(side, of);
            match (missing, self.guard.halted[side as usize].is_some()) {
                (Some((missing, emptied)), false) => {
                    let reason = if emptied {
                        format!("the {} folder is empty", side.name())
                    } else {
                        format!("{missing} of {of} files are gone in the {} folder at once", side.name())
                    };
                    self.events.push_back(SyncEvent::Halted {
                        side,
                        reason,
                        missing: missing as u64,
                        of: of as u64,
                    });
                }
                (None, true) => self.events.push_back(SyncEvent::Resumed),
                _ => {}
            }
            self.guard.halted[side as usize] = missing.map(|(missing, _)| (missing, of));
        }
    }

    /// Returns how many files a side lost, where it is too many, and whether it is empty.
    fn missing(&self, side: Side, of: usize) -> Option<(usize, bool)> {
        let (gone, approved) = (&self.guard.gone[side as usize], &self.guard.approved[side as usize]);
        let missing = gone.len() - approved.len();
        let replica = &self.replicas[side as usize];
        let emptied = replica.tree().is_empty() && missing > 1;
        let limit = self.deletion_limit(of);
        if !emptied && missing <= limit {
            return None;
        }
        // What is still there under another name was moved.
        let is_lost = |path: &&RelPath| match self.base.entries().get(*path) {
            Some(Entry::File(file)) => replica.holders(file.hash).next().is_none(),
            _ => true,
        };
        let missing = gone.difference(approved).filter(is_lost).count();
        (emptied || missing > limit).then_some((missing, emptied))
    }

    /// Returns how many of `of` files may go at once without asking.
    fn deletion_limit(&self, of: usize) -> usize {
        self.config.deletions_free.max(of.saturating_mul(self.config.deletions_percent) / 100)
    }

    /// Tells whether the local side's lack of what the base had may be taken for deletions.
    pub(super) fn local_is_plausible(&self) -> bool {
        let local = self.replicas[Side::Local as usize].tree();
        let is_leaf = |entry: &Entry| matches!(entry, Entry::File(_) | Entry::Symlink { .. });
        let missing = self
            .base
            .entries()
            .iter()
            .filter(|(path, entry)| {
                is_leaf(entry) && !local.contains_key(*path) && !self.base.is_tombstoned(path)
            })
            .count();
        missing <= self.deletion_limit(self.base.files()) && !(local.is_empty() && missing > 1)
    }
}
