//! The far end of a stream, for those who bring both ends: `towline-agent serve` is another one.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use towline_sync_core::codec::{Decoder, Encoder};
use towline_sync_core::message::{Reply, Request};
use towline_sync_fs::{Replica, ReplicaOptions};

/// Replies that wait for the stream.
const REPLIES: usize = 64;
/// Bytes read from the stream at once.
const READ_BYTES: usize = 64 * 1024;

/// Serves a replica to whoever has a [`Peer::stream`](crate::Peer::stream) at the other end, until the stream ends.
///
/// The peer says which folder it is: `options.prefix` is what it can't leave.
///
/// # Errors
///
/// When the stream breaks or carries something else than requests, or a thread can't be started.
pub async fn serve(
    mut reader: impl AsyncRead + Unpin,
    mut writer: impl AsyncWrite + Unpin,
    options: ReplicaOptions,
) -> io::Result<()> {
    let (reply_tx, mut reply_rx) = mpsc::channel::<Reply>(REPLIES);
    let replica = towline_sync_fs::spawn(options, move |reply| reply_tx.blocking_send(reply).is_ok())?;
    let reading = async {
        let mut decoder = Decoder::default();
        let mut buffer = vec![0; READ_BYTES];
        loop {
            let count = reader.read(&mut buffer).await?;
            if count == 0 {
                return Ok(());
            }
            decoder.push(&buffer[..count]);
            while let Some(request) = decoder.next::<Request>().map_err(io::Error::other)? {
                replica.request(request);
            }
        }
    };
    let writing = async {
        let mut encoder = Encoder::default();
        let mut batch = Vec::new();
        while reply_rx.recv_many(&mut batch, REPLIES).await > 0 {
            let bytes = encoder.encode(&batch);
            batch.clear();
            writer.write_all(bytes).await?;
            writer.flush().await?;
        }
        Ok(())
    };
    let served = tokio::select! {
        served = reading => served,
        served = writing => served,
    };
    reply_rx.close();
    close(replica).await;
    served
}

/// Ends a replica without making the runtime wait for its threads.
async fn close(replica: Replica) {
    let _ = tokio::task::spawn_blocking(move || replica.close()).await;
}
