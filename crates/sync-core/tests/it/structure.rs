//! Files, folders and links turn into each other while others work on what is in them.
//!
//! Both sides begin a round with the same; users on both sides do what they like; then it is looked who must have got
//! what he wanted: what nobody else touched, every edit of what another only deleted, every deletion of what another
//! left alone. What nobody ended by his own hand is at its path, or kept.

use std::collections::BTreeSet;

use towline_sync_core::engine::Side;
use towline_sync_core::path::{RelPath, below};

use crate::disk::{Node, Nodes};
use crate::oracle::{Pair, config};
use crate::random::{Random, count, each_seed, panics};

/// What a user did in this round.
#[derive(Debug)]
struct Act {
    side: Side,
    path: RelPath,
    /// What he put there; nothing where he took something away.
    put: Option<Node>,
}

struct Users {
    random: Random,
    pair: Pair,
    values: u32,
    acts: Vec<Act>,
    /// Contents that somebody who had them in front of him overwrote or deleted.
    ended: BTreeSet<Vec<u8>>,
    trace: bool,
}

impl Users {
    fn act(&mut self) {
        let random = &mut self.random;
        let side = *random.pick(&Side::BOTH);
        let mut text = (*random.pick(&["a", "b"])).to_owned();
        for _ in 0..random.below(4) {
            text.push('/');
            text.push_str(["a", "b"][random.below(2)]);
        }
        let path = RelPath::new(text).unwrap();
        let nodes = &self.pair.disks[side as usize].nodes;
        if path.ancestors().any(|above| !matches!(nodes.get(&above), None | Some(Node::Directory))) {
            return;
        }
        let put = match random.below(8) {
            0..4 => {
                self.values += 1;
                let mut bytes = format!("{:08}", self.values).into_bytes();
                bytes.resize(*random.pick(&[8, 1300, 2600]), b'.');
                Some(Node::File(bytes, random.one_in(4)))
            }
            4 => Some(Node::Directory),
            5 => Some(Node::Link("x".to_owned())),
            _ => None,
        };
        if nodes.get(&path) == put.as_ref() {
            return;
        }
        if self.trace {
            println!("{side:?} puts {put:?} at {path}");
        }
        let disk = &mut self.pair.disks[side as usize];
        let mut above: Vec<_> = path.ancestors().filter(|above| !disk.nodes.contains_key(above)).collect();
        if put.is_some() {
            above.reverse();
            for folder in &above {
                disk.edit(folder, Some(Node::Directory));
            }
        }
        let mut gone: Vec<_> = below(&disk.nodes, &path).map(|(path, _)| path.clone()).collect();
        gone.push(path.clone());
        for path in gone.iter().rev() {
            if let Some(node) = disk.nodes.get(path).cloned() {
                if let Node::File(bytes, _) = node {
                    self.ended.insert(bytes);
                }
                disk.edit(path, None);
            }
        }
        if put.is_some() {
            disk.edit(&path, put.clone());
        }
        self.acts.push(Act { side, path, put });
    }

    /// Returns what was done to a path, to what it lies in, or to what lies in it.
    fn touching<'a>(&'a self, path: &'a RelPath) -> impl Iterator<Item = &'a Act> {
        self.acts
            .iter()
            .filter(move |act| act.path == *path || act.path.is_below(path) || path.is_below(&act.path))
    }

    fn check(&self, start: &Nodes) {
        let [local, remote] = self.pair.disks.each_ref().map(|disk| &disk.nodes);
        assert_eq!(local, remote);
        for (path, node) in start {
            if self.touching(path).next().is_none() {
                assert_eq!(local.get(path), Some(node), "nobody touched {path}");
            }
            let only_deleted = self.touching(path).all(|act| act.put.is_none());
            let deleted = |act: &Act| act.path == *path || path.is_below(&act.path);
            if only_deleted && self.acts.iter().any(deleted) {
                assert_eq!(local.get(path), None, "{path} was only deleted");
            }
        }
        let kept: BTreeSet<&Vec<u8>> = self.pair.disks[0].kept.values().collect();
        for act in &self.acts {
            let Some(Node::File(bytes, executable)) = &act.put else { continue };
            if self.ended.contains(bytes) {
                continue;
            }
            let stands = matches!(local.get(&act.path), Some(Node::File(now, _)) if now == bytes);
            assert!(stands || kept.contains(bytes), "lost at {}", act.path);
            let mut others = self.touching(&act.path).filter(|other| other.side != act.side);
            if others.all(|other| other.put.is_none()) {
                assert!(stands, "{} was only deleted by others", act.path);
                let last = local.get(&act.path) == Some(&Node::File(bytes.clone(), *executable));
                assert!(last, "the mode of {}", act.path);
            }
        }
        for bytes in kept {
            let seen = |act: &Act| matches!(&act.put, Some(Node::File(put, _)) if put == bytes);
            assert!(self.acts.iter().any(seen), "kept, and nobody wrote it in this round");
        }
    }
}

fn run(seed: u64, careless: bool, trace: bool) {
    let random = Random::new(seed);
    let mut users = Users {
        random,
        pair: Pair::new(config(), trace),
        values: 0,
        acts: Vec::new(),
        ended: BTreeSet::new(),
        trace,
    };
    users.pair.disks[0].careless = careless;
    for _ in 0..5 {
        let start = users.pair.disks[0].nodes.clone();
        users.acts.clear();
        users.pair.disks[0].kept.clear();
        for _ in 0..=users.random.below(6) {
            for _ in 0..users.random.below(20) {
                users.pair.step(&mut users.random);
            }
            users.act();
        }
        users.pair.rest();
        users.check(&start);
    }
}

#[test]
fn everyone_gets_what_nobody_else_disputes() {
    each_seed("structure", 0..count(300, 20_000), |seed, trace| run(seed, false, trace));
}

#[test]
fn a_careless_replica_is_noticed() {
    let found = (0..500).find(|seed| panics(|| run(*seed, true, false)));
    println!("noticed with seed {found:?}");
    assert!(found.is_some());
}
