//! Laws of the planner, over small random trees.

use std::collections::BTreeSet;

use proptest::prelude::*;
use towline_sync_core::path::{RelPath, below};
use towline_sync_core::protect::protected;
use towline_sync_core::reconcile::{Mode, Plan, Tree, View};
use towline_sync_core::snapshot::{Entry, File, Hash, Opaque, Transition};

fn entry() -> impl Strategy<Value = Entry> {
    prop_oneof![
        4 => (0u8..4, any::<bool>()).prop_map(|(content, executable)| file(content, executable)),
        3 => Just(Entry::Directory),
        1 => "[xy]".prop_map(|target| Entry::Symlink { target }),
    ]
}

pub(crate) fn file(content: u8, executable: bool) -> Entry {
    Entry::File(File { hash: Hash([content; 32]), size: 9, executable })
}

/// A tree whose every folder is there.
fn tree() -> impl Strategy<Value = Tree> {
    let path = "(a|b|\\.git)(/(a|b|\\.git)){0,2}".prop_map(|path| RelPath::new(path).unwrap());
    prop::collection::vec((path, entry()), 0..7).prop_map(|entries| {
        let mut tree = Tree::new();
        for (path, entry) in entries {
            let blocked =
                path.ancestors().any(|above| !matches!(tree.get(&above), None | Some(Entry::Directory)));
            if blocked || (entry != Entry::Directory && below(&tree, &path).next().is_some()) {
                continue;
            }
            tree.extend(path.ancestors().map(|above| (above, Entry::Directory)));
            tree.insert(path, entry);
        }
        tree
    })
}

/// A base and two trees that grew out of it.
fn trees() -> impl Strategy<Value = [Tree; 3]> {
    let edits = || prop::collection::vec((any::<prop::sample::Index>(), prop::option::of(entry())), 0..4);
    (tree(), edits(), edits(), tree(), tree(), 0..4u8).prop_map(|(base, one, two, new, other, how)| {
        let mut local = edited(&base, &one);
        let mut remote = edited(&base, &two);
        if how & 1 == 1 {
            local = new;
        }
        if how & 2 == 2 {
            remote = other;
        }
        [local, remote, base]
    })
}

fn edited(base: &Tree, edits: &[(prop::sample::Index, Option<Entry>)]) -> Tree {
    let mut tree = base.clone();
    for (at, entry) in edits {
        if tree.is_empty() {
            break;
        }
        let path = tree.keys().nth(at.index(tree.len())).cloned().unwrap();
        if *entry != Some(Entry::Directory) {
            let gone: Vec<_> = below(&tree, &path).map(|(path, _)| path.clone()).collect();
            tree.retain(|path, _| !gone.contains(path));
        }
        match entry {
            Some(entry) => tree.insert(path, entry.clone()),
            None => tree.remove(&path),
        };
    }
    tree
}

/// Makes one step as a replica would; tells whether it could be made.
fn step(tree: &mut Tree, step: &Transition) -> bool {
    let has_parent = step.path.parent().is_none_or(|parent| tree.get(&parent) == Some(&Entry::Directory));
    let is_full = step.to != Some(Entry::Directory) && below(tree, &step.path).next().is_some();
    if tree.get(&step.path) != step.from.as_ref() || is_full || (step.to.is_some() && !has_parent) {
        return false;
    }
    match &step.to {
        Some(entry) => tree.insert(step.path.clone(), entry.clone()),
        None => tree.remove(&step.path),
    };
    true
}

pub(crate) struct World {
    pub(crate) mode: Mode,
    pub(crate) local: Tree,
    pub(crate) remote: Tree,
    pub(crate) base: Tree,
    pub(crate) kept: BTreeSet<Hash>,
}

impl World {
    pub(crate) fn new([local, remote, base]: [Tree; 3]) -> Self {
        Self { mode: Mode::TwoWay, local, remote, base, kept: BTreeSet::new() }
    }

    pub(crate) fn plan(&self) -> Plan {
        let is_opaque = |tree: &Tree| tree.values().any(|entry| matches!(entry, Entry::Opaque(_)));
        View {
            mode: self.mode,
            local: &self.local,
            remote: &self.remote,
            base: &self.base,
            opaque: is_opaque(&self.local) || is_opaque(&self.remote),
        }
        .plan()
    }

    /// Carries out at most `limit` steps of a plan, and records what was agreed on with them. Tells whether anything
    /// came of it.
    pub(crate) fn carry_out(&mut self, plan: Plan, limit: usize) -> bool {
        let mut left = limit;
        let mut moved = !plan.agreed.is_empty();
        for change in plan.agreed {
            self.agree(&change.path, change.entry);
        }
        for (_, _, file) in plan.keeps {
            self.kept.insert(file.hash);
        }
        for (is_local, steps) in [(true, plan.local), (false, plan.remote)] {
            for transition in steps {
                if left == 0 {
                    return moved;
                }
                left -= 1;
                let (own, other) =
                    if is_local { (&mut self.local, &self.remote) } else { (&mut self.remote, &self.local) };
                if step(own, &transition) {
                    moved = true;
                    if other.get(&transition.path) == transition.to.as_ref() {
                        self.agree(&transition.path, transition.to);
                    }
                }
            }
        }
        moved
    }

    fn agree(&mut self, path: &RelPath, entry: Option<Entry>) {
        match entry {
            Some(entry) => self.base.insert(path.clone(), entry),
            None => self.base.remove(path),
        };
    }

    /// Plans and carries out until nothing is left that can be done, `limit` steps at a time. Only what is protected
    /// can hold something up: a folder can't go while such a thing stays in it.
    pub(crate) fn converge(&mut self, limit: usize) {
        for _ in 0..300 {
            let plan = self.plan();
            if plan == Plan::default() || (!self.carry_out(plan, limit) && self.is_held_up()) {
                return;
            }
        }
        panic!("does not converge: {:#?}", self.plan());
    }

    pub(crate) fn values(&self) -> BTreeSet<Hash> {
        let files = self.local.values().chain(self.remote.values()).filter_map(Entry::hash);
        files.chain(self.kept.iter().copied()).collect()
    }

    fn unprotected(tree: &Tree) -> Tree {
        tree.iter()
            .filter(|(path, _)| protected(path).is_none())
            .map(|(path, entry)| (path.clone(), entry.clone()))
            .collect()
    }

    /// Tells whether something protected keeps a folder where it is.
    fn has_protected(&self) -> bool {
        self.local.keys().chain(self.remote.keys()).any(|path| protected(path).is_some())
    }

    /// Tells whether something that is left alone keeps a folder where it is: what can't be synced, or what does not
    /// travel this way.
    fn is_held_up(&self) -> bool {
        if matches!(self.mode, Mode::LocalToRemote | Mode::RemoteToLocal) {
            return true;
        }
        let mut entries = self.local.values().chain(self.remote.values());
        self.has_protected() || entries.any(|entry| matches!(entry, Entry::Opaque(_)))
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn both_sides_become_equal(trees in trees()) {
        let mut world = World::new(trees);
        let plain = !world.has_protected();
        world.converge(usize::MAX);
        if plain {
            prop_assert_eq!(&world.local, &world.remote);
            prop_assert_eq!(&world.local, &world.base);
        }
    }

    #[test]
    fn cut_off_anywhere_it_ends_the_same(trees in trees(), limit in 1usize..4) {
        let mut whole = World::new(trees.clone());
        if whole.has_protected() {
            return Ok(());
        }
        whole.converge(usize::MAX);
        let mut cut = World::new(trees);
        cut.converge(limit);
        prop_assert_eq!(whole.local, cut.local);
        prop_assert_eq!(whole.remote, cut.remote);
    }

    /// Every value that was there and is no more was known to the base: somebody replaced or deleted it.
    #[test]
    fn no_value_is_lost(trees in trees()) {
        let [_, _, base] = trees.clone();
        let mut world = World::new(trees);
        let before = world.values();
        world.converge(usize::MAX);
        let after = world.values();
        for value in before.difference(&after) {
            let known = base.values().any(|entry| matches!(entry, Entry::File(file) if file.hash == *value));
            prop_assert!(known, "{:?}", value);
        }
    }

    #[test]
    fn what_is_equal_is_not_touched(trees in trees()) {
        let [local, remote, _] = trees.clone();
        let plan = World::new(trees).plan();
        for transition in plan.local.iter().chain(&plan.remote) {
            prop_assert_ne!(local.get(&transition.path), remote.get(&transition.path));
            prop_assert_ne!(&transition.from, &transition.to);
        }
    }

    #[test]
    fn nothing_protected_comes_from_the_pod(trees in trees()) {
        let local = trees[0].clone();
        let mut world = World::new(trees);
        world.converge(usize::MAX);
        for (path, entry) in world.local.iter().filter(|(path, _)| protected(path).is_some()) {
            prop_assert_eq!(local.get(path), Some(entry));
        }
    }

    #[test]
    fn what_cannot_be_synced_is_left_alone(trees in trees(), at in any::<prop::sample::Index>(), on_local: bool) {
        let mut world = World::new(trees);
        let tree = if on_local { &mut world.local } else { &mut world.remote };
        prop_assume!(!tree.is_empty());
        let path = tree.keys().nth(at.index(tree.len())).cloned().unwrap();
        tree.insert(path.clone(), Entry::Opaque(Opaque::Mount));
        let plan = world.plan();
        for transition in plan.local.iter().chain(&plan.remote) {
            prop_assert!(transition.path != path && !transition.path.is_below(&path), "{:?}", transition);
        }
    }

    #[test]
    fn a_mirror_makes_the_remote_equal_and_one_way_goes_one_way(trees in trees()) {
        let local = trees[0].clone();
        let mut world = World::new(trees.clone());
        world.mode = Mode::Mirror;
        world.converge(usize::MAX);
        prop_assert_eq!(&world.local, &local);
        prop_assert_eq!(&world.remote, &local);
        for mode in [Mode::LocalToRemote, Mode::RemoteToLocal] {
            let mut world = World::new(trees.clone());
            world.mode = mode;
            let plan = world.plan();
            let against = if mode == Mode::LocalToRemote { plan.local } else { plan.remote };
            prop_assert_eq!(against, vec![]);
        }
    }

    #[test]
    fn unrelated_paths_change_nothing(trees in trees(), more in tree()) {
        let plan = World::new(trees.clone()).plan();
        let moved = more.into_iter().map(|(path, entry)| (RelPath::new(format!("z/{path}")).unwrap(), entry));
        let [mut local, remote, base] = trees;
        local.insert(RelPath::new("z").unwrap(), Entry::Directory);
        local.extend(moved);
        let mut with = World::new([local, remote, base]).plan();
        let is_old = |step: &Transition| !step.path.as_str().starts_with('z');
        with.remote.retain(is_old);
        with.local.retain(is_old);
        prop_assert_eq!(plan.local, with.local);
        prop_assert_eq!(plan.remote, with.remote);
    }
}

#[test]
fn unprotected_trees_converge_around_protected_ones() {
    let path = |path: &str| RelPath::new(path).unwrap();
    let remote = Tree::from([
        (path(".git"), Entry::Directory),
        (path(".git/config"), file(1, false)),
        (path("src"), Entry::Directory),
        (path("src/main"), file(2, false)),
    ]);
    let mut world = World::new([Tree::new(), remote.clone(), Tree::new()]);
    world.converge(usize::MAX);
    assert_eq!(world.local, World::unprotected(&remote));
    assert_eq!(world.remote, remote);
}
