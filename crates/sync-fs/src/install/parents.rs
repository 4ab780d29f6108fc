//! The folders that a batch's entries go into.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::io::Errno;
use towline_sync_core::message::Outcome;
use towline_sync_core::path::RelPath;

use super::MAX_OPEN;
use crate::commit::{Step, failed};
use crate::tree::refusal;
use crate::workspace::Workspace;

/// The folders outside the batch that its entries go into.
#[derive(Default)]
pub(super) struct Parents {
    open: HashMap<Option<RelPath>, Step<Arc<OwnedFd>>>,
    pruned: HashMap<RelPath, bool>,
}

impl Parents {
    /// Tells whether a walk never comes into the folder that `path` lies in.
    pub(super) fn is_pruned(&mut self, workspace: &Workspace, path: &RelPath) -> bool {
        let Some(parent) = path.parent() else { return false };
        if let Some(pruned) = self.pruned.get(&parent) {
            return *pruned;
        }
        let pruned = workspace.tree.rules.decide(&parent).skip_dir || self.is_pruned(workspace, &parent);
        self.pruned.insert(parent, pruned);
        pruned
    }

    /// Opens the folder that `path` lies in.
    pub(super) fn open(&mut self, workspace: &Workspace, path: &RelPath) -> Step<Arc<OwnedFd>> {
        let Some(parent) = path.parent() else {
            return self.held(None, || opened(workspace, path));
        };
        self.held(Some(parent.clone()), || {
            allowed(workspace, &parent, path)?;
            opened(workspace, path)
        })
    }

    /// Opens the folder `path`.
    pub(super) fn enter(&mut self, workspace: &Workspace, path: &RelPath) -> Step<Arc<OwnedFd>> {
        self.held(Some(path.clone()), || {
            allowed(workspace, path, path)?;
            let folder = workspace.tree.root.open_folder(path);
            folder.map(Arc::new).map_err(|error| failed("open", path, &error))
        })
    }

    fn held(
        &mut self,
        folder: Option<RelPath>,
        open: impl FnOnce() -> Step<Arc<OwnedFd>>,
    ) -> Step<Arc<OwnedFd>> {
        if let Some(held) = self.open.get(&folder) {
            return held.clone();
        }
        if self.open.len() >= MAX_OPEN {
            self.open.clear();
        }
        let opened = open();
        // A folder that can't be opened now may be made by an entry that comes before the next one in it.
        if opened.is_ok() {
            self.open.insert(folder, opened.clone());
        }
        opened
    }
}

fn opened(workspace: &Workspace, path: &RelPath) -> Step<Arc<OwnedFd>> {
    let parent = workspace.tree.root.open_parent(path);
    parent.map(Arc::new).map_err(|error| failed("open the folder of", path, &error))
}

fn allowed(workspace: &Workspace, folder: &RelPath, path: &RelPath) -> Step<()> {
    match workspace.tree.guard.refusal(&workspace.tree.root, folder) {
        None => Ok(()),
        Some(why) => {
            let message = format!("{path}: never written from the other side: {why}");
            Err(Outcome::Failed(refusal(Errno::PERM, message)))
        }
    }
}
