//! Makes the files of a batch in the staging folder, several at a time where there are many.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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
    helpers: Vec<Helper>,
}

impl Makers {
    /// Of up to so many threads, the one that asks included.
    pub(crate) fn new(threads: usize) -> Self {
        Self { most: threads.saturating_sub(1), helpers: Vec::new() }
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
            // Where no thread is to be had, all is made here.
            let Ok(helper) = Helper::start() else { break };
            self.helpers.push(helper);
        }
        let job = Arc::new(job);
        let (asked, _) = self.helpers.split_at(wanted.min(self.helpers.len()));
        for helper in asked {
            helper.ask(&job);
        }
        job.run();
        let done = asked.iter().filter(|helper| helper.done_rx.recv().is_ok()).count();
        if done < asked.len() {
            self.helpers.clear();
        }
        std::mem::take(&mut *job.lock())
    }
}

/// A thread that helps to make files; dropping it ends and joins it.
#[derive(Debug)]
struct Helper {
    /// who asks --jobs--> helper, and back when there is nothing left of one
    job_tx: Option<SyncSender<Arc<Job>>>,
    done_rx: Receiver<()>,
    thread: Option<JoinHandle<()>>,
}

impl Helper {
    fn start() -> io::Result<Self> {
        let (job_tx, job_rx) = sync_channel::<Arc<Job>>(1);
        let (done_tx, done_rx) = sync_channel(1);
        let thread = thread::start("towline-make", move || {
            while let Ok(job) = job_rx.recv() {
                job.run();
                drop(job);
                if done_tx.send(()).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { job_tx: Some(job_tx), done_rx, thread: Some(thread) })
    }

    fn ask(&self, job: &Arc<Job>) {
        if let Some(job_tx) = &self.job_tx {
            // One that has died says so when its end is waited for.
            let _dead = job_tx.send(Arc::clone(job));
        }
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        self.job_tx = None;
        if let Some(thread) = self.thread.take() {
            // Its panic has been printed.
            let _ended = thread.join();
        }
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
