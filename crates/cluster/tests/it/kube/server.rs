//! A scripted API server: a closure decides what each request gets.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use towline_cluster::Cluster;
use towline_cluster::kube::{ConnectOptions, connect};

/// Lets paused time pass in small steps.
///
/// Tokio jumps to the next timer whenever all tasks wait, also while bytes are on their way between two sockets: a
/// limit of a minute would be over at once. With a timer that is always near, a jump is a small one.
pub(crate) fn pace() {
    tokio::spawn(async {
        loop {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
}

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) method: String,
    /// Path and query.
    pub(crate) uri: String,
    /// Names in lower case, `name: value` each.
    pub(crate) headers: Vec<String>,
    pub(crate) body: String,
}

impl Seen {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find_map(|header| header.strip_prefix(name)?.strip_prefix(": "))
    }
}

/// How a stream ends.
#[derive(Debug, Clone, Copy)]
pub(crate) enum End {
    /// As it should.
    Well,
    /// In the middle of a chunk.
    Broken,
    /// Never: silence.
    Never,
}

/// What a request gets.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    /// A document.
    Json(u16, Value),
    /// Any body, with more header lines.
    Text(u16, &'static str, String),
    /// Lines, one chunk each.
    Stream(Vec<String>, End),
    /// The connection is closed once the request was read.
    Gone,
    /// No answer, ever.
    Silence,
}

/// Spells a `Status`.
pub(crate) fn status(code: u16, reason: &str, message: &str) -> Reply {
    Reply::Json(
        code,
        json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": message }),
    )
}

/// The server, until dropped.
pub(crate) struct Server {
    pub(crate) port: u16,
    seen: Arc<Mutex<Vec<Seen>>>,
    folder: TempDir,
    _accepting: JoinSet<()>,
}

impl Server {
    /// Starts a server; `script` gets each request and how many came before it.
    pub(crate) async fn start(script: impl Fn(&Seen, usize) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::on(listener, script)
    }

    /// As [`Self::start`], on a port that is bound already.
    pub(crate) fn on(
        listener: TcpListener,
        script: impl Fn(&Seen, usize) -> Reply + Send + Sync + 'static,
    ) -> Self {
        pace();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let mut accepting = JoinSet::new();
        let script = Arc::new(script);
        let log = Arc::clone(&seen);
        accepting.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                connections.spawn(serve(socket, Arc::clone(&script), Arc::clone(&log)));
            }
        });
        Self { port, seen, folder: tempfile::tempdir().unwrap(), _accepting: accepting }
    }

    /// Returns the requests so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// Writes a kubeconfig that leads here.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        write_kubeconfig(&self.folder, self.port, "{}")
    }

    /// Connects.
    pub(crate) async fn cluster(&self) -> Arc<dyn Cluster> {
        connect_to(self.kubeconfig()).await
    }
}

pub(crate) fn write_kubeconfig(folder: &TempDir, port: u16, user: &str) -> PathBuf {
    let path = folder.path().join("config");
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: test\n\
         clusters: [{{name: c, cluster: {{server: 'http://127.0.0.1:{port}'}}}}]\n\
         users: [{{name: u, user: {user}}}]\n\
         contexts: [{{name: test, context: {{cluster: c, user: u, namespace: shop}}}}]\n"
    );
    std::fs::write(&path, text).unwrap();
    path
}

pub(crate) async fn connect_to(path: PathBuf) -> Arc<dyn Cluster> {
    connect(ConnectOptions { kubeconfig: Some(vec![path]), ..ConnectOptions::default() }).await.unwrap()
}

/// Reads one request; none when the client is gone.
pub(crate) async fn read_request(socket: &mut TcpStream) -> Option<Seen> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).unwrap();
    let mut lines = head.trim_end().lines();
    let mut first = lines.next().unwrap().split(' ');
    let (method, uri) = (first.next().unwrap().to_owned(), first.next().unwrap().to_owned());
    let headers: Vec<String> = lines
        .map(|line| {
            let (name, value) = line.split_once(": ").unwrap();
            format!("{}: {value}", name.to_lowercase())
        })
        .collect();
    let length = headers
        .iter()
        .find_map(|header| header.strip_prefix("content-length: "))
        .map_or(0, |it| it.parse().unwrap());
    let mut body = vec![0; length];
    socket.read_exact(&mut body).await.ok()?;
    Some(Seen { method, uri, headers, body: String::from_utf8(body).unwrap() })
}

async fn serve(
    mut socket: TcpStream,
    script: Arc<impl Fn(&Seen, usize) -> Reply + Send + Sync>,
    log: Arc<Mutex<Vec<Seen>>>,
) {
    while let Some(seen) = read_request(&mut socket).await {
        let before = {
            let mut log = log.lock().unwrap();
            log.push(seen.clone());
            log.len() - 1
        };
        let sent = match script(&seen, before) {
            Reply::Json(code, body) => write_document(&mut socket, code, "", &body.to_string()).await,
            Reply::Text(code, headers, body) => write_document(&mut socket, code, headers, &body).await,
            Reply::Stream(lines, end) => write_stream(&mut socket, &lines, end).await,
            Reply::Gone => return,
            Reply::Silence => std::future::pending().await,
        };
        if sent.is_err() {
            return;
        }
    }
}

async fn write_document(socket: &mut TcpStream, code: u16, headers: &str, body: &str) -> std::io::Result<()> {
    let head = format!(
        "HTTP/1.1 {code} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n{headers}\r\n",
        body.len()
    );
    socket.write_all(format!("{head}{body}").as_bytes()).await
}

async fn write_stream(socket: &mut TcpStream, lines: &[String], end: End) -> std::io::Result<()> {
    socket.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await?;
    for line in lines {
        socket.write_all(format!("{:x}\r\n{line}\n\r\n", line.len() + 1).as_bytes()).await?;
    }
    match end {
        End::Well => socket.write_all(b"0\r\n\r\n").await,
        End::Broken => {
            socket.write_all(b"ff\r\n{\"type\":").await?;
            Err(std::io::ErrorKind::BrokenPipe.into())
        }
        End::Never => std::future::pending().await,
    }
}
