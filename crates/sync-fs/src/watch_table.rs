//! Which folder each of the kernel's watches stands for.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::fstatfs;
use rustix::fs::inotify::{CreateFlags, WatchFlags, add_watch, init, remove_watch};
use rustix::io::Errno;
use towline_sync_core::path::RelPath;

use self::folders::Folders;

mod folders;

/// File systems whose content changes without this kernel knowing, by the magic number of `statfs`.
const UNAWARE: [(u32, &str); 7] = [
    (0x6969, "NFS"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB"),
    (0x6573_5546, "FUSE"),
    (0x0102_1997, "9p"),
    (0x00c3_6400, "Ceph"),
    (0x5346_414f, "AFS"),
];

/// The watches of one root. Walks add to it, the watcher thread looks up in it.
#[derive(Debug)]
pub(crate) struct WatchTable {
    inotify: OwnedFd,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    folders: Folders,
    /// Why the last walk could not watch everything.
    trouble: Option<String>,
    #[cfg(test)]
    full: bool,
}

impl WatchTable {
    /// Asks the kernel for events.
    pub(crate) fn new() -> Result<Self, String> {
        match init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK) {
            Ok(inotify) => Ok(Self { inotify, state: Mutex::default() }),
            Err(Errno::MFILE) => Err(limit("inotify instances", "max_user_instances")),
            Err(error) => Err(format!("inotify is not to be had: {error}")),
        }
    }

    pub(crate) fn inotify(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }

    /// Watches an open folder under its present path.
    pub(crate) fn add(&self, folder: BorrowedFd<'_>, path: Option<&RelPath>) {
        let flags = WatchFlags::CREATE
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::MODIFY
            | WatchFlags::ATTRIB
            | WatchFlags::DELETE
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::ONLYDIR
            | WatchFlags::EXCL_UNLINK;
        // The descriptor's own link leads to exactly the folder that was opened, whatever its path is by now.
        let link = format!("/proc/self/fd/{}", folder.as_raw_fd());
        // Held across the call: an event of the new watch is looked up only when the watch is in the table.
        let mut state = self.lock();
        let added = add_watch(&self.inotify, link, flags);
        #[cfg(test)]
        let added = if state.full { Err(Errno::NOSPC) } else { added };
        match added {
            Ok(watch) => state.folders.insert(path, watch),
            Err(error) => state.trouble = Some(explain(error)),
        }
        if path.is_none()
            && let Some(name) = unaware(folder)
        {
            state.trouble = Some(format!("{name} does not tell of changes that other machines make"));
        }
    }

    /// Tells whether the folder is watched under this path.
    pub(crate) fn has(&self, path: &RelPath) -> bool {
        self.lock().folders.has(path)
    }

    /// Has the folder `from` renamed to `to`, and takes its watches, and those below it, for the new name's from then on.
    pub(crate) fn rename(
        &self,
        from: &RelPath,
        to: &RelPath,
        rename: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<()> {
        // Held across the call: what happens under the new name is looked up when it is in the table.
        let mut state = self.lock();
        rename()?;
        for watch in state.folders.rename(from, to) {
            // Nothing stood there: what it watched has gone, or has another name and is watched again by that.
            let _gone = remove_watch(&self.inotify, watch);
        }
        Ok(())
    }

    /// Ends the watches of everything at or below `path`.
    pub(crate) fn remove(&self, path: &RelPath) {
        let mut state = self.lock();
        for watch in state.folders.remove(path) {
            // It may have gone with its folder already.
            let _gone = remove_watch(&self.inotify, watch);
        }
    }

    /// Forgets a watch that the kernel has ended.
    pub(crate) fn forget(&self, watch: i32) {
        self.lock().folders.forget(watch);
    }

    /// Returns the path of `name` in the folder a watch stands for, or of the folder itself; `None` for the root and
    /// for what is not ours or can't be a path.
    pub(crate) fn path(&self, watch: i32, name: Option<&str>) -> Option<RelPath> {
        self.lock().folders.path(watch, name)
    }

    /// Returns why some folder is not watched.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.lock().trouble.clone()
    }

    /// Forgets why: a walk of everything begins, and tries again.
    pub(crate) fn clear_trouble(&self) {
        self.lock().trouble = None;
    }

    /// Ends all watches and lets none be added, as a full table of the kernel does.
    #[cfg(test)]
    pub(crate) fn pretend_full(&self) {
        self.lock().full = true;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change under the lock is complete at each step: a panicked holder leaves nothing half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn explain(error: Errno) -> String {
    match error {
        Errno::NOSPC => limit("watched folders", "max_user_watches"),
        Errno::NOENT => "/proc is not mounted".to_owned(),
        error => format!("a folder can't be watched: {}", io::Error::from(error)),
    }
}

fn limit(noun: &str, name: &str) -> String {
    let path = format!("/proc/sys/fs/inotify/{name}");
    #[expect(clippy::disallowed_methods, reason = "the kernel's own number, outside every tree")]
    let now = std::fs::read_to_string(path).unwrap_or_default();
    let now = now.trim();
    let more = now.parse::<u64>().map_or(524_288, |now| now.saturating_mul(4).max(1024));
    format!("the limit of {noun} ({now}) is reached; raise it with `sysctl fs.inotify.{name}={more}`")
}

fn unaware(folder: BorrowedFd<'_>) -> Option<&'static str> {
    let magic = fstatfs(folder).ok()?.f_type;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the magic number has 32 bits, in a field of another width and sign on each architecture"
    )]
    let magic = magic as u32;
    UNAWARE.iter().find(|(known, _)| *known == magic).map(|(_, name)| *name)
}
