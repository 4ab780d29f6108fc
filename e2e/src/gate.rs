//! A way to the API server that closes for good at one write: before the server hears of it, or before its answer
//! comes back.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use kube::client::ConfigExt;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use crate::kube::KubeAdapter;

/// When in a write the way closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// The server never hears of it.
    Before,
    /// The server has done it, and nobody hears of that.
    After,
}

/// The way, at a port of this machine; it speaks HTTP there, and to the server what the kubeconfig says.
#[derive(Debug)]
pub struct Gate {
    address: SocketAddr,
    state: Arc<State>,
    carrier: JoinHandle<()>,
}

#[derive(Debug)]
struct State {
    cut: Option<(usize, Moment)>,
    writes: Mutex<Vec<String>>,
    is_closed: AtomicBool,
    closed: Notify,
}

/// What becomes of a request.
enum Fate {
    Passes,
    /// It is held for ever.
    Held,
    /// It passes, and its answer is held.
    Unanswered,
}

impl Gate {
    /// Opens a way that closes at the given write, counted from 1.
    pub async fn open(adapter: &KubeAdapter, cut: Option<(usize, Moment)>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("there is a free port");
        let address = listener.local_addr().expect("it is bound");
        let state = Arc::new(State {
            cut,
            writes: Mutex::default(),
            is_closed: AtomicBool::new(false),
            closed: Notify::new(),
        });
        let tls = adapter.config().rustls_client_config().expect("the kubeconfig is complete");
        let (server, host) = adapter.server();
        let way = Way { server, host, tls: TlsConnector::from(Arc::new(tls)), state: Arc::clone(&state) };
        Self { address, state, carrier: tokio::spawn(way.serve(listener)) }
    }

    /// Returns the address to call.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns the writes so far, each as its method and path.
    pub fn writes(&self) -> Vec<String> {
        self.state.writes().clone()
    }

    /// Waits until it has closed.
    pub async fn closed(&self) {
        let closed = self.state.closed.notified();
        if !self.state.is_closed.load(Ordering::SeqCst) {
            closed.await;
        }
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.carrier.abort();
    }
}

impl State {
    fn writes(&self) -> std::sync::MutexGuard<'_, Vec<String>> {
        self.writes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn decide(&self, head: &str) -> Fate {
        if self.is_closed.load(Ordering::SeqCst) {
            return Fate::Held;
        }
        let Some(write) = write(head) else { return Fate::Passes };
        let mut writes = self.writes();
        writes.push(write);
        match self.cut {
            Some((nth, Moment::Before)) if nth == writes.len() => {
                self.close();
                Fate::Held
            }
            Some((nth, Moment::After)) if nth == writes.len() => Fate::Unanswered,
            _ => Fate::Passes,
        }
    }

    fn close(&self) {
        self.is_closed.store(true, Ordering::SeqCst);
        self.closed.notify_waiters();
    }
}

/// Returns method and path of a request that changes something: neither a question about rights nor a dry run does.
fn write(head: &str) -> Option<String> {
    let mut words = head.split(' ');
    let (method, target) = (words.next()?, words.next()?);
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let asks =
        path.contains("/authorization.k8s.io/") || query.contains("dryRun=") || path.ends_with("/exec");
    (matches!(method, "POST" | "PUT" | "PATCH" | "DELETE") && !asks).then(|| format!("{method} {path}"))
}

/// What every connection is carried with.
#[derive(Clone)]
struct Way {
    server: String,
    host: String,
    tls: TlsConnector,
    state: Arc<State>,
}

impl Way {
    async fn serve(self, listener: TcpListener) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => {
                    if let Ok((near, _)) = accepted {
                        let way = self.clone();
                        // What breaks is seen at both ends.
                        connections.spawn(async move { drop(way.carry(near).await) });
                    }
                }
                Some(_) = connections.join_next() => {}
            }
        }
    }

    async fn carry(self, near: TcpStream) -> io::Result<()> {
        let name = ServerName::try_from(self.host).map_err(io::Error::other)?;
        let far = self.tls.connect(name, TcpStream::connect(self.server).await?).await?;
        let (near_read, mut near_write) = near.into_split();
        let (mut far_read, mut far_write) = tokio::io::split(far);
        let (state, holds_answer) = (self.state, AtomicBool::new(false));
        let answers = async {
            let mut buffer = vec![0; 64 << 10];
            loop {
                let length = far_read.read(&mut buffer).await?;
                if length == 0 {
                    return near_write.shutdown().await;
                }
                if holds_answer.load(Ordering::SeqCst) {
                    state.close();
                }
                if state.is_closed.load(Ordering::SeqCst) {
                    return std::future::pending().await;
                }
                near_write.write_all(&buffer[..length]).await?;
            }
        };
        let requests = async {
            let mut reader = BufReader::new(near_read);
            loop {
                let head = read_head(&mut reader).await?;
                if head.is_empty() {
                    return far_write.shutdown().await;
                }
                match state.decide(&head) {
                    Fate::Passes => {}
                    Fate::Held => return std::future::pending().await,
                    Fate::Unanswered => holds_answer.store(true, Ordering::SeqCst),
                }
                far_write.write_all(head.as_bytes()).await?;
                if header(&head, "upgrade").is_some() {
                    tokio::io::copy(&mut reader, &mut far_write).await?;
                    return far_write.shutdown().await;
                }
                let length = header(&head, "content-length").and_then(|length| length.parse().ok());
                tokio::io::copy(&mut (&mut reader).take(length.unwrap_or(0)), &mut far_write).await?;
                far_write.flush().await?;
            }
        };
        tokio::try_join!(answers, requests).map(drop)
    }
}

/// Reads a request up to the empty line; nothing when there is no other one.
async fn read_head(reader: &mut (impl AsyncBufRead + Unpin)) -> io::Result<String> {
    let mut head = String::new();
    while reader.read_line(&mut head).await? > 0 && !head.ends_with("\r\n\r\n") {}
    assert!(header(&head, "transfer-encoding").is_none(), "the length of a body is told: {head}");
    Ok(head)
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut headers = head.lines().skip(1).filter_map(|line| line.split_once(':'));
    headers.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_changes_something_counts() {
        let check = |line: &str, expected: Option<&str>| {
            assert_eq!(write(&format!("{line} HTTP/1.1\r\n\r\n")).as_deref(), expected, "{line}");
        };
        check("GET /api/v1/pods", None);
        check(
            "PATCH /apis/apps/v1/deployments/a?fieldManager=towline",
            Some("PATCH /apis/apps/v1/deployments/a"),
        );
        check("PATCH /apis/apps/v1/deployments/a?&dryRun=All&fieldManager=towline", None);
        check("POST /apis/authorization.k8s.io/v1/selfsubjectaccessreviews", None);
        check("DELETE /api/v1/namespaces/a/pods/b", Some("DELETE /api/v1/namespaces/a/pods/b"));
    }

    #[test]
    fn headers_are_found_whatever_their_case() {
        let head = "POST / HTTP/1.1\r\nContent-Length: 12\r\nconnection: close\r\n\r\n";
        assert_eq!((header(head, "content-length"), header(head, "upgrade")), (Some("12"), None));
    }
}
