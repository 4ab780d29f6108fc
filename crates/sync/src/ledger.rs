//! Watches what a pair does, and keeps account of it.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use towline_sync_core::engine::{Side, SyncEvent};
use towline_sync_core::message::{Content, DeltaOp, Problem, Request, RequestId};
use towline_sync_core::path::RelPath;

use crate::record::{self, Loss};

/// What a pair has done so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Steps that brought a path to a side or changed it there.
    pub applied: u64,
    /// Steps that deleted a path on a side.
    pub deleted: u64,
    /// Files whose content the receiver already had under another name.
    pub copied_files: u64,
    /// Files that were sent as a difference to the receiver's version.
    pub delta_files: u64,
    /// Bytes of those files that were not sent, as the receiver had them.
    pub delta_bytes: u64,
    /// Conflicts whose losing bytes were kept.
    pub conflicts: u64,
}

/// The account of one pair.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    counters: Counters,
    /// Files under way of which a part was not sent.
    differing: HashSet<RequestId>,
    /// Whose bytes of a path are being kept.
    losers: BTreeMap<RelPath, Side>,
    problems: BTreeMap<String, String>,
    problems_changed: bool,
}

impl Ledger {
    pub(crate) fn counters(&self) -> Counters {
        self.counters
    }

    /// Takes note of a request to a side.
    pub(crate) fn asked(&mut self, side: Side, request: &Request) {
        match request {
            Request::Apply { content: Content::Copy { .. }, .. } => self.counters.copied_files += 1,
            Request::Data { id, block } => {
                let copied = block.ops.iter().map(|op| match op {
                    DeltaOp::Copy { length, .. } => *length,
                    DeltaOp::Literal(_) => 0,
                });
                let copied: u64 = copied.sum();
                self.counters.delta_bytes += copied;
                if copied > 0 {
                    self.differing.insert(*id);
                }
                if block.last && self.differing.remove(id) {
                    self.counters.delta_files += 1;
                }
            }
            Request::Keep { path, .. } => {
                self.losers.insert(path.clone(), Side::Remote);
            }
            Request::Read { path, .. } => {
                if let Some(loser) = self.losers.get_mut(path) {
                    *loser = side;
                }
            }
            _ => {}
        }
    }

    /// Takes note of what happened. What can't be written down is only missing from what people are told later.
    pub(crate) fn happened(&mut self, state: &Path, event: &SyncEvent) {
        match event {
            SyncEvent::Applied { deleted: false, .. } => self.counters.applied += 1,
            SyncEvent::Applied { deleted: true, .. } => self.counters.deleted += 1,
            SyncEvent::Conflict { path, kept_as } => {
                self.counters.conflicts += 1;
                let lost = self.losers.remove(path).unwrap_or(Side::Remote);
                if let Err(error) = record::add_conflict(state, path.as_str(), lost, kept_as, Loss::Conflict)
                {
                    tracing::warn!(%error, %path, "a conflict can't be written down");
                }
            }
            SyncEvent::Problem { path, message } => {
                self.problems.insert(path.clone(), message.clone());
                self.problems_changed = true;
            }
            SyncEvent::Solved { path } => {
                self.problems_changed |= self.problems.remove(path).is_some();
            }
            SyncEvent::InSync => self.save(state),
            _ => {}
        }
    }

    /// Writes down what is wrong now.
    pub(crate) fn save(&mut self, state: &Path) {
        if !std::mem::take(&mut self.problems_changed) {
            return;
        }
        let problems = self.problems.iter();
        let problems =
            problems.map(|(path, message)| Problem { path: path.clone(), message: message.clone() });
        if let Err(error) = record::save_problems(state, problems.collect()) {
            tracing::warn!(%error, "the problems can't be written down");
        }
    }
}

#[cfg(test)]
mod tests {
    use towline_sync_core::message::Block;

    use super::*;

    #[test]
    fn what_was_not_sent_is_counted_once_a_file() {
        let mut ledger = Ledger::default();
        let copy = |length| DeltaOp::Copy { offset: 0, length };
        for (id, ops, last) in [
            (2, vec![copy(10), DeltaOp::Literal(vec![1])], false),
            (4, vec![DeltaOp::Literal(vec![1, 2])], true),
            (2, vec![copy(5)], true),
        ] {
            ledger.asked(Side::Remote, &Request::Data { id, block: Block { ops, last } });
        }
        assert_eq!(ledger.counters(), Counters { delta_files: 1, delta_bytes: 15, ..Counters::default() });
        assert!(ledger.differing.is_empty());
    }
}
