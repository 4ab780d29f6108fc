//! One synced folder: the engine between the replica on this machine and the one in the pod.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use towline_link::{Channel, ChannelReader, ChannelWriter};
use towline_sync_core::codec::{Decoder, Encoder};
use towline_sync_core::engine::{Engine, EngineConfig, Side, SyncEvent};
use towline_sync_core::message::{Open, Reply, Request};
use towline_sync_fs::{Replica, ReplicaOptions};

use crate::base_store::BaseStore;
use crate::error::SessionError;
use crate::request::Folder;

/// Replies of the local replica that wait for the engine.
const REPLIES: usize = 64;
/// Bytes read from the pod at once.
const READ_BYTES: usize = 64 * 1024;
/// How often both sides are looked through although nothing is known to have changed.
const RESCAN: Duration = Duration::from_mins(5);
/// Bytes of trash kept for undo.
const TRASH_BYTES: u64 = 1024 * 1024 * 1024;

/// To a folder.
#[derive(Debug)]
pub(crate) enum Command {
    /// A new channel to the pod's replica.
    Connect(Channel),
    /// The channel is gone.
    Disconnect,
    /// The user wants the deletions that sync stopped for.
    ApproveDeletions,
}

/// From a folder.
#[derive(Debug)]
pub(crate) enum News {
    /// The engine said something.
    Sync(SyncEvent),
    /// The pod's replica, or the disk of this machine, did what it must not; the folder's channel was closed.
    Broken(String),
    /// The folder on this machine can't be synced any more.
    Dead(String),
}

/// A folder that is ready to be synced: its base is locked and loaded.
#[derive(Debug)]
pub(crate) struct Syncer {
    folder: Folder,
    remote: Open,
    store: BaseStore,
    keep: PathBuf,
}

impl Syncer {
    /// Locks and loads the folder's base. `remote` is how the pod's replica is to be opened.
    pub(crate) fn open(folder: Folder, remote: Open, state: &Path) -> Result<Self, SessionError> {
        let store = BaseStore::open(state, &folder.local)?;
        Ok(Self { keep: state.join("keep"), folder, remote, store })
    }

    /// Syncs until the command channel closes.
    pub(crate) async fn run(mut self, mut commands: mpsc::Receiver<Command>, news_tx: mpsc::Sender<News>) {
        let (reply_tx, mut local_rx) = mpsc::channel::<Reply>(REPLIES);
        let options = ReplicaOptions {
            keep: Some(self.keep.clone()),
            protect: true,
            trash_limit: TRASH_BYTES,
            durable: true,
            ..ReplicaOptions::default()
        };
        let local = match towline_sync_fs::spawn(options, move |reply| reply_tx.blocking_send(reply).is_ok())
        {
            Ok(local) => local,
            Err(error) => {
                let _ = news_tx.send(News::Broken(format!("can't start syncing: {error}"))).await;
                return;
            }
        };
        let mut engine = Engine::new(EngineConfig::default(), self.store.base().clone());
        engine.connect(
            Side::Local,
            Open {
                root: self.folder.local.to_string_lossy().into_owned(),
                ignore: self.folder.ignore.clone(),
                excluded: Vec::new(),
                create: false,
            },
        );
        let mut remote: Option<Remote> = None;
        let mut rescan = tokio::time::interval_at(tokio::time::Instant::now() + RESCAN, RESCAN);
        rescan.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            if let Err(message) = self.drain(&mut engine, &local, &mut remote, &news_tx).await {
                engine.handle_disconnected(Side::Remote);
                remote = None;
                if news_tx.send(News::Broken(message)).await.is_err() {
                    return;
                }
                continue;
            }
            let outcome = tokio::select! {
                command = commands.recv() => match command {
                    Some(Command::Connect(channel)) => {
                        remote = Some(Remote::new(channel));
                        engine.connect(Side::Remote, self.remote.clone());
                        Ok(())
                    }
                    Some(Command::Disconnect) => {
                        remote = None;
                        engine.handle_disconnected(Side::Remote);
                        Ok(())
                    }
                    Some(Command::ApproveDeletions) => {
                        engine.approve_deletions();
                        Ok(())
                    }
                    None => break,
                },
                Some(reply) = local_rx.recv() => match engine.handle_reply(Side::Local, reply) {
                    Ok(()) => Ok(()),
                    Err(error) => {
                        let _ = news_tx.send(News::Dead(error.to_string())).await;
                        break;
                    }
                },
                _ = rescan.tick() => {
                    engine.rescan(Side::Local);
                    engine.rescan(Side::Remote);
                    Ok(())
                }
                received = receive(&mut remote) => match received {
                    Ok(()) => remote.as_mut().map_or(Ok(()), |remote| remote.decode(&mut engine)),
                    Err(message) => Err(message),
                },
            };
            if let Err(message) = outcome {
                remote = None;
                engine.handle_disconnected(Side::Remote);
                if news_tx.send(News::Broken(message)).await.is_err() {
                    return;
                }
            }
        }
        // The replica's thread may wait for room in the channel: closing it first lets it end.
        local_rx.close();
        let _ = tokio::task::spawn_blocking(move || local.close()).await;
    }

    /// Carries out what the engine wants, until it wants nothing more.
    async fn drain(
        &mut self,
        engine: &mut Engine,
        local: &Replica,
        remote: &mut Option<Remote>,
        news_tx: &mpsc::Sender<News>,
    ) -> Result<(), String> {
        let mut batch = Vec::new();
        while let Some((side, request)) = engine.poll_request() {
            match side {
                Side::Local => local.request(request),
                Side::Remote => batch.push(request),
            }
        }
        while let Some(delta) = engine.poll_record() {
            self.store.append(&delta).map_err(|error| format!("writing the sync base: {error}"))?;
        }
        if let Some(remote) = remote
            && !batch.is_empty()
        {
            remote.send(&batch).await?;
        }
        while let Some(event) = engine.poll_event() {
            // Nobody listens only when the session is over; the loop then sees its commands close.
            let _ = news_tx.send(News::Sync(event)).await;
        }
        Ok(())
    }
}

/// The channel to the pod's replica.
struct Remote {
    reader: ChannelReader,
    writer: ChannelWriter,
    encoder: Encoder,
    decoder: Decoder,
    buffer: Vec<u8>,
}

impl Remote {
    fn new(channel: Channel) -> Self {
        let (reader, writer) = channel.split();
        Self {
            reader,
            writer,
            encoder: Encoder::default(),
            decoder: Decoder::default(),
            buffer: vec![0; READ_BYTES],
        }
    }

    async fn send(&mut self, batch: &[Request]) -> Result<(), String> {
        let bytes = self.encoder.encode(batch);
        self.writer.write_all(&bytes).await.map_err(|error| error.to_string())?;
        self.writer.flush().await.map_err(|error| error.to_string())
    }

    fn decode(&mut self, engine: &mut Engine) -> Result<(), String> {
        while let Some(reply) = self.decoder.next::<Reply>().map_err(|error| error.to_string())? {
            engine.handle_reply(Side::Remote, reply).map_err(|error| error.to_string())?;
        }
        Ok(())
    }
}

/// Reads what has come from the pod into the decoder; waits for ever without a channel.
async fn receive(remote: &mut Option<Remote>) -> Result<(), String> {
    let Some(remote) = remote else { return std::future::pending().await };
    match remote.reader.read(&mut remote.buffer).await {
        Ok(0) => Err("the pod's side of the sync ended".to_owned()),
        Ok(count) => {
            remote.decoder.push(&remote.buffer[..count]);
            Ok(())
        }
        Err(error) => Err(error.to_string()),
    }
}
