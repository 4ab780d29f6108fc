//! Files on their way in: written beside the tree, checked as they come, verified at the end.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use rustix::fs::{Mode, fchmod};
use rustix::io::Errno;
use towline_sync_core::block::{Signature, SignatureBuilder};
use towline_sync_core::delta::DeltaCheck;
use towline_sync_core::message::{Block, DeltaOp, Outcome, RequestId};
use towline_sync_core::path::RelPath;
use towline_sync_core::snapshot::{self, Entry, Hash, Transition};

use crate::disk::{Timestamp, stat_of};
use crate::hook::{Hook, Moment};
use crate::make::set_modified;
use crate::read::{BUFFER_BYTES, beside, buffer_for, is_worth_two};
use crate::stage::{create, remove};
use crate::tree::{failure, refusal};

/// What a received file is for.
#[derive(Debug)]
pub(crate) enum Purpose {
    /// It takes its place in the tree.
    Apply(Transition),
    /// It is kept outside the tree.
    Keep,
}

/// A file being received.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) purpose: Purpose,
    pub(crate) path: RelPath,
    /// Made with the first bytes: most files come in one piece, and a descriptor for each that is asked for is too many.
    file: Option<File>,
    /// Where it is staged, and under which name.
    pub(crate) folder: Arc<OwnedFd>,
    pub(crate) name: String,
    planned: snapshot::File,
    sums: Sums,
    pub(crate) basis: Option<File>,
    check: DeltaCheck,
    copied: bool,
}

/// A file that has arrived whole.
#[derive(Debug)]
pub(crate) struct Ready {
    pub(crate) id: RequestId,
    pub(crate) incoming: Incoming,
}

impl Incoming {
    /// Prepares for the file `name` in `folder` and content that is to be `planned`.
    pub(crate) fn new(
        purpose: Purpose,
        path: RelPath,
        planned: snapshot::File,
        folder: Arc<OwnedFd>,
        name: String,
    ) -> Self {
        let basis = match &purpose {
            Purpose::Apply(Transition { from: Some(Entry::File(from)), .. }) => from.size,
            _ => 0,
        };
        Self {
            purpose,
            path,
            file: None,
            folder,
            name,
            planned,
            sums: Sums::default(),
            basis: None,
            check: DeltaCheck::new(planned.size, basis),
            copied: false,
        }
    }

    /// Has the blocks signed too.
    pub(crate) fn signing(mut self) -> Self {
        self.sums.signer = Some(SignatureBuilder::new(self.planned.size));
        self
    }

    /// Returns the signature of what has arrived, if it was to be made.
    pub(crate) fn take_signature(&mut self) -> Option<Signature> {
        self.sums.signer.take()?.finish().ok()
    }

    /// Tells whether the block copies from an older version that is not open yet.
    pub(crate) fn lacks_basis(&self, block: &Block) -> bool {
        self.basis.is_none() && block.ops.iter().any(|op| matches!(op, DeltaOp::Copy { .. }))
    }

    /// Returns the content that is being received.
    pub(crate) fn planned(&self) -> snapshot::File {
        self.planned
    }

    /// Appends a block; tells whether the file is complete and verified.
    pub(crate) fn push(&mut self, block: &Block, hook: &mut Hook) -> Result<bool, Outcome> {
        if self.lacks_basis(block) {
            return Err(Outcome::NeedContent);
        }
        self.check.push(block).map_err(|error| {
            Outcome::Failed(refusal(Errno::PROTO, format!("content of {}: {error}", self.path)))
        })?;
        for op in &block.ops {
            hook.at(Moment::Write, &self.path)
                .and_then(|()| match op {
                    DeltaOp::Literal(bytes) => self.write(bytes),
                    DeltaOp::Copy { offset, length } => self.copy(*offset, *length),
                })
                .map_err(|error| Outcome::Failed(failure(&format!("write {}", self.path), &error)))?;
        }
        if !block.last {
            return Ok(false);
        }
        if self.sums.hash() == self.planned.hash {
            Ok(true)
        } else if self.copied {
            Err(Outcome::NeedContent)
        } else {
            Err(Outcome::Failed(refusal(
                Errno::IO,
                format!("content of {} does not match its hash", self.path),
            )))
        }
    }

    /// Fills the file from `source`; tells whether that was the planned content.
    pub(crate) fn fill(&mut self, source: &File, hook: &mut Hook) -> io::Result<bool> {
        hook.at(Moment::Write, &self.path)?;
        let size = self.planned.size;
        let copied = self.copy_from(source, 0, size)?;
        Ok(copied == size && stat_of(source.as_fd())?.size == size && self.sums.hash() == self.planned.hash)
    }

    /// Sets the permission bits of the staged file.
    pub(crate) fn set_mode(&mut self, mode: Mode) -> io::Result<()> {
        Ok(fchmod(self.file()?, mode)?)
    }

    /// Sets the modification time of the staged file.
    pub(crate) fn set_modified(&mut self, stamp: Timestamp) -> io::Result<()> {
        set_modified(self.file()?, stamp)
    }

    /// Throws away what was staged.
    pub(crate) fn discard(self) {
        // What can't be removed now is swept when the root is opened next.
        let _left = remove(self.folder.as_fd(), self.name.as_str());
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.sums.push(bytes);
        self.file()?.write_all(bytes)
    }

    /// Returns the staged file, which is made if there were no bytes yet.
    pub(crate) fn file(&mut self) -> io::Result<&mut File> {
        let file = match self.file.take() {
            Some(file) => file,
            None => create(self.folder.as_fd(), &self.name)?,
        };
        Ok(self.file.insert(file))
    }

    fn copy(&mut self, offset: u64, length: u64) -> io::Result<()> {
        self.copied = true;
        let Some(basis) = self.basis.take() else {
            return Err(Errno::INVAL.into());
        };
        let copied = self.copy_from(&basis, offset, length);
        self.basis = Some(basis);
        let mut missing = length - copied?;
        // It was cut meanwhile: the hash will tell.
        let zeros = buffer_for(missing);
        while missing > 0 {
            let part = usize::try_from(missing).unwrap_or(BUFFER_BYTES).min(zeros.len());
            self.write(&zeros[..part])?;
            missing -= part as u64;
        }
        Ok(())
    }

    /// Appends `length` bytes of `source`, or what there is of them; returns how many.
    fn copy_from(&mut self, source: &File, offset: u64, length: u64) -> io::Result<u64> {
        self.file()?;
        let Self { file: Some(file), sums, .. } = self else { return Err(Errno::INVAL.into()) };
        let mut copy = |sums: &mut dyn FnMut(&[u8])| {
            let mut buffer = buffer_for(length);
            let mut done = 0;
            while done < length {
                let part = usize::try_from(length - done).unwrap_or(BUFFER_BYTES).min(buffer.len());
                let count = match source.read_at(&mut buffer[..part], offset + done) {
                    Ok(0) => break,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    count => count?,
                };
                sums(&buffer[..count]);
                file.write_all(&buffer[..count])?;
                done += count as u64;
            }
            Ok(done)
        };
        if is_worth_two(length) {
            beside(|bytes| sums.push(bytes), copy)
        } else {
            copy(&mut |bytes| sums.push(bytes))
        }
    }
}

/// What is found out of the content as it comes.
#[derive(Debug, Default)]
struct Sums {
    hasher: blake3::Hasher,
    signer: Option<SignatureBuilder>,
}

impl Sums {
    fn push(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        if let Some(signer) = &mut self.signer {
            signer.push(bytes);
        }
    }

    fn hash(&self) -> Hash {
        Hash(*self.hasher.finalize().as_bytes())
    }
}
