//! Stops what looks like the loss of a folder from being taken for the wish to delete it.
//!
//! What counts is what a side has lost *at once*: since the folder was last at rest, whether the other side has followed
//! yet or not. What the same side had itself made since then is no loss.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::engine::{Engine, Side, SyncEvent};
use crate::path::RelPath;
use crate::snapshot::{Entry, Hash};

/// After this many ticks a loss is no longer part of what is lost at once, even where a folder never rests.
const FORGOTTEN: u64 = 10;

/// What each side has lost.
#[derive(Debug, Default)]
pub(super) struct Guard {
    sides: [Losses; 2],
    /// Counts [`Engine::tick`].
    now: u64,
    /// Whether something came or went since the last tick.
    stirred: bool,
}

#[derive(Debug, Default)]
struct Losses {
    /// Files that this side lacks while the other still has them, and what both had agreed on.
    gone: BTreeMap<RelPath, Option<Hash>>,
    /// Those of them that somebody said may go.
    approved: BTreeSet<RelPath>,
    /// Files that went here and then on the other side too: what they held, and when.
    spent: BTreeMap<RelPath, (Option<Hash>, u64)>,
    /// Files that came here and were not agreed on when the folder last rested.
    born: HashSet<RelPath>,
    /// What is in `gone` and not approved, and what is in `spent`.
    tally: Tally,
    halted: Option<(usize, usize)>,
    /// Whether there may be more lost, or less, than was found last.
    changed: bool,
}

impl Losses {
    fn rest(&mut self) {
        // What led to a halt is not forgotten before it is over.
        if self.halted.is_none() {
            self.keep_spent(|_| false);
            self.born.clear();
        }
    }

    fn set_gone(&mut self, path: &RelPath, content: Option<Hash>) {
        let before = self.gone.insert(path.clone(), content);
        if before == Some(content) {
            return;
        }
        self.changed = true;
        if !self.approved.contains(path) {
            if let Some(before) = before {
                self.tally.remove(before);
            }
            self.tally.add(content);
        }
    }

    /// Takes a path off those that are gone; tells whether it was one that nobody had approved of.
    fn unset_gone(&mut self, path: &RelPath) -> bool {
        let Some(content) = self.gone.remove(path) else { return false };
        self.changed = true;
        let counts = !self.approved.remove(path);
        if counts {
            self.tally.remove(content);
        }
        counts
    }

    fn spend(&mut self, path: &RelPath, content: Option<Hash>, now: u64) {
        self.tally.add(content);
        if let Some((before, _)) = self.spent.insert(path.clone(), (content, now)) {
            self.tally.remove(before);
        }
    }

    /// Forgets that a path was spent; tells whether it was.
    fn unspend(&mut self, path: &RelPath) -> bool {
        let spent = self.spent.remove(path);
        if let Some((content, _)) = spent {
            self.tally.remove(content);
        }
        spent.is_some()
    }

    fn keep_spent(&mut self, keep: impl Fn(u64) -> bool) {
        let Self { spent, tally, .. } = self;
        spent.retain(|_, (content, when)| {
            let stays = keep(*when);
            if !stays {
                tally.remove(*content);
            }
            stays
        });
    }

    /// Counts everything anew.
    fn recount(&mut self) {
        self.tally = Tally::default();
        for (content, _) in self.spent.values() {
            self.tally.add(*content);
        }
        for (_, content) in self.gone.iter().filter(|(path, _)| !self.approved.contains(*path)) {
            self.tally.add(*content);
        }
    }
}

/// Contents that were lost: how many of them a side has nowhere any more is known without going through all of them
/// after every change.
#[derive(Debug, Default)]
struct Tally {
    /// By content, `None` for links: how many were lost, and how many of them `lost` has.
    counts: HashMap<Option<Hash>, (usize, usize)>,
    /// Those to be looked at again.
    stirred: HashSet<Option<Hash>>,
    lost: usize,
}

impl Tally {
    fn add(&mut self, content: Option<Hash>) {
        self.counts.entry(content).or_default().0 += 1;
        self.stirred.insert(content);
    }

    fn remove(&mut self, content: Option<Hash>) {
        if let Some((count, _)) = self.counts.get_mut(&content) {
            *count -= 1;
            self.stirred.insert(content);
        }
    }

    /// Takes note that a content came to or left a path of the side.
    fn stir(&mut self, content: Hash) {
        if self.counts.contains_key(&Some(content)) {
            self.stirred.insert(Some(content));
        }
    }

    /// Returns how many files are lost: what is still there under another name was moved.
    fn lost(&mut self, is_there: impl Fn(Hash) -> bool) -> usize {
        for content in self.stirred.drain() {
            let Some((count, counted)) = self.counts.get_mut(&content) else { continue };
            let counts = if content.is_some_and(&is_there) { 0 } else { *count };
            self.lost = self.lost + counts - *counted;
            *counted = counts;
            if *count == 0 {
                self.counts.remove(&content);
            }
        }
        self.lost
    }
}

impl Guard {
    /// Tells whether nothing may flow from `side` now.
    pub(super) fn is_halted(&self, side: Side) -> bool {
        self.halted(side).is_some()
    }

    /// Returns how many files are missing on a side that is halted, and of how many.
    pub(super) fn halted(&self, side: Side) -> Option<(usize, usize)> {
        self.sides[side as usize].halted
    }

    /// Lets go what is gone on the sides that are halted; tells whether there was one.
    pub(super) fn approve(&mut self) -> bool {
        let mut any = false;
        for losses in &mut self.sides {
            if losses.halted.take().is_some() {
                any = true;
                losses.approved.extend(losses.gone.keys().cloned());
                losses.spent.clear();
                losses.recount();
                losses.changed = true;
            }
        }
        any
    }

    /// Forgets what is under way: everything is looked at anew.
    pub(super) fn forget(&mut self) {
        for losses in &mut self.sides {
            losses.rest();
            losses.gone.clear();
            losses.approved.clear();
            losses.recount();
            losses.changed = true;
        }
    }

    /// Takes note of a change on a side between a file and no file; `agreed` is whether both sides had a file there.
    pub(super) fn came_or_went(&mut self, side: Side, path: &RelPath, came: bool, agreed: bool) {
        self.stirred = true;
        let losses = &mut self.sides[side as usize];
        losses.changed = true;
        // What comes again is no loss any more, and not the side's own either.
        let is_back = came && losses.unspend(path);
        if agreed || is_back {
            return;
        }
        if came {
            losses.born.insert(path.clone());
        } else {
            losses.born.remove(path);
        }
    }

    /// Takes note of any change on a side: what stands at its path is no longer the other side's own.
    pub(super) fn changed(&mut self, side: Side, path: &RelPath) {
        self.sides[side as usize].changed = true;
        self.sides[side.other() as usize].born.remove(path);
    }

    /// Takes note that both sides are without what they had agreed on at a path: what one of them had lost is spent.
    fn agreed(&mut self, path: &RelPath, lost: Option<&Entry>) {
        for losses in &mut self.sides {
            losses.born.remove(path);
            if losses.unset_gone(path) {
                losses.spend(path, lost.and_then(Entry::hash), self.now);
            }
        }
    }

    pub(super) fn tick(&mut self) {
        self.now += 1;
        let rests = !std::mem::take(&mut self.stirred);
        for losses in &mut self.sides {
            if rests {
                losses.rest();
            } else if losses.halted.is_none() {
                losses.keep_spent(|when| when + FORGOTTEN > self.now);
            }
        }
    }

    pub(super) fn is_waiting(&self) -> bool {
        let waits =
            |losses: &Losses| losses.halted.is_none() && !(losses.spent.is_empty() && losses.born.is_empty());
        self.sides.iter().any(waits)
    }
}

impl Engine {
    /// Looks whether a path is one that only one side has lost.
    pub(super) fn watch_deletion(&mut self, path: &RelPath) {
        let base = self.base.entries().get(path).filter(|entry| entry.is_leaf());
        let base = base.filter(|_| !self.base.is_tombstoned(path));
        for side in Side::BOTH {
            let losses = &mut self.guard.sides[side as usize];
            let gone = base.filter(|_| {
                !self.replicas[side as usize].tree().contains_key(path)
                    && self.replicas[side.other() as usize].tree().contains_key(path)
                    && !losses.born.contains(path)
            });
            match gone {
                Some(entry) => losses.set_gone(path, entry.hash()),
                None => {
                    losses.unset_gone(path);
                }
            }
        }
    }

    /// Takes note that both sides are without what the base has at a path.
    pub(super) fn deletion_agreed(&mut self, path: &RelPath) {
        self.guard.agreed(path, self.base.entries().get(path));
    }

    /// Tells whether both sides had a file or a link at a path.
    pub(super) fn had_file(&self, path: &RelPath) -> bool {
        self.base.entries().get(path).is_some_and(Entry::is_leaf)
    }

    /// Halts a side that lost too much at once, and lets it go on when its files are back.
    pub(super) fn check_guard(&mut self) {
        for side in Side::BOTH {
            let losses = &mut self.guard.sides[side as usize];
            for content in self.replicas[side as usize].take_stirred() {
                losses.tally.stir(content);
            }
            if !std::mem::take(&mut losses.changed) {
                continue;
            }
            let of = self.files_at_rest(side);
            let missing = self.missing(side, of);
            match (missing, self.guard.is_halted(side)) {
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
            self.guard.sides[side as usize].halted = missing.map(|(missing, _)| (missing, of));
        }
    }

    /// Returns how many files both sides had when the folder last rested, but for what `side` made itself since.
    fn files_at_rest(&self, side: Side) -> usize {
        let Losses { spent, born, .. } = &self.guard.sides[side as usize];
        (self.base.files() + spent.len()).saturating_sub(born.len())
    }

    /// Returns how many files a side lost, where it is too many, and whether it is empty.
    fn missing(&mut self, side: Side, of: usize) -> Option<(usize, bool)> {
        let limit = self.deletion_limit(of);
        let Losses { gone, approved, spent, tally, .. } = &mut self.guard.sides[side as usize];
        let missing = gone.len() - approved.len() + spent.len();
        let replica = &self.replicas[side as usize];
        let emptied = replica.tree().is_empty() && missing > 1;
        if !emptied && missing <= limit {
            return None;
        }
        let is_there = |content: Hash| replica.holders(content).next().is_some();
        let missing = tally.lost(is_there);
        debug_assert_eq!(
            missing,
            (gone.iter().filter(|(path, _)| !approved.contains(*path)).map(|(_, content)| content))
                .chain(spent.values().map(|(content, _)| content))
                .filter(|content| !content.is_some_and(is_there))
                .count(),
            "lost, counted anew"
        );
        (emptied || missing > limit).then_some((missing, emptied))
    }

    /// Returns how many of `of` files may go at once without asking.
    fn deletion_limit(&self, of: usize) -> usize {
        self.config.deletions_free.max(of.saturating_mul(self.config.deletions_percent) / 100)
    }

    /// Tells whether the local side's lack of what the base had may be taken for deletions.
    pub(super) fn local_is_plausible(&self) -> bool {
        let local = self.replicas[Side::Local as usize].tree();
        let missing = self
            .base
            .entries()
            .iter()
            .filter(|(path, entry)| {
                entry.is_leaf() && !local.contains_key(*path) && !self.base.is_tombstoned(path)
            })
            .count();
        missing <= self.deletion_limit(self.base.files()) && !(local.is_empty() && missing > 1)
    }
}
