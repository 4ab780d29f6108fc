//! What is under way at once when answers take a while.

use std::time::Duration;

use towline_sync_core::base::Base;
use towline_sync_core::engine::{Engine, EngineConfig, Phase, Side};
use towline_sync_core::message::{Open, Reply, Request};
use towline_sync_core::path::RelPath;

use crate::disk::{Disk, Node};

/// An engine whose remote side is asked and not heard until it is wanted.
struct Far {
    engine: Engine,
    disks: [Disk; 2],
    /// What the remote was asked since it was last heard, and what it answered.
    asked: Vec<Request>,
    held: Vec<Reply>,
}

impl Far {
    fn new(config: EngineConfig, local: impl IntoIterator<Item = (String, Node)>) -> Self {
        let mut far = Self {
            engine: Engine::new(config, Base::default()),
            disks: Default::default(),
            asked: vec![],
            held: vec![],
        };
        far.disks[1].epoch = [1; 16];
        far.put(local);
        for side in Side::BOTH {
            let open =
                Open { root: "/".into(), ignore: vec![], excluded: vec![], create: false, watch: true };
            far.engine.connect(side, open);
        }
        far
    }

    fn put(&mut self, nodes: impl IntoIterator<Item = (String, Node)>) {
        for (at, node) in nodes {
            self.disks[0].edit(&RelPath::new(at).unwrap(), Some(node));
        }
    }

    /// Carries out what is asked; the local side answers at once.
    fn ask(&mut self) {
        while let Some((side, request)) = self.engine.poll_request() {
            let replies = self.disks[side as usize].handle(request.clone());
            if side == Side::Remote {
                self.asked.push(request);
                self.held.extend(replies);
            } else {
                for reply in replies {
                    self.engine.handle_reply(side, reply).unwrap();
                }
            }
        }
    }

    fn hear(&mut self) {
        self.asked.clear();
        for reply in std::mem::take(&mut self.held) {
            self.engine.handle_reply(Side::Remote, reply).unwrap();
        }
        self.ask();
    }

    /// Has the remote answer until nothing is under way; returns how many round trips that takes.
    fn settle(&mut self) -> usize {
        let mut trips = 0;
        self.ask();
        while !self.held.is_empty() {
            self.hear();
            trips += 1;
        }
        while self.engine.poll_event().is_some() || self.engine.poll_record().is_some() {}
        assert_eq!(self.engine.status().phase, Phase::InSync);
        assert_eq!(self.disks[0].nodes, self.disks[1].nodes);
        trips
    }

    fn changed(&mut self, nodes: impl IntoIterator<Item = (String, Node)>) {
        self.put(nodes);
        let seen = self.disks[0].watch().unwrap();
        self.engine.handle_reply(Side::Local, seen).unwrap();
    }
}

fn file(byte: u8, length: usize) -> Node {
    Node::File(vec![byte; length], false)
}

#[test]
fn as_much_more_is_under_way_as_the_remote_is_further_away() {
    let check = |milliseconds, expected: usize| {
        let mut far = Far::new(EngineConfig::default(), []);
        far.settle();
        far.engine.set_round_trip(Duration::from_millis(milliseconds));
        far.changed((0..6000).map(|at| (format!("{at}"), Node::Directory)));
        assert_eq!(far.settle(), expected, "{milliseconds} ms");
    };
    check(0, 6);
    check(25, 3);
    check(150, 1);
    // Who takes seconds is busy, and is not given more and more.
    let mut far = Far::new(EngineConfig::default(), []);
    far.settle();
    far.engine.set_round_trip(Duration::from_hours(1));
    far.changed((0..60_000).map(|at| (format!("{at}"), Node::Directory)));
    assert!(far.settle() > 2);
}

#[test]
fn an_edit_waits_for_little_content_though_much_is_on_its_way() {
    let mut far = Far::new(EngineConfig::default(), []);
    far.settle();
    far.engine.set_round_trip(Duration::from_millis(200));
    far.changed((0..400).map(|at: usize| (format!("{at}"), file(at.to_le_bytes()[0], 60_000 + at))));
    let mut read = 0;
    while let Some((side, request)) = far.engine.poll_request() {
        if let Request::Fetch { files, .. } = &request {
            assert_eq!(side, Side::Local);
            read += files.iter().map(|wanted| wanted.file.size).sum::<u64>();
        }
    }
    assert!((1_000_000..2_600_000).contains(&read), "{read} bytes are to be read before anything else");
}

#[test]
fn large_files_of_a_first_sync_do_not_wait_for_the_small_ones() {
    let config = EngineConfig { eager: true, ..EngineConfig::default() };
    let small = (0..3000).map(|at: usize| (format!("{at}"), file(at.to_le_bytes()[0], 100 + at / 256)));
    let large = [("medium".to_owned(), file(0, 100_000)), ("large".to_owned(), file(1, 300_000))];
    let mut far = Far::new(config, small.chain(large));
    // Opened and looked through; all content; and nothing more.
    assert_eq!(far.settle(), 2);
}
