//! Behaviour on a real disk.

mod apply;
mod cache;
mod crash;
mod install;
mod late_edits;
mod live;
mod moves;
mod race;
mod read;
mod scan;
mod watch;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use tempfile::TempDir;
use towline_sync_core::message::{Block, Content, DeltaOp, Open, Outcome, RequestId};
use towline_sync_core::path::{RelPath, STAGE_DIR};
use towline_sync_core::snapshot::{Entry, File, Hash, Transition};

use crate::hook::Moment;
use crate::options::ReplicaOptions;
use crate::workspace::Workspace;

pub(crate) fn path(path: &str) -> RelPath {
    RelPath::new(path).unwrap()
}

pub(crate) fn file(content: &[u8]) -> Entry {
    Entry::File(File { hash: Hash::of(content), size: content.len() as u64, executable: false })
}

pub(crate) fn program(content: &[u8]) -> Entry {
    Entry::File(File { hash: Hash::of(content), size: content.len() as u64, executable: true })
}

pub(crate) fn link(target: &str) -> Entry {
    Entry::Symlink { target: target.to_owned() }
}

pub(crate) fn next_id() -> RequestId {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Makes what each line says: `d/` a folder, `l -> t` a link, `p! c` a program, `f c` a file.
pub(crate) fn make(root: &Path, lines: &[&str]) {
    for line in lines {
        if let Some((name, target)) = line.split_once(" -> ") {
            symlink(target, root.join(name)).unwrap();
        } else if let Some(name) = line.strip_suffix('/') {
            fs::create_dir_all(root.join(name)).unwrap();
        } else {
            let (name, content) = line.split_once(' ').unwrap();
            let plain = name.trim_end_matches('!');
            let at = root.join(plain);
            fs::create_dir_all(at.parent().unwrap()).unwrap();
            fs::write(&at, content).unwrap();
            fs::set_permissions(&at, fs::Permissions::from_mode(if plain == name { 0o644 } else { 0o755 }))
                .unwrap();
        }
    }
}

/// Returns the whole tree in the same lines, but for our own folder.
pub(crate) fn lines(root: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    walk(root, Path::new(""), &mut lines);
    lines.sort();
    lines
}

fn walk(root: &Path, below: &Path, lines: &mut Vec<String>) {
    for entry in fs::read_dir(root.join(below)).unwrap() {
        let entry = entry.unwrap();
        let at = below.join(entry.file_name());
        let name = at.to_str().unwrap();
        if name == STAGE_DIR {
            continue;
        }
        let kind = entry.file_type().unwrap();
        if kind.is_symlink() {
            lines.push(format!("{name} -> {}", fs::read_link(entry.path()).unwrap().display()));
        } else if kind.is_dir() {
            lines.push(format!("{name}/"));
            walk(root, &at, lines);
        } else {
            let mark = if entry.metadata().unwrap().permissions().mode() & 0o100 == 0 { "" } else { "!" };
            lines.push(format!("{name}{mark} {}", String::from_utf8_lossy(&fs::read(entry.path()).unwrap())));
        }
    }
}

/// Returns the tree as a replica should see it.
pub(crate) fn entries(root: &Path) -> BTreeMap<RelPath, Entry> {
    let mut found = BTreeMap::new();
    for line in lines(root) {
        let (name, entry) = if let Some((name, target)) = line.split_once(" -> ") {
            (name.to_owned(), link(target))
        } else if let Some(name) = line.strip_suffix('/') {
            (name.to_owned(), Entry::Directory)
        } else {
            let (name, content) = line.split_once(' ').unwrap();
            match name.strip_suffix('!') {
                Some(name) => (name.to_owned(), program(content.as_bytes())),
                None => (name.to_owned(), file(content.as_bytes())),
            }
        };
        found.insert(path(&name), entry);
    }
    found
}

/// A root in a temporary folder, open for writing, without threads.
pub(crate) struct Desk {
    pub(crate) root: TempDir,
    pub(crate) options: ReplicaOptions,
    pub(crate) ignore: Vec<String>,
    pub(crate) workspace: Option<Workspace>,
}

impl Desk {
    pub(crate) fn new(lines: &[&str]) -> Self {
        let root = tempfile::tempdir().unwrap();
        make(root.path(), lines);
        let mut desk = Self { root, options: ReplicaOptions::default(), ignore: Vec::new(), workspace: None };
        desk.reopen();
        desk
    }

    pub(crate) fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self.reopen();
        self
    }

    pub(crate) fn ignoring(self, lines: &[&str]) -> Self {
        let lines = lines.iter().map(|line| (*line).to_owned()).collect();
        self.with(|desk| desk.ignore = lines)
    }

    pub(crate) fn reopen(&mut self) {
        self.workspace = None;
        let (mut workspace, _) = Workspace::open(self.options.clone(), self.request()).unwrap();
        workspace.tree.scan(&mut |_, _| Ok(())).unwrap();
        self.workspace = Some(workspace);
    }

    pub(crate) fn request(&self) -> Open {
        Open {
            root: self.root.path().to_str().unwrap().to_owned(),
            ignore: self.ignore.clone(),
            excluded: Vec::new(),
            create: false,
            watch: true,
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.root.path()
    }

    pub(crate) fn workspace(&mut self) -> &mut Workspace {
        self.workspace.as_mut().unwrap()
    }

    /// Steps in at every moment of every apply.
    pub(crate) fn hook(
        &mut self,
        step: impl FnMut(Moment, &RelPath) -> std::io::Result<()> + Send + 'static,
    ) {
        self.workspace().hook.step = Some(Box::new(step));
    }

    /// Makes a transition; a file's content is sent.
    pub(crate) fn apply(
        &mut self,
        at: &str,
        from: Option<Entry>,
        to: Option<Entry>,
        content: &[u8],
    ) -> Outcome {
        let source = if matches!(to, Some(Entry::File(_))) { Content::Incoming } else { Content::None };
        let id = next_id();
        if let Some(outcome) = self.begin(id, at, from, to, &source) {
            return outcome;
        }
        let ops = content.chunks(100_000).map(|chunk| DeltaOp::Literal(chunk.to_vec()));
        let mut blocks: Vec<Block> = ops.map(|op| Block { ops: vec![op], last: false }).collect();
        match blocks.last_mut() {
            Some(last) => last.last = true,
            None => blocks.push(Block { ops: Vec::new(), last: true }),
        }
        self.send(id, &blocks)
    }

    pub(crate) fn begin(
        &mut self,
        id: RequestId,
        at: &str,
        from: Option<Entry>,
        to: Option<Entry>,
        content: &Content,
    ) -> Option<Outcome> {
        let transition = Transition { path: path(at), from, to };
        self.workspace().apply(id, &transition, content).pop().map(|(_, outcome)| outcome)
    }

    /// Sends content until there is an answer.
    pub(crate) fn send(&mut self, id: RequestId, blocks: &[Block]) -> Outcome {
        let workspace = self.workspace();
        let mut answers: Vec<_> = blocks.iter().flat_map(|block| workspace.data(id, block)).collect();
        answers.extend(workspace.flush());
        assert_eq!(answers.len(), 1, "one answer to each request");
        answers.remove(0).1
    }

    /// Returns the contents of the trash, and checks its index.
    pub(crate) fn trash(&self) -> Vec<String> {
        let keep = self.options.keep.clone().unwrap_or_else(|| self.path().join(STAGE_DIR));
        let trash = keep.join("trash");
        let index = fs::read_to_string(trash.join("index")).unwrap_or_default();
        let mut contents = Vec::new();
        for entry in fs::read_dir(trash).unwrap() {
            let name = entry.unwrap();
            let hash = name.file_name().into_string().unwrap();
            if hash == "index" {
                continue;
            }
            let content = fs::read(name.path()).unwrap();
            assert_eq!(Hash::of(&content).to_hex(), hash);
            assert!(index.contains(&hash), "{index}");
            contents.push(String::from_utf8(content).unwrap());
        }
        contents.sort();
        contents
    }

    /// Checks that nothing is left in the staging folder.
    #[track_caller]
    pub(crate) fn assert_swept(&self) {
        for folder in ["incoming", "displaced"] {
            let folder = self.path().join(STAGE_DIR).join(folder);
            if folder.exists() || self.options.keep.is_none() {
                let left: Vec<_> = fs::read_dir(&folder).unwrap().collect();
                assert!(left.is_empty(), "{folder:?}: {left:?}");
            }
        }
    }
}

/// Returns the error number of a refusal.
#[track_caller]
pub(crate) fn errno(outcome: &Outcome) -> i32 {
    match outcome {
        Outcome::Failed(failure) => failure.errno,
        other => panic!("not refused: {other:?}"),
    }
}
