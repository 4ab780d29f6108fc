//! What users see of one path, against a machine that knows nothing of the engine but how it may behave.
//!
//! The machine is the model of *Mysteries of Dropbox* (Hughes, Pierce, Arts, Norell), with a laptop and a pod in the
//! place of a server and its clients. Users write, delete and read; whatever the engine does in between is guessed: all
//! states that the machine can be in are kept, and those that what was seen rules out are dropped. When none is left,
//! something happened that must not.
//!
//! Its rules: a side is replaced only where it has what was last agreed on, or nothing. Where both have changed, the
//! laptop's version stands and the pod's is kept; a change beats a deletion; nothing else is ever kept; and at rest both
//! sides have what was agreed on.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use towline_sync_core::base::Base;
use towline_sync_core::engine::{Engine, EngineConfig, Phase, Side};
use towline_sync_core::message::{Open, Reply, Request, conflict_name};
use towline_sync_core::path::RelPath;

use crate::disk::{Disk, Node};
use crate::random::{Random, count, each_seed, panics};

/// A file's content by number; 0 is no file.
type Value = u8;

const NOTHING: Value = 0;
/// A round has so many actions of users at most: then it ends in rest.
const ACTIONS: usize = 10;

/// What is on its way at one path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    Nothing,
    /// A side is to have the second value where it had the first.
    To(Side, Value, Value),
    /// The pod's value is to be kept.
    Keep(Value),
}

/// One state that the machine can be in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct State {
    /// What each side has, local first.
    has: [Value; 2],
    /// What each side was last seen to have.
    seen: [Value; 2],
    agreed: Value,
    way: Way,
    /// Values that are kept, as bits.
    kept: u64,
}

impl State {
    const START: Self = Self { has: [0; 2], seen: [0; 2], agreed: 0, way: Way::Nothing, kept: 0 };

    /// Returns what the state can become by itself.
    fn next(self, lossy: bool) -> impl Iterator<Item = Self> {
        let looks = [0, 1].map(|side| {
            let mut state = self;
            state.seen[side] = self.has[side];
            Some(state)
        });
        let ways = match self.way {
            Way::Nothing => [Some(self.begin()), None, None],
            Way::To(side, from, to) => {
                let mut done = self;
                done.way = Way::Nothing;
                done.has[side as usize] = to;
                // The answer was lost: nobody has seen it, and nothing was agreed on.
                let unheard = lossy.then_some(done);
                done.seen[side as usize] = to;
                done.agreed = to;
                let fits = self.has[side as usize] == from;
                [fits.then_some(done), unheard.filter(|_| fits), Some(Self { way: Way::Nothing, ..self })]
            }
            Way::Keep(value) => {
                let dropped = Self { way: Way::Nothing, ..self };
                [Some(Self { kept: self.kept | 1 << value, ..dropped }), Some(dropped), None]
            }
        };
        looks.into_iter().chain(ways).flatten()
    }

    /// Decides by what was seen.
    fn begin(self) -> Self {
        let [local, remote] = self.seen;
        let to = |side: Side, to| Way::To(side, self.seen[side as usize], to);
        let way = if local == remote {
            return Self { agreed: local, ..self };
        } else if remote == self.agreed {
            to(Side::Remote, local)
        } else if local == self.agreed || local == NOTHING {
            to(Side::Local, remote)
        } else if remote == NOTHING || self.kept & 1 << remote != 0 {
            to(Side::Remote, local)
        } else {
            Way::Keep(remote)
        };
        Self { way, ..self }
    }

    fn is_at_rest(&self) -> bool {
        self.way == Way::Nothing && self.has == self.seen && self.has == [self.agreed; 2]
    }
}

/// All states that one path can be in, by what was seen.
#[derive(Debug)]
struct Oracle {
    states: BTreeSet<State>,
    lossy: bool,
}

impl Oracle {
    fn new(lossy: bool) -> Self {
        Self { states: BTreeSet::from([State::START]), lossy }
    }

    /// Adds what may have happened since.
    fn close(&mut self) {
        let mut new: Vec<State> = self.states.iter().copied().collect();
        while let Some(state) = new.pop() {
            for next in state.next(self.lossy) {
                if self.states.insert(next) {
                    new.push(next);
                }
            }
        }
    }

    fn saw(&mut self, what: &str, holds: impl Fn(&State) -> bool) {
        self.close();
        let before = std::mem::take(&mut self.states);
        self.states = before.iter().copied().filter(holds).collect();
        assert!(!self.states.is_empty(), "{what}: none of {} states allows it: {before:#?}", before.len());
    }

    fn read(&mut self, side: Side, value: Value) {
        self.saw(&format!("{side:?} has {value}"), |state| state.has[side as usize] == value);
    }

    fn write(&mut self, side: Side, old: Value, new: Value) {
        self.read(side, old);
        let written = std::mem::take(&mut self.states).into_iter().map(|mut state| {
            state.has[side as usize] = new;
            state
        });
        self.states = written.collect();
    }

    fn rest(&mut self, value: Value, kept: u64) {
        self.saw(&format!("at rest with {value}, kept {kept:b}"), |state| {
            state.is_at_rest() && state.agreed == value && state.kept == kept
        });
        // What is known at rest is all there is to know.
        assert_eq!(self.states.len(), 1);
    }
}

/// An engine between two replicas in memory; what is said takes its time.
pub(crate) struct Pair {
    pub(crate) engine: Engine,
    pub(crate) disks: [Disk; 2],
    requests: [VecDeque<Request>; 2],
    replies: [VecDeque<Reply>; 2],
    trace: bool,
}

impl Pair {
    pub(crate) fn new(config: EngineConfig, trace: bool) -> Self {
        let mut pair = Self {
            trace,
            engine: Engine::new(config, Base::default()),
            disks: Default::default(),
            requests: Default::default(),
            replies: Default::default(),
        };
        pair.disks[1].epoch = [1; 16];
        for side in Side::BOTH {
            pair.connect(side);
        }
        // What the pod begins with is another matter than what is written there, and folders without any file are too.
        pair.disks[0].edit(&RelPath::new("z").unwrap(), Some(Node::File(Vec::new(), false)));
        pair.rest();
        pair
    }

    fn connect(&mut self, side: Side) {
        let open = Open { root: "/".into(), ignore: vec![], excluded: vec![], create: false, watch: true };
        self.engine.connect(side, open);
        self.drain();
    }

    /// Breaks the link to a side, and mends it.
    pub(crate) fn reconnect(&mut self, side: Side) {
        self.engine.handle_disconnected(side);
        self.requests[side as usize].clear();
        self.replies[side as usize].clear();
        self.disks[side as usize].restart();
        self.connect(side);
    }

    fn drain(&mut self) {
        while let Some((side, request)) = self.engine.poll_request() {
            self.requests[side as usize].push_back(request);
        }
        while self.engine.poll_record().is_some() || self.engine.poll_event().is_some() {}
    }

    /// Does one thing somewhere.
    pub(crate) fn step(&mut self, random: &mut Random) {
        let side = *random.pick(&Side::BOTH);
        match random.below(5) {
            0 | 1 => drop(self.carry_out(side)),
            2 | 3 => drop(self.hear(side)),
            _ => self.replies[side as usize].extend(self.disks[side as usize].watch()),
        }
    }

    /// Has a side do what it was asked next; tells whether there was something.
    fn carry_out(&mut self, side: Side) -> bool {
        let Some(request) = self.requests[side as usize].pop_front() else { return false };
        if self.trace {
            println!("    {side:?} does {request:?}");
        }
        let replies = self.disks[side as usize].handle(request);
        self.replies[side as usize].extend(replies);
        true
    }

    /// Has the engine hear what a side said next; tells whether there was something.
    fn hear(&mut self, side: Side) -> bool {
        let Some(reply) = self.replies[side as usize].pop_front() else { return false };
        if self.trace {
            println!("    {side:?} says {reply:?}");
        }
        self.engine.handle_reply(side, reply).unwrap();
        self.drain();
        true
    }

    /// Has a side tell something after all that it told before.
    fn tell(&mut self, side: Side, told: Option<Reply>) {
        self.replies[side as usize].extend(told);
    }

    /// Goes on until nothing is left to do.
    pub(crate) fn rest(&mut self) {
        for steps in 0.. {
            assert!(steps < 10_000, "does not come to rest");
            let mut busy = false;
            for side in Side::BOTH {
                let index = side as usize;
                self.replies[index].extend(self.disks[index].watch());
                while self.carry_out(side) {}
                while self.hear(side) {
                    busy = true;
                }
            }
            if !busy {
                break;
            }
        }
        let status = self.engine.status();
        assert_eq!(status.phase, Phase::InSync, "{status:?}");
        assert_eq!(status.problems, vec![]);
    }
}

pub(crate) fn config() -> EngineConfig {
    EngineConfig {
        bulk_size: 1500,
        delta_size: 1024,
        small_operations: 3,
        small_bytes: 3000,
        // Here every deletion is meant.
        deletions_free: 1000,
        ..EngineConfig::default()
    }
}

/// What is broken on purpose, to see that the oracle notices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Broken {
    Nothing,
    /// This side does not look at what it replaces.
    Careless(Side),
    /// Conflicts are not kept.
    Forgetful,
}

struct Users {
    random: Random,
    pair: Pair,
    paths: Vec<(RelPath, Oracle)>,
    /// The content of each number.
    contents: BTreeMap<Vec<u8>, Value>,
    trace: bool,
}

impl Users {
    fn new(seed: u64, broken: Broken, trace: bool) -> Self {
        let random = Random::new(seed);
        let lossy = seed % 4 == 3;
        let mut pair = Pair::new(config(), trace);
        if let Broken::Careless(side) = broken {
            pair.disks[side as usize].careless = true;
        }
        pair.disks[0].forgetful = broken == Broken::Forgetful;
        let paths = ["a", "b", "d/x"].map(|path| (RelPath::new(path).unwrap(), Oracle::new(lossy)));
        Self { random, pair, paths: paths.into(), contents: BTreeMap::new(), trace }
    }

    fn value(&self, side: Side, path: &RelPath) -> Value {
        match self.pair.disks[side as usize].nodes.get(path) {
            Some(Node::File(bytes, _)) => self.contents[bytes],
            None => NOTHING,
            other => panic!("{path} is {other:?}"),
        }
    }

    fn act(&mut self) {
        let side = *self.random.pick(&Side::BOTH);
        let at = self.random.below(self.paths.len());
        let path = self.paths[at].0.clone();
        let old = self.value(side, &path);
        let action = self.random.below(10);
        match action {
            0..6 if self.contents.len() < 60 => {
                let new = Value::try_from(self.contents.len() + 1).unwrap();
                let length = *self.random.pick(&[1_usize, 100, 1200, 2500]);
                // Versions have most in common: large ones travel as differences.
                let bytes: Vec<u8> = [new].into_iter().chain((0..=u8::MAX).cycle()).take(length).collect();
                self.contents.insert(bytes.clone(), new);
                self.write(side, at, old, new, Some(Node::File(bytes, false)));
            }
            6 | 7 if old != NOTHING => self.write(side, at, old, NOTHING, None),
            8 => {
                let to = self.random.below(self.paths.len());
                let node = self.pair.disks[side as usize].nodes.get(&path).cloned();
                if old != NOTHING && self.value(side, &self.paths[to].0) == NOTHING {
                    self.write(side, to, NOTHING, old, node);
                    self.write(side, at, old, NOTHING, None);
                }
            }
            _ => {
                self.say(&format!("{side:?} reads {path}: {old}"));
                self.paths[at].1.read(side, old);
            }
        }
    }

    fn write(&mut self, side: Side, at: usize, old: Value, new: Value, node: Option<Node>) {
        let path = self.paths[at].0.clone();
        self.say(&format!("{side:?} writes {path}: {old} becomes {new}"));
        let disk = &mut self.pair.disks[side as usize];
        if let Some(parent) = path.parent()
            && !disk.nodes.contains_key(&parent)
        {
            disk.edit(&parent, Some(Node::Directory));
        }
        disk.edit(&path, node);
        self.paths[at].1.write(side, old, new);
    }

    fn rest(&mut self) {
        self.pair.rest();
        for at in 0..self.paths.len() {
            let path = self.paths[at].0.clone();
            let [local, remote] = Side::BOTH.map(|side| self.value(side, &path));
            let kept = self.pair.disks[0].kept.iter().filter(|(name, bytes)| {
                **name == conflict_name(&path, towline_sync_core::snapshot::Hash::of(bytes))
            });
            let kept = kept.fold(0, |bits, (_, bytes)| bits | 1 << self.contents[bytes]);
            self.say(&format!("at rest: {path} {local} {remote}, kept {kept:b}"));
            let oracle = &mut self.paths[at].1;
            oracle.read(Side::Remote, remote);
            oracle.rest(local, kept);
        }
    }

    fn say(&self, what: &str) {
        if self.trace {
            println!("{what}");
        }
    }
}

fn run(seed: u64, broken: Broken, trace: bool) {
    let mut users = Users::new(seed, broken, trace);
    for _ in 0..3 {
        for _ in 0..users.random.below(ACTIONS) {
            for _ in 0..users.random.below(25) {
                users.pair.step(&mut users.random);
            }
            if seed % 4 == 3 && users.random.one_in(5) {
                let side = *users.random.pick(&Side::BOTH);
                users.say(&format!("{side:?} reconnects"));
                users.pair.reconnect(side);
            }
            users.act();
        }
        users.rest();
    }
}

#[test]
fn users_see_what_the_model_allows() {
    each_seed("oracle", 0..count(200, 10_000), |seed, trace| run(seed, Broken::Nothing, trace));
}

#[test]
fn other_users_do_too() {
    let first = 1 << 40;
    each_seed("other oracle", first..first + count(200, 10_000), |seed, trace| {
        run(seed, Broken::Nothing, trace);
    });
}

#[test]
fn what_was_told_before_a_scan_is_older_than_the_scan() {
    let mut pair = Pair::new(config(), false);
    let path = RelPath::new("a").unwrap();
    pair.engine.rescan(Side::Local);
    pair.drain();
    pair.disks[0].edit(&path, Some(Node::File(b"1".to_vec(), false)));
    let told = pair.disks[0].watch();
    pair.tell(Side::Local, told);
    pair.disks[0].edit(&path, None);
    assert!(pair.carry_out(Side::Local));
    pair.rest();
    assert_eq!(pair.disks.each_ref().map(|disk| disk.nodes.len()), [1, 1]);
}

/// A folder gives way to a file while something is made in it, and that was told of before the answer comes.
#[test]
fn a_folder_that_grows_while_it_goes_stays() {
    for file_in_its_place in [false, true] {
        let mut pair = Pair::new(config(), false);
        let [folder, old, new] = ["a", "a/old", "a/new"].map(|path| RelPath::new(path).unwrap());
        pair.disks[0].edit(&folder, Some(Node::Directory));
        pair.disks[0].edit(&old, Some(Node::File(b"old".to_vec(), false)));
        pair.rest();
        pair.disks[0].edit(&old, None);
        pair.disks[0].edit(&folder, file_in_its_place.then(|| Node::File(b"file".to_vec(), false)));
        let told = pair.disks[0].watch();
        pair.tell(Side::Local, told);
        // All that the pod is asked is on its way when somebody there makes a file, which is told of at once.
        while pair.carry_out(Side::Local) | pair.hear(Side::Local) {}
        while pair.disks[1].nodes.contains_key(&old) && pair.carry_out(Side::Remote) {}
        pair.disks[1].edit(&new, Some(Node::File(b"new".to_vec(), false)));
        let told = pair.disks[1].watch();
        pair.tell(Side::Remote, told);
        pair.rest();
        let local = &pair.disks[0].nodes;
        assert_eq!(local.get(&new), Some(&Node::File(b"new".to_vec(), false)), "{:?}", pair.engine.status());
        assert_eq!(*local, pair.disks[1].nodes);
    }
}

#[test]
fn a_broken_rule_is_noticed() {
    for broken in [Broken::Careless(Side::Local), Broken::Careless(Side::Remote), Broken::Forgetful] {
        let fails = |seed| panics(|| run(seed, broken, false));
        let found = (0..500).find(|seed| fails(*seed));
        println!("{broken:?} is noticed with seed {found:?}");
        assert!(found.is_some(), "{broken:?} was not noticed");
    }
}
