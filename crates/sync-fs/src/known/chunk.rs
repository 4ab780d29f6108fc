//! Some entries in the order of their paths, in few bytes: what a path shares with the one before it is not repeated,
//! and a stat is kept as it differs from the first one's.
//!
//! A chunk is a head (how many entries there are, and what their stats are measured by) and its entries: the lengths of
//! what the path shares, of the rest of it and of the record, then the rest and the record. Lengths and differences are
//! numbers of 7 bits to a byte, the lowest first. Whatever the bytes are, reading them ends and panics nowhere.

use std::ops::Range;

use towline_sync_core::snapshot::{Entry, File, Hash, Opaque};

use super::Seen;
use crate::disk::{Identity, Kind, Stat, Timestamp};

/// The most entries in a chunk: a bit for each fits a word.
pub(crate) const MAX_ENTRIES: usize = 64;
/// A chunk of more bytes is cut, if it has more than one entry. With an allocator's own bytes it fills a page.
pub(crate) const MAX_BYTES: usize = 4040;
/// No entry makes a chunk longer: a path, a link's target, and what else there is.
pub(crate) const LONGEST_BYTES: usize = MAX_BYTES + 16 * 1024;

const HEAD_BYTES: usize = 1 + 3 * 8 + 2 * 4 + 8;

/// What a record begins with: how the rest of it is to be read.
mod flag {
    /// These two bits say of what kind it is.
    pub(super) const KIND: u8 = 0b11;
    /// Everything is written out.
    pub(super) const PLAIN: u8 = 0;
    pub(super) const DIRECTORY: u8 = 1;
    pub(super) const FILE: u8 = 2;
    pub(super) const SYMLINK: u8 = 3;
    pub(super) const RACY: u8 = 1 << 2;
    /// The mode is another than the first one's.
    pub(super) const MODE: u8 = 1 << 3;
    pub(super) const OWNER: u8 = 1 << 4;
    /// The time of birth is zero.
    pub(super) const UNBORN: u8 = 1 << 5;
    /// The modification time is measured by the first one's.
    pub(super) const MODIFIED: u8 = 1 << 6;
    pub(super) const DEVICE: u8 = 1 << 7;
}

/// What the stats of a chunk are measured by.
#[derive(Debug, Clone, Copy)]
struct Base {
    device: u64,
    inode: u64,
    /// In nanoseconds.
    changed: i64,
    modified: i64,
    mode: u32,
    owner: u32,
}

/// Where an entry is.
#[derive(Debug, Clone)]
pub(super) struct Raw {
    /// How much of the path before it the path begins with.
    pub(super) shared: usize,
    pub(super) rest: Range<usize>,
    pub(super) record: Range<usize>,
}

/// A place among the entries: those before it have smaller paths than what is looked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// How many entries are before it.
    pub(super) index: usize,
    /// Where the next one begins.
    pub(super) at: usize,
    /// How much of what is looked for the path before it begins with.
    pub(super) matched: usize,
}

impl Place {
    pub(super) const START: Self = Self { index: 0, at: HEAD_BYTES, matched: 0 };
}

/// Returns how many entries there are.
pub(super) fn count(bytes: &[u8]) -> usize {
    bytes.first().copied().unwrap_or(0).into()
}

/// Returns the entry that begins at `at`.
pub(super) fn raw(bytes: &[u8], at: usize) -> Option<Raw> {
    let (lengths, start) = match bytes.get(at..)? {
        [shared @ ..0x80, rest @ ..0x80, record @ ..0x80, ..] => {
            ([*shared, *rest, *record].map(usize::from), at + 3)
        }
        more => {
            let mut reader = Reader(more);
            let lengths = [reader.length()?, reader.length()?, reader.length()?];
            (lengths, bytes.len() - reader.0.len())
        }
    };
    let [shared, rest, record] = lengths;
    let rest = start..start.checked_add(rest)?;
    let record = rest.end..rest.end.checked_add(record)?;
    (record.end <= bytes.len()).then_some(Raw { shared, rest, record })
}

/// Returns the path of the first entry.
pub(super) fn first(bytes: &[u8]) -> &[u8] {
    raw(bytes, HEAD_BYTES).map_or(&[], |first| &bytes[first.rest])
}

/// Goes on from `place` to where `path` is or would be; returns the entry if it is there.
pub(super) fn seek(bytes: &[u8], place: &mut Place, path: &[u8]) -> Option<Raw> {
    while let Some(raw) = raw(bytes, place.at) {
        if raw.shared < place.matched {
            return None;
        }
        if raw.shared == place.matched {
            let rest = &bytes[raw.rest.clone()];
            let wanted = path.get(place.matched..)?;
            let common = common(rest, wanted);
            match (rest.get(common), wanted.get(common)) {
                (None, None) => return Some(raw),
                (None, Some(_)) => {}
                (Some(there), Some(wanted)) if there < wanted => {}
                _ => return None,
            }
            place.matched += common;
        }
        place.index += 1;
        place.at = raw.record.end;
    }
    None
}

/// Returns how many bytes two texts have in common.
pub(super) fn common(one: &[u8], other: &[u8]) -> usize {
    let words = one.as_chunks::<8>().0.iter().zip(other.as_chunks::<8>().0);
    let same = 8 * words.take_while(|(one, other)| one == other).count();
    same + one[same..].iter().zip(&other[same..]).take_while(|(one, other)| one == other).count()
}

/// Returns what a record says, in a chunk of these bytes.
pub(super) fn seen(bytes: &[u8], record: Range<usize>) -> Option<Seen> {
    let base = Base::read(bytes)?;
    let mut reader = Reader(bytes.get(record)?);
    let flags = reader.byte()?;
    let racy = flags & flag::RACY != 0;
    if flags & flag::KIND == flag::PLAIN {
        return reader.plain(racy).filter(|_| reader.0.is_empty());
    }
    let mut stat = Stat {
        identity: Identity {
            device: base.device,
            inode: base.inode.wrapping_add_signed(reader.difference()?),
        },
        ..Stat::UNKNOWN
    };
    stat.size = reader.number()?;
    let changed = base.changed.wrapping_add(reader.difference()?);
    let from = if flags & flag::MODIFIED != 0 { base.modified } else { changed };
    stat.changed = timestamp(changed);
    stat.modified = timestamp(from.wrapping_add(reader.difference()?));
    if flags & flag::UNBORN == 0 {
        stat.born = timestamp(changed.wrapping_add(reader.difference()?));
    }
    stat.mode = if flags & flag::MODE != 0 { reader.number32()? } else { base.mode };
    stat.owner = if flags & flag::OWNER != 0 { reader.number32()? } else { base.owner };
    if flags & flag::DEVICE != 0 {
        stat.identity.device = reader.number()?;
    }
    let entry = match flags & flag::KIND {
        flag::FILE => {
            stat.kind = Kind::File;
            let hash = Hash(reader.array()?);
            Entry::File(File { hash, size: stat.size, executable: stat.is_executable() })
        }
        flag::SYMLINK => {
            stat.kind = Kind::Symlink;
            Entry::Symlink { target: std::str::from_utf8(std::mem::take(&mut reader.0)).ok()?.to_owned() }
        }
        _ => {
            stat.kind = Kind::Directory;
            Entry::Directory
        }
    };
    reader.0.is_empty().then_some(Seen { entry, stat, racy })
}

/// Tells whether there are only files and folders that are not racy: what is told again as it is.
pub(super) fn is_lasting(bytes: &[u8]) -> bool {
    let mut at = Place::START.at;
    while let Some(raw) = raw(bytes, at) {
        let flags = bytes[raw.record.clone()].first().copied().unwrap_or(flag::PLAIN);
        if flags & flag::RACY != 0 || !matches!(flags & flag::KIND, flag::FILE | flag::DIRECTORY) {
            return false;
        }
        at = raw.record.end;
    }
    true
}

/// A chunk in the making.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub(super) bytes: Vec<u8>,
    /// What was looked for last, and where that was: what changes together lies together.
    last: Vec<u8>,
    place: Option<Place>,
    record: Vec<u8>,
    entry: Vec<u8>,
}

impl Draft {
    /// Goes on with the chunk of these bytes.
    pub(super) fn load(&mut self, bytes: &[u8]) {
        self.bytes.clear();
        self.bytes.extend_from_slice(bytes);
        self.place = None;
    }

    /// Puts an entry in its place and returns whether there was none.
    pub(super) fn insert(&mut self, path: &[u8], seen: &Seen) -> bool {
        if self.bytes.is_empty() {
            Base::of(seen).write(&mut self.bytes);
        }
        let found = self.seek(path);
        let Some(place) = self.place else { return false };
        self.record.clear();
        match Base::read(&self.bytes) {
            Some(base) => write(&mut self.record, &base, seen),
            None => return false,
        }
        let entry = &mut self.entry;
        entry.clear();
        let rest = &path[place.matched..];
        lengths(entry, [place.matched, rest.len(), self.record.len()]);
        entry.extend_from_slice(rest);
        entry.extend_from_slice(&self.record);
        let end = place.at + entry.len();
        let replaced = match (&found, raw(&self.bytes, place.at)) {
            (Some(found), _) => found.record.end,
            (None, Some(next)) => {
                // It may share more with the new one than with the one before.
                let rest = &self.bytes[next.rest.clone()];
                let more = match path.get(next.shared..) {
                    Some(path) if next.shared == place.matched => common(rest, path),
                    _ => 0,
                };
                lengths(entry, [next.shared + more, rest.len() - more, next.record.len()]);
                next.rest.start + more
            }
            (None, None) => place.at,
        };
        replace(&mut self.bytes, place.at..replaced, entry);
        self.place = Some(Place { index: place.index + 1, at: end, matched: path.len() });
        if found.is_none() {
            self.bytes[0] += 1;
        }
        found.is_none()
    }

    /// Takes an entry away.
    pub(super) fn remove(&mut self, path: &[u8]) -> Option<Seen> {
        let found = self.seek(path)?;
        let place = self.place?;
        let seen = seen(&self.bytes, found.record.clone());
        let mut bytes = std::mem::take(&mut self.entry);
        bytes.clear();
        let mut end = found.record.end;
        if let Some(next) = raw(&self.bytes, end) {
            // What the next one shared with this one it has to say itself, as far as this one did not share it.
            let shared = next.shared.min(found.shared);
            let more = found.rest.start..found.rest.start + (next.shared - shared);
            lengths(&mut bytes, [shared, more.len() + next.rest.len(), next.record.len()]);
            bytes.extend_from_slice(self.bytes.get(more)?);
            end = next.rest.start;
        }
        replace(&mut self.bytes, place.at..end, &bytes);
        self.entry = bytes;
        self.bytes[0] -= 1;
        seen
    }

    /// Tells whether there is more than one chunk holds.
    pub(super) fn is_too_long(&self) -> bool {
        let count = count(&self.bytes);
        count > MAX_ENTRIES || (self.bytes.len() > MAX_BYTES && count > 1)
    }

    /// Cuts off what comes after the last insertion, or that, where it is the end.
    pub(super) fn cut(&mut self) -> Vec<u8> {
        let count = count(&self.bytes);
        let mut text = Vec::new();
        let (mut index, mut at) = (0, HEAD_BYTES);
        let until = self.place.map_or(1, |place| place.index).clamp(1, count.saturating_sub(1).max(1));
        while let Some(raw) = raw(&self.bytes, at).filter(|_| index < until) {
            text.truncate(raw.shared);
            text.extend_from_slice(&self.bytes[raw.rest]);
            (index, at) = (index + 1, raw.record.end);
        }
        let mut rest = self.bytes[..HEAD_BYTES].to_vec();
        if let Some(next) = raw(&self.bytes, at) {
            text.truncate(next.shared);
            lengths(&mut rest, [0, text.len() + next.rest.len(), next.record.len()]);
            rest.extend_from_slice(&text);
            rest.extend_from_slice(&self.bytes[next.rest.start..]);
        }
        let (before, after) = (u8::try_from(index), u8::try_from(count - index));
        (self.bytes[0], rest[0]) = (before.unwrap_or(u8::MAX), after.unwrap_or(u8::MAX));
        self.bytes.truncate(at);
        self.place = None;
        rest
    }

    fn seek(&mut self, path: &[u8]) -> Option<Raw> {
        let common = common(&self.last, path);
        let mut place = match self.place {
            // Whatever comes before the one shares with the other what the two share, at most.
            Some(place) if self.last.get(common) < path.get(common) => {
                Place { matched: place.matched.min(common), ..place }
            }
            _ => Place::START,
        };
        let found = seek(&self.bytes, &mut place, path);
        self.last.truncate(common);
        self.last.extend_from_slice(&path[common..]);
        self.place = Some(place);
        found
    }
}

impl Base {
    fn of(seen: &Seen) -> Self {
        let Stat { identity, changed, modified, mode, owner, .. } = seen.stat;
        Self {
            device: identity.device,
            inode: identity.inode,
            changed: nanoseconds(changed).unwrap_or(0),
            modified: nanoseconds(modified).unwrap_or(0),
            mode,
            owner,
        }
    }

    /// Writes the head of a chunk without entries.
    fn write(&self, bytes: &mut Vec<u8>) {
        let Self { device, inode, changed, modified, mode, owner } = *self;
        bytes.push(0);
        for number in [device, inode, changed.cast_unsigned(), modified.cast_unsigned()] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        for number in [mode, owner] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader(bytes.get(1..HEAD_BYTES)?);
        Some(Self {
            device: reader.long()?,
            inode: reader.long()?,
            changed: reader.long()?.cast_signed(),
            modified: reader.long()?.cast_signed(),
            mode: reader.word()?,
            owner: reader.word()?,
        })
    }
}

fn write(bytes: &mut Vec<u8>, base: &Base, seen: &Seen) {
    let racy = if seen.racy { flag::RACY } else { 0 };
    if write_short(bytes, base, seen, racy).is_none() {
        bytes.clear();
        bytes.push(flag::PLAIN | racy);
        write_plain(bytes, seen);
    }
}

/// Writes the record of what is as most are; `None` where it is not.
fn write_short(bytes: &mut Vec<u8>, base: &Base, seen: &Seen, racy: u8) -> Option<()> {
    let Stat { identity, kind, mode, size, modified, changed, born, owner, mount_root } = seen.stat;
    let kind = match (&seen.entry, kind) {
        (Entry::Directory, Kind::Directory) => flag::DIRECTORY,
        (Entry::File(file), Kind::File)
            if file.size == size && file.executable == seen.stat.is_executable() =>
        {
            flag::FILE
        }
        (Entry::Symlink { .. }, Kind::Symlink) => flag::SYMLINK,
        _ => return None,
    };
    let (modified, changed) = (nanoseconds(modified)?, nanoseconds(changed)?);
    let (born, is_unborn) = (nanoseconds(born)?, born == (0, 0));
    if mount_root {
        return None;
    }
    let zigzag = |number: i64, from: i64| zigzag(number.wrapping_sub(from));
    let (by_first, by_changed) = (zigzag(modified, base.modified), zigzag(modified, changed));
    let mut flags = kind | racy;
    for (bit, is_set) in [
        (flag::MODE, mode != base.mode),
        (flag::OWNER, owner != base.owner),
        (flag::UNBORN, is_unborn),
        (flag::MODIFIED, by_first < by_changed),
        (flag::DEVICE, identity.device != base.device),
    ] {
        flags |= if is_set { bit } else { 0 };
    }
    bytes.push(flags);
    number(bytes, zigzag(identity.inode.cast_signed(), base.inode.cast_signed()));
    number(bytes, size);
    number(bytes, zigzag(changed, base.changed));
    number(bytes, by_first.min(by_changed));
    if !is_unborn {
        number(bytes, zigzag(born, changed));
    }
    if flags & flag::MODE != 0 {
        number(bytes, mode.into());
    }
    if flags & flag::OWNER != 0 {
        number(bytes, owner.into());
    }
    if flags & flag::DEVICE != 0 {
        number(bytes, identity.device);
    }
    match &seen.entry {
        Entry::File(File { hash, .. }) => bytes.extend_from_slice(&hash.0),
        Entry::Symlink { target } => bytes.extend_from_slice(target.as_bytes()),
        Entry::Directory | Entry::Opaque(_) => {}
    }
    Some(())
}

fn write_plain(bytes: &mut Vec<u8>, seen: &Seen) {
    let Stat { identity, kind, mode, size, modified, changed, born, owner, mount_root } = seen.stat;
    for number in [identity.device, identity.inode, size] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    for time in [modified, changed, born] {
        bytes.extend_from_slice(&time.0.to_le_bytes());
        bytes.extend_from_slice(&time.1.to_le_bytes());
    }
    for number in [mode, owner] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    bytes.push(kind as u8);
    bytes.push(mount_root.into());
    match &seen.entry {
        Entry::Directory => bytes.push(0),
        Entry::File(File { hash, size, executable }) => {
            bytes.extend_from_slice(&[1, (*executable).into()]);
            bytes.extend_from_slice(&size.to_le_bytes());
            bytes.extend_from_slice(&hash.0);
        }
        Entry::Symlink { target } => {
            bytes.push(2);
            bytes.extend_from_slice(target.as_bytes());
        }
        Entry::Opaque(opaque) => bytes.extend_from_slice(&[3, *opaque as u8]),
    }
}

/// Puts other bytes in the place of some.
fn replace(bytes: &mut Vec<u8>, range: Range<usize>, by: &[u8]) {
    let (old, end) = (bytes.len(), range.start + by.len());
    if end > range.end {
        bytes.resize(old + (end - range.end), 0);
    }
    bytes.copy_within(range.end..old, end);
    bytes.truncate(old - range.end + end);
    bytes[range.start..end].copy_from_slice(by);
}

fn nanoseconds((seconds, nanoseconds): Timestamp) -> Option<i64> {
    let whole = seconds.checked_mul(1_000_000_000).filter(|_| nanoseconds < 1_000_000_000)?;
    whole.checked_add(nanoseconds.into())
}

fn timestamp(nanoseconds: i64) -> Timestamp {
    let rest = nanoseconds.rem_euclid(1_000_000_000);
    (nanoseconds.div_euclid(1_000_000_000), u32::try_from(rest).unwrap_or(0))
}

/// Makes a small number of one that is not far from zero.
fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)).cast_unsigned()
}

fn number(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    bytes.push(number.to_le_bytes()[0]);
}

fn lengths(bytes: &mut Vec<u8>, lengths: [usize; 3]) {
    for length in lengths {
        number(bytes, length as u64);
    }
}

/// Reads numbers off the front.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn number32(&mut self) -> Option<u32> {
        u32::try_from(self.number()?).ok()
    }

    fn length(&mut self) -> Option<usize> {
        usize::try_from(self.number()?).ok()
    }

    fn difference(&mut self) -> Option<i64> {
        let number = self.number()?;
        Some((number >> 1).cast_signed() ^ -(number & 1).cast_signed())
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }

    fn long(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn word(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    /// Reads the rest of a record that is written out.
    fn plain(&mut self, racy: bool) -> Option<Seen> {
        let [device, inode, size] = [self.long()?, self.long()?, self.long()?];
        let mut time = || Some((self.long()?.cast_signed(), self.word()?));
        let [modified, changed, born] = [time()?, time()?, time()?];
        let [mode, owner] = [self.word()?, self.word()?];
        let kinds = [Kind::File, Kind::Directory, Kind::Symlink, Kind::Special];
        let kind = *kinds.get(usize::from(self.byte()?))?;
        let mount_root = self.byte()? != 0;
        let entry = match self.byte()? {
            0 => Entry::Directory,
            1 => {
                let executable = self.byte()? != 0;
                let size = self.long()?;
                Entry::File(File { hash: Hash(self.array()?), size, executable })
            }
            2 => Entry::Symlink { target: std::str::from_utf8(std::mem::take(&mut self.0)).ok()?.to_owned() },
            _ => Entry::Opaque(opaque(self.byte()?)?),
        };
        let identity = Identity { device, inode };
        let stat = Stat { identity, kind, mode, size, modified, changed, born, owner, mount_root };
        Some(Seen { entry, stat, racy })
    }
}

fn opaque(number: u8) -> Option<Opaque> {
    Opaque::ALL.into_iter().find(|opaque| *opaque as u8 == number)
}
