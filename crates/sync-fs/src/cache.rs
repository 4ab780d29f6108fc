//! What was known when the last session ended, on the disk: a tree that has not changed is not read again.
//!
//! The file is the magic, the key, the records in the order of their paths, how many they are (8 bytes), and the BLAKE3 of
//! all that. Numbers are little endian. A file that is not exactly that is as good as none: what it costs is time. It is
//! written and read in pieces: an agent has little memory.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{fstatfs, renameat};
use towline_sync_core::path::RelPath;
use towline_sync_core::snapshot::{self, Entry, Hash};

use crate::disk::{Identity, Kind, Root, Stat, Timestamp, open_file, stat_of};
use crate::inbox::Dirty;
use crate::known::{Known, Seen, now};
use crate::stage::{create, remove};

const MAGIC: &[u8; 16] = b"towline scan 02\n";
const HASH_BYTES: usize = 32;
const HEAD_BYTES: usize = MAGIC.len() + HASH_BYTES;
/// What follows the path in a record.
const RECORD_BYTES: usize = HASH_BYTES + 3 * 8 + 5 * 4 + 3 * 8;
const PIECE_BYTES: usize = 64 * 1024;
/// The longest file read, in bytes.
const MAX_BYTES: u64 = 1 << 30;
/// File systems of this machine alone, whose change times advance with its clock: ext, XFS, Btrfs, memory, overlay.
const OWN_CLOCK: [u32; 5] = [0xef53, 0x5846_5342, 0x9123_683e, 0x0102_1994, 0x794c_7630];
/// Two ticks of the slowest clock of a kernel, in nanoseconds.
const TICKS: i64 = 20_000_000;
/// The coarsest time stamp of any file system in use, in nanoseconds.
const COARSE: i64 = 2_000_000_000;

/// Where what is known of one root is kept.
#[derive(Debug)]
pub(crate) struct Cache {
    folder: OwnedFd,
    name: String,
    key: Hash,
}

/// What may still be true of a file at the moment of saving.
#[derive(Debug)]
pub(crate) struct Horizon {
    /// When it began to be asked what has changed.
    taken: Timestamp,
    margin: i64,
}

impl Cache {
    /// Names the cache of `root` under these rules, in `folder`.
    pub(crate) fn new(
        folder: OwnedFd,
        root: &Root,
        ignore: &[String],
        excluded: &[RelPath],
    ) -> io::Result<Self> {
        let Identity { device, inode } = root.identity();
        let born = stat_of(root.fd())?.born;
        let mut key = blake3::Hasher::new();
        key.update(format!("{device} {inode} {born:?} {excluded:?}").as_bytes());
        for line in ignore {
            key.update(&(line.len() as u64).to_le_bytes());
            key.update(line.as_bytes());
        }
        let name = format!("scan-{device:x}-{inode:x}");
        Ok(Self { folder, name, key: Hash(*key.finalize().as_bytes()) })
    }

    /// Returns what was saved, or nothing where there is nothing that can be believed.
    pub(crate) fn load(&self) -> Known {
        let opened = open_file(self.folder.as_fd(), &self.name);
        opened.ok().and_then(|(file, stat)| decode(file, stat.size, self.key)).unwrap_or_default()
    }

    /// Saves what is known of files. With `horizon`, every change that was made before it was told to us is looked
    /// at already, or is one of `unsettled`. Tells whether it was all.
    pub(crate) fn save(
        &self,
        known: &Known,
        horizon: Option<&Horizon>,
        unsettled: &Dirty,
    ) -> io::Result<bool> {
        let mut all = true;
        let told = |path: &RelPath| unsettled.paths.contains_key(path);
        let new = format!("{}.new", self.name);
        remove(self.folder.as_fd(), new.as_str())?;
        let file = create(self.folder.as_fd(), &new)?;
        encode(file, known, self.key, |path, seen| {
            let settled = !seen.racy
                || horizon.is_some_and(|horizon| {
                    let untold = unsettled.paths.is_empty()
                        || !(told(path) || path.ancestors().any(|folder| told(&folder)));
                    horizon.is_past(&seen.stat) && !unsettled.everything && untold
                });
            all &= settled;
            settled
        })?;
        renameat(&self.folder, &new, &self.folder, &self.name)?;
        Ok(all)
    }
}

impl Horizon {
    /// Of a moment at which all that happened until `before` has been told and looked at.
    pub(crate) fn told(before: Timestamp) -> Self {
        Self { taken: before, margin: COARSE }
    }

    /// Of now: it is about to be asked what has happened below `root`.
    pub(crate) fn now(root: &Root) -> Self {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the magic number has 32 bits, in a field of another width and sign on each architecture"
        )]
        let own = fstatfs(root.fd()).is_ok_and(|disk| OWN_CLOCK.contains(&(disk.f_type as u32)));
        Self { taken: now(), margin: if own { TICKS } else { COARSE } }
    }

    /// Tells whether a change made from now on shows in the file's stat.
    fn is_past(&self, stat: &Stat) -> bool {
        let nanoseconds =
            |time: Timestamp| time.0.saturating_mul(1_000_000_000).saturating_add(time.1.into());
        // Whole hundredths of a second may be all that the disk can say.
        let margin = if stat.changed.1.is_multiple_of(10_000_000) { COARSE } else { self.margin };
        nanoseconds(stat.changed) < nanoseconds(self.taken).saturating_sub(margin)
    }
}

fn encode(
    mut file: File,
    known: &Known,
    key: Hash,
    mut keep: impl FnMut(&RelPath, &Seen) -> bool,
) -> io::Result<()> {
    let mut sum = blake3::Hasher::new();
    let mut bytes = Vec::with_capacity(PIECE_BYTES + 8 * 1024);
    bytes.extend(MAGIC);
    bytes.extend(key.0);
    let mut count = 0_u64;
    let mut last = "";
    for (path, seen) in known.iter() {
        let Entry::File(entry) = &seen.entry else { continue };
        if !keep(path, seen) {
            continue;
        }
        let text = path.as_str();
        let shared = text.bytes().zip(last.bytes()).take_while(|(one, other)| one == other).count();
        let shared = text.floor_char_boundary(shared);
        let rest = &text.as_bytes()[shared..];
        // A path has at most 4096 bytes.
        for length in [shared, rest.len()] {
            bytes.extend(u16::try_from(length).unwrap_or(u16::MAX).to_le_bytes());
        }
        bytes.extend(rest);
        bytes.extend(entry.hash.0);
        let Stat { identity, mode, size, modified, changed, born, owner, kind: _, mount_root: _ } = seen.stat;
        for number in [identity.device, identity.inode, size] {
            bytes.extend(number.to_le_bytes());
        }
        for number in [mode, owner, modified.1, changed.1, born.1] {
            bytes.extend(number.to_le_bytes());
        }
        for number in [modified.0, changed.0, born.0] {
            bytes.extend(number.to_le_bytes());
        }
        count += 1;
        last = text;
        if bytes.len() >= PIECE_BYTES {
            sum.update(&bytes);
            file.write_all(&bytes)?;
            bytes.clear();
        }
    }
    bytes.extend(count.to_le_bytes());
    sum.update(&bytes);
    bytes.extend(sum.finalize().as_bytes());
    file.write_all(&bytes)
}

fn decode(file: File, length: u64, key: Hash) -> Option<Known> {
    if length > MAX_BYTES {
        return None;
    }
    let mut source = Source { file, left: length.checked_sub(HASH_BYTES as u64)?, bytes: Vec::new(), at: 0 };
    let summed = source.left;
    let mut sum = blake3::Hasher::new();
    while source.fill(1)? {
        sum.update(&source.bytes[source.at..]);
        source.at = source.bytes.len();
    }
    source.left = HASH_BYTES as u64;
    if source.take(HASH_BYTES)? != sum.finalize().as_bytes() {
        return None;
    }
    source.file.seek(SeekFrom::Start(0)).ok()?;
    source.left = summed;
    let mut head = Reader(source.take(HEAD_BYTES)?);
    if head.take(MAGIC.len())? != MAGIC || head.array()? != key.0 {
        return None;
    }
    let mut all = Vec::new();
    let mut last = String::new();
    while source.rest() > 8 {
        let mut lengths = Reader(source.take(4)?);
        let (shared, rest) = (u16::from_le_bytes(lengths.array()?), u16::from_le_bytes(lengths.array()?));
        last.truncate(last.get(..shared.into())?.len());
        last.push_str(std::str::from_utf8(source.take(rest.into())?).ok()?);
        let mut reader = Reader(source.take(RECORD_BYTES)?);
        let hash = Hash(reader.array()?);
        let [device, inode, size] = [reader.long()?, reader.long()?, reader.long()?];
        let [mode, owner, modified, changed, born] = [(); 5].map(|()| reader.word());
        let times = [(); 3].map(|()| reader.long().map(u64::cast_signed));
        let stat = Stat {
            identity: Identity { device, inode },
            kind: Kind::File,
            mode: mode?,
            size,
            modified: (times[0]?, modified?),
            changed: (times[1]?, changed?),
            born: (times[2]?, born?),
            owner: owner?,
            mount_root: false,
        };
        let entry = Entry::File(snapshot::File { hash, size, executable: stat.is_executable() });
        all.push((RelPath::new(last.as_str()).ok()?, Arc::new(Seen { entry, stat, racy: false })));
    }
    let count = u64::from_le_bytes(Reader(source.take(8)?).array()?);
    (source.rest() == 0 && count == all.len() as u64).then(|| Known::new(all))
}

/// Reads a file in pieces.
struct Source {
    file: File,
    /// How much of the file is to be read yet.
    left: u64,
    bytes: Vec<u8>,
    /// How much of `bytes` is done with.
    at: usize,
}

impl Source {
    /// Reads until there are so many bytes, or all; tells whether there are. `None` when the file can't be read.
    fn fill(&mut self, wanted: usize) -> Option<bool> {
        if self.bytes.len() - self.at < wanted && self.left > 0 {
            self.bytes.drain(..self.at);
            self.at = 0;
            let more = self.left.min(PIECE_BYTES as u64);
            let read = (&self.file).take(more).read_to_end(&mut self.bytes).ok()?;
            if read as u64 != more {
                return None;
            }
            self.left -= more;
        }
        Some(self.bytes.len() - self.at >= wanted)
    }

    /// Returns so many bytes; at most as many as are read at once.
    fn take(&mut self, length: usize) -> Option<&[u8]> {
        if !self.fill(length)? {
            return None;
        }
        self.at += length;
        Some(&self.bytes[self.at - length..self.at])
    }

    /// Returns how many bytes there are yet.
    fn rest(&self) -> u64 {
        self.left + (self.bytes.len() - self.at) as u64
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
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
}
