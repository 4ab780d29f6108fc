//! Reads files and tells whether they held still meanwhile.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::mpsc::sync_channel;

use rustix::buffer::spare_capacity;
use rustix::io::Errno;
use towline_sync_core::block::{Signature, SignatureBuilder};
use towline_sync_core::delta::{Differ, MAX_BLOCK_OPS, Step};
use towline_sync_core::message::{DeltaOp, MAX_BLOCK_BYTES, MAX_SMALL_BYTES};
use towline_sync_core::snapshot::{self, Entry, Hash};

use crate::disk::{Stat, is_still, open_file, stat_of};
use crate::known::{Seen, now};
use crate::memory::Memory;
use crate::thread;

/// The most read at once, in bytes.
pub(crate) const BUFFER_BYTES: usize = 128 * 1024;
/// From here on a file is worth a second thread, in bytes.
const BESIDE_BYTES: u64 = 8 << 20;
/// How many pieces wait for the second thread.
const PIECES: usize = 4;
/// What a step of a difference takes in a message beside its bytes, about, in bytes.
const OP_BYTES: usize = 4;
/// How often a file that changes while it is read is read again.
const ATTEMPTS: usize = 3;

/// What a reader of files is to do beside hashing them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Also<'a> {
    /// Where block sums are kept, and differences.
    pub(crate) memory: &'a Memory,
    /// What stood there before, to be compared with.
    pub(crate) old: Option<Hash>,
    /// Whether a small file's content is returned.
    pub(crate) keep: bool,
}

/// Reads and hashes the file `name` in `folder`.
pub(crate) fn hash_file(folder: BorrowedFd<'_>, name: &str) -> io::Result<Seen> {
    read(folder, name, None).map(|(seen, _)| seen)
}

/// Reads and hashes the file `name` in `folder` and does what else is wanted, all in one pass.
pub(crate) fn read_file(
    folder: BorrowedFd<'_>,
    name: &str,
    also: Also<'_>,
) -> io::Result<(Seen, Option<Vec<u8>>)> {
    read(folder, name, Some(also)).map(|(seen, content)| (seen, content.filter(|_| also.keep)))
}

/// A file that never holds still is returned as it was read last and marked racy: whoever writes it causes another
/// event, and it is read again.
fn read(folder: BorrowedFd<'_>, name: &str, also: Option<Also<'_>>) -> io::Result<(Seen, Option<Vec<u8>>)> {
    let mut attempt = 1;
    loop {
        let taken = now();
        let (mut file, before) = open_file(folder, name)?;
        let pass = Pass::new(also, before.size);
        let (hash, size, content) = if before.size <= MAX_SMALL_BYTES {
            let content = read_small(&file, before.size)?;
            let hash = Hash::of(&content);
            pass.whole(&content, hash);
            (hash, content.len() as u64, Some(content))
        } else {
            let (hash, size) = hash_large(&mut file, before.size, pass)?;
            (hash, size, None)
        };
        let still = size == before.size && is_still(file.as_fd(), &before)?;
        let after = if still { before } else { stat_of(file.as_fd())? };
        if still || attempt == ATTEMPTS {
            let mut seen = Seen::new(file_entry(hash, size, &after), after, taken);
            seen.racy |= !still;
            return Ok((seen, content.filter(|_| still)));
        }
        attempt += 1;
    }
}

/// Returns the entry of a file with this content.
pub(crate) fn file_entry(hash: Hash, size: u64, stat: &Stat) -> Entry {
    Entry::File(snapshot::File { hash, size, executable: stat.is_executable() })
}

/// Hashes everything that `file` has, and counts it; a second processor looks at it meanwhile.
fn hash_large(file: &mut File, size: u64, mut pass: Pass<'_>) -> io::Result<(Hash, u64)> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; BUFFER_BYTES];
    let length = if pass.is_idle() || !is_worth_two(size) {
        read_all(file, &mut buffer, |bytes| {
            hasher.update(bytes);
            pass.push(bytes);
        })?
    } else {
        let work = |take: &mut dyn FnMut(&[u8])| {
            read_all(file, &mut buffer, |bytes| {
                take(bytes);
                hasher.update(bytes);
            })
        };
        beside(|bytes| pass.push(bytes), work)?
    };
    let hash = Hash(*hasher.finalize().as_bytes());
    pass.end(hash, length);
    Ok((hash, length))
}

/// Tells whether a file of `size` bytes is worth a second thread, and that one a processor.
pub(crate) fn is_worth_two(size: u64) -> bool {
    size >= BESIDE_BYTES && std::thread::available_parallelism().is_ok_and(|count| count.get() > 1)
}

fn read_all(file: &mut File, buffer: &mut [u8], mut take: impl FnMut(&[u8])) -> io::Result<u64> {
    let mut length = 0;
    loop {
        let count = read_some(file, buffer)?;
        if count == 0 {
            return Ok(length);
        }
        take(&buffer[..count]);
        length += count as u64;
    }
}

/// Runs `work`, which hands over pieces, and has each of them looked at by another thread, where one is to be had.
pub(crate) fn beside<T>(
    mut look: impl FnMut(&[u8]) + Send,
    work: impl FnOnce(&mut dyn FnMut(&[u8])) -> T,
) -> T {
    // worker --pieces--> looker, and back when they were looked at
    let (piece_tx, piece_rx) = sync_channel::<Vec<u8>>(PIECES);
    let (free_tx, free_rx) = sync_channel::<Vec<u8>>(PIECES + 2);
    std::thread::scope(|scope| {
        // Without a thread nothing is looked at; what was handed over is dropped.
        let _started = thread::start_in(scope, "towline-sums", move || {
            while let Ok(piece) = piece_rx.recv() {
                look(&piece);
                // There is room for all that are under way.
                let _done = free_tx.try_send(piece);
            }
        });
        let done = work(&mut |bytes| {
            let mut piece = free_rx.try_recv().unwrap_or_default();
            piece.clear();
            piece.extend_from_slice(bytes);
            let _unseen = piece_tx.send(piece);
        });
        drop(piece_tx);
        done
    })
}

/// One look at a file's content, for its block sums and for what differs from the content before.
struct Pass<'a> {
    also: Option<Also<'a>>,
    signer: Option<SignatureBuilder>,
    differ: Option<Comparison>,
    /// Bytes that were looked at.
    seen: u64,
}

/// A comparison with what stood there before.
struct Comparison {
    from: Hash,
    differ: Differ,
    ops: Ops,
}

impl<'a> Pass<'a> {
    fn new(also: Option<Also<'a>>, size: u64) -> Self {
        let old = also.and_then(|also| Some((also.old?, also.memory.signature(also.old?)?)));
        let differ = old.filter(|(_, old)| !old.is_empty());
        Self {
            signer: also.filter(|also| also.memory.is_interested(size)).map(|_| SignatureBuilder::new(size)),
            differ: differ.map(|(from, old)| Comparison {
                from,
                differ: Differ::new(&old),
                ops: Ops::default(),
            }),
            also,
            seen: 0,
        }
    }

    fn is_idle(&self) -> bool {
        self.signer.is_none() && self.differ.is_none()
    }

    fn whole(mut self, content: &[u8], hash: Hash) {
        if !self.is_idle() {
            self.push(content);
            self.end(hash, content.len() as u64);
        }
    }

    fn push(&mut self, bytes: &[u8]) {
        self.seen += bytes.len() as u64;
        if let Some(signer) = &mut self.signer {
            signer.push(bytes);
        }
        if let Some(Comparison { differ, ops, .. }) = &mut self.differ
            && differ.push(bytes, &mut |step| ops.step(step)).is_err()
        {
            // Too much differs for it to be kept.
            self.differ = None;
        }
    }

    /// Keeps what was found of the content with this hash and `size`, if all of it was looked at.
    fn end(self, hash: Hash, size: u64) {
        let Some(Also { memory, .. }) = self.also.filter(|_| self.seen == size) else { return };
        if let Some(Ok(signature)) = self.signer.map(SignatureBuilder::finish) {
            memory.keep(hash, &signature);
        }
        if let Some(Comparison { from, differ, mut ops }) = self.differ
            && from != hash
            && differ.finish(&mut |step| ops.step(step)).is_ok()
            && ops.saves(size)
        {
            memory.keep_delta(from, hash, ops.0);
        }
    }
}

/// The steps of a difference that is small enough to be kept.
#[derive(Default)]
pub(crate) struct Ops(Vec<DeltaOp>, usize);

impl Ops {
    /// Takes the next step; fails when there are too many for one message.
    pub(crate) fn step(&mut self, step: Step<'_>) -> io::Result<()> {
        let op = match step {
            Step::Literal { bytes, .. } => DeltaOp::Literal(bytes.to_vec()),
            Step::Copy { offset, length } => DeltaOp::Copy { offset, length },
        };
        self.1 += op.carried();
        if self.0.len() == MAX_BLOCK_OPS || self.1 > MAX_BLOCK_BYTES {
            return Err(Errno::FBIG.into());
        }
        match (&op, self.0.last_mut()) {
            (DeltaOp::Literal(more), Some(DeltaOp::Literal(bytes))) => bytes.extend_from_slice(more),
            _ => self.0.push(op),
        }
        Ok(())
    }

    /// Returns how a small content is made of one with these blocks, if that saves something.
    pub(crate) fn between(old: &Signature, content: &[u8]) -> Option<Vec<DeltaOp>> {
        let mut ops = Self::default();
        let mut differ = Differ::new(old);
        differ.push(content, &mut |step| ops.step(step)).ok()?;
        differ.finish(&mut |step| ops.step(step)).ok()?;
        ops.saves(content.len() as u64).then_some(ops.0)
    }

    fn saves(&self, size: u64) -> bool {
        ((self.1 + self.0.len() * OP_BYTES) as u64) < size
    }
}

/// Reads all of a small file that had `size` bytes; more than that says that it has grown.
pub(crate) fn read_small(file: &File, size: u64) -> io::Result<Vec<u8>> {
    let room = usize::try_from(size).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))? + 1;
    let mut content = Vec::with_capacity(room);
    while content.len() < room {
        let count = match rustix::io::read(file, spare_capacity(&mut content)) {
            Err(Errno::INTR) => continue,
            count => count?,
        };
        // A regular file gives less than was asked for only at its end.
        if count == 0 || content.len() + 1 == room {
            break;
        }
    }
    Ok(content)
}

/// Returns a buffer that a file of `size` bytes needs.
pub(crate) fn buffer_for(size: u64) -> Vec<u8> {
    vec![
        0;
        usize::try_from(size).map_or(BUFFER_BYTES, |size| size.saturating_add(1).clamp(512, BUFFER_BYTES))
    ]
}

/// Reads what is there, at most a buffer; 0 at the end.
pub(crate) fn read_some(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match file.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use towline_sync_core::block::sign;

    use super::*;

    #[test]
    fn what_was_not_seen_whole_is_not_remembered() {
        let memory = Memory::volatile();
        let old = vec![1; 100_000];
        let (from, to) = (Hash::of(&old), Hash::of(b"new"));
        memory.keep(from, &sign(&old[..], 100_000).unwrap());
        for (seen, known) in [(70_000, false), (100_000, true)] {
            let also = Also { memory: &memory, old: Some(from), keep: false };
            let mut pass = Pass::new(Some(also), 100_000);
            pass.push(&old[..seen]);
            pass.end(to, 100_000);
            assert_eq!(memory.delta(from, to).is_some(), known);
            assert_eq!(memory.signature(to).is_some(), known);
        }
    }
}
