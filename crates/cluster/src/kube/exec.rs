//! Runs a process in a container over a WebSocket: one task between the socket and three pipes.
//!
//! The protocol is the API server's `v5.channel.k8s.io`: every frame begins with the number of its channel, and a
//! frame on channel 255 closes the one that it names. The client's own exec is not used: its pipes stay open for ever
//! when the socket breaks, it does not read while it writes, and it never notices that the other side fell silent.

use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout, timeout_at};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error as SocketError, Message};

use super::answer::words;
use super::request::Call;
use super::transport::{Failure, Transport, deepest_words};
use crate::error::ClusterError;
use crate::port::{ExecStream, Object};

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const STATUS: u8 = 3;
const CLOSE: u8 = 255;

/// How many bytes each pipe holds.
const PIPE: usize = 1024 * 1024;
/// The most bytes of a frame to the pod.
const FRAME: usize = 64 * 1024;
/// The most bytes of a frame from the pod; servers send at most some 32 KiB.
const MAX_FRAME: usize = 4 * 1024 * 1024;
/// How long we wait for a first sign of the process before we hand out its streams. A process that can't be started
/// says so well before; one that waits for its input says nothing.
const FIRST_SIGN: Duration = Duration::from_millis(400);
/// How often the other side is asked for a sign of life.
const PING: Duration = Duration::from_secs(2);
/// A server that answers pings and is silent for this long is gone.
const SILENCE: Duration = Duration::from_secs(5);
/// While input is on its way the server reads no pings if the process does not read; then this is the limit.
const SILENCE_WITH_INPUT: Duration = Duration::from_mins(1);

/// Starts `argv` and ties its streams to ours.
pub(super) async fn start(
    transport: &Transport,
    pod: &Object,
    container: &str,
    argv: &[String],
) -> Result<ExecStream, ClusterError> {
    let failed = |message: String| ClusterError::Exec {
        pod: pod.name.clone(),
        program: argv.first().cloned().unwrap_or_default(),
        message,
    };
    let call = Call::exec(pod, container, argv)?;
    let connection = transport.upgrade(&call).await.map_err(|failure| match failure {
        Failure::Refused(answer) if !matches!(answer.code, 401 | 403 | 404) => failed(answer.message),
        Failure::NoAnswer(message) => failed(message),
        other => other.into_error(&call, &transport.target().server),
    })?;
    let half_close = connection.supports_stream_close();
    let config = WebSocketConfig::default().max_frame_size(Some(MAX_FRAME)).max_message_size(Some(MAX_FRAME));
    let raw = connection.into_stream().into_inner();
    let socket = WebSocketStream::from_raw_socket(raw, Role::Client, Some(config)).await;

    let (streams, started) = tie(socket, half_close);
    match timeout(FIRST_SIGN, started).await {
        Ok(Ok(Err(message))) => Err(failed(message)),
        Ok(Ok(Ok(())) | Err(_)) | Err(_) => Ok(streams),
    }
}

/// Ties a socket to three pipes, and says how the start went.
fn tie<S>(socket: WebSocketStream<S>, half_close: bool) -> (ExecStream, oneshot::Receiver<Result<(), String>>)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (stdin, pod_stdin) = tokio::io::duplex(PIPE);
    let (pod_stdout, stdout) = tokio::io::duplex(PIPE);
    let (pod_stderr, stderr) = tokio::io::duplex(PIPE);
    let (started_tx, started_rx) = oneshot::channel();
    let outcome = Arc::new(OnceLock::new());
    let pulse = Arc::new(Pulse::default());
    let (sink, frames) = socket.split();
    let sender = Sender { sink, stdin: pod_stdin, half_close, pulse: Arc::clone(&pulse) };
    let receiver = Receiver {
        frames,
        stdout: pod_stdout,
        stderr: pod_stderr,
        started: Some(started_tx),
        pulse,
        acknowledged: 0,
    };
    let mut task = JoinSet::new();
    task.spawn(run(sender, receiver, Arc::clone(&outcome)));
    let process = Arc::new(Process { outcome, _task: task });
    let streams = ExecStream {
        stdin: Box::new(Input { pipe: stdin, process: Arc::clone(&process) }),
        stdout: Box::new(Output { pipe: stdout, process: Arc::clone(&process) }),
        stderr: Box::new(Output { pipe: stderr, process }),
    };
    (streams, started_rx)
}

/// What the three streams share: when the last of them is dropped, so are the task and the socket.
struct Process {
    /// Why the streams ended, unless they ended well.
    outcome: Arc<OnceLock<String>>,
    _task: JoinSet<()>,
}

/// Runs both directions until the process or the socket ends.
async fn run<S>(mut sender: Sender<S>, mut receiver: Receiver<S>, outcome: Arc<OnceLock<String>>)
where
    S: AsyncRead + AsyncWrite + Send + Unpin,
{
    let ended = {
        let mut incoming = pin!(receiver.run());
        tokio::select! {
            biased;
            ended = &mut incoming => ended,
            // The process may have ended while we sent: what it said before is still on its way.
            error = sender.run() => match timeout(SILENCE, incoming).await {
                Ok(ended) => ended,
                Err(_elapsed) => Err(broken(&error)),
            },
        }
    };
    if let Err(message) = ended {
        if let Some(started) = receiver.started.take() {
            // The caller may have gone on: then the streams tell it.
            let _ = started.send(Err(message.clone()));
        }
        // Set once: this is the only place.
        let _ = outcome.set(message);
    }
    // The pipes close as they are dropped here, after the outcome is known.
}

/// Whether the server has read all input that we sent, as far as answers to pings can tell.
#[derive(Default)]
struct Pulse {
    /// The first ping after the last input.
    awaited: AtomicU64,
}

/// our stdin --frames--> pod
struct Sender<S> {
    sink: SplitSink<WebSocketStream<S>, Message>,
    stdin: DuplexStream,
    half_close: bool,
    pulse: Arc<Pulse>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Sender<S> {
    /// Sends until the socket breaks.
    async fn run(&mut self) -> SocketError {
        match self.send_all().await {
            Ok(never) => match never {},
            Err(error) => error,
        }
    }

    async fn send_all(&mut self) -> Result<std::convert::Infallible, SocketError> {
        let mut ticks = interval(PING);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut pings: u64 = 0;
        let mut open = true;
        let mut buffer = BytesMut::new();
        loop {
            if buffer.is_empty() {
                buffer.reserve(FRAME);
                buffer.put_u8(STDIN);
            }
            tokio::select! {
                _ = ticks.tick() => {
                    pings += 1;
                    self.sink.send(Message::Ping(Bytes::copy_from_slice(&pings.to_be_bytes()))).await?;
                }
                count = read_some(&mut self.stdin, &mut buffer), if open => {
                    if count == 0 {
                        open = false;
                        self.close_stdin().await?;
                    } else {
                        self.pulse.awaited.store(pings + 1, Ordering::Relaxed);
                        self.sink.send(Message::Binary(buffer.split().freeze())).await?;
                    }
                }
            }
        }
    }

    async fn close_stdin(&mut self) -> Result<(), SocketError> {
        if self.half_close {
            self.sink.send(Message::binary(vec![CLOSE, STDIN])).await
        } else {
            // Protocol v4 knows no half-close: only the end of everything ends the input.
            self.sink.close().await
        }
    }
}

/// Reads what is there, at most a frame; 0 at the end. A pipe does not fail.
async fn read_some(pipe: &mut DuplexStream, buffer: &mut BytesMut) -> usize {
    let room = FRAME.saturating_sub(buffer.len());
    pipe.read_buf(&mut buffer.limit(room)).await.unwrap_or(0)
}

/// pod --frames--> our stdout and stderr
struct Receiver<S> {
    frames: SplitStream<WebSocketStream<S>>,
    stdout: DuplexStream,
    stderr: DuplexStream,
    /// Told once, when the process has begun or could not.
    started: Option<oneshot::Sender<Result<(), String>>>,
    pulse: Arc<Pulse>,
    /// The last ping that was answered, 0 for none.
    acknowledged: u64,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Receiver<S> {
    /// Receives until the process ends; an error says why it can't go on.
    async fn run(&mut self) -> Result<(), String> {
        while let Some(message) = self.next_message().await? {
            let (channel, payload) = match message {
                Message::Binary(mut frame) if frame.len() > 1 => (frame.split_to(1)[0], frame),
                Message::Pong(payload) => {
                    if let Ok(number) = payload.as_ref().try_into().map(u64::from_be_bytes) {
                        self.acknowledged = self.acknowledged.max(number);
                    }
                    continue;
                }
                _ => continue,
            };
            match channel {
                STDOUT => {
                    self.begun();
                    deliver(&mut self.stdout, &payload).await;
                }
                STDERR => {
                    self.begun();
                    deliver(&mut self.stderr, &payload).await;
                }
                STATUS => return self.end(&payload).await,
                _ => {}
            }
        }
        Err("the connection was closed before the process ended".to_owned())
    }

    /// Returns the next frame, none at the end of the socket. Silence is an error.
    async fn next_message(&mut self) -> Result<Option<Message>, String> {
        let heard = Instant::now();
        let mut look = heard + SILENCE;
        loop {
            match timeout_at(look, self.frames.next()).await {
                Ok(None) => return Ok(None),
                Ok(Some(Ok(message))) => return Ok(Some(message)),
                Ok(Some(Err(error))) => return Err(broken(&error)),
                Err(_elapsed) => {
                    let input_on_its_way = self.acknowledged < self.pulse.awaited.load(Ordering::Relaxed);
                    let limit = if input_on_its_way { SILENCE_WITH_INPUT } else { SILENCE };
                    // Some proxies answer no pings; of their silence nothing can be said.
                    if self.acknowledged > 0 && heard.elapsed() >= limit {
                        return Err(format!("the server is silent since {} s", heard.elapsed().as_secs()));
                    }
                    look += PING;
                }
            }
        }
    }

    fn begun(&mut self) {
        if let Some(started) = self.started.take() {
            // The caller may have gone on.
            let _ = started.send(Ok(()));
        }
    }

    /// Judges the status that ends the stream. A process that ended, however badly, ended well for us.
    async fn end(&mut self, status: &[u8]) -> Result<(), String> {
        let Ok(status) = serde_json::from_slice::<Value>(status) else {
            return Err("the server's last words make no sense".to_owned());
        };
        if status["status"] == "Success" || status["reason"] == "NonZeroExitCode" {
            self.begun();
            return Ok(());
        }
        let message = words(status["message"].as_str().unwrap_or("no reason given"));
        if self.started.as_ref().is_none_or(oneshot::Sender::is_closed) {
            deliver(&mut self.stderr, message.as_bytes()).await;
        }
        Err(message)
    }
}

/// Writes to one of our pipes; what nobody reads any more is dropped.
async fn deliver(pipe: &mut DuplexStream, bytes: &[u8]) {
    let _ = pipe.write_all(bytes).await;
}

fn broken(error: &SocketError) -> String {
    format!("the connection broke: {}", deepest_words(error))
}

/// The caller's end of the process's standard input.
struct Input {
    pipe: DuplexStream,
    #[expect(dead_code, reason = "keeps the task alive as long as this stream")]
    process: Arc<Process>,
}

impl AsyncWrite for Input {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.pipe).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_shutdown(cx)
    }
}

/// The caller's end of the process's standard output or error. Its end is an error if the process did not end.
struct Output {
    pipe: DuplexStream,
    process: Arc<Process>,
}

impl AsyncRead for Output {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.remaining();
        ready!(Pin::new(&mut self.pipe).poll_read(cx, buffer))?;
        if before > 0
            && buffer.remaining() == before
            && let Some(message) = self.process.outcome.get()
        {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionAborted, message.as_str())));
        }
        Poll::Ready(Ok(()))
    }
}
