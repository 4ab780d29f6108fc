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
use crate::thread;
use crate::watch_table::WatchTable;

/// After this long without an event for a file that is still open for writing, it is read as it is; after this long
/// in which nothing came or went, a storm is over.
const QUIET: Duration = Duration::from_millis(20);
/// A file that is written without end is read this often.
const PATIENCE: Duration = Duration::from_millis(500);
/// The first and the longest pause between two batches of one storm.
const WINDOW: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(50));
/// What is gone waits so long for where it went to, and what is new for being renamed.
const MOMENT: Duration = Duration::from_millis(1);
/// What is new in a storm waits for the storm's end, but no longer than this: it may be gone by then.
const HOLD: Duration = Duration::from_secs(1);
/// With more than this many paths under way, events are let gather.
const CROWD: usize = 16;
/// How long they are.
const PACE: Duration = Duration::from_millis(1);

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
        let thread = thread::start("towline-watch", move || run(&table, &inbox, &stopped))?;
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
        let inotify = table.inotify();
        let stopped = PollFd::from_borrowed_fd(stop.as_fd(), PollFlags::IN);
        let mut fds = [stopped.clone(), PollFd::new(&inotify, PollFlags::IN)];
        let polled = if batch.is_crowded() {
            wait(&mut fds[..1], Some(PACE)).and_then(|()| wait(&mut fds, Some(Duration::ZERO)))
        } else {
            let due = batch.due().map(|due| due.saturating_duration_since(Instant::now()));
            wait(&mut fds, due)
        };
        if polled.is_err() {
            batch.everything();
        }
        let is_over = !fds[0].revents().is_empty();
        if is_over || !fds[1].revents().is_empty() {
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

fn wait(fds: &mut [PollFd<'_>], time: Option<Duration>) -> rustix::io::Result<()> {
    let timeout = time.map(|time| Timespec {
        tv_sec: time.as_secs().try_into().unwrap_or(i64::MAX),
        tv_nsec: time.subsec_nanos().into(),
    });
    match poll(fds, timeout.as_ref()) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error),
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
    let step = if what.contains(ReadFlags::CREATE) {
        Step::Made { complete: what.contains(ReadFlags::ISDIR) }
    } else if what.contains(ReadFlags::MOVED_FROM) {
        Step::MovedFrom(event.cookie())
    } else if what.contains(ReadFlags::MOVED_TO) {
        Step::MovedTo(event.cookie())
    } else if what.contains(ReadFlags::DELETE) {
        Step::Removed
    } else if what.contains(ReadFlags::MODIFY) {
        Step::Writing
    } else {
        Step::Done
    };
    batch.add(path, step, content, now);
}

/// What an event says of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// It stands here where nothing stood; a file is about to be written.
    Made {
        /// A folder is all there as soon as it is.
        complete: bool,
    },
    /// Some of it was written.
    Writing,
    /// Its writer has closed it, or it changed in some other way.
    Done,
    Removed,
    /// It has another name now: the event of the same number tells which.
    MovedFrom(u32),
    MovedTo(u32),
}

/// Events on their way: the first after a quiet time goes out at once, a storm in batches further and further apart,
/// and what a storm has made when it is over.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pending: BTreeMap<RelPath, Pending>,
    /// What is new since a storm began.
    held: BTreeMap<RelPath, Pending>,
    /// When the first of it came.
    held_since: Option<Instant>,
    /// When something came or went.
    stirred: Option<Instant>,
    /// What went to a place that is not known yet.
    moving: Option<(u32, RelPath)>,
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
    /// Not before this.
    wait: Option<Instant>,
}

impl Pending {
    fn due(&self) -> Instant {
        let due = if self.finished { self.since } else { (self.latest + QUIET).min(self.since + PATIENCE) };
        self.wait.map_or(due, |wait| due.max(wait))
    }
}

impl Batch {
    /// Adds an event.
    pub(crate) fn add(&mut self, path: RelPath, step: Step, content: bool, now: Instant) {
        let finished = match step {
            Step::Writing => false,
            Step::Made { complete } => complete,
            Step::Done | Step::Removed | Step::MovedFrom(_) | Step::MovedTo(_) => true,
        };
        let is_storm = self.stirred.is_some_and(|stirred| now < stirred + QUIET);
        let is_new = matches!(step, Step::Made { .. });
        if let Step::MovedTo(cookie) = step
            && let Some((_, from)) = self.moving.take_if(|(moving, _)| *moving == cookie)
            && let Some(from) = self.pending.get_mut(&from)
        {
            from.wait = None;
        }
        if let Step::MovedFrom(cookie) = step {
            self.moving = Some((cookie, path.clone()));
        }
        let pending =
            if self.held.contains_key(&path) || (is_new && is_storm && !self.pending.contains_key(&path)) {
                self.held_since.get_or_insert(now);
                self.held.entry(path)
            } else {
                self.pending.entry(path)
            };
        let pending = pending.or_insert(Pending { content, finished, since: now, latest: now, wait: None });
        pending.content |= content;
        pending.finished = finished;
        pending.latest = now;
        match step {
            Step::Writing | Step::Done => {}
            Step::MovedTo(_) => pending.wait = None,
            Step::Made { .. } | Step::Removed | Step::MovedFrom(_) => {
                pending.wait = Some(now.min(pending.since + PATIENCE) + MOMENT);
            }
        }
        if !matches!(step, Step::Writing | Step::Done) {
            self.stirred = Some(now);
        }
    }

    /// Says that events were lost.
    pub(crate) fn everything(&mut self) {
        self.everything = true;
    }

    /// Tells whether so much is under way that the next event need not be looked at at once.
    fn is_crowded(&self) -> bool {
        self.pending.len() + self.held.len() > CROWD
    }

    /// Returns when the next batch goes out.
    pub(crate) fn due(&self) -> Option<Instant> {
        let first = self.pending.values().map(Pending::due).chain(self.held_due()).min()?;
        Some(self.last.map_or(first, |last| first.max(last + self.window)))
    }

    /// Returns when what is new goes out.
    fn held_due(&self) -> Option<Instant> {
        let (since, stirred) = (self.held_since?, self.stirred?);
        Some((stirred + QUIET).min(since + HOLD))
    }

    /// Returns everything, due or not.
    pub(crate) fn take_all(&mut self) -> Dirty {
        let Self { pending, held, everything, .. } = std::mem::take(self);
        let paths = pending.into_iter().chain(held);
        Dirty { paths: paths.map(|(path, pending)| (path, pending.content)).collect(), everything }
    }

    /// Returns the batch that is due.
    pub(crate) fn take(&mut self, now: Instant) -> Option<Dirty> {
        if self.everything {
            self.pending.clear();
            self.held.clear();
            self.held_since = None;
            return Some(Dirty { everything: std::mem::take(&mut self.everything), ..Dirty::default() });
        }
        if self.due().is_none_or(|due| due > now) {
            return None;
        }
        if self.held_due().is_some_and(|due| due <= now) {
            self.pending.append(&mut self.held);
            self.held_since = None;
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
        batch.add(path("a"), Step::Done, false, start);
        assert_eq!(taken(&mut batch, start), ["a"]);
        batch.add(path("b"), Step::Done, false, start + 100 * MS);
        assert_eq!(taken(&mut batch, start + 100 * MS), ["b"]);
    }

    #[test]
    fn a_storm_goes_in_windows_of_at_most_50_ms() {
        let (start, mut batch) = (Instant::now(), Batch::default());
        let mut batches = Vec::new();
        for step in 0..1000 {
            batch.add(path(&format!("f{step}")), Step::Done, false, start + step * MS);
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
        batch.add(path("a"), Step::Writing, true, start);
        assert!(taken(&mut batch, start).is_empty());
        batch.add(path("a"), Step::Done, true, start + 2 * MS);
        assert_eq!(taken(&mut batch, start + 2 * MS), ["a"]);
    }

    #[test]
    fn a_file_that_stays_open_is_taken_when_quiet_or_after_half_a_second() {
        let (start, mut batch) = (Instant::now(), Batch::default());
        batch.add(path("quiet"), Step::Writing, true, start);
        assert!(taken(&mut batch, start + 19 * MS).is_empty());
        assert_eq!(batch.due(), Some(start + 20 * MS));
        assert_eq!(taken(&mut batch, start + 20 * MS), ["quiet"]);

        let start = start + 1000 * MS;
        let first = (0..100).find(|step| {
            batch.add(path("log"), Step::Writing, true, start + *step * 10 * MS);
            !taken(&mut batch, start + *step * 10 * MS).is_empty()
        });
        assert_eq!(first, Some(50));
    }

    #[test]
    fn lost_events_make_everything_dirty() {
        let (start, mut batch) = (Instant::now(), Batch::default());
        batch.add(path("a"), Step::Writing, true, start);
        batch.everything();
        assert!(batch.take(start).unwrap().everything);
        assert_eq!(batch.take(start), None);
    }

    const FILE: Step = Step::Made { complete: false };

    #[test]
    fn what_a_storm_makes_goes_when_it_is_over() {
        let (start, mut batch, mut edited) = (Instant::now(), Batch::default(), 0);
        batch.add(path("first"), FILE, false, start);
        batch.add(path("first"), Step::Done, true, start);
        assert!(taken(&mut batch, start).is_empty(), "it may be renamed yet");
        assert_eq!(taken(&mut batch, start + MS), ["first"]);
        for step in 1..10 {
            let now = start + step * 10 * MS;
            batch.add(path("kept"), FILE, false, now);
            batch.add(path("kept"), Step::Done, true, now);
            batch.add(path("removed"), FILE, false, now);
            batch.add(path("removed"), Step::Removed, false, now);
            // What is not new does not wait for it.
            batch.add(path("edited"), Step::Done, true, now);
            edited += usize::from(taken(&mut batch, now + 9 * MS) == ["edited"]);
        }
        assert!(edited > 3, "{edited}");
        let last = taken(&mut batch, start + 150 * MS);
        assert!(last.ends_with(&["kept".to_owned(), "removed".to_owned()]), "{last:?}");
        assert_eq!(batch.due(), None);
    }

    #[test]
    fn a_storm_without_end_holds_nothing_for_long() {
        let (start, mut batch) = (Instant::now(), Batch::default());
        batch.add(path("first"), FILE, false, start);
        let found = (1..2000).find(|step| {
            let now = start + *step * MS;
            batch.add(path(&format!("f{step}")), Step::Made { complete: true }, false, now);
            taken(&mut batch, now).contains(&"f1".to_owned())
        });
        assert!(found.is_some_and(|step| (1000..1052).contains(&step)), "{found:?}");
    }

    #[test]
    fn both_ends_of_a_rename_go_together() {
        let (start, mut batch) = (Instant::now(), Batch::default());
        batch.add(path("from"), Step::MovedFrom(7), false, start);
        assert!(taken(&mut batch, start).is_empty());
        batch.add(path("to"), Step::MovedTo(7), false, start + MS / 2);
        assert_eq!(taken(&mut batch, start + MS / 2), ["from", "to"]);

        let start = start + 100 * MS;
        batch.add(path("out"), Step::MovedFrom(8), false, start);
        assert_eq!(taken(&mut batch, start + MS), ["out"], "it went somewhere else");
    }

    #[test]
    fn a_file_made_anew_goes_as_one_change() {
        let (start, mut batch) = (Instant::now(), Batch::default());
        batch.add(path("a"), Step::Removed, false, start);
        batch.add(path("a"), FILE, false, start);
        assert!(taken(&mut batch, start + MS / 2).is_empty());
        batch.add(path("a"), Step::Done, true, start + MS / 2);
        assert_eq!(taken(&mut batch, start + MS), ["a"]);
        // However often.
        let again = start + 100 * MS;
        let first = (0..10_000).find(|step| {
            let now = again + *step * MS / 10;
            batch.add(path("a"), Step::Removed, false, now);
            !taken(&mut batch, now).is_empty()
        });
        assert!(first.is_some_and(|step| step < 5100), "{first:?}");
    }
}
