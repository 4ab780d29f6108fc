//! Laws of the planner over every small tree there is, and over random ones by the million.
//!
//! A case is three trees and a mode. A case that fails is made smaller before it is shown.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};

use towline_sync_core::path::{RelPath, below};
use towline_sync_core::protect::protected;
use towline_sync_core::reconcile::{Mode, Plan, Tree};
use towline_sync_core::snapshot::{Entry, File, Hash, Opaque, Transition};

use crate::laws::{World, file};
use crate::random::{Random, count, each_seed, panics};

const MODES: [Mode; 4] = [Mode::TwoWay, Mode::LocalToRemote, Mode::RemoteToLocal, Mode::Mirror];

/// Local, remote and base, and which way changes travel.
#[derive(Debug, Clone)]
struct Case {
    mode: Mode,
    trees: [Tree; 3],
}

impl Case {
    fn world(&self) -> World {
        let mut world = World::new(self.trees.clone());
        world.mode = self.mode;
        world
    }

    /// Tells whether nothing in it is left alone.
    fn is_plain(&self) -> bool {
        let mut entries = self.trees.iter().flatten();
        entries.all(|(path, entry)| !matches!(entry, Entry::Opaque(_)) && protected(path).is_none())
    }

    /// Panics where a law is broken. Those that take long are looked at in turn.
    fn check(&self, turn: u64) {
        let plan = self.world().plan();
        self.check_steps(&plan);
        let mut end = self.world();
        end.carry_out(plan.clone(), usize::MAX);
        end.converge(usize::MAX);
        self.check_values(&end);
        match self.mode {
            Mode::TwoWay if self.is_plain() => {
                assert_eq!(end.local, end.remote, "the sides become equal");
                assert_eq!(end.local, end.base, "and that is agreed on");
            }
            Mode::Mirror => assert_eq!(end.local, self.trees[0], "a mirror leaves the local side alone"),
            Mode::LocalToRemote => assert_eq!(end.local, self.trees[0], "nothing comes back"),
            Mode::RemoteToLocal => assert_eq!(end.remote, self.trees[1], "nothing goes out"),
            Mode::TwoWay => {}
        }
        match turn % 4 {
            0 => self.check_interrupted(&plan, &end, turn / 4),
            1 => self.check_renamed(&plan),
            2 => self.check_unrelated(&plan, turn / 4),
            _ => self.check_ends_told_late(&end),
        }
    }

    /// No step touches what is equal, or what no tree speaks of; each begins with what stands there; and local bytes
    /// that nobody else has are kept.
    fn check_steps(&self, plan: &Plan) {
        let [local, remote, base] = &self.trees;
        for (own, other, steps, is_local) in
            [(local, remote, &plan.local, true), (remote, local, &plan.remote, false)]
        {
            let mut seen = BTreeSet::new();
            for step in steps {
                let Transition { path, from, to } = step;
                assert!(seen.insert(path), "one step for each path: {step:?}");
                assert_eq!(own.get(path), from.as_ref(), "{step:?}");
                assert_ne!(from, to, "{step:?}");
                assert_ne!(own.get(path), other.get(path), "equal paths are not touched: {step:?}");
                let is_named = |tree: &Tree| tree.contains_key(path) || below(tree, path).next().is_some();
                assert!(self.trees.iter().any(is_named), "no tree speaks of {path}");
                if is_local {
                    assert_eq!(protected(path), None, "{step:?}");
                }
                if self.mode != Mode::Mirror
                    && let Some(Entry::File(old)) = from
                    && !has_bytes(to.as_ref(), old.hash)
                    && !has_bytes(base.get(path), old.hash)
                {
                    assert!(plan.keeps.contains(&(path.clone(), is_local, *old)), "kept first: {step:?}");
                }
            }
        }
    }

    /// What either side has and the base does not have at the same path is somewhere in the end.
    fn check_values(&self, end: &World) {
        let [local, remote, base] = &self.trees;
        let after = end.values();
        let sides = if self.mode == Mode::Mirror { &[local][..] } else { &[local, remote][..] };
        for (path, entry) in sides.iter().copied().flatten() {
            if let Entry::File(file) = entry
                && !has_bytes(base.get(path), file.hash)
            {
                assert!(after.contains(&file.hash), "{path} is lost");
            }
        }
    }

    /// After any part of the plan, all that is left is the rest of it.
    fn check_interrupted(&self, plan: &Plan, end: &World, turn: u64) {
        let steps = plan.local.len() + plan.remote.len();
        if steps == 0 || (self.mode == Mode::TwoWay && !self.is_plain()) {
            return;
        }
        let mut world = self.world();
        world.carry_out(plan.clone(), usize::try_from(turn).unwrap() % (steps + 1));
        world.converge(usize::MAX);
        assert_eq!((&world.local, &world.remote), (&end.local, &end.remote), "interrupted");
    }

    /// Steps that were made and not written down are found to have been made.
    fn check_ends_told_late(&self, end: &World) {
        if self.mode != Mode::TwoWay || !self.is_plain() {
            return;
        }
        let mut world = World::new([end.local.clone(), end.remote.clone(), self.trees[2].clone()]);
        let plan = world.plan();
        assert_eq!((plan.local.len(), plan.remote.len()), (0, 0), "done twice");
        world.converge(usize::MAX);
        assert_eq!(world.base, end.base);
    }

    /// What is decided does not depend on how things are called.
    fn check_renamed(&self, plan: &Plan) {
        if !self.is_plain() {
            return;
        }
        let renamed = Self { mode: self.mode, trees: self.trees.each_ref().map(renamed) };
        let other = renamed.world().plan();
        let sets = |plan: &Plan, name: fn(&RelPath) -> RelPath| {
            let steps = |steps: &[Transition]| -> BTreeMap<RelPath, (Option<Entry>, Option<Entry>)> {
                steps.iter().map(|step| (name(&step.path), (step.from.clone(), step.to.clone()))).collect()
            };
            let agreed: BTreeMap<_, _> =
                plan.agreed.iter().map(|change| (name(&change.path), change.entry.clone())).collect();
            let keeps: BTreeSet<_> =
                plan.keeps.iter().map(|(path, local, file)| (name(path), *local, *file)).collect();
            (steps(&plan.local), steps(&plan.remote), agreed, keeps)
        };
        assert_eq!(sets(plan, other_name), sets(&other, RelPath::clone), "by other names");
    }

    /// What is decided does not depend on what stands elsewhere.
    fn check_unrelated(&self, plan: &Plan, turn: u64) {
        let mut more = random_case(turn);
        let beside = |path: &RelPath| RelPath::new(format!("z/{path}")).unwrap();
        for (tree, more) in self.trees.iter().zip(&mut more.trees) {
            *more = more.iter().map(|(path, entry)| (beside(path), entry.clone())).collect();
            more.insert(RelPath::new("z").unwrap(), Entry::Directory);
            more.extend(tree.clone());
        }
        more.mode = self.mode;
        let mut with = more.world().plan();
        let is_old = |path: &RelPath| !path.as_str().starts_with('z');
        with.local.retain(|step| is_old(&step.path));
        with.remote.retain(|step| is_old(&step.path));
        with.agreed.retain(|change| is_old(&change.path));
        with.keeps.retain(|(path, _, _)| is_old(path));
        assert_eq!(*plan, with, "beside others");
    }

    /// Returns the case without one entry of one tree, and what is below it, in every way.
    fn smaller(&self) -> impl Iterator<Item = Self> {
        let places =
            self.trees.iter().enumerate().flat_map(|(at, tree)| tree.keys().map(move |path| (at, path)));
        places.map(|(at, path)| {
            let mut case = self.clone();
            case.trees[at].retain(|other, _| other != path && !other.is_below(path));
            case
        })
    }
}

fn has_bytes(entry: Option<&Entry>, hash: Hash) -> bool {
    matches!(entry, Some(Entry::File(file)) if file.hash == hash)
}

/// Calls everything something else; what came first may come last.
fn other_name(path: &RelPath) -> RelPath {
    let name = |name: &str| match name {
        "a" => "y",
        "b" => "x.c",
        _ => "B",
    };
    RelPath::new(path.components().map(name).collect::<Vec<_>>().join("/")).unwrap()
}

fn renamed(tree: &Tree) -> Tree {
    tree.iter().map(|(path, entry)| (other_name(path), entry.clone())).collect()
}

/// Checks a case; one that fails is made as small as it goes and shown.
fn check(case: &Case, turn: u64) {
    let tried = |case: &Case| catch_unwind(AssertUnwindSafe(|| case.check(turn)));
    let Err(panic) = tried(case) else { return };
    let mut case = case.clone();
    loop {
        let smaller = case.smaller().find(|smaller| tried(smaller).is_err());
        let Some(smaller) = smaller else { break };
        case = smaller;
    }
    println!("the smallest case that fails: {case:#?}");
    std::panic::resume_unwind(panic);
}

fn random_entry(random: &mut Random) -> Entry {
    match random.below(16) {
        0..4 => Entry::Directory,
        4 => Entry::Symlink { target: (*random.pick(&["x", "y"])).to_owned() },
        5 if random.one_in(3) => Entry::Opaque(*random.pick(&[Opaque::Special, Opaque::Mount])),
        _ => file(u8::try_from(random.below(5)).unwrap(), random.one_in(5)),
    }
}

fn random_path(random: &mut Random) -> RelPath {
    let mut text = (*random.pick(&["a", "b", "c"])).to_owned();
    for _ in 0..random.below(3) {
        text.push('/');
        text.push_str(if random.one_in(60) { ".git" } else { ["a", "b"][random.below(2)] });
    }
    RelPath::new(text).unwrap()
}

/// Puts an entry where it can be, in place of what is there.
fn put(tree: &mut Tree, path: &RelPath, entry: Option<Entry>) {
    for above in path.ancestors() {
        if !matches!(tree.get(&above), None | Some(Entry::Directory)) {
            return;
        }
    }
    if entry != Some(Entry::Directory) {
        tree.retain(|other, _| !other.is_below(path));
    }
    match entry {
        Some(entry) => {
            tree.extend(path.ancestors().map(|above| (above, Entry::Directory)));
            tree.insert(path.clone(), entry);
        }
        None => {
            tree.remove(path);
        }
    }
}

/// Makes a base and two trees that grew out of it, or out of nothing, or out of each other.
fn random_case(seed: u64) -> Case {
    let random = &mut Random::new(seed);
    let mut trees: [Tree; 3] = Default::default();
    for _ in 0..random.below(6) {
        let (path, entry) = (random_path(random), random_entry(random));
        put(&mut trees[2], &path, Some(entry));
    }
    for side in 0..2 {
        trees[side] = match random.below(8) {
            0 => Tree::new(),
            1 if side == 1 => trees[0].clone(),
            _ => trees[2].clone(),
        };
        for _ in 0..random.below(4) {
            let path = match trees[side].len() {
                known @ 1.. if !random.one_in(3) => {
                    trees[side].keys().nth(random.below(known)).cloned().unwrap()
                }
                _ => random_path(random),
            };
            let entry = (!random.one_in(3)).then(|| random_entry(random));
            put(&mut trees[side], &path, entry);
        }
    }
    let mode = if random.one_in(4) { *random.pick(&MODES) } else { Mode::TwoWay };
    // A base holds nothing that can't be synced.
    trees[2].retain(|_, entry| !matches!(entry, Entry::Opaque(_)));
    Case { mode, trees }
}

#[test]
fn random_trees() {
    each_seed("random trees", 0..count(20_000, 3_000_000), |seed, _| check(&random_case(seed), seed));
}

#[test]
fn other_random_trees() {
    let first = 1 << 40;
    each_seed("other random trees", first..first + count(20_000, 3_000_000), |seed, _| {
        check(&random_case(seed), seed);
    });
}

/// Returns what may stand at a path: `None`, or an entry with all that is below it.
fn leaves() -> Vec<Option<Entry>> {
    let link = Entry::Symlink { target: "x".to_owned() };
    let files = [file(0, false), file(1, false), file(1, true), file(2, false)];
    [None, Some(link), Some(Entry::Directory)].into_iter().chain(files.map(Some)).collect()
}

/// Returns every tree of a folder `name` with what each of the children may be, or something else of this name.
fn trees(name: &str, children: &[(&str, Vec<Tree>)]) -> Vec<Tree> {
    let path = RelPath::new(name).unwrap();
    let mut all = vec![Tree::new()];
    for entry in leaves().into_iter().flatten() {
        all.push(Tree::from([(path.clone(), entry)]));
    }
    let mut folders = vec![Tree::from([(path.clone(), Entry::Directory)])];
    for (child, subtrees) in children {
        folders = folders
            .iter()
            .flat_map(|folder| {
                subtrees.iter().map(move |subtree| {
                    let below = subtree.iter().map(|(path, entry)| {
                        let rest = path.as_str().strip_prefix(child).unwrap();
                        (RelPath::new(format!("{name}/{child}{rest}")).unwrap(), entry.clone())
                    });
                    folder.iter().map(|(path, entry)| (path.clone(), entry.clone())).chain(below).collect()
                })
            })
            .collect();
    }
    all.retain(|tree| tree.values().next() != Some(&Entry::Directory));
    all.extend(folders);
    all
}

/// Checks every case of these trees, or every so many-th of them.
fn check_all(suite: &str, trees: &[Tree], quick: u64, full: u64) {
    let one = trees.len() as u64;
    let all = one.pow(3) * MODES.len() as u64;
    let tried = count(quick, full).min(all);
    // A step that has no divisor in common with the number of cases leads to all of them.
    let stride = (all / tried).max(1);
    each_seed(suite, 0..tried, |number, _| {
        let number = number * stride;
        let pick = |of: u64| trees[usize::try_from(of % one).unwrap()].clone();
        let mode = MODES[usize::try_from(number % 4).unwrap()];
        let number = number / 4;
        let trees = [pick(number), pick(number / one), pick(number / one / one)];
        // The mode takes the lowest bits: the turn must not go with it.
        check(&Case { mode, trees }, number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33);
    });
}

#[test]
fn every_tree_of_one_folder_and_one_child() {
    check_all("every a/b", &trees("a", &[("b", trees("b", &[]))]), 10_000, u64::MAX);
}

#[test]
fn every_tree_of_three_in_a_row() {
    let b = trees("b", &[("c", trees("c", &[]))]);
    check_all("every a/b/c", &trees("a", &[("b", b)]), 10_000, u64::MAX);
}

#[test]
fn every_tree_of_two_siblings() {
    let trees = trees("a", &[("b", trees("b", &[])), ("c", trees("c", &[]))]);
    check_all("every a/b, a/c", &trees, 10_000, u64::MAX);
}

#[test]
fn every_tree_of_a_chain_and_a_sibling() {
    let b = trees("b", &[("c", trees("c", &[]))]);
    let trees = trees("a", &[("b", b), ("c", trees("c", &[]))]);
    check_all("every a/b/c, a/c", &trees, 10_000, u64::MAX);
}

#[test]
fn a_broken_planner_is_noticed() {
    // Local bytes of both-sided changes that are not kept, as the laws would see them.
    let base = Tree::new();
    let path = RelPath::new("a").unwrap();
    let trees =
        [Tree::from([(path.clone(), file(1, false))]), Tree::from([(path.clone(), Entry::Directory)]), base];
    let case = Case { mode: Mode::TwoWay, trees };
    let mut plan = case.world().plan();
    case.check_steps(&plan);
    let File { hash, .. } = plan.keeps.pop().unwrap().2;
    assert_eq!(hash, Hash([1; 32]));
    assert!(panics(|| case.check_steps(&plan)));
}
