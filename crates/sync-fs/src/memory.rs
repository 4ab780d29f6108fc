//! What is remembered of contents by their hashes: block sums, and how a content differs from the one before it.
//!
//! All of it only saves time: whoever builds a file from a difference compares the whole file's hash in the end.

use std::collections::{HashMap, VecDeque};
use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

use towline_sync_core::block::Signature;
use towline_sync_core::message::DeltaOp;
use towline_sync_core::snapshot::Hash;

use self::log::Log;

mod log;

/// Files of this many bytes and more are signed where sums are kept on the disk.
const LEAST_ON_DISK: u64 = 256;
/// Files of this many bytes and more are signed where sums are kept in memory.
const LEAST_IN_MEMORY: u64 = 64 * 1024;
/// The most bytes of sums kept in memory.
const MAX_SUMS: usize = 4 << 20;
/// The most differences kept, and the most bytes in them together.
const MAX_DELTAS: usize = 8192;
const MAX_DELTA_BYTES: usize = 2 << 20;
/// What an entry takes beside its bytes, about, in bytes.
const OVERHEAD_BYTES: usize = 64;

/// What is remembered; for all threads that read files.
#[derive(Debug)]
pub(crate) struct Memory {
    least: u64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    sums: Sums,
    deltas: Bounded<(Hash, Hash), Vec<DeltaOp>>,
}

#[derive(Debug)]
enum Sums {
    Here(Bounded<Hash, Signature>),
    OnDisk(Log),
}

impl Memory {
    /// Returns a memory that ends with the session.
    pub(crate) fn volatile() -> Self {
        Self::new(LEAST_IN_MEMORY, Sums::Here(Bounded::new(usize::MAX, MAX_SUMS)))
    }

    /// Returns a memory whose block sums outlive the session, in the file `name` in `folder`.
    pub(crate) fn lasting(folder: OwnedFd, name: String) -> Self {
        Self::new(LEAST_ON_DISK, Sums::OnDisk(Log::new(folder, name)))
    }

    fn new(least: u64, sums: Sums) -> Self {
        let state = State { sums, deltas: Bounded::new(MAX_DELTAS, MAX_DELTA_BYTES) };
        Self { least, state: Mutex::new(state) }
    }

    /// Tells whether the blocks of a file of `size` bytes are to be remembered.
    pub(crate) fn is_interested(&self, size: u64) -> bool {
        size >= self.least
    }

    /// Remembers the blocks of a content.
    pub(crate) fn keep(&self, hash: Hash, signature: &Signature) {
        match &mut self.lock().sums {
            Sums::Here(sums) => sums.insert(hash, signature.clone(), signature.sums().len()),
            Sums::OnDisk(log) => log.append(hash, signature),
        }
    }

    /// Returns the blocks of a content.
    pub(crate) fn signature(&self, hash: Hash) -> Option<Signature> {
        match &mut self.lock().sums {
            Sums::Here(sums) => sums.get(&hash).cloned(),
            Sums::OnDisk(log) => log.get(hash),
        }
    }

    /// Remembers how the content `to` is made of the content `from`.
    pub(crate) fn keep_delta(&self, from: Hash, to: Hash, ops: Vec<DeltaOp>) {
        let bytes = ops.len() * size_of::<DeltaOp>() + ops.iter().map(DeltaOp::carried).sum::<usize>();
        self.lock().deltas.insert((from, to), ops, bytes);
    }

    /// Returns how the content `to` is made of the content `from`.
    pub(crate) fn delta(&self, from: Hash, to: Hash) -> Option<Vec<DeltaOp>> {
        self.lock().deltas.get(&(from, to)).cloned()
    }

    /// Writes what has to last to the disk. Of `live` contents, which are not more than `most`, it is kept in any case;
    /// others go when they are most.
    pub(crate) fn save<I: Iterator<Item = Hash>>(&self, most: usize, live: impl Fn() -> I) {
        if let Sums::OnDisk(log) = &mut self.lock().sums {
            log.save(most, live);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // What a panicked holder leaves half done is a memory that is wrong: it costs time.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A map that forgets what it was told first.
#[derive(Debug)]
struct Bounded<K, V> {
    all: HashMap<K, (V, usize)>,
    order: VecDeque<K>,
    bytes: usize,
    max_entries: usize,
    max_bytes: usize,
}

impl<K: Copy + Eq + std::hash::Hash, V> Bounded<K, V> {
    fn new(max_entries: usize, max_bytes: usize) -> Self {
        Self { all: HashMap::new(), order: VecDeque::new(), bytes: 0, max_entries, max_bytes }
    }

    fn get(&self, key: &K) -> Option<&V> {
        self.all.get(key).map(|(value, _)| value)
    }

    fn insert(&mut self, key: K, value: V, bytes: usize) {
        let bytes = bytes + OVERHEAD_BYTES;
        if bytes > self.max_bytes || self.all.contains_key(&key) {
            return;
        }
        self.all.insert(key, (value, bytes));
        self.order.push_back(key);
        self.bytes += bytes;
        while self.bytes > self.max_bytes || self.order.len() > self.max_entries {
            let Some((_, bytes)) = self.order.pop_front().and_then(|first| self.all.remove(&first)) else {
                break;
            };
            self.bytes -= bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use towline_sync_core::block::sign;

    use super::*;

    fn hash(number: u32) -> Hash {
        Hash::of(&number.to_le_bytes())
    }

    #[test]
    fn memory_is_bounded_and_the_oldest_goes() {
        let memory = Memory::volatile();
        let size = 1 << 20;
        let signature = sign(std::io::repeat(1).take(size), size).unwrap();
        assert!(memory.is_interested(size) && !memory.is_interested(1000));
        let fit = u32::try_from(MAX_SUMS / (signature.sums().len() + OVERHEAD_BYTES)).unwrap();
        for number in 0..=fit {
            memory.keep(hash(number), &signature);
            memory.keep(hash(number), &signature);
        }
        assert_eq!(memory.signature(hash(0)), None);
        assert_eq!(memory.signature(hash(1)), Some(signature.clone()));
        assert_eq!(memory.signature(hash(fit)), Some(signature));
        for number in 0..2 * u32::try_from(MAX_DELTAS).unwrap() {
            memory.keep_delta(hash(number), hash(number + 1), vec![]);
        }
        memory.keep_delta(hash(7), hash(8), vec![DeltaOp::Literal(vec![0; MAX_DELTA_BYTES])]);
        assert_eq!(memory.delta(hash(0), hash(1)), None);
        assert_eq!(memory.delta(hash(7), hash(8)), None, "too large to be kept at all");
        let last = 2 * u32::try_from(MAX_DELTAS).unwrap();
        assert_eq!(memory.delta(hash(last - 1), hash(last)), Some(vec![]));
        assert_eq!(memory.delta(hash(last), hash(last - 1)), None);
    }

    use std::io::Read;
}
