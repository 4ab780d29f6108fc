//! An engine with a folder of this machine, and a pod whose every word can be bent.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use tempfile::TempDir;
use towline_sync_core::base::Base;
use towline_sync_core::codec::{Decoder, Encoder};
use towline_sync_core::engine::{Engine, EngineConfig, Phase, Side};
use towline_sync_core::message::{
    Basis, Block, Body, Content, DeltaOp, Found, Open, Outcome, Reply, Request, RootInfo, WatchMode,
};
use towline_sync_core::path::{RelPath, STAGE_DIR};
use towline_sync_core::snapshot::{Change, Entry, File, Hash};
use towline_sync_fs::{Replica, ReplicaOptions, spawn};

/// How long this machine's own folder may take to answer.
const DEADLINE: Duration = Duration::from_secs(30);
/// More entries than this are too many here.
pub(crate) const MAX_ENTRIES: usize = 5000;
/// Names questions of ours to the local replica,
const BARRIER: u64 = u64::MAX;
/// of which so many give everything else that it does its turn.
const TURNS: usize = 130;

pub(crate) fn path(text: &str) -> RelPath {
    RelPath::new(text).unwrap()
}

pub(crate) fn file(content: &[u8]) -> Entry {
    Entry::File(file_of(content))
}

pub(crate) fn file_of(content: &[u8]) -> File {
    File { hash: Hash::of(content), size: content.len() as u64, executable: false }
}

/// Answers in the pod's place, or leaves it to the pod.
pub(crate) type Bend = Box<dyn FnMut(&Request) -> Option<Vec<Reply>>>;

/// What the pod has.
#[derive(Default)]
pub(crate) struct Pod {
    pub(crate) entries: BTreeMap<RelPath, (Entry, Vec<u8>)>,
}

impl Pod {
    /// Puts an entry there and returns the news of it.
    pub(crate) fn put(&mut self, at: &str, entry: Entry, content: &[u8]) -> Change {
        self.entries.insert(path(at), (entry.clone(), content.to_vec()));
        Change { path: path(at), entry: Some(entry) }
    }

    fn content(&self, path: &RelPath) -> Vec<u8> {
        self.entries.get(path).map(|(_, content)| content.clone()).unwrap_or_default()
    }

    /// Answers as it should be.
    fn answer(&mut self, request: Request) -> Vec<Reply> {
        match request {
            Request::Open(_) | Request::Look(_) => vec![
                Reply::Opened(RootInfo {
                    epoch: [7; 16],
                    writable: true,
                    case_sensitive: true,
                    mounts: vec![],
                }),
                Reply::Watching(WatchMode::Events),
            ],
            Request::Scan { .. } | Request::Compare(_) => {
                let entries = self.entries.iter().map(|(path, (entry, _))| (path.clone(), entry.clone()));
                vec![Reply::Entries { entries: entries.collect(), last: true }]
            }
            Request::Apply { id, transition, content } => {
                match transition.to {
                    Some(entry) => {
                        self.entries.insert(transition.path, (entry, Vec::new()));
                    }
                    None => {
                        self.entries.remove(&transition.path);
                    }
                }
                if content == Content::Incoming {
                    vec![]
                } else {
                    vec![Reply::Applied { id, outcome: Outcome::Done }]
                }
            }
            Request::Data { id, block } if block.last => vec![Reply::Applied { id, outcome: Outcome::Done }],
            Request::Read { id, path, basis, .. } => {
                assert!(!matches!(basis, Basis::Given(_)), "nothing is signed here");
                let content = self.content(&path);
                let mut blocks: Vec<Block> = content
                    .chunks(100_000)
                    .map(|part| Block { ops: vec![DeltaOp::Literal(part.to_vec())], last: false })
                    .collect();
                blocks.push(Block { ops: vec![], last: true });
                blocks.into_iter().map(|block| Reply::Data { id, block }).collect()
            }
            Request::Fetch { id, files } => {
                let found = |content| Found { body: Body::Whole(content), modified: None };
                let files = files.iter().map(|wanted| Some(found(self.content(&wanted.path)))).collect();
                vec![Reply::Fetched { id, files }]
            }
            Request::Install { id, entries } => {
                for new in entries {
                    self.entries.insert(new.path, (new.entry, Vec::new()));
                }
                vec![Reply::Installed { id, failed: vec![] }]
            }
            Request::Keep { id, .. } => vec![Reply::Applied { id, outcome: Outcome::Done }],
            Request::Sign { .. } | Request::Data { .. } | Request::Cancel { .. } => vec![],
        }
    }
}

pub(crate) struct Laptop {
    place: TempDir,
    pub(crate) engine: Engine,
    replica: Replica,
    reply_rx: Receiver<Reply>,
    pub(crate) pod: Pod,
    pub(crate) bend: Option<Bend>,
    encoder: Encoder,
    decoder: Decoder,
    /// Why the pod was shown the door.
    pub(crate) refused: Option<String>,
    outside: Vec<String>,
    reserved: Vec<String>,
}

impl Laptop {
    /// Returns a folder beside a precious one, whose pod has not been spoken with yet.
    pub(crate) fn new() -> Self {
        let place = tempfile::tempdir().unwrap();
        let make = |at: &str, content: &str| {
            let at = place.path().join(at);
            fs::create_dir_all(at.parent().unwrap()).unwrap();
            fs::write(at, content).unwrap();
        };
        make("root/mine", "mine");
        make("root/sub/inner", "inner");
        make("root/large", &"large ".repeat(40_000));
        make("root/.git/config", "[core]");
        make("root/.git/hooks/pre-commit", "exit 0");
        make("root/.envrc", "use flake");
        make("outside/secret", "secret");
        make("outside/sub/inner", "theirs");
        let (reply_tx, reply_rx) = channel();
        let keep = Some(place.path().join("keep"));
        let options = ReplicaOptions { keep, protect: true, ..ReplicaOptions::default() };
        let replica = spawn(options, move |reply| reply_tx.send(reply).is_ok()).unwrap();
        let config = EngineConfig { max_entries: MAX_ENTRIES, ..EngineConfig::default() };
        let mut laptop = Self {
            engine: Engine::new(config, Base::default()),
            replica,
            reply_rx,
            pod: Pod::default(),
            bend: None,
            encoder: Encoder::new(),
            decoder: Decoder::new(),
            refused: None,
            outside: lines(&place.path().join("outside")),
            reserved: lines(&place.path().join("root/.git")),
            place,
        };
        laptop.connect(Side::Local);
        laptop
    }

    /// Returns a folder that is in sync with its pod.
    pub(crate) fn in_sync() -> Self {
        let mut laptop = Self::new();
        laptop.connect(Side::Remote);
        laptop.rest();
        assert_eq!(laptop.engine.status().phase, Phase::InSync);
        laptop
    }

    pub(crate) fn connect(&mut self, side: Side) {
        let root = self.place.path().join("root").to_string_lossy().into_owned();
        self.engine
            .connect(side, Open { root, ignore: vec![], excluded: vec![], create: false, watch: true });
    }

    pub(crate) fn disconnect(&mut self) {
        self.engine.handle_disconnected(Side::Remote);
        self.decoder = Decoder::new();
    }

    /// Hears what the pod says.
    pub(crate) fn hear(&mut self, replies: &[Reply]) {
        let bytes = self.encoder.encode(replies).to_vec();
        self.hear_bytes(&bytes);
    }

    /// Hears bytes of the pod's, in pieces.
    pub(crate) fn hear_bytes(&mut self, bytes: &[u8]) {
        for piece in bytes.chunks(70_000) {
            self.decoder.push(piece);
            while self.refused.is_none() {
                match self.decoder.next::<Reply>() {
                    Ok(Some(reply)) => {
                        if let Err(error) = self.engine.handle_reply(Side::Remote, reply) {
                            self.refuse(error.to_string());
                        }
                    }
                    Ok(None) => break,
                    Err(error) => self.refuse(error.to_string()),
                }
            }
        }
    }

    fn refuse(&mut self, why: String) {
        self.refused = Some(why);
        self.engine.handle_disconnected(Side::Remote);
    }

    /// Goes on until nobody has anything to do.
    pub(crate) fn rest(&mut self) {
        loop {
            self.carry_out();
            for _ in 0..TURNS {
                self.replica.request(Request::Fetch { id: BARRIER, files: vec![] });
            }
            let (mut turns, mut heard) = (0, false);
            while turns < TURNS {
                match self.reply_rx.recv_timeout(DEADLINE).expect("this machine's folder answers") {
                    Reply::Fetched { id: BARRIER, .. } => turns += 1,
                    reply => {
                        heard = true;
                        self.engine.handle_reply(Side::Local, reply).unwrap();
                    }
                }
            }
            if !self.carry_out() && !heard {
                return;
            }
        }
    }

    /// Hands out what the engine asks; tells whether there was something.
    fn carry_out(&mut self) -> bool {
        let mut any = false;
        while let Some((side, request)) = self.engine.poll_request() {
            any = true;
            match side {
                Side::Local => self.replica.request(request),
                Side::Remote => {
                    let bent = self.bend.as_mut().and_then(|bend| bend(&request));
                    let replies = bent.unwrap_or_else(|| self.pod.answer(request));
                    self.hear(&replies);
                }
            }
        }
        while self.engine.poll_record().is_some() || self.engine.poll_event().is_some() {}
        any
    }

    pub(crate) fn read(&self, at: &str) -> Option<String> {
        fs::read_to_string(self.place.path().join("root").join(at)).ok()
    }

    /// Returns what is there beside what was there in the beginning.
    pub(crate) fn new_entries(&self) -> Vec<String> {
        let mut lines = lines(&self.place.path().join("root"));
        lines.retain(|line| {
            let name = line.split([' ', ':']).next().unwrap_or_default();
            !["mine", "sub", "sub/inner", "large", ".envrc", ".git"].contains(&name)
                && !name.starts_with(".git/")
        });
        lines
    }

    /// What must hold whatever the pod does.
    #[track_caller]
    pub(crate) fn check(&self, case: &str) {
        let place = self.place.path();
        assert_eq!(lines(&place.join("outside")), self.outside, "{case}: outside");
        assert_eq!(lines(&place.join("root/.git")), self.reserved, "{case}: .git");
        assert_eq!(self.read(".envrc").as_deref(), Some("use flake"), "{case}");
        // What the pod replaced or deleted is in the trash.
        let kept = format!("{:?}{:?}", lines(&place.join("root")), lines(&place.join("keep")));
        for content in ["mine", "inner", "large "] {
            assert!(kept.contains(&format!(": {content}")), "{case}: {content} is lost: {kept}");
        }
        check_kinds(&place.join("root"), &fs::canonicalize(place.join("root")).unwrap(), case);
    }
}

/// There are plain files, folders and links that stay inside; and no special bits.
fn check_kinds(folder: &Path, root: &Path, case: &str) {
    for entry in fs::read_dir(folder).unwrap() {
        let at = entry.unwrap().path();
        let kind = at.symlink_metadata().unwrap();
        let special = kind.file_type();
        assert!(
            !special.is_fifo()
                && !special.is_socket()
                && !special.is_block_device()
                && !special.is_char_device()
        );
        if special.is_symlink() {
            // A link to nothing leads nowhere.
            if let Ok(target) = fs::canonicalize(&at) {
                assert!(target.starts_with(root), "{case}: {} leads to {}", at.display(), target.display());
            }
        } else {
            assert_eq!(kind.permissions().mode() & 0o7000, 0, "{case}: {}", at.display());
            if special.is_dir() {
                check_kinds(&at, root, case);
            }
        }
    }
}

/// Returns a tree in words, with the beginning of each file.
fn lines(root: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    walk(root, Path::new(""), &mut lines);
    lines.sort();
    lines
}

fn walk(root: &Path, below: &Path, lines: &mut Vec<String>) {
    for entry in fs::read_dir(root.join(below)).into_iter().flatten() {
        let entry = entry.unwrap();
        let name = below.join(entry.file_name());
        if name == Path::new(STAGE_DIR) {
            continue;
        }
        let kind = entry.file_type().unwrap();
        if kind.is_symlink() {
            lines.push(format!("{} -> {}", name.display(), fs::read_link(entry.path()).unwrap().display()));
        } else if kind.is_dir() {
            lines.push(format!("{} folder", name.display()));
            walk(root, &name, lines);
        } else {
            let content = fs::read(entry.path()).unwrap();
            let start = String::from_utf8_lossy(&content[..content.len().min(20)]).into_owned();
            lines.push(format!("{}: {start}", name.display()));
        }
    }
}
