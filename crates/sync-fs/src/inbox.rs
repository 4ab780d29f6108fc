//! What waits for the worker thread.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use towline_sync_core::message::{New, Request, RequestId};
use towline_sync_core::path::RelPath;

/// More dirty paths than this are dearer to look at one by one than a walk of everything.
const MAX_DIRTY: usize = 64 * 1024;

/// Content that may wait, in bytes.
const MAX_WAITING_BYTES: usize = 1 << 20;

/// Paths that may have changed, each with whether its content may have.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Dirty {
    pub(crate) paths: BTreeMap<RelPath, bool>,
    /// Whether events were lost.
    pub(crate) everything: bool,
}

impl Dirty {
    fn is_empty(&self) -> bool {
        self.paths.is_empty() && !self.everything
    }
}

impl State {
    fn has_room(&self) -> bool {
        self.bytes < MAX_WAITING_BYTES || self.closed
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State").field("requests", &self.requests.len()).finish_non_exhaustive()
    }
}

/// What the worker does next.
#[derive(Debug)]
pub(crate) enum Work {
    /// Ends.
    Close,
    /// Looks at what changed.
    Dirty(Dirty),
    /// Handles a request.
    Request(Request),
    /// Goes on with what it does when nothing else is asked.
    Idle,
    /// Waited as long as it was told to.
    TimedOut,
}

/// engine --requests--> worker, watcher --dirty paths--> worker. How many requests there are is bounded by the engine's
/// window; whoever hands over much content waits for room.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    state: Mutex<State>,
    filled: Condvar,
}

#[derive(Default)]
struct State {
    requests: VecDeque<Request>,
    /// Content in them, in bytes.
    bytes: usize,
    /// Who waits for room.
    waiting: Option<Box<dyn FnOnce() + Send>>,
    dirty: Dirty,
    closed: bool,
}

impl Inbox {
    pub(crate) fn request(&self, request: Request) {
        let mut state = self.lock();
        state.bytes += request.carried();
        state.requests.push_back(request);
        drop(state);
        self.filled.notify_one();
    }

    /// Calls `then` when there is room for more content; now, if there is.
    pub(crate) fn when_room(&self, then: impl FnOnce() + Send + 'static) {
        let mut state = self.lock();
        if state.has_room() {
            drop(state);
            then();
        } else {
            state.waiting = Some(Box::new(then));
        }
    }

    pub(crate) fn dirty(&self, more: Dirty) {
        let mut state = self.lock();
        for (path, content) in more.paths {
            *state.dirty.paths.entry(path).or_default() |= content;
        }
        if more.everything || state.dirty.paths.len() > MAX_DIRTY {
            state.dirty = Dirty { everything: true, ..Dirty::default() };
        }
        drop(state);
        self.filled.notify_one();
    }

    /// Takes what has not been looked at.
    pub(crate) fn take_dirty(&self) -> Dirty {
        std::mem::take(&mut self.lock().dirty)
    }

    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        let then = state.waiting.take();
        drop(state);
        if let Some(then) = then {
            then();
        }
        self.filled.notify_one();
    }

    /// Tells whether the next request is one to apply something.
    pub(crate) fn is_apply_next(&self) -> bool {
        matches!(self.lock().requests.front(), Some(Request::Apply { .. }))
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Waits for `time`, or until the replica is closed; tells whether it is.
    pub(crate) fn pause(&self, time: Duration) -> bool {
        let waited = self.filled.wait_timeout_while(self.lock(), time, |state| !state.closed);
        waited.unwrap_or_else(PoisonError::into_inner).0.closed
    }

    /// Waits for work until `deadline`; with `busy` there is always something to go on with.
    ///
    /// What changed comes before requests: it comes in batches, and what is applied is decided by it.
    pub(crate) fn next(&self, busy: bool, deadline: Option<Instant>) -> Work {
        let mut state = self.lock();
        loop {
            if state.closed {
                return Work::Close;
            }
            if !state.dirty.is_empty() {
                return Work::Dirty(std::mem::take(&mut state.dirty));
            }
            if let Some(request) = state.requests.pop_front() {
                Self::taken(state, &request);
                return Work::Request(request);
            }
            if busy {
                return Work::Idle;
            }
            let wait =
                deadline.map_or(Duration::MAX, |deadline| deadline.saturating_duration_since(Instant::now()));
            if wait.is_zero() {
                return Work::TimedOut;
            }
            state = if wait == Duration::MAX {
                self.filled.wait(state).unwrap_or_else(PoisonError::into_inner)
            } else {
                self.filled.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0
            };
        }
    }

    /// Takes the next request if it is one to install something, and nothing has changed meanwhile.
    pub(crate) fn take_install(&self) -> Option<(RequestId, Vec<New>)> {
        let mut state = self.lock();
        if state.closed || !state.dirty.is_empty() {
            return None;
        }
        let request = state.requests.pop_front_if(|request| matches!(request, Request::Install { .. }))?;
        Self::taken(state, &request);
        match request {
            Request::Install { id, entries } => Some((id, entries)),
            _ => None,
        }
    }

    /// Tells who waits for room when there is some without this request.
    fn taken(mut state: MutexGuard<'_, State>, request: &Request) {
        state.bytes -= request.carried();
        let then = if state.has_room() { state.waiting.take() } else { None };
        drop(state);
        if let Some(then) = then {
            then();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change under the lock is complete at each step: a panicked holder leaves nothing half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
