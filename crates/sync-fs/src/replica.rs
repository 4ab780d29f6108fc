//! The worker thread: takes requests and dirty paths in turn, and answers.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use towline_sync_core::message::{Content, Failure, Outcome, Reply, Request, RootInfo, WatchMode};
use towline_sync_core::outline::Outline;
use towline_sync_core::path::RelPath;
use towline_sync_core::snapshot::Change;

use crate::apply::{Answers, MAX_READY};
use crate::cache::Horizon;
use crate::inbox::{Dirty, Inbox, Work};
use crate::install::MAX_STAGED;
use crate::options::ReplicaOptions;
use crate::reading::{Next, Reading, not_open, read_failed, signed};
use crate::report::{Batch, Report, entry_bytes};
use crate::settle::stopped;
use crate::thread;
use crate::tree::{failure, refusal};
use crate::watch::Watcher;
use crate::watch_table::WatchTable;
use crate::workspace::Workspace;

/// How long the staging folder outlives what was in it: one edit is followed by another.
const LINGER: Duration = Duration::from_millis(250);
/// How long after a change what is known is saved.
const SAVE: Duration = Duration::from_mins(1);
/// How often a folder that another session holds is tried again.
const RETRY: Duration = Duration::from_millis(20);
/// After this many requests in a row, what is under way gets its turn.
const TURN: u64 = 64;
/// So many batches that wait are made together: what lies in folders that are being made moves with them.
const MAX_TOGETHER: usize = 4;
/// So many answers are told together while there is more to apply: each wakes whoever waits for them.
const MAX_ANSWERS: usize = 32;
/// At most one part in this many of the time goes into scanning where events are not to be had.
const POLL_SHARE: u32 = 20;

/// A running replica: one folder that is scanned, watched, read and written when the engine says so.
///
/// Dropping it stops and joins its threads, which waits for a reply that is being delivered.
#[derive(Debug)]
pub struct Replica {
    pub(crate) inbox: Arc<Inbox>,
    worker: Option<JoinHandle<()>>,
}

/// Starts a replica. `replies` is called from its thread; it may block to hold the replica back, and returns whether
/// anybody still listens: if not, the replica ends.
///
/// Fails when a thread can't be started.
pub fn spawn(
    options: ReplicaOptions,
    replies: impl FnMut(Reply) -> bool + Send + 'static,
) -> io::Result<Replica> {
    let inbox = Arc::new(Inbox::default());
    let worker = Worker {
        options,
        inbox: Arc::clone(&inbox),
        replies: Box::new(replies),
        listening: true,
        answers: Vec::new(),
        session: None,
        #[cfg(test)]
        configure: None,
    };
    worker.start(inbox)
}

impl Replica {
    /// Hands over a request. Never blocks: how many are under way is bounded by the engine's window.
    pub fn request(&self, request: Request) {
        self.inbox.request(request);
    }

    /// Calls `then` when there is room for more content, which may be now: a reader of a stream that waits for it needs
    /// no more memory than a few MiB, however slow the disk is. Only the last who asked is told.
    pub fn when_room(&self, then: impl FnOnce() + Send + 'static) {
        self.inbox.when_room(then);
    }

    /// Stops the replica and waits until it has ended. What was under way is thrown away.
    pub fn close(self) {
        drop(self);
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.inbox.close();
        if let Some(worker) = self.worker.take() {
            // Its panic has been printed; there is nobody to tell any more.
            let _ended = worker.join();
        }
    }
}

/// What a test does to each workspace that is opened.
#[cfg(test)]
pub(crate) type Configure = Box<dyn FnMut(&mut Workspace) + Send>;

pub(crate) struct Worker {
    pub(crate) options: ReplicaOptions,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) replies: Box<dyn FnMut(Reply) -> bool + Send>,
    pub(crate) listening: bool,
    /// What was applied and is not yet told of.
    pub(crate) answers: Answers,
    pub(crate) session: Option<Session>,
    #[cfg(test)]
    pub(crate) configure: Option<Configure>,
}

/// An open root and the state of its conversation.
pub(crate) struct Session {
    workspace: Workspace,
    /// Whether changes are to be told of as they happen.
    watches: bool,
    /// Why there are no events at all.
    no_events: Option<String>,
    /// Feeds the inbox while it lives.
    watcher: Option<Watcher>,
    readings: VecDeque<Reading>,
    told: Option<WatchMode>,
    /// Whether a whole scan was reported: before, there is nothing that changes could refer to.
    scanned: bool,
    next_scan: Option<Instant>,
    /// When the staging folder goes, if nothing needs it.
    next_tidy: Option<Instant>,
    /// When what is known is saved.
    next_save: Option<Instant>,
}

impl Worker {
    pub(crate) fn start(mut self, inbox: Arc<Inbox>) -> io::Result<Replica> {
        let worker = thread::start("towline-replica", move || {
            self.run();
            self.end_session();
        })?;
        Ok(Replica { inbox, worker: Some(worker) })
    }

    fn run(&mut self) {
        let mut requests = 0_u64;
        while self.listening {
            let busy = self.session.as_ref().is_some_and(Session::is_busy);
            let deadline = self.session.as_ref().and_then(Session::deadline);
            match self.inbox.next(busy, deadline) {
                Work::Close => return,
                Work::Dirty(dirty) => {
                    self.flush();
                    self.notice(&dirty);
                }
                Work::Request(request) => {
                    self.handle(request);
                    requests += 1;
                    if requests.is_multiple_of(TURN) {
                        self.flush();
                        self.read_on();
                    }
                }
                Work::Idle => {
                    self.flush();
                    self.read_on();
                }
                Work::TimedOut => self.keep_house(),
            }
            self.follow_up();
            if self.answers.len() >= MAX_ANSWERS || !self.inbox.is_apply_next() {
                self.tell_answers();
            }
        }
    }

    fn handle(&mut self, request: Request) {
        let batched = matches!(
            &request,
            Request::Data { .. }
                | Request::Keep { .. }
                | Request::Install { .. }
                | Request::Cancel { .. }
                | Request::Apply { content: Content::Incoming | Content::Copy { .. }, .. }
        );
        let is_full = |session: &Session| {
            session.workspace.ready.len() >= MAX_READY || session.workspace.staged.len() >= MAX_STAGED
        };
        if !batched || self.session.as_ref().is_some_and(is_full) {
            self.flush();
        }
        match (request, &mut self.session) {
            (Request::Open(open), _) => {
                self.end_session();
                self.open(open.watch, |options| Workspace::open(options, open.clone()));
            }
            (Request::Look(open), _) => {
                self.end_session();
                self.open(open.watch, |options| Workspace::look(options, open.clone()));
            }
            (Request::Scan { eager }, Some(_)) => self.scan(eager),
            (Request::Compare(outline), Some(_)) => self.compare(&outline),
            (Request::Scan { .. } | Request::Compare(_), None) => {
                self.reply(Reply::ScanFailed(refusal(Errno::BADF, "no folder is open")));
            }
            (Request::Apply { id, transition, content }, Some(session)) => {
                let answers = session.workspace.apply(id, &transition, &content);
                self.answer(answers);
            }
            (Request::Data { id, block }, Some(session)) => {
                let answers = session.workspace.data(id, &block);
                self.answer(answers);
            }
            (Request::Keep { id, path, file }, Some(session)) => {
                let answers = session.workspace.keep(id, &path, file);
                self.answer(answers);
            }
            (Request::Apply { id, .. } | Request::Keep { id, .. }, None) => {
                self.answer(vec![(id, Outcome::Failed(refusal(Errno::BADF, "no folder is open")))]);
            }
            (Request::Read { id, path, expect, basis }, Some(session)) => {
                match Reading::start(&session.workspace.tree, id, path.clone(), expect, basis) {
                    Ok(reading) => session.readings.push_back(reading),
                    Err(reply) => {
                        if matches!(reply, Reply::ReadFailed { .. }) {
                            session.workspace.suspects.insert(path, true);
                        }
                        self.reply(reply);
                    }
                }
            }
            (Request::Sign { id, path, expect }, Some(session)) => {
                let reply = signed(&session.workspace.tree, id, &path, expect);
                self.reply(reply);
            }
            (Request::Read { id, .. } | Request::Sign { id, .. }, None) => self.reply(not_open(id)),
            (Request::Fetch { id, files }, session) => {
                let files = match session {
                    Some(session) => session.workspace.tree.fetch(&files),
                    None => vec![None; files.len()],
                };
                self.reply(Reply::Fetched { id, files });
            }
            (Request::Install { id, entries }, Some(session)) => {
                let mut requests = vec![(id, entries)];
                let most = if session.workspace.options.durable { 1 } else { MAX_TOGETHER };
                while requests.len() < most
                    && let Some(more) = self.inbox.take_install()
                {
                    requests.push(more);
                }
                for (id, failed) in session.workspace.install_all(requests) {
                    self.reply(Reply::Installed { id, failed });
                }
            }
            (Request::Install { id, entries }, None) => {
                let refused = Outcome::Failed(refusal(Errno::BADF, "no folder is open"));
                let failed = (0..).zip(entries).map(|(index, _)| (index, refused.clone())).collect();
                self.reply(Reply::Installed { id, failed });
            }
            (Request::Cancel { id }, Some(session)) => {
                session.workspace.cancel(id);
                session.readings.retain(|reading| reading.id != id);
            }
            (Request::Data { .. } | Request::Cancel { .. }, None) => {}
        }
    }

    /// Does what is due by now.
    fn keep_house(&mut self) {
        let Some(session) = &mut self.session else { return };
        let now = Instant::now();
        let is_due = |time: &mut Option<Instant>| time.take_if(|time| *time <= now).is_some();
        if is_due(&mut session.next_tidy) && session.workspace.tidy() {
            session.next_tidy = Some(now + LINGER);
        }
        if is_due(&mut session.next_save) {
            // Nothing waits to be looked at, but events of the last moments may still be on their way.
            let (seconds, nanoseconds) = crate::known::now();
            let horizon = Horizon::told((seconds - 1, nanoseconds));
            let is_told = session.is_told();
            session.workspace.save(Some(&horizon).filter(|_| is_told), &Dirty::default());
        }
        if is_due(&mut session.next_scan) {
            self.notice(&Dirty { everything: true, ..Dirty::default() });
        }
    }

    /// Ends the session, if there is one, and saves what is known for the next one.
    fn end_session(&mut self) {
        let Some(mut session) = self.session.take() else { return };
        let horizon = Horizon::now(&session.workspace.tree.root);
        let is_told = session.is_told();
        // It hands over what has happened until now.
        drop(session.watcher.take());
        let unsettled = self.inbox.take_dirty();
        if session.scanned {
            session.workspace.save(Some(&horizon).filter(|_| is_told), &unsettled);
        }
        session.workspace.close();
    }

    fn open(
        &mut self,
        watches: bool,
        open: impl Fn(ReplicaOptions) -> Result<(Workspace, RootInfo), Failure>,
    ) {
        let until = Instant::now() + self.options.limits.handover;
        let opened = loop {
            let opened = open(self.options.clone());
            let busy = |failure: &Failure| failure.errno == Errno::BUSY.raw_os_error();
            // Nobody tells when a lock of another process is free.
            if !opened.as_ref().is_err_and(busy) || Instant::now() >= until || self.inbox.pause(RETRY) {
                break opened;
            }
        };
        let (workspace, info) = match opened {
            Ok(opened) => opened,
            Err(failure) => return self.reply(Reply::OpenFailed(failure)),
        };
        let mut session = Session {
            workspace,
            watches,
            no_events: None,
            watcher: None,
            readings: VecDeque::new(),
            told: None,
            scanned: false,
            next_scan: None,
            next_tidy: None,
            next_save: None,
        };
        if watches {
            match session.start_watcher(&self.inbox) {
                Ok(started) => session.watcher = Some(started),
                Err(reason) => session.no_events = Some(reason),
            }
        }
        #[cfg(test)]
        if let Some(configure) = &mut self.configure {
            configure(&mut session.workspace);
        }
        self.session = Some(session);
        self.reply(Reply::Opened(info));
    }

    fn scan(&mut self, eager: bool) {
        let Self { session: Some(session), replies, listening, inbox, .. } = self else { return };
        let started = Instant::now();
        let mut report = Report::new(eager);
        let result = session.workspace.tree.scan_with(eager, &mut |item| {
            if inbox.is_closed() || !*listening {
                return Err(stopped());
            }
            report.push(item, &mut |reply| *listening = *listening && replies(reply));
            Ok(())
        });
        if self.scanned(started, result) {
            report.end(&mut |reply| self.reply(reply));
        }
    }

    /// Scans everything and tells what is not as it was believed to be.
    fn compare(&mut self, outline: &Outline) {
        let Self { session: Some(session), inbox, .. } = self else { return };
        let started = Instant::now();
        let result = session.workspace.tree.scan_with(false, &mut |_| {
            if inbox.is_closed() { Err(stopped()) } else { Ok(()) }
        });
        if !self.scanned(started, result) {
            return;
        }
        let Self { session: Some(session), replies, listening, .. } = self else { return };
        let mut tell = |reply| *listening = *listening && replies(reply);
        let known = &session.workspace.tree.known;
        let mut comparing = outline.comparing();
        let mut walk = known.walk();
        while let Some(at) = walk.next() {
            if let (Some(path), Some(seen)) = (at.text(), at.seen()) {
                comparing.push(path, &seen.entry);
            }
        }
        let (same, rest) = comparing.end();
        tell(Reply::Same(same));
        let mut batch = Batch::default();
        for range in rest {
            let mut walk = known.walk_at(range.start);
            for _ in range {
                let Some((path, seen)) = walk.next().and_then(|at| Some((at.rel_path()?, at.seen()?))) else {
                    continue;
                };
                let size = entry_bytes(&path, Some(&seen.entry));
                if let Some(entries) = batch.push((path, seen.entry), size) {
                    tell(Reply::Entries { entries, last: false });
                }
            }
        }
        tell(Reply::Entries { entries: batch.items, last: true });
    }

    /// Takes note of a scan's end, or says that it failed; tells whether there is something to be told.
    fn scanned(&mut self, started: Instant, result: io::Result<()>) -> bool {
        let Some(session) = &mut self.session else { return false };
        session.schedule(started);
        match result {
            Ok(()) => {
                session.scanned = true;
                session.workspace.tree.problems.set_root(None);
                true
            }
            Err(error) => {
                // Until something was reported, whoever asked asks again.
                if session.scanned {
                    session.next_scan = Some(Instant::now() + self.options.limits.poll);
                }
                self.scan_failed(&error);
                false
            }
        }
    }

    /// Looks at what may have changed and tells of what did.
    fn notice(&mut self, dirty: &Dirty) {
        let Self { session: Some(session), inbox, .. } = self else { return };
        if !session.scanned {
            session.next_scan = None;
            return;
        }
        let result = if dirty.everything {
            let started = Instant::now();
            let result = session.workspace.tree.rescan(&mut |_, _| {
                if inbox.is_closed() { Err(stopped()) } else { Ok(()) }
            });
            session.schedule(started);
            result
        } else {
            session.workspace.tree.settle(&dirty.paths)
        };
        match result {
            Ok(changes) => {
                session.workspace.tree.problems.set_root(None);
                self.report(changes);
            }
            Err(error) => {
                // What was missed is found by the scan that is due soon.
                session.next_scan = Some(Instant::now() + self.options.limits.poll);
                if session.workspace.tree.root.check().is_err() {
                    let message = format!("nothing is synced: {error}");
                    session.workspace.tree.problems.set_root(Some(message));
                }
            }
        }
    }

    fn report(&mut self, changes: Vec<Change>) {
        let mut batch = Batch::default();
        for change in changes {
            let size = entry_bytes(&change.path, change.entry.as_ref());
            if let Some(changes) = batch.push(change, size) {
                self.reply(Reply::Changed(changes));
            }
        }
        if !batch.items.is_empty() {
            self.reply(Reply::Changed(batch.items));
        }
    }

    fn scan_failed(&mut self, error: &io::Error) {
        if let Some(session) = &self.session {
            let failure: Failure =
                failure(&format!("scan {}", session.workspace.tree.root.path().display()), error);
            self.reply(Reply::ScanFailed(failure));
        }
    }

    /// Sends the next block of the file that has waited longest.
    fn read_on(&mut self) {
        let Some(session) = &mut self.session else { return };
        let Some(mut reading) = session.readings.pop_front() else { return };
        let id = reading.id;
        match reading.next() {
            Next::Block(block) => {
                if !block.last {
                    session.readings.push_back(reading);
                }
                self.reply(Reply::Data { id, block });
            }
            Next::Wait => session.readings.push_back(reading),
            Next::Failed(error) => {
                let failed = read_failed(&session.workspace.tree, id, &reading.path, error.as_ref());
                session.workspace.suspects.insert(reading.path.clone(), true);
                self.reply(failed);
            }
        }
    }

    fn flush(&mut self) {
        let Some(session) = &mut self.session else { return };
        // A file may go into a folder that was asked for before it.
        let installed = session.workspace.flush_installs();
        let answers = session.workspace.flush();
        for (id, failed) in installed {
            self.reply(Reply::Installed { id, failed });
        }
        self.answer(answers);
    }

    /// Tells what has come up beside the answers.
    fn follow_up(&mut self) {
        let Some(session) = &mut self.session else { return };
        let suspects: BTreeMap<RelPath, bool> = session.workspace.take_suspects();
        if !suspects.is_empty() && session.scanned {
            self.notice(&Dirty { paths: suspects, everything: false });
        }
        let Some(session) = &mut self.session else { return };
        session.plan();
        let mode = session.watch_mode();
        let mode = (session.watches && session.told.as_ref() != Some(&mode)).then(|| {
            session.told = Some(mode.clone());
            mode
        });
        let problems = session.workspace.tree.problems.take_changed();
        if let Some(mode) = mode {
            session.schedule(Instant::now());
            self.reply(Reply::Watching(mode));
        }
        if let Some(problems) = problems {
            self.reply(Reply::Problems(problems));
        }
    }

    fn answer(&mut self, answers: Answers) {
        self.answers.extend(answers);
    }

    fn tell_answers(&mut self) {
        for (id, outcome) in std::mem::take(&mut self.answers) {
            self.tell(Reply::Applied { id, outcome });
        }
    }

    /// Tells something, after what was applied before.
    fn reply(&mut self, reply: Reply) {
        self.tell_answers();
        self.tell(reply);
    }

    fn tell(&mut self, reply: Reply) {
        if self.listening {
            self.listening = (self.replies)(reply);
        }
    }
}

impl Session {
    fn is_busy(&self) -> bool {
        let Workspace { ready, staged, .. } = &self.workspace;
        !(self.readings.is_empty() && ready.is_empty() && staged.is_empty())
    }

    /// Returns when something is to be done even if nothing happens.
    fn deadline(&self) -> Option<Instant> {
        [self.next_scan, self.next_tidy, self.next_save].into_iter().flatten().min()
    }

    /// Sets when the house is kept.
    fn plan(&mut self) {
        let stands = self.workspace.store.as_ref().is_some_and(|store| store.stage.is_some());
        if stands && self.workspace.options.keep.is_some() && self.next_tidy.is_none() {
            self.next_tidy = Some(Instant::now() + LINGER);
        }
        if self.scanned && self.next_save.is_none() && self.workspace.tree.known.is_changed() {
            self.next_save = Some(Instant::now() + SAVE);
        }
    }

    fn start_watcher(&mut self, inbox: &Arc<Inbox>) -> Result<Watcher, String> {
        let table = Arc::new(WatchTable::new()?);
        let watcher = Watcher::start(Arc::clone(&table), Arc::clone(inbox))
            .map_err(|error| format!("the watcher can't be started: {error}"))?;
        self.workspace.tree.watches = Some(table);
        Ok(watcher)
    }

    /// Tells whether every change is told of.
    fn is_told(&self) -> bool {
        self.watches && self.watch_mode() == WatchMode::Events
    }

    fn watch_mode(&self) -> WatchMode {
        let watches = self.workspace.tree.watches.as_ref();
        let trouble = watches.and_then(|watches| watches.trouble());
        match self.no_events.clone().or(trouble) {
            Some(reason) => WatchMode::Polling { reason },
            None => WatchMode::Events,
        }
    }

    /// Sets when everything is scanned next, after a scan that began at `started`.
    fn schedule(&mut self, started: Instant) {
        if !self.watches {
            return;
        }
        let limits = &self.workspace.options.limits;
        let ended = Instant::now();
        let pause: Duration = match self.watch_mode() {
            WatchMode::Events => limits.verify,
            WatchMode::Polling { .. } => limits.poll.max((ended - started) * POLL_SHARE),
        };
        self.next_scan = Some(ended + pause);
    }
}
