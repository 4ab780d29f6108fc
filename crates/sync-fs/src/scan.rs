//! Looks at paths without following a link and without taking an error for an absence.

use std::io;
use std::os::fd::BorrowedFd;

use rustix::io::Errno;
use towline_sync_core::path::RelPath;
use towline_sync_core::snapshot::{Entry, Opaque};

use crate::disk::{Kind, Stat, read_link, stat_at};
use crate::known::{Departed, Position, Seen, now};
use crate::read::{Also, file_entry, read_file};
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

/// What stands at one path.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) path: RelPath,
    pub(crate) seen: Seen,
    /// Where that is in what the walk [began with](Tree::base), if that is as good.
    pub(crate) position: Option<Position>,
    /// A small file's content, if it was read and is wanted.
    pub(crate) content: Option<Vec<u8>>,
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
        let looked = self.look_and_keep(folder, name, path, trust, departed, false)?;
        Ok(looked.map(|(seen, _)| seen))
    }

    /// Returns what stands at `name` in `folder`, and with `keep` the content of a small file that had to be read.
    pub(crate) fn look_and_keep(
        &self,
        folder: BorrowedFd<'_>,
        name: &str,
        path: &RelPath,
        trust: Trust,
        departed: &Departed,
        keep: bool,
    ) -> io::Result<Option<(Seen, Option<Vec<u8>>)>> {
        for _ in 0..ATTEMPTS {
            let taken = now();
            let stat = match stat_at(folder, name) {
                Ok(stat) => stat,
                Err(error) if is_absent(&error) => return Ok(None),
                Err(error) if is_ours(&error) => return Err(error),
                // A folder that may be listed but not searched.
                Err(_) => {
                    let seen = Seen::new(Entry::Opaque(Opaque::Unreadable), Stat::UNKNOWN, taken);
                    return Ok(Some((seen, None)));
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
                        return Ok(Some((seen, None)));
                    }
                    if let Some(hash) = departed.hash(&stat) {
                        file_entry(hash, stat.size, &stat)
                    } else {
                        let old = self.last_seen(path).and_then(|seen| seen.hash());
                        match read_file(folder, name, Also { memory: &self.memory, old, keep }) {
                            Ok(read) => return Ok(Some(read)),
                            Err(error) if is_ours(&error) => return Err(error),
                            Err(error) if is_absent(&error) || is_replaced(&error) => continue,
                            Err(_) => Entry::Opaque(Opaque::Unreadable),
                        }
                    }
                }
            };
            return Ok(Some((Seen::new(entry, stat, taken), None)));
        }
        Err(io::Error::new(io::ErrorKind::ResourceBusy, format!("{path} keeps changing")))
    }

    pub(crate) fn is_mount(&self, path: &RelPath, stat: &Stat) -> bool {
        // The device tells only of folders: on overlay file systems files may carry the device of a layer.
        let other_disk = stat.kind == Kind::Directory && stat.identity.device != self.root.identity().device;
        stat.mount_root || other_disk || self.mounts.contains(path)
    }

    /// Returns what stood at a path in this session, or in the one before.
    fn last_seen(&self, path: &RelPath) -> Option<Seen> {
        self.known.get(path).or_else(|| self.remembered.get(path))
    }

    /// Returns what is known of a file whose stat says that it has not changed.
    pub(crate) fn unchanged(&self, path: &RelPath, stat: &Stat, trust: Trust) -> Option<Seen> {
        let seen = self.last_seen(path)?;
        seen.is_still(stat, trust).then_some(seen)
    }
}

impl Seen {
    /// Tells whether this is a file that has not changed, as its stat tells.
    pub(crate) fn is_still(&self, stat: &Stat, trust: Trust) -> bool {
        let believed = trust == Trust::Quiet || !self.racy;
        believed && self.stat == *stat && self.hash().is_some()
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
