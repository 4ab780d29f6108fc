//! Which folder is watched by which number: a tree of names, so that a path takes no more than its last name.

use std::hash::{BuildHasher, RandomState};

use towline_sync_core::path::RelPath;

use crate::index::Index;

const ROOT: u32 = 0;
/// The end of a list: the root is in none.
const NONE: u32 = ROOT;
/// The kernel's numbers are above zero.
const UNWATCHED: i32 = 0;

/// The watched folders of one root.
#[derive(Debug)]
pub(super) struct Folders {
    nodes: Vec<Node>,
    /// Which of them stand for nothing now.
    free: Vec<u32>,
    /// By the name and what holds it.
    by_name: Index,
    by_watch: Index,
    hasher: RandomState,
}

/// A folder that is watched, or holds one that is.
#[derive(Debug)]
struct Node {
    name: Box<str>,
    watch: i32,
    parent: u32,
    /// The first of those that it holds.
    first: u32,
    /// The others in the same folder.
    previous: u32,
    next: u32,
}

impl Node {
    fn new(name: &str, parent: u32) -> Self {
        Self { name: name.into(), watch: UNWATCHED, parent, first: NONE, previous: NONE, next: NONE }
    }
}

impl Default for Folders {
    fn default() -> Self {
        Self {
            nodes: vec![Node::new("", ROOT)],
            free: Vec::new(),
            by_name: Index::default(),
            by_watch: Index::default(),
            hasher: RandomState::new(),
        }
    }
}

impl Folders {
    /// Takes note that the folder at `path`, the root where there is none, has this watch, and no other folder has it.
    pub(super) fn insert(&mut self, path: Option<&RelPath>, watch: i32) {
        let node = self.make(path);
        if self.watched(watch) == Some(node) {
            return;
        }
        // Whatever it watched stands elsewhere now, and is found there.
        self.unwatch(node);
        let old = self.watched(watch);
        if let Some(old) = old {
            self.unwatch(old);
        }
        self.node_mut(node).watch = watch;
        self.by_watch.insert(watch_hash(watch), node);
        if let Some(old) = old {
            self.prune(old);
        }
    }

    /// Tells whether the folder at `path` is watched.
    pub(super) fn has(&self, path: &RelPath) -> bool {
        self.find(path).is_some_and(|node| self.node(node).watch != UNWATCHED)
    }

    /// Returns the path of `name` in the folder of a watch, or of the folder itself. `None` is the root, or what can't
    /// be a path.
    pub(super) fn path(&self, watch: i32, name: Option<&str>) -> Option<RelPath> {
        let mut node = self.watched(watch)?;
        let mut names: Vec<&str> = name.into_iter().collect();
        while node != ROOT {
            names.push(&self.node(node).name);
            node = self.node(node).parent;
        }
        names.reverse();
        RelPath::new(names.join("/")).ok()
    }

    /// Forgets a watch.
    pub(super) fn forget(&mut self, watch: i32) {
        if let Some(node) = self.watched(watch) {
            self.unwatch(node);
            self.prune(node);
        }
    }

    /// Forgets what is at and below `path` and returns the watches of it.
    pub(super) fn remove(&mut self, path: &RelPath) -> Vec<i32> {
        let Some(node) = self.find(path) else { return Vec::new() };
        let mut watches = Vec::new();
        let mut all = vec![node];
        let mut next = 0;
        while let Some(node) = all.get(next).copied() {
            let mut child = self.node(node).first;
            while child != NONE {
                all.push(child);
                child = self.node(child).next;
            }
            next += 1;
        }
        let parent = self.node(node).parent;
        // What is in a folder goes before it.
        for node in all.into_iter().rev() {
            watches.extend(self.unwatch(node));
            self.drop(node);
        }
        self.prune(parent);
        watches
    }

    /// Takes what is at and below `from` for what is at and below `to`; returns the watches of what was there.
    pub(super) fn rename(&mut self, from: &RelPath, to: &RelPath) -> Vec<i32> {
        if from == to || to.is_below(from) || self.find(from).is_none() {
            return Vec::new();
        }
        let gone = self.remove(to);
        let parent = self.make(to.parent().as_ref());
        // Looked for now: what stood at `to` may have held it.
        let Some(node) = self.find(from) else {
            self.prune(parent);
            return gone;
        };
        let old = self.unlink(node);
        self.node_mut(node).name = to.name().into();
        self.node_mut(node).parent = parent;
        self.link(node);
        self.prune(old);
        gone
    }

    fn node(&self, node: u32) -> &Node {
        &self.nodes[node as usize]
    }

    fn node_mut(&mut self, node: u32) -> &mut Node {
        &mut self.nodes[node as usize]
    }

    fn hash(&self, parent: u32, name: &str) -> u32 {
        let [first, second, third, fourth, ..] = self.hasher.hash_one((parent, name)).to_le_bytes();
        u32::from_le_bytes([first, second, third, fourth])
    }

    /// Returns the node of a watch.
    fn watched(&self, watch: i32) -> Option<u32> {
        self.by_watch.numbers(watch_hash(watch)).find(|node| self.node(*node).watch == watch)
    }

    /// Returns the watch of a node, which has none from then on.
    fn unwatch(&mut self, node: u32) -> Option<i32> {
        let watch = std::mem::replace(&mut self.node_mut(node).watch, UNWATCHED);
        self.by_watch.remove(watch_hash(watch), node);
        (watch != UNWATCHED).then_some(watch)
    }

    fn find(&self, path: &RelPath) -> Option<u32> {
        path.components().try_fold(ROOT, |node, name| self.child(node, name))
    }

    fn child(&self, parent: u32, name: &str) -> Option<u32> {
        let is_it = |node: &Node| node.parent == parent && *node.name == *name;
        self.by_name.numbers(self.hash(parent, name)).find(|node| is_it(self.node(*node)))
    }

    /// Returns the node of a path, which is made if it is not there.
    fn make(&mut self, path: Option<&RelPath>) -> u32 {
        let mut node = ROOT;
        for name in path.iter().flat_map(|path| path.components()) {
            node = match self.child(node, name) {
                Some(child) => child,
                None => self.add(node, name),
            };
        }
        node
    }

    fn add(&mut self, parent: u32, name: &str) -> u32 {
        let new = Node::new(name, parent);
        let node = if let Some(node) = self.free.pop() {
            *self.node_mut(node) = new;
            node
        } else {
            self.nodes.push(new);
            // The kernel allows no more watches than an `i32` counts.
            u32::try_from(self.nodes.len() - 1).unwrap_or(u32::MAX)
        };
        self.link(node);
        node
    }

    /// Puts a node into the one that holds it.
    fn link(&mut self, node: u32) {
        let Node { name, parent, .. } = self.node(node);
        let (parent, hash) = (*parent, self.hash(*parent, name));
        self.by_name.insert(hash, node);
        let next = std::mem::replace(&mut self.node_mut(parent).first, node);
        (self.node_mut(node).previous, self.node_mut(node).next) = (NONE, next);
        if next != NONE {
            self.node_mut(next).previous = node;
        }
    }

    /// Takes a node out of the one that holds it, and returns that.
    fn unlink(&mut self, node: u32) -> u32 {
        let Node { name, parent, previous, next, .. } = self.node(node);
        let (parent, previous, next, hash) = (*parent, *previous, *next, self.hash(*parent, name));
        self.by_name.remove(hash, node);
        match previous {
            NONE => self.node_mut(parent).first = next,
            previous => self.node_mut(previous).next = next,
        }
        if next != NONE {
            self.node_mut(next).previous = previous;
        }
        parent
    }

    /// Drops a node that is not watched and holds nothing, and those that held nothing else.
    fn prune(&mut self, mut node: u32) {
        while node != ROOT && self.node(node).watch == UNWATCHED && self.node(node).first == NONE {
            node = self.drop(node);
        }
    }

    /// Drops a node, and returns the one that held it.
    fn drop(&mut self, node: u32) -> u32 {
        let parent = self.unlink(node);
        self.node_mut(node).name = Box::default();
        self.free.push(node);
        parent
    }
}

/// The kernel counts: what is counted is spread over all numbers.
fn watch_hash(watch: i32) -> u32 {
    watch.cast_unsigned().wrapping_mul(0x9e37_79b9).rotate_left(16)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Step {
        Insert(Option<RelPath>, i32),
        Forget(i32),
        Remove(RelPath),
        Rename(RelPath, RelPath),
    }

    fn path() -> impl Strategy<Value = RelPath> {
        "[ab]{1,2}(/[ab]{1,2}){0,3}".prop_map(|path| RelPath::new(path).unwrap())
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (prop::option::weighted(0.95, path()), 1..20).prop_map(|(path, watch)| Step::Insert(path, watch)),
            1 => (1..20).prop_map(Step::Forget),
            1 => path().prop_map(Step::Remove),
            1 => (path(), path()).prop_map(|(from, to)| Step::Rename(from, to)),
        ]
    }

    /// What the folders are to be: paths by their watches.
    type Model = BTreeMap<i32, Option<RelPath>>;

    fn is_at_or_below(path: &RelPath, folder: &RelPath) -> bool {
        path == folder || path.is_below(folder)
    }

    fn take(model: &mut Model, folder: &RelPath) -> Vec<i32> {
        let at = |path: &Option<RelPath>| path.as_ref().is_some_and(|path| is_at_or_below(path, folder));
        model.extract_if(.., |_, path| at(path)).map(|(watch, _)| watch).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn every_watch_has_its_path(steps in prop::collection::vec(step(), 0..60)) {
            let (mut folders, mut model) = (Folders::default(), Model::new());
            for step in steps {
                match &step {
                    Step::Insert(path, watch) => {
                        folders.insert(path.as_ref(), *watch);
                        model.retain(|_, other| other != path);
                        model.insert(*watch, path.clone());
                    }
                    Step::Forget(watch) => {
                        folders.forget(*watch);
                        model.remove(watch);
                    }
                    Step::Remove(path) => {
                        let mut watches = folders.remove(path);
                        watches.sort_unstable();
                        prop_assert_eq!(watches, take(&mut model, path));
                    }
                    Step::Rename(from, to) => {
                        let is_known = model.values().flatten().any(|path| is_at_or_below(path, from));
                        let mut gone = folders.rename(from, to);
                        gone.sort_unstable();
                        if is_known && from != to && !to.is_below(from) {
                            prop_assert_eq!(gone, take(&mut model, to));
                            for path in model.values_mut().flatten() {
                                if is_at_or_below(path, from) {
                                    *path = path.renamed(from, to).unwrap();
                                }
                            }
                        } else {
                            prop_assert_eq!(gone, [0; 0]);
                        }
                    }
                }
                let watches = (1..20).filter(|watch| folders.watched(*watch).is_some());
                let paths: Model = watches.map(|watch| (watch, folders.path(watch, None))).collect();
                prop_assert_eq!(folders.by_watch.len(), paths.len());
                prop_assert_eq!(&paths, &model, "{:?}", step);
                for path in model.values().flatten() {
                    prop_assert!(folders.has(path));
                    for above in path.ancestors() {
                        prop_assert_eq!(folders.has(&above), model.values().flatten().any(|path| *path == above));
                    }
                }
            }
            for watch in model.into_keys() {
                folders.forget(watch);
            }
            prop_assert_eq!(folders.nodes.len(), folders.free.len() + 1, "nothing is left");
            prop_assert_eq!(folders.by_name.len(), 0);
        }
    }

    #[test]
    fn a_name_is_found_in_the_folder_of_its_watch() {
        let mut folders = Folders::default();
        folders.insert(None, 1);
        folders.insert(Some(&RelPath::new("a/b").unwrap()), 2);
        let path = |watch, name| folders.path(watch, name).map(String::from);
        assert_eq!(path(1, Some("x")).as_deref(), Some("x"));
        assert_eq!(path(1, None), None);
        assert_eq!(path(2, Some("x")).as_deref(), Some("a/b/x"));
        assert_eq!(path(2, Some("")), None);
        assert_eq!(path(3, Some("x")), None);
    }
}
