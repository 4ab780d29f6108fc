//! Scenes: one thing happens, and the requests and events that follow are looked at.

use std::collections::BTreeMap;

use towline_sync_core::base::{Base, BaseDelta};
use towline_sync_core::engine::{Engine, EngineConfig, EngineError, Phase, Side, SyncEvent};
use towline_sync_core::message::{
    Basis, Block, Body, Content, DeltaOp, Found, MAX_BLOCK_BYTES, Open, Outcome, Reply, Request, RootInfo,
    Signature,
};
use towline_sync_core::path::RelPath;
use towline_sync_core::snapshot::{Change, Entry, File, Hash, Opaque};

use crate::disk::{Disk, Node};

fn path(path: &str) -> RelPath {
    RelPath::new(path).unwrap()
}

fn node(text: &str) -> Node {
    Node::File(text.as_bytes().to_vec(), false)
}

fn big(seed: u8) -> Node {
    let bytes = (0..600_000u32).map(|at| at.wrapping_mul(2_654_435_761).to_le_bytes()[2] ^ seed).collect();
    Node::File(bytes, false)
}

/// Two disks and an engine between them; what is asked is carried out at once.
struct Pair {
    engine: Engine,
    disks: [Disk; 2],
    base: Base,
    /// Everything that was asked, with whom.
    asked: Vec<(Side, Request)>,
    events: Vec<SyncEvent>,
    containers: u8,
    /// Answers that did not arrive.
    lost: Vec<Reply>,
}

impl Pair {
    fn new(local: &[(&str, Node)], remote: &[(&str, Node)]) -> Self {
        let mut pair = Self {
            engine: Engine::new(EngineConfig::default(), Base::default()),
            disks: Default::default(),
            base: Base::default(),
            asked: vec![],
            events: vec![],
            containers: 1,
            lost: vec![],
        };
        pair.disks[1].epoch = [1; 16];
        for (side, nodes) in [(Side::Local, local), (Side::Remote, remote)] {
            for (at, node) in nodes {
                pair.put(side, at, node.clone());
            }
        }
        for side in Side::BOTH {
            pair.connect(side);
        }
        pair.run();
        pair
    }

    fn connect(&mut self, side: Side) {
        self.engine.connect(
            side,
            Open { root: "/".into(), ignore: vec![], excluded: vec![], create: false, watch: true },
        );
    }

    fn put(&mut self, side: Side, at: &str, node: Node) {
        for above in path(at).ancestors() {
            self.disks[side as usize].edit(&above, Some(Node::Directory));
        }
        self.disks[side as usize].edit(&path(at), Some(node));
    }

    fn remove(&mut self, side: Side, at: &str) {
        self.disks[side as usize].edit(&path(at), None);
    }

    fn rename(&mut self, side: Side, from: &str, to: &str) {
        let node = self.disks[side as usize].nodes[&path(from)].clone();
        self.remove(side, from);
        self.put(side, to, node);
    }

    /// Lets the watchers tell what they saw, and runs until nothing happens any more.
    fn run(&mut self) {
        self.asked.clear();
        self.events.clear();
        self.go_on();
        for side in Side::BOTH {
            if let Some(reply) = self.disks[side as usize].watch() {
                self.engine.handle_reply(side, reply).unwrap();
            }
        }
        self.go_on();
    }

    fn go_on(&mut self) {
        while let Some((side, request)) = self.engine.poll_request() {
            self.asked.push((side, request.clone()));
            for reply in self.disks[side as usize].handle(request) {
                self.engine.handle_reply(side, reply).unwrap();
            }
        }
        while let Some(delta) = self.engine.poll_record() {
            self.base.apply(&delta);
        }
        self.events.extend(std::iter::from_fn(|| self.engine.poll_event()));
    }

    fn new_container(&mut self, nodes: &[(&str, Node)]) {
        self.engine.handle_disconnected(Side::Remote);
        self.disks[1] = Disk::default();
        self.containers += 1;
        self.disks[1].epoch = [self.containers; 16];
        for (at, node) in nodes {
            self.put(Side::Remote, at, node.clone());
        }
        self.connect(Side::Remote);
        self.run();
    }

    #[track_caller]
    fn check(&self, expected: &[(&str, Node)]) {
        let expected: BTreeMap<_, _> = expected.iter().map(|(at, node)| (path(at), node.clone())).collect();
        for side in Side::BOTH {
            assert_eq!(self.disks[side as usize].nodes, expected, "{side:?}");
        }
        let base: BTreeMap<_, _> = expected.into_iter().map(|(at, node)| (at, node.entry())).collect();
        assert_eq!(*self.base.entries(), base);
        assert_eq!(self.engine.status().phase, Phase::InSync);
    }

    /// Returns how many bytes of content were sent to a side.
    fn literal_bytes(&self, side: Side) -> usize {
        self.asked
            .iter()
            .filter(|(to, _)| *to == side)
            .map(|(_, request)| match request {
                Request::Data { block, .. } => block.ops.iter().map(DeltaOp::carried).sum(),
                Request::Install { entries, .. } => entries.iter().map(|new| new.body.carried()).sum(),
                _ => 0,
            })
            .sum()
    }

    fn count(&self, wanted: impl Fn(&Request) -> bool) -> usize {
        self.asked.iter().filter(|(_, request)| wanted(request)).count()
    }
}

#[test]
fn the_first_sync_is_local_first_and_loses_nothing() {
    let mut pair = Pair::new(
        &[("both", node("same")), ("mine", node("mine")), ("differs", node("local"))],
        &[("both", node("same")), ("theirs", node("theirs")), ("differs", node("remote"))],
    );
    let expected = [
        ("both", node("same")),
        ("mine", node("mine")),
        ("theirs", node("theirs")),
        ("differs", node("local")),
    ];
    pair.check(&expected);
    assert_eq!((pair.engine.status().conflicts, pair.engine.status().replaced), (0, 1));
    assert!(pair.disks[0].displaced.is_empty());
    assert!(pair.events.contains(&SyncEvent::Scanned) && pair.events.contains(&SyncEvent::InSync));
    pair.run();
    assert_eq!(pair.asked, []);
}

#[test]
fn the_first_sync_of_many_files_is_pipelined() {
    let names: Vec<_> = (0..300).map(|n| format!("d{}/f{n}", n % 7)).collect();
    let files: Vec<_> = names.iter().map(|name| (name.as_str(), node(name))).collect();
    let mut engine = Engine::new(EngineConfig::default(), Base::default());
    let open = Open { root: "/".into(), ignore: vec![], excluded: vec![], create: false, watch: true };
    let mut disks: [Disk; 2] = Default::default();
    for (at, node) in &files {
        disks[0].edit(&path(at).parent().unwrap(), Some(Node::Directory));
        disks[0].edit(&path(at), Some(node.clone()));
    }
    for side in Side::BOTH {
        engine.connect(side, open.clone());
    }
    // A round trip is all requests to all sides, then all their answers.
    let mut rounds = 0;
    loop {
        let requests: Vec<_> = std::iter::from_fn(|| engine.poll_request()).collect();
        if requests.is_empty() {
            break;
        }
        rounds += 1;
        let replies: Vec<_> = requests
            .into_iter()
            .flat_map(|(side, request)| {
                disks[side as usize].handle(request).into_iter().map(move |reply| (side, reply))
            })
            .collect();
        for (side, reply) in replies {
            engine.handle_reply(side, reply).unwrap();
        }
    }
    assert_eq!(disks[0].nodes, disks[1].nodes);
    assert!(rounds <= 4, "{rounds} round trips");
}

#[test]
fn a_conflict_keeps_both_and_is_told_once() {
    let mut pair = Pair::new(&[("f", node("base"))], &[]);
    pair.put(Side::Local, "f", node("local"));
    pair.put(Side::Remote, "f", node("remote"));
    pair.run();
    pair.check(&[("f", node("local"))]);
    assert_eq!(pair.disks[0].kept.values().collect::<Vec<_>>(), [b"remote"]);
    let name = pair.disks[0].kept.keys().next().unwrap().clone();
    assert!(pair.events.contains(&SyncEvent::Conflict { path: path("f"), kept_as: name }));
    let kept = pair.asked.iter().position(|(_, request)| matches!(request, Request::Keep { .. }));
    let applied = pair.asked.iter().rposition(|(_, request)| matches!(request, Request::Install { .. }));
    assert!(kept < applied, "the bytes are kept before they are overwritten");
}

#[test]
fn equal_edits_are_no_conflict_and_an_edit_beats_a_deletion() {
    let mut pair = Pair::new(&[("equal", node("0")), ("here", node("0")), ("there", node("0"))], &[]);
    pair.put(Side::Local, "equal", node("1"));
    pair.put(Side::Remote, "equal", node("1"));
    pair.put(Side::Local, "here", node("1"));
    pair.remove(Side::Remote, "here");
    pair.remove(Side::Local, "there");
    pair.put(Side::Remote, "there", node("1"));
    pair.run();
    pair.check(&[("equal", node("1")), ("here", node("1")), ("there", node("1"))]);
    assert!(pair.disks[0].kept.is_empty());
}

#[test]
fn the_exec_bit_and_the_content_merge() {
    let mut pair = Pair::new(&[("f", node("0"))], &[]);
    pair.put(Side::Local, "f", Node::File(b"0".to_vec(), true));
    pair.put(Side::Remote, "f", node("1"));
    pair.run();
    pair.check(&[("f", Node::File(b"1".to_vec(), true))]);
    assert!(pair.disks[0].kept.is_empty());
}

#[test]
fn a_folder_wins_over_a_file_and_the_file_is_kept() {
    let mut pair = Pair::new(&[("x", node("0"))], &[]);
    pair.put(Side::Local, "x", node("edited"));
    pair.remove(Side::Remote, "x");
    pair.put(Side::Remote, "x/y", node("new"));
    pair.run();
    pair.check(&[("x", Node::Directory), ("x/y", node("new"))]);
    assert_eq!(pair.disks[0].kept.values().collect::<Vec<_>>(), [b"edited"]);
}

#[test]
fn a_renamed_folder_sends_no_content() {
    let names: Vec<_> = (0..100).map(|n| format!("old/sub/{n}")).collect();
    let files: Vec<_> = names.iter().map(|name| (name.as_str(), node(name))).collect();
    let mut pair = Pair::new(&files, &[]);
    for name in &names {
        pair.rename(Side::Local, name, &name.replace("old", "new"));
    }
    pair.remove(Side::Local, "old/sub");
    pair.remove(Side::Local, "old");
    pair.run();
    let news: Vec<_> = names.iter().map(|name| (name.replace("old", "new"), node(name))).collect();
    let mut expected: Vec<_> = news.iter().map(|(name, node)| (name.as_str(), node.clone())).collect();
    expected.extend([("new", Node::Directory), ("new/sub", Node::Directory)]);
    pair.check(&expected);
    assert_eq!(pair.literal_bytes(Side::Remote), 0);
    assert_eq!(pair.count(|request| matches!(request, Request::Read { .. })), 0);
    assert!(!pair.events.iter().any(|event| matches!(event, SyncEvent::Halted { .. })), "moved is not gone");
    assert_eq!(pair.count(|_| true), 1, "{:?}", pair.asked);
    assert!(
        matches!(&pair.asked[0].1, Request::Apply { content: Content::Moved { from }, .. } if *from == path("old"))
    );
}

/// A folder on both sides that the local side renames while something else happens, of which the other side tells before
/// it is asked to follow, or after: what it is then on both.
#[track_caller]
fn check_move(is_told: bool, meanwhile: impl FnOnce(&mut Pair), expected: &[(&str, &str)]) {
    let mut pair = Pair::new(&[("old/f", node("f")), ("old/g", node("g")), ("h", node("h"))], &[]);
    for name in ["old/f", "old/g"] {
        pair.rename(Side::Local, name, &name.replace("old", "new"));
    }
    pair.remove(Side::Local, "old");
    meanwhile(&mut pair);
    if !is_told {
        let told = pair.disks[0].watch().unwrap();
        pair.engine.handle_reply(Side::Local, told).unwrap();
        pair.go_on();
    }
    pair.run();
    let expected: Vec<_> = expected
        .iter()
        .map(|(at, text)| (*at, if text.is_empty() { Node::Directory } else { node(text) }))
        .collect();
    pair.check(&expected);
    assert!(pair.disks.iter().all(|disk| disk.kept.is_empty()), "no conflict");
}

#[test]
fn what_happens_beside_a_move_is_not_lost() {
    let all = [("h", "h"), ("new", ""), ("new/f", "f"), ("new/g", "g")];
    let with = |more: &[(&'static str, &'static str)]| [&all[..], more].concat();
    check_move(true, |_| (), &all);
    let edit = |pair: &mut Pair| pair.put(Side::Remote, "old/f", node("edited"));
    // An edit that is known of goes along.
    check_move(true, edit, &[("h", "h"), ("new", ""), ("new/f", "edited"), ("new/g", "g")]);
    check_move(false, edit, &with(&[("old", ""), ("old/f", "edited")]));
    let add = |pair: &mut Pair| pair.put(Side::Remote, "old/more", node("more"));
    check_move(true, add, &with(&[("new/more", "more")]));
    check_move(false, add, &with(&[("old", ""), ("old/more", "more")]));
    // Something stands in its place.
    for is_told in [false, true] {
        check_move(is_told, |pair| pair.put(Side::Remote, "new/x", node("x")), &with(&[("new/x", "x")]));
    }
    // The disk refuses.
    check_move(true, |pair| pair.disks[1].failing = 1, &all);
    // It is no whole folder, or not all of it went.
    let replace = |pair: &mut Pair| pair.put(Side::Local, "new/f", node("other"));
    check_move(true, replace, &[("h", "h"), ("new", ""), ("new/f", "other"), ("new/g", "g")]);
    let stay = |pair: &mut Pair| pair.put(Side::Local, "old/f", node("f"));
    check_move(true, stay, &with(&[("old", ""), ("old/f", "f")]));
}

#[test]
fn a_renamed_file_is_moved() {
    #[track_caller]
    fn check(is_moved: bool, meanwhile: impl FnOnce(&mut Pair), expected: &[(&str, &str)]) {
        let mut pair = Pair::new(&[("f", node("f")), ("d/h", node("h"))], &[]);
        pair.rename(Side::Local, "f", "d/g");
        meanwhile(&mut pair);
        pair.run();
        let folder = [("d", Node::Directory)];
        let expected = expected.iter().map(|(at, text)| (*at, node(text))).chain(folder);
        pair.check(&expected.collect::<Vec<_>>());
        let (side, request) = pair.asked.iter().find(|(_, it)| matches!(it, Request::Apply { .. })).unwrap();
        let tried =
            matches!(request, Request::Apply { content: Content::Moved { from }, .. } if *from == path("f"));
        assert_eq!((tried, *side), (is_moved, Side::Remote), "{:?}", pair.asked);
        if is_moved && pair.disks[1].nodes.len() == 3 {
            assert_eq!(pair.asked.len(), 1, "{:?}", pair.asked);
        }
        assert!(pair.disks.iter().all(|disk| disk.kept.is_empty()), "no conflict");
        assert!(pair.engine.status().problems.is_empty());
    }
    let all = [("d/g", "f"), ("d/h", "h")];
    let with = |more: &[(&'static str, &'static str)]| [&all[..], more].concat();
    check(true, |_| (), &all);
    // The other side's edit is not told yet: it goes along, or stays where it was.
    check(true, |pair| pair.put(Side::Remote, "f", node("edited")), &with(&[("f", "edited")]));
    check(true, |pair| pair.put(Side::Remote, "more", node("more")), &with(&[("more", "more")]));
    // It was copied; it is another file.
    check(false, |pair| pair.put(Side::Local, "f", node("f")), &with(&[("f", "f")]));
    check(false, |pair| pair.put(Side::Local, "d/g", node("other")), &[("d/g", "other"), ("d/h", "h")]);
}

#[test]
fn a_file_that_can_not_be_moved_is_copied() {
    let mut pair = Pair::new(&[("f", node("f"))], &[]);
    pair.rename(Side::Local, "f", "g");
    pair.disks[1].failing = 1;
    pair.run();
    pair.check(&[("g", node("f"))]);
    assert_eq!(pair.literal_bytes(Side::Remote), 0);
}

#[test]
fn a_move_that_was_made_and_not_answered_is_known() {
    let mut pair = Pair::new(&[("old/f", node("f")), ("old/g", node("g")), ("h", node("h"))], &[]);
    for name in ["old/f", "old/g"] {
        pair.rename(Side::Local, name, &name.replace("old", "new"));
    }
    pair.remove(Side::Local, "old");
    let told = pair.disks[0].watch().unwrap();
    pair.engine.handle_reply(Side::Local, told).unwrap();
    while let Some((side, request)) = pair.engine.poll_request() {
        assert_eq!(side, Side::Remote);
        // The answer is lost.
        pair.disks[1].handle(request);
    }
    assert!(pair.disks[1].nodes.contains_key(&path("new/f")));
    pair.engine.handle_disconnected(Side::Remote);
    // It goes before the other side is back: what was made there was this one's, and is no news.
    for name in ["new/f", "new/g", "new"] {
        pair.remove(Side::Local, name);
    }
    pair.connect(Side::Remote);
    pair.run();
    pair.check(&[("h", node("h"))]);
}

#[test]
fn a_change_in_a_large_file_sends_the_difference() {
    let mut pair = Pair::new(&[("big", big(0))], &[]);
    let Node::File(mut bytes, _) = big(0) else { unreachable!() };
    bytes.splice(1000..1010, *b"something else");
    let new = Node::File(bytes, false);
    pair.put(Side::Local, "big", new.clone());
    pair.run();
    pair.check(&[("big", new)]);
    assert!(pair.literal_bytes(Side::Remote) < 10_000, "{}", pair.literal_bytes(Side::Remote));
}

#[test]
fn a_small_edit_passes_a_large_transfer() {
    let mut pair = Pair::new(&[("small", node("0"))], &[]);
    pair.put(Side::Local, "big", big(1));
    pair.put(Side::Local, "small", node("1"));
    let changes = pair.disks[0].watch().unwrap();
    let Reply::Changed(mut changes) = changes else { panic!() };
    let small = changes.pop().unwrap();
    // The large file is on its way: all of it has been read.
    pair.engine.handle_reply(Side::Local, Reply::Changed(changes)).unwrap();
    let mut held = vec![];
    while let Some((side, request)) = pair.engine.poll_request() {
        match side {
            Side::Local => {
                for reply in pair.disks[0].handle(request) {
                    pair.engine.handle_reply(Side::Local, reply).unwrap();
                }
                break;
            }
            Side::Remote => held.push(request),
        }
    }
    assert!(pair.engine.queued_bytes(Side::Remote) > 500_000);
    pair.engine.handle_reply(Side::Local, Reply::Changed(vec![small])).unwrap();
    let order: Vec<_> = std::iter::from_fn(|| {
        let (side, request) = pair.engine.poll_request()?;
        if side == Side::Local {
            for reply in pair.disks[0].handle(request.clone()) {
                pair.engine.handle_reply(Side::Local, reply).unwrap();
            }
        }
        Some((side, request))
    })
    .filter(|(side, _)| *side == Side::Remote)
    .collect();
    let small = order.iter().position(|(_, request)| matches!(request, Request::Install { .. })).unwrap();
    let bulk = order.iter().position(|(_, request)| matches!(request, Request::Data { .. }));
    assert!(Some(small) < bulk, "{small} {bulk:?}");
    assert_eq!(pair.engine.queued_bytes(Side::Remote), 0);
}

#[test]
fn a_new_container_deletes_nothing_here_and_what_was_deleted_here_does_not_come_back() {
    let image = [("app", node("image")), ("old", node("image"))];
    let mut pair = Pair::new(&[("app", node("mine"))], &image);
    pair.remove(Side::Local, "old");
    pair.run();
    pair.check(&[("app", node("mine"))]);
    // It begins with the image again, old file and all.
    pair.new_container(&image);
    pair.check(&[("app", node("mine"))]);
    pair.new_container(&[]);
    pair.check(&[("app", node("mine"))]);
    assert!(pair.disks[0].displaced.iter().all(|displaced| displaced.path != path("app")));
}

#[test]
fn an_emptied_folder_halts_and_goes_on_when_it_is_back() {
    let files: Vec<_> =
        (0..10).map(|n| (["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"][n], node("x"))).collect();
    for (gone, other) in [(Side::Local, Side::Remote), (Side::Remote, Side::Local)] {
        let mut pair = Pair::new(&files, &[]);
        for (at, _) in &files {
            pair.remove(gone, at);
        }
        pair.run();
        let halted = |event: &SyncEvent| matches!(event, SyncEvent::Halted { side, missing: 10, of: 10, .. } if *side == gone);
        assert!(pair.events.iter().any(halted), "{:?}", pair.events);
        assert_eq!(pair.disks[other as usize].nodes.len(), 10);
        assert_eq!(pair.engine.status().phase, Phase::Halted);
        assert!(!pair.events.contains(&SyncEvent::InSync));

        for (at, node) in &files {
            pair.put(gone, at, node.clone());
        }
        pair.run();
        assert!(pair.events.contains(&SyncEvent::Resumed));
        pair.check(&files);

        for (at, _) in &files {
            pair.remove(gone, at);
        }
        pair.run();
        pair.engine.approve_deletions();
        pair.run();
        pair.check(&[]);
    }
}

#[test]
fn a_third_of_many_files_halts_and_fifty_of_few_do_not() {
    let names: Vec<_> = (0..300).map(|n| format!("{n:03}")).collect();
    let files: Vec<_> = names.iter().map(|name| (name.as_str(), node(name))).collect();
    for (gone, halts) in [(91, true), (90, false)] {
        let mut pair = Pair::new(&files, &[]);
        for name in &names[..gone] {
            pair.remove(Side::Remote, name);
        }
        pair.run();
        assert_eq!(pair.events.iter().any(|event| matches!(event, SyncEvent::Halted { .. })), halts);
        assert_eq!(pair.disks[0].nodes.len(), if halts { 300 } else { 210 });
    }
    let mut pair = Pair::new(&files[..60], &[]);
    for name in &names[..50] {
        pair.remove(Side::Remote, name);
    }
    pair.run();
    assert_eq!(pair.disks[0].nodes.len(), 10);
}

/// Lets a side write and remove many files in pieces, each of them synced before the next.
fn in_pieces(pair: &mut Pair, side: Side, names: &[String], removed: bool) -> bool {
    names.chunks(40).any(|names| {
        for name in names {
            if removed { pair.remove(side, name) } else { pair.put(side, name, node(name)) }
        }
        pair.run();
        pair.events.iter().any(|event| matches!(event, SyncEvent::Halted { .. }))
    })
}

fn many(prefix: &str) -> Vec<String> {
    (0..300).map(|n| format!("{prefix}{n:03}")).collect()
}

#[test]
fn what_a_side_made_itself_since_the_last_rest_may_go() {
    for side in Side::BOTH {
        let mut pair = Pair::new(&[("old", node("0"))], &[]);
        let names = many("new");
        assert!(!in_pieces(&mut pair, side, &names, false));
        assert!(!in_pieces(&mut pair, side, &names, true));
        pair.check(&[("old", node("0"))]);
        assert!(!pair.engine.needs_ticks(), "nothing is left to wait for");
    }
}

#[test]
fn what_rested_may_not_go_whoever_made_it() {
    for side in Side::BOTH {
        let mut pair = Pair::new(&[("old", node("0"))], &[]);
        let names = many("new");
        in_pieces(&mut pair, side, &names, false);
        assert!(pair.engine.needs_ticks());
        pair.engine.tick();
        pair.engine.tick();
        assert!(!pair.engine.needs_ticks());
        assert!(in_pieces(&mut pair, side, &names, true));
    }
}

#[test]
fn what_the_other_side_changed_is_its_own_no_more() {
    let mut pair = Pair::new(&[("old", node("0"))], &[]);
    let names = many("new");
    in_pieces(&mut pair, Side::Remote, &names, false);
    for name in &names {
        pair.put(Side::Local, name, node("worked on"));
    }
    pair.run();
    assert!(in_pieces(&mut pair, Side::Remote, &names, true));
}

#[test]
fn files_that_go_one_after_the_other_are_gone_at_once() {
    let names = many("");
    let files: Vec<_> = names.iter().map(|name| (name.as_str(), node(name))).collect();
    for side in Side::BOTH {
        let mut pair = Pair::new(&files, &[]);
        assert!(in_pieces(&mut pair, side, &names, true));
        let left = pair.disks[side.other() as usize].nodes.len();
        assert!(left > 200, "{left} are left");
        // Time does not heal it.
        for _ in 0..20 {
            pair.engine.tick();
        }
        pair.put(side, "unrelated", node("0"));
        pair.run();
        assert_eq!(pair.engine.status().phase, Phase::Halted);
        assert_eq!(pair.disks[side.other() as usize].nodes.len(), left);
        pair.engine.approve_deletions();
        pair.run();
        assert_eq!(pair.disks[side.other() as usize].nodes.len(), pair.disks[side as usize].nodes.len());
    }
}

#[test]
fn files_that_are_made_anew_are_not_gone() {
    let names = many("");
    let files: Vec<_> = names.iter().map(|name| (name.as_str(), node(name))).collect();
    let mut pair = Pair::new(&files, &[]);
    for names in names.chunks(40) {
        assert!(!in_pieces(&mut pair, Side::Local, names, true));
        for name in names {
            pair.put(Side::Local, name, node("another"));
        }
        pair.run();
    }
    assert_eq!(pair.disks[1].nodes, pair.disks[0].nodes);
    assert_eq!(pair.disks[1].nodes.len(), 300);
    assert!(in_pieces(&mut pair, Side::Local, &names, true), "they are no new ones");
}

#[test]
fn files_that_go_now_and_then_are_not() {
    let names = many("");
    let files: Vec<_> = names.iter().map(|name| (name.as_str(), node(name))).collect();
    let mut pair = Pair::new(&files, &[]);
    for names in names[..200].chunks(40) {
        assert!(!in_pieces(&mut pair, Side::Remote, names, true));
        pair.engine.tick();
        pair.engine.tick();
    }
    assert_eq!(pair.disks[0].nodes.len(), 100);
}

#[test]
fn what_was_moved_and_then_removed_is_gone() {
    let names = many("");
    let files: Vec<_> = names.iter().map(|name| (name.as_str(), node(name))).collect();
    let mut pair = Pair::new(&files, &[]);
    for name in &names {
        pair.rename(Side::Remote, name, &format!("moved-{name}"));
    }
    pair.run();
    assert!(!pair.events.iter().any(|event| matches!(event, SyncEvent::Halted { .. })));
    assert!(in_pieces(&mut pair, Side::Remote, &many("moved-"), true));
}

#[test]
fn what_cannot_be_synced_is_never_a_deletion() {
    let mut pair = Pair::new(&[("f", node("0")), ("d/g", node("0"))], &[]);
    for at in ["f", "d"] {
        let change = Change { path: path(at), entry: Some(Entry::Opaque(Opaque::Unreadable)) };
        pair.engine.handle_reply(Side::Local, Reply::Changed(vec![change])).unwrap();
    }
    pair.put(Side::Remote, "f", node("1"));
    pair.put(Side::Remote, "d/g", node("1"));
    pair.run();
    assert_eq!(pair.asked, []);
    assert_eq!(pair.engine.status().problems.len(), 2);
    // It can be read again.
    for (at, entry) in [("f", node("0").entry()), ("d", Entry::Directory)] {
        let change = Change { path: path(at), entry: Some(entry) };
        pair.engine.handle_reply(Side::Local, Reply::Changed(vec![change])).unwrap();
    }
    pair.run();
    pair.check(&[("f", node("1")), ("d", Node::Directory), ("d/g", node("1"))]);
    assert_eq!(pair.engine.status().problems, []);
}

#[test]
fn a_failure_is_one_paths_problem_and_is_tried_again() {
    let mut pair = Pair::new(&[], &[]);
    pair.disks[1].failing = 1;
    pair.put(Side::Local, "a", node("a"));
    pair.put(Side::Local, "b", node("b"));
    pair.run();
    assert_eq!(pair.disks[1].nodes.len(), 1);
    let [problem] = &pair.engine.status().problems[..] else { panic!() };
    assert!(problem.message.contains("no space left") && problem.message.contains("28"), "{problem:?}");
    pair.engine.rescan(Side::Remote);
    pair.run();
    pair.check(&[("a", node("a")), ("b", node("b"))]);
    assert_eq!(pair.engine.status().problems, []);
}

#[test]
fn protected_paths_go_out_and_never_come_in() {
    let mut pair = Pair::new(&[(".git/config", node("0"))], &[(".envrc", node("evil"))]);
    assert_eq!(pair.disks[1].nodes[&path(".git/config")], node("0"));
    assert!(!pair.disks[0].nodes.contains_key(&path(".envrc")));
    pair.put(Side::Remote, ".git/config", node("evil"));
    pair.put(Side::Remote, ".git/hooks/pre-commit", node("evil"));
    pair.run();
    assert_eq!(pair.disks[0].nodes[&path(".git/config")], node("0"));
    assert!(!pair.disks[0].nodes.contains_key(&path(".git/hooks")));
    let problems: Vec<_> = pair.engine.status().problems.into_iter().map(|problem| problem.path).collect();
    assert_eq!(problems, [".envrc", ".git"]);
}

/// An engine that was told of both sides and has asked for what it wants.
fn asking() -> Engine {
    let mut engine = Engine::new(EngineConfig::default(), Base::default());
    let open = Open { root: "/".into(), ignore: vec![], excluded: vec![], create: false, watch: true };
    for side in Side::BOTH {
        engine.connect(side, open.clone());
        let info = RootInfo { epoch: [1; 16], writable: true, case_sensitive: true, mounts: vec![] };
        engine.handle_reply(side, Reply::Opened(info)).unwrap();
        let entries = vec![(path(["send", "fetch"][side as usize]), node(side.name()).entry())];
        engine.handle_reply(side, Reply::Entries { entries, last: true }).unwrap();
    }
    while engine.poll_request().is_some() {}
    engine
}

#[test]
fn a_hostile_remote_is_thrown_out() {
    let literal = |length: usize, last| Block { ops: vec![DeltaOp::Literal(vec![0; length])], last };
    let file = File { hash: Hash([9; 32]), size: 1, executable: false };
    let unknown = [
        Reply::Data { id: 999, block: literal(1, true) },
        Reply::Data { id: 0, block: literal(1, true) },
        Reply::Applied { id: 998, outcome: Outcome::Done },
        Reply::Signed { id: 0, signature: Signature::new(0, &[]).unwrap() },
        Reply::ReadFailed { id: 997, actual: None, failure: None },
    ];
    for reply in unknown {
        let mut engine = asking();
        let error = engine.handle_reply(Side::Remote, reply.clone()).unwrap_err();
        assert!(
            matches!(error, EngineError::UnknownRequest { side: Side::Remote, .. }),
            "{reply:?}: {error}"
        );
    }
    let out_of_turn = [
        Reply::Entries { entries: vec![], last: false },
        Reply::Opened(RootInfo { epoch: [2; 16], writable: true, case_sensitive: true, mounts: vec![] }),
    ];
    for reply in out_of_turn {
        let mut engine = asking();
        let error = engine.handle_reply(Side::Remote, reply).unwrap_err();
        assert!(matches!(error, EngineError::OutOfTurn { .. }), "{error}");
    }
    let mut engine = asking();
    let private = Change { path: path(".towline-stage/x"), entry: Some(Entry::File(file)) };
    let error = engine.handle_reply(Side::Remote, Reply::Changed(vec![private])).unwrap_err();
    assert!(matches!(error, EngineError::PrivatePath { .. }), "{error}");
    assert_eq!(engine.poll_request(), None);
}

#[test]
fn more_content_than_announced_is_refused() {
    let large = Node::File(vec![7; 100_000], false);
    for (length, last) in [(100_001, false), (99_999, true), (MAX_BLOCK_BYTES + 1, false)] {
        let mut pair = Pair::new(&[("f", node("0"))], &[]);
        let change = Change { path: path("f"), entry: Some(large.entry()) };
        pair.engine.handle_reply(Side::Remote, Reply::Changed(vec![change])).unwrap();
        let id = std::iter::from_fn(|| pair.engine.poll_request()).find_map(|(_, request)| match request {
            Request::Read { id, .. } => Some(id),
            _ => None,
        });
        let block = Block { ops: vec![DeltaOp::Literal(vec![0; length])], last };
        let error =
            pair.engine.handle_reply(Side::Remote, Reply::Data { id: id.unwrap(), block }).unwrap_err();
        assert!(matches!(error, EngineError::Content { .. }), "{error}");
        assert_eq!(pair.engine.poll_request(), None, "nothing of it reaches the local side");
    }
}

#[test]
fn a_batch_that_is_not_what_was_asked_for_is_refused() {
    let found = |body| Some(Found { body, modified: None });
    let whole = |text: &str| found(Body::Whole(text.as_bytes().to_vec()));
    let copy = |offset, length| DeltaOp::Copy { offset, length };
    for (local, files) in [
        (None, vec![]),
        (None, vec![whole("12345"), whole("12345")]),
        (None, vec![whole("1234")]),
        (None, vec![whole("123456")]),
        (None, vec![found(Body::Delta(vec![copy(0, 5)]))]),
        (Some("1234"), vec![found(Body::Delta(vec![copy(0, 5)]))]),
        (Some("1234"), vec![found(Body::Delta(vec![copy(0, 4)]))]),
        (Some("1234"), vec![found(Body::Delta(vec![copy(0, 4), copy(2, 2)]))]),
        (Some("1234"), vec![found(Body::Delta(vec![copy(u64::MAX, 5)]))]),
    ] {
        let local: Vec<_> = local.iter().map(|text| ("f", node(text))).collect();
        let mut pair = Pair::new(&local, &local);
        let change = Change { path: path("f"), entry: Some(node("12345").entry()) };
        pair.engine.handle_reply(Side::Remote, Reply::Changed(vec![change])).unwrap();
        let Some((Side::Remote, Request::Fetch { id, .. })) = pair.engine.poll_request() else {
            panic!("nothing is fetched");
        };
        let error = pair.engine.handle_reply(Side::Remote, Reply::Fetched { id, files }).unwrap_err();
        let expected = matches!(error, EngineError::OutOfTurn { .. } | EngineError::Content { .. });
        assert!(expected, "{error}");
        assert_eq!(pair.engine.poll_request(), None, "nothing of it reaches the local side");
    }
    let mut pair = Pair::new(&[("d/f", node("1"))], &[]);
    pair.put(Side::Local, "e", Node::Directory);
    pair.engine.handle_reply(Side::Local, pair.disks[0].watch().unwrap()).unwrap();
    let Some((Side::Remote, Request::Install { id, .. })) = pair.engine.poll_request() else {
        panic!("nothing is made");
    };
    let reply = || Reply::Installed { id, failed: vec![(1, Outcome::Kept)] };
    let error = pair.engine.handle_reply(Side::Local, reply()).unwrap_err();
    assert!(matches!(error, EngineError::UnknownRequest { .. }), "{error}");
    let error = pair.engine.handle_reply(Side::Remote, reply()).unwrap_err();
    assert!(matches!(error, EngineError::OutOfTurn { .. }), "{error}");
}

/// Numbers, one a line.
fn listing(lines: u32) -> String {
    (0..lines).fold(String::new(), |text, line| text + &line.to_string() + "\n")
}

#[test]
fn an_edit_is_one_message_with_what_differs() {
    let old = listing(900);
    let mut pair = Pair::new(&[("d/f", node(&old))], &[]);
    let new = old.replacen('7', "8", 1);
    pair.put(Side::Local, "d/f", node(&new));
    pair.run();
    pair.check(&[("d", Node::Directory), ("d/f", node(&new))]);
    let to_remote: Vec<_> = pair.asked.iter().filter(|(side, _)| *side == Side::Remote).collect();
    assert!(matches!(to_remote[..], [(_, Request::Install { .. })]), "{to_remote:?}");
    assert!(pair.literal_bytes(Side::Remote) <= 256, "{}", pair.literal_bytes(Side::Remote));
}

#[test]
fn a_small_file_whose_old_version_is_not_known_is_sent_whole() {
    let old = listing(900);
    let mut pair = Pair::new(&[("f", node(&old))], &[]);
    pair.disks[0].forget();
    let new = format!("{old}more");
    pair.put(Side::Local, "f", node(&new));
    pair.run();
    pair.check(&[("f", node(&new))]);
    assert_eq!(pair.literal_bytes(Side::Remote), new.len());
    assert_eq!(pair.count(|request| matches!(request, Request::Sign { .. })), 0);
}

#[test]
fn a_large_file_whose_old_version_is_not_known_is_signed_by_the_receiver() {
    let edited = |node: &Node| match node {
        Node::File(bytes, executable) => Node::File([b"!", &bytes[..]].concat(), *executable),
        other => other.clone(),
    };
    let (old, new) = (big(1), edited(&big(1)));
    for known in [true, false] {
        let mut pair = Pair::new(&[("f", old.clone())], &[]);
        if !known {
            pair.disks[0].forget();
        }
        pair.put(Side::Local, "f", new.clone());
        pair.run();
        pair.check(&[("f", new.clone())]);
        assert!(pair.literal_bytes(Side::Remote) < 4096, "{}", pair.literal_bytes(Side::Remote));
        assert_eq!(pair.count(|request| matches!(request, Request::Sign { .. })), usize::from(!known));
    }
}

#[test]
fn a_file_that_is_made_anew_is_the_difference_to_the_one_before() {
    let old = listing(900);
    let new = old.replacen('7', "8", 1);
    for emptied in [true, false] {
        for thrown_away in [true, false] {
            let mut pair = Pair::new(&[("f", node(&old))], &[]);
            if emptied {
                pair.put(Side::Local, "f", node(""));
            } else {
                pair.remove(Side::Local, "f");
            }
            pair.run();
            if !thrown_away {
                pair.disks[1].forget();
            }
            pair.put(Side::Local, "f", node(&new));
            pair.run();
            pair.check(&[("f", node(&new))]);
            let sent = pair.literal_bytes(Side::Remote);
            assert_eq!(sent < 256, thrown_away, "{sent}");
            assert!(pair.engine.status().problems.is_empty());
        }
    }
}

#[test]
fn a_content_that_was_here_is_not_sent_again() {
    for content in [node(&listing(900)), big(1)] {
        for thrown_away in [true, false] {
            let lot = || [("f", content.clone()), ("g", content.clone())];
            let check = |pair: &mut Pair, expected: &[(&str, Node)]| {
                if thrown_away {
                    pair.disks[1].forget();
                }
                pair.run();
                pair.check(expected);
                let sent = pair.literal_bytes(Side::Remote);
                assert_eq!(sent > 1000, thrown_away, "{sent}");
                assert!(pair.engine.status().problems.is_empty());
            };
            // The name went before the new one came.
            let mut pair = Pair::new(&lot()[..1], &[]);
            pair.remove(Side::Local, "f");
            pair.run();
            pair.put(Side::Local, "g", content.clone());
            check(&mut pair, &lot()[1..]);
            // Another version stood there meanwhile.
            let mut pair = Pair::new(&lot()[..1], &[]);
            pair.put(Side::Local, "f", node("another"));
            pair.run();
            pair.put(Side::Local, "f", content.clone());
            check(&mut pair, &lot()[..1]);
        }
    }
}

#[test]
fn what_is_on_its_way_out_is_not_sent_again() {
    let mut pair = Pair::new(&[("f", big(1))], &[]);
    pair.remove(Side::Local, "f");
    pair.engine.handle_reply(Side::Local, pair.disks[0].watch().unwrap()).unwrap();
    let (side, deletion) = pair.engine.poll_request().unwrap();
    pair.put(Side::Local, "d/f", big(1));
    pair.engine.handle_reply(Side::Local, pair.disks[0].watch().unwrap()).unwrap();
    for reply in pair.disks[side as usize].handle(deletion) {
        pair.engine.handle_reply(side, reply).unwrap();
    }
    pair.run();
    pair.check(&[("d", Node::Directory), ("d/f", big(1))]);
    assert_eq!(pair.literal_bytes(Side::Remote), 0);
}

#[test]
fn whoever_never_has_enough_signatures_is_refused() {
    let mut pair = Pair::new(&[("f", big(1))], &[]);
    pair.put(Side::Remote, "f", big(2));
    pair.engine.handle_reply(Side::Remote, pair.disks[1].watch().unwrap()).unwrap();
    let mut reads = 0;
    let error = loop {
        let (side, request) = pair.engine.poll_request().unwrap();
        let replies = match request {
            Request::Read { id, basis, .. } => {
                reads += 1;
                assert!(reads <= 2, "asked for ever");
                assert_eq!(matches!(basis, Basis::Given(_)), reads > 1);
                vec![Reply::NeedSignature { id }]
            }
            request => pair.disks[side as usize].handle(request),
        };
        let handled: Result<(), _> =
            replies.into_iter().try_for_each(|reply| pair.engine.handle_reply(side, reply));
        if let Err(error) = handled {
            break error;
        }
    };
    assert_eq!(reads, 2);
    assert!(matches!(error, EngineError::UnknownRequest { side: Side::Remote, .. }), "{error}");
}

#[test]
fn whoever_answers_before_he_is_asked_is_refused() {
    let mut pair = Pair::new(&[], &[]);
    pair.put(Side::Local, "f", big(1));
    pair.engine.handle_reply(Side::Local, pair.disks[0].watch().unwrap()).unwrap();
    let Some((Side::Local, Request::Read { id, .. })) = pair.engine.poll_request() else {
        panic!("nothing is read");
    };
    for outcome in [Outcome::Done, Outcome::NeedContent] {
        let error =
            pair.engine.handle_reply(Side::Remote, Reply::Applied { id: id & !1, outcome }).unwrap_err();
        assert!(matches!(error, EngineError::UnknownRequest { .. }), "{error}");
    }
}

#[test]
fn a_difference_to_another_version_is_made_good() {
    // The reader is wrong about half of what it believes to know: nothing is lost but time.
    for seed in 0..20 {
        for node in [node(&listing(500 + seed)), big(u8::try_from(seed).unwrap())] {
            let mut pair = Pair::new(&[("f", node.clone())], &[]);
            pair.disks[0].muddled = true;
            let Node::File(mut bytes, executable) = node else { continue };
            bytes[50] ^= 1;
            pair.put(Side::Local, "f", Node::File(bytes.clone(), executable));
            pair.run();
            pair.check(&[("f", Node::File(bytes, executable))]);
            assert!(pair.engine.status().problems.is_empty());
        }
    }
}

#[test]
fn what_is_in_a_new_folder_never_overtakes_it() {
    let mut pair = Pair::new(&[("copy", node("same"))], &[]);
    pair.put(Side::Local, "d/large", big(1));
    pair.put(Side::Local, "d/small", node("small"));
    pair.put(Side::Local, "d/copied", node("same"));
    pair.run();
    pair.check(&[
        ("copy", node("same")),
        ("d", Node::Directory),
        ("d/copied", node("same")),
        ("d/large", big(1)),
        ("d/small", node("small")),
    ]);
    assert!(pair.engine.status().problems.is_empty());
}

#[test]
fn a_batch_without_content_does_not_overtake_one_that_waits_for_it() {
    let mut pair = Pair::new(&[], &[]);
    pair.put(Side::Local, "d/f", node("1"));
    pair.engine.handle_reply(Side::Local, pair.disks[0].watch().unwrap()).unwrap();
    let Some((Side::Local, fetch @ Request::Fetch { .. })) = pair.engine.poll_request() else {
        panic!("nothing is fetched");
    };
    pair.put(Side::Local, "d/e", Node::Directory);
    pair.engine.handle_reply(Side::Local, pair.disks[0].watch().unwrap()).unwrap();
    assert_eq!(pair.engine.poll_request(), None, "its folder is not on its way yet");
    for reply in pair.disks[0].handle(fetch) {
        pair.engine.handle_reply(Side::Local, reply).unwrap();
    }
    pair.run();
    pair.check(&[("d", Node::Directory), ("d/e", Node::Directory), ("d/f", node("1"))]);
    assert!(!pair.events.iter().any(|event| matches!(event, SyncEvent::Problem { .. })));
}

#[test]
fn a_first_sync_reads_each_small_file_once() {
    let config = EngineConfig { eager: true, ..EngineConfig::default() };
    let mut pair = Pair::new(&[], &[]);
    pair.engine = Engine::new(config, Base::default());
    pair.base = Base::default();
    for at in 0..50 {
        pair.put(Side::Local, &format!("d{}/f{at}", at % 5), node(&format!("{at}")));
    }
    pair.put(Side::Local, "d0/large", big(1));
    pair.put(Side::Remote, "d1/f1", node("other"));
    pair.put(Side::Remote, "d2", node("a file"));
    for side in Side::BOTH {
        pair.connect(side);
    }
    pair.run();
    assert_eq!(pair.disks[0].nodes, pair.disks[1].nodes);
    let fetched = pair.asked.iter().filter_map(|(_, request)| match request {
        Request::Fetch { files, .. } => Some(files.len()),
        _ => None,
    });
    // What the remote side has something else for is decided when everything is known.
    assert!(fetched.sum::<usize>() <= 11, "{:?}", pair.asked);
    assert!(pair.base.entries().len() > 50);
}

/// Connects a side anew and returns how many entries it told of.
fn reconnected(pair: &mut Pair, side: Side) -> usize {
    pair.engine.handle_disconnected(side);
    pair.disks[side as usize].restart();
    pair.connect(side);
    pair.asked.clear();
    let mut told = 0;
    while let Some((side, request)) = pair.engine.poll_request() {
        pair.asked.push((side, request.clone()));
        for reply in pair.disks[side as usize].handle(request) {
            told += if let Reply::Entries { entries, .. } = &reply { entries.len() } else { 0 };
            pair.engine.handle_reply(side, reply).unwrap();
        }
    }
    told
}

#[test]
fn what_is_as_it_was_is_not_told_again() {
    let names: Vec<_> = (0..1000).map(|n| format!("{n:04}")).collect();
    let files: Vec<_> = names.iter().map(|name| (name.as_str(), node(name))).collect();
    let mut pair = Pair::new(&files, &[]);
    for side in Side::BOTH {
        assert_eq!(reconnected(&mut pair, side), 0);
        assert_eq!(pair.engine.status().phase, Phase::InSync);
        assert_eq!(pair.asked.len(), 2, "{:?}", pair.asked);
        pair.engine.rescan(side);
        pair.run();
        assert_eq!(pair.asked.len(), 1, "{:?}", pair.asked);
    }
    // What changed meanwhile is found all the same.
    for side in Side::BOTH {
        pair.put(side, "0500", node(side.name()));
        pair.remove(side, "0001");
        pair.put(side, "new", node("new"));
        let told = reconnected(&mut pair, side);
        assert!((1..500).contains(&told), "{told}");
        pair.go_on();
        assert_eq!(pair.disks[0].nodes, pair.disks[1].nodes);
        assert_eq!(pair.disks[0].nodes[&path("0500")], node(side.name()));
        assert!(!pair.disks[0].nodes.contains_key(&path("0001")));
        assert!(pair.disks[0].nodes.contains_key(&path("new")));
        pair.put(side, "0001", node("0001"));
        pair.remove(side, "new");
        pair.run();
    }
    // Unseen by its watcher, and found by a scan.
    pair.disks[1].nodes.remove(&path("0002"));
    pair.engine.rescan(Side::Remote);
    pair.run();
    assert!(!pair.disks[0].nodes.contains_key(&path("0002")));
}

#[test]
fn what_was_not_asked_about_is_not_the_same() {
    let mut pair = Pair::new(&[("a", node("0")), ("b", node("0"))], &[]);
    let same = |pair: &mut Pair, same: Vec<u8>| pair.engine.handle_reply(Side::Remote, Reply::Same(same));
    assert!(matches!(same(&mut pair, vec![1]), Err(EngineError::OutOfTurn { .. })));
    pair.engine.rescan(Side::Remote);
    assert!(matches!(same(&mut pair, vec![1, 1]), Err(EngineError::Same { .. })));
    pair.engine.handle_disconnected(Side::Remote);
    pair.connect(Side::Remote);
    pair.run();
    pair.check(&[("a", node("0")), ("b", node("0"))]);
}

#[test]
fn too_many_entries_are_refused() {
    let config = EngineConfig { max_entries: 3, ..EngineConfig::default() };
    let mut engine = Engine::new(config, Base::default());
    engine.connect(
        Side::Remote,
        Open { root: "/".into(), ignore: vec![], excluded: vec![], create: false, watch: true },
    );
    let info = RootInfo { epoch: [1; 16], writable: true, case_sensitive: true, mounts: vec![] };
    engine.handle_reply(Side::Remote, Reply::Opened(info)).unwrap();
    let entries = |names: [&str; 2]| {
        let entries = names.map(|name| (path(name), Entry::Directory)).to_vec();
        Reply::Entries { entries, last: false }
    };
    engine.handle_reply(Side::Remote, entries(["a", "b"])).unwrap();
    let error = engine.handle_reply(Side::Remote, entries(["c", "d"])).unwrap_err();
    assert_eq!(error, EngineError::TooManyEntries { side: Side::Remote, limit: 3 });
}

#[test]
fn a_remote_that_always_finds_something_else_does_not_keep_us_busy() {
    let mut pair = Pair::new(&[], &[]);
    let change = Change { path: path("f"), entry: Some(node("12345").entry()) };
    pair.engine.handle_reply(Side::Local, Reply::Changed(vec![change])).unwrap();
    let mut applies = 0;
    while let Some((side, request)) = pair.engine.poll_request() {
        let answer = match (side, request) {
            (Side::Local, Request::Fetch { id, .. }) => {
                let found = Found { body: Body::Whole(b"12345".to_vec()), modified: None };
                Some(Reply::Fetched { id, files: vec![Some(found)] })
            }
            (Side::Local, Request::Read { id, .. }) => {
                let ops = vec![DeltaOp::Literal(b"12345".to_vec())];
                Some(Reply::Data { id, block: Block { ops, last: true } })
            }
            (Side::Remote, Request::Install { id, .. }) => {
                let actual = Some(Entry::Symlink { target: "0".into() });
                Some(Reply::Installed { id, failed: vec![(0, Outcome::Stale { actual })] })
            }
            (Side::Remote, Request::Apply { id, .. }) => {
                applies += 1;
                let target = format!("{applies}");
                let outcome = Outcome::Stale { actual: Some(Entry::Symlink { target }) };
                Some(Reply::Applied { id, outcome })
            }
            _ => None,
        };
        if let Some(answer) = answer {
            pair.engine.handle_reply(side, answer).unwrap();
        }
        assert!(applies < 1000);
    }
    assert!(pair.engine.status().problems[0].message.contains("keeps changing"));
}

#[test]
fn the_base_never_leads() {
    let mut pair = Pair::new(&[], &[]);
    let change = Change { path: path("f"), entry: Some(node("12345").entry()) };
    pair.engine.handle_reply(Side::Local, Reply::Changed(vec![change])).unwrap();
    assert_eq!(pair.engine.poll_record(), None);
    pair.put(Side::Local, "f", node("12345"));
    pair.go_on();
    assert_eq!(pair.base.entries().get(&path("f")), Some(&node("12345").entry()));
    pair.remove(Side::Local, "f");
    pair.run();
    assert!(pair.base.is_tombstoned(&path("f")) && pair.base.entries().is_empty());
    assert_eq!(pair.base.epoch(), Some([1; 16]));
    let mut base = pair.base.clone();
    base.apply(&BaseDelta::Forget);
    assert!(base.is_tombstoned(&path("f")));
}

impl Pair {
    /// Tells the engine of changes and carries out what it asks, but the answers of `deaf` to steps are lost.
    fn run_without_answers_of(&mut self, deaf: Side) {
        for side in Side::BOTH {
            if let Some(reply) = self.disks[side as usize].watch() {
                self.engine.handle_reply(side, reply).unwrap();
            }
        }
        self.lost.clear();
        while let Some((side, request)) = self.engine.poll_request() {
            for reply in self.disks[side as usize].handle(request) {
                if side == deaf && matches!(reply, Reply::Applied { .. } | Reply::Installed { .. }) {
                    self.lost.push(reply);
                } else {
                    self.engine.handle_reply(side, reply).unwrap();
                }
            }
        }
    }
}

#[test]
fn a_step_whose_answer_was_lost_is_no_conflict_with_oneself() {
    let mut pair = Pair::new(&[("f", node("0"))], &[]);
    pair.put(Side::Local, "f", node("1"));
    pair.run_without_answers_of(Side::Remote);
    pair.engine.handle_disconnected(Side::Remote);
    pair.put(Side::Local, "f", node("2"));
    let change = pair.disks[0].watch().unwrap();
    pair.engine.handle_reply(Side::Local, change).unwrap();
    pair.connect(Side::Remote);
    pair.run();
    pair.check(&[("f", node("2"))]);
    assert!(pair.disks[0].kept.is_empty());
}

#[test]
fn what_came_from_the_old_container_is_not_deleted_by_the_new_one() {
    let mut pair = Pair::new(&[], &[]);
    pair.put(Side::Remote, "f", node("made in the pod"));
    pair.run_without_answers_of(Side::Local);
    let [late] = <[Reply; 1]>::try_from(std::mem::take(&mut pair.lost)).unwrap();
    pair.new_container(&[]);
    pair.engine.handle_reply(Side::Local, late).unwrap();
    pair.run();
    pair.check(&[("f", node("made in the pod"))]);
}

#[test]
fn a_link_out_of_the_root_is_not_taken_whatever_it_is_called() {
    let mut pair = Pair::new(&[], &[]);
    for (at, target) in [("a", "/etc/passwd"), ("b", "../x"), ("d/c", "../../x")] {
        let entry = Some(Entry::Symlink { target: target.into() });
        pair.engine
            .handle_reply(Side::Remote, Reply::Changed(vec![Change { path: path(at), entry }]))
            .unwrap();
    }
    assert_eq!(pair.engine.poll_request(), None);
}

#[test]
fn a_first_scan_that_failed_is_tried_again() {
    let mut engine = Engine::new(EngineConfig::default(), Base::default());
    let open = Open { root: "/".into(), ignore: vec![], excluded: vec![], create: false, watch: false };
    engine.connect(Side::Local, open);
    let info = RootInfo { epoch: [1; 16], writable: true, case_sensitive: true, mounts: vec![] };
    let requests = |engine: &mut Engine| -> Vec<Request> {
        std::iter::from_fn(|| engine.poll_request()).map(|(_, request)| request).collect()
    };
    assert!(matches!(requests(&mut engine)[..], [Request::Open(_), Request::Scan { .. }]));
    engine.handle_reply(Side::Local, Reply::Opened(info)).unwrap();
    assert!(!engine.needs_ticks());
    let failure = towline_sync_core::message::Failure { errno: 5, message: "input/output error".to_owned() };
    engine.handle_reply(Side::Local, Reply::ScanFailed(failure.clone())).unwrap();
    let events: Vec<_> = std::iter::from_fn(|| engine.poll_event()).collect();
    assert!(events.contains(&SyncEvent::ScanFailed { side: Side::Local, failure }), "{events:?}");
    assert!(engine.needs_ticks() && requests(&mut engine).is_empty());
    engine.tick();
    assert!(matches!(requests(&mut engine)[..], [Request::Scan { .. }]));
    assert!(!engine.needs_ticks(), "one at a time");
}
