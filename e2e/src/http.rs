//! A page over HTTP, asked for and waited for.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::waiting::eventually;

/// How long one request may take.
const LIMIT: Duration = Duration::from_secs(5);

/// Returns a port of this machine's loopback that is free now.
pub async fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("there is a free port");
    listener.local_addr().expect("it is bound").port()
}

/// Asks a port of this machine for a page and returns its body.
pub async fn get(port: u16, path: &str) -> Result<String, String> {
    let asking = async {
        let mut socket = TcpStream::connect(("127.0.0.1", port)).await?;
        socket.write_all(format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").as_bytes()).await?;
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).await?;
        Ok::<_, std::io::Error>(String::from_utf8_lossy(&answer).into_owned())
    };
    let answer = tokio::time::timeout(LIMIT, asking).await.map_err(|_| "no answer".to_owned())?;
    let answer = answer.map_err(|error| error.to_string())?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| format!("no page: {answer:?}"))?;
    let status = head.split(' ').nth(1).unwrap_or_default();
    if status == "200" { Ok(body.to_owned()) } else { Err(format!("status {status}")) }
}

/// Waits until a page reads so; returns how long that took.
pub async fn reads(port: u16, path: &str, wanted: &str) -> Duration {
    let what = format!("localhost:{port}{path} reads {wanted:?}");
    let ((), took) = eventually(&what, async || match get(port, path).await {
        Ok(body) if body == wanted => Ok(()),
        Ok(body) => Err(body),
        Err(error) => Err(error),
    })
    .await;
    took
}
