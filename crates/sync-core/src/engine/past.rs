//! What a side displaced, which should still be in its trash: a content that comes back, or goes on under another name,
//! need not be sent again. Programs save a file by making it anew, too: the difference to what stood at the path is less
//! than the file.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::path::RelPath;
use crate::snapshot::{Entry, File, Hash, Transition};

/// The most files, and the most contents, remembered: what is older is sent whole.
const MAX_FILES: usize = 8 * 1024;

/// Files that one side displaced.
#[derive(Debug, Default)]
pub(super) struct Past {
    /// Those that were deleted or emptied, by path.
    files: BTreeMap<RelPath, File>,
    order: VecDeque<RelPath>,
    contents: BTreeSet<Hash>,
    oldest: VecDeque<Hash>,
}

impl Past {
    /// Takes note of a step that was made.
    pub(super) fn made(&mut self, step: &Transition) {
        if let Some(Entry::File(from)) = &step.from
            && from.size > 0
            && step.to.as_ref().and_then(Entry::hash) != Some(from.hash)
        {
            self.displaced(from.hash);
        }
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

    fn displaced(&mut self, content: Hash) {
        if self.contents.insert(content) {
            self.oldest.push_back(content);
        }
        if self.oldest.len() > MAX_FILES
            && let Some(oldest) = self.oldest.pop_front()
        {
            self.contents.remove(&oldest);
        }
    }

    /// Tells whether a content was displaced.
    pub(super) fn has(&self, content: Hash) -> bool {
        self.contents.contains(&content)
    }

    /// Returns the file that stood at a path.
    pub(super) fn at(&self, path: &RelPath) -> Option<File> {
        self.files.get(path).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn a_displaced_content_is_remembered_until_there_are_more() {
        let mut past = Past::default();
        let has = |past: &Past, size: u64| past.has(Hash::of(&size.to_le_bytes()));
        past.made(&step("a", 3, None));
        past.made(&step("b", 4, Some(5)));
        past.made(&step("c", 6, Some(6)));
        past.made(&step("d", 0, None));
        assert_eq!([3, 4, 5, 6, 0].map(|size| has(&past, size)), [true, true, false, false, false]);
        for size in 0..MAX_FILES as u64 {
            past.made(&step("e", 100 + size, None));
        }
        assert!(!has(&past, 3) && !has(&past, 4) && has(&past, 100));
        assert_eq!((past.contents.len(), past.oldest.len()), (MAX_FILES, MAX_FILES));
    }
}
