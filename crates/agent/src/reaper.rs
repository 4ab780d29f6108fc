//! Every process that ends in the container is collected here: pid 1 inherits the orphans of all the others.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process, kill_process_group, wait};
use tokio::sync::watch;
use towline_protocol::ExitStatus;

/// The processes that somebody waits for, by process id.
type Waiting = HashMap<Pid, watch::Sender<Option<ExitStatus>>>;

/// Collects what ends, and tells those who wait for it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reaper {
    waiting: Arc<Mutex<Waiting>>,
}

/// A process that was started, and how it ended once it has.
#[derive(Debug, Clone)]
pub(crate) struct Started {
    /// The leader of its own process group.
    pub(crate) pid: Pid,
    exit_rx: watch::Receiver<Option<ExitStatus>>,
    reaper: Reaper,
}

impl Reaper {
    /// Registers a process that was started just now, on the thread that also calls [`Reaper::reap`].
    pub(crate) fn register(&self, pid: Pid) -> Started {
        let (exit_tx, exit_rx) = watch::channel(None);
        self.lock().insert(pid, exit_tx);
        Started { pid, exit_rx, reaper: self.clone() }
    }

    /// Collects all that have ended. To be called after each SIGCHLD.
    pub(crate) fn reap(&self) {
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            if let Some(exit_tx) = self.lock().remove(&pid) {
                exit_tx.send_replace(Some(exit_status(status)));
            }
        }
    }

    /// Signals the process groups of all that have not ended.
    pub(crate) fn signal_all(&self, signal: Signal) {
        self.lock().keys().for_each(|pid| signal_group(*pid, signal));
    }

    /// Returns whether all that were registered have ended.
    pub(crate) fn is_idle(&self) -> bool {
        self.lock().is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Started {
    /// Returns how it ended, if it has.
    pub(crate) fn ended(&self) -> Option<ExitStatus> {
        *self.exit_rx.borrow()
    }

    /// Waits until it has ended.
    pub(crate) async fn wait(&mut self) -> ExitStatus {
        match self.exit_rx.wait_for(Option::is_some).await {
            Ok(status) => status.unwrap_or(ExitStatus::Code(-1)),
            // The reaper lives as long as the program.
            Err(_) => ExitStatus::Code(-1),
        }
    }

    /// Signals its whole process group, unless it has ended: its number may be another's by then.
    pub(crate) fn signal_group(&self, signal: Signal) {
        if self.reaper.lock().contains_key(&self.pid) {
            signal_group(self.pid, signal);
        }
    }
}

/// Signals a group, or its leader alone in the moment before it has become one.
fn signal_group(leader: Pid, signal: Signal) {
    if kill_process_group(leader, signal).is_err() {
        // It may have ended this instant, which is as good.
        let _ = kill_process(leader, signal);
    }
}

fn exit_status(status: WaitStatus) -> ExitStatus {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => ExitStatus::Code(code),
        (None, Some(signal)) => ExitStatus::Signal(signal),
        (None, None) => ExitStatus::Code(-1),
    }
}
