//! The signals that a sync understands.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a signal means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    /// It is to end.
    End,
    /// Both sides are to be looked through.
    Rescan,
}

/// Ctrl-C and its kin, and the wish to look through both sides.
#[derive(Debug)]
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    rescan: Signal,
}

impl Signals {
    /// Takes them from now on.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            rescan: signal(SignalKind::user_defined1())?,
        })
    }

    /// Waits for the next one. Cancel-safe.
    pub(super) async fn next(&mut self) -> Told {
        tokio::select! {
            biased;
            _ = self.interrupt.recv() => Told::End,
            _ = self.terminate.recv() => Told::End,
            _ = self.rescan.recv() => Told::Rescan,
        }
    }

    /// Waits until it is to end. Cancel-safe.
    pub(super) async fn interrupted(&mut self) {
        while self.next().await != Told::End {}
    }

    /// Waits for something; `None` when it is to end first.
    pub(super) async fn unless_interrupted<T>(&mut self, something: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            done = something => Some(done),
            () = self.interrupted() => None,
        }
    }
}
