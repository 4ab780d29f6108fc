//! Makes the files of a batch in the staging folder, several at a time where there are many.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, fchmod, futimens, mkdirat, openat};
use rustix::io::Errno;
use towline_sync_core::block::sign;
use towline_sync_core::message::{Body, New, Outcome};
use towline_sync_core::path::RelPath;
use towline_sync_core::snapshot::{Entry, Hash, Opaque};

use crate::apply::not_synced;
use crate::commit::{Step, failed};
use crate::disk::{Stat, Timestamp, enter_folder, stat_of};
use crate::known::{Seen, now};
use crate::memory::Memory;
use crate::stage::remove;
use crate::thread;

/// The most files that are made at once: the folder of each may be held open.
pub(crate) const MAX_DRAFTS: usize = 128;
/// So many files are worth another thread.
const SHARE: usize = 16;

/// A file that is to be made.
pub(crate) struct Draft {
    /// Its place in the batch.
    pub(crate) index: usize,
    pub(crate) folder: Arc<OwnedFd>,
    pub(crate) name: String,
    pub(crate) mode: Mode,
    /// The modification time that it gets.
    pub(crate) stamp: Timestamp,
}

/// What is needed to make the files of a batch.
pub(crate) struct Maker<'a> {
    pub(crate) news: &'a [New],
    pub(crate) memory: &'a Memory,
    /// Whether each file is forced to the disk.
    pub(crate) force: bool,
}

impl Maker<'_> {
    /// Makes files whose content came whole, by up to `threads` threads, and returns what became of each.
    pub(crate) fn make_all(&self, drafts: &[Draft], threads: usize) -> Vec<(usize, Step<Seen>)> {
        let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::with_capacity(drafts.len())));
        let make = || {
            while let Some(draft) = drafts.get(next.fetch_add(1, Ordering::Relaxed)) {
                let seen = self.draft(draft);
                done.lock().unwrap_or_else(PoisonError::into_inner).push((draft.index, seen));
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..(drafts.len() / SHARE).min(threads) {
                // Where no thread is to be had, all is made here.
                let _started = thread::start_in(scope, "towline-make", make);
            }
            make();
        });
        done.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    fn draft(&self, draft: &Draft) -> Step<Seen> {
        match &self.news[draft.index].body {
            Body::Whole(content) => self.make(draft, content),
            Body::Delta(_) | Body::Past { .. } => Err(Outcome::NeedContent),
        }
    }

    /// Makes a file, if the content is what it must be.
    pub(crate) fn make(&self, draft: &Draft, content: &[u8]) -> Step<Seen> {
        let New { path, entry, .. } = &self.news[draft.index];
        let Entry::File(file) = entry else { return Err(not_synced(path)) };
        if content.len() as u64 != file.size || Hash::of(content) != file.hash {
            return Err(Outcome::NeedContent);
        }
        let taken = now();
        let stat = write_new(draft, content, self.force).map_err(|error| not_staged(path, &error))?;
        if self.memory.is_interested(file.size)
            && let Ok(signature) = sign(content, file.size)
        {
            self.memory.keep(file.hash, &signature);
        }
        Ok(Seen::stamped(entry.clone(), stat, draft.stamp, taken))
    }
}

/// Makes a folder and opens it.
pub(crate) fn make_folder(folder: BorrowedFd<'_>, name: &str) -> io::Result<(OwnedFd, Stat)> {
    mkdirat(folder, name, Mode::from_raw_mode(0o777))?;
    let fd = enter_folder(folder, name)?;
    let stat = stat_of(fd.as_fd())?;
    Ok((fd, stat))
}

/// Says why an entry could not be made in the staging folder.
pub(crate) fn not_staged(path: &RelPath, error: &io::Error) -> Outcome {
    match error.raw_os_error() {
        // Two names of the batch are one on this disk.
        Some(errno) if errno == Errno::EXIST.raw_os_error() => {
            Outcome::Stale { actual: Some(Entry::Opaque(Opaque::Name)) }
        }
        _ => failed("write", path, error),
    }
}

fn write_new(draft: &Draft, content: &[u8], force: bool) -> io::Result<Stat> {
    let Draft { folder, name, mode, stamp, .. } = draft;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = openat(folder, name.as_str(), flags, *mode)?;
    let mut file = File::from(fd);
    let mut write = || {
        file.write_all(content)?;
        set_modified(&file, *stamp)?;
        let mut stat = stat_of(file.as_fd())?;
        if stat.mode & 0o777 != mode.as_raw_mode() {
            fchmod(&file, *mode)?;
            stat = stat_of(file.as_fd())?;
        }
        if force {
            file.sync_data()?;
        }
        Ok(stat)
    };
    let written = write();
    if written.is_err() {
        // The error that led here is the one to tell.
        let _left = remove(folder.as_fd(), name.as_str());
    }
    written
}

/// Gives a file a modification time.
pub(crate) fn set_modified(file: &File, (seconds, nanoseconds): Timestamp) -> io::Result<()> {
    // Larger values of nanoseconds are commands of their own.
    if nanoseconds >= 1_000_000_000 {
        return Ok(());
    }
    let times = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: seconds, tv_nsec: nanoseconds.into() },
    };
    Ok(futimens(file, &times)?)
}
