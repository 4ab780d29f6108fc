//! Block sums on the disk: a file that is only added to, and an index of it in memory.
//!
//! The file is the magic and then records: the first 16 bytes of the content's hash, its size (8 bytes, little endian),
//! the first 8 bytes of the BLAKE3 of the record without them, and the sums, whose length follows from the size. It
//! ends where a record is not sound: what a crash cut off is signed again. It is not read before it is needed.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;

use rustix::fs::{Mode, OFlags, openat, renameat};
use towline_sync_core::block::{Signature, sum_bytes};
use towline_sync_core::snapshot::Hash;

use crate::disk::stat_of;
use crate::index::Index;
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
    /// Where the record of each content begins.
    index: Index,
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

    /// Writes what waits. When most contents are no more, only those that are `live` are kept, which are not more than
    /// `most`.
    pub(super) fn save<I: Iterator<Item = Hash>>(&mut self, most: usize, live: impl Fn() -> I) {
        if self.open.is_none() {
            return;
        }
        self.with(Open::flush);
        let Some(open) = &mut self.open else { return };
        let is_mostly_dead = open.index.len() > 2 * most + MAX_DEAD;
        if is_mostly_dead && self.rewrite(live().map(key)).is_err() {
            self.is_broken = true;
            self.open = None;
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

    fn rewrite(&mut self, live: impl Iterator<Item = Key>) -> io::Result<()> {
        let Some(old) = &mut self.open else { return Ok(()) };
        let new = format!("{}.new", self.name);
        remove(self.folder.as_fd(), new.as_str())?;
        let mut kept = Open::begin(create(self.folder.as_fd(), &new)?)?;
        for key in live {
            if let Some(signature) = old.get(key)? {
                kept.append(key, &signature)?;
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
        let file = File::from(openat(folder, name, flags, Mode::RUSR | Mode::WUSR)?);
        let size = stat_of(file.as_fd())?.size;
        let mut reader = BufReader::with_capacity(WRITE_BYTES, &file);
        let mut magic = [0; MAGIC.len()];
        if size > MAX_BYTES || reader.read_exact(&mut magic).is_err() || magic != *MAGIC {
            file.set_len(0)?;
            return Self::begin(file);
        }
        let mut index = Index::default();
        let mut written = MAGIC.len() as u64;
        let mut sums = Vec::new();
        while let Some(key) = record(&mut reader, size - written, &mut sums)? {
            index.insert(hash_of(key), place(written));
            written += (HEAD_BYTES + sums.len()) as u64;
        }
        if written < size {
            file.set_len(written)?;
        }
        Ok(Self { file, index, written, waiting: Vec::new() })
    }

    /// Begins with an empty file.
    fn begin(file: File) -> io::Result<Self> {
        file.write_all_at(MAGIC, 0)?;
        Ok(Self { file, index: Index::default(), written: MAGIC.len() as u64, waiting: Vec::new() })
    }

    fn append(&mut self, key: Key, signature: &Signature) -> io::Result<()> {
        if self.find(key)?.is_some() {
            return Ok(());
        }
        let at = self.written + self.waiting.len() as u64;
        if at > MAX_BYTES {
            self.file.set_len(0)?;
            *self = Self::begin(self.file.try_clone()?)?;
            return Ok(());
        }
        self.index.insert(hash_of(key), place(at));
        let size = signature.size().to_le_bytes();
        self.waiting.write_all(&key)?;
        self.waiting.write_all(&size)?;
        self.waiting.write_all(&sum(key, size, signature.sums()))?;
        self.waiting.write_all(signature.sums())?;
        if self.waiting.len() >= WRITE_BYTES { self.flush() } else { Ok(()) }
    }

    fn get(&mut self, key: Key) -> io::Result<Option<Signature>> {
        let Some((at, size)) = self.find(key)? else { return Ok(None) };
        let mut sums = vec![0; sum_bytes(size)];
        self.read_at(at + HEAD_BYTES as u64, &mut sums)?;
        Ok(Signature::new(size, &sums).ok())
    }

    /// Returns where the record of a content begins, and how long that is.
    fn find(&self, key: Key) -> io::Result<Option<(u64, u64)>> {
        for at in self.index.numbers(hash_of(key)).map(u64::from) {
            let mut head = [0; KEY_BYTES + 8];
            self.read_at(at, &mut head)?;
            if let Some((_, size)) = head.split_first_chunk().filter(|(other, _)| **other == key) {
                return Ok(size.first_chunk().map(|size| (at, u64::from_le_bytes(*size))));
            }
        }
        Ok(None)
    }

    /// Reads what lies at `at`, in the file or yet to be written.
    fn read_at(&self, at: u64, bytes: &mut [u8]) -> io::Result<()> {
        let Some(at) = at.checked_sub(self.written) else { return self.file.read_exact_at(bytes, at) };
        let waiting = usize::try_from(at).ok().and_then(|at| self.waiting.get(at..)?.get(..bytes.len()));
        bytes.copy_from_slice(waiting.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
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

/// A content's hash is as good as any.
fn hash_of(key: Key) -> u32 {
    let [first, second, third, fourth, ..] = key;
    u32::from_le_bytes([first, second, third, fourth])
}

/// Says where a record begins: no file is so long that it can't.
fn place(at: u64) -> u32 {
    u32::try_from(at).unwrap_or(0)
}

/// Reads the next record, if there is a sound one in so many bytes, and returns its content's key.
fn record(reader: &mut impl Read, rest: u64, sums: &mut Vec<u8>) -> io::Result<Option<Key>> {
    let mut head = [0; HEAD_BYTES];
    let Some(rest) = rest.checked_sub(HEAD_BYTES as u64) else { return Ok(None) };
    reader.read_exact(&mut head)?;
    let (mut key, mut size) = (Key::default(), [0; 8]);
    key.copy_from_slice(&head[..KEY_BYTES]);
    size.copy_from_slice(&head[KEY_BYTES..KEY_BYTES + 8]);
    let length = sum_bytes(u64::from_le_bytes(size));
    if length as u64 > rest {
        return Ok(None);
    }
    sums.resize(length, 0);
    reader.read_exact(sums)?;
    Ok((sum(key, size, sums) == head[KEY_BYTES + 8..]).then_some(key))
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
        first.save(0, iter::empty);
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
        whole.save(0, iter::empty);
        let bytes = fs::read(&path).unwrap();
        for at in (0..bytes.len()).step_by(13) {
            fs::write(&path, &bytes[..at]).unwrap();
            let mut cut = log(&folder);
            check(&mut cut, [19], false);
            let (hash, signature) = signed(19);
            cut.append(hash, &signature);
            cut.save(0, iter::empty);
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
        all.save(1, || iter::once(live));
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
        broken.save(0, iter::empty);
    }
}
