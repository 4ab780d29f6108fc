//! The other side's replica: in this process, or at the far end of a stream.

use std::fmt;
use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use towline_sync_core::codec::{Decoder, Encoder};
use towline_sync_core::message::{Reply, Request};
use towline_sync_fs::{Replica, ReplicaOptions};

/// Replies of a replica in this process that wait for the engine.
const REPLIES: usize = 64;
/// Bytes read from a stream at once.
const READ_BYTES: usize = 256 * 1024;
/// So much content is taken or given away at once, in bytes, and so many messages: the other end works while the rest
/// is made ready.
const PIECE_BYTES: usize = 512 * 1024;
const MESSAGES: usize = 64;

/// A replica that can be asked.
pub struct Peer(Kind);

enum Kind {
    Here(Here),
    Stream(Box<Stream>),
}

struct Here {
    replica: Option<Replica>,
    reply_rx: mpsc::Receiver<Reply>,
}

struct Stream {
    reader: Box<dyn AsyncRead + Send + Unpin>,
    writer: Box<dyn AsyncWrite + Send + Unpin>,
    encoder: Encoder,
    decoder: Decoder,
    buffer: Vec<u8>,
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Kind::Here(_) => "Peer::Here",
            Kind::Stream(_) => "Peer::Stream",
        })
    }
}

impl Peer {
    /// Starts a replica in this process. Fails when a thread can't be started.
    pub fn here(options: ReplicaOptions) -> io::Result<Self> {
        let (reply_tx, reply_rx) = mpsc::channel::<Reply>(REPLIES);
        let replica = towline_sync_fs::spawn(options, move |reply| reply_tx.blocking_send(reply).is_ok())?;
        Ok(Self(Kind::Here(Here { replica: Some(replica), reply_rx })))
    }

    /// Speaks with a replica over a stream of requests one way and replies the other.
    pub fn stream(
        reader: impl AsyncRead + Send + Unpin + 'static,
        writer: impl AsyncWrite + Send + Unpin + 'static,
    ) -> Self {
        Self(Kind::Stream(Box::new(Stream {
            reader: Box::new(reader),
            writer: Box::new(writer),
            encoder: Encoder::default(),
            decoder: Decoder::default(),
            buffer: vec![0; READ_BYTES],
        })))
    }

    /// Tells whether the replica is at the far end of a stream, and what it displaces too.
    pub(crate) fn is_stream(&self) -> bool {
        matches!(self.0, Kind::Stream(_))
    }

    /// Hands over requests. Waits while the stream takes no more.
    pub(crate) async fn send(&mut self, requests: &mut Vec<Request>) -> Result<(), String> {
        match &mut self.0 {
            Kind::Here(here) => {
                for request in requests.drain(..) {
                    if let Some(replica) = &here.replica {
                        replica.request(request);
                    }
                }
                Ok(())
            }
            Kind::Stream(stream) => {
                let mut requests = requests.drain(..);
                let mut piece = Vec::new();
                while fill(&mut piece, Request::carried, || requests.next()) {
                    let bytes = stream.encoder.encode(&piece);
                    piece.clear();
                    stream.writer.write_all(bytes).await.map_err(|error| error.to_string())?;
                }
                stream.writer.flush().await.map_err(|error| error.to_string())
            }
        }
    }

    /// Waits until there are replies, and adds them. Cancel-safe.
    pub(crate) async fn receive(&mut self, replies: &mut Vec<Reply>) -> Result<(), String> {
        match &mut self.0 {
            Kind::Here(here) => {
                let first = here.reply_rx.recv().await.ok_or("the replica ended")?;
                let mut first = Some(first);
                fill(replies, Reply::carried, || first.take().or_else(|| here.reply_rx.try_recv().ok()));
                Ok(())
            }
            Kind::Stream(stream) => {
                let count =
                    stream.reader.read(&mut stream.buffer).await.map_err(|error| error.to_string())?;
                if count == 0 {
                    return Err("the far side of the sync ended".to_owned());
                }
                stream.decoder.push(&stream.buffer[..count]);
                while let Some(reply) = stream.decoder.next().map_err(|error| error.to_string())? {
                    replies.push(reply);
                }
                Ok(())
            }
        }
    }
}

/// Adds what `next` has until it is a piece; tells whether there is any.
fn fill<T>(piece: &mut Vec<T>, carried: fn(&T) -> usize, mut next: impl FnMut() -> Option<T>) -> bool {
    let mut bytes = 0;
    while bytes < PIECE_BYTES
        && piece.len() < MESSAGES
        && let Some(message) = next()
    {
        bytes += carried(&message);
        piece.push(message);
    }
    !piece.is_empty()
}

impl Drop for Here {
    fn drop(&mut self) {
        // The replica's thread may wait for room in the channel: closing it first lets it end. It is not joined here,
        // since this is called by the runtime.
        self.reply_rx.close();
        if let Some(replica) = self.replica.take() {
            let _ = std::thread::Builder::new().name("close".to_owned()).spawn(move || replica.close());
        }
    }
}

impl Peer {
    /// Ends the replica and waits until it has tidied up.
    pub(crate) async fn close(mut self) {
        if let Kind::Here(here) = &mut self.0 {
            here.reply_rx.close();
            if let Some(replica) = here.replica.take() {
                let _ = tokio::task::spawn_blocking(move || replica.close()).await;
            }
        }
    }
}
