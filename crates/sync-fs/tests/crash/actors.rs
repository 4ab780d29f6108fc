//! The two processes of a sync: the engine with the folder here, and the folder there at the end of two pipes.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use towline_sync_core::base::Base;
use towline_sync_core::codec::{Decoder, Encoder};
use towline_sync_core::engine::{Engine, EngineConfig, Side, SyncEvent};
use towline_sync_core::message::{Open, Reply, Request};
use towline_sync_core::record;
use towline_sync_fs::{ReplicaOptions, spawn};

/// How long an answer may take on a busy machine: then something hangs.
const DEADLINE: Duration = Duration::from_secs(30);
/// Some path could not be synced, or a folder not be opened.
const TROUBLE: u8 = 3;
/// The other process is gone.
const ALONE: u8 = 4;

enum News {
    Said(Side, Reply),
    Gone,
}

/// Serves the folder that is asked for until standard input ends.
pub(crate) fn replica() -> ExitCode {
    let mut encoder = Encoder::new();
    let mut stdout = io::stdout();
    let replies = move |reply| {
        let bytes = encoder.encode(&[reply]);
        if stdout.write_all(bytes).and_then(|()| stdout.flush()).is_err() {
            // As an agent whose stream broke.
            std::process::abort();
        }
        true
    };
    let Ok(replica) = spawn(ReplicaOptions::default(), replies) else { return ExitCode::FAILURE };
    read_all(|request| {
        replica.request(request);
        true
    });
    replica.close();
    ExitCode::SUCCESS
}

/// Hands over every message of standard input until it ends or nobody wants more.
fn read_all<T: serde::de::DeserializeOwned>(mut take: impl FnMut(T) -> bool) {
    let (mut decoder, mut buffer) = (Decoder::new(), vec![0; 64 * 1024]);
    while let Ok(count @ 1..) = io::stdin().read(&mut buffer) {
        decoder.push(&buffer[..count]);
        while let Ok(Some(message)) = decoder.next() {
            if !take(message) {
                return;
            }
        }
    }
}

/// Syncs `local` and `remote` below `place` once. Says on standard error what it did not do, and at last how many
/// steps it made.
pub(crate) fn engine(place: &Path) -> io::Result<ExitCode> {
    let (news_tx, news_rx) = channel();
    let local_tx: Sender<News> = news_tx.clone();
    let options = ReplicaOptions {
        keep: Some(place.join("keep")),
        durable: true,
        protect: true,
        ..ReplicaOptions::default()
    };
    let local = spawn(options, move |reply| local_tx.send(News::Said(Side::Local, reply)).is_ok())?;
    std::thread::spawn(move || {
        read_all(|reply| news_tx.send(News::Said(Side::Remote, reply)).is_ok());
        // Nobody listens when the other end has been told to go.
        let _ = news_tx.send(News::Gone);
    });
    let (base, mut journal) = open_base(place)?;
    // Here every deletion is meant.
    let config = EngineConfig { deletions_free: 1000, delta_size: 2048, ..EngineConfig::default() };
    let mut engine = Engine::new(config, base);
    for (side, name) in [(Side::Local, "local"), (Side::Remote, "remote")] {
        let root = place.join(name).to_string_lossy().into_owned();
        engine.connect(
            side,
            Open { root, ignore: Vec::new(), excluded: Vec::new(), create: true, watch: true },
        );
    }
    let (mut encoder, mut stdout, mut applied) = (Encoder::new(), io::stdout(), 0);
    loop {
        while let Some((side, request)) = engine.poll_request() {
            match side {
                Side::Local => local.request(request),
                Side::Remote => {
                    let bytes = encoder.encode::<Request>(&[request]);
                    if stdout.write_all(bytes).and_then(|()| stdout.flush()).is_err() {
                        return Ok(ALONE.into());
                    }
                }
            }
        }
        while let Some(delta) = engine.poll_record() {
            journal.write_all(&record::encode_delta(&delta))?;
        }
        while let Some(event) = engine.poll_event() {
            match event {
                SyncEvent::Applied { .. } => applied += 1,
                SyncEvent::Problem { path, message } => writeln!(io::stderr(), "problem: {path}: {message}")?,
                SyncEvent::OpenFailed { side, failure } => {
                    writeln!(io::stderr(), "can't open the {} folder: {failure:?}", side.name())?;
                    return Ok(TROUBLE.into());
                }
                SyncEvent::InSync => {
                    let trouble = engine.status().problems.len();
                    local.close();
                    writeln!(io::stderr(), "applied: {applied}")?;
                    return Ok(if trouble > 0 { TROUBLE.into() } else { ExitCode::SUCCESS });
                }
                _ => {}
            }
        }
        match news_rx.recv_timeout(DEADLINE) {
            Ok(News::Said(side, Reply::ScanFailed(failure))) => {
                writeln!(io::stderr(), "can't scan the {} folder: {failure:?}", side.name())?;
                return Ok(TROUBLE.into());
            }
            Ok(News::Said(side, reply)) => {
                if let Err(error) = engine.handle_reply(side, reply) {
                    writeln!(io::stderr(), "broken: {error}")?;
                    return Ok(ExitCode::FAILURE);
                }
            }
            Ok(News::Gone) => return Ok(ALONE.into()),
            Err(_) => {
                writeln!(io::stderr(), "hangs: {:?}", engine.status())?;
                return Ok(ExitCode::FAILURE);
            }
        }
    }
}

/// Loads what both sides agreed on, and begins a journal after it.
fn open_base(place: &Path) -> io::Result<(Base, File)> {
    let (snapshot, journal) = (place.join("base"), place.join("journal"));
    let read = |path: &Path| {
        fs::read(path).or_else(|error| match error.kind() {
            io::ErrorKind::NotFound => Ok(Vec::new()),
            _ => Err(error),
        })
    };
    let base = record::decode(&read(&snapshot)?, &read(&journal)?).map_err(io::Error::other)?;
    let new = place.join("base.new");
    fs::write(&new, record::encode_base(&base))?;
    fs::rename(&new, &snapshot)?;
    let journal = OpenOptions::new().write(true).create(true).truncate(true).open(journal)?;
    Ok((base, journal))
}
