//! A folder here and a folder at the other end of a stream: a pipe, a socket, anything that is `AsyncRead` and
//! `AsyncWrite`. Whoever trusts the network as little as the peer puts TLS, or ssh, below.
//!
//! ```text
//! cargo run -p towline-sync --example stream
//! ```

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::fs;

use tokio::io::{duplex, split};
use tokio::sync::mpsc;
use towline_sync::{Command, News, Pair, PairOptions, Peer, replica_options, serve};
use towline_sync_core::engine::{EngineConfig, SyncEvent};
use towline_sync_core::message::Open;

#[tokio::main]
pub(crate) async fn main() -> Result<(), Box<dyn Error>> {
    let temp = tempfile::tempdir()?;
    let [here, there, state] = ["here", "there", "state"].map(|name| temp.path().join(name));
    fs::create_dir_all(&here)?;
    fs::write(here.join("greeting"), "good morning\n")?;
    let (near, far) = duplex(64 * 1024);

    // The far end: one folder below `prefix`, whatever root it is asked for.
    let (far_reader, far_writer) = split(far);
    let mut options = replica_options(&temp.path().join("kept-there"));
    options.prefix = Some(there.clone());
    let serving = tokio::spawn(serve(far_reader, far_writer, options));

    // The near end decides. With `towline-agent serve` at the other end it is `agent::Agent` that makes the peer.
    let pair = Pair::open(PairOptions {
        local: here.clone(),
        ignore: Vec::new(),
        remote: Open {
            root: "/".to_owned(),
            ignore: Vec::new(),
            excluded: Vec::new(),
            create: true,
            watch: true,
        },
        state,
        engine: EngineConfig { eager: true, ..EngineConfig::default() },
        protect: true,
    })?;
    let (command_tx, command_rx) = mpsc::channel(4);
    let (news_tx, mut news_rx) = mpsc::channel(64);
    let running = tokio::spawn(pair.run(command_rx, news_tx));
    let (reader, writer) = split(near);
    command_tx.send(Command::Connect(Peer::stream(reader, writer))).await?;

    // Every change travels as it is made, until the commands end.
    let mut edited = false;
    while let Some(news) = news_rx.recv().await {
        match news {
            News::Sync(SyncEvent::InSync) if edited => break,
            News::Sync(SyncEvent::InSync) => {
                edited = true;
                fs::write(there.join("answer"), "and to you\n")?;
            }
            News::Sync(SyncEvent::OpenFailed { failure, .. }) => return Err(failure.message.into()),
            News::Broken(message) | News::Dead(message) => return Err(message.into()),
            News::Sync(event) => println!("{event:?}"),
        }
    }
    drop((command_tx, news_rx));
    running.await?;
    serving.await??;

    println!("{}", fs::read_to_string(here.join("answer"))?.trim_end());
    Ok(())
}
