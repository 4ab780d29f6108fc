//! Files on their way in: written beside the tree, checked as they come, verified at the end.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use rustix::fs::{Mode, fchmod};
use rustix::io::Errno;
use towline_sync_core::delta::DeltaCheck;
use towline_sync_core::message::{Block, DeltaOp, Outcome, RequestId};
use towline_sync_core::path::RelPath;
use towline_sync_core::snapshot::{self, Entry, Hash, Transition};

use crate::hook::{Hook, Moment};
use crate::read::{BUFFER_BYTES, buffer_for, read_some};
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
    hasher: blake3::Hasher,
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
            hasher: blake3::Hasher::new(),
            basis: None,
            check: DeltaCheck::new(planned.size, basis),
            copied: false,
        }
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
        if Hash(*self.hasher.finalize().as_bytes()) == self.planned.hash {
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
    pub(crate) fn fill(&mut self, mut source: File, hook: &mut Hook) -> io::Result<bool> {
        let mut buffer = buffer_for(self.planned.size);
        let mut left = self.planned.size;
        loop {
            let count = read_some(&mut source, &mut buffer)?;
            if count == 0 {
                break;
            }
            if count as u64 > left {
                return Ok(false);
            }
            left -= count as u64;
            hook.at(Moment::Write, &self.path)?;
            self.write(&buffer[..count])?;
        }
        Ok(left == 0 && Hash(*self.hasher.finalize().as_bytes()) == self.planned.hash)
    }

    /// Sets the permission bits of the staged file.
    pub(crate) fn set_mode(&mut self, mode: Mode) -> io::Result<()> {
        Ok(fchmod(self.file()?, mode)?)
    }

    /// Throws away what was staged.
    pub(crate) fn discard(self) {
        // What can't be removed now is swept when the root is opened next.
        let _left = remove(self.folder.as_fd(), self.name.as_str());
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
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

    fn copy(&mut self, mut offset: u64, mut length: u64) -> io::Result<()> {
        self.copied = true;
        let mut buffer = buffer_for(length);
        while length > 0 {
            let part = usize::try_from(length).unwrap_or(BUFFER_BYTES).min(buffer.len());
            let Some(basis) = &self.basis else {
                return Err(Errno::INVAL.into());
            };
            if let Err(error) = basis.read_exact_at(&mut buffer[..part], offset) {
                if error.kind() != io::ErrorKind::UnexpectedEof {
                    return Err(error);
                }
                // It was cut meanwhile: the hash will tell.
                buffer[..part].fill(0);
            }
            self.write(&buffer[..part])?;
            offset += part as u64;
            length -= part as u64;
        }
        Ok(())
    }
}
