//! Keeps what runs code on this machine from being written: by name, and by what a name leads to.

use std::collections::HashSet;
use std::os::fd::AsFd;

use towline_sync_core::path::RelPath;
use towline_sync_core::protect::protected;

use crate::disk::{Identity, Root, Stat, stat_at};

/// Knows the protected files and folders that exist, whatever name leads to them.
#[derive(Debug, Default)]
pub(crate) struct Guard {
    active: bool,
    identities: HashSet<Identity>,
}

impl Guard {
    /// Returns a guard that refuses, or one that lets everything pass.
    pub(crate) fn new(active: bool) -> Self {
        Self { active, identities: HashSet::new() }
    }

    /// Tells whether what stands at this path is to be recognised under any other name.
    pub(crate) fn is_reserved(&self, path: &RelPath) -> bool {
        // The spellings by which such names are disguised are of no interest here: these are the real ones.
        let name = path.name();
        let candidate = ['.', 'o', 't', 'c'].iter().any(|first| name.starts_with(*first));
        self.active && candidate && protected(path).is_some()
    }

    /// Remembers what has a protected name: everything there is with `all`, and otherwise more.
    pub(crate) fn reserve(&mut self, stats: &[Stat], all: bool) {
        if all {
            self.identities.clear();
        }
        self.identities.extend(stats.iter().map(|stat| stat.identity));
    }

    /// Returns why nothing of this name must be written, whatever stands there.
    pub(crate) fn refusal_by_name(&self, path: &RelPath) -> Option<&'static str> {
        if self.active { protected(path) } else { None }
    }

    /// Returns why `path` must not be written.
    pub(crate) fn refusal(&self, root: &Root, path: &RelPath) -> Option<&'static str> {
        if !self.active {
            return None;
        }
        if let Some(why) = self.refusal_by_name(path) {
            return Some(why);
        }
        for part in std::iter::once(path.clone()).chain(path.ancestors()) {
            let Ok(parent) = root.open_parent(&part) else { continue };
            let stat = stat_at(parent.as_fd(), part.name());
            if stat.is_ok_and(|stat| self.identities.contains(&stat.identity)) {
                return Some("it is another name of a protected file");
            }
        }
        None
    }
}
