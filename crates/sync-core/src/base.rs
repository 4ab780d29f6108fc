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
