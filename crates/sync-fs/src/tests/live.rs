//! A replica with its threads, and an engine's view of it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use towline_sync_core::message::{Open, Reply, Request};
use towline_sync_core::outline::Outline;
use towline_sync_core::path::RelPath;
use towline_sync_core::snapshot::Entry;

use super::make;
use crate::inbox::Inbox;
use crate::options::ReplicaOptions;
use crate::replica::{Replica, Worker};
use crate::workspace::Workspace;

/// How long an answer may take on a busy machine.
const DEADLINE: Duration = Duration::from_secs(20);

/// A running replica and what it has told.
pub(crate) struct Live {
    pub(crate) root: TempDir,
    pub(crate) replica: Replica,
    /// What stands there, by all that was told.
    pub(crate) mirror: BTreeMap<RelPath, Entry>,
    /// How often each path was told to have changed.
    pub(crate) changes: BTreeMap<RelPath, usize>,
    reply_rx: Receiver<Reply>,
}

impl Live {
    pub(crate) fn new(lines: &[&str], options: ReplicaOptions) -> Self {
        Self::configured(lines, options, &[], |_| ())
    }

    pub(crate) fn configured(
        lines: &[&str],
        options: ReplicaOptions,
        ignore: &[&str],
        configure: impl FnMut(&mut Workspace) + Send + 'static,
    ) -> Self {
        let root = tempfile::tempdir().unwrap();
        make(root.path(), lines);
        let (reply_tx, reply_rx) = channel();
        let inbox = Arc::new(Inbox::default());
        let worker = Worker {
            options,
            inbox: Arc::clone(&inbox),
            replies: Box::new(move |reply| reply_tx.send(reply).is_ok()),
            listening: true,
            answers: Vec::new(),
            session: None,
            configure: Some(Box::new(configure)),
        };
        let replica = worker.start(inbox).unwrap();
        replica.request(Request::Open(Open {
            root: root.path().to_str().unwrap().to_owned(),
            ignore: ignore.iter().map(|line| (*line).to_owned()).collect(),
            excluded: Vec::new(),
            create: false,
            watch: true,
        }));
        let Ok(Reply::Opened(_)) = reply_rx.recv_timeout(DEADLINE) else { panic!("not opened") };
        let mut live = Self { root, replica, mirror: BTreeMap::new(), changes: BTreeMap::new(), reply_rx };
        live.scan();
        live
    }

    pub(crate) fn path(&self) -> &Path {
        self.root.path()
    }

    /// Waits until it is told that this stands at a path.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, at: &str, entry: &Entry) {
        while self.mirror.get(at) != Some(entry) {
            self.wait(|reply| matches!(reply, Reply::Changed(_)));
        }
    }

    /// Tells whether there is room for content, or will be.
    pub(crate) fn room(&self) -> Receiver<()> {
        let (room_tx, room_rx) = channel();
        self.replica.when_room(move || room_tx.send(()).unwrap());
        room_rx
    }

    /// Has everything scanned, and returns how many entries were told.
    pub(crate) fn scan(&mut self) -> usize {
        let outline = Outline::of(&self.mirror);
        self.replica.request(if self.mirror.is_empty() {
            Request::Scan { eager: false }
        } else {
            Request::Compare(outline.clone())
        });
        let believed = std::mem::take(&mut self.mirror);
        let (mut scanned, mut told) = (BTreeMap::new(), 0);
        self.wait(|reply| match reply {
            Reply::Same(same) => {
                scanned = outline.keep(believed.clone(), same).unwrap();
                false
            }
            Reply::Entries { entries, last } => {
                told += entries.len();
                scanned.extend(entries.iter().cloned());
                *last
            }
            Reply::ScanFailed(failure) => panic!("{failure:?}"),
            _ => false,
        });
        self.mirror = scanned;
        told
    }

    /// Waits for a reply that `found` takes, and returns it.
    #[track_caller]
    pub(crate) fn wait(&mut self, mut found: impl FnMut(&Reply) -> bool) -> Reply {
        let until = Instant::now() + DEADLINE;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let reply = self.reply_rx.recv_timeout(left).expect("an answer in time");
            if let Reply::Changed(changes) = &reply {
                for change in changes {
                    *self.changes.entry(change.path.clone()).or_default() += 1;
                    match &change.entry {
                        Some(entry) => self.mirror.insert(change.path.clone(), entry.clone()),
                        None => self.mirror.remove(&change.path),
                    };
                }
            }
            if found(&reply) {
                return reply;
            }
        }
    }

    /// Waits until all that was told is what stands there.
    #[track_caller]
    pub(crate) fn converge(&mut self) {
        let until = Instant::now() + DEADLINE;
        let expected = super::entries(self.path());
        while self.mirror != expected {
            let left = until.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "told {:?}, stands {expected:?}", self.mirror);
            self.wait(|reply| matches!(reply, Reply::Changed(_)));
        }
    }
}
