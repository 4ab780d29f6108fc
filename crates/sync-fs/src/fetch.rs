//! Small files on their way out, many at a time.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use towline_sync_core::message::{Body, Found, MAX_BATCH_BYTES, MAX_SMALL_BYTES, Wanted};
use towline_sync_core::snapshot::Hash;

use crate::disk::{is_still, open_file};
use crate::read::{Ops, read_small};
use crate::scan::Trust;
use crate::tree::Tree;

/// What else a file takes in a message, about, in bytes.
const OVERHEAD_BYTES: usize = 64;
/// The most that is answered at once, in bytes.
const ANSWER_BYTES: usize = 3 * MAX_BATCH_BYTES;

impl Tree {
    /// Reads small files; `None` stands for one that is not what was expected, or can't be read.
    pub(crate) fn fetch(&self, files: &[Wanted]) -> Vec<Option<Found>> {
        let mut folder = None;
        let (mut content, mut all) = (0, 0);
        let mut fetch = |wanted: &Wanted| -> Option<Found> {
            let Wanted { path, file: expect, basis } = wanted;
            let size = usize::try_from(expect.size).ok().filter(|_| expect.size <= MAX_SMALL_BYTES)?;
            (content, all) = (content + size, all + size + path.as_str().len() + OVERHEAD_BYTES);
            if content > MAX_BATCH_BYTES || all > ANSWER_BYTES {
                return None;
            }
            if self.rules.decide(path).ignored {
                return None;
            }
            if let Some(ops) = basis.and_then(|basis| self.memory.delta(basis, expect.hash)) {
                return Some(Found { body: Body::Delta(ops), modified: None });
            }
            let parent = path.parent();
            if folder.as_ref().is_none_or(|(open, _)| *open != parent) {
                let pruned = parent.as_ref().is_some_and(|parent| self.rules.is_pruned(parent));
                folder = Some((parent, self.root.open_parent(path).ok().filter(|_| !pruned)));
            }
            let (_, Some(open)) = folder.as_ref()? else { return None };
            self.fetch_one(open, wanted).ok().flatten()
        };
        files.iter().map(&mut fetch).collect()
    }

    fn fetch_one(&self, folder: &OwnedFd, wanted: &Wanted) -> io::Result<Option<Found>> {
        let Wanted { path, file: expect, basis } = wanted;
        let (file, stat): (File, _) = open_file(folder.as_fd(), path.name())?;
        if stat.size != expect.size || stat.is_executable() != expect.executable {
            return Ok(None);
        }
        let content = read_small(&file, stat.size)?;
        let still = is_still(file.as_fd(), &stat)?;
        let known = self.unchanged(path, &stat, Trust::Settled).and_then(|seen| seen.hash());
        let hash = match known.filter(|_| still) {
            Some(hash) => hash,
            None => Hash::of(&content),
        };
        if content.len() as u64 != expect.size || hash != expect.hash {
            return Ok(None);
        }
        let old = basis.and_then(|basis| self.memory.signature(basis));
        let body = match old.and_then(|old| Ops::between(&old, &content)) {
            Some(ops) => Body::Delta(ops),
            None => Body::Whole(content),
        };
        Ok(Some(Found { body, modified: Some(stat.modified) }))
    }
}
