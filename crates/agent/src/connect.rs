//! The relay that an exec starts: its standard input and output, tied to the agent's socket.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, copy};
use tokio::net::UnixStream;

use crate::args::Place;
use crate::socket;

/// How long an agent that was started just now may take to listen.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two looks for it.
const PAUSE: Duration = Duration::from_millis(10);

/// Relays until either end is done.
pub(crate) fn run(place: &Place) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(async {
        let socket = find(place).await?;
        let (mut reader, mut writer) = socket.into_split();
        tokio::select! {
            up = pump(tokio::io::stdin(), &mut writer) => up?,
            down = pump_down(&mut reader) => return down,
        }
        // The laptop has nothing more to say; the agent may.
        drop(writer);
        pump_down(&mut reader).await
    });
    // A read of standard input can't be called off, and nobody waits for it any more.
    runtime.shutdown_background();
    result
}

async fn find(place: &Place) -> io::Result<UnixStream> {
    let looking = async {
        loop {
            match socket::connect(&place.run_dir).await {
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) =>
                {
                    tokio::time::sleep(PAUSE).await;
                }
                other => return other,
            }
        }
    };
    tokio::time::timeout(PATIENCE, looking)
        .await
        .unwrap_or_else(|_| Err(io::Error::other("no agent listens here")))
}

async fn pump(mut from: impl AsyncRead + Unpin, to: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
    copy(&mut from, to).await?;
    to.shutdown().await
}

async fn pump_down(from: &mut (impl AsyncRead + Unpin)) -> io::Result<()> {
    let mut stdout = tokio::io::stdout();
    copy(from, &mut stdout).await?;
    stdout.flush().await
}
