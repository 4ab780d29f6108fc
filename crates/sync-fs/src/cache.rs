//! What was known when the last session ended, on the disk: a tree that has not changed is not read again.
//!
//! The file is the magic, the key, the [chunks](crate::known::chunk) of what is known, each after its length (4 bytes, little
//! endian), and the BLAKE3 of all that. A file that is not exactly that is as good as none: what it costs is time. It is
//! written and read in pieces: an agent has little memory.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{fstatfs, renameat};
use towline_sync_core::path::RelPath;
use towline_sync_core::snapshot::Hash;

use crate::disk::{Identity, Root, Stat, Timestamp, open_file, stat_of};
use crate::inbox::Dirty;
use crate::known::chunk::LONGEST_BYTES;
use crate::known::{Known, Seen, now};
use crate::stage::{create, remove};

const MAGIC: &[u8; 16] = b"towline scan 03\n";
const HASH_BYTES: usize = 32;
const HEAD_BYTES: usize = MAGIC.len() + HASH_BYTES;
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
    let mut bytes = Vec::with_capacity(PIECE_BYTES + LONGEST_BYTES);
    bytes.extend(MAGIC);
    bytes.extend(key.0);
    known.write_down(&mut keep, &mut |chunk| {
        bytes.extend(u32::try_from(chunk.len()).unwrap_or(u32::MAX).to_le_bytes());
        bytes.extend_from_slice(chunk);
        if bytes.len() >= PIECE_BYTES {
            sum.update(&bytes);
            file.write_all(&bytes)?;
            bytes.clear();
        }
        Ok(())
    })?;
    sum.update(&bytes);
    bytes.extend(sum.finalize().as_bytes());
    file.write_all(&bytes)
}

fn decode(file: File, length: u64, key: Hash) -> Option<Known> {
    if length > MAX_BYTES {
        return None;
    }
    let left = length.checked_sub(HASH_BYTES as u64)?;
    let mut source = Source { file, left, bytes: Vec::new(), at: 0, sum: blake3::Hasher::new() };
    let (magic, of) = source.take(HEAD_BYTES)?.split_at(MAGIC.len());
    if magic != MAGIC || of != key.0 {
        return None;
    }
    let mut known = Known::default();
    let mut last = Vec::new();
    while source.rest() > 0 {
        let length = u32::from_le_bytes(source.take(4)?.try_into().ok()?);
        let length = usize::try_from(length).ok().filter(|length| *length <= LONGEST_BYTES)?;
        // What is not sound may be so only because the file is damaged: either way it is of no use.
        known.push_chunk(source.take(length)?, &mut last).then_some(())?;
    }
    source.has_its_sum().then_some(known)
}

/// Reads a file in pieces.
struct Source {
    file: File,
    /// How much of what the sum is of is to be read yet.
    left: u64,
    bytes: Vec<u8>,
    /// How much of `bytes` is done with.
    at: usize,
    /// Of what was read.
    sum: blake3::Hasher,
}

impl Source {
    /// Returns so many bytes; `None` when there are not so many, or the file can't be read.
    fn take(&mut self, length: usize) -> Option<&[u8]> {
        while self.bytes.len() - self.at < length {
            self.bytes.drain(..self.at);
            self.at = 0;
            let (old, more) = (self.bytes.len(), self.left.min(PIECE_BYTES as u64));
            let read = (&self.file).take(more).read_to_end(&mut self.bytes).ok()?;
            if read == 0 || read as u64 != more {
                return None;
            }
            self.sum.update(&self.bytes[old..]);
            self.left -= more;
        }
        self.at += length;
        Some(&self.bytes[self.at - length..self.at])
    }

    /// Returns how many bytes there are yet.
    fn rest(&self) -> u64 {
        self.left + (self.bytes.len() - self.at) as u64
    }

    /// Tells whether what follows is the sum of all that was read.
    fn has_its_sum(&mut self) -> bool {
        let mut sum = [0; HASH_BYTES];
        self.file.read_exact(&mut sum).is_ok() && sum == *self.sum.finalize().as_bytes()
    }
}
