//! Pid 1: listens for clients, collects what ends, passes on the order to stop.

use std::io::{self, Write};
use std::sync::mpsc::Receiver;

use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::args::Place;
use crate::reaper::Reaper;
use crate::scrollback::Stream;
use crate::serve::{Agent, FAREWELL, fill_random};
use crate::socket;
use crate::thread;

/// Pieces of output that wait for our own standard output before they are left out of it.
const COPIES: usize = 256;

/// Runs until told to stop.
pub(crate) fn run(place: &Place) -> io::Result<()> {
    let mut instance = [0; 16];
    fill_random(&mut instance)?;
    // Where another is pid 1 (a shared process namespace), the orphans of what we start are ours all the same.
    // A sandboxed kernel may not know the call; then it is as before.
    let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
    let program = std::fs::read("/proc/self/exe").map_err(|error| {
        io::Error::new(error.kind(), format!("can't read our own program in /proc: {error}"))
    })?;
    let program = *blake3::hash(&program).as_bytes();
    let (copy_tx, copy_rx) = std::sync::mpsc::sync_channel(COPIES);
    thread::start("log", move || copy(&copy_rx))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = socket::listen(&place.run_dir)?;
        let (task_tx, mut task_rx) = mpsc::unbounded_channel();
        let agent = Agent {
            instance,
            program,
            prefix: place.prefix.clone(),
            reaper: Reaper::default(),
            main: std::sync::Arc::default(),
            listeners: crate::forward::Listeners::default(),
            copy_tx,
            task_tx,
        };
        let mut children = signal(SignalKind::child())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        // What is caught is the default again in what is started; what we were told to ignore would stay ignored.
        let _caught = (signal(SignalKind::hangup())?, signal(SignalKind::quit())?);
        let mut clients = JoinSet::new();
        let mut tasks = JoinSet::new();
        crate::log::line(&format!("{} waits for towline", env!("CARGO_PKG_VERSION")));
        loop {
            tokio::select! {
                _ = children.recv() => agent.reaper.reap(),
                Some(task) = task_rx.recv() => { tasks.spawn(task); }
                client = socket::accept(&listener) => { clients.spawn(agent.clone().serve(client)); }
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                Some(_) = clients.join_next() => {}
                Some(_) = tasks.join_next() => {}
            }
        }
        for signal in [Signal::TERM, Signal::KILL] {
            agent.reaper.signal_all(signal);
            let ending = async {
                while !agent.reaper.is_idle() {
                    children.recv().await;
                    agent.reaper.reap();
                }
            };
            if tokio::time::timeout(FAREWELL, ending).await.is_ok() {
                break;
            }
        }
        io::Result::Ok(())
    })?;
    Ok(())
}

/// Shows the command's output as the container's own, where `kubectl logs` finds it.
fn copy(copy_rx: &Receiver<(Stream, Vec<u8>)>) {
    for (stream, bytes) in copy_rx {
        let _ = match stream {
            Stream::Output => io::stdout().write_all(&bytes).and_then(|()| io::stdout().flush()),
            Stream::Error => io::stderr().write_all(&bytes),
        };
    }
}
