//! Walks folders, several at a time where everything is walked.

use std::collections::HashSet;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::Scope;

use rustix::fs::FileType;
use towline_sync_core::path::RelPath;
use towline_sync_core::snapshot::{Entry, Opaque};

use crate::disk::{Kind, Names, Stat, open_folder, stat_at, stat_of};
use crate::known::{Cursor, Departed, Position, Seen, now};
use crate::read::{Also, read_file};
use crate::rules::FolderRules;
use crate::scan::{Item, Trust, is_absent, is_ours, is_replaced};
use crate::settle::stopped;
use crate::thread;
use crate::tree::Tree;

/// The most threads that read a tree.
const MAX_THREADS: usize = 4;
/// How many pieces may wait to be taken.
const WAITING: usize = 8;
/// A piece has at most so many items, and so many bytes of content before its last one.
const PIECE: (usize, usize) = (256, 128 * 1024);

/// Receives what a walk finds, folders before what is in them; an error ends the walk.
pub(crate) type Visit<'a> = dyn FnMut(Item) -> io::Result<()> + 'a;

/// Where a walk begins.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Start<'a> {
    /// At the root: by several threads, and with `eager` small files that are read are kept.
    Root {
        eager: bool,
    },
    At(&'a RelPath),
}

/// What a walk gathers beside the entries.
#[derive(Debug, Default)]
pub(crate) struct Walked {
    /// Names that no entry can carry, and why.
    pub(crate) problems: Vec<(String, &'static str)>,
    /// What has a protected name.
    pub(crate) reserved: Vec<Stat>,
}

/// A folder to be walked.
#[derive(Debug)]
struct Job {
    /// `None` is the root.
    path: Option<RelPath>,
    parent: Arc<OwnedFd>,
    is_ignored: bool,
    held: Held,
    known: Option<(Position, Seen)>,
}

/// Ignored folders above a place that are reported only when something below them is.
type Held = Option<Arc<Vec<(RelPath, Seen)>>>;

/// A part of what a folder holds.
#[derive(Debug, Default)]
struct Piece {
    held: Held,
    items: Vec<Item>,
    bytes: usize,
    walked: Walked,
}

/// One walker: what it needs again for each folder.
struct Walker<'a> {
    tree: &'a Tree,
    departed: &'a Departed,
    eager: bool,
    /// In what was known, or remembered.
    known: Cursor<'a>,
    names: Names,
    /// The path of the entry that is looked at.
    text: String,
    buffer: Vec<MaybeUninit<u8>>,
    piece: Piece,
    jobs: Vec<Job>,
}

impl Tree {
    /// Walks everything at or below `start` and reports what is not ignored.
    pub(crate) fn walk(
        &self,
        start: Start<'_>,
        departed: &Departed,
        visit: &mut Visit<'_>,
    ) -> io::Result<Walked> {
        let mut gathered = Walked::default();
        let mut reported = HashSet::new();
        let mut take = |piece: Piece| -> io::Result<()> {
            gathered.problems.extend(piece.walked.problems);
            gathered.reserved.extend(piece.walked.reserved);
            if let (Some(held), false) = (piece.held, piece.items.is_empty()) {
                for (path, seen) in held.iter() {
                    if reported.insert(path.clone()) {
                        let (path, seen) = (path.clone(), seen.clone());
                        visit(Item { path, seen, content: None, position: None })?;
                    }
                }
            }
            piece.items.into_iter().try_for_each(&mut *visit)
        };
        match start {
            Start::Root { eager } => {
                let parent = Arc::new(self.root.open_to_list(None)?);
                let job = Job { path: None, parent, is_ignored: false, held: None, known: None };
                self.walk_together(job, eager, departed, &mut take)?;
            }
            Start::At(path) => {
                let mut walker = Walker::new(self, departed, false);
                walker.begin(path)?;
                let mut jobs = std::mem::take(&mut walker.jobs);
                while let Some(job) = jobs.pop() {
                    walker.folder(job, &mut take)?;
                    jobs.extend(walker.jobs.drain(..).rev());
                }
                walker.piece(&mut take)?;
            }
        }
        Ok(gathered)
    }

    fn walk_together(
        &self,
        job: Job,
        eager: bool,
        departed: &Departed,
        take: &mut dyn FnMut(Piece) -> io::Result<()>,
    ) -> io::Result<()> {
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS);
        let pool = Pool::new(job);
        std::thread::scope(|scope| {
            // walkers --pieces--> caller
            let (piece_tx, piece_rx) = sync_channel(WAITING);
            for number in 0..threads {
                let walker = Walker::new(self, departed, eager);
                match pool.start(scope, walker, piece_tx.clone()) {
                    Ok(()) => {}
                    Err(error) if number == 0 => return Err(error),
                    Err(_) => break,
                }
            }
            drop(piece_tx);
            let result = piece_rx.iter().try_for_each(|piece| piece.and_then(&mut *take));
            pool.stop();
            result
        })
    }
}

impl<'a> Walker<'a> {
    fn new(tree: &'a Tree, departed: &'a Departed, eager: bool) -> Self {
        Self {
            tree,
            departed,
            eager,
            known: tree.base().cursor(),
            names: Names::default(),
            text: String::new(),
            buffer: vec![MaybeUninit::uninit(); 32 * 1024],
            piece: Piece::default(),
            jobs: Vec::new(),
        }
    }

    /// Looks at one path, from which a walk begins.
    fn begin(&mut self, path: &RelPath) -> io::Result<()> {
        let parent = Arc::new(self.tree.root.open_parent(path)?);
        let mut held = Vec::new();
        for folder in path.ancestors().collect::<Vec<_>>().into_iter().rev() {
            if !self.tree.known.contains(&folder) {
                let above = self.tree.root.open_parent(&folder)?;
                let found = stat_at(above.as_fd(), folder.name())?;
                held.push((folder, Seen::new(Entry::Directory, found, now())));
            }
        }
        self.piece.held = (!held.is_empty()).then(|| Arc::new(held));
        let rules = self.tree.rules.folder(path.parent().as_ref());
        self.name(&parent, &rules, path.clone(), None, FileType::Unknown)
    }

    /// Reports what a folder holds; the folders in it are `jobs` after that.
    fn folder(&mut self, job: Job, take: &mut dyn FnMut(Piece) -> io::Result<()>) -> io::Result<()> {
        let Job { path, parent, is_ignored, held, known } = job;
        self.hold(held, take)?;
        let Some((fd, seen)) = self.enter(path.as_ref(), &parent, is_ignored)? else {
            return Ok(());
        };
        if let (Some(path), Some(seen)) = (&path, seen) {
            // An ignored folder that was reported once stays reported while it stands: its last child's end is not its
            // own.
            if is_ignored && !self.tree.known.contains(path) {
                let mut held = self.piece.held.as_deref().cloned().unwrap_or_default();
                held.push((path.clone(), seen));
                self.hold(Some(Arc::new(held)), take)?;
            } else {
                let position =
                    known.filter(|(_, known)| known.is_same_folder(&seen)).map(|(position, _)| position);
                self.report(path.clone(), seen, None, position);
            }
        }
        let names = std::mem::take(&mut self.names);
        let result = self.children(&Arc::new(fd), path.as_ref(), &names, take);
        self.names = names;
        result
    }

    /// Goes on below other ignored folders.
    fn hold(&mut self, held: Held, take: &mut dyn FnMut(Piece) -> io::Result<()>) -> io::Result<()> {
        let same = match (&held, &self.piece.held) {
            (Some(held), Some(now)) => Arc::ptr_eq(held, now),
            (None, None) => true,
            _ => false,
        };
        if !same {
            self.piece(take)?;
            self.piece.held = held;
        }
        Ok(())
    }

    /// Opens, watches and lists a folder and returns it with what is to be said of it; `None` if it is not walked.
    fn enter(
        &mut self,
        path: Option<&RelPath>,
        parent: &OwnedFd,
        is_ignored: bool,
    ) -> io::Result<Option<(OwnedFd, Option<Seen>)>> {
        let taken = now();
        let opened = match path {
            None => open_folder(parent.as_fd(), "."),
            Some(path) => open_folder(parent.as_fd(), path.name()),
        };
        let listing = opened.and_then(|fd| {
            let stat = stat_of(fd.as_fd())?;
            if path.is_none_or(|path| !self.tree.is_mount(path, &stat)) {
                self.tree.watch(fd.as_fd(), path);
                self.names.read(fd.as_fd(), &mut self.buffer)?;
                #[cfg(test)]
                self.tree.just_listed(path);
            }
            Ok((fd, stat))
        });
        let Some(path) = path else { return listing.map(|(fd, _)| Some((fd, None))) };
        let (fd, stat) = match listing {
            Ok(listing) => listing,
            Err(error) if is_ours(&error) => return Err(error),
            Err(error) if is_absent(&error) => return Ok(None),
            // Something else took its name: to say nothing of it would say that it is gone.
            Err(error) if is_replaced(&error) => {
                return self.stands_instead(parent, path, is_ignored, error).map(|()| None);
            }
            Err(_) if is_ignored => return Ok(None),
            Err(_) => {
                let stat = stat_at(parent.as_fd(), path.name()).unwrap_or(Stat::UNKNOWN);
                let seen = Seen::new(Entry::Opaque(Opaque::Unreadable), stat, taken);
                self.report(path.clone(), seen, None, None);
                return Ok(None);
            }
        };
        if self.tree.is_mount(path, &stat) {
            if !is_ignored {
                let seen = Seen::new(Entry::Opaque(Opaque::Mount), stat, taken);
                self.report(path.clone(), seen, None, None);
            }
            return Ok(None);
        }
        Ok(Some((fd, Some(Seen::new(Entry::Directory, stat, taken)))))
    }

    /// Reports what has just taken the place of a folder.
    fn stands_instead(
        &mut self,
        parent: &OwnedFd,
        path: &RelPath,
        is_ignored: bool,
        error: io::Error,
    ) -> io::Result<()> {
        let looked = self.tree.look_and_keep(
            parent.as_fd(),
            path.name(),
            path,
            Trust::Settled,
            self.departed,
            self.eager,
        )?;
        match looked {
            // Now it is a folder again: whoever plays with us is not to be believed.
            Some((seen, _)) if seen.entry == Entry::Directory => return Err(error),
            Some((seen, content)) if !is_ignored => self.report(path.clone(), seen, content, None),
            Some(_) | None => {}
        }
        Ok(())
    }

    fn children(
        &mut self,
        fd: &Arc<OwnedFd>,
        path: Option<&RelPath>,
        names: &Names,
        take: &mut dyn FnMut(Piece) -> io::Result<()>,
    ) -> io::Result<()> {
        let tree = self.tree;
        let rules = tree.rules.folder(path);
        let mut text = std::mem::take(&mut self.text);
        text.clear();
        if let Some(path) = path {
            text.push_str(path.as_str());
            text.push('/');
        }
        let folder = text.len();
        for (bytes, kind) in names.iter() {
            let child = std::str::from_utf8(bytes).ok().map(|name| {
                text.truncate(folder);
                text.push_str(name);
                RelPath::new(text.as_str())
            });
            let problem = match child {
                Some(Ok(child)) => {
                    let known = self.known.find(child.as_str());
                    self.name(fd, &rules, child, known, kind)?;
                    if self.piece.items.len() >= PIECE.0 || self.piece.bytes >= PIECE.1 {
                        self.piece(take)?;
                    }
                    continue;
                }
                Some(Err(_)) => "the path is too long or too deep",
                None => "the name is not UTF-8",
            };
            let name = String::from_utf8_lossy(bytes);
            let name = path.map_or(name.to_string(), |path| format!("{path}/{name}"));
            self.piece.walked.problems.push((name, problem));
        }
        self.text = text;
        Ok(())
    }

    /// Looks at one name in a folder, of which the listing says that it is a `kind`.
    fn name(
        &mut self,
        folder: &Arc<OwnedFd>,
        rules: &FolderRules<'_>,
        path: RelPath,
        known: Option<(Position, Seen)>,
        kind: FileType,
    ) -> io::Result<()> {
        let mut known = known;
        let tree = self.tree;
        if tree.guard.is_reserved(&path) {
            self.piece.walked.reserved.extend(stat_at(folder.as_fd(), path.name()));
        }
        let verdict = rules.decide(&path);
        let may_be_folder = matches!(kind, FileType::Directory | FileType::Unknown);
        if verdict.ignored && (verdict.skip_dir || !may_be_folder) {
            return Ok(());
        }
        let is_mount = !tree.mounts.is_empty() && tree.mounts.contains(&path);
        match kind {
            FileType::Directory if !is_mount => {
                return self.enqueue(folder, path, verdict.ignored, known);
            }
            FileType::RegularFile if known.is_some() => {
                if let Ok(stat) = stat_at(folder.as_fd(), path.name())
                    && !tree.is_mount(&path, &stat)
                    && let Some((position, seen)) =
                        known.take_if(|(_, seen)| seen.is_still(&stat, Trust::Settled))
                {
                    self.report(path, seen, None, Some(position));
                    return Ok(());
                }
            }
            // What is not known has to be read anyway.
            FileType::RegularFile if !is_mount && self.departed.is_empty() => {
                let also = Also { memory: &tree.memory, old: None, keep: self.eager };
                if let Ok((seen, content)) = read_file(folder.as_fd(), path.name(), also) {
                    self.report(path, seen, content, None);
                    return Ok(());
                }
            }
            _ => {}
        }
        if verdict.ignored {
            let is_folder = stat_at(folder.as_fd(), path.name())
                .is_ok_and(|stat| stat.kind == Kind::Directory && !tree.is_mount(&path, &stat));
            if !is_folder {
                return Ok(());
            }
        }
        let looked = tree.look_and_keep(
            folder.as_fd(),
            path.name(),
            &path,
            Trust::Settled,
            self.departed,
            self.eager,
        )?;
        match looked {
            None => Ok(()),
            Some((seen, _)) if seen.entry == Entry::Directory => {
                self.enqueue(folder, path, verdict.ignored, known)
            }
            Some(_) if verdict.ignored => Ok(()),
            Some((seen, content)) => {
                self.report(path, seen, content, None);
                Ok(())
            }
        }
    }

    #[expect(clippy::unnecessary_wraps, reason = "the last step of a look at a name")]
    fn enqueue(
        &mut self,
        folder: &Arc<OwnedFd>,
        path: RelPath,
        is_ignored: bool,
        known: Option<(Position, Seen)>,
    ) -> io::Result<()> {
        let held = self.piece.held.clone();
        self.jobs.push(Job { path: Some(path), parent: Arc::clone(folder), is_ignored, held, known });
        Ok(())
    }

    fn report(&mut self, path: RelPath, seen: Seen, content: Option<Vec<u8>>, position: Option<Position>) {
        self.piece.bytes += content.as_ref().map_or(0, Vec::len);
        self.piece.items.push(Item { path, seen, position, content });
    }

    /// Hands over what was found since the last time.
    fn piece(&mut self, take: &mut dyn FnMut(Piece) -> io::Result<()>) -> io::Result<()> {
        let held = self.piece.held.clone();
        let piece = std::mem::replace(&mut self.piece, Piece { held, ..Piece::default() });
        take(piece)
    }
}

/// The folders that several walkers have yet to walk.
struct Pool {
    state: Mutex<State>,
    changed: Condvar,
    /// Whether a walker waits for something to do.
    is_hungry: AtomicBool,
}

struct State {
    /// Taken from the end: so few folders are open at once, and what is found together lies together.
    jobs: Vec<Job>,
    /// How many walkers may still add to them.
    busy: usize,
    stopped: bool,
}

impl Pool {
    fn new(job: Job) -> Self {
        let state = State { jobs: vec![job], busy: 0, stopped: false };
        Self { state: Mutex::new(state), changed: Condvar::new(), is_hungry: AtomicBool::new(false) }
    }

    fn start<'scope>(
        &'scope self,
        scope: &'scope Scope<'scope, '_>,
        walker: Walker<'scope>,
        piece_tx: SyncSender<io::Result<Piece>>,
    ) -> io::Result<()> {
        let run = move || self.run(walker, &piece_tx);
        thread::start_in(scope, "towline-walk", run)
    }

    fn run(&self, mut walker: Walker<'_>, piece_tx: &SyncSender<io::Result<Piece>>) {
        let mut send = |piece| piece_tx.send(Ok(piece)).map_err(|_| stopped());
        while let Some(job) = self.next() {
            if let Err(error) = self.run_jobs(&mut walker, job, &mut send) {
                // Nobody listens when the walk was told to stop.
                let _stopped = piece_tx.send(Err(error));
                self.stop();
            }
            self.done();
        }
    }

    /// Walks a folder and what is below it, but for what others take over.
    fn run_jobs(
        &self,
        walker: &mut Walker<'_>,
        job: Job,
        send: &mut dyn FnMut(Piece) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut jobs = vec![job];
        while let Some(job) = jobs.pop() {
            walker.folder(job, send)?;
            jobs.extend(walker.jobs.drain(..).rev());
            if jobs.len() > 1 && self.is_hungry.load(Ordering::Relaxed) {
                // What is above them has to be told first.
                walker.piece(send)?;
                if !self.share(&mut jobs) {
                    return Ok(());
                }
            }
        }
        walker.piece(send)
    }

    fn next(&self) -> Option<Job> {
        let mut state = self.lock();
        loop {
            if let Some(job) = state.jobs.pop() {
                state.busy += 1;
                return Some(job);
            }
            if state.busy == 0 {
                return None;
            }
            self.is_hungry.store(true, Ordering::Relaxed);
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Leaves the outer half of the jobs to others; tells whether the walk goes on.
    fn share(&self, jobs: &mut Vec<Job>) -> bool {
        let mut state = self.lock();
        if state.stopped {
            return false;
        }
        state.jobs.extend(jobs.drain(..jobs.len() / 2));
        self.is_hungry.store(false, Ordering::Relaxed);
        drop(state);
        self.changed.notify_all();
        true
    }

    fn done(&self) {
        let mut state = self.lock();
        state.busy -= 1;
        if state.busy == 0 {
            drop(state);
            self.changed.notify_all();
        }
    }

    /// Ends the walk: there is nothing left to do.
    fn stop(&self) {
        let mut state = self.lock();
        state.stopped = true;
        state.jobs.clear();
        drop(state);
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change under the lock is complete at each step: a panicked holder leaves nothing half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
