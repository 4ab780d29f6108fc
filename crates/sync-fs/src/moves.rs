//! Moves a file, or a folder with all that is in it: one rename, where the disk has just what the engine was told.

use std::os::fd::AsFd;

use towline_sync_core::message::Outcome;
use towline_sync_core::path::RelPath;
use towline_sync_core::snapshot::{Entry, Transition};

use crate::commit::{Step, move_new};
use crate::disk::{list, stat_at};
use crate::hook::Moment;
use crate::known::{Seen, now};
use crate::settle::Parent;
use crate::workspace::Workspace;

impl Workspace {
    /// Moves the file `from` to the path of `step`, where nothing must stand, if it is what is wanted there.
    pub(crate) fn move_file(&mut self, from: &RelPath, step: &Transition) -> Step<Outcome> {
        let to = &step.path;
        let changed = |_| Outcome::NeedContent;
        self.check_movable(from)?;
        let old = self.tree.root.open_parent(from).map_err(changed)?;
        let new = self.tree.root.open_parent(to).map_err(changed)?;
        let seen = self.actual(old.as_fd(), from)?.filter(|seen| Some(&seen.entry) == step.to.as_ref());
        let seen = seen.ok_or(Outcome::NeedContent)?;
        self.hook.at(Moment::Checked, to).map_err(changed)?;
        move_new(old.as_fd(), from.name(), new.as_fd(), to.name()).map_err(changed)?;
        self.tree.forget(from);
        match stat_at(new.as_fd(), to.name()) {
            Ok(stat) if stat.is_moved(&seen.stat) => {
                self.tree.record(to, &Seen::new(seen.entry, stat, now()));
            }
            // It was written to, or replaced, in the last moment: what it is now is told.
            _ => self.suspects.extend([(from.clone(), true), (to.clone(), true)]),
        }
        Ok(Outcome::Done)
    }

    /// Refuses what must not be moved, or moved to.
    fn check_movable(&self, path: &RelPath) -> Step<()> {
        self.check_path(path, self.tree.rules.is_pruned(path) || self.tree.rules.decide(path).ignored)?;
        match self.tree.guard.refusal(&self.tree.root, path) {
            Some(_) => Err(Outcome::NeedContent),
            None => Ok(()),
        }
    }

    /// Moves the folder `from` to `to`, where nothing must stand. Whatever is not as it was told is left to be done
    /// entry by entry.
    pub(crate) fn move_folder(&mut self, from: &RelPath, to: &RelPath) -> Step<Outcome> {
        self.store()?;
        let mut moves = Vec::new();
        for path in self.tree.known.at_or_below(Some(from)) {
            let at = path.renamed(from, to);
            let at = at.map_err(|_| Outcome::NeedContent)?;
            self.check_movable(&path)?;
            self.check_movable(&at)?;
            moves.push((path, at));
        }
        let changed = |_| Outcome::NeedContent;
        let old = self.tree.root.open_parent(from).map_err(changed)?;
        let new = self.tree.root.open_parent(to).map_err(changed)?;
        if !self.is_as_told(moves.iter().map(|(path, _)| path)) {
            return Err(Outcome::NeedContent);
        }
        self.hook.at(Moment::Checked, to).map_err(changed)?;
        let rename = || move_new(old.as_fd(), from.name(), new.as_fd(), to.name());
        match &self.tree.watches {
            Some(watches) => watches.rename(from, to, rename),
            None => rename(),
        }
        .map_err(changed)?;
        for (path, at) in moves.iter().rev() {
            if let Some(seen) = self.tree.forget(path) {
                self.tree.record(at, &seen);
            }
        }
        // What was told of the old name in the last moment is looked for in vain.
        if self.is_as_told(moves.iter().map(|(_, at)| at)) {
            if let Ok(stat) = stat_at(new.as_fd(), to.name()) {
                self.tree.record(to, &Seen::new(Entry::Directory, stat, now()));
            }
        } else {
            if let Some(watches) = &self.tree.watches {
                watches.remove(to);
            }
            // What is not known is looked through.
            self.tree.forget(to);
            self.suspects.extend([(from.clone(), true), (to.clone(), true)]);
        }
        Ok(Outcome::Done)
    }

    /// Tells whether a folder, given by all the paths that are known of it, is so on the disk and holds nothing else.
    fn is_as_told<'a>(&self, all: impl Iterator<Item = &'a RelPath>) -> bool {
        let (mut known, mut listed) = (0, 1);
        let mut parent = Parent::default();
        for path in all {
            let Some(seen) = self.tree.known.get(path) else { return false };
            let Ok(folder) = parent.of(&self.tree.root, path) else { return false };
            let Ok(stat) = stat_at(folder, path.name()) else { return false };
            let is_same = match seen.entry {
                Entry::Directory => stat.identity == seen.stat.identity && !stat.mount_root,
                Entry::File(_) => stat == seen.stat && !seen.racy,
                // A link is made once and never changed.
                Entry::Symlink { .. } => stat == seen.stat,
                Entry::Opaque(_) => false,
            };
            if !is_same {
                return false;
            }
            if seen.entry == Entry::Directory {
                let folder = self.tree.root.open_to_list(Some(path));
                let Ok(names) = folder.and_then(|folder| list(folder.as_fd())) else { return false };
                listed += names.len();
            }
            known += 1;
        }
        // Each that is known is there, so as many names are no others.
        known == listed
    }
}
