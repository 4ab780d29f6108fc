//! The base: what both sides last agreed on, and what they agreed to be rid of.

use std::collections::BTreeMap;

use crate::path::RelPath;
use crate::snapshot::Entry;

/// The most tombstones that are remembered; the oldest go first.
pub const MAX_TOMBSTONES: usize = 100_000;

/// The last state that both sides held, by path.
///
/// It may lag behind the truth (both sides then show the same change, which is no change), and must never lead: an
/// entry that one side never held would turn its absence into a deletion.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Base {
    epoch: Option<[u8; 16]>,
    entries: BTreeMap<RelPath, Entry>,
    tombstones: Tombstones,
    files: usize,
}

/// One step of the base; the journal is a row of these.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BaseDelta {
    /// Both sides hold `entry` at `path`, or neither holds anything. An entry ends the path's tombstone.
    Set {
        /// Where.
        path: RelPath,
        /// What both have there.
        entry: Option<Entry>,
    },
    /// The path was deleted by agreement: if a remote that began anew has it, it goes there again.
    Tombstone {
        /// Where.
        path: RelPath,
    },
    /// The remote's folder is another one than before: every entry is forgotten, tombstones stay.
    Forget,
    /// The remote's folder is the one with this token.
    Epoch([u8; 16]),
}

impl Base {
    /// Returns the token of the remote folder that the entries speak of.
    pub fn epoch(&self) -> Option<[u8; 16]> {
        self.epoch
    }

    /// Returns what both sides held, by path.
    pub fn entries(&self) -> &BTreeMap<RelPath, Entry> {
        &self.entries
    }

    /// Returns how many of the entries are files or links.
    pub fn files(&self) -> usize {
        self.files
    }

    /// Tells whether the path was deleted by agreement and not made anew since.
    pub fn is_tombstoned(&self, path: &RelPath) -> bool {
        self.tombstones.by_path.contains_key(path)
    }

    /// Returns the tombstones, oldest first.
    pub fn tombstones(&self) -> impl Iterator<Item = &RelPath> {
        self.tombstones.by_age.values()
    }

    /// Returns what a snapshot holds; the tombstones come oldest first.
    pub(crate) fn from_parts(
        epoch: Option<[u8; 16]>,
        entries: Vec<(RelPath, Entry)>,
        tombstones: &[RelPath],
    ) -> Self {
        let mut base = Self { epoch, entries: entries.into_iter().collect(), ..Self::default() };
        base.files = base.entries.values().filter(|entry| entry.is_leaf()).count();
        for path in tombstones {
            base.tombstones.insert(path);
        }
        base
    }

    /// Takes what both sides were found to hold, in the order of paths, and returns the steps.
    pub(crate) fn agree_all(&mut self, agreed: Vec<(RelPath, Option<Entry>)>) -> Vec<BaseDelta> {
        let mut deltas = Vec::with_capacity(agreed.len());
        let mut fresh = Vec::new();
        for (path, entry) in agreed {
            if let Some(entry) = entry.as_ref().filter(|_| !self.entries.contains_key(&path)) {
                self.tombstones.remove(&path);
                self.files += usize::from(entry.is_leaf());
                fresh.push((path.clone(), entry.clone()));
                deltas.push(BaseDelta::Set { path, entry: Some(entry.clone()) });
                continue;
            }
            let tombstone = entry.is_none().then(|| BaseDelta::Tombstone { path: path.clone() });
            for delta in [BaseDelta::Set { path, entry }].into_iter().chain(tombstone) {
                self.apply(&delta);
                deltas.push(delta);
            }
        }
        // Two rows of paths are merged, and no place is looked for.
        self.entries.append(&mut fresh.into_iter().collect());
        deltas
    }

    /// Takes one step.
    pub fn apply(&mut self, delta: &BaseDelta) {
        match delta {
            BaseDelta::Set { path, entry } => {
                let old = match entry {
                    Some(entry) => {
                        self.tombstones.remove(path);
                        self.files += usize::from(entry.is_leaf());
                        self.entries.insert(path.clone(), entry.clone())
                    }
                    None => self.entries.remove(path),
                };
                self.files -= usize::from(old.as_ref().is_some_and(Entry::is_leaf));
            }
            BaseDelta::Tombstone { path } => self.tombstones.insert(path),
            BaseDelta::Forget => {
                self.entries.clear();
                self.files = 0;
                self.epoch = None;
            }
            BaseDelta::Epoch(epoch) => self.epoch = Some(*epoch),
        }
    }
}

/// Paths by age, bounded.
#[derive(Debug, Clone, Default)]
struct Tombstones {
    by_age: BTreeMap<u64, RelPath>,
    by_path: BTreeMap<RelPath, u64>,
    next: u64,
}

impl Tombstones {
    fn insert(&mut self, path: &RelPath) {
        self.remove(path);
        self.by_age.insert(self.next, path.clone());
        self.by_path.insert(path.clone(), self.next);
        self.next += 1;
        if self.by_age.len() > MAX_TOMBSTONES
            && let Some((_, oldest)) = self.by_age.pop_first()
        {
            self.by_path.remove(&oldest);
        }
    }

    fn remove(&mut self, path: &RelPath) {
        if let Some(age) = self.by_path.remove(path) {
            self.by_age.remove(&age);
        }
    }
}

impl PartialEq for Tombstones {
    fn eq(&self, other: &Self) -> bool {
        self.by_age.values().eq(other.by_age.values())
    }
}

impl Eq for Tombstones {}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(path: &str) -> RelPath {
        RelPath::new(path).unwrap()
    }

    fn set(at: &str, entry: Option<Entry>) -> BaseDelta {
        BaseDelta::Set { path: path(at), entry }
    }

    #[test]
    fn all_at_once_is_one_after_the_other() {
        let mut base = Base::default();
        for at in ["a", "c", "e", "gone"] {
            base.apply(&set(at, Some(link())));
        }
        base.apply(&BaseDelta::Tombstone { path: path("b") });
        let agreed = vec![
            (path("a"), Some(Entry::Directory)),
            (path("b"), Some(link())),
            (path("b/c"), Some(Entry::Directory)),
            (path("gone"), None),
            (path("z"), Some(link())),
        ];
        let mut stepwise = base.clone();
        let deltas = base.agree_all(agreed);
        for delta in &deltas {
            stepwise.apply(delta);
        }
        assert_eq!(base, stepwise);
        assert_eq!((deltas.len(), base.files(), base.entries().len()), (6, 4, 6));
        assert!(base.is_tombstoned(&path("gone")) && !base.is_tombstoned(&path("b")));
    }

    fn link() -> Entry {
        Entry::Symlink { target: "x".into() }
    }

    #[test]
    fn files_are_counted_and_folders_are_not() {
        let mut base = Base::default();
        for (delta, files) in [
            (set("d", Some(Entry::Directory)), 0),
            (set("d/a", Some(link())), 1),
            (set("d/a", Some(link())), 1),
            (set("d/a", Some(Entry::Directory)), 0),
            (set("b", Some(link())), 1),
            (set("b", None), 0),
            (set("b", None), 0),
            (set("b", Some(link())), 1),
            (BaseDelta::Forget, 0),
        ] {
            base.apply(&delta);
            assert_eq!(base.files(), files, "{delta:?}");
        }
    }

    #[test]
    fn a_tombstone_ends_when_the_path_is_made_anew() {
        let mut base = Base::default();
        base.apply(&BaseDelta::Tombstone { path: path("a") });
        base.apply(&set("a", None));
        base.apply(&BaseDelta::Forget);
        assert!(base.is_tombstoned(&path("a")));
        base.apply(&set("a", Some(link())));
        assert!(!base.is_tombstoned(&path("a")));
    }

    #[test]
    fn the_oldest_tombstones_go_first() {
        let mut base = Base::default();
        for n in 0..MAX_TOMBSTONES {
            base.apply(&BaseDelta::Tombstone { path: path(&n.to_string()) });
        }
        base.apply(&BaseDelta::Tombstone { path: path("0") });
        base.apply(&BaseDelta::Tombstone { path: path("new") });
        assert_eq!(base.tombstones().count(), MAX_TOMBSTONES);
        assert!(base.is_tombstoned(&path("0")) && base.is_tombstoned(&path("new")));
        assert!(!base.is_tombstoned(&path("1")));
    }
}
