//! Block sums on the disk: a file that is only added to, and an index of it in memory.
//!
//! The file is the magic and then records: the first 16 bytes of the content's hash, its size (8 bytes, little endian),
//! the first 8 bytes of the BLAKE3 of the record without them, and the sums, whose length follows from the size. It
//! ends where a record is not sound: what a crash cut off is signed again. It is not read before it is needed.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;

use rustix::fs::{Mode, OFlags, openat, renameat};
use towline_sync_core::block::{Signature, sum_bytes};
use towline_sync_core::snapshot::Hash;

use crate::disk::stat_of;
use crate::stage::{create, remove};

const MAGIC: &[u8; 16] = b"towline sums 01\n";
const KEY_BYTES: usize = 16;
const SUM_BYTES: usize = 8;
const HEAD_BYTES: usize = KEY_BYTES + 8 + SUM_BYTES;
/// The longest file, in bytes: a longer one is begun anew.
const MAX_BYTES: u64 = 512 << 20;
/// So much is written at once, in bytes.
const WRITE_BYTES: usize = 64 * 1024;
/// Records of contents that are no more are not worth a new file below this many.
const MAX_DEAD: usize = 10_000;

type Key = [u8; KEY_BYTES];

/// The sums of one root's contents.
#[derive(Debug)]
pub(super) struct Log {
    folder: OwnedFd,
    name: String,
    /// `None` until it is needed, and when it can't be used.
    open: Option<Open>,
    is_broken: bool,
}

#[derive(Debug)]
struct Open {
    file: File,
    /// Where the sums of each content are, and its size.
    index: HashMap<Key, (u64, u64)>,
    /// What is in the file, in bytes.
    written: u64,
    /// What comes after it.
    waiting: Vec<u8>,
}

impl Log {
    /// Returns the log in the file `name` in `folder`, which need not exist.
    pub(super) fn new(folder: OwnedFd, name: String) -> Self {
        Self { folder, name, open: None, is_broken: false }
    }

    /// Adds the sums of a content, unless they are there.
    pub(super) fn append(&mut self, hash: Hash, signature: &Signature) {
        self.with(|open| open.append(key(hash), signature));
    }

    /// Returns the sums of a content.
    pub(super) fn get(&mut self, hash: Hash) -> Option<Signature> {
        self.with(|open| open.get(key(hash)))?
    }

    /// Writes what waits. When most contents are no more, only those that are `live` are kept.
    pub(super) fn save<I: Iterator<Item = Hash>>(&mut self, live: impl FnOnce() -> I) {
        if self.open.is_none() {
            return;
        }
        self.with(Open::flush);
        let Some(open) = &mut self.open else { return };
        if open.index.len() > MAX_DEAD {
            let live: Vec<Key> = live().map(key).collect();
            if open.index.len() > 2 * live.len() + MAX_DEAD && self.rewrite(&live).is_err() {
                self.is_broken = true;
                self.open = None;
            }
        }
    }

    /// Does something with the open file; after an error nothing more is done with it.
    fn with<T>(&mut self, work: impl FnOnce(&mut Open) -> io::Result<T>) -> Option<T> {
        if self.is_broken {
            return None;
        }
        let done = match self.open.take() {
            Some(open) => Ok(open),
            None => Open::read(&self.folder, &self.name),
        };
        let done = done.and_then(|open| work(self.open.insert(open)));
        if done.is_err() {
            self.is_broken = true;
            self.open = None;
        }
        done.ok()
    }

    fn rewrite(&mut self, live: &[Key]) -> io::Result<()> {
        let Some(old) = &mut self.open else { return Ok(()) };
        let new = format!("{}.new", self.name);
        remove(self.folder.as_fd(), new.as_str())?;
        let mut kept = Open::begin(create(self.folder.as_fd(), &new)?)?;
        for key in live {
            if let Some(signature) = old.get(*key)? {
                kept.append(*key, &signature)?;
            }
        }
        kept.flush()?;
        renameat(&self.folder, &new, &self.folder, &self.name)?;
        self.open = Some(kept);
        Ok(())
    }
}

impl Open {
    fn read(folder: &OwnedFd, name: &str) -> io::Result<Self> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = File::from(openat(folder, name, flags, Mode::RUSR | Mode::WUSR)?);
        let size = stat_of(file.as_fd())?.size;
        let mut bytes = Vec::new();
        if size <= MAX_BYTES {
            file.read_to_end(&mut bytes)?;
        }
        let Some(mut rest) = bytes.strip_prefix(MAGIC) else {
            file.set_len(0)?;
            return Self::begin(file);
        };
        let mut index = HashMap::new();
        let mut written = MAGIC.len() as u64;
        while let Some((key, size, sums, after)) = record(rest) {
            index.insert(key, (written + HEAD_BYTES as u64, size));
            written += (HEAD_BYTES + sums.len()) as u64;
            rest = after;
        }
        if !rest.is_empty() {
            file.set_len(written)?;
        }
        Ok(Self { file, index, written, waiting: Vec::new() })
    }

    /// Begins with an empty file.
    fn begin(file: File) -> io::Result<Self> {
        file.write_all_at(MAGIC, 0)?;
        Ok(Self { file, index: HashMap::new(), written: MAGIC.len() as u64, waiting: Vec::new() })
    }

    fn append(&mut self, key: Key, signature: &Signature) -> io::Result<()> {
        if self.index.contains_key(&key) {
            return Ok(());
        }
        let at = self.written + (self.waiting.len() + HEAD_BYTES) as u64;
        if at > MAX_BYTES {
            self.file.set_len(0)?;
            *self = Self::begin(self.file.try_clone()?)?;
            return Ok(());
        }
        self.index.insert(key, (at, signature.size()));
        let size = signature.size().to_le_bytes();
        self.waiting.write_all(&key)?;
        self.waiting.write_all(&size)?;
        self.waiting.write_all(&sum(key, size, signature.sums()))?;
        self.waiting.write_all(signature.sums())?;
        if self.waiting.len() >= WRITE_BYTES { self.flush() } else { Ok(()) }
    }

    fn get(&mut self, key: Key) -> io::Result<Option<Signature>> {
        let Some((at, size)) = self.index.get(&key).copied() else { return Ok(None) };
        let mut sums = vec![0; sum_bytes(size)];
        match at.checked_sub(self.written).and_then(|at| usize::try_from(at).ok()) {
            Some(at) => sums.copy_from_slice(&self.waiting[at..at + sum_bytes(size)]),
            None => self.file.read_exact_at(&mut sums, at)?,
        }
        Ok(Signature::new(size, &sums).ok())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write_all_at(&self.waiting, self.written)?;
        self.written += self.waiting.len() as u64;
        self.waiting.clear();
        Ok(())
    }
}

fn key(hash: Hash) -> Key {
    let mut key = Key::default();
    key.copy_from_slice(&hash.0[..KEY_BYTES]);
    key
}

/// Returns the first record: its content's key and size, the sums, and what follows.
fn record(bytes: &[u8]) -> Option<(Key, u64, &[u8], &[u8])> {
    let (key, rest) = bytes.split_first_chunk::<KEY_BYTES>()?;
    let (size, rest) = rest.split_first_chunk::<8>()?;
    let (check, rest) = rest.split_first_chunk::<SUM_BYTES>()?;
    let length = u64::from_le_bytes(*size);
    let (sums, rest) = rest.split_at_checked(sum_bytes(length))?;
    (sum(*key, *size, sums) == *check).then_some((*key, length, sums, rest))
}

fn sum(key: Key, size: [u8; 8], sums: &[u8]) -> [u8; SUM_BYTES] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&key).update(&size).update(sums);
    let mut sum = [0; SUM_BYTES];
    sum.copy_from_slice(&hasher.finalize().as_bytes()[..SUM_BYTES]);
    sum
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests use the disk as users do: by paths")]
mod tests {
    use std::fs;
    use std::iter;

    use tempfile::TempDir;
    use towline_sync_core::block::sign;

    use super::*;

    fn log(folder: &TempDir) -> Log {
        Log::new(File::open(folder.path()).unwrap().into(), "sums".to_owned())
    }

    fn content(number: u32) -> Vec<u8> {
        number.to_le_bytes().repeat(200 + number as usize)
    }

    fn signed(number: u32) -> (Hash, Signature) {
        let content = content(number);
        (Hash::of(&content), sign(&content[..], content.len() as u64).unwrap())
    }

    #[track_caller]
    fn check(log: &mut Log, numbers: impl IntoIterator<Item = u32>, known: bool) {
        for number in numbers {
            let (hash, signature) = signed(number);
            assert_eq!(log.get(hash), known.then_some(signature), "{number}");
        }
    }

    #[test]
    fn what_is_kept_is_there_before_and_after_it_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let mut first = log(&folder);
        for number in (0..300).chain(0..300) {
            let (hash, signature) = signed(number);
            first.append(hash, &signature);
        }
        check(&mut first, 0..300, true);
        check(&mut first, 300..310, false);
        first.save(iter::empty);
        check(&mut log(&folder), 0..300, true);
        assert_eq!(log(&folder).get(Hash::of(b"")), None);
    }

    #[test]
    fn what_is_cut_or_damaged_is_as_good_as_not_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sums");
        let mut whole = log(&folder);
        for number in 0..20 {
            let (hash, signature) = signed(number);
            whole.append(hash, &signature);
        }
        whole.save(iter::empty);
        let bytes = fs::read(&path).unwrap();
        for at in (0..bytes.len()).step_by(13) {
            fs::write(&path, &bytes[..at]).unwrap();
            let mut cut = log(&folder);
            check(&mut cut, [19], false);
            let (hash, signature) = signed(19);
            cut.append(hash, &signature);
            cut.save(iter::empty);
            check(&mut log(&folder), [19], true);
            let mut damaged = bytes.clone();
            damaged[at] ^= 4;
            fs::write(&path, damaged).unwrap();
            let mut damaged = log(&folder);
            for number in 0..20 {
                let (hash, signature) = signed(number);
                assert!(damaged.get(hash).is_none_or(|known| known == signature), "{number}");
            }
        }
    }

    #[test]
    fn contents_that_are_no_more_go_when_they_are_most() {
        let folder = tempfile::tempdir().unwrap();
        let mut all = log(&folder);
        let (live, signature) = signed(1);
        all.append(live, &signature);
        let empty = sign(&b"x"[..], 1).unwrap();
        for number in 0..=u32::try_from(MAX_DEAD).unwrap() + 2 {
            all.append(Hash::of(&number.to_be_bytes()), &empty);
        }
        all.save(|| iter::once(live));
        check(&mut all, [1], true);
        assert_eq!(all.get(Hash::of(&5u32.to_be_bytes())), None);
        check(&mut log(&folder), [1], true);
        assert!(fs::metadata(folder.path().join("sums")).unwrap().len() < 2000);
    }

    #[test]
    fn a_disk_that_fails_costs_nothing_but_time() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("sums")).unwrap();
        let mut broken = log(&folder);
        let (hash, signature) = signed(1);
        broken.append(hash, &signature);
        assert_eq!(broken.get(hash), None);
        broken.save(iter::empty);
    }
}
