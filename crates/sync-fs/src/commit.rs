//! Puts a staged entry in its place, or takes one away: the only moments at which the tree changes.
//!
//! A check before a rename leaves a gap in which the user can save. So the rename is an exchange, and what comes out
//! is judged afterwards: if it is not the version that was to be replaced, it goes back.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{AtFlags, Mode, RenameFlags, linkat, mkdirat, renameat, renameat_with, unlinkat};
use rustix::io::Errno;
use towline_sync_core::message::Outcome;
use towline_sync_core::path::RelPath;
use towline_sync_core::snapshot::{Entry, Opaque};

use crate::disk::{Identity, Kind, Timestamp, list, open_folder, read_link, stat_at};
use crate::hook::Moment;
use crate::known::{Departed, Seen, is_recent, now};
use crate::read::hash_file;
use crate::scan::{Trust, is_absent};
use crate::stage::{Stage, remove, remove_below};
use crate::trash::Why;
use crate::tree::{failure, refusal};
use crate::workspace::{Store, Workspace};

/// An `Err` is what becomes of the request.
pub(crate) type Step<T> = Result<T, Outcome>;

/// How deep ignored leftovers of a folder are followed.
const MAX_LEFTOVER_DEPTH: usize = 256;

/// What a folder that is to go still holds.
enum Leftovers {
    /// Nothing, or only what may go with it.
    Removable,
    /// Something that is not synced.
    Unsynced,
    /// Something that is synced and was not there when the folder's end was decided.
    New,
}

impl Workspace {
    /// Puts the entry staged as `name`, which is `ours`, at `path`, in the open folder `parent`, where `from` must stand.
    /// A file was given the modification time `stamp`.
    #[expect(clippy::too_many_arguments, reason = "what is staged, and what it is to be")]
    pub(crate) fn install(
        &mut self,
        name: &str,
        ours: Identity,
        parent: BorrowedFd<'_>,
        path: &RelPath,
        from: Option<&Entry>,
        to: &Entry,
        stamp: Option<Timestamp>,
    ) -> Step<Outcome> {
        let actual = self.actual(parent, path)?;
        if let Some(seen) = actual.as_ref().filter(|seen| seen.entry == *to) {
            self.tree.record(path, seen);
            remove(self.stage()?.incoming(), name).map_err(|error| failed("tidy up after", path, &error))?;
            return Ok(Outcome::Done);
        }
        match self.expect(parent, path, actual, from)? {
            None => {
                self.hook.at(Moment::Checked, path).map_err(|error| failed("write", path, &error))?;
                let placed = move_new(self.stage()?.incoming(), name, parent, path.name());
                if let Err(error) = placed {
                    return Err(if error.kind() == io::ErrorKind::AlreadyExists {
                        self.stale(parent, path)
                    } else {
                        failed("write", path, &error)
                    });
                }
            }
            Some(expected) => self.exchange(name, parent, path, &expected, ours)?,
        }
        self.record_ours(parent, path, to, ours, stamp);
        Ok(Outcome::Done)
    }

    /// Makes the folder `path`, where nothing must stand.
    pub(crate) fn make_folder(&mut self, path: &RelPath) -> Step<Outcome> {
        let parent =
            self.tree.root.open_parent(path).map_err(|error| failed("open the folder of", path, &error))?;
        let parent = parent.as_fd();
        self.hook.at(Moment::Checked, path).map_err(|error| failed("create", path, &error))?;
        match mkdirat(parent, path.name(), Mode::from_raw_mode(0o777)) {
            Ok(()) => {}
            Err(Errno::EXIST) => {
                let actual = self.actual(parent, path)?;
                return match actual {
                    Some(seen) if seen.entry == Entry::Directory => {
                        self.tree.record(path, &seen);
                        Ok(Outcome::Done)
                    }
                    _ => Err(self.stale(parent, path)),
                };
            }
            Err(error) => return Err(failed("create", path, &error.into())),
        }
        if let Ok(stat) = stat_at(parent, path.name())
            && stat.kind == Kind::Directory
        {
            self.tree.record(path, &Seen::new(Entry::Directory, stat, now()));
        }
        Ok(Outcome::Done)
    }

    /// Takes away what stands at `path`, which must be `from`.
    pub(crate) fn take_away(&mut self, path: &RelPath, from: &Entry) -> Step<Outcome> {
        let parent = match self.tree.root.open_parent(path) {
            Ok(parent) => parent,
            // The folder is gone, and so is what was in it.
            Err(error) if is_absent(&error) => return Ok(self.gone(path)),
            Err(error) => return Err(failed("open the folder of", path, &error)),
        };
        let parent = parent.as_fd();
        let Some(actual) = self.actual(parent, path)? else {
            return Ok(self.gone(path));
        };
        let Some(expected) = self.expect(parent, path, Some(actual), Some(from))? else {
            return Ok(self.gone(path));
        };
        if expected.entry == Entry::Directory {
            self.clear(parent, path)?;
            self.hook.at(Moment::Checked, path).map_err(|error| failed("remove", path, &error))?;
            return match unlinkat(parent, path.name(), AtFlags::REMOVEDIR) {
                Ok(()) | Err(Errno::NOENT) => Ok(self.gone(path)),
                Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR) => Err(self.stale(parent, path)),
                Err(error) => Err(failed("remove", path, &error.into())),
            };
        }
        self.displacements += 1;
        let name = &format!("deleted-{:x}", self.displacements);
        self.hook.at(Moment::Checked, path).map_err(|error| failed("delete", path, &error))?;
        let displaced = self.stage()?.displaced();
        match move_new(parent, path.name(), displaced, name) {
            Ok(()) => {}
            Err(error) if is_absent(&error) => return Ok(self.gone(path)),
            Err(error) => return Err(failed("delete", path, &error)),
        }
        self.hook.at(Moment::Displaced, path).map_err(|error| failed("delete", path, &error))?;
        let displaced = self.stage()?.displaced();
        if judge(displaced, name, &expected) {
            self.hook.at(Moment::Judged, path).map_err(|error| failed("delete", path, &error))?;
            let Err(outcome) = self.discard(name, path, &expected.entry, Why::Deleted) else {
                return Ok(self.gone(path));
            };
            self.move_back(name, parent, path)?;
            return Err(outcome);
        }
        self.move_back(name, parent, path)?;
        Err(self.stale(parent, path))
    }

    /// Returns what stands at `path` now.
    pub(crate) fn actual(&mut self, parent: BorrowedFd<'_>, path: &RelPath) -> Step<Option<Seen>> {
        let seen = self
            .tree
            .look(parent, path.name(), path, Trust::Settled, &Departed::default())
            .map_err(|error| failed("look at", path, &error))?;
        if let Some(seen) = &seen
            && self.tree.known.get(path).is_some_and(|known| known.entry == seen.entry && known != *seen)
        {
            // It need not be read again.
            self.tree.record(path, seen);
        }
        Ok(seen)
    }

    /// Returns what stands at `path` if it is `from`; otherwise the request is stale.
    pub(crate) fn expect(
        &mut self,
        parent: BorrowedFd<'_>,
        path: &RelPath,
        actual: Option<Seen>,
        from: Option<&Entry>,
    ) -> Step<Option<Seen>> {
        if actual.as_ref().map(|seen| &seen.entry) == from {
            return Ok(actual);
        }
        let mut entry = actual.map(|seen| seen.entry);
        if entry.is_some() && !self.case_sensitive && !has_name(parent, path.name()) {
            entry = Some(Entry::Opaque(Opaque::Name));
        } else {
            self.suspects.insert(path.clone(), true);
        }
        Err(Outcome::Stale { actual: entry })
    }

    /// Reports what stands at `path` as not what was expected.
    pub(crate) fn stale(&mut self, parent: BorrowedFd<'_>, path: &RelPath) -> Outcome {
        self.suspects.insert(path.clone(), true);
        match self.actual(parent, path) {
            Ok(actual) => {
                let blind = actual.is_some() && !self.case_sensitive && !has_name(parent, path.name());
                let entry = actual.map(|seen| seen.entry);
                Outcome::Stale { actual: if blind { Some(Entry::Opaque(Opaque::Name)) } else { entry } }
            }
            Err(outcome) => outcome,
        }
    }

    pub(crate) fn store(&mut self) -> Step<&mut Store> {
        self.store.as_mut().ok_or_else(unwritable)
    }

    /// Returns the staging folder, which is made if it does not stand.
    pub(crate) fn stage(&mut self) -> Step<&Stage> {
        let store = self.store.as_mut().ok_or_else(unwritable)?;
        let stage = match store.stage.take() {
            Some(stage) => stage,
            None => Stage::open(&self.tree.root, store.stage_name.as_deref())
                .map_err(|error| Outcome::Failed(failure("make a staging folder", &error)))?,
        };
        Ok(store.stage.insert(stage))
    }

    /// Exchanges the staged entry with what stands at `path` and judges what came out.
    fn exchange(
        &mut self,
        name: &str,
        parent: BorrowedFd<'_>,
        path: &RelPath,
        expected: &Seen,
        ours: Identity,
    ) -> Step<()> {
        if expected.entry == Entry::Directory {
            self.clear(parent, path)?;
        }
        let stage = &self.stage()?;
        // From here on the name may hold the user's bytes, which a crash must not sweep away.
        renameat(stage.incoming(), name, stage.displaced(), name)
            .map_err(|error| failed("stage", path, &error.into()))?;
        if let Err(error) = self.hook.at(Moment::Checked, path) {
            self.unstage(name, path)?;
            return Err(failed("replace", path, &error));
        }
        let displaced = self.stage()?.displaced();
        match rename_with(displaced, name, parent, path.name(), RenameFlags::EXCHANGE) {
            Ok(()) => {}
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::XDEV) => {
                let replaced = replace_plainly(displaced, name, parent, path.name(), expected);
                return match replaced {
                    Ok(true) => self.settle_plain_replacement(name, path, expected),
                    Ok(false) => {
                        self.unstage(name, path)?;
                        Err(self.stale(parent, path))
                    }
                    Err(error) => {
                        self.unstage(name, path)?;
                        Err(failed("replace", path, &error))
                    }
                };
            }
            Err(error) => {
                self.unstage(name, path)?;
                return Err(if error == Errno::NOENT {
                    self.stale(parent, path)
                } else {
                    failed("replace", path, &error.into())
                });
            }
        }
        self.hook.at(Moment::Exchanged, path).map_err(|error| failed("replace", path, &error))?;
        let displaced = self.stage()?.displaced();
        let mut expected_out = judge(displaced, name, expected);
        if expected_out && expected.entry == Entry::Directory {
            // It is empty, or somebody has just put something in.
            expected_out = unlinkat(displaced, name, AtFlags::REMOVEDIR).is_ok();
        } else if expected_out {
            self.hook.at(Moment::Judged, path).map_err(|error| failed("replace", path, &error))?;
            if let Err(outcome) = self.discard(name, path, &expected.entry, Why::Replaced) {
                self.put_back(name, parent, path, ours)?;
                return Err(outcome);
            }
        }
        if expected_out {
            return Ok(());
        }
        self.put_back(name, parent, path, ours)?;
        Err(self.stale(parent, path))
    }

    /// Gives a displaced entry its free name back, or keeps it where it can be found if another version has it.
    fn move_back(&mut self, name: &str, parent: BorrowedFd<'_>, path: &RelPath) -> Step<()> {
        if move_new(self.stage()?.displaced(), name, parent, path.name()).is_err() {
            self.discard_unknown(name, path)?;
        }
        Ok(())
    }

    /// Gives the name back to the version that came out of an exchange and was not the expected one.
    fn put_back(&mut self, name: &str, parent: BorrowedFd<'_>, path: &RelPath, ours: Identity) -> Step<()> {
        let displaced = self.stage()?.displaced();
        if rename_with(displaced, name, parent, path.name(), RenameFlags::EXCHANGE).is_err() {
            // The name is gone: so it goes back alone.
            return self.move_back(name, parent, path);
        }
        let out = stat_at(displaced, name).map_err(|error| failed("restore", path, &error))?;
        if out.identity == ours {
            return remove(displaced, name).map_err(|error| failed("tidy up after", path, &error));
        }
        // Meanwhile the user saved once more, over ours: the later version belongs at the name.
        if rename_with(displaced, name, parent, path.name(), RenameFlags::EXCHANGE).is_err() {
            return self.move_back(name, parent, path);
        }
        self.discard_unknown(name, path)
    }

    fn settle_plain_replacement(&mut self, name: &str, path: &RelPath, expected: &Seen) -> Step<()> {
        if expected.entry == Entry::Directory {
            return Ok(());
        }
        self.discard(name, path, &expected.entry, Why::Replaced)
    }

    /// Removes what was staged and did not get its place.
    fn unstage(&mut self, name: &str, path: &RelPath) -> Step<()> {
        remove(self.stage()?.displaced(), name).map_err(|error| failed("tidy up after", path, &error))
    }

    /// Moves a displaced entry, known to be `entry`, to the trash.
    fn discard(&mut self, name: &str, path: &RelPath, entry: &Entry, why: Why) -> Step<()> {
        self.stage()?;
        let Store { stage: Some(stage), trash, .. } = self.store()? else {
            return Err(unwritable());
        };
        trash
            .take(stage.displaced(), name, path.as_str(), entry, why)
            .map_err(|error| failed("keep the old version of", path, &error))
    }

    /// Moves a displaced entry of whatever content to the trash.
    fn discard_unknown(&mut self, name: &str, path: &RelPath) -> Step<()> {
        let displaced = self.stage()?.displaced();
        let entry = match hash_file(displaced, name) {
            Ok(seen) => seen.entry,
            Err(_) => match read_link(displaced, name) {
                Ok(Some(target)) => Entry::Symlink { target },
                // A folder with something in it: it stays where it is and is recovered by hand.
                _ => return Ok(()),
            },
        };
        self.discard(name, path, &entry, Why::Recovered)
    }

    /// Empties a folder of what may go with it. Nothing is removed unless everything may.
    fn clear(&mut self, parent: BorrowedFd<'_>, path: &RelPath) -> Step<()> {
        let leftovers = self
            .leftovers(parent, path.name(), path, 0)
            .map_err(|error| failed("look into", path, &error))?;
        match leftovers {
            Leftovers::Removable => remove_below(parent, path.name(), MAX_LEFTOVER_DEPTH)
                .map_err(|error| failed("empty", path, &error)),
            Leftovers::Unsynced => Err(Outcome::Kept),
            Leftovers::New => Err(self.stale(parent, path)),
        }
    }

    fn leftovers(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &str,
        path: &RelPath,
        depth: usize,
    ) -> io::Result<Leftovers> {
        let folder = open_folder(parent, name)?;
        let mut unsynced = false;
        for bytes in list(folder.as_fd())? {
            let Some(child) = std::str::from_utf8(&bytes).ok().and_then(|name| path.join(name).ok()) else {
                unsynced = true;
                continue;
            };
            let stat = stat_at(folder.as_fd(), child.name())?;
            let verdict = self.tree.rules.decide(&child);
            let plain =
                stat.kind == Kind::Directory && !stat.mount_root && !self.tree.mounts.contains(&child);
            if verdict.ignored {
                let below = if plain && verdict.deletable && depth < MAX_LEFTOVER_DEPTH {
                    self.leftovers(folder.as_fd(), child.name(), &child, depth + 1)?
                } else {
                    Leftovers::Removable
                };
                match below {
                    Leftovers::New => return Ok(Leftovers::New),
                    Leftovers::Unsynced => unsynced = true,
                    Leftovers::Removable => {
                        unsynced |= !verdict.deletable || (stat.kind == Kind::Directory && !plain);
                    }
                }
            } else if plain {
                match self.leftovers(folder.as_fd(), child.name(), &child, depth + 1)? {
                    Leftovers::Unsynced => unsynced = true,
                    Leftovers::New | Leftovers::Removable => {
                        self.suspects.insert(child, true);
                        return Ok(Leftovers::New);
                    }
                }
            } else {
                let seen = self.tree.look(
                    folder.as_fd(),
                    child.name(),
                    &child,
                    Trust::Settled,
                    &Departed::default(),
                )?;
                match seen.map(|seen| seen.entry) {
                    None => {}
                    Some(Entry::Opaque(_)) => unsynced = true,
                    Some(_) => {
                        self.suspects.insert(child, true);
                        return Ok(Leftovers::New);
                    }
                }
            }
        }
        Ok(if unsynced { Leftovers::Unsynced } else { Leftovers::Removable })
    }

    fn gone(&mut self, path: &RelPath) -> Outcome {
        for path in self.tree.known.at_or_below(Some(path)) {
            self.tree.forget(&path);
        }
        Outcome::Done
    }

    /// Records what we put at `path`, if it is still there: the events it causes then say nothing new.
    fn record_ours(
        &mut self,
        parent: BorrowedFd<'_>,
        path: &RelPath,
        to: &Entry,
        ours: Identity,
        stamp: Option<Timestamp>,
    ) {
        match stat_at(parent, path.name()) {
            Ok(stat) if stat.identity == ours => {
                let seen = match stamp {
                    Some(stamp) => Seen::stamped(to.clone(), stat, stamp, now()),
                    None => Seen::new(to.clone(), stat, now()),
                };
                self.tree.record(path, &seen);
            }
            _ => {
                self.suspects.insert(path.clone(), true);
            }
        }
    }
}

fn unwritable() -> Outcome {
    Outcome::Failed(refusal(Errno::ROFS, "the folder can't be written to"))
}

/// Words a refusal of the operating system.
pub(crate) fn failed(doing: &str, path: &RelPath, error: &io::Error) -> Outcome {
    Outcome::Failed(failure(&format!("{doing} {path}"), error))
}

/// Tells whether what came out of the tree is the version that was expected there.
fn judge(displaced: BorrowedFd<'_>, name: &str, expected: &Seen) -> bool {
    let Ok(stat) = stat_at(displaced, name) else { return false };
    match &expected.entry {
        Entry::Directory => stat.kind == Kind::Directory,
        Entry::Symlink { target } => {
            stat.kind == Kind::Symlink
                && read_link(displaced, name).is_ok_and(|text| text.as_ref() == Some(target))
        }
        Entry::File(_) if stat.kind != Kind::File => false,
        Entry::File(_) => {
            // The move set the change time to now: it says nothing of the content any more.
            let settled =
                Seen { stat: crate::disk::Stat { changed: stat.modified, ..stat }, ..expected.clone() };
            let unchanged =
                stat.is_moved(&expected.stat) && !expected.racy && !is_recent(&settled.stat, now());
            // Overlay file systems give a file another inode when it moves.
            unchanged || hash_file(displaced, name).is_ok_and(|seen| seen.entry == expected.entry)
        }
        Entry::Opaque(_) => false,
    }
}

#[cfg(test)]
thread_local! {
    /// Whether this thread's file system can neither exchange nor refuse to replace.
    pub(crate) static PLAIN: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// Renames in a way that not every file system knows.
fn rename_with(
    from: BorrowedFd<'_>,
    name: &str,
    to: BorrowedFd<'_>,
    new: &str,
    flags: RenameFlags,
) -> rustix::io::Result<()> {
    #[cfg(test)]
    if PLAIN.get() {
        return Err(Errno::INVAL);
    }
    renameat_with(from, name, to, new, flags)
}

/// Moves an entry to a name that must be free.
pub(crate) fn move_new(from: BorrowedFd<'_>, name: &str, to: BorrowedFd<'_>, new: &str) -> io::Result<()> {
    match rename_with(from, name, to, new, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {}
        result => return Ok(result?),
    }
    match linkat(from, name, to, new, AtFlags::empty()) {
        Ok(()) => remove(from, name),
        Err(Errno::EXIST) => Err(Errno::EXIST.into()),
        // Neither: what is left is to look first.
        Err(_) => match stat_at(to, new) {
            Ok(_) => Err(Errno::EXIST.into()),
            Err(error) if is_absent(&error) => Ok(renameat(from, name, to, new)?),
            Err(error) => Err(error),
        },
    }
}

/// Replaces where the file system can't exchange: the old version gets a second name for the trash, is looked at a
/// last time, and is renamed over. Tells whether it was the expected one; if not, nothing was changed.
fn replace_plainly(
    displaced: BorrowedFd<'_>,
    name: &str,
    parent: BorrowedFd<'_>,
    target: &str,
    expected: &Seen,
) -> io::Result<bool> {
    if expected.entry == Entry::Directory {
        unlinkat(parent, target, AtFlags::REMOVEDIR)?;
        return match move_new(displaced, name, parent, target) {
            Ok(()) => Ok(true),
            Err(error) => {
                mkdirat(parent, target, Mode::from_raw_mode(0o777))?;
                Err(error)
            }
        };
    }
    let old = format!("{name}.old");
    remove(displaced, old.as_str())?;
    // A folder can't be renamed over a file: then the old version has to leave first.
    let linked = stat_at(displaced, name)?.kind != Kind::Directory
        && linkat(parent, target, displaced, &old, AtFlags::empty()).is_ok();
    if !linked {
        renameat(parent, target, displaced, &old)?;
    }
    let same = judge(displaced, &old, expected);
    let placed = match (same, linked) {
        (true, true) => renameat(displaced, name, parent, target).map_err(io::Error::from),
        (true, false) => move_new(displaced, name, parent, target),
        (false, _) => Ok(()),
    };
    if same && placed.is_ok() {
        renameat(displaced, &old, displaced, name)?;
        return Ok(true);
    }
    if linked {
        remove(displaced, old.as_str())?;
    } else {
        move_new(displaced, &old, parent, target)?;
    }
    placed.map(|()| false)
}

/// Tells whether the folder lists exactly this name.
fn has_name(folder: BorrowedFd<'_>, name: &str) -> bool {
    open_folder(folder, ".")
        .and_then(|folder| list(folder.as_fd()))
        .is_ok_and(|names| names.iter().any(|listed| listed == name.as_bytes()))
}
