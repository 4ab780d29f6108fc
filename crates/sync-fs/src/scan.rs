//! Looks at paths and walks folders, without following a link and without taking an error for an absence.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::io::Errno;
use towline_sync_core::path::RelPath;
use towline_sync_core::snapshot::{Entry, Opaque};

use crate::disk::{Kind, Stat, list, open_folder, read_link, stat_at};
use crate::known::{Departed, Seen, now};
use crate::read::{file_entry, hash_file};
use crate::symlink::stays_beneath;
use crate::tree::Tree;

/// How often a path is looked at again that changes its kind under our eyes.
const ATTEMPTS: usize = 3;

/// How far an unchanged stat is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trust {
    /// Unless the stat is racy.
    Settled,
    /// Always: an event has come, and it was not about content.
    Quiet,
}

/// Receives what a walk finds, folders before what is in them; an error ends the walk.
pub(crate) type Visit<'a> = dyn FnMut(RelPath, Seen) -> io::Result<()> + 'a;

/// One walk and what it gathers beside the entries.
pub(crate) struct Walk<'a> {
    tree: &'a Tree,
    departed: &'a Departed,
    visit: &'a mut Visit<'a>,
    /// Ignored folders above the place where we are, not yet reported: they are when something below them is.
    held: Vec<(RelPath, Seen)>,
    /// Names that no entry can carry, and why.
    pub(crate) problems: Vec<(String, &'static str)>,
    /// What has a protected name.
    pub(crate) reserved: Vec<Stat>,
}

impl Tree {
    /// Returns what stands at `name` in `folder`, whose path from the root is `path`.
    ///
    /// Errors are those of the whole process (no descriptors, no memory); what concerns only this file makes it
    /// [`Opaque::Unreadable`].
    pub(crate) fn look(
        &self,
        folder: BorrowedFd<'_>,
        name: &str,
        path: &RelPath,
        trust: Trust,
        departed: &Departed,
    ) -> io::Result<Option<Seen>> {
        for _ in 0..ATTEMPTS {
            let taken = now();
            let stat = match stat_at(folder, name) {
                Ok(stat) => stat,
                Err(error) if is_absent(&error) => return Ok(None),
                Err(error) if is_ours(&error) => return Err(error),
                // A folder that may be listed but not searched.
                Err(_) => {
                    return Ok(Some(Seen::new(Entry::Opaque(Opaque::Unreadable), Stat::UNKNOWN, taken)));
                }
            };
            let entry = match stat.kind {
                _ if self.is_mount(path, &stat) => Entry::Opaque(Opaque::Mount),
                Kind::Directory => Entry::Directory,
                Kind::Special => Entry::Opaque(Opaque::Special),
                Kind::Symlink => match read_link(folder, name) {
                    Ok(Some(target)) if stays_beneath(path, &target) => Entry::Symlink { target },
                    Ok(_) => Entry::Opaque(Opaque::OutsideLink),
                    Err(_) => continue,
                },
                Kind::File => {
                    if let Some(seen) = self.unchanged(path, &stat, trust) {
                        return Ok(Some(seen.clone()));
                    }
                    if let Some(hash) = departed.hash(&stat) {
                        file_entry(hash, stat.size, &stat)
                    } else {
                        match hash_file(folder, name) {
                            Ok(seen) => return Ok(Some(seen)),
                            Err(error) if is_ours(&error) => return Err(error),
                            Err(error) if is_absent(&error) || is_replaced(&error) => continue,
                            Err(_) => Entry::Opaque(Opaque::Unreadable),
                        }
                    }
                }
            };
            return Ok(Some(Seen::new(entry, stat, taken)));
        }
        Err(io::Error::new(io::ErrorKind::ResourceBusy, format!("{path} keeps changing")))
    }

    /// Walks everything at or below `start` (`None`: the root) and reports what is not ignored.
    pub(crate) fn walk<'a>(
        &'a self,
        start: Option<&RelPath>,
        departed: &'a Departed,
        visit: &'a mut Visit<'a>,
    ) -> io::Result<Walk<'a>> {
        let mut walk = Walk {
            tree: self,
            departed,
            visit,
            held: Vec::new(),
            problems: Vec::new(),
            reserved: Vec::new(),
        };
        match start {
            None => {
                let root = self.root.open_to_list(None)?;
                self.watch(root.as_fd(), None);
                let names = list(root.as_fd())?;
                walk.folder(root.as_fd(), None, names)?;
            }
            Some(path) => {
                let parent = self.root.open_parent(path)?;
                for folder in path.ancestors().collect::<Vec<_>>().into_iter().rev() {
                    if self.known.get(&folder).is_none() {
                        let above = self.root.open_parent(&folder)?;
                        let found = stat_at(above.as_fd(), folder.name())?;
                        walk.held.push((folder, Seen::new(Entry::Directory, found, now())));
                    }
                }
                walk.name(parent.as_fd(), path.name(), path)?;
            }
        }
        Ok(walk)
    }

    fn is_mount(&self, path: &RelPath, stat: &Stat) -> bool {
        // The device tells only of folders: on overlay file systems files may carry the device of a layer.
        let other_disk = stat.kind == Kind::Directory && stat.identity.device != self.root.identity().device;
        stat.mount_root || other_disk || self.mounts.contains(path)
    }

    /// Returns what is known of a file whose stat says that it has not changed.
    pub(crate) fn unchanged(&self, path: &RelPath, stat: &Stat, trust: Trust) -> Option<&Seen> {
        let seen = self.known.get(path)?;
        let believed = trust == Trust::Quiet || !seen.racy;
        (believed && seen.stat == *stat && seen.hash().is_some()).then_some(seen)
    }
}

impl Walk<'_> {
    fn folder(
        &mut self,
        fd: BorrowedFd<'_>,
        path: Option<&RelPath>,
        mut names: Vec<Vec<u8>>,
    ) -> io::Result<()> {
        names.sort_unstable();
        for bytes in names {
            let child = std::str::from_utf8(&bytes).ok().map(|name| match path {
                Some(path) => path.join(name),
                None => RelPath::new(name),
            });
            let problem = match child {
                Some(Ok(child)) => {
                    self.name(fd, child.name(), &child)?;
                    continue;
                }
                Some(Err(_)) => "the path is too long or too deep",
                None => "the name is not UTF-8",
            };
            let name = String::from_utf8_lossy(&bytes);
            self.problems.push((path.map_or(name.to_string(), |path| format!("{path}/{name}")), problem));
        }
        Ok(())
    }

    fn name(&mut self, folder: BorrowedFd<'_>, name: &str, path: &RelPath) -> io::Result<()> {
        if self.tree.guard.is_reserved(path) {
            self.reserved.extend(stat_at(folder, name));
        }
        let verdict = self.tree.rules.decide(path);
        if verdict.ignored {
            let folder_below = !verdict.skip_dir
                && stat_at(folder, name)
                    .is_ok_and(|stat| stat.kind == Kind::Directory && !self.tree.is_mount(path, &stat));
            if !folder_below {
                return Ok(());
            }
        }
        let Some(mut seen) = self.tree.look(folder, name, path, Trust::Settled, self.departed)? else {
            return Ok(());
        };
        if seen.entry != Entry::Directory {
            return if verdict.ignored { Ok(()) } else { self.report(path.clone(), seen) };
        }
        let listing = open_folder(folder, name).and_then(|fd| {
            self.tree.watch(fd.as_fd(), Some(path));
            let names = list(fd.as_fd())?;
            #[cfg(test)]
            self.tree.just_listed(Some(path));
            Ok((fd, names))
        });
        let (fd, names) = match listing {
            Ok(listing) => listing,
            Err(error) if is_ours(&error) => return Err(error),
            Err(error) if is_absent(&error) => return Ok(()),
            // Something else took its name: to say nothing of it would say that it is gone.
            Err(error) if is_replaced(&error) => return Err(error),
            Err(_) if verdict.ignored => return Ok(()),
            Err(_) => {
                seen.entry = Entry::Opaque(Opaque::Unreadable);
                return self.report(path.clone(), seen);
            }
        };
        // An ignored folder that was reported once stays reported while it stands: its last child's end is not its own.
        if verdict.ignored && self.tree.known.get(path).is_none() {
            let depth = self.held.len();
            self.held.push((path.clone(), seen));
            self.folder(fd.as_fd(), Some(path), names)?;
            self.held.truncate(depth);
            return Ok(());
        }
        self.report(path.clone(), seen)?;
        self.folder(fd.as_fd(), Some(path), names)
    }

    fn report(&mut self, path: RelPath, seen: Seen) -> io::Result<()> {
        for (path, seen) in self.held.drain(..) {
            (self.visit)(path, seen)?;
        }
        (self.visit)(path, seen)
    }
}

/// Tells whether the error says that nothing stands there.
pub(crate) fn is_absent(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::NOENT.raw_os_error())
}

/// Tells whether the error says that something of another kind stands there.
pub(crate) fn is_replaced(error: &io::Error) -> bool {
    let replaced = [Errno::LOOP, Errno::NOTDIR, Errno::NXIO].map(|errno| Some(errno.raw_os_error()));
    replaced.contains(&error.raw_os_error()) || error.kind() == io::ErrorKind::InvalidInput
}

/// Tells whether the error is the process's own trouble and says nothing about the file.
pub(crate) fn is_ours(error: &io::Error) -> bool {
    let ours = [Errno::MFILE, Errno::NFILE, Errno::NOMEM].map(|errno| Some(errno.raw_os_error()));
    ours.contains(&error.raw_os_error())
}
