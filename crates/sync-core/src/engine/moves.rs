//! A file or folder that has another name on one side gets it on the other with one operation.
//!
//! It is an optimisation of what the queue holds anyway: everything at the new name to be made, everything at the old
//! one to be deleted. Where the receiver finds what it has to be anything but what it told, or not to be movable, that is
//! what is done.

use crate::engine::flight::{Flight, Stage};
use crate::engine::queue::{Operation, Queued};
use crate::engine::replica::take_from;
use crate::engine::{Engine, Side, SyncEvent};
use crate::message::{Content, Request};
use crate::path::{RelPath, below};
use crate::snapshot::{Entry, Transition};

/// So many places of a content are looked at for what was moved.
const MAX_HOLDERS: usize = 16;

impl Engine {
    /// Has a file or a folder moved, if a new one that is to be made is one that is to go. Tells whether it is under way.
    pub(super) fn begin_move(&mut self, side: Side, queued: &Queued) -> bool {
        let Operation::Apply(step @ Transition { from: None, to: Some(entry), .. }) = &queued.operation
        else {
            return false;
        };
        let is_movable = match entry {
            Entry::Directory => true,
            // Its content is on this side already.
            Entry::File(file) => queued.bytes < file.size,
            Entry::Symlink { .. } | Entry::Opaque(_) => false,
        };
        if !is_movable || self.replicas[side.other() as usize].tree().get(&step.path) != Some(entry) {
            return false;
        }
        let Some(from) = self.moved_from(side, &step.path) else { return false };
        if *entry == Entry::Directory {
            // What is to be copied from there comes first.
            self.send_batch(side);
        }
        let to = step.path.clone();
        for path in [&from, &to] {
            let tree = self.replicas[if path == &to { side.other() } else { side } as usize].tree();
            for path in below(tree, path).map(|(path, _)| path).chain([path]) {
                self.queues[side as usize].remove(path);
            }
        }
        let mut flight = Flight::new(to, side, queued.operation.clone());
        flight.moved_from = Some(from.clone());
        let (transition, content) = (step.clone(), Content::Moved { from });
        let id = self.flights.add(flight);
        self.outboxes[side as usize].push(Request::Apply { id, transition, content });
        true
    }

    /// Returns what stands on a side, is to go, and is what is to be made at `to`.
    fn moved_from(&self, side: Side, to: &RelPath) -> Option<RelPath> {
        let stands = |folder: &RelPath| match self.flights.at(folder) {
            Some(flight) => flight.stage == Stage::Finishing,
            None => true,
        };
        if self.unmovable.contains(to) || !to.parent().is_none_or(|parent| stands(&parent)) {
            return None;
        }
        let source = self.replicas[side.other() as usize].tree();
        let itself = source.get(to).map(|entry| (to, entry));
        let file = itself.into_iter().chain(below(source, to)).find_map(|(path, entry)| match entry {
            Entry::File(file) if file.size > 0 => Some((&path.as_str()[to.as_str().len()..], file.hash)),
            _ => None,
        });
        let (inner, hash) = file?;
        let holders = self.replicas[side as usize].holders(hash).take(MAX_HOLDERS);
        let mut olds = holders.filter_map(|holder| RelPath::new(holder.as_str().strip_suffix(inner)?).ok());
        olds.find(|from| self.is_move(side, from, to))
    }

    /// Tells whether everything at `from` is to go, and just that is to be made at `to`.
    fn is_move(&self, side: Side, from: &RelPath, to: &RelPath) -> bool {
        let [old, new] = [side, side.other()].map(|side| self.replicas[side as usize].tree());
        let queue = &self.queues[side as usize];
        let goes = |path: &RelPath| queue.get(path).is_some_and(Queued::is_deletion);
        let mut there = below(new, to);
        old.get(from) == new.get(to)
            && goes(from)
            && !(from.is_below(to) || to.is_below(from) || self.flights.touch(from) || self.flights.touch(to))
            && below(old, from).all(|(path, entry)| {
                goes(path)
                    && !matches!(entry, Entry::Opaque(_))
                    && there.next().is_some_and(|(at, wanted)| {
                        wanted == entry
                            && at.as_str()[to.as_str().len()..] == path.as_str()[from.as_str().len()..]
                    })
            })
            && there.all(|(_, entry)| matches!(entry, Entry::Opaque(_)))
    }

    /// Takes the end of a move of what is `entry` by itself.
    pub(super) fn moved(&mut self, side: Side, from: &RelPath, to: &RelPath, entry: &Entry, done: bool) {
        let at_old: Vec<_> = below(self.replicas[side as usize].tree(), from)
            .chain([(from, entry)])
            .map(|(path, entry)| (path.clone(), entry.clone()))
            .collect();
        if !done {
            self.unmovable.insert(to.clone());
            self.dirty.extend(at_old.into_iter().map(|(path, _)| path));
            let wanted = below(self.replicas[side.other() as usize].tree(), to).map(|(path, _)| path.clone());
            self.dirty.extend(wanted.chain([to.clone()]));
            return;
        }
        let held = self.held_by_move(from, to);
        self.replicas[side as usize].set(from, None);
        for (path, entry) in &at_old {
            self.dirty.insert(path.clone());
            self.events.push_back(SyncEvent::Applied { side, path: path.clone(), deleted: true });
            if let Ok(at) = path.renamed(from, to) {
                self.replicas[side as usize].set(&at, Some(entry));
                self.dirty.insert(at.clone());
                self.events.push_back(SyncEvent::Applied { side, path: at, deleted: false });
            }
        }
        self.progress.files += 2 * at_old.len() as u64;
        for (path, entry) in held {
            self.agree(&path, entry);
        }
        for path in [from, to] {
            take_from(&mut self.blocked, path, &mut self.dirty);
            self.wake(side, path);
        }
    }

    /// Returns what both sides hold when a move has been made, folders before what is in them at the new place and the
    /// other way round at the old. It is what the base has of the old place: whatever either side has by then is a
    /// change since.
    pub(super) fn held_by_move(&self, from: &RelPath, to: &RelPath) -> Vec<(RelPath, Option<Entry>)> {
        let itself = self.base.entries().get(from).map(|entry| (from, entry));
        let all: Vec<_> = itself.into_iter().chain(below(self.base.entries(), from)).collect();
        let came = all
            .iter()
            .filter_map(|(path, entry)| Some((path.renamed(from, to).ok()?, Some((*entry).clone()))));
        let went = all.iter().rev().map(|(path, _)| ((*path).clone(), None));
        came.chain(went).collect()
    }
}
