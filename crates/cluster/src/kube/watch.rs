//! Keeps watching a kind: lists, follows the changes, and begins again where that is the only way to lose nothing.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt, TryStreamExt, stream};
use http_body_util::BodyExt;
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};

use super::answer::Answer;
use super::list::{self, Listed, Scope};
use super::transport::{Failure, Pauses, Transport};
use crate::error::ClusterError;
use crate::port::{Watch, WatchEvent};

/// How long the server is asked to let one stream live, in seconds.
const STREAM_SECONDS: &str = "50";
/// A stream that is silent for longer than it was to live is dead: the server would have ended it.
const SILENCE: Duration = Duration::from_secs(58);
/// The longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
/// A stream that lived this long was a good one.
const GOOD_LIFE: Duration = Duration::from_secs(5);
/// The most bytes of one event; an object of etcd has at most a few MiB.
const MAX_LINE: usize = 32 * 1024 * 1024;

/// Begins a watch. The first list is retried as any read; what it is refused with is returned.
pub(super) async fn start(transport: Arc<Transport>, scope: Scope) -> Result<Watch, ClusterError> {
    let listed = list::patiently(&transport, &scope).await?;
    let mut watcher = Watcher {
        transport,
        scope,
        version: None,
        stream: None,
        told: false,
        due: None,
        pauses: Pauses::up_to(LONGEST_PAUSE),
    };
    let first = watcher.restart(listed);
    let rest = stream::unfold(watcher, |mut watcher| async move {
        let event = watcher.next_event().await;
        Some((event, watcher))
    });
    Ok(Box::pin(stream::once(async { first }).chain(rest)))
}

struct Watcher {
    transport: Arc<Transport>,
    scope: Scope,
    /// What we know; none when only a list can tell.
    version: Option<String>,
    stream: Option<Lines>,
    /// Whether this outage was told.
    told: bool,
    /// The pause before the next request.
    due: Option<Duration>,
    pauses: Pauses,
}

/// What a line of the stream says.
enum Line {
    Applied(Value),
    Deleted(Value),
    Bookmark(Value),
    Refused(Answer),
    /// Nothing that we can read.
    Senseless,
}

impl Watcher {
    async fn next_event(&mut self) -> WatchEvent {
        loop {
            let event = if self.stream.is_some() {
                self.follow().await
            } else {
                if let Some(pause) = self.due.take() {
                    sleep(pause).await;
                }
                match self.version.clone() {
                    Some(version) => self.open(&version).await,
                    None => self.list().await,
                }
            };
            if let Some(event) = event {
                return event;
            }
        }
    }

    async fn list(&mut self) -> Option<WatchEvent> {
        match list::once(&self.transport, &self.scope).await {
            Ok(listed) => Some(self.restart(listed)),
            Err(error) => self.outage(error),
        }
    }

    fn restart(&mut self, listed: Listed) -> WatchEvent {
        self.version = Some(listed.version);
        WatchEvent::Restarted(listed.items)
    }

    async fn open(&mut self, version: &str) -> Option<WatchEvent> {
        let call = self.scope.watch_call(version, STREAM_SECONDS);
        match self.transport.open_once(&call).await {
            Ok(body) => {
                self.told = false;
                let bytes = body.into_data_stream().map_err(io::Error::other);
                self.stream = Some(Lines::new(Box::pin(bytes)));
                None
            }
            Err(Failure::Refused(answer)) if answer.is_expired() => {
                self.version = None;
                self.due = Some(self.pauses.next_pause());
                None
            }
            Err(failure) => self.outage(failure.into_error(&call, &self.transport.target().server)),
        }
    }

    /// Takes the next line of the open stream.
    async fn follow(&mut self) -> Option<WatchEvent> {
        let lines = self.stream.as_mut()?;
        let Some(line) = lines.next_line().await else {
            // It ended or broke: nothing is lost, since the next one goes on from the last version.
            self.close();
            return None;
        };
        match Line::parse(&line) {
            Line::Applied(object) => {
                self.advance(&object);
                Some(WatchEvent::Applied(object))
            }
            Line::Deleted(object) => {
                self.advance(&object);
                Some(WatchEvent::Deleted(object))
            }
            Line::Bookmark(object) => {
                self.advance(&object);
                None
            }
            Line::Refused(answer) if answer.is_expired() => {
                self.close();
                self.version = None;
                None
            }
            Line::Refused(answer) => {
                self.close();
                let call = self.scope.watch_call("", STREAM_SECONDS);
                self.outage(answer.into_error(&call, &self.transport.target().server))
            }
            Line::Senseless => {
                self.close();
                let server = self.transport.target().server.clone();
                let message = "its watch sends what makes no sense".to_owned();
                self.outage(ClusterError::Unreachable { server, message })
            }
        }
    }

    fn advance(&mut self, object: &Value) {
        // Present: `Line::parse` has seen it.
        self.version = resource_version(object).map(str::to_owned);
        if let Some(lines) = &mut self.stream {
            lines.fruitful = true;
        }
    }

    /// Drops the stream; the next request waits unless this one was of use.
    fn close(&mut self) {
        let Some(lines) = self.stream.take() else { return };
        if lines.fruitful || lines.since.elapsed() >= GOOD_LIFE {
            self.pauses = Pauses::up_to(LONGEST_PAUSE);
        } else {
            self.due = Some(self.pauses.next_pause());
        }
    }

    /// Begins again with a list after a pause; tells of it the first time.
    fn outage(&mut self, error: ClusterError) -> Option<WatchEvent> {
        self.version = None;
        self.due = Some(self.pauses.next_pause());
        if self.told {
            return None;
        }
        self.told = true;
        Some(WatchEvent::Interrupted(error))
    }
}

impl Line {
    fn parse(line: &[u8]) -> Self {
        let Ok(mut event) = serde_json::from_slice::<Value>(line) else { return Self::Senseless };
        let object = event["object"].take();
        let kind = event["type"].as_str().unwrap_or_default();
        if kind == "ERROR" {
            return Self::Refused(Answer::from_status(&object));
        }
        if resource_version(&object).is_none() {
            return Self::Senseless;
        }
        match kind {
            "ADDED" | "MODIFIED" => Self::Applied(object),
            "DELETED" => Self::Deleted(object),
            "BOOKMARK" => Self::Bookmark(object),
            _ => Self::Senseless,
        }
    }
}

fn resource_version(object: &Value) -> Option<&str> {
    object.pointer("/metadata/resourceVersion")?.as_str()
}

type ByteStream = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;

/// The lines of a body, one event each.
struct Lines {
    bytes: ByteStream,
    buffer: BytesMut,
    /// How much of the buffer holds no line end.
    searched: usize,
    since: Instant,
    /// Whether it told us anything.
    fruitful: bool,
}

impl Lines {
    fn new(bytes: ByteStream) -> Self {
        Self { bytes, buffer: BytesMut::new(), searched: 0, since: Instant::now(), fruitful: false }
    }

    /// Returns the next whole line; none when the stream ends, breaks, falls silent, or has no line ends. A piece of
    /// a line at its end is dropped.
    async fn next_line(&mut self) -> Option<Bytes> {
        loop {
            if let Some(found) = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.split_to(self.searched + found + 1).freeze();
                self.searched = 0;
                if line.trim_ascii().is_empty() {
                    continue;
                }
                return Some(line);
            }
            self.searched = self.buffer.len();
            let more = timeout(SILENCE, self.bytes.next()).await.ok()??.ok()?;
            if self.buffer.len() + more.len() > MAX_LINE {
                return None;
            }
            self.buffer.extend_from_slice(&more);
        }
    }
}
