//! How far the engine is.

use crate::engine::{Engine, Side, State, SyncEvent};
use crate::message::{Problem, WatchMode};

/// What the engine is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// A side is away.
    Disconnected,
    /// A side is being opened or looked through for the first time.
    Scanning,
    /// Differences are being worked on.
    Syncing,
    /// Nothing is left to do.
    InSync,
    /// Nothing is left to do but what waits for [`Engine::approve_deletions`].
    Halted,
}

/// Why nothing flows from a side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Halt {
    /// The side where files are missing.
    pub side: Side,
    /// How many files are missing.
    pub missing: u64,
    /// Of how many.
    pub of: u64,
}

/// A picture of the engine for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncStatus {
    /// What it is doing.
    pub phase: Phase,
    /// Operations done since it was last in sync.
    pub files_done: u64,
    /// Operations done and to do.
    pub files_total: u64,
    /// Bytes of content done since it was last in sync.
    pub bytes_done: u64,
    /// Bytes of content done and to do.
    pub bytes_total: u64,
    /// Conflicts whose bytes were kept, since the engine began.
    pub conflicts: u64,
    /// Entries that a new remote began with and that the local side has otherwise, since the engine began.
    pub replaced: u64,
    /// Paths that are not synced.
    pub problems: Vec<Problem>,
    /// How each side notices changes, the local one first; `None` until it has said so.
    pub watching: [Option<WatchMode>; 2],
    /// Sides from which nothing flows.
    pub halted: Vec<Halt>,
}

/// Counts since the engine last was at rest.
#[derive(Debug, Default)]
pub(super) struct Progress {
    pub(super) files: u64,
    pub(super) bytes: u64,
    /// There was work since it was last said that there is none.
    pub(super) busy: bool,
    /// The numbers changed since they were last told.
    pub(super) changed: bool,
}

impl Progress {
    pub(super) fn start(&mut self) {
        if !self.busy {
            *self = Self { busy: true, ..Self::default() };
        }
    }

    pub(super) fn stop(&mut self) {
        *self = Self::default();
    }
}

impl Engine {
    /// Returns how far it is.
    pub fn status(&self) -> SyncStatus {
        let (files_total, bytes_total) = self.totals();
        let halted = Side::BOTH.into_iter().filter_map(|side| {
            let (missing, of) = self.guard.halted(side)?;
            Some(Halt { side, missing: missing as u64, of: of as u64 })
        });
        SyncStatus {
            phase: self.phase(),
            files_done: self.progress.files,
            files_total,
            bytes_done: self.progress.bytes,
            bytes_total,
            conflicts: self.conflicts,
            replaced: self.replaced,
            problems: self.problems.all(),
            watching: self.replicas.each_ref().map(|replica| replica.watching.clone()),
            halted: halted.collect(),
        }
    }

    fn phase(&self) -> Phase {
        if self.replicas.iter().any(|replica| replica.state() == State::Away) {
            Phase::Disconnected
        } else if !self.running {
            Phase::Scanning
        } else if self.progress.busy {
            Phase::Syncing
        } else if Side::BOTH.into_iter().any(|side| self.guard.is_halted(side)) {
            Phase::Halted
        } else {
            Phase::InSync
        }
    }

    fn totals(&self) -> (u64, u64) {
        let queued: usize = self.queues.iter().map(super::Queue::len).sum();
        let queued_bytes: u64 = self.queues.iter().map(super::Queue::bytes).sum();
        (
            self.progress.files + (queued + self.flights.len()) as u64,
            self.progress.bytes + queued_bytes + self.flights.bytes_left(),
        )
    }

    pub(super) fn poll_progress(&mut self) -> Option<SyncEvent> {
        if !std::mem::take(&mut self.progress.changed) {
            return None;
        }
        let (files_total, bytes_total) = self.totals();
        Some(SyncEvent::Progress {
            files: self.progress.files,
            files_total,
            bytes: self.progress.bytes,
            bytes_total,
        })
    }
}
