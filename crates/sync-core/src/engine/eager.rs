//! The first sync of a folder that the other side lacks: content goes out while the local side is still being scanned,
//! so that each file is read once.
//!
//! What is made this way only enters the picture of the remote side. When the scan is over everything is decided as
//! ever, and finds it there, or on its way.

use std::collections::{BTreeMap, BTreeSet};

use crate::engine::flight::Flight;
use crate::engine::queue::Operation;
use crate::engine::replica::State;
use crate::engine::{Engine, EngineError, Side};
use crate::message::{Body, New, Outcome, Request, RequestId};
use crate::path::RelPath;
use crate::reconcile::Mode;
use crate::snapshot::{Entry, Transition};

/// What was sent before the scan's end.
#[derive(Debug, Default)]
pub(super) struct Eager {
    pending: BTreeMap<RequestId, Vec<(RelPath, Entry)>>,
    /// Folders that are being made.
    folders: BTreeSet<RelPath>,
    /// Content on its way, in bytes.
    bytes: u64,
    /// The local scan waits for the remote's, whose answer it needs.
    pub(super) waiting: bool,
}

impl Eager {
    pub(super) fn is_pending(&self, id: RequestId) -> bool {
        self.pending.contains_key(&id)
    }

    pub(super) fn is_idle(&self) -> bool {
        self.pending.is_empty()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Engine {
    /// Tells whether the local scan is to wait until the remote side is known, and to bring content along.
    pub(super) fn is_first_sync(&self) -> bool {
        self.config.eager
            && self.config.mode != Mode::RemoteToLocal
            && self.base.entries().is_empty()
            && self.base.epoch().is_none()
    }

    /// Begins the local scan that waited for the remote side.
    pub(super) fn scan_eagerly(&mut self) {
        if self.replicas[Side::Remote as usize].state() == State::Ready
            && std::mem::take(&mut self.eager.waiting)
        {
            self.outboxes[Side::Local as usize].push(Request::Scan { eager: true });
        }
    }

    /// Sends on what the remote side lacks of what a scan has found.
    pub(super) fn contents(&mut self, side: Side, news: Vec<New>) -> Result<(), EngineError> {
        let entries = news.iter().map(|new| (new.path.clone(), new.entry.clone())).collect();
        self.entries(side, entries, false)?;
        let remote = &self.replicas[Side::Remote as usize];
        if side != Side::Local
            || self.running
            || remote.state() != State::Ready
            || !remote.writable
            || !self.is_first_sync()
        {
            return Ok(());
        }
        let mut going = Vec::new();
        for new in news {
            let has_parent = new.path.parent().is_none_or(|parent| {
                self.eager.folders.contains(&parent) || remote.tree().get(&parent) == Some(&Entry::Directory)
            });
            let is_whole = match &new.entry {
                Entry::Directory => true,
                Entry::File(file) => {
                    matches!(&new.body, Body::Whole(bytes) if bytes.len() as u64 == file.size)
                }
                // Whether a link stays inside is looked at when it is decided.
                Entry::Symlink { .. } | Entry::Opaque(_) => false,
            };
            let is_new = new.from.is_none() && remote.tree().get(&new.path).is_none();
            if has_parent && is_whole && is_new {
                if new.entry == Entry::Directory {
                    self.eager.folders.insert(new.path.clone());
                }
                going.push(new);
            }
        }
        if going.is_empty() {
            return Ok(());
        }
        let id = self.flights.name();
        self.eager.bytes += content_bytes(&going);
        let made = going.iter().map(|new| (new.path.clone(), new.entry.clone())).collect();
        self.eager.pending.insert(id, made);
        self.outboxes[Side::Remote as usize].push_batch(Request::Install { id, entries: going });
        Ok(())
    }

    pub(super) fn eagerly_installed(
        &mut self,
        side: Side,
        id: RequestId,
        failed: &[(u32, Outcome)],
    ) -> Result<(), EngineError> {
        if side != Side::Remote {
            return Err(EngineError::UnknownRequest { side, id });
        }
        let Some(made) = self.eager.pending.remove(&id) else { return Ok(()) };
        let failed: BTreeSet<usize> = failed.iter().map(|(index, _)| *index as usize).collect();
        if failed.last().is_some_and(|last| *last >= made.len()) {
            return Err(EngineError::OutOfTurn {
                side,
                what: "the failure of an entry that was not asked for",
            });
        }
        self.progress.start();
        for (index, (path, entry)) in made.into_iter().enumerate() {
            let bytes = if let Entry::File(file) = &entry { file.size } else { 0 };
            self.eager.bytes = self.eager.bytes.saturating_sub(bytes);
            if failed.contains(&index) {
                self.eager.folders.remove(&path);
                continue;
            }
            self.progress.files += 1;
            self.progress.bytes += bytes;
            self.replicas[side as usize].set(&path, Some(&entry));
        }
        self.progress.changed = true;
        Ok(())
    }

    /// Makes what is on its way operations like all others: what has been decided since can go with it.
    pub(super) fn settle_eager(&mut self) {
        for (id, made) in std::mem::take(&mut self.eager).pending {
            let mut members = Vec::with_capacity(made.len());
            for (path, entry) in made {
                let agreed = self.replicas[Side::Local as usize].tree().get(&path) == Some(&entry);
                let bytes = if let Entry::File(file) = &entry { file.size } else { 0 };
                let step = Transition { path: path.clone(), from: None, to: Some(entry) };
                let mut flight = Flight::new(path, Side::Remote, Operation::Apply(step));
                (flight.agreed, flight.bytes, flight.early) = (agreed, bytes, true);
                members.push(self.flights.add(flight));
            }
            self.batches.sent(id, Side::Remote, members);
        }
    }

    /// Forgets what was on its way: either side is gone, and the next scan tells what has arrived.
    pub(super) fn drop_eager(&mut self, gone: Side) {
        let waiting = self.eager.waiting && gone == Side::Remote;
        let gone_with = std::mem::replace(&mut self.eager, Eager { waiting, ..Eager::default() });
        for id in gone_with.pending.into_keys() {
            if gone != Side::Remote {
                self.flights.cancel(Side::Remote, id);
            }
        }
    }
}

fn content_bytes(entries: &[New]) -> u64 {
    entries.iter().map(|new| new.body.carried() as u64).sum()
}
