//! What the engine has been told stands on the disk, and the stat by which an unchanged file is known unread.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use towline_sync_core::path::RelPath;
use towline_sync_core::snapshot::{Entry, File, Hash};

use crate::disk::{Identity, Stat, Timestamp};

/// The coarsest time stamp of a file system in use (FAT), in seconds.
const GRANULARITY_SECONDS: i64 = 2;

/// Two ticks of the slowest clock of a kernel, by which it tells the time of a write, in nanoseconds.
const STAMP_AGE: u32 = 20_000_000;

/// The same for a disk of unknown granularity: twice the coarsest.
const COARSE_AGE: i64 = 2 * GRANULARITY_SECONDS * 1_000_000_000;

/// What was seen at one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) entry: Entry,
    pub(crate) stat: Stat,
    /// Whether the file could change once more without its stat telling: the stat was taken within the granularity
    /// of the time stamps in it.
    pub(crate) racy: bool,
}

impl Seen {
    /// Makes the record of a file that was looked at from `taken` on.
    pub(crate) fn new(entry: Entry, stat: Stat, taken: Timestamp) -> Self {
        Self { entry, stat, racy: is_recent(&stat, taken) }
    }

    /// Makes the record of a file of ours, which nobody could write to before it had the modification time `stamp`.
    pub(crate) fn stamped(entry: Entry, stat: Stat, stamp: Timestamp, taken: Timestamp) -> Self {
        let mut seen = Self::new(entry, stat, taken);
        seen.racy &= !is_distinct(&stat, stamp, taken);
        seen
    }

    /// Returns the hash, if this is a file.
    pub(crate) fn hash(&self) -> Option<Hash> {
        match &self.entry {
            Entry::File(File { hash, .. }) => Some(*hash),
            _ => None,
        }
    }
}

/// Returns the time of this machine's clock. It is compared with the time stamps of its own disk only.
pub(crate) fn now() -> Timestamp {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map(|since| (i64::try_from(since.as_secs()).unwrap_or(i64::MAX), since.subsec_nanos()))
        .unwrap_or_default()
}

/// Tells whether the file may have changed, or could still change, within the time stamps it had at `taken`.
pub(crate) fn is_recent(stat: &Stat, taken: Timestamp) -> bool {
    let floor = (taken.0.saturating_sub(GRANULARITY_SECONDS), taken.1);
    stat.modified.max(stat.changed) >= floor
}

/// Returns a modification time that no write from now on gives a file.
pub(crate) fn stamp() -> Timestamp {
    let (seconds, nanoseconds) = now();
    match nanoseconds.checked_sub(STAMP_AGE) {
        Some(nanoseconds) => (seconds, nanoseconds),
        None => (seconds - 1, nanoseconds + 1_000_000_000 - STAMP_AGE),
    }
}

/// Tells whether every later write gives the file another modification time than `stamp`, which we gave it: it was past
/// by then, further than the disk's time stamps are apart.
fn is_distinct(stat: &Stat, stamp: Timestamp, taken: Timestamp) -> bool {
    let nanoseconds = |of: Timestamp| of.0.saturating_mul(1_000_000_000).saturating_add(of.1.into());
    let age = nanoseconds(taken).saturating_sub(nanoseconds(stamp));
    // A disk that has kept nanoseconds keeps them.
    let apart = if stamp.1.is_multiple_of(1000) { COARSE_AGE } else { STAMP_AGE.into() };
    stat.modified == stamp && age >= apart
}

/// Everything that was reported, by path.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// Shared: what one session knew is for the most part what the next one finds.
    all: BTreeMap<RelPath, Arc<Seen>>,
    changed: bool,
}

impl Known {
    /// Takes over what was found, each path once, in any order.
    pub(crate) fn new(mut all: Vec<(RelPath, Arc<Seen>)>) -> Self {
        // Whole folders come in order.
        all.sort_by(|(one, _), (other, _)| one.cmp(other));
        Self { all: all.into_iter().collect(), changed: true }
    }

    pub(crate) fn get(&self, path: &RelPath) -> Option<&Seen> {
        self.all.get(path).map(|seen| &**seen)
    }

    /// Returns what is known by the text of its path.
    pub(crate) fn find(&self, path: &str) -> Option<(&RelPath, &Arc<Seen>)> {
        self.all.get_key_value(path)
    }

    pub(crate) fn insert(&mut self, path: RelPath, seen: impl Into<Arc<Seen>>) {
        self.changed = true;
        self.all.insert(path, seen.into());
    }

    pub(crate) fn remove(&mut self, path: &RelPath) -> Option<Arc<Seen>> {
        self.changed = true;
        self.all.remove(path)
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    /// Returns everything, in the order of paths.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&RelPath, &Seen)> {
        self.all.iter().map(|(path, seen)| (path, &**seen))
    }

    /// Tells whether something has changed since this was asked the last time.
    pub(crate) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// Takes note if all files are just what was remembered of them.
    pub(crate) fn compare(&mut self, remembered: &Self) {
        let files = || self.all.iter().filter(|(_, seen)| seen.hash().is_some());
        if self.changed && remembered.len() > 0 && files().eq(&remembered.all) {
            self.changed = false;
        }
    }

    pub(crate) fn is_changed(&self) -> bool {
        self.changed
    }

    /// Returns every path at or below `path`, parents first; `None` is the root.
    pub(crate) fn at_or_below(&self, path: Option<&RelPath>) -> Vec<RelPath> {
        at_or_below(&self.all, path)
    }
}

/// Files that have just left their path: where the same one stands elsewhere, it need not be read again.
#[derive(Debug, Default)]
pub(crate) struct Departed(HashMap<Identity, Arc<Seen>>);

impl Departed {
    pub(crate) fn insert(&mut self, seen: Arc<Seen>) {
        if seen.hash().is_some() {
            self.0.insert(seen.stat.identity, seen);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the hash of the file that now has `stat`, if it is one of these, unchanged.
    pub(crate) fn hash(&self, stat: &Stat) -> Option<Hash> {
        let seen = self.0.get(&stat.identity)?;
        (!seen.racy && stat.is_moved(&seen.stat)).then(|| seen.hash()).flatten()
    }
}

/// Returns the keys at or below `path`, parents first.
pub(crate) fn at_or_below<V>(map: &BTreeMap<RelPath, V>, path: Option<&RelPath>) -> Vec<RelPath> {
    let Some(path) = path else {
        return map.keys().cloned().collect();
    };
    // Between `a` and `a/b` sorts `a-b`. What is below begins with `a/`, and `0` follows `/`.
    let (first, end) = (format!("{path}/"), format!("{path}0"));
    let below = map.range::<str, _>((Bound::Included(first.as_str()), Bound::Excluded(end.as_str())));
    let itself = map.get_key_value(path).into_iter();
    itself.chain(below).map(|(key, _)| key.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_no_time_that_a_write_could_give() {
        let check = |stamp: Timestamp, modified: Timestamp, taken: Timestamp, expected: bool| {
            let stat = Stat { modified, ..Stat::UNKNOWN };
            assert_eq!(is_distinct(&stat, stamp, taken), expected, "{stamp:?} {modified:?} {taken:?}");
        };
        check((100, 7_654_321), (100, 7_654_321), (100, 57_654_321), true);
        // Right now, or later.
        check((100, 7_654_321), (100, 7_654_321), (100, 17_654_321), false);
        check((101, 7_654_321), (101, 7_654_321), (100, 17_654_321), false);
        // The disk keeps microseconds, or seconds.
        check((100, 7_654_321), (100, 7_654_000), (100, 57_654_321), false);
        check((100, 7_654_000), (100, 7_654_000), (100, 57_654_321), false);
        // However few it keeps, that was too long ago.
        check((100, 0), (100, 0), (104, 0), true);
        check((100, 0), (100, 0), (103, 999_999_999), false);
        check((100, 5_000), (98, 0), (104, 0), false);
        check((i64::MIN, 1), (i64::MIN, 1), (i64::MAX, 0), true);
        let stamp = stamp();
        check(stamp, stamp, now(), !stamp.1.is_multiple_of(1000));
    }

    #[test]
    fn subtrees_hold_no_siblings() {
        let paths = ["a", "a-b", "a/x", "a/x/y", "ab", "b"];
        let map: BTreeMap<RelPath, u8> = paths.iter().map(|path| (RelPath::new(*path).unwrap(), 0)).collect();
        let below = |path: &str| at_or_below(&map, Some(&RelPath::new(path).unwrap()));
        assert_eq!(below("a").iter().map(RelPath::as_str).collect::<Vec<_>>(), ["a", "a/x", "a/x/y"]);
        assert_eq!(below("a/x").iter().map(RelPath::as_str).collect::<Vec<_>>(), ["a/x", "a/x/y"]);
        assert!(below("c").is_empty());
        assert_eq!(at_or_below(&map, None).len(), 6);
    }
}
