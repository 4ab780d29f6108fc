//! One pair of folders: the engine between the replica on this machine and the other side's.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use towline_sync_core::base::Base;
use towline_sync_core::engine::{Engine, EngineConfig, Side, SyncEvent, SyncStatus};
use towline_sync_core::message::{Open, Reply, Request, RequestId};
use towline_sync_fs::ReplicaOptions;

use crate::base_store::BaseStore;
use crate::displaced::Recorder;
use crate::error::SyncError;
use crate::ledger::{Counters, Ledger};
use crate::peer::Peer;
use crate::record::{self, Description};

/// How often both sides are looked through although nothing is known to have changed.
const RESCAN: Duration = Duration::from_mins(5);
/// The id of a question that only shows that all before it were answered; the engine counts from the other end.
const SETTLED: RequestId = RequestId::MAX;
const SHORTEST_RESCAN: Duration = Duration::from_millis(100);
/// How often the engine is told that time goes by, while it wants to know.
const TICK: Duration = Duration::from_secs(1);
/// Bytes of trash kept for undo.
const TRASH_BYTES: u64 = 1024 * 1024 * 1024;

/// What is to be kept equal, and how.
#[derive(Debug, Clone)]
pub struct PairOptions {
    /// The folder on this machine; it must exist.
    pub local: PathBuf,
    /// The ignore rules, includes flattened in; both sides go by them.
    pub ignore: Vec<String>,
    /// How the other side's replica is opened.
    pub remote: Open,
    /// The pair's private folder on this machine, for base, trash and conflicts.
    pub state: PathBuf,
    /// Modes and limits.
    pub engine: EngineConfig,
    /// Whether version control and tool configuration that runs code is never written on this machine.
    pub protect: bool,
}

/// To a pair.
#[derive(Debug)]
pub enum Command {
    /// The other side can be spoken with, for the first time or again.
    Connect(Peer),
    /// The other side is gone.
    Disconnect,
    /// The user wants the deletions that sync stopped for.
    ApproveDeletions,
    /// Both sides are to be looked through now.
    Rescan,
    /// Asks how far it is.
    Status(tokio::sync::oneshot::Sender<SyncStatus>),
    /// Asks what it has done.
    Count(tokio::sync::oneshot::Sender<Counters>),
    /// Asks to be told when both sides have said all that they had to say by now, problems included. Not answered where
    /// a side is away.
    Settle(tokio::sync::oneshot::Sender<()>),
}

/// From a pair.
#[derive(Debug)]
pub enum News {
    /// The engine said something.
    Sync(SyncEvent),
    /// The other side, or the disk of this machine, did what it must not; the peer was let go.
    Broken(String),
    /// The folder on this machine can't be synced any more.
    Dead(String),
}

/// A pair that is ready to be synced: its base is locked and loaded.
#[derive(Debug)]
pub struct Pair {
    options: PairOptions,
    store: BaseStore,
    base: Base,
    rescan: Duration,
    ledger: Ledger,
    recorder: Recorder,
    settling: Option<Settling>,
    questions: Questions,
    /// When the other side was asked for the first time; until it answers.
    asked: Option<Instant>,
}

/// Who waits until both sides have said all.
#[derive(Debug)]
struct Settling {
    settled_tx: tokio::sync::oneshot::Sender<()>,
    /// Whether each side still has to answer.
    awaited: [bool; 2],
}

/// Questions by which a side shows that it has answered all before.
#[derive(Debug, Default)]
struct Questions {
    /// Not answered yet.
    open: [u32; 2],
    /// Nothing was asked since the last.
    is_last: [bool; 2],
}

impl Questions {
    fn ask(&mut self, side: Side) -> Request {
        self.open[side as usize] += 1;
        self.is_last[side as usize] = true;
        Request::Fetch { id: SETTLED, files: Vec::new() }
    }

    /// Adds a question to requests that go to a side, if it is wanted.
    fn follow(&mut self, side: Side, requests: &mut Vec<Request>, is_wanted: bool) {
        if !requests.is_empty() {
            self.is_last[side as usize] = false;
            if is_wanted {
                requests.push(self.ask(side));
            }
        }
    }

    fn is_last(&self, side: Side) -> bool {
        self.is_last[side as usize]
    }

    fn is_open(&self, side: Side) -> bool {
        self.open[side as usize] > 0
    }

    fn answered(&mut self, side: Side) {
        let open = &mut self.open[side as usize];
        *open = open.saturating_sub(1);
    }

    /// Forgets what a side was asked that is gone.
    fn forget(&mut self, side: Side) {
        (self.open[side as usize], self.is_last[side as usize]) = (0, false);
    }
}

/// Returns the folder below a pair's state in which the losing bytes of conflicts and the trash are kept.
pub fn keep_folder(state: &Path) -> PathBuf {
    state.join("keep")
}

/// Returns how a folder of this machine is handled: what is displaced is kept in `keep`, and bytes are on the disk
/// before they take their place.
pub fn replica_options(keep: &Path) -> ReplicaOptions {
    ReplicaOptions {
        keep: Some(keep.to_owned()),
        trash_limit: TRASH_BYTES,
        durable: true,
        ..ReplicaOptions::default()
    }
}

impl Pair {
    /// Locks and loads the pair's base.
    ///
    /// # Errors
    ///
    /// [`SyncError::Busy`] when another process has the pair, [`SyncError::State`] when its files can't be used.
    pub fn open(options: PairOptions) -> Result<Self, SyncError> {
        let (store, base) = BaseStore::open(&options.state, &options.local)?;
        let pair = Self {
            recorder: Recorder::new(&options.state),
            options,
            store,
            base,
            rescan: RESCAN,
            ledger: Ledger::default(),
            settling: None,
            questions: Questions::default(),
            asked: None,
        };
        pair.describe(&pair.options.remote.root, None, None)?;
        Ok(pair)
    }

    /// Says how people name the other side, for those who ask later: by its root, unless this is called.
    ///
    /// `folder` is the other side's folder if it is one of this machine, `ignore_file` the file that the ignore rules
    /// are from.
    ///
    /// # Errors
    ///
    /// [`SyncError::State`] when it can't be written down.
    pub fn describe(
        &self,
        remote: &str,
        folder: Option<&Path>,
        ignore_file: Option<&Path>,
    ) -> Result<(), SyncError> {
        let PairOptions { local, ignore, remote: open, state, engine, .. } = &self.options;
        let description = Description {
            local: local.clone(),
            remote: remote.to_owned(),
            remote_folder: folder.map(Path::to_owned),
            remote_root: open.root.clone(),
            mode: engine.mode,
            ignore: ignore.clone(),
            ignore_file: ignore_file.map(Path::to_owned),
            began: record::now(),
        };
        let path = state.clone();
        record::describe(state, &description).map_err(|source| SyncError::State {
            what: "describing the pair in",
            path,
            source,
        })
    }

    /// Sets how often both sides are looked through although nothing is known to have changed: every five minutes,
    /// unless this is called.
    #[must_use]
    pub fn rescan_every(mut self, interval: Duration) -> Self {
        self.rescan = interval.max(SHORTEST_RESCAN);
        self
    }

    /// Returns why what both sides last agreed on is not known any more, if that was to be known: it was damaged, or
    /// another version wrote it. It lies beside the new one, as `base.unreadable`. Nothing is deleted for want of it.
    pub fn began_anew(&self) -> Option<&str> {
        self.store.put_aside()
    }

    /// Syncs until the command channel closes.
    pub async fn run(mut self, mut commands: mpsc::Receiver<Command>, news_tx: mpsc::Sender<News>) {
        let replica = replica_options(&keep_folder(&self.options.state));
        let replica = ReplicaOptions { protect: self.options.protect, ..replica };
        let mut local = match Peer::here(replica) {
            Ok(local) => local,
            Err(error) => {
                let _ = news_tx.send(News::Broken(format!("can't start syncing: {error}"))).await;
                return;
            }
        };
        let mut engine = Engine::new(self.options.engine.clone(), std::mem::take(&mut self.base));
        engine.connect(
            Side::Local,
            Open {
                root: self.options.local.to_string_lossy().into_owned(),
                ignore: self.options.ignore.clone(),
                excluded: Vec::new(),
                create: false,
                watch: self.options.remote.watch,
            },
        );
        let mut remote: Option<Peer> = None;
        let mut rescan = interval_at(Instant::now() + self.rescan, self.rescan);
        rescan.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut tick = interval_at(Instant::now() + TICK, TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut from_local, mut from_remote) = (Vec::new(), Vec::new());
        loop {
            if let Err(message) = self.drain(&mut engine, &mut local, &mut remote, &news_tx).await {
                engine.handle_disconnected(Side::Remote);
                remote = None;
                self.settling = None;
                if news_tx.send(News::Broken(message)).await.is_err() {
                    break;
                }
                continue;
            }
            let outcome = tokio::select! {
                command = commands.recv() => match command {
                    Some(command) => self.obey(command, &mut engine, &mut local, &mut remote).await,
                    None => break,
                },
                received = local.receive(&mut from_local), if !engine.is_full() => {
                    if let Err(message) = received.and_then(|()| self.take(&mut engine, Side::Local, &mut from_local)) {
                        let _ = news_tx.send(News::Dead(message)).await;
                        break;
                    }
                    Ok(())
                }
                _ = rescan.tick() => {
                    engine.rescan(Side::Local);
                    engine.rescan(Side::Remote);
                    Ok(())
                }
                _ = tick.tick(), if engine.needs_ticks() => {
                    engine.tick();
                    Ok(())
                }
                received = receive(&mut remote, &mut from_remote) => {
                    received.and_then(|()| self.take(&mut engine, Side::Remote, &mut from_remote))
                }
            };
            if let Err(message) = outcome {
                remote = None;
                self.settling = None;
                engine.handle_disconnected(Side::Remote);
                if news_tx.send(News::Broken(message)).await.is_err() {
                    break;
                }
            }
        }
        self.ledger.save(&self.options.state);
        let remote = async {
            if let Some(remote) = remote {
                remote.close().await;
            }
        };
        tokio::join!(local.close(), remote);
    }

    /// Does what is wanted of it.
    async fn obey(
        &mut self,
        command: Command,
        engine: &mut Engine,
        local: &mut Peer,
        remote: &mut Option<Peer>,
    ) -> Result<(), String> {
        // Whoever asked something may have gone.
        match command {
            Command::Connect(peer) => {
                *remote = Some(peer);
                engine.connect(Side::Remote, self.options.remote.clone());
                self.questions.forget(Side::Remote);
                self.asked = Some(Instant::now());
            }
            Command::Disconnect => {
                *remote = None;
                self.settling = None;
                engine.handle_disconnected(Side::Remote);
            }
            Command::ApproveDeletions => engine.approve_deletions(),
            Command::Rescan => {
                engine.rescan(Side::Local);
                engine.rescan(Side::Remote);
            }
            Command::Status(status_tx) => {
                let _ = status_tx.send(engine.status());
            }
            Command::Count(counters_tx) => {
                let _ = counters_tx.send(self.ledger.counters());
            }
            Command::Settle(settled_tx) => {
                // The answer comes after all that they have to say.
                if !self.questions.is_last(Side::Local) {
                    local.send(&mut vec![self.questions.ask(Side::Local)]).await?;
                }
                let mut awaited = [self.questions.is_open(Side::Local), true];
                if let Some(remote) = remote {
                    if !self.questions.is_last(Side::Remote) {
                        remote.send(&mut vec![self.questions.ask(Side::Remote)]).await?;
                    }
                    awaited[Side::Remote as usize] = self.questions.is_open(Side::Remote);
                }
                self.settling = Some(Settling { settled_tx, awaited });
            }
        }
        Ok(())
    }

    /// Hands over what a side said.
    fn take(&mut self, engine: &mut Engine, side: Side, replies: &mut Vec<Reply>) -> Result<(), String> {
        if side == Side::Remote
            && let Some(asked) = self.asked.take()
        {
            // The root was opened meanwhile, too, which is quick.
            engine.set_round_trip(asked.elapsed());
        }
        for reply in replies.drain(..) {
            if side == Side::Remote {
                self.recorder.answered(&reply);
            }
            match reply {
                Reply::Fetched { id: SETTLED, .. } => {
                    self.questions.answered(side);
                    // Nobody may wait for it any more.
                    if let Some(settling) = &mut self.settling {
                        settling.awaited[side as usize] = self.questions.is_open(side);
                    }
                }
                reply => engine.handle_reply(side, reply).map_err(|error| error.to_string())?,
            }
        }
        Ok(())
    }

    /// Carries out what the engine wants, until it wants nothing more.
    async fn drain(
        &mut self,
        engine: &mut Engine,
        local: &mut Peer,
        remote: &mut Option<Peer>,
        news_tx: &mpsc::Sender<News>,
    ) -> Result<(), String> {
        let mut batches: [Vec<Request>; 2] = Default::default();
        while let Some((side, request)) = engine.poll_request() {
            batches[side as usize].push(request);
        }
        self.ledger.asked(&batches);
        let records: Vec<_> = std::iter::from_fn(|| engine.poll_record()).collect();
        if !records.is_empty() {
            self.store
                .append(&records, engine.base())
                .map_err(|error| format!("writing the sync base: {error}"))?;
        }
        let [mut to_local, mut to_remote] = batches;
        // Who syncs once wants to know when nothing follows any more.
        let is_wanted = !self.options.remote.watch && engine.is_all_asked();
        self.questions.follow(Side::Local, &mut to_local, is_wanted);
        self.questions.follow(Side::Remote, &mut to_remote, is_wanted);
        if !to_local.is_empty() {
            local.send(&mut to_local).await?;
        }
        if let Some(remote) = remote
            && !to_remote.is_empty()
        {
            if remote.is_stream() {
                self.recorder.asked(&to_remote);
            }
            remote.send(&mut to_remote).await?;
        }
        while let Some(event) = engine.poll_event() {
            self.ledger.happened(&self.options.state, &event);
            // Nobody listens only when the pair is to end; the loop then sees its commands close.
            let _ = news_tx.send(News::Sync(event)).await;
        }
        if let Some(settling) = self.settling.take_if(|settling| settling.awaited == [false; 2]) {
            let _ = settling.settled_tx.send(());
        }
        Ok(())
    }
}

/// Waits for replies of the other side; for ever without one.
async fn receive(remote: &mut Option<Peer>, replies: &mut Vec<Reply>) -> Result<(), String> {
    match remote {
        Some(remote) => remote.receive(replies).await,
        None => std::future::pending().await,
    }
}
