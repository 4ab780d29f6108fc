//! The watcher thread: from the kernel's events to batches of dirty paths.

use std::collections::BTreeMap;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fs::inotify::{Event, ReadFlags, Reader};
use rustix::io::Errno;
use towline_sync_core::path::RelPath;

use crate::inbox::{Dirty, Inbox};
use crate::watch_table::WatchTable;

/// After this long without an event for a file that is still open for writing, it is read as it is.
const QUIET: Duration = Duration::from_millis(20);
/// A file that is written without end is read this often.
const PATIENCE: Duration = Duration::from_millis(500);
/// The first and the longest pause between two batches of one storm.
const WINDOW: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(50));

/// A running watcher thread; dropping it ends and joins it.
#[derive(Debug)]
pub(crate) struct Watcher {
    stop: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl Watcher {
    /// Starts to read the events of `table` into `inbox`.
    pub(crate) fn start(table: Arc<WatchTable>, inbox: Arc<Inbox>) -> io::Result<Self> {
        let stop = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name("towline-watch".to_owned())
            .spawn(move || run(&table, &inbox, &stopped))?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        // Adding one to a counter of zero can't fail.
        let _written = rustix::io::write(&self.stop, &1_u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            // Its panic has been printed; the replica goes on by scanning.
            let _ended = thread.join();
        }
    }
}

fn run(table: &WatchTable, inbox: &Inbox, stop: &OwnedFd) {
    let mut buffer = vec![MaybeUninit::uninit(); 64 * 1024];
    let mut batch = Batch::default();
    loop {
        let wait = batch.due().map(|due| due.saturating_duration_since(Instant::now()));
        let timeout = wait.map(|wait| Timespec {
            tv_sec: wait.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: wait.subsec_nanos().into(),
        });
        let inotify = table.inotify();
        let mut fds =
            [PollFd::new(&inotify, PollFlags::IN), PollFd::from_borrowed_fd(stop.as_fd(), PollFlags::IN)];
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => {
                batch.everything();
            }
        }
        let is_over = !fds[1].revents().is_empty();
        if is_over || !fds[0].revents().is_empty() {
            let now = Instant::now();
            let mut reader = Reader::new(&inotify, &mut buffer);
            while let Ok(event) = reader.next() {
                note(table, &mut batch, &event, now);
            }
        }
        if is_over {
            // What has happened until now is known to somebody.
            inbox.dirty(batch.take_all());
            return;
        }
        if let Some(dirty) = batch.take(Instant::now()) {
            inbox.dirty(dirty);
        }
    }
}

fn note(table: &WatchTable, batch: &mut Batch, event: &Event<'_>, now: Instant) {
    let what = event.events();
    if what.intersects(ReadFlags::QUEUE_OVERFLOW | ReadFlags::UNMOUNT) {
        batch.everything();
        return;
    }
    if what.contains(ReadFlags::IGNORED) {
        table.forget(event.wd());
        return;
    }
    let path = match event.file_name().map(std::ffi::CStr::to_str) {
        None => table.path(event.wd(), None),
        Some(Ok(name)) => table.path(event.wd(), Some(name)),
        // Such a name is a problem to be listed, not a path; the next scan does.
        Some(Err(_)) => None,
    };
    let Some(path) = path.filter(|path| !path.is_private()) else {
        return;
    };
    let content = what.intersects(ReadFlags::MODIFY | ReadFlags::CLOSE_WRITE);
    let unfinished = what.contains(ReadFlags::MODIFY)
        || (what.contains(ReadFlags::CREATE) && !what.contains(ReadFlags::ISDIR));
    batch.add(path, content, !unfinished, now);
}

/// Events on their way: the first after a quiet time goes out at once, a storm in batches further and further apart.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pending: BTreeMap<RelPath, Pending>,
    everything: bool,
    window: Duration,
    /// When the last batch went out.
    last: Option<Instant>,
}

#[derive(Debug)]
struct Pending {
    content: bool,
    /// Whether nothing more is expected: the writer has closed the file, or it was no write.
    finished: bool,
    since: Instant,
    latest: Instant,
}

impl Pending {
    fn due(&self) -> Instant {
        if self.finished { self.since } else { (self.latest + QUIET).min(self.since + PATIENCE) }
    }
}

impl Batch {
    /// Adds an event.
    pub(crate) fn add(&mut self, path: RelPath, content: bool, finished: bool, now: Instant) {
        let pending =
            self.pending.entry(path).or_insert(Pending { content, finished, since: now, latest: now });
        pending.content |= content;
        pending.finished = finished;
        pending.latest = now;
    }

    /// Says that events were lost.
    pub(crate) fn everything(&mut self) {
        self.everything = true;
    }

    /// Returns when the next batch goes out.
    pub(crate) fn due(&self) -> Option<Instant> {
        let first = self.pending.values().map(Pending::due).min()?;
        Some(self.last.map_or(first, |last| first.max(last + self.window)))
    }

    /// Returns everything, due or not.
    pub(crate) fn take_all(&mut self) -> Dirty {
        let everything = std::mem::take(&mut self.everything);
        let paths = std::mem::take(&mut self.pending);
        Dirty {
            paths: paths.into_iter().map(|(path, pending)| (path, pending.content)).collect(),
            everything,
        }
    }

    /// Returns the batch that is due.
    pub(crate) fn take(&mut self, now: Instant) -> Option<Dirty> {
        if self.everything {
            self.pending.clear();
            return Some(Dirty { everything: std::mem::take(&mut self.everything), ..Dirty::default() });
        }
        if self.due().is_none_or(|due| due > now) {
            return None;
        }
        let storm = self.last.is_some_and(|last| now < last + self.window + QUIET);
        self.window = if storm { (self.window * 2).min(WINDOW.1) } else { WINDOW.0 };
        self.last = Some(now);
        let paths = self.pending.extract_if(.., |_, pending| pending.due() <= now);
        Some(Dirty {
            paths: paths.map(|(path, pending)| (path, pending.content)).collect(),
            everything: false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(path: &str) -> RelPath {
        RelPath::new(path).unwrap()
    }

    fn taken(batch: &mut Batch, now: Instant) -> Vec<String> {
        batch.take(now).map(|dirty| dirty.paths.into_keys().map(String::from).collect()).unwrap_or_default()
    }

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_first_event_goes_at_once() {
        let (start, mut batch) = (Instant::now(), Batch::default());
        batch.add(path("a"), false, true, start);
        assert_eq!(taken(&mut batch, start), ["a"]);
        batch.add(path("b"), false, true, start + 100 * MS);
        assert_eq!(taken(&mut batch, start + 100 * MS), ["b"]);
    }

    #[test]
    fn a_storm_goes_in_windows_of_at_most_50_ms() {
        let (start, mut batch) = (Instant::now(), Batch::default());
        let mut batches = Vec::new();
        for step in 0..1000 {
            batch.add(path(&format!("f{step}")), false, true, start + step * MS);
            if batch.take(start + step * MS).is_some() {
                batches.push(step);
            }
        }
        let gaps: Vec<u32> = batches.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert_eq!(gaps[..7], [1, 2, 4, 8, 16, 32, 50]);
        assert!(gaps[7..].iter().all(|gap| *gap == 50), "{gaps:?}");
    }

    #[test]
    fn a_file_is_taken_when_its_writer_closes_it() {
        let (start, mut batch) = (Instant::now(), Batch::default());
        batch.add(path("a"), true, false, start);
        assert!(taken(&mut batch, start).is_empty());
        batch.add(path("a"), true, true, start + 2 * MS);
        assert_eq!(taken(&mut batch, start + 2 * MS), ["a"]);
    }

    #[test]
    fn a_file_that_stays_open_is_taken_when_quiet_or_after_half_a_second() {
        let (start, mut batch) = (Instant::now(), Batch::default());
        batch.add(path("quiet"), true, false, start);
        assert!(taken(&mut batch, start + 19 * MS).is_empty());
        assert_eq!(batch.due(), Some(start + 20 * MS));
        assert_eq!(taken(&mut batch, start + 20 * MS), ["quiet"]);

        let start = start + 1000 * MS;
        let first = (0..100).find(|step| {
            batch.add(path("log"), true, false, start + *step * 10 * MS);
            !taken(&mut batch, start + *step * 10 * MS).is_empty()
        });
        assert_eq!(first, Some(50));
    }

    #[test]
    fn lost_events_make_everything_dirty() {
        let (start, mut batch) = (Instant::now(), Batch::default());
        batch.add(path("a"), true, false, start);
        batch.everything();
        assert!(batch.take(start).unwrap().everything);
        assert_eq!(batch.take(start), None);
    }
}
