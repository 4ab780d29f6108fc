//! Makes the files of a batch in the staging folder, several at a time where there are many.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

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
/// So many files are worth a thread.
const SHARE: usize = 16;

/// A file that is to be made.
#[derive(Debug)]
pub(crate) struct Draft {
    /// Its place in the batch.
    pub(crate) index: usize,
    pub(crate) folder: Arc<OwnedFd>,
    pub(crate) name: String,
    pub(crate) mode: Mode,
    /// The modification time that it gets.
    pub(crate) stamp: Timestamp,
}

/// Files that are to be made, and what became of those that are.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) news: Arc<[New]>,
    pub(crate) drafts: Vec<Draft>,
    pub(crate) memory: Arc<Memory>,
    /// Whether each file is forced to the disk.
    pub(crate) force: bool,
    next: AtomicUsize,
    made: Mutex<Vec<(usize, Step<Seen>)>>,
}

impl Job {
    pub(crate) fn new(news: Arc<[New]>, drafts: Vec<Draft>, memory: Arc<Memory>, force: bool) -> Self {
        let made = Mutex::new(Vec::with_capacity(drafts.len()));
        Self { news, drafts, memory, force, next: AtomicUsize::new(0), made }
    }

    /// Makes one after the other until none is left.
    fn run(&self) {
        while let Some(draft) = self.drafts.get(self.next.fetch_add(1, Ordering::Relaxed)) {
            let new = &self.news[draft.index];
            let made = match &new.body {
                Body::Whole(content) => make(new, draft, content, &self.memory, self.force),
                Body::Delta(_) | Body::Past { .. } => Err(Outcome::NeedContent),
            };
            self.lock().push((draft.index, made));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(usize, Step<Seen>)>> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The threads that make files: whoever asks for it, and helpers, which are started when they are needed and last.
#[derive(Debug)]
pub(crate) struct Makers {
    most: usize,
    helpers: Vec<JoinHandle<()>>,
    board: Arc<Board>,
}

impl Makers {
    /// Of up to so many threads, the one that asks included.
    pub(crate) fn new(threads: usize) -> Self {
        Self { most: threads.saturating_sub(1), helpers: Vec::new(), board: Arc::default() }
    }

    #[cfg(test)]
    pub(crate) fn helpers(&self) -> usize {
        self.helpers.len()
    }

    /// Makes files whose content came whole and returns what became of each. What is not told of was not made: a
    /// helper died of it.
    pub(crate) fn make_all(&mut self, job: Job) -> Vec<(usize, Step<Seen>)> {
        let wanted = (job.drafts.len() / SHARE).saturating_sub(1).min(self.most);
        while self.helpers.len() < wanted {
            let board = Arc::clone(&self.board);
            // Where no thread is to be had, all is made here.
            let Ok(helper) = thread::start("towline-make", move || board.help()) else { break };
            self.helpers.push(helper);
        }
        let job = Arc::new(job);
        if wanted > 0 {
            let mut state = self.board.lock();
            state.job = Some(Arc::clone(&job));
            state.wanted = wanted;
            drop(state);
            self.board.changed.notify_all();
        }
        job.run();
        let mut state = self.board.lock();
        // Whoever has not begun comes too late.
        (state.job, state.wanted) = (None, 0);
        while state.busy > 0 {
            state = self.board.wait(state);
        }
        drop(state);
        std::mem::take(&mut *job.lock())
    }
}

impl Drop for Makers {
    fn drop(&mut self) {
        self.board.lock().closed = true;
        self.board.changed.notify_all();
        for helper in self.helpers.drain(..) {
            // Its panic has been printed.
            let _ended = helper.join();
        }
    }
}

/// Where helpers find what is to be done.
#[derive(Debug, Default)]
struct Board {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    job: Option<Arc<Job>>,
    /// How many more are wanted for it.
    wanted: usize,
    /// How many are at it.
    busy: usize,
    closed: bool,
}

impl Board {
    /// Helps until there will be no more to do.
    fn help(&self) {
        let mut state = self.lock();
        while !state.closed {
            let Some(job) = state.job.clone().filter(|_| state.wanted > 0) else {
                state = self.wait(state);
                continue;
            };
            state.wanted -= 1;
            state.busy += 1;
            drop(state);
            let busy = Busy(self);
            job.run();
            drop(job);
            drop(busy);
            state = self.lock();
        }
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change under the lock is complete at each step.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A helper at work, until it has done or died.
struct Busy<'a>(&'a Board);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.lock().busy -= 1;
        self.0.changed.notify_all();
    }
}

/// Makes a file, if the content is what it must be.
pub(crate) fn make(new: &New, draft: &Draft, content: &[u8], memory: &Memory, force: bool) -> Step<Seen> {
    let New { path, entry, .. } = new;
    let Entry::File(file) = entry else { return Err(not_synced(path)) };
    if content.len() as u64 != file.size || Hash::of(content) != file.hash {
        return Err(Outcome::NeedContent);
    }
    let taken = now();
    let stat = write_new(draft, content, force).map_err(|error| not_staged(path, &error))?;
    if memory.is_interested(file.size)
        && let Ok(signature) = sign(content, file.size)
    {
        memory.keep(file.hash, &signature);
    }
    Ok(Seen::stamped(entry.clone(), stat, draft.stamp, taken))
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
