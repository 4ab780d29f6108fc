//! Two folders and what a pair of them needs.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tempfile::TempDir;
use tokio::io::{duplex, split};
use tokio::sync::mpsc;
use towline_sync::{
    Command, KnownPair, News, Pair, PairOptions, Peer, Preview, PreviewError, ReplicaOptions, keep_folder,
    preview, replica_options, serve,
};
use towline_sync_core::engine::{EngineConfig, SyncEvent};
use towline_sync_core::message::Open;
use towline_sync_core::reconcile::Mode;

/// More than anything here takes, even on a busy machine.
const DEADLINE: Duration = Duration::from_secs(30);

pub(crate) struct Scene {
    pub(crate) temp: TempDir,
    pub(crate) mode: Mode,
    pub(crate) ignore: Vec<String>,
}

impl Scene {
    pub(crate) fn new() -> Self {
        let scene = Self { temp: tempfile::tempdir().unwrap(), mode: Mode::TwoWay, ignore: Vec::new() };
        fs::create_dir(scene.here()).unwrap();
        scene
    }

    pub(crate) fn here(&self) -> PathBuf {
        self.temp.path().join("here")
    }

    pub(crate) fn there(&self) -> PathBuf {
        self.temp.path().join("there")
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.temp.path().join("sync/pair")
    }

    /// Writes files, each with the folders above it.
    pub(crate) fn write(&self, files: &[(&str, &str)]) {
        for (path, content) in files {
            let path = self.temp.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
    }

    pub(crate) fn options(&self) -> PairOptions {
        PairOptions {
            local: self.here(),
            ignore: self.ignore.clone(),
            remote: Open {
                root: self.there().display().to_string(),
                ignore: self.ignore.clone(),
                excluded: Vec::new(),
                create: true,
                watch: true,
            },
            state: self.state(),
            engine: EngineConfig { mode: self.mode, ..EngineConfig::default() },
            protect: false,
        }
    }

    /// Syncs until both sides are equal, and returns what was said.
    pub(crate) async fn sync(&self) -> Vec<SyncEvent> {
        let peer = Peer::here(replica_options(&self.state().join("far"))).unwrap();
        self.sync_with(peer, Some(&self.there())).await
    }

    /// Syncs with the far end of a stream, which keeps what it displaces in `far`.
    pub(crate) async fn sync_far(&self) -> Vec<SyncEvent> {
        self.sync_with(self.far(), None).await
    }

    /// The far end of a stream, as an agent has it.
    pub(crate) fn far(&self) -> Peer {
        let (near, far) = duplex(64 * 1024);
        let options =
            ReplicaOptions { keep: Some(self.temp.path().join("far")), ..ReplicaOptions::default() };
        tokio::spawn(async move {
            let (reader, writer) = split(far);
            let _ = serve(reader, writer, options).await;
        });
        let (reader, writer) = split(near);
        Peer::stream(reader, writer)
    }

    async fn sync_with(&self, peer: Peer, folder: Option<&Path>) -> Vec<SyncEvent> {
        let pair = Pair::open(self.options()).unwrap();
        pair.describe("there", folder, None).unwrap();
        let (command_tx, command_rx) = mpsc::channel(4);
        let (news_tx, mut news_rx) = mpsc::channel(64);
        let running = tokio::spawn(pair.run(command_rx, news_tx));
        command_tx.send(Command::Connect(peer)).await.unwrap();
        let mut events = Vec::new();
        let following = async {
            while let Some(news) = news_rx.recv().await {
                match news {
                    News::Sync(SyncEvent::InSync) => break,
                    News::Sync(event) => events.push(event),
                    other => panic!("{other:?}"),
                }
            }
        };
        tokio::time::timeout(DEADLINE, following).await.expect("it takes too long");
        drop((command_tx, news_rx));
        running.await.unwrap();
        events
    }

    /// Says what a sync would do.
    pub(crate) async fn preview(&self) -> Result<Preview, PreviewError> {
        let looks = |keep: PathBuf| Peer::here(replica_options(&keep)).unwrap();
        let local = looks(keep_folder(&self.state()));
        let remote = looks(self.state().join("far"));
        tokio::time::timeout(DEADLINE, preview(&self.options(), local, remote))
            .await
            .expect("it takes too long")
    }

    pub(crate) fn known(&self) -> KnownPair {
        KnownPair::all(&self.temp.path().join("sync")).remove(0)
    }

    /// Everything below the scene, with contents and times of change but those of folders.
    pub(crate) fn everything(&self) -> BTreeMap<PathBuf, (Vec<u8>, Option<SystemTime>)> {
        let mut all = BTreeMap::new();
        collect(self.temp.path(), &mut all);
        all
    }
}

fn collect(folder: &Path, all: &mut BTreeMap<PathBuf, (Vec<u8>, Option<SystemTime>)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let meta = path.symlink_metadata().unwrap();
        if meta.is_dir() {
            collect(&path, all);
            all.insert(path, (Vec::new(), None));
        } else {
            let content = if meta.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
            all.insert(path, (content, Some(meta.modified().unwrap())));
        }
    }
}
