//! Brings what is known up to the disk's truth and says what changed.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use towline_sync_core::path::RelPath;
use towline_sync_core::snapshot::{Change, Entry};

use crate::disk::{Kind, Root, Stat, stat_at};
use crate::known::{Departed, Known, Positions, Seen};
use crate::scan::{Item, Trust, is_absent, is_ours};
use crate::tree::Tree;
use crate::walk::{Start, Walked};

/// Where a dirty path leads by now.
enum Located {
    /// Nothing stands at this path: the dirty one, or the outermost folder above it that is gone.
    Gone(RelPath),
    /// Something stands at this path: the dirty one, with what could be learned of it, or what took the place of a
    /// folder above it.
    Stands(RelPath, Option<Stat>),
}

/// What a walk of everything has found.
struct Gathered {
    /// Where what was found is in what the walk [began with](Tree::base), where it is just that.
    same: Positions,
    /// The rest.
    fresh: Known,
}

/// What turned out to have changed, each path once.
#[derive(Debug, Default)]
struct Changes(BTreeMap<RelPath, Option<Entry>>);

impl Changes {
    /// Returns what came, folders before what is in them, and then what went, the other way round: so a file can be
    /// taken from its old name when its new one is made.
    fn into_ordered(self) -> Vec<Change> {
        let (came, went): (Vec<_>, Vec<_>) = self.0.into_iter().partition(|(_, entry)| entry.is_some());
        let all = came.into_iter().chain(went.into_iter().rev());
        all.map(|(path, entry)| Change { path, entry }).collect()
    }
}

/// The folder that was opened last: what changes together often lies together.
#[derive(Debug, Default)]
pub(crate) struct Parent(Option<(Option<RelPath>, OwnedFd)>);

impl Parent {
    /// Opens the folder that holds `path`.
    pub(crate) fn of(&mut self, root: &Root, path: &RelPath) -> io::Result<BorrowedFd<'_>> {
        let parent = path.parent();
        if self.0.as_ref().is_none_or(|(open, _)| *open != parent) {
            self.0 = None;
            self.0 = Some((parent, root.open_parent(path)?));
        }
        self.0.as_ref().map(|(_, fd)| fd.as_fd()).ok_or_else(|| Errno::BADF.into())
    }
}

impl Tree {
    /// Does what [`scan_with`](Self::scan_with) does when nothing is to be read along.
    #[cfg(test)]
    pub(crate) fn scan(&mut self, emit: &mut dyn FnMut(&RelPath, &Seen) -> io::Result<()>) -> io::Result<()> {
        self.scan_with(false, &mut |item| emit(&item.path, &item.seen))
    }

    /// Walks everything, hands each entry to `emit`, and knows it from then on; with `eager`, small files that are
    /// read come with their content.
    ///
    /// An error means that nothing was learned; what was known before stays.
    pub(crate) fn scan_with(
        &mut self,
        eager: bool,
        emit: &mut dyn FnMut(&mut Item) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut left_alone = Vec::new();
        let mut visit = |item: &mut Item| {
            if matches!(item.seen.entry, Entry::Opaque(_)) {
                left_alone.push((item.path.clone(), item.seen.entry.clone()));
            }
            emit(item)
        };
        let Gathered { same, fresh } = self.walk_everything(eager, &mut visit)?;
        self.problems.clear_entries();
        for (path, entry) in &left_alone {
            self.problems.note(path, Some(entry));
        }
        let remembered = std::mem::take(&mut self.remembered);
        if self.known.is_empty() {
            self.known = remembered;
        }
        self.known.update(&same, fresh);
        Ok(())
    }

    /// Walks everything and returns what differs from what was known.
    pub(crate) fn rescan(
        &mut self,
        emit: &mut dyn FnMut(&RelPath, &Seen) -> io::Result<()>,
    ) -> io::Result<Vec<Change>> {
        if self.known.is_empty() {
            // Nothing of it was told of.
            self.remembered = Known::default();
        }
        let gathered = self.walk_everything(false, &mut |item| emit(&item.path, &item.seen))?;
        let Gathered { same, fresh } = gathered;
        let mut changes = Changes::default();
        self.replace(self.known.others(&same), &fresh, &mut changes);
        Ok(changes.into_ordered())
    }

    fn walk_everything(
        &mut self,
        eager: bool,
        emit: &mut dyn FnMut(&mut Item) -> io::Result<()>,
    ) -> io::Result<Gathered> {
        self.root.check()?;
        if let Some(watches) = &self.watches {
            watches.clear_trouble();
        }
        let mut same = self.base().positions();
        let mut fresh = Known::default();
        let mut visit = |mut item: Item| {
            emit(&mut item)?;
            match item.position {
                Some(position) => same.insert(position),
                None => fresh.insert(&item.path, &item.seen),
            }
            Ok(())
        };
        let departed = Departed::default();
        let Walked { problems, reserved } = self.walk(Start::Root { eager }, &departed, &mut visit)?;
        // Had the root been replaced meanwhile, half of this would be about another folder.
        self.root.check()?;
        self.problems.set_names(problems);
        self.guard.reserve(&reserved, true);
        Ok(Gathered { same, fresh })
    }

    /// Looks at paths that may have changed (each with whether its content may have) and returns what did.
    pub(crate) fn settle(&mut self, dirty: &BTreeMap<RelPath, bool>) -> io::Result<Vec<Change>> {
        self.root.check()?;
        let mut changes = Changes::default();
        let mut parent = Parent::default();
        let mut departed = Departed::default();
        let mut standing = BTreeMap::new();
        let trust = |content| if content { Trust::Settled } else { Trust::Quiet };
        // What is gone comes first: a file that stands elsewhere now need not be read again.
        for (path, content) in dirty {
            if self.rules.is_pruned(path) {
                continue;
            }
            match self.locate(path, &mut parent)? {
                Located::Gone(path) => self.vanish(&path, &mut departed, &mut changes),
                // Most often what came of our own work.
                Located::Stands(path, Some(stat)) if self.is_as_known(&path, &stat, trust(*content)) => {}
                Located::Stands(path, _) => *standing.entry(path).or_insert(false) |= content,
            }
        }
        for (path, content) in standing {
            let trust = trust(content);
            self.settle_one(&path, trust, &mut parent, &mut departed, &mut changes)?;
        }
        Ok(changes.into_ordered())
    }

    fn settle_one(
        &mut self,
        path: &RelPath,
        trust: Trust,
        parent: &mut Parent,
        departed: &mut Departed,
        changes: &mut Changes,
    ) -> io::Result<()> {
        let parent = match parent.of(&self.root, path) {
            Ok(parent) => parent,
            Err(error) if is_ours(&error) => return Err(error),
            // It changed again since it was located, and says so with another event.
            Err(_) => return Ok(()),
        };
        let ignored = self.rules.decide(path).ignored;
        if ignored && stat_at(parent, path.name()).is_ok_and(|stat| stat.kind != Kind::Directory) {
            return Ok(());
        }
        let Some(seen) = self.look(parent, path.name(), path, trust, departed)? else {
            self.vanish(path, departed, changes);
            return Ok(());
        };
        let old = self.known.get(path);
        if seen.entry == Entry::Directory {
            let same = old.is_some_and(|old| old.is_same_folder(&seen));
            let watched = self.watches.as_ref().is_none_or(|watches| watches.has(path));
            if same && watched {
                // What is in it has events of its own.
                self.record(path, &seen);
                return Ok(());
            }
            if !same && let Some(watches) = &self.watches {
                watches.remove(path);
            }
        } else if path.ancestors().all(|folder| self.known.contains(&folder)) {
            if let Some(watches) = &self.watches {
                watches.remove(path);
            }
            let mut found = Known::default();
            found.insert(path, &seen);
            self.merge(path, &found, changes);
            return Ok(());
        }
        let mut found = Known::default();
        let mut visit = |item: Item| {
            found.insert(&item.path, &item.seen);
            Ok(())
        };
        let Walked { problems, reserved } = self.walk(Start::At(path), departed, &mut visit)?;
        self.problems.add_names(problems);
        self.guard.reserve(&reserved, false);
        self.merge(path, &found, changes);
        Ok(())
    }

    /// Tells whether a file is known just as it was found.
    fn is_as_known(&self, path: &RelPath, stat: &Stat, trust: Trust) -> bool {
        !self.is_mount(path, stat) && self.known.get(path).is_some_and(|seen| seen.is_still(stat, trust))
    }

    fn locate(&self, path: &RelPath, parent: &mut Parent) -> io::Result<Located> {
        let mut path = path.clone();
        loop {
            let error = match parent.of(&self.root, &path) {
                Ok(parent) => {
                    return match stat_at(parent, path.name()) {
                        Err(error) if is_absent(&error) => Ok(Located::Gone(path)),
                        Err(error) if is_ours(&error) => Err(error),
                        stat => Ok(Located::Stands(path, stat.ok())),
                    };
                }
                Err(error) if is_ours(&error) => return Err(error),
                Err(error) => error,
            };
            path = path.parent().ok_or(error)?;
        }
    }

    fn vanish(&mut self, path: &RelPath, departed: &mut Departed, changes: &mut Changes) {
        for path in self.known.at_or_below(Some(path)).into_iter().rev() {
            if let Some(seen) = self.forget(&path) {
                departed.insert(seen);
                changes.0.insert(path, None);
            }
        }
        if let Some(watches) = &self.watches {
            watches.remove(path);
        }
    }

    /// Replaces what is known at and below `path` by what was found there.
    fn merge(&mut self, path: &RelPath, found: &Known, changes: &mut Changes) {
        let known = self.known.at_or_below(Some(path));
        self.replace(known, found, changes);
    }

    /// Replaces what is known at these paths by what was found, there and elsewhere.
    fn replace(&mut self, known: Vec<RelPath>, found: &Known, changes: &mut Changes) {
        for path in known.into_iter().rev().filter(|path| !found.contains(path)) {
            self.forget(&path);
            // What can't be seen any more is not gone.
            let hides = |folder: RelPath| {
                found.get(&folder).is_some_and(|seen| matches!(seen.entry, Entry::Opaque(_)))
            };
            if !path.ancestors().any(hides) {
                changes.0.insert(path, None);
            }
        }
        let mut walk = found.walk();
        while let Some(at) = walk.next() {
            let (Some(path), Some(seen)) = (at.rel_path(), at.seen()) else { continue };
            let old = self.known.get(&path);
            if old.as_ref() != Some(&seen) {
                self.record(&path, &seen);
            }
            if old.is_none_or(|old| old.entry != seen.entry) {
                changes.0.insert(path, Some(seen.entry));
            }
        }
    }
}

/// Makes the error of a walk that was told to stop.
pub(crate) fn stopped() -> io::Error {
    Errno::CANCELED.into()
}
