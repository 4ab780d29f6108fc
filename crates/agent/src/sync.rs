//! One folder's replica, spoken to over a channel.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};
use towline_link::Channel;
use towline_sync_core::codec::{Decoder, Encoder};
use towline_sync_core::message::{Reply, Request};
use towline_sync_fs::{Replica, ReplicaOptions};

use crate::thread;

/// Replies that wait for the channel.
const REPLIES: usize = 64;
/// Bytes read at once.
const READ_BYTES: usize = 64 * 1024;

/// Serves requests until the channel ends.
pub(crate) async fn serve(channel: Channel, options: ReplicaOptions) {
    let (reply_tx, reply_rx) = mpsc::channel(REPLIES);
    let replica = match towline_sync_fs::spawn(options, move |reply| reply_tx.blocking_send(reply).is_ok()) {
        Ok(replica) => Closing(Some(replica)),
        Err(error) => return channel.reset(&format!("can't start a replica: {error}")),
    };
    let (mut reader, mut writer) = channel.split();
    let reading = async {
        let mut decoder = Decoder::new();
        let mut buffer = vec![0; READ_BYTES];
        while let Ok(count @ 1..) = reader.read(&mut buffer).await {
            decoder.push(&buffer[..count]);
            loop {
                match decoder.next::<Request>() {
                    Ok(Some(request)) => replica.request(request),
                    Ok(None) => break,
                    Err(error) => return error.to_string(),
                }
            }
            replica.room().await;
        }
        String::new()
    };
    let writing = async {
        let mut encoder = Encoder::new();
        let mut reply_rx = reply_rx;
        let mut batch: Vec<Reply> = Vec::new();
        while reply_rx.recv_many(&mut batch, REPLIES).await > 0 {
            let bytes = encoder.encode(&batch);
            batch.clear();
            if writer.write_all(bytes).await.is_err() || writer.flush().await.is_err() {
                return;
            }
        }
    };
    let why = tokio::select! {
        why = reading => why,
        () = writing => String::new(),
    };
    if !why.is_empty() {
        writer.reset(&why);
    }
    let mut replica = replica;
    if let Some(replica) = replica.0.take() {
        let _ = tokio::task::spawn_blocking(move || replica.close()).await;
    }
}

/// Ends a replica without making the runtime wait for its threads, on every way out.
struct Closing(Option<Replica>);

impl Closing {
    /// Waits while the replica has enough to do.
    async fn room(&self) {
        if let Some(replica) = &self.0 {
            let (room_tx, room_rx) = oneshot::channel();
            replica.when_room(move || {
                // Nobody waits any more when the channel has ended.
                let _ended = room_tx.send(());
            });
            // The replica lives as long as this does, and tells when it ends.
            let _told = room_rx.await;
        }
    }

    fn request(&self, request: Request) {
        if let Some(replica) = &self.0 {
            replica.request(request);
        }
    }
}

impl Drop for Closing {
    fn drop(&mut self) {
        if let Some(replica) = self.0.take() {
            // Its threads end by themselves; only their end is waited for elsewhere. Where no thread is to be had for
            // that, it is waited for here.
            let _ = thread::start("close", move || replica.close());
        }
    }
}
