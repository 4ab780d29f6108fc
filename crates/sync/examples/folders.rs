//! Two folders in one process are made equal.
//!
//! ```text
//! cargo run -p towline-sync --example folders
//! ```

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::fs;

use tokio::sync::mpsc;
use towline_sync::{Command, News, Pair, PairOptions, Peer, replica_options};
use towline_sync_core::engine::{EngineConfig, SyncEvent};
use towline_sync_core::message::Open;

#[tokio::main]
pub(crate) async fn main() -> Result<(), Box<dyn Error>> {
    let temp = tempfile::tempdir()?;
    let [here, there, state] = ["here", "there", "state"].map(|name| temp.path().join(name));
    fs::create_dir_all(here.join("src"))?;
    fs::write(here.join("src/main.rs"), "fn main() {}\n")?;

    // Both sides go by the same rules. The pair's own files lie apart from both.
    let ignore = vec!["/target".to_owned()];
    let root = there.to_string_lossy().into_owned();
    let pair = Pair::open(PairOptions {
        local: here.clone(),
        ignore: ignore.clone(),
        remote: Open { root, ignore, excluded: Vec::new(), create: true, watch: true },
        state: state.clone(),
        engine: EngineConfig::default(),
        protect: false,
    })?;

    // The pair runs until its commands end. What it says must be read: it waits for that.
    let (command_tx, command_rx) = mpsc::channel(4);
    let (news_tx, mut news_rx) = mpsc::channel(64);
    let running = tokio::spawn(pair.run(command_rx, news_tx));
    let peer = Peer::here(replica_options(&state.join("there")))?;
    command_tx.send(Command::Connect(peer)).await?;
    while let Some(news) = news_rx.recv().await {
        match news {
            News::Sync(SyncEvent::InSync) => break,
            News::Sync(SyncEvent::OpenFailed { failure, .. }) => return Err(failure.message.into()),
            News::Broken(message) | News::Dead(message) => return Err(message.into()),
            News::Sync(event) => println!("{event:?}"),
        }
    }
    drop((command_tx, news_rx));
    running.await?;

    println!("{}", fs::read_to_string(there.join("src/main.rs"))?.trim_end());
    Ok(())
}
