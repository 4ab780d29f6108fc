//! Files on their way out: a block at a time, so that a long one holds nothing up.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::io::Errno;
use towline_sync_core::block::sign;
use towline_sync_core::delta::delta;
use towline_sync_core::message::{
    Basis, Block, DeltaOp, Failure, MAX_BLOCK_BYTES, MAX_SMALL_BYTES, Reply, RequestId, Signature,
};
use towline_sync_core::path::RelPath;
use towline_sync_core::snapshot::{self, Entry, Hash};

use crate::disk::{Stat, open_file};
use crate::known::Departed;
use crate::read::read_some;
use crate::scan::{Trust, is_absent, is_replaced};
use crate::thread;
use crate::tree::{Tree, failure, refusal};

/// How long a difference in the making is waited for before other work is looked at.
const PATIENCE: Duration = Duration::from_millis(5);

/// A file being sent.
#[derive(Debug)]
pub(crate) struct Reading {
    pub(crate) id: RequestId,
    pub(crate) path: RelPath,
    source: Source,
}

#[derive(Debug)]
enum Source {
    /// Read here, block by block.
    Whole(Box<Hashing>),
    /// Compared by a thread of its own with what the receiver has.
    Difference(Difference),
    /// Compared when it was read to be hashed.
    Remembered(Vec<DeltaOp>),
}

/// What comes next of a file.
#[derive(Debug)]
pub(crate) enum Next {
    Block(Block),
    /// Nothing yet.
    Wait,
    /// The file is not what was asked for, or can't be read.
    Failed(Option<io::Error>),
}

impl Reading {
    /// Opens the file at `path` if it still looks like `expect`; what it is for certain shows at its end. Otherwise
    /// returns the answer.
    pub(crate) fn start(
        tree: &Tree,
        id: RequestId,
        path: RelPath,
        expect: snapshot::File,
        basis: Basis,
    ) -> Result<Self, Reply> {
        let basis = match basis {
            Basis::None => None,
            Basis::Given(signature) => Some(signature),
            Basis::Known(hash) => {
                // The difference makes what is expected, whatever stands here by now.
                let is_ignored = tree.rules.is_pruned(&path) || tree.rules.decide(&path).ignored;
                if let Some(ops) = tree.memory.delta(hash, expect.hash).filter(|_| !is_ignored) {
                    return Ok(Self { id, path, source: Source::Remembered(ops) });
                }
                let known = tree.memory.signature(hash);
                if known.is_none() && expect.size > MAX_SMALL_BYTES {
                    return Err(Reply::NeedSignature { id });
                }
                known
            }
        };
        let file = match open(tree, &path, expect) {
            Ok(Some(file)) => file,
            Ok(None) => return Err(read_failed(tree, id, &path, None)),
            Err(error) => return Err(read_failed(tree, id, &path, Some(&error))),
        };
        let hashing = Hashing::new(file, expect);
        let source = match basis.filter(|basis| !basis.is_empty()) {
            None => Source::Whole(Box::new(hashing)),
            Some(basis) => match Difference::start(basis, hashing) {
                Ok(difference) => Source::Difference(difference),
                Err(error) => return Err(read_failed(tree, id, &path, Some(&error))),
            },
        };
        Ok(Self { id, path, source })
    }

    /// Returns what comes next.
    pub(crate) fn next(&mut self) -> Next {
        match &mut self.source {
            Source::Whole(file) => file.next(),
            Source::Difference(difference) => difference.next(),
            Source::Remembered(ops) => Next::Block(Block { ops: std::mem::take(ops), last: true }),
        }
    }
}

/// Answers a `Sign`.
pub(crate) fn signed(tree: &Tree, id: RequestId, path: &RelPath, expect: snapshot::File) -> Reply {
    let file = match actual(tree, path) {
        Ok(Some(Entry::File(file))) if file == expect => open(tree, path, expect),
        Ok(_) => Ok(None),
        Err(error) => Err(error),
    };
    match file.and_then(|file| file.map(|file| sign(file, expect.size)).transpose()) {
        Ok(Some(signature)) => Reply::Signed { id, signature },
        Ok(None) => read_failed(tree, id, path, None),
        Err(error) => read_failed(tree, id, path, Some(&error)),
    }
}

/// Answers a request whose file is not what it should be.
pub(crate) fn read_failed(tree: &Tree, id: RequestId, path: &RelPath, error: Option<&io::Error>) -> Reply {
    let failed = |error: &io::Error| -> Failure { failure(&format!("read {path}"), error) };
    match actual(tree, path) {
        Ok(actual) => Reply::ReadFailed { id, actual, failure: error.map(failed) },
        Err(other) => Reply::ReadFailed { id, actual: None, failure: Some(failed(error.unwrap_or(&other))) },
    }
}

/// Answers a request that came before there was a root.
pub(crate) fn not_open(id: RequestId) -> Reply {
    Reply::ReadFailed { id, actual: None, failure: Some(refusal(Errno::BADF, "no folder is open")) }
}

fn actual(tree: &Tree, path: &RelPath) -> io::Result<Option<Entry>> {
    if tree.rules.is_pruned(path) || tree.rules.decide(path).ignored {
        return Ok(None);
    }
    let parent = match tree.root.open_parent(path) {
        Ok(parent) => parent,
        Err(error) if is_absent(&error) || is_replaced(&error) => return Ok(None),
        Err(error) => return Err(error),
    };
    let seen = tree.look(parent.as_fd(), path.name(), path, Trust::Settled, &Departed::default())?;
    Ok(seen.map(|seen| seen.entry))
}

/// Opens a file that looks like `expect`; `None` when it does not, or is not there.
fn open(tree: &Tree, path: &RelPath, expect: snapshot::File) -> io::Result<Option<File>> {
    if tree.rules.is_pruned(path) || tree.rules.decide(path).ignored {
        return Ok(None);
    }
    let opened = tree.root.open_parent(path).and_then(|parent| open_file(parent.as_fd(), path.name()));
    let (file, stat): (File, Stat) = match opened {
        Ok(opened) => opened,
        Err(error) if is_absent(&error) || is_replaced(&error) => return Ok(None),
        Err(error) => return Err(error),
    };
    let alike = stat.size == expect.size && stat.is_executable() == expect.executable;
    Ok(alike.then_some(file))
}

/// A file that is hashed as it is read.
#[derive(Debug)]
struct Hashing {
    file: File,
    expect: snapshot::File,
    hasher: blake3::Hasher,
    count: u64,
}

impl Hashing {
    fn new(file: File, expect: snapshot::File) -> Self {
        Self { file, expect, hasher: blake3::Hasher::new(), count: 0 }
    }

    fn next(&mut self) -> Next {
        match self.next_block() {
            Ok(Some(block)) => Next::Block(block),
            Ok(None) => Next::Failed(None),
            Err(error) => Next::Failed(Some(error)),
        }
    }

    fn next_block(&mut self) -> io::Result<Option<Block>> {
        let left = self.expect.size.saturating_sub(self.count);
        let mut bytes = vec![0; usize::try_from(left).unwrap_or(MAX_BLOCK_BYTES).min(MAX_BLOCK_BYTES)];
        let mut filled = 0;
        while filled < bytes.len() {
            match self.read(&mut bytes[filled..])? {
                0 => return Ok(None),
                count => filled += count,
            }
        }
        let last = self.count == self.expect.size;
        if last && !(self.read(&mut [0])? == 0 && self.is_as_expected()) {
            return Ok(None);
        }
        let ops = if bytes.is_empty() { Vec::new() } else { vec![DeltaOp::Literal(bytes)] };
        Ok(Some(Block { ops, last }))
    }

    fn is_as_expected(&self) -> bool {
        self.count == self.expect.size && Hash(*self.hasher.finalize().as_bytes()) == self.expect.hash
    }
}

impl Read for Hashing {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = read_some(&mut self.file, buffer)?;
        self.hasher.update(&buffer[..count]);
        self.count += count as u64;
        Ok(count)
    }
}

/// A thread that compares a file with what the receiver has; dropping it ends and joins it.
#[derive(Debug)]
struct Difference {
    /// comparing thread --blocks--> worker; `None` says that the file is not what was asked for.
    block_rx: Option<Receiver<io::Result<Option<Block>>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Difference {
    fn start(basis: Signature, file: Hashing) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (block_tx, block_rx) = sync_channel(2);
        let mut file = Stoppable { file, stop: Arc::clone(&stop) };
        let thread = thread::start("towline-delta", move || {
            let gone = || io::Error::from(Errno::CANCELED);
            // One block is held back: the last may go out only when the whole file was what it should be.
            let mut held = None;
            let done = delta(&basis, &mut file, |block| match held.replace(block) {
                Some(block) => block_tx.send(Ok(Some(block))).map_err(|_| gone()),
                None => Ok(()),
            });
            let end = done.map(|()| held.filter(|_| file.file.is_as_expected()));
            // Nobody listens when the request was given up.
            let _given_up = block_tx.send(end);
        })?;
        Ok(Self { block_rx: Some(block_rx), stop, thread: Some(thread) })
    }

    fn next(&self) -> Next {
        let Some(block_rx) = &self.block_rx else {
            return Next::Failed(None);
        };
        match block_rx.recv_timeout(PATIENCE) {
            Ok(Ok(Some(block))) => Next::Block(block),
            Ok(Ok(None)) | Err(RecvTimeoutError::Disconnected) => Next::Failed(None),
            Ok(Err(error)) => Next::Failed(Some(error)),
            Err(RecvTimeoutError::Timeout) => Next::Wait,
        }
    }
}

impl Drop for Difference {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.block_rx = None;
        if let Some(thread) = self.thread.take() {
            // Its panic has been printed; its reader has been told that the file failed.
            let _ended = thread.join();
        }
    }
}

struct Stoppable {
    file: Hashing,
    stop: Arc<AtomicBool>,
}

impl Read for Stoppable {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(Errno::CANCELED.into());
        }
        self.file.read(buffer)
    }
}
