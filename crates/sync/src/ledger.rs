//! Watches what a pair does, and keeps account of it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use towline_sync_core::engine::{Side, SyncEvent};
use towline_sync_core::message::{Body, Content, DeltaOp, New, Problem, Request, RequestId};
use towline_sync_core::path::RelPath;
use towline_sync_core::snapshot::Entry;

use crate::record::{self, Loss};

/// So many questions for content are remembered: more than are under way at any time.
const MAX_READERS: usize = 32 * 1024;

/// What a pair has done so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Steps that brought a path to a side or changed it there.
    pub applied: u64,
    /// Files whose content was brought to a side, by whatever way.
    pub files: u64,
    /// The bytes of these files, sent or not.
    pub bytes: u64,
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
    /// Both sides are known: before, what a first sync sends ahead is told by requests alone.
    scanned: bool,
    /// Files under way of which a part was not sent.
    differing: HashSet<RequestId>,
    /// Who was asked to read what.
    readers: HashMap<RequestId, Side>,
    /// Whose bytes of a path are being kept.
    losers: BTreeMap<RelPath, Side>,
    problems: BTreeMap<String, String>,
    problems_changed: bool,
}

impl Ledger {
    pub(crate) fn counters(&self) -> Counters {
        self.counters
    }

    /// Takes note of the requests that go out together, to each side.
    pub(crate) fn asked(&mut self, batches: &[Vec<Request>; 2]) {
        for side in Side::BOTH {
            for request in &batches[side as usize] {
                self.asked_one(side, request);
            }
        }
    }

    fn asked_one(&mut self, side: Side, request: &Request) {
        match request {
            Request::Apply { transition, content, .. } if *content != Content::None => {
                self.count_file(transition.to.as_ref());
                self.counters.copied_files += u64::from(matches!(content, Content::Copy { .. }));
            }
            Request::Data { id, block } => {
                let copied = copied_bytes(&block.ops);
                self.counters.delta_bytes += copied;
                if copied > 0 {
                    self.differing.insert(*id);
                }
                if block.last && self.differing.remove(id) {
                    self.counters.delta_files += 1;
                }
            }
            Request::Install { entries, .. } => {
                if !self.scanned {
                    self.counters.applied += entries.len() as u64;
                }
                for New { entry, body, .. } in entries {
                    self.count_file(Some(entry));
                    if let Body::Delta(ops) | Body::Past { ops, .. } = body {
                        self.counters.delta_files += 1;
                        self.counters.delta_bytes += copied_bytes(ops);
                    }
                }
            }
            // Whose bytes are kept is told by who is to read them, which is asked before.
            Request::Read { id, .. } => {
                if self.readers.len() == MAX_READERS {
                    self.readers.clear();
                }
                self.readers.insert(*id, side);
            }
            Request::Keep { id, path, .. } => {
                let loser = self.readers.remove(&read_id(*id)).unwrap_or(Side::Remote);
                self.losers.insert(path.clone(), loser);
            }
            _ => {}
        }
    }

    fn count_file(&mut self, entry: Option<&Entry>) {
        if let Some(Entry::File(file)) = entry {
            self.counters.files += 1;
            self.counters.bytes += file.size;
        }
    }

    /// Takes note of what happened. What can't be written down is only missing from what people are told later.
    pub(crate) fn happened(&mut self, state: &Path, event: &SyncEvent) {
        match event {
            SyncEvent::Scanned => self.scanned = true,
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

/// Returns the id of the question for the content that a request with this id needs.
fn read_id(id: RequestId) -> RequestId {
    id | 1
}

/// Returns how many bytes the receiver takes from what it has.
fn copied_bytes(ops: &[DeltaOp]) -> u64 {
    let copied = ops.iter().map(|op| match op {
        DeltaOp::Copy { length, .. } => *length,
        DeltaOp::Literal(_) => 0,
    });
    copied.sum()
}

#[cfg(test)]
mod tests {
    use towline_sync_core::message::{Basis, Block};
    use towline_sync_core::snapshot::{File, Hash};

    use super::*;

    #[test]
    fn who_reads_what_is_kept_has_lost() {
        let path = RelPath::new("a").unwrap();
        let file = File { hash: Hash([1; 32]), size: 1, executable: false };
        let keep = Request::Keep { id: 2, path: path.clone(), file };
        let read = Request::Read { id: 3, path: path.clone(), expect: file, basis: Basis::None };
        for side in Side::BOTH {
            let mut ledger = Ledger::default();
            let mut asked = |side: Side, request: &Request| {
                let mut batches = [Vec::new(), Vec::new()];
                batches[side as usize].push(request.clone());
                ledger.asked(&batches);
            };
            asked(side, &read);
            asked(Side::Local, &keep);
            assert_eq!(ledger.losers.get(&path), Some(&side));
            assert!(ledger.readers.is_empty());
        }
    }

    #[test]
    fn what_was_not_sent_is_counted_once_a_file() {
        let mut ledger = Ledger::default();
        let copy = |length| DeltaOp::Copy { offset: 0, length };
        for (id, ops, last) in [
            (2, vec![copy(10), DeltaOp::Literal(vec![1])], false),
            (4, vec![DeltaOp::Literal(vec![1, 2])], true),
            (2, vec![copy(5)], true),
        ] {
            ledger.asked(&[Vec::new(), vec![Request::Data { id, block: Block { ops, last } }]]);
        }
        assert_eq!(ledger.counters(), Counters { delta_files: 1, delta_bytes: 15, ..Counters::default() });
        assert!(ledger.differing.is_empty());
    }
}
