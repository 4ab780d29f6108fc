//! From what changed to what is to be done.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use crate::base::BaseDelta;
use crate::conflict;
use crate::engine::queue::{Operation, Queued, Turn};
use crate::engine::replica::take_from;
use crate::engine::{Engine, Side, SyncEvent};
use crate::path::{RelPath, below};
use crate::protect;
use crate::reconcile::{Decision, Leave, adopt};
use crate::snapshot::{Entry, Transition};

/// After so many surprises in a row a path is left alone until it changes again.
const MAX_SURPRISES: u32 = 32;

impl Engine {
    /// Begins to work once both sides are known: everything is decided anew.
    pub(super) fn start(&mut self) {
        if self.running || !self.both_ready() {
            return;
        }
        let unacknowledged = std::mem::take(&mut self.unacknowledged);
        if let Some(epoch) = self.adopting.take() {
            self.adopt(epoch);
        } else {
            // What was under way when a side went and stands there now was agreed on, even if it changed here since.
            for (path, (side, to)) in unacknowledged {
                if self.replicas[side as usize].tree().get(&path) == to.as_ref() {
                    self.agree(&path, to);
                }
            }
        }
        self.running = true;
        self.guard.forget();
        self.blocked.clear();
        self.surprises.clear();
        self.problems.begin_anew(&mut self.events);
        self.compare();
        self.settle_eager();
        self.progress.start();
        self.events.push_back(SyncEvent::Scanned);
    }

    /// Marks what differs, and records what both sides hold without deciding each path: most of a tree, most of the
    /// time, is the same everywhere.
    fn compare(&mut self) {
        let view = self.view();
        let (mut dirty, mut agreed) = (BTreeSet::new(), Vec::new());
        for (path, [local, remote, base]) in view.rows() {
            // What lies below an entry that can't be synced is never agreed on, and few trees have one.
            if local != remote || (view.opaque && local != base) {
                dirty.insert(path.clone());
            } else if local != base {
                agreed.push((path.clone(), local.cloned()));
            }
        }
        self.dirty = dirty;
        for (path, _) in agreed.iter().filter(|(_, entry)| entry.is_none()) {
            self.deletion_agreed(path);
        }
        self.records.extend(self.base.agree_all(agreed));
    }

    fn adopt(&mut self, epoch: [u8; 16]) {
        // What is still under way on the local side came from the old folder: the new one never had it.
        self.flights.disagree();
        let trust_missing = self.local_is_plausible();
        let [local, remote] = self.replicas.each_ref().map(super::replica::Replica::tree);
        let deltas = adopt(local, remote, &self.base, epoch, trust_missing);
        self.replaced += deltas
            .iter()
            .filter(|delta| matches!(delta, BaseDelta::Set { path, .. } if local.contains_key(path)))
            .count() as u64;
        for delta in deltas {
            self.record(delta);
        }
    }

    /// Records that both sides held the same at a path.
    pub(super) fn agree(&mut self, path: &RelPath, entry: Option<Entry>) {
        let known = self.base.entries().get(path);
        if known == entry.as_ref() {
            return;
        }
        let deleted = entry.is_none();
        if deleted {
            self.deletion_agreed(path);
        }
        self.record(BaseDelta::Set { path: path.clone(), entry });
        if deleted {
            self.record(BaseDelta::Tombstone { path: path.clone() });
        }
    }

    /// Takes what stands at a path of one side into the picture, and marks what depends on it.
    pub(super) fn observe(&mut self, side: Side, path: &RelPath, entry: Option<&Entry>) {
        let replica = &mut self.replicas[side as usize];
        let old = replica.tree().get(path).cloned();
        let gone = replica.set(path, entry);
        if old.as_ref() == entry && gone.is_empty() {
            return;
        }
        for path in gone.iter().chain([path]) {
            self.cancel_read(side, path);
        }
        if !self.running {
            return;
        }
        for path in &gone {
            self.guard.came_or_went(side, path, false, self.had_file(path));
        }
        let came = entry.is_some_and(Entry::is_leaf);
        if old.as_ref().is_some_and(Entry::is_leaf) != came {
            self.guard.came_or_went(side, path, came, self.had_file(path));
        }
        self.guard.changed(side, path);
        let is_opaque = |entry: Option<&Entry>| matches!(entry, Some(Entry::Opaque(_)));
        if is_opaque(old.as_ref()) || is_opaque(entry) {
            for replica in &self.replicas {
                self.dirty.extend(below(replica.tree(), path).map(|(path, _)| path.clone()));
            }
        }
        self.dirty.extend(gone);
        self.dirty.insert(path.clone());
        self.dirty.extend(path.ancestors());
        self.wake(side, path);
        take_from(&mut self.blocked, path, &mut self.dirty);
        for above in path.ancestors() {
            self.blocked.remove(&above);
        }
    }

    /// Marks what waited for a path of one side.
    pub(super) fn wake(&mut self, side: Side, path: &RelPath) {
        let waiting = &mut self.waiting[side as usize];
        take_from(waiting, path, &mut self.dirty);
        let above = path.ancestors().filter(|above| waiting.remove(above));
        self.dirty.extend(above);
    }

    /// Counts a path that was something else than expected; too often in a row, and it is left alone.
    pub(super) fn surprised(&mut self, path: &RelPath) {
        self.try_again(path, "keeps changing while it is synced");
    }

    /// Has a path decided anew; too often in a row, and it is left alone, for the reason given.
    pub(super) fn try_again(&mut self, path: &RelPath, message: &str) {
        let count = self.surprises.entry(path.clone()).or_default();
        *count += 1;
        if *count > MAX_SURPRISES {
            self.surprises.remove(path);
            self.block(path, message);
        }
    }

    /// Leaves a path alone until something about it changes, and says why.
    pub(super) fn block(&mut self, path: &RelPath, message: &str) {
        self.blocked.insert(path.clone());
        self.problems.add(path.as_str(), message, &mut self.events);
    }

    /// Decides what is dirty and begins what can begin.
    pub(super) fn settle(&mut self) {
        if !self.running {
            return;
        }
        loop {
            while let Some(path) = self.dirty.pop_first() {
                self.decide(&path);
            }
            self.check_guard();
            self.pump();
            // What was sent may have been all that something else waited for.
            if self.dirty.is_empty() {
                break;
            }
        }
        self.rest();
    }

    /// Says so when nothing is left to do.
    fn rest(&mut self) {
        let halted = |side: Side| self.guard.is_halted(side);
        let idle = |side: Side| self.queues[side as usize].len() == 0 || !self.may_change(side);
        if self.flights.len() > 0 || !Side::BOTH.into_iter().all(idle) {
            self.progress.start();
        } else if self.progress.busy {
            let any_halted = Side::BOTH.into_iter().any(halted);
            self.progress.busy = false;
            self.unmovable.clear();
            if !any_halted {
                self.events.push_back(SyncEvent::InSync);
            }
        }
    }

    /// Tells whether steps may be made on a side now.
    pub(super) fn may_change(&self, side: Side) -> bool {
        self.replicas[side as usize].writable && !self.guard.is_halted(side.other())
    }

    fn decide(&mut self, path: &RelPath) {
        for side in Side::BOTH {
            self.queues[side as usize].remove(path);
            self.waiting[side as usize].remove(path);
        }
        self.watch_deletion(path);
        if self.flights.at(path).is_some() {
            // Decided when it lands.
            return;
        }
        match self.view().decide(path) {
            Decision::Equal => {
                let entry = self.replicas[0].tree().get(path).cloned();
                self.agree(path, entry);
                self.watch_deletion(path);
                self.blocked.remove(path);
                self.surprises.remove(path);
                self.whole.remove(path);
                let kept: Vec<_> = self
                    .kept
                    .range((path.clone(), LOWEST)..)
                    .take_while(|(at, _)| at == path)
                    .cloned()
                    .collect();
                for kept in &kept {
                    self.kept.remove(kept);
                }
                self.problems.solve(path.as_str(), &mut self.events);
            }
            Decision::Leave(why) => self.leave(path, why),
            Decision::Change { to, local, remote } => {
                if self.blocked.contains(path) {
                    return;
                }
                self.problems.solve(path.as_str(), &mut self.events);
                let side = if remote && (!local || self.may_change(Side::Remote)) {
                    Side::Remote
                } else {
                    Side::Local
                };
                self.enqueue(side, path, to.as_ref());
            }
        }
    }

    fn leave(&mut self, path: &RelPath, why: Leave) {
        match why {
            Leave::Opaque => {
                let [local, remote] = self.replicas.each_ref().map(|replica| replica.tree().get(path));
                let is_opaque = |entry: Option<&Entry>| matches!(entry, Some(Entry::Opaque(_)));
                if local.is_some()
                    && remote.is_some()
                    && local != remote
                    && (is_opaque(local) || is_opaque(remote))
                {
                    let message = "is something on one side that can't be synced, and is left alone on both";
                    self.problems.add(path.as_str(), message, &mut self.events);
                }
            }
            Leave::Protected(why) => {
                if let Some(root) = protect::protected_root(path) {
                    let message = format!("differs in the pod and is never written from there: {why}");
                    self.problems.add(root.as_str(), &message, &mut self.events);
                }
            }
            Leave::Mode => {}
        }
    }

    /// Puts the next operation at a path into the queue of the side that it changes.
    fn enqueue(&mut self, side: Side, path: &RelPath, to: Option<&Entry>) {
        let replica = &self.replicas[side as usize];
        let from = replica.tree().get(path);
        let base = self.base.entries().get(path);
        let lost = self.view().lost_bytes(from, to, base);
        let lost = lost.filter(|file| !self.kept.contains(&(path.clone(), file.hash)));
        let (operation, bytes) = match (lost, to) {
            (Some(file), _) => (Operation::Keep(file), file.size),
            (None, to) => {
                let is_here = |content| {
                    replica.holders(content).next().is_some() || self.past[side as usize].has(content)
                };
                let bytes = match to {
                    Some(Entry::File(file))
                        if conflict::lost_bytes(to, from, None).is_some()
                            && (self.whole.contains(path) || !is_here(file.hash)) =>
                    {
                        file.size
                    }
                    _ => 0,
                };
                let step = Transition { path: path.clone(), from: from.cloned(), to: to.cloned() };
                (Operation::Apply(step), bytes)
            }
        };
        let path = path.clone();
        let turn = match &operation {
            Operation::Apply(Transition { to: None, .. }) => Turn::Delete(Reverse(path.clone())),
            Operation::Apply(Transition { from: Some(Entry::Directory), .. }) => Turn::Replace(path.clone()),
            _ if bytes > self.config.bulk_size => Turn::Bulk(bytes, path.clone()),
            _ => Turn::Small(path.clone()),
        };
        self.progress.start();
        self.queues[side as usize].insert(turn, Queued { path, operation, bytes });
    }
}

/// Sorts before every other hash.
const LOWEST: crate::snapshot::Hash = crate::snapshot::Hash([0; 32]);
