//! `towline sync`.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Instant;

use serde_json::json;
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use towline_link::Config;
use towline_session::Event;
use towline_session::event::EVENT_VERSION;
use towline_sync::agent::Agent;
use towline_sync::{News, Pair, PairOptions, Peer, keep_folder};
use towline_sync_core::engine::{EngineConfig, SyncEvent};
use towline_sync_core::message::Open;
use towline_sync_core::reconcile::Mode;

use super::Outcome;
use crate::args::{Sync, SyncMode};
use crate::diagnose::Failure;
use crate::exit_code;
use crate::place;
use crate::ui::{self, Ui};

/// The other end of a sync.
enum Far {
    /// A folder of this machine.
    Here(PathBuf),
    /// An agent, and the process that reaches it.
    Agent { agent: Agent, process: Child },
}

/// Syncs until both sides are equal, or until interrupted.
pub(crate) async fn run(ui: &mut Ui, args: &Sync) -> Outcome {
    let began = Instant::now();
    let source = folder(&args.source)?;
    let ignore = ignore(args, &source)?;
    let (mut far, far_name) = reach(args, &source).await?;
    let state = state_folder(&source, &far_name)?;
    let (root, peer) = match &far {
        Far::Here(folder) => {
            let options = towline_sync::replica_options(&state.join("far"));
            (folder.to_string_lossy().into_owned(), Peer::here(options)?)
        }
        Far::Agent { agent, .. } => ("/".to_owned(), agent.folder().await?),
    };
    let pair = Pair::open(PairOptions {
        local: source.clone(),
        ignore: ignore.clone(),
        remote: Open { root, ignore, excluded: Vec::new(), create: true },
        state: state.clone(),
        engine: EngineConfig { mode: mode(args.mode), eager: true, ..EngineConfig::default() },
        protect: false,
    })?;
    let (command_tx, command_rx) = mpsc::channel(4);
    let (news_tx, mut news_rx) = mpsc::channel(64);
    // The first thing it is told, so there is room.
    let _ = command_tx.send(towline_sync::Command::Connect(peer)).await;
    let running = tokio::spawn(pair.run(command_rx, news_tx));
    ui.phase(&format!("looking through {} and {far_name}", source.display()));
    let mut interrupted = signal(SignalKind::interrupt())?;
    let mut terminated = signal(SignalKind::terminate())?;
    let mut rescan = signal(SignalKind::user_defined1())?;
    let mut totals = Totals::default();
    let mut outcome = Ok(exit_code::OK);
    loop {
        let news = tokio::select! {
            news = news_rx.recv() => news,
            _ = interrupted.recv() => { outcome = Ok(exit_code::INTERRUPTED); break }
            _ = terminated.recv() => { outcome = Ok(exit_code::INTERRUPTED); break }
            _ = rescan.recv() => {
                // A pair that has ended says so as its last news.
                let _ = command_tx.send(towline_sync::Command::Rescan).await;
                continue;
            }
        };
        match news {
            None => break,
            Some(News::Dead(message) | News::Broken(message)) => {
                outcome = Err(Failure::new(far.words(message).await));
                break;
            }
            Some(News::Sync(SyncEvent::OpenFailed { failure, side })) => {
                let which = if side == towline_sync_core::engine::Side::Local {
                    source.display().to_string()
                } else {
                    far_name.clone()
                };
                outcome = Err(Failure::new(format!("{which} can't be synced: {}", failure.message)));
                break;
            }
            Some(News::Sync(SyncEvent::Halted { .. })) if args.approve_deletions => {
                let _ = command_tx.send(towline_sync::Command::ApproveDeletions).await;
            }
            Some(News::Sync(event)) => {
                let in_sync = event == SyncEvent::InSync;
                let halted = matches!(event, SyncEvent::Halted { .. });
                tell(ui, &state, event, &mut totals);
                if halted && !args.watch {
                    outcome = Err(Failure::new("sync stopped: so many deletions at once may be a mistake")
                        .hint("if they are wanted, run the same with --approve-deletions"));
                    break;
                }
                if in_sync && !args.watch {
                    break;
                }
            }
        }
    }
    ui.phase_done();
    if args.stats && outcome.is_ok() {
        stats(ui, &far, &totals, began).await;
    }
    drop(command_tx);
    // What it still says is of no use, and it must not wait for room.
    news_rx.close();
    let _ = running.await;
    far.close().await;
    outcome
}

/// What was done, for the end.
#[derive(Debug, Default)]
struct Totals {
    files: u64,
    bytes: u64,
}

fn tell(ui: &mut Ui, state: &Path, event: SyncEvent, totals: &mut Totals) {
    let folder = 0;
    let event = match event {
        SyncEvent::Progress { files, files_total, bytes, bytes_total } => {
            (totals.files, totals.bytes) = (files, bytes);
            Event::SyncProgress { folder, files, files_total, bytes, bytes_total }
        }
        SyncEvent::InSync => {
            ui.phase_done();
            Event::InSync { folder }
        }
        SyncEvent::Conflict { path, kept_as } => Event::Conflict {
            folder,
            path: path.to_string(),
            kept: keep_folder(state).join("conflicts").join(kept_as).display().to_string(),
        },
        SyncEvent::Halted { reason, missing, of, .. } => {
            Event::SyncHalted { folder, message: format!("{reason} ({missing} of {of} files)") }
        }
        SyncEvent::Problem { path, message } => Event::SyncProblem { folder, path, message },
        SyncEvent::Applied { side, path, deleted } => {
            Event::Synced { folder, to: side.into(), path: path.to_string(), deleted }
        }
        _ => return,
    };
    ui.event(&event);
}

async fn stats(ui: &Ui, far: &Far, totals: &Totals, began: Instant) {
    let own = towline_sync::usage();
    let mut object = json!({
        "version": EVENT_VERSION, "kind": "stats", "time": ui::now(),
        "seconds": began.elapsed().as_secs_f64(),
        "files": totals.files, "bytes": totals.bytes,
        "local": {"cpuSeconds": own.cpu.as_secs_f64(), "peakKibibytes": own.peak_kibibytes},
    });
    if let Far::Agent { agent, .. } = far {
        let traffic = agent.traffic();
        object["wire"] = json!({"sentBytes": traffic.sent, "receivedBytes": traffic.received});
        if let Ok(usage) = agent.usage().await {
            let seconds = std::time::Duration::from_millis(usage.cpu_milliseconds).as_secs_f64();
            object["remote"] = json!({"cpuSeconds": seconds, "peakKibibytes": usage.peak_kibibytes});
        }
    }
    ui.json(&object);
}

/// Returns the source as an absolute path; it must be a folder.
fn folder(path: &Path) -> Result<PathBuf, Failure> {
    let absolute = path.canonicalize().map_err(|error| {
        Failure::new(format!("{}: {error}", path.display()))
            .hint("is it spelled right? sync makes DST, never SRC")
    })?;
    if absolute.is_dir() {
        Ok(absolute)
    } else {
        Err(Failure::new(format!("{} is not a folder", path.display())).hint("sync works on whole folders"))
    }
}

fn ignore(args: &Sync, source: &Path) -> Result<Vec<String>, Failure> {
    let file = args.ignore.clone().unwrap_or_else(|| source.join(".stignore"));
    if args.ignore.is_none() && file.symlink_metadata().is_err() {
        return Ok(Vec::new());
    }
    towline_sync::ignore_lines(&file).map_err(|error| Failure::new(format!("{}: {error}", file.display())))
}

async fn reach(args: &Sync, source: &Path) -> Result<(Far, String), Failure> {
    if let Some(command) = &args.to {
        let mut process = Command::new("sh")
            .args(["-c", command])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| Failure::new(format!("can't run sh: {error}")))?;
        let (Some(stdin), Some(stdout)) = (process.stdin.take(), process.stdout.take()) else {
            return Err(
                Failure::new("the command has no standard input and output").code(exit_code::INTERNAL)
            );
        };
        let agent = Agent::connect(stdout, stdin, Config::default()).await.map_err(|error| {
            Failure::new(format!("no agent answers behind --to: {error}"))
                .hint(format!("does this reach an agent? {command}"))
                .hint("the command's standard input and output must lead to: towline-agent serve --root DIR")
        })?;
        return Ok((Far::Agent { agent, process }, command.clone()));
    }
    let destination = args.destination.as_deref().unwrap_or(Path::new("."));
    if destination.exists() && !destination.is_dir() {
        return Err(Failure::new(format!("{} is not a folder", destination.display()))
            .hint("sync works on whole folders"));
    }
    let destination = std::path::absolute(destination)?;
    let destination = destination.canonicalize().unwrap_or(destination);
    if destination.starts_with(source) || source.starts_with(&destination) {
        return Err(Failure::new(format!(
            "{} and {} lie one inside the other",
            source.display(),
            destination.display()
        ))
        .hint("choose folders that are apart"));
    }
    let name = destination.display().to_string();
    Ok((Far::Here(destination), name))
}

fn state_folder(source: &Path, far: &str) -> Result<PathBuf, Failure> {
    let mut hasher = blake3::Hasher::new();
    hasher.update(source.as_os_str().as_encoded_bytes()).update(b"\0").update(far.as_bytes());
    Ok(place::home()?.join("sync").join(&hasher.finalize().to_hex()[..16]))
}

fn mode(mode: SyncMode) -> Mode {
    match mode {
        SyncMode::TwoWay => Mode::TwoWay,
        SyncMode::LocalToRemote => Mode::LocalToRemote,
        SyncMode::RemoteToLocal => Mode::RemoteToLocal,
        SyncMode::Mirror => Mode::Mirror,
    }
}

impl Far {
    /// Says why the other side is gone.
    async fn words(&mut self, message: String) -> String {
        match self {
            Self::Agent { agent, .. } => format!("{message}: {}", agent.ended().await),
            Self::Here(_) => message,
        }
    }

    /// Lets the other side tidy up and waits for it.
    async fn close(self) {
        if let Self::Agent { agent, mut process } = self {
            drop(agent);
            // The command ends when its input does.
            let _ = tokio::time::timeout(std::time::Duration::from_secs(5), process.wait()).await;
        }
    }
}
