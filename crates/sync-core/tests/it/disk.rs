//! A replica in memory: what a real one does, without a disk.

use std::collections::{BTreeMap, BTreeSet};

use towline_sync_core::block::{Signature, sign};
use towline_sync_core::delta::{DeltaCheck, delta, patch, whole};
use towline_sync_core::message::{
    Basis, Block, Body, Content, DeltaOp, Failure, Found, New, Outcome, Reply, Request, RootInfo, Wanted,
    WatchMode, conflict_name,
};
use towline_sync_core::outline::Comparison;
use towline_sync_core::path::{RelPath, below};
use towline_sync_core::snapshot::{Change, Entry, File, Hash, Transition};

/// Files above this many bytes don't come along with an eager scan.
const LARGE: u64 = 2000;
/// Files of this name are not synced.
pub(crate) const IGNORED: &str = "ign";

#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Node {
    Directory,
    File(Vec<u8>, bool),
    Link(String),
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.entry().fmt(f)
    }
}

impl Node {
    pub(crate) fn entry(&self) -> Entry {
        match self {
            Self::Directory => Entry::Directory,
            Self::File(bytes, executable) => {
                Entry::File(File { hash: Hash::of(bytes), size: bytes.len() as u64, executable: *executable })
            }
            Self::Link(target) => Entry::Symlink { target: target.clone() },
        }
    }
}

pub(crate) type Nodes = BTreeMap<RelPath, Node>;

/// An `Apply` or a `Keep` whose content is coming.
#[derive(Debug)]
struct Incoming {
    path: RelPath,
    /// `None` for a `Keep`.
    transition: Option<Transition>,
    file: File,
    basis: Vec<u8>,
    bytes: Vec<u8>,
    check: DeltaCheck,
}

/// A step that was made, for the oracle.
#[derive(Debug)]
pub(crate) struct Displaced {
    pub(crate) path: RelPath,
    pub(crate) bytes: Vec<u8>,
}

#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a way to be broken")]
pub(crate) struct Disk {
    pub(crate) nodes: Nodes,
    pub(crate) epoch: [u8; 16],
    pub(crate) kept: BTreeMap<String, Vec<u8>>,
    pub(crate) displaced: Vec<Displaced>,
    /// Broken on purpose: what stands there is not looked at.
    pub(crate) careless: bool,
    /// Broken on purpose: `Keep` keeps nothing.
    pub(crate) forgetful: bool,
    /// Operations that fail before one works.
    pub(crate) failing: usize,
    /// Knows the blocks of some contents that it had, and of some it believes to know them.
    pub(crate) muddled: bool,
    /// Contents that were displaced.
    trash: BTreeMap<Hash, Vec<u8>>,
    /// Every content that there ever was.
    contents: BTreeMap<Hash, Vec<u8>>,
    open: bool,
    seen: BTreeSet<RelPath>,
    incoming: BTreeMap<u64, Incoming>,
}

impl Disk {
    /// Makes a user's edit that the watcher will see.
    pub(crate) fn edit(&mut self, path: &RelPath, node: Option<Node>) {
        self.seen.insert(path.clone());
        self.remember(node.as_ref());
        match node {
            Some(node) => self.nodes.insert(path.clone(), node),
            None => self.nodes.remove(path),
        };
    }

    /// Forgets the blocks of everything.
    pub(crate) fn forget(&mut self) {
        self.contents.clear();
        self.trash.clear();
    }

    fn remember(&mut self, node: Option<&Node>) {
        if let Some(Node::File(bytes, _)) = node {
            self.contents.insert(Hash::of(bytes), bytes.clone());
        }
    }

    /// Returns the blocks of a content that was here, as far as they are known, to whom wants `file` instead.
    fn signature(&self, of: Hash, file: &[u8]) -> Option<Signature> {
        let bytes = self.contents.get(&of)?;
        let mut signed = bytes.clone();
        match of.0[0] % 4 {
            0 if self.muddled => return None,
            1 if self.muddled => {
                // All that is different is taken for the same.
                let same = signed.len().min(file.len());
                signed[..same].copy_from_slice(&file[..same]);
            }
            _ => {}
        }
        Some(sign(&signed[..], signed.len() as u64).unwrap())
    }

    /// Forgets what the watcher has seen.
    pub(crate) fn lose_events(&mut self) {
        self.seen.clear();
    }

    /// Tells whether content for a path is coming.
    pub(crate) fn expects(&self, path: &RelPath) -> bool {
        self.incoming.values().any(|incoming| incoming.path == *path)
    }

    /// Forgets everything that does not survive the process.
    pub(crate) fn restart(&mut self) {
        self.incoming.clear();
        self.seen.clear();
        self.contents.clear();
        self.trash.clear();
        self.open = false;
    }

    pub(crate) fn entry(&self, path: &RelPath) -> Option<Entry> {
        self.nodes.get(path).map(Node::entry)
    }

    /// Returns what the watcher has to tell.
    pub(crate) fn watch(&mut self) -> Option<Reply> {
        if !self.open {
            return None;
        }
        let seen = std::mem::take(&mut self.seen);
        let changes: Vec<_> = seen
            .into_iter()
            .filter(|path| !is_ignored(path))
            .map(|path| Change { entry: self.entry(&path), path })
            .collect();
        (!changes.is_empty()).then_some(Reply::Changed(changes))
    }

    pub(crate) fn handle(&mut self, request: Request) -> Vec<Reply> {
        match request {
            Request::Open(_) | Request::Look(_) => {
                self.open = true;
                let (epoch, mounts) = (self.epoch, vec![]);
                let info = RootInfo { epoch, writable: true, case_sensitive: true, mounts };
                vec![Reply::Opened(info), Reply::Watching(WatchMode::Events)]
            }
            Request::Scan { eager } => {
                self.seen.clear();
                if eager {
                    return self.scan_eagerly();
                }
                let entries = self.nodes.iter().filter(|(path, _)| !is_ignored(path));
                let entries: Vec<_> = entries.map(|(path, node)| (path.clone(), node.entry())).collect();
                let mut parts: Vec<_> = entries
                    .chunks(3)
                    .map(|part| Reply::Entries { entries: part.to_vec(), last: false })
                    .collect();
                parts.push(Reply::Entries { entries: Vec::new(), last: true });
                parts
            }
            Request::Compare(outline) => {
                self.seen.clear();
                let entries = self.nodes.iter().filter(|(path, _)| !is_ignored(path));
                let tree: BTreeMap<_, _> = entries.map(|(path, node)| (path.clone(), node.entry())).collect();
                let Comparison { same, rest } = outline.compare(tree.iter());
                let rest: Vec<_> =
                    rest.into_iter().map(|(path, entry)| (path.clone(), entry.clone())).collect();
                let parts = rest.chunks(3).map(|part| Reply::Entries { entries: part.to_vec(), last: false });
                let last = Reply::Entries { entries: Vec::new(), last: true };
                [Reply::Same(same)].into_iter().chain(parts).chain([last]).collect()
            }
            Request::Apply { id, transition, content } => self.apply(id, transition, &content),
            Request::Keep { id, path, file } => {
                if self.fails_early() {
                    return vec![no_space(id)];
                }
                let check = DeltaCheck::new(file.size, 0);
                let incoming = Incoming { path, transition: None, file, basis: vec![], bytes: vec![], check };
                self.incoming.insert(id, incoming);
                vec![]
            }
            Request::Data { id, block } => self.data(id, &block),
            Request::Read { id, path, expect, basis } => match self.nodes.get(&path) {
                Some(Node::File(bytes, _)) if self.entry(&path) == Some(Entry::File(expect)) => {
                    let mut replies = Vec::new();
                    let emit = |block| {
                        replies.push(Reply::Data { id, block });
                        Ok(())
                    };
                    let basis = match basis {
                        Basis::None => None,
                        Basis::Given(signature) => Some(signature),
                        Basis::Known(hash) => match self.signature(hash, bytes) {
                            Some(signature) => Some(signature),
                            None => return vec![Reply::NeedSignature { id }],
                        },
                    };
                    match basis {
                        Some(basis) => delta(&basis, &bytes[..], emit).unwrap(),
                        None => whole(&bytes[..], emit).unwrap(),
                    }
                    replies
                }
                _ => vec![Reply::ReadFailed { id, actual: self.entry(&path), failure: None }],
            },
            Request::Sign { id, path, expect } => match self.nodes.get(&path) {
                Some(Node::File(bytes, _)) if self.entry(&path) == Some(Entry::File(expect)) => {
                    vec![Reply::Signed { id, signature: sign(&bytes[..], expect.size).unwrap() }]
                }
                _ => vec![Reply::ReadFailed { id, actual: self.entry(&path), failure: None }],
            },
            Request::Fetch { id, files } => {
                let files = files.iter().map(|wanted| self.fetch(wanted)).collect();
                vec![Reply::Fetched { id, files }]
            }
            Request::Install { id, entries } => {
                let outcomes = entries.into_iter().map(|new| self.install(new)).zip(0..);
                let failed = outcomes.filter(|(outcome, _)| *outcome != Outcome::Done);
                vec![Reply::Installed {
                    id,
                    failed: failed.map(|(outcome, index)| (index, outcome)).collect(),
                }]
            }
            Request::Cancel { id } => {
                self.incoming.remove(&id);
                vec![]
            }
        }
    }

    fn scan_eagerly(&self) -> Vec<Reply> {
        let entries: Vec<_> = self.nodes.iter().filter(|(path, _)| !is_ignored(path)).collect();
        let mut parts = Vec::new();
        for part in entries.chunks(3) {
            let (large, small): (Vec<_>, Vec<_>) = part
                .iter()
                .partition(|(_, node)| matches!(node, Node::File(bytes, _) if bytes.len() as u64 > LARGE));
            let news = small.iter().map(|(path, node)| new(path, node)).collect();
            parts.push(Reply::Contents(news));
            let entries = large.iter().map(|(path, node)| ((*path).clone(), node.entry())).collect();
            parts.push(Reply::Entries { entries, last: false });
        }
        parts.push(Reply::Entries { entries: Vec::new(), last: true });
        parts
    }

    fn fetch(&self, wanted: &Wanted) -> Option<Found> {
        let node = self.nodes.get(&wanted.path)?;
        let Node::File(bytes, _) = node else { return None };
        if node.entry() != Entry::File(wanted.file) {
            return None;
        }
        let body = match wanted.basis.and_then(|basis| self.signature(basis, bytes)) {
            Some(signature) => {
                let mut ops = Vec::new();
                let emit = |block: Block| {
                    ops.extend(block.ops);
                    Ok(())
                };
                delta(&signature, &bytes[..], emit).unwrap();
                Body::Delta(ops)
            }
            None => Body::Whole(bytes.clone()),
        };
        Some(Found { body, modified: None })
    }

    fn install(&mut self, new: New) -> Outcome {
        let old = self.nodes.get(&new.path);
        let node = match (&new.entry, new.body) {
            (Entry::Directory, _) => Node::Directory,
            (Entry::Symlink { target }, _) => Node::Link(target.clone()),
            (Entry::File(file), body) => {
                let bytes = match (body, old) {
                    (Body::Whole(bytes), _) => bytes,
                    (Body::Delta(ops), Some(Node::File(old, _))) => {
                        let Ok(bytes) = patch(old, file.size, [Block { ops, last: true }]) else {
                            return Outcome::NeedContent;
                        };
                        bytes
                    }
                    (Body::Delta(_), _) => return self.stale(&new.path),
                    (Body::Past { of, ops }, _) => {
                        let old = self.trash.get(&of);
                        let block = Block { ops, last: true };
                        let Some(Ok(bytes)) = old.map(|old| patch(old, file.size, [block])) else {
                            return Outcome::NeedContent;
                        };
                        bytes
                    }
                };
                if Hash::of(&bytes) != file.hash {
                    return Outcome::NeedContent;
                }
                Node::File(bytes, file.executable)
            }
            (Entry::Opaque(_), _) => panic!("no such install: {:?}", new.entry),
        };
        let from = new.from.map(Entry::File);
        let transition = Transition { path: new.path, from, to: Some(new.entry) };
        self.commit(&transition, Some(node))
    }

    fn apply(&mut self, id: u64, transition: Transition, content: &Content) -> Vec<Reply> {
        let outcome = match (content, &transition.to) {
            (Content::Incoming, Some(Entry::File(file))) => {
                if self.fails_early() {
                    return vec![no_space(id)];
                }
                let basis = match self.nodes.get(&transition.path) {
                    Some(Node::File(bytes, _)) => bytes.clone(),
                    _ => Vec::new(),
                };
                let check = DeltaCheck::new(file.size, basis.len() as u64);
                let incoming = Incoming {
                    path: transition.path.clone(),
                    file: *file,
                    transition: Some(transition),
                    basis,
                    bytes: vec![],
                    check,
                };
                self.incoming.insert(id, incoming);
                return vec![];
            }
            (Content::Copy { from }, Some(Entry::File(file))) => {
                let there = match self.nodes.get(from) {
                    Some(Node::File(bytes, _)) if Hash::of(bytes) == file.hash => Some(bytes),
                    _ => self.trash.get(&file.hash),
                };
                match there {
                    Some(bytes) => {
                        let node = Node::File(bytes.clone(), file.executable);
                        self.commit(&transition, Some(node))
                    }
                    None => Outcome::NeedContent,
                }
            }
            (Content::Moved { from }, Some(_)) => self.move_whole(from, &transition),
            (Content::None, Some(Entry::File(file))) => match self.nodes.get(&transition.path) {
                Some(Node::File(bytes, _)) if Hash::of(bytes) == file.hash => {
                    let node = Node::File(bytes.clone(), file.executable);
                    self.commit(&transition, Some(node))
                }
                _ => self.stale(&transition.path),
            },
            (Content::None, Some(Entry::Directory)) => self.commit(&transition, Some(Node::Directory)),
            (Content::None, Some(Entry::Symlink { target })) => {
                self.commit(&transition, Some(Node::Link(target.clone())))
            }
            (Content::None, None) => self.commit(&transition, None),
            other => panic!("no such apply: {other:?}"),
        };
        vec![Reply::Applied { id, outcome }]
    }

    fn move_whole(&mut self, from: &RelPath, step: &Transition) -> Outcome {
        let inside: Vec<_> = below(&self.nodes, from).map(|(path, _)| path.clone()).collect();
        let is_told = |path: &RelPath| !self.seen.contains(path) && !is_ignored(path);
        if self.failing > 0 {
            self.failing -= 1;
            return Outcome::NeedContent;
        }
        let parent_stands = step.path.parent().is_none_or(|it| self.nodes.get(&it) == Some(&Node::Directory));
        if self.nodes.get(from).map(Node::entry) != step.to
            || self.nodes.contains_key(&step.path)
            || !parent_stands
            || (!self.careless && !inside.iter().chain([from]).all(is_told))
        {
            return Outcome::NeedContent;
        }
        for path in inside.into_iter().chain([from.clone()]) {
            let to = format!("{}{}", step.path, &path.as_str()[from.as_str().len()..]);
            if let Some(node) = self.nodes.remove(&path) {
                self.nodes.insert(RelPath::new(to).unwrap(), node);
            }
        }
        Outcome::Done
    }

    fn data(&mut self, id: u64, block: &Block) -> Vec<Reply> {
        // An operation that failed early or was cancelled.
        let Some(incoming) = self.incoming.get_mut(&id) else { return vec![] };
        if incoming.check.push(block).is_err() {
            self.incoming.remove(&id);
            return vec![Reply::Applied { id, outcome: Outcome::NeedContent }];
        }
        for op in &block.ops {
            match op {
                DeltaOp::Literal(bytes) => incoming.bytes.extend_from_slice(bytes),
                DeltaOp::Copy { offset, length } => {
                    let at = usize::try_from(*offset).unwrap();
                    let end = at + usize::try_from(*length).unwrap();
                    incoming.bytes.extend_from_slice(&incoming.basis[at..end]);
                }
            }
        }
        if !block.last {
            return vec![];
        }
        let incoming = self.incoming.remove(&id).unwrap();
        let outcome = if Hash::of(&incoming.bytes) != incoming.file.hash {
            Outcome::NeedContent
        } else if let Some(transition) = incoming.transition {
            self.commit(&transition, Some(Node::File(incoming.bytes, incoming.file.executable)))
        } else {
            if !self.forgetful {
                self.kept.insert(conflict_name(&incoming.path, incoming.file.hash), incoming.bytes);
            }
            Outcome::Done
        };
        vec![Reply::Applied { id, outcome }]
    }

    /// Tells whether an operation fails before its content has come.
    fn fails_early(&mut self) -> bool {
        let fails = self.failing % 2 == 1;
        self.failing -= usize::from(fails);
        fails
    }

    fn stale(&self, path: &RelPath) -> Outcome {
        Outcome::Stale { actual: self.entry(path) }
    }

    fn commit(&mut self, transition: &Transition, node: Option<Node>) -> Outcome {
        let path = &transition.path;
        assert_eq!(
            transition.to,
            node.as_ref().map(Node::entry),
            "{path}: content is not what was announced"
        );
        if self.failing > 0 {
            self.failing -= 1;
            return Outcome::Failed(Failure { errno: 28, message: "no space left on device".into() });
        }
        if self.entry(path) != transition.from && !self.careless {
            return self.stale(path);
        }
        if node.is_some()
            && let Some(parent) = path.parent()
            && self.nodes.get(&parent) != Some(&Node::Directory)
        {
            return Outcome::Failed(Failure { errno: 2, message: "no such folder".into() });
        }
        if node != Some(Node::Directory) && below(&self.nodes, path).next().is_some() {
            // What is synced and was not known of is another matter than what is not.
            let is_news = below(&self.nodes, path).any(|(path, _)| !is_ignored(path));
            return if is_news { self.stale(path) } else { Outcome::Kept };
        }
        self.remember(node.as_ref());
        let old = match node {
            Some(node) => self.nodes.insert(path.clone(), node),
            None => self.nodes.remove(path),
        };
        if let Some(Node::File(bytes, _)) = old
            && !matches!(self.nodes.get(path), Some(Node::File(now, _)) if *now == bytes)
        {
            if !self.muddled || bytes.len().is_multiple_of(2) {
                self.trash.insert(Hash::of(&bytes), bytes.clone());
            }
            self.displaced.push(Displaced { path: path.clone(), bytes });
        }
        Outcome::Done
    }
}

fn new(path: &RelPath, node: &Node) -> New {
    let body = Body::Whole(if let Node::File(bytes, _) = node { bytes.clone() } else { Vec::new() });
    New { path: path.clone(), from: None, entry: node.entry(), body, modified: None }
}

fn no_space(id: u64) -> Reply {
    let failure = Failure { errno: 28, message: "no space left on device".into() };
    Reply::Applied { id, outcome: Outcome::Failed(failure) }
}

pub(crate) fn is_ignored(path: &RelPath) -> bool {
    path.components().any(|name| name == IGNORED)
}
