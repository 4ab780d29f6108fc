//! Local, remote and what both last agreed on: what each side is to become.
//!
//! Every path is decided by itself but for two rules of trees: what lies in or below something that can't be synced is
//! left alone, and a folder stays (or comes back) as long as something in it shall be there.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::{Base, BaseDelta};
use crate::conflict;
use crate::path::{RelPath, below};
use crate::protect;
use crate::snapshot::{Change, Entry, File, Transition};

/// What a side holds, or both held, by path.
pub type Tree = BTreeMap<RelPath, Entry>;

/// Which way changes travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Both ways.
    #[default]
    TwoWay,
    /// Local changes go to the remote; what changes there stays there, until the same path changes here.
    LocalToRemote,
    /// Remote changes come to the local side, but never over a change made here.
    RemoteToLocal,
    /// The remote is made equal to the local side.
    Mirror,
}

/// The three trees that a decision is made from.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// Which way changes travel.
    pub mode: Mode,
    /// What the local side holds.
    pub local: &'a Tree,
    /// What the remote side holds.
    pub remote: &'a Tree,
    /// What both last agreed on.
    pub base: &'a Tree,
    /// Whether a side may have an [`Entry::Opaque`]: where none has, none is looked for above each path.
    pub opaque: bool,
}

/// What is to become of one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Both sides hold the same.
    Equal,
    /// The sides named take a step to `to`.
    Change {
        /// What both shall have.
        to: Option<Entry>,
        /// Whether the local side has to change.
        local: bool,
        /// Whether the remote side has to change.
        remote: bool,
    },
    /// The sides differ and stay as they are.
    Leave(Leave),
}

/// Why two sides that differ stay as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leave {
    /// One side has something here, or above, that can't be synced.
    Opaque,
    /// It changed in the pod and is never written from there, for the reason given.
    Protected(&'static str),
    /// Changes of this kind don't travel in this mode.
    Mode,
}

/// Everything that is to be done, in an order in which it can be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// Steps of the local side.
    pub local: Vec<Transition>,
    /// Steps of the remote side.
    pub remote: Vec<Transition>,
    /// What both sides hold that the base does not know of yet.
    pub agreed: Vec<Change>,
    /// Files whose bytes are kept aside before their side's step: path, whether it is the local side's, file.
    pub keeps: Vec<(RelPath, bool, File)>,
}

impl<'a> View<'a> {
    /// Returns every path that any of the three trees knows, in order, with what local, remote and base have there.
    pub fn rows(&self) -> impl Iterator<Item = (&'a RelPath, [Option<&'a Entry>; 3])> + use<'a> {
        let mut trees = [self.local, self.remote, self.base].map(|tree| tree.iter().peekable());
        std::iter::from_fn(move || {
            let path = trees.iter_mut().filter_map(|tree| Some(tree.peek()?.0)).min()?;
            let row = trees
                .each_mut()
                .map(|tree| tree.next_if(|(other, _)| *other == path).map(|(_, entry)| entry));
            Some((path, row))
        })
    }
}

impl View<'_> {
    /// Decides what is to become of `path`.
    pub fn decide(&self, path: &RelPath) -> Decision {
        if self.is_opaque(path) {
            return Decision::Leave(Leave::Opaque);
        }
        let protected = protect::protected(path);
        let wish = self.wish(path, protected);
        let entries = [self.local.get(path), self.remote.get(path)];
        if !entries.contains(&Some(&Entry::Directory)) || wish_is_folder(&wish, entries) {
            return wish;
        }
        // A folder would go: not while something in it shall stay or come.
        if !self.is_wanted_below(path) {
            return wish;
        }
        let is_folder = |entry| entry == Some(&Entry::Directory);
        let (local, remote) = (!is_folder(entries[0]), !is_folder(entries[1]));
        match protected {
            Some(why) if local => Decision::Leave(Leave::Protected(why)),
            _ if !local && !remote => Decision::Equal,
            _ => Decision::Change { to: Some(Entry::Directory), local, remote },
        }
    }

    /// Decides everything.
    pub fn plan(&self) -> Plan {
        let mut plan = Plan::default();
        for path in self.paths() {
            let (local, remote, base) = (self.local.get(&path), self.remote.get(&path), self.base.get(&path));
            match self.decide(&path) {
                Decision::Equal if local != base => {
                    plan.agreed.push(Change { entry: local.cloned(), path });
                }
                Decision::Change { to, local: change_local, remote: change_remote } => {
                    for (change, is_local, entry) in
                        [(change_local, true, local), (change_remote, false, remote)]
                    {
                        if !change {
                            continue;
                        }
                        if let Some(file) = self.lost_bytes(entry, to.as_ref(), base) {
                            plan.keeps.push((path.clone(), is_local, file));
                        }
                        let step = Transition { path: path.clone(), from: entry.cloned(), to: to.clone() };
                        if is_local { &mut plan.local } else { &mut plan.remote }.push(step);
                    }
                }
                _ => {}
            }
        }
        order(&mut plan.local);
        order(&mut plan.remote);
        plan
    }

    /// Returns every path that any of the three trees knows.
    pub fn paths(&self) -> BTreeSet<RelPath> {
        self.rows().map(|(path, _)| path.clone()).collect()
    }

    /// Returns the file whose bytes must be kept before `to` takes the place of `entry`.
    pub fn lost_bytes(
        &self,
        entry: Option<&Entry>,
        to: Option<&Entry>,
        base: Option<&Entry>,
    ) -> Option<File> {
        if self.mode == Mode::Mirror { None } else { conflict::lost_bytes(entry, to, base) }
    }

    /// Tells whether either side has something here or above that can't be synced.
    fn is_opaque(&self, path: &RelPath) -> bool {
        if !self.opaque {
            return false;
        }
        let path = path.as_str();
        let above = path.match_indices('/').map(|(end, _)| &path[..end]);
        above.chain([path]).any(|path| {
            [self.local, self.remote].iter().any(|tree| matches!(tree.get(path), Some(Entry::Opaque(_))))
        })
    }

    /// Decides a path by its own entries alone.
    fn wish(&self, path: &RelPath, protected: Option<&'static str>) -> Decision {
        let (local, remote, base) = (self.local.get(path), self.remote.get(path), self.base.get(path));
        if local == remote {
            return Decision::Equal;
        }
        let to_remote = || Decision::Change { to: local.cloned(), local: false, remote: true };
        let one_way = |why| {
            // The other side's change is not overwritten by a deletion.
            if local == base || (local.is_none() && remote != base) {
                Decision::Leave(why)
            } else {
                to_remote()
            }
        };
        match (self.mode, protected) {
            (Mode::Mirror, _) => to_remote(),
            (Mode::TwoWay, Some(why)) => one_way(Leave::Protected(why)),
            (Mode::RemoteToLocal, Some(why)) => Decision::Leave(Leave::Protected(why)),
            (Mode::LocalToRemote, _) => one_way(Leave::Mode),
            (Mode::RemoteToLocal, None) => {
                let unseen = local != base && local.is_some();
                if remote == base || unseen {
                    Decision::Leave(Leave::Mode)
                } else {
                    Decision::Change { to: remote.cloned(), local: true, remote: false }
                }
            }
            (Mode::TwoWay, None) => {
                let to = if remote == base {
                    local.cloned()
                } else if local == base {
                    remote.cloned()
                } else {
                    conflict::resolve(local, remote, base)
                };
                let (local, remote) = (local != to.as_ref(), remote != to.as_ref());
                Decision::Change { to, local, remote }
            }
        }
    }

    /// Tells whether something below the folder shall be there in the end.
    fn is_wanted_below(&self, folder: &RelPath) -> bool {
        let mut all = below(self.local, folder).chain(below(self.remote, folder));
        all.any(|(path, entry)| {
            !matches!(entry, Entry::Opaque(_))
                && match self.wish(path, protect::protected(path)) {
                    Decision::Equal => true,
                    Decision::Change { to, .. } => to.is_some(),
                    Decision::Leave(_) => false,
                }
        })
    }
}

fn wish_is_folder(wish: &Decision, entries: [Option<&Entry>; 2]) -> bool {
    match wish {
        Decision::Equal => entries[0] == Some(&Entry::Directory),
        Decision::Change { to, .. } => *to == Some(Entry::Directory),
        Decision::Leave(_) => true,
    }
}

/// Puts deletions first, children before their folders, then the rest, folders before their children; a folder that
/// becomes something else waits for its children's deletion by being among the rest.
fn order(steps: &mut [Transition]) {
    steps.sort_by(|a, b| match (a.to.is_none(), b.to.is_none()) {
        (true, true) => b.path.cmp(&a.path),
        (false, false) => a.path.cmp(&b.path),
        (a, b) => b.cmp(&a),
    });
}

/// Returns what to record when the remote is another folder than the one the base speaks of (a container that began
/// anew, or the first sync): nothing was agreed with it, so nothing of the local side may be deleted.
///
/// What the base had and the local side lacks becomes a tombstone. Where the local side has an answer to what the remote
/// began with (another entry, or a tombstone), the remote's entry is recorded as if it had been agreed and then changed
/// here: the local side is authoritative, and what changes in the remote from now on is seen as a change.
pub fn adopt(
    local: &Tree,
    remote: &Tree,
    base: &Base,
    epoch: [u8; 16],
    trust_missing: bool,
) -> Vec<BaseDelta> {
    let mut deltas = Vec::new();
    let mut buried = BTreeSet::new();
    let view = View { mode: Mode::TwoWay, local, remote, base: base.entries(), opaque: true };
    if trust_missing {
        for (path, _) in view.rows().filter(|(_, [local, _, base])| local.is_none() && base.is_some()) {
            buried.insert(path);
            deltas.push(BaseDelta::Tombstone { path: path.clone() });
        }
    }
    deltas.push(BaseDelta::Forget);
    for (path, [own, entry, _]) in view.rows() {
        let Some(entry) = entry.filter(|entry| !matches!(entry, Entry::Opaque(_))) else { continue };
        let set = || BaseDelta::Set { path: path.clone(), entry: Some(entry.clone()) };
        match own {
            Some(Entry::Opaque(_)) => {}
            Some(own) if own != entry => deltas.push(set()),
            Some(_) => {}
            None => {
                let text = path.as_str();
                let replaced = text
                    .match_indices('/')
                    .any(|(end, _)| local.get(&text[..end]).is_some_and(Entry::is_leaf));
                if replaced || base.is_tombstoned(path) || buried.contains(path) {
                    deltas.push(set());
                    // The entry ended it, and it is no new deletion.
                    deltas.push(BaseDelta::Tombstone { path: path.clone() });
                }
            }
        }
    }
    deltas.push(BaseDelta::Epoch(epoch));
    deltas
}
