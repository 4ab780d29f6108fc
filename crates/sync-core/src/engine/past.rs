//! What stood at a path before it was deleted or emptied: programs save a file by making it anew, and the difference to
//! what is in the other side's trash is less than the file.

use std::collections::{BTreeMap, VecDeque};

use crate::path::RelPath;
use crate::snapshot::{Entry, File, Transition};

/// The most files remembered: what is older is sent whole.
const MAX_FILES: usize = 16 * 1024;

/// Files that one side displaced, by path.
#[derive(Debug, Default)]
pub(super) struct Past {
    files: BTreeMap<RelPath, File>,
    order: VecDeque<RelPath>,
}

impl Past {
    /// Takes note of a step that was made.
    pub(super) fn made(&mut self, step: &Transition) {
        let is_gone = match &step.to {
            None => true,
            Some(Entry::File(to)) => to.size == 0,
            Some(_) => false,
        };
        match &step.from {
            Some(Entry::File(from)) if is_gone && from.size > 0 => {
                if self.files.insert(step.path.clone(), *from).is_none() {
                    self.order.push_back(step.path.clone());
                }
            }
            _ if is_gone => {}
            // Its place in the order stays: it may be forgotten too early.
            _ => drop(self.files.remove(&step.path)),
        }
        while self.order.len() > MAX_FILES {
            let Some(oldest) = self.order.pop_front() else { break };
            self.files.remove(&oldest);
        }
    }

    /// Returns the file that stood at a path.
    pub(super) fn at(&self, path: &RelPath) -> Option<File> {
        self.files.get(path).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::Hash;

    fn step(at: &str, from: u64, to: Option<u64>) -> Transition {
        let file =
            |size: u64| Entry::File(File { hash: Hash::of(&size.to_le_bytes()), size, executable: false });
        Transition { path: RelPath::new(at).unwrap(), from: Some(file(from)), to: to.map(file) }
    }

    #[test]
    fn what_was_deleted_or_emptied_is_remembered_until_there_is_more() {
        let mut past = Past::default();
        let size = |past: &Past, at: &str| past.at(&RelPath::new(at).unwrap()).map(|file| file.size);
        past.made(&step("a", 3, None));
        past.made(&step("b", 4, Some(0)));
        past.made(&step("c", 5, Some(6)));
        past.made(&step("d", 0, None));
        assert_eq!(["a", "b", "c", "d"].map(|at| size(&past, at)), [Some(3), Some(4), None, None]);
        past.made(&step("b", 0, None));
        assert_eq!(size(&past, "b"), Some(4));
        past.made(&step("b", 0, Some(7)));
        assert_eq!(size(&past, "b"), None);
        for number in 0..=MAX_FILES {
            past.made(&step(&format!("{number}"), 1, None));
        }
        assert_eq!(size(&past, "a"), None);
        assert!(past.files.len() <= MAX_FILES && past.order.len() <= MAX_FILES);
    }
}
