//! Operations that wait to begin on one side, in the order in which they should.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};

use crate::path::RelPath;
use crate::snapshot::{File, Transition};

/// What is to be done at one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Operation {
    /// The bytes that stand there are kept aside, on the local side.
    Keep(File),
    /// What stands there is replaced.
    Apply(Transition),
}

/// When an operation comes up; the order of variants is the order of work.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Turn {
    /// Folders before what is in them, small files, copies.
    Small(RelPath),
    /// What is in a folder before the folder.
    Delete(Reverse<RelPath>),
    /// A folder becomes something else, after what was in it is gone.
    Replace(RelPath),
    /// Large files, the smallest first.
    Bulk(u64, RelPath),
}

impl Turn {
    pub(super) fn is_bulk(&self) -> bool {
        matches!(self, Self::Bulk(..))
    }
}

/// An operation and the content it moves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Queued {
    pub(super) path: RelPath,
    pub(super) operation: Operation,
    /// Bytes of content that it takes.
    pub(super) bytes: u64,
}

impl Queued {
    /// Tells whether something goes and nothing takes its place.
    pub(super) fn is_deletion(&self) -> bool {
        matches!(self.operation, Operation::Apply(Transition { to: None, .. }))
    }
}

#[derive(Debug, Default)]
pub(super) struct Queue {
    by_turn: BTreeMap<Turn, Queued>,
    turns: HashMap<RelPath, Turn>,
    bytes: u64,
}

impl Queue {
    pub(super) fn insert(&mut self, turn: Turn, queued: Queued) {
        self.remove(&queued.path);
        self.bytes += queued.bytes;
        self.turns.insert(queued.path.clone(), turn.clone());
        self.by_turn.insert(turn, queued);
    }

    pub(super) fn remove(&mut self, path: &RelPath) {
        if let Some(queued) = self.turns.remove(path).and_then(|turn| self.by_turn.remove(&turn)) {
            self.bytes -= queued.bytes;
        }
    }

    /// Returns the next small operation, or the next large one, and leaves it here.
    pub(super) fn peek(&self, bulk: bool) -> Option<&Queued> {
        if bulk {
            self.by_turn.last_key_value().filter(|(turn, _)| turn.is_bulk())?;
            // The first of the large ones: everything small sorts before the smallest possible of them.
            let lowest = RelPath::new("\u{1}").ok()?;
            self.by_turn.range(Turn::Bulk(0, lowest)..).next().map(|(_, queued)| queued)
        } else {
            self.by_turn.first_key_value().filter(|(turn, _)| !turn.is_bulk()).map(|(_, queued)| queued)
        }
    }

    /// Returns what is to be done at a path.
    pub(super) fn get(&self, path: &RelPath) -> Option<&Queued> {
        self.turns.get(path).and_then(|turn| self.by_turn.get(turn))
    }

    pub(super) fn len(&self) -> usize {
        self.by_turn.len()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }
}
