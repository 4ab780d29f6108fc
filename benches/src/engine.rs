//! The engine between two sides that answer at once and hold nothing but names.

use std::collections::VecDeque;

use towline_sync_core::base::{Base, BaseDelta};
use towline_sync_core::engine::{Engine, EngineConfig, Phase, Side};
use towline_sync_core::message::{Body, Found, New, Open, Outcome, Reply, Request, RootInfo, Wanted};
use towline_sync_core::outline::Comparison;
use towline_sync_core::reconcile::Tree;
use towline_sync_core::snapshot::Entry;

const EPOCH: [u8; 16] = [1; 16];
/// Entries in one part of a scan.
const PART: usize = 1_000;

/// Runs an engine from the start until both sides are equal. Returns how many requests it made.
///
/// # Panics
///
/// Where it does not come to rest.
pub fn run(trees: [&Tree; 2], base: Base, eager: bool) -> usize {
    let mut engine = Engine::new(EngineConfig { eager, ..EngineConfig::default() }, base);
    for side in Side::BOTH {
        let open = Open {
            root: "/".to_owned(),
            ignore: Vec::new(),
            excluded: Vec::new(),
            create: false,
            watch: true,
        };
        engine.connect(side, open);
    }
    let mut requests = 0;
    let mut replies: [VecDeque<Reply>; 2] = Default::default();
    loop {
        while let Some((side, request)) = engine.poll_request() {
            requests += 1;
            replies[side as usize].extend(answers(trees[side as usize], request));
        }
        // What was sent ahead is answered while the scan goes on.
        let next = [Side::Remote, Side::Local]
            .into_iter()
            .find_map(|side| Some((side, replies[side as usize].pop_front()?)));
        let Some((side, reply)) = next else { break };
        engine.handle_reply(side, reply).expect("the answers are right");
        while engine.poll_record().is_some() || engine.poll_event().is_some() {}
    }
    assert_eq!(engine.status().phase, Phase::InSync, "after {requests} requests");
    requests
}

/// Returns the base of two sides that hold the same.
pub fn agreed(tree: &Tree) -> Base {
    let mut base = Base::default();
    base.apply(&BaseDelta::Epoch(EPOCH));
    for (path, entry) in tree {
        base.apply(&BaseDelta::Set { path: path.clone(), entry: Some(entry.clone()) });
    }
    base
}

fn answers(tree: &Tree, request: Request) -> Vec<Reply> {
    let zeros = |size: u64| Body::Whole(vec![0; usize::try_from(size).unwrap_or(0)]);
    let new = |path: &_, entry: &Entry| {
        let body = zeros(if let Entry::File(file) = entry { file.size } else { 0 });
        New { path: Clone::clone(path), from: None, entry: entry.clone(), body, modified: None }
    };
    match request {
        Request::Open(_) => {
            let info = RootInfo { epoch: EPOCH, writable: true, case_sensitive: true, mounts: Vec::new() };
            vec![Reply::Opened(info)]
        }
        Request::Scan { eager } => {
            let entries: Vec<_> = tree.iter().collect();
            let parts = entries.chunks(PART).map(|part| {
                if eager {
                    Reply::Contents(part.iter().map(|(path, entry)| new(path, entry)).collect())
                } else {
                    let entries = part.iter().map(|(path, entry)| ((*path).clone(), (*entry).clone()));
                    Reply::Entries { entries: entries.collect(), last: false }
                }
            });
            parts.chain([Reply::Entries { entries: Vec::new(), last: true }]).collect()
        }
        Request::Compare(outline) => {
            let Comparison { same, rest } = outline.compare(tree.iter());
            let entries = rest.into_iter().map(|(path, entry)| (path.clone(), entry.clone())).collect();
            vec![Reply::Same(same), Reply::Entries { entries, last: true }]
        }
        Request::Fetch { id, files } => {
            let found = |wanted: &Wanted| Some(Found { body: zeros(wanted.file.size), modified: None });
            vec![Reply::Fetched { id, files: files.iter().map(found).collect() }]
        }
        Request::Install { id, .. } => vec![Reply::Installed { id, failed: Vec::new() }],
        Request::Apply { id, .. } => vec![Reply::Applied { id, outcome: Outcome::Done }],
        _ => Vec::new(),
    }
}
