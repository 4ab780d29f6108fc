//! Random worlds: edits on both sides, a link that delays and breaks, crashes of either end, and an oracle.
//!
//! Every file that is ever written has content of its own. A value may end only because somebody who had it in front of
//! him overwrote or deleted it, or with the container it was in. In far worlds the remote side is at the end of the real
//! wire in virtual time, and networks, clocks and watchers fail, too.

use std::collections::{BTreeMap, BTreeSet};

use towline_sync_core::base::{Base, BaseDelta};
use towline_sync_core::engine::{Engine, EngineConfig, Phase, Side, SyncEvent};
use towline_sync_core::message::{Open, Reply, Request};
use towline_sync_core::path::{RelPath, below};
use towline_sync_core::record;

use crate::disk::{Disk, IGNORED, Node, Nodes, is_ignored};
use crate::line::{Line, Wire};
use crate::random::{Random, count, each_seed, panics};

/// What is broken on purpose, to see that the oracle notices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Canary {
    None,
    /// The base is written when a step is sent.
    BaseLeads,
    /// The local replica does not look at what it replaces.
    Careless,
    /// Conflicts are not kept.
    Forgetful,
    /// A new container goes by the old one's token.
    SameEpoch,
}

struct World {
    random: Random,
    canary: Canary,
    engine: Engine,
    journal: Vec<u8>,
    disks: [Disk; 2],
    lines: [Line; 2],
    connected: [bool; 2],
    image: Nodes,
    epochs: u8,
    values: u32,
    /// Every value that was ever written.
    written: BTreeSet<Vec<u8>>,
    /// Values that somebody ended knowingly, or that ended with a container.
    ended: BTreeSet<Vec<u8>>,
    /// What the remote had at a path since its container began.
    seen_remote: BTreeSet<(RelPath, Vec<u8>)>,
    /// The engine has not looked at this container yet.
    new_container: bool,
    halted: bool,
    /// Each world has some of the faults only, so that others are not hidden by them.
    faults: u64,
    applies: usize,
    /// Milliseconds that went by on the wire, and what happened to it.
    simulated: u64,
    disturbed: u64,
    trace: Trace,
}

/// Where it is said what happens.
#[derive(Debug, Clone)]
enum Trace {
    None,
    Printed,
    Kept(Vec<String>),
}

fn config(eager: bool) -> EngineConfig {
    EngineConfig {
        eager,
        batched_size: 1500,
        bulk_size: 1500,
        delta_size: 1024,
        small_operations: 4,
        small_bytes: 4000,
        ..EngineConfig::default()
    }
}

fn open() -> Open {
    Open { root: "/".into(), ignore: vec![], excluded: vec![], create: false, watch: true }
}

impl World {
    fn new(seed: u64, canary: Canary) -> Self {
        let mut world = Self {
            random: Random::new(seed),
            canary,
            engine: Engine::new(config(seed.is_multiple_of(2)), Base::default()),
            journal: vec![],
            disks: Default::default(),
            lines: Default::default(),
            connected: [false; 2],
            image: Nodes::new(),
            epochs: 0,
            values: 0,
            written: BTreeSet::new(),
            ended: BTreeSet::new(),
            seen_remote: BTreeSet::new(),
            new_container: true,
            halted: false,
            faults: 0,
            applies: 0,
            simulated: 0,
            disturbed: 0,
            trace: Trace::None,
        };
        world.faults = world.random.next();
        world.disks.iter_mut().for_each(|disk| disk.muddled = true);
        world.disks[0].careless = canary == Canary::Careless;
        world.disks[0].forgetful = canary == Canary::Forgetful;
        // The image and the project have some files in common.
        for _ in 0..world.random.below(12) {
            world.edit(Side::Local);
            if world.random.one_in(4) {
                world.image = world.disks[0].nodes.clone();
            }
        }
        world.restart_container();
        world
    }

    fn restart_container(&mut self) {
        let empty = self.random.one_in(2);
        for node in std::mem::take(&mut self.disks[1].nodes).into_values() {
            self.end(node);
        }
        if self.epochs == 0 || self.canary != Canary::SameEpoch {
            self.epochs += 1;
        }
        self.disks[1].epoch = [self.epochs; 16];
        self.disks[1].nodes = if empty { Nodes::new() } else { self.image.clone() };
        self.disks[1].restart();
        // Steps that are on their way answer to what the old container had.
        let (line, local) = (&self.lines[0], &self.disks[0]);
        self.seen_remote.retain(|(path, _)| {
            let is_step = |request: &Request| match request {
                Request::Apply { transition, .. } => transition.path == *path,
                Request::Install { entries, .. } => entries.iter().any(|new| new.path == *path),
                _ => false,
            };
            local.expects(path) || line.requests().any(is_step)
        });
        self.new_container = true;
        self.look_at_remote();
    }

    fn end(&mut self, node: Node) {
        if let Node::File(bytes, _) = node {
            self.ended.insert(bytes);
        }
    }

    fn look_at_remote(&mut self) {
        for (path, node) in &self.disks[1].nodes {
            if let Node::File(bytes, _) = node {
                self.seen_remote.insert((path.clone(), bytes.clone()));
            }
        }
    }

    fn disconnect(&mut self, side: Side) {
        if self.connected[side as usize] {
            self.say(|| format!("{side:?} disconnects"));
            self.engine.handle_disconnected(side);
            self.cut(side);
            self.drain();
        }
    }

    fn cut(&mut self, side: Side) {
        self.connected[side as usize] = false;
        self.lines[side as usize].cut();
        self.disks[side as usize].restart();
    }

    fn crash_engine(&mut self) {
        self.say(|| "engine crashes".to_owned());
        let lost = if self.random.one_in(3) { self.random.below(200) } else { 0 };
        self.journal.truncate(self.journal.len().saturating_sub(lost));
        let base = record::decode(&[], &self.journal).unwrap();
        // The rest of a torn record is dropped, as a new snapshot would.
        self.journal = base_as_journal(&base);
        assert_eq!(record::decode(&[], &self.journal).unwrap(), base);
        if base.epoch() != Some(self.disks[1].epoch) {
            self.new_container = true;
        }
        self.engine = Engine::new(config(self.random.one_in(2)), base);
        self.halted = false;
        for side in Side::BOTH {
            self.cut(side);
        }
    }

    fn say(&mut self, what: impl FnOnce() -> String) {
        match &mut self.trace {
            Trace::None => {}
            Trace::Printed => println!("{}", what()),
            Trace::Kept(lines) => lines.push(what()),
        }
    }

    /// Takes everything out of the engine.
    fn drain(&mut self) {
        while let Some((side, request)) = self.engine.poll_request() {
            self.say(|| format!("  → {side:?} {request:?}"));
            if let Request::Apply { transition, .. } = &request {
                self.applies += 1;
                if self.canary == Canary::BaseLeads {
                    let delta =
                        BaseDelta::Set { path: transition.path.clone(), entry: transition.to.clone() };
                    self.journal.extend(record::encode_delta(&delta));
                }
            }
            if let Request::Install { entries, .. } = &request {
                self.applies += entries.len();
                for new in entries.iter().filter(|_| self.canary == Canary::BaseLeads) {
                    let delta = BaseDelta::Set { path: new.path.clone(), entry: Some(new.entry.clone()) };
                    self.journal.extend(record::encode_delta(&delta));
                }
            }
            self.lines[side as usize].ask(request);
        }
        while let Some(delta) = self.engine.poll_record() {
            self.say(|| format!("  base {delta:?}"));
            self.journal.extend(record::encode_delta(&delta));
        }
        while let Some(event) = self.engine.poll_event() {
            match event {
                SyncEvent::Scanned if self.new_container => {
                    // From here on the engine knows what the container began with: the local side's answer to that
                    // may replace it.
                    self.new_container = false;
                    let began: Vec<_> = self.disks[1].nodes.values().cloned().collect();
                    for node in began {
                        self.end(node);
                    }
                }
                SyncEvent::Halted { .. } => self.halted = true,
                SyncEvent::Resumed => self.halted = false,
                _ => {}
            }
        }
    }

    /// Lets time go by for the wire, if there is one, and does to it what networks and machines do.
    fn pass(&mut self, faults: bool) {
        let faults = if faults { self.faults >> 10 } else { 0 };
        let (lose, side) = (faults & 1 != 0 && self.random.one_in(60), *self.random.pick(&Side::BOTH));
        let Line::Wire(wire) = &mut self.lines[1] else { return };
        let random = &mut self.random;
        let mut happened = "";
        let mut time = wire.wait().min(50);
        if lose {
            self.disks[side as usize].lose_events();
            happened = "events are lost";
        } else if faults & 2 != 0 && random.one_in(150) && wire.flip(random) {
            happened = "a bit flips";
        } else if faults & 4 != 0 && random.one_in(200) {
            time = *random.pick(&[3000, 8 * 3600 * 1000]);
            happened = "the clock jumps";
        } else if faults & 8 != 0 && random.one_in(200) {
            wire.stalled = true;
            happened = "the path swallows everything";
        }
        if wire.stalled {
            time = 400;
        }
        self.simulated += time;
        let stands = wire.pass(time);
        if !happened.is_empty() {
            self.disturbed += 1;
            self.say(|| happened.to_owned());
        }
        if !stands {
            self.say(|| "the link is dead".to_owned());
            if self.connected[1] {
                self.disconnect(Side::Remote);
            } else {
                self.lines[1].cut();
            }
        }
    }

    fn step(&mut self, faults: bool) {
        self.pass(faults);
        let step = self.random.below(if faults { 200 } else { 100 });
        if step >= 190 && self.faults & (1 << (step - 190)) == 0 {
            return;
        }
        match step {
            0..40 => {
                let side = *self.random.pick(&Side::BOTH);
                if let Some(request) = self.lines[side as usize].next_request() {
                    self.say(|| format!("{side:?} does {request:?}"));
                    let replies = self.disks[side as usize].handle(request);
                    for reply in replies {
                        self.lines[side as usize].answer(reply);
                    }
                    self.check_displaced(side);
                    self.look_at_remote();
                }
            }
            40..80 => {
                let side = *self.random.pick(&Side::BOTH);
                if let Some(reply) = self.lines[side as usize].next_reply() {
                    self.say(|| format!("{side:?} says {reply:?}"));
                    self.engine.handle_reply(side, reply).unwrap();
                    self.drain();
                }
            }
            80..90 => {
                let side = *self.random.pick(&Side::BOTH);
                if self.connected[side as usize]
                    && let Some(reply) = self.disks[side as usize].watch()
                {
                    self.lines[side as usize].answer(reply);
                }
            }
            90..100 => {
                for side in Side::BOTH {
                    if !self.connected[side as usize] {
                        self.say(|| format!("{side:?} connects"));
                        self.connected[side as usize] = true;
                        self.engine.connect(side, open());
                        self.drain();
                    }
                }
                if self.halted && self.random.one_in(3) {
                    self.say(|| "deletions approved".to_owned());
                    self.engine.approve_deletions();
                    self.drain();
                }
            }
            100..190 => {
                let side = *self.random.pick(&Side::BOTH);
                if self.random.one_in(3) {
                    self.edit(side);
                }
            }
            190..194 => self.disconnect(Side::Remote),
            194 => self.disconnect(Side::Local),
            195 | 196 => {
                self.say(|| "container restarts".to_owned());
                self.disconnect(Side::Remote);
                self.restart_container();
            }
            197 => self.crash_engine(),
            198 => {
                let side = *self.random.pick(&Side::BOTH);
                self.disks[side as usize].failing = self.random.below(4);
            }
            _ => {
                let side = *self.random.pick(&Side::BOTH);
                self.engine.rescan(side);
                self.drain();
            }
        }
    }

    /// No bytes of the local side give way but those that this container had and somebody there ended.
    fn check_displaced(&mut self, side: Side) {
        for displaced in std::mem::take(&mut self.disks[side as usize].displaced) {
            if side == Side::Local {
                let known = self.seen_remote.contains(&(displaced.path.clone(), displaced.bytes.clone()))
                    || self.disks[0].kept.values().any(|kept| *kept == displaced.bytes);
                assert!(known, "{} of the local side gave way to what never had it", displaced.path);
            }
        }
    }

    fn edit(&mut self, side: Side) {
        let random = &mut self.random;
        let mut text = random.pick(&["a", "b", "c"]).to_string();
        for _ in 0..random.below(3) {
            text.push('/');
            text.push_str(["a", "b", "c", IGNORED][random.below(4)]);
            if text.ends_with(IGNORED) {
                break;
            }
        }
        let path = RelPath::new(text).unwrap();
        let action = random.below(12);
        self.say(|| format!("user on {side:?}: {action} {path}"));
        match action {
            0..5 => {
                let node = self.fresh_file();
                self.put(side, &path, node);
            }
            5 | 6 => self.remove(side, &path),
            7 => self.put(side, &path, Node::Directory),
            8 => {
                let target = self.random.pick(&["x", "y"]).to_string();
                self.put(side, &path, Node::Link(target));
            }
            9 => {
                if let Some(Node::File(bytes, executable)) =
                    self.disks[side as usize].nodes.get(&path).cloned()
                {
                    self.disks[side as usize].edit(&path, Some(Node::File(bytes, !executable)));
                }
            }
            10 => {
                // A small change within a file.
                if let Some(Node::File(bytes, executable)) =
                    self.disks[side as usize].nodes.get(&path).cloned()
                    && !is_ignored(&path)
                {
                    self.values += 1;
                    let new =
                        [format!("{:08}", self.values).as_bytes(), bytes.get(8..).unwrap_or(&[])].concat();
                    self.written.insert(new.clone());
                    self.put(side, &path, Node::File(new, executable));
                }
            }
            _ => {
                let to = RelPath::new(*self.random.pick(&["a", "b", "c", "d", "a/b", "b/a"])).unwrap();
                self.rename(side, &path, &to);
            }
        }
    }

    fn fresh_file(&mut self) -> Node {
        self.values += 1;
        let length = *self.random.pick(&[0, 8, 100, 1200, 2500]);
        let mut bytes = format!("{:08}", self.values).into_bytes();
        bytes.extend((8..length).map(|at| u8::try_from(at % 251).unwrap()));
        Node::File(bytes, self.random.one_in(4))
    }

    /// Puts a node where a user can: with the folders above, in place of what is there.
    fn put(&mut self, side: Side, path: &RelPath, node: Node) {
        let mut above: Vec<_> = path.ancestors().collect();
        above.reverse();
        let nodes = &self.disks[side as usize].nodes;
        if above.iter().any(|folder| !matches!(nodes.get(folder), None | Some(Node::Directory))) {
            return;
        }
        for folder in above {
            if !self.disks[side as usize].nodes.contains_key(&folder) {
                self.disks[side as usize].edit(&folder, Some(Node::Directory));
            }
        }
        if self.disks[side as usize].nodes.get(path) == Some(&Node::Directory) && node == Node::Directory {
            return;
        }
        self.remove(side, path);
        if let Node::File(bytes, _) = &node
            && !is_ignored(path)
        {
            self.written.insert(bytes.clone());
        }
        self.disks[side as usize].edit(path, Some(node));
        self.look_at_remote();
    }

    fn remove(&mut self, side: Side, path: &RelPath) {
        let mut gone: Vec<_> =
            below(&self.disks[side as usize].nodes, path).map(|(path, _)| path.clone()).collect();
        gone.push(path.clone());
        for path in gone.into_iter().rev() {
            if let Some(node) = self.disks[side as usize].nodes.get(&path).cloned() {
                self.end(node);
                self.disks[side as usize].edit(&path, None);
            }
        }
    }

    fn rename(&mut self, side: Side, from: &RelPath, to: &RelPath) {
        let disk = &mut self.disks[side as usize];
        let free = !disk.nodes.contains_key(to)
            && to.parent().is_none_or(|parent| disk.nodes.get(&parent) == Some(&Node::Directory));
        if !free || !disk.nodes.contains_key(from) || from == to || to.is_below(from) {
            return;
        }
        let mut moved = vec![from.clone()];
        moved.extend(below(&disk.nodes, from).map(|(path, _)| path.clone()));
        for path in moved {
            let node = disk.nodes.get(&path).cloned();
            let new = path.renamed(from, to).unwrap();
            disk.edit(&path, None);
            disk.edit(&new, node);
        }
        self.look_at_remote();
    }

    /// Winds down: no edits and no faults any more; then both sides must become equal.
    fn settle(&mut self) {
        for disk in &mut self.disks {
            disk.failing = 0;
        }
        if matches!(&self.lines[1], Line::Wire(wire) if wire.stalled) {
            self.disconnect(Side::Remote);
        }
        for round in 0..2 {
            for steps in 0.. {
                assert!(steps < 30_000, "does not come to rest");
                self.step(false);
                let quiet = self.lines.iter().all(Line::is_empty)
                    && self.connected == [true; 2]
                    && !self.halted
                    && self.disks.iter_mut().all(Disk::is_quiet);
                if quiet {
                    break;
                }
            }
            // What failed is tried again after a scan.
            if round == 0 {
                self.say(|| "last scan".to_owned());
                for side in Side::BOTH {
                    self.engine.rescan(side);
                }
                self.drain();
            }
        }
    }

    fn check_end(&mut self) {
        assert_eq!(self.engine.status().phase, Phase::InSync);
        // A folder that holds what is not synced stays on its side, whatever the other side has there.
        let [local, remote] = self.disks.each_ref().map(|disk| synced(&disk.nodes));
        let shells = self.disks.each_ref().map(|disk| shells(&disk.nodes));
        let stays = |path: &RelPath| {
            let differs = |shells: &BTreeSet<RelPath>, other: &Nodes| {
                shells.contains(path) && other.get(path) != Some(&Node::Directory)
            };
            differs(&shells[0], &remote) || differs(&shells[1], &local)
        };
        let is_stuck = |path: &RelPath| stays(path) || path.ancestors().any(|path| stays(&path));
        let comparable = |tree: &Nodes| -> Nodes {
            let free = tree.iter().filter(|(path, _)| !is_stuck(path));
            free.map(|(path, node)| (path.clone(), node.clone())).collect()
        };
        assert_eq!(comparable(&local), comparable(&remote), "the sides differ");
        for problem in self.engine.status().problems {
            let path = RelPath::new(problem.path.clone()).unwrap();
            assert!(is_stuck(&path), "{problem:?}");
        }
        let base = record::decode(&[], &self.journal).unwrap();
        for (path, node) in &local {
            if !is_stuck(path) {
                assert_eq!(base.entries().get(path), Some(&node.entry()), "the base lags at rest: {path}");
            }
        }
        let mut held: BTreeSet<&Vec<u8>> = self.disks[0].kept.values().collect();
        for node in self.disks.iter().flat_map(|disk| disk.nodes.values()) {
            if let Node::File(bytes, _) = node {
                held.insert(bytes);
            }
        }
        for value in &self.written {
            assert!(
                held.contains(value) || self.ended.contains(value),
                "lost: {}",
                String::from_utf8_lossy(&value[..8])
            );
        }
        let before = self.applies;
        for side in Side::BOTH {
            self.engine.rescan(side);
        }
        self.drain();
        for _ in 0..300 {
            self.step(false);
        }
        let any_shell = shells.iter().any(|shells| !shells.is_empty());
        assert!(any_shell || self.applies == before, "there was something left to do");
    }
}

impl Disk {
    fn is_quiet(&mut self) -> bool {
        match self.watch() {
            None => true,
            Some(Reply::Changed(changes)) => {
                for change in changes {
                    let node = self.nodes.get(&change.path).cloned();
                    self.edit(&change.path, node);
                }
                false
            }
            Some(_) => false,
        }
    }
}

fn synced(nodes: &Nodes) -> Nodes {
    nodes
        .iter()
        .filter(|(path, _)| !is_ignored(path))
        .map(|(path, node)| (path.clone(), node.clone()))
        .collect()
}

/// Returns the folders that hold something that is not synced.
fn shells(nodes: &Nodes) -> BTreeSet<RelPath> {
    nodes
        .keys()
        .filter(|path| is_ignored(path))
        .flat_map(|path| path.ancestors().collect::<Vec<_>>())
        .collect()
}

fn base_as_journal(base: &Base) -> Vec<u8> {
    let sets = base
        .entries()
        .iter()
        .map(|(path, entry)| BaseDelta::Set { path: path.clone(), entry: Some(entry.clone()) });
    let tombstones = base.tombstones().map(|path| BaseDelta::Tombstone { path: path.clone() });
    let epoch = base.epoch().map(BaseDelta::Epoch);
    sets.chain(tombstones).chain(epoch).flat_map(|delta| record::encode_delta(&delta)).collect()
}

/// Makes a world, lets things happen in it, and has it come to rest.
fn run(world: &mut World) {
    let steps = 50 + world.random.below(500);
    for _ in 0..steps {
        world.step(true);
    }
    world.say(|| "winding down".to_owned());
    world.settle();
    world.check_end();
}

/// Makes a world whose remote side is at the end of the real wire.
fn far(seed: u64, canary: Canary) -> World {
    let mut world = World::new(seed, canary);
    world.lines[1] = Line::Wire(Box::new(Wire::new(&mut world.random)));
    world
}

type Make = fn(u64, Canary) -> World;

/// Runs worlds, and checks that enough happens in them: worlds in which nothing does prove nothing.
fn check(suite: &str, first: u64, count: u64, make: Make, enough: &[(&str, u64)]) {
    let mut totals = BTreeMap::new();
    each_seed(suite, first..first + count, |seed, trace| {
        let mut world = make(seed, Canary::None);
        if trace {
            world.trace = Trace::Printed;
        }
        run(&mut world);
        for (name, count) in [
            ("applies", world.applies as u64),
            ("kept", world.disks[0].kept.len() as u64),
            ("containers", u64::from(world.epochs)),
            ("ended", world.ended.len() as u64),
            ("disturbed", world.disturbed),
            ("simulated hours", world.simulated / 3_600_000),
        ] {
            *totals.entry(name).or_insert(0) += count;
        }
    });
    println!("{suite}: {totals:?}");
    // One world alone was looked at.
    if totals["applies"] > 1000 {
        assert!(enough.iter().all(|(name, least)| totals[name] * 1000 >= least * count), "{totals:?}");
    }
}

/// In a thousand worlds.
const ENOUGH: &[(&str, u64)] = &[("applies", 8000), ("kept", 240), ("containers", 1600)];

#[test]
fn nothing_is_lost_and_both_sides_become_equal() {
    check("worlds", 0, count(1250, 10_000), World::new, ENOUGH);
}

#[test]
fn nothing_is_lost_in_other_worlds_either() {
    check("other worlds", 1_000_000, count(1250, 10_000), World::new, ENOUGH);
}

#[test]
fn nothing_is_lost_at_the_end_of_a_wire() {
    let enough = [ENOUGH, &[("disturbed", 1000), ("simulated hours", 100)]].concat();
    check("far worlds", 0, count(100, 1000), far, &enough);
}

#[test]
fn nothing_is_lost_at_the_end_of_other_wires() {
    check("other far worlds", 1_000_000, count(100, 1000), far, ENOUGH);
}

#[test]
fn the_same_seed_is_the_same_world() {
    let lines = |seed| {
        let mut world = far(seed, Canary::None);
        world.trace = Trace::Kept(Vec::new());
        run(&mut world);
        let Trace::Kept(lines) = world.trace else { panic!("it is kept") };
        lines
    };
    for seed in 0..count(5, 100) {
        let (one, other) = (lines(seed), lines(seed));
        assert!(one.len() > 50);
        assert_eq!(one, other, "seed {seed}");
    }
}

#[test]
fn a_broken_rule_is_noticed() {
    for canary in [Canary::BaseLeads, Canary::Careless, Canary::Forgetful, Canary::SameEpoch] {
        for make in [World::new, far as Make] {
            let fails = |seed| panics(|| run(&mut make(seed, canary)));
            let found = (0..500).find(|seed| fails(*seed));
            println!("{canary:?} is noticed with seed {found:?}");
            assert!(found.is_some(), "{canary:?} was not noticed");
        }
    }
}
