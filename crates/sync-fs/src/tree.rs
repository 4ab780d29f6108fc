//! An open root and everything that is known of it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use towline_sync_core::message::{Failure, Problem};
use towline_sync_core::path::RelPath;
use towline_sync_core::snapshot::{Entry, Opaque};

use crate::disk::Root;
use crate::guard::Guard;
use crate::known::{Known, Seen};
use crate::memory::Memory;
use crate::rules::Rules;
use crate::watch_table::WatchTable;

/// The most problems told of at once: more say nothing to a person and would not fit a message.
const MAX_PROBLEMS: usize = 1000;

/// An open root: what it holds, as far as the engine has been told, and what is left alone.
pub(crate) struct Tree {
    pub(crate) root: Root,
    pub(crate) rules: Rules,
    pub(crate) mounts: BTreeSet<RelPath>,
    pub(crate) known: Known,
    /// What the last session knew: believed of files whose stat is still the same, until they are known again.
    pub(crate) remembered: Known,
    pub(crate) memory: Arc<Memory>,
    pub(crate) guard: Guard,
    /// `None` where the kernel gives no events.
    pub(crate) watches: Option<Arc<WatchTable>>,
    pub(crate) problems: Problems,
    /// What a test does when a folder has just been listed.
    #[cfg(test)]
    pub(crate) listed: Option<Listed>,
}

#[cfg(test)]
pub(crate) type Listed = Box<dyn Fn(Option<&RelPath>) + Send + Sync>;

impl Tree {
    /// Watches an open folder; must come before it is listed.
    pub(crate) fn watch(&self, folder: BorrowedFd<'_>, path: Option<&RelPath>) {
        if let Some(watches) = &self.watches {
            watches.add(folder, path);
        }
    }

    /// Lets a test step in when a folder has just been listed.
    #[cfg(test)]
    pub(crate) fn just_listed(&self, path: Option<&RelPath>) {
        if let Some(listed) = &self.listed {
            listed(path);
        }
    }

    /// Returns what a walk of everything begins with: what is known, or was when the last session ended.
    pub(crate) fn base(&self) -> &Known {
        if self.known.is_empty() { &self.remembered } else { &self.known }
    }

    /// Records what stands at `path` now.
    pub(crate) fn record(&mut self, path: &RelPath, seen: &Seen) {
        self.problems.note(path, Some(&seen.entry));
        self.known.insert(path, seen);
    }

    /// Forgets what stood at `path`.
    pub(crate) fn forget(&mut self, path: &RelPath) -> Option<Seen> {
        self.problems.note(path, None);
        self.known.remove(path)
    }
}

/// The paths that can't be synced, by path.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Problems {
    entries: BTreeMap<String, &'static str>,
    /// Names that no entry can carry: found by listings only.
    names: BTreeMap<String, &'static str>,
    /// What is wrong with the root itself.
    root: Option<String>,
    changed: bool,
}

impl Problems {
    pub(crate) fn note(&mut self, path: &RelPath, entry: Option<&Entry>) {
        let message = match entry {
            Some(Entry::Opaque(opaque)) => explain(*opaque),
            _ => None,
        };
        self.changed |= match message {
            Some(message) => self.entries.insert(path.as_str().to_owned(), message) != Some(message),
            None => self.entries.remove(path.as_str()).is_some(),
        };
    }

    /// Says what is wrong with the root itself, or that nothing is.
    pub(crate) fn set_root(&mut self, problem: Option<String>) {
        self.changed |= self.root.is_some() != problem.is_some();
        self.root = problem;
    }

    /// Forgets the entries: a scan finds them anew.
    pub(crate) fn clear_entries(&mut self) {
        self.changed |= !self.entries.is_empty();
        self.entries.clear();
    }

    /// Takes over the names that a walk of everything found.
    pub(crate) fn set_names(&mut self, names: Vec<(String, &'static str)>) {
        let names: BTreeMap<_, _> = names.into_iter().collect();
        self.changed |= self.names != names;
        self.names = names;
    }

    /// Adds the names that a walk of a part found.
    pub(crate) fn add_names(&mut self, names: Vec<(String, &'static str)>) {
        for (name, message) in names {
            self.changed |= self.names.insert(name, message) != Some(message);
        }
    }

    /// Returns all problems if they are others than last time.
    pub(crate) fn take_changed(&mut self) -> Option<Vec<Problem>> {
        std::mem::take(&mut self.changed).then(|| {
            let root = self.root.iter().map(|message| (".", message.as_str()));
            let rest =
                self.entries.iter().chain(&self.names).map(|(path, message)| (path.as_str(), *message));
            root.chain(rest)
                .take(MAX_PROBLEMS)
                .map(|(path, message)| Problem { path: path.to_owned(), message: message.to_owned() })
                .collect()
        })
    }
}

/// Returns what a person should read, or `None` where there is nothing wrong.
fn explain(opaque: Opaque) -> Option<&'static str> {
    match opaque {
        Opaque::Special => Some("devices, sockets and named pipes are not synced"),
        Opaque::Unreadable => Some("it can't be read"),
        Opaque::OutsideLink => Some("the symbolic link can lead outside the folder"),
        Opaque::Name => Some("the name can't be used on the other side"),
        Opaque::Mount | Opaque::Protected => None,
    }
}

/// Puts an operating system's refusal into words.
pub(crate) fn failure(doing: &str, error: &io::Error) -> Failure {
    Failure { errno: error.raw_os_error().unwrap_or(0), message: format!("{doing}: {error}") }
}

/// Makes a refusal of our own.
pub(crate) fn refusal(errno: rustix::io::Errno, message: impl Into<String>) -> Failure {
    Failure { errno: errno.raw_os_error(), message: message.into() }
}
