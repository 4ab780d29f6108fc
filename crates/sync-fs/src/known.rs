//! What the engine has been told stands on the disk, and the stat by which an unchanged file is known unread.

use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use towline_sync_core::path::RelPath;
use towline_sync_core::snapshot::{Entry, File, Hash};

use self::chunk::{Draft, Place};
use crate::disk::{Identity, Stat, Timestamp};

pub(crate) mod chunk;

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
    /// of the time stamps in it. A folder's tells nothing anyway: folders are listed.
    pub(crate) racy: bool,
}

impl Seen {
    /// Makes the record of a file that was looked at from `taken` on.
    pub(crate) fn new(entry: Entry, stat: Stat, taken: Timestamp) -> Self {
        let racy = entry != Entry::Directory && is_recent(&stat, taken);
        Self { entry, stat, racy }
    }

    /// Makes the record of a file of ours, which nobody could write to before it had the modification time `stamp`.
    pub(crate) fn stamped(entry: Entry, stat: Stat, stamp: Timestamp, taken: Timestamp) -> Self {
        let mut seen = Self::new(entry, stat, taken);
        seen.racy &= !is_distinct(&stat, stamp, taken);
        seen
    }

    /// Tells whether these are the same folder, whatever was done in it meanwhile.
    pub(crate) fn is_same_folder(&self, other: &Self) -> bool {
        let identity = |seen: &Self| (seen.stat.identity, seen.stat.born, seen.stat.mode);
        [self, other].iter().all(|seen| seen.entry == Entry::Directory) && identity(self) == identity(other)
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
///
/// It is kept in chunks of few bytes: of a tree of half a million files an agent has to know every one. A copy shares
/// them, and so does what one session knew with what the next one finds.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// In the order of paths; none is empty.
    chunks: Vec<Arc<[u8]>>,
    open: Open,
    len: usize,
    changed: bool,
}

/// The chunk that is being changed.
#[derive(Debug, Default)]
struct Open {
    /// Which one; what stands there in `chunks` is what it was, and as good to find it by.
    index: Option<usize>,
    draft: Draft,
}

/// Which of the entries something is: the number of its chunk, and its number in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position(u32, u8);

/// Some of the entries of a [`Known`].
#[derive(Debug)]
pub(crate) struct Positions(Vec<u64>);

impl Known {
    pub(crate) fn get(&self, path: &RelPath) -> Option<Seen> {
        let path = path.as_str().as_bytes();
        let bytes = self.bytes(self.chunk_of(path)?);
        let found = chunk::seek(bytes, &mut Place::START.clone(), path)?;
        chunk::seen(bytes, found.record)
    }

    pub(crate) fn contains(&self, path: &RelPath) -> bool {
        let path = path.as_str().as_bytes();
        let index = self.chunk_of(path);
        index.is_some_and(|index| chunk::seek(self.bytes(index), &mut Place::START.clone(), path).is_some())
    }

    pub(crate) fn insert(&mut self, path: &RelPath, seen: &Seen) {
        self.changed = true;
        let path = path.as_str().as_bytes();
        let Some(index) = self.chunk_of(path) else {
            let mut draft = Draft::default();
            draft.insert(path, seen);
            self.chunks.push(draft.bytes.into());
            self.len = 1;
            return;
        };
        let draft = self.open(index);
        let is_new = draft.insert(path, seen);
        let rest = draft.is_too_long().then(|| draft.cut());
        self.len += usize::from(is_new);
        if let Some(rest) = rest {
            self.close();
            self.chunks.insert(index + 1, rest.into());
        }
    }

    pub(crate) fn remove(&mut self, path: &RelPath) -> Option<Seen> {
        self.changed = true;
        let path = path.as_str().as_bytes();
        let index = self.chunk_of(path)?;
        let draft = self.open(index);
        let removed = draft.remove(path)?;
        self.len -= 1;
        if chunk::count(&self.open.draft.bytes) == 0 {
            self.close();
        }
        Some(removed)
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Begins to go through everything, in the order of paths.
    pub(crate) fn walk(&self) -> Walk<'_> {
        Walk { known: self, index: 0, place: Place::START, path: Vec::new() }
    }

    /// Begins to go through what follows the first `count` entries.
    pub(crate) fn walk_at(&self, count: usize) -> Walk<'_> {
        let (mut index, mut rest) = (0, count);
        while index < self.chunks.len() {
            let here = chunk::count(self.bytes(index));
            if rest < here {
                break;
            }
            (index, rest) = (index + 1, rest - here);
        }
        let mut walk = Walk { index, ..self.walk() };
        for _ in 0..rest {
            walk.next();
        }
        walk
    }

    /// Begins to go through what comes at `path` and after it.
    fn walk_from(&self, path: &[u8]) -> Walk<'_> {
        let index = self.chunk_of(path).unwrap_or(0);
        let mut place = Place::START;
        if index < self.chunks.len() {
            chunk::seek(self.bytes(index), &mut place, path);
        }
        // The next one shares no more with the one before it.
        Walk { known: self, index, place, path: path[..place.matched].to_vec() }
    }

    /// Returns everything, in the order of paths.
    #[cfg(test)]
    pub(crate) fn iter(&self) -> impl Iterator<Item = (RelPath, Seen)> {
        let mut walk = self.walk();
        std::iter::from_fn(move || walk.next().map(|at| (at.rel_path().unwrap(), at.seen().unwrap())))
    }

    /// Returns the hashes of all files.
    pub(crate) fn hashes(&self) -> impl Iterator<Item = Hash> {
        let mut walk = self.walk();
        std::iter::from_fn(move || {
            loop {
                if let Some(hash) = walk.next()?.seen().and_then(|seen| seen.hash()) {
                    return Some(hash);
                }
            }
        })
    }

    /// Tells whether something has changed since this was asked the last time.
    pub(crate) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    pub(crate) fn is_changed(&self) -> bool {
        self.changed
    }

    /// Returns every path at or below `path`, parents first; `None` is the root.
    pub(crate) fn at_or_below(&self, path: Option<&RelPath>) -> Vec<RelPath> {
        let mut paths = Vec::new();
        let Some(path) = path else {
            let mut walk = self.walk();
            while let Some(at) = walk.next() {
                paths.extend(at.rel_path());
            }
            return paths;
        };
        if self.contains(path) {
            paths.push(path.clone());
        }
        // Between `a` and `a/b` sorts `a-b`. What is below begins with `a/`, and that is one run.
        let below = format!("{path}/");
        let mut walk = self.walk_from(below.as_bytes());
        while let Some(at) = walk.next().filter(|at| at.path.starts_with(below.as_bytes())) {
            paths.extend(at.rel_path());
        }
        paths
    }

    /// Begins to look for one path after the other; quick where they come in order.
    pub(crate) fn cursor(&self) -> Cursor<'_> {
        Cursor { known: self, index: None, place: Place::START, last: Vec::new() }
    }

    /// Returns no positions.
    pub(crate) fn positions(&self) -> Positions {
        Positions(vec![0; self.chunks.len()])
    }

    /// Returns what is at none of these positions.
    pub(crate) fn others(&self, positions: &Positions) -> Vec<RelPath> {
        let mut paths = Vec::new();
        for (index, bits) in positions.0.iter().enumerate() {
            let count = chunk::count(self.bytes(index));
            if bits.count_ones() as usize == count {
                continue;
            }
            let mut walk = Walk { index, ..self.walk() };
            for number in 0..count {
                let at = walk.next();
                if bits & 1 << number == 0 {
                    paths.extend(at.and_then(|at| at.rel_path()));
                }
            }
        }
        paths
    }

    /// Adds a chunk that was [written down](Self::write_down); tells whether it is one, and its paths come after
    /// `last`, which is the last of them from then on.
    pub(crate) fn push_chunk(&mut self, bytes: &[u8], last: &mut Vec<u8>) -> bool {
        let one = Self { chunks: vec![bytes.into()], ..Self::default() };
        let mut walk = one.walk();
        let mut count = 0;
        while let Some(at) = walk.next() {
            let is_sound = at.text().is_some() && at.seen().is_some_and(|seen| !seen.racy);
            if !is_sound || at.path <= &last[..] {
                return false;
            }
            last.clear();
            last.extend_from_slice(at.path);
            count += 1;
        }
        let is_whole = walk.place.at == bytes.len() && count == chunk::count(bytes);
        if !is_whole || !(1..=chunk::MAX_ENTRIES).contains(&count) {
            return false;
        }
        self.chunks.extend(one.chunks);
        self.len += count;
        true
    }

    /// Hands over the files and folders, chunk by chunk, of which `keep` says that they may be believed again.
    pub(crate) fn write_down(
        &self,
        keep: &mut dyn FnMut(&RelPath, &Seen) -> bool,
        write: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut draft = Draft::default();
        for index in 0..self.chunks.len() {
            let bytes = self.bytes(index);
            if chunk::is_lasting(bytes) {
                write(bytes)?;
                continue;
            }
            draft.load(&[]);
            let mut walk = Walk { index, ..self.walk() };
            for _ in 0..chunk::count(bytes) {
                let Some(at) = walk.next() else { break };
                let (Some(path), Some(mut seen)) = (at.rel_path(), at.seen()) else { continue };
                if matches!(seen.entry, Entry::File(_) | Entry::Directory) && keep(&path, &seen) {
                    seen.racy = false;
                    draft.insert(at.path, &seen);
                }
            }
            if (1..=chunk::LONGEST_BYTES).contains(&draft.bytes.len()) {
                write(&draft.bytes)?;
            }
        }
        Ok(())
    }

    /// Keeps what is at these positions, and takes over what is new.
    pub(crate) fn update(&mut self, kept: &Positions, fresh: Self) {
        if kept.is_empty() {
            *self = Self { changed: true, ..fresh };
            return;
        }
        let others = self.others(kept);
        let mut is_news = self.changed || !others.is_empty();
        for path in others.iter().filter(|path| !fresh.contains(path)) {
            self.remove(path);
        }
        let mut walk = fresh.walk();
        while let Some(at) = walk.next() {
            if let (Some(path), Some(seen)) = (at.rel_path(), at.seen()) {
                is_news |= matches!(seen.entry, Entry::File(_) | Entry::Directory);
                self.insert(&path, &seen);
            }
        }
        self.changed = is_news;
    }

    /// Returns the bytes of a chunk.
    fn bytes(&self, index: usize) -> &[u8] {
        if self.open.index == Some(index) { &self.open.draft.bytes } else { &self.chunks[index] }
    }

    /// Returns which chunk holds a path if any does; `None` where there is none at all.
    fn chunk_of(&self, path: &[u8]) -> Option<usize> {
        let begins = |index: usize| self.chunks.get(index).map(|bytes| chunk::first(bytes));
        // What is changed is most often looked for where something has just changed.
        if let Some(index) = self.open.index
            && begins(index).is_some_and(|first| first <= path)
            && begins(index + 1).is_none_or(|first| path < first)
        {
            return Some(index);
        }
        let after = self.chunks.partition_point(|bytes| chunk::first(bytes) <= path);
        (!self.chunks.is_empty()).then(|| after.saturating_sub(1))
    }

    /// Makes a chunk the one that is changed.
    fn open(&mut self, index: usize) -> &mut Draft {
        if self.open.index != Some(index) {
            self.close();
            self.open.draft.load(&self.chunks[index]);
            self.open.index = Some(index);
        }
        &mut self.open.draft
    }

    /// Puts the chunk that was changed in its place.
    fn close(&mut self) {
        let Some(index) = self.open.index.take() else { return };
        let bytes = &self.open.draft.bytes;
        if chunk::count(bytes) == 0 {
            self.chunks.remove(index);
        } else if **bytes != *self.chunks[index] {
            self.chunks[index] = bytes.as_slice().into();
        }
    }
}

impl Positions {
    pub(crate) fn insert(&mut self, position: Position) {
        let Position(chunk, number) = position;
        if let Some(bits) = self.0.get_mut(chunk as usize) {
            *bits |= 1 << number;
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.iter().all(|bits| *bits == 0)
    }
}

/// A way through everything, in the order of paths.
#[derive(Debug)]
pub(crate) struct Walk<'a> {
    known: &'a Known,
    index: usize,
    place: Place,
    /// Of the entry before `place`.
    path: Vec<u8>,
}

/// An entry on the way.
#[derive(Debug)]
pub(crate) struct At<'w> {
    pub(crate) path: &'w [u8],
    chunk: &'w [u8],
    record: Range<usize>,
}

impl At<'_> {
    pub(crate) fn rel_path(&self) -> Option<RelPath> {
        RelPath::new(self.text()?).ok()
    }

    pub(crate) fn text(&self) -> Option<&str> {
        std::str::from_utf8(self.path).ok()
    }

    pub(crate) fn seen(&self) -> Option<Seen> {
        chunk::seen(self.chunk, self.record.clone())
    }
}

impl Walk<'_> {
    /// Returns the next entry.
    pub(crate) fn next(&mut self) -> Option<At<'_>> {
        loop {
            if self.index >= self.known.chunks.len() {
                return None;
            }
            let bytes = self.known.bytes(self.index);
            if let Some(raw) = chunk::raw(bytes, self.place.at) {
                self.path.truncate(raw.shared);
                self.path.extend_from_slice(&bytes[raw.rest]);
                self.place.at = raw.record.end;
                return Some(At { path: &self.path, chunk: bytes, record: raw.record });
            }
            if self.index + 1 == self.known.chunks.len() {
                return None;
            }
            (self.index, self.place) = (self.index + 1, Place::START);
        }
    }
}

/// Looks for one path after the other.
#[derive(Debug)]
pub(crate) struct Cursor<'a> {
    known: &'a Known,
    /// Where the last one was looked for.
    index: Option<usize>,
    place: Place,
    last: Vec<u8>,
}

impl Cursor<'_> {
    /// Returns what is known at the path of this text, and where that is.
    pub(crate) fn find(&mut self, path: &str) -> Option<(Position, Seen)> {
        let path = path.as_bytes();
        let common = chunk::common(&self.last, path);
        let is_after = self.last.get(common) < path.get(common);
        let here = self.index.filter(|index| {
            let next = self.known.chunks.get(index + 1);
            is_after && next.is_none_or(|next| path < chunk::first(next))
        });
        self.last.truncate(common);
        self.last.extend_from_slice(&path[common..]);
        if here.is_some() {
            self.place.matched = self.place.matched.min(common);
        } else {
            self.place = Place::START;
            self.index = self.known.chunk_of(path);
        }
        let index = self.index?;
        let bytes = self.known.bytes(index);
        let found = chunk::seek(bytes, &mut self.place, path)?;
        let position = Position(index.try_into().ok()?, self.place.index.try_into().ok()?);
        Some((position, chunk::seen(bytes, found.record)?))
    }
}

/// Files that have just left their path: where the same one stands elsewhere, it need not be read again.
#[derive(Debug, Default)]
pub(crate) struct Departed(HashMap<Identity, Seen>);

impl Departed {
    pub(crate) fn insert(&mut self, seen: Seen) {
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

#[cfg(test)]
mod tests;
