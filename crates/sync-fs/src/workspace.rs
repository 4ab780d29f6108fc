//! A root that is open for writing: the tree, the staging folder, the trash, and what is under way.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use towline_sync_core::message::{Failure, Open, RequestId, RootInfo};
use towline_sync_core::path::RelPath;
use towline_sync_core::snapshot::Hash;

use crate::apply::INCOMING_CONFLICT;
use crate::cache::{Cache, Horizon};
use crate::disk::{Identity, Root, list, stat_of};
use crate::guard::Guard;
use crate::hook::Hook;
use crate::inbox::Dirty;
use crate::incoming::{Incoming, Ready};
use crate::install::Batch;
use crate::known::Known;
use crate::make::Makers;
use crate::memory::Memory;
use crate::mounts;
use crate::options::ReplicaOptions;
use crate::rules::Rules;
use crate::stage::{EPOCH, Stage, TRASH, epoch, known_epoch, open_private, read_epoch, remove};
use crate::trash::Trash;
use crate::tree::{Problems, Tree, failure, refusal};

/// The folder beside the trash for the other side's bytes of conflicts.
const CONFLICTS: &str = "conflicts";
/// The most threads that make files.
const MAX_THREADS: usize = 4;

/// An open root and what is being done to it.
pub(crate) struct Workspace {
    pub(crate) options: ReplicaOptions,
    pub(crate) tree: Tree,
    pub(crate) store: Option<Store>,
    pub(crate) incoming: HashMap<RequestId, Incoming>,
    /// Staged and verified, to be put in their places together.
    pub(crate) ready: Vec<Ready>,
    /// New entries to be put in their places together.
    pub(crate) staged: Vec<Batch>,
    /// Paths where an apply found something that was not known.
    pub(crate) suspects: BTreeMap<RelPath, bool>,
    pub(crate) case_sensitive: bool,
    pub(crate) umask: u32,
    /// The threads that make files together.
    pub(crate) makers: Makers,
    /// How many entries were moved away, to name the next.
    pub(crate) displacements: u64,
    pub(crate) hook: Hook,
    cache: Option<Cache>,
    /// Whether something that is known could not be saved yet.
    saved_in_part: bool,
}

/// Where things are put; a root that can't be written to has none.
pub(crate) struct Store {
    /// Beside a folder of our own it stands only while something is under way.
    pub(crate) stage: Option<Stage>,
    /// The name of the staging folder, where it stands beside those of other sessions.
    pub(crate) stage_name: Option<String>,
    pub(crate) trash: Trash,
    pub(crate) conflicts: Option<Arc<OwnedFd>>,
}

impl Workspace {
    /// Opens the root. What a crash left in the staging folder is swept; nothing else is changed.
    pub(crate) fn open(options: ReplicaOptions, request: Open) -> Result<(Self, RootInfo), Failure> {
        Self::enter(options, request, false)
    }

    /// Opens the root to look at it: nothing is locked, swept, made or kept.
    pub(crate) fn look(options: ReplicaOptions, request: Open) -> Result<(Self, RootInfo), Failure> {
        Self::enter(options, request, true)
    }

    fn enter(options: ReplicaOptions, request: Open, looks: bool) -> Result<(Self, RootInfo), Failure> {
        let path = root_path(options.prefix.as_deref(), &request.root)?;
        let doing = |doing: &'static str| {
            let path = path.display().to_string();
            move |error: io::Error| failure(&format!("{doing} {path}"), &error)
        };
        if request.create && !looks {
            create_folders(&path).map_err(doing("create"))?;
        }
        let root = Root::open(&path).map_err(doing("open"))?;
        let excluded = request.excluded.clone();
        let rules = Rules::new(&request.ignore, request.excluded)
            .map_err(|error| refusal(Errno::INVAL, format!("the ignore rules can't be read: {error}")))?;
        let keep = match options.keep.as_deref() {
            Some(keep) if looks => known_keep(keep),
            keep => keep.map(open_keep).transpose(),
        };
        let keep = keep.map_err(|error| failure("open the folder for conflicts and trash", &error))?;
        match if looks { Ok(()) } else { root.lock(keep.as_ref()) } {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(refusal(Errno::BUSY, format!("{}: {error}", path.display())));
            }
            Err(error) => return Err(doing("lock")(error)),
        }
        let store =
            if looks { Ok(None) } else { open_store(&root, keep.as_ref(), options.trash_limit).map(Some) };
        let (mut store, unwritable) = match store {
            Ok(store) => (store, false),
            Err(error) if is_read_only(&error) => (None, true),
            Err(error) => return Err(doing("prepare")(error)),
        };
        let token = match (&keep, &store) {
            (Some(keep), _) => {
                let identity = root.identity();
                let name = format!("epoch-{:x}-{:x}", identity.device, identity.inode);
                // A folder that nobody has a token of has none that anybody could know.
                let looked = || Ok(read_epoch(keep.as_fd(), &name).unwrap_or_else(|_| derived_epoch(&root)));
                if looks { looked() } else { epoch(keep.as_fd(), &name) }
            }
            (None, Some(Store { stage: Some(stage), .. })) => epoch(stage.folder(), EPOCH),
            (None, _) => Ok(known_epoch(&root).unwrap_or_else(|| derived_epoch(&root))),
        };
        let info = RootInfo {
            epoch: token.map_err(doing("keep a token for"))?,
            writable: !unwritable,
            case_sensitive: match &store {
                Some(Store { stage: Some(stage), .. }) => {
                    stage.is_case_sensitive().map_err(doing("probe"))?
                }
                _ => true,
            },
            mounts: read_mounts(&path).into_iter().filter(|mount| !rules.decide(mount).skip_dir).collect(),
        };
        if let (Some(_), Some(stage)) =
            (&keep, store.as_mut().and_then(|store| store.stage.take_if(|stage| stage.is_idle())))
        {
            stage.remove(&root);
        }
        let memory = match &keep {
            Some(keep) if !looks => {
                let Identity { device, inode } = root.identity();
                let keep = keep.try_clone().map_err(doing("look at"))?;
                Memory::lasting(keep, format!("sums-{device:x}-{inode:x}"))
            }
            _ => Memory::volatile(),
        };
        let cache = keep.map(|keep| Cache::new(keep, &root, &request.ignore, &excluded)).transpose();
        let cache = cache.map_err(doing("look at"))?;
        let tree = Tree {
            root,
            rules,
            mounts: info.mounts.iter().cloned().collect(),
            known: Known::default(),
            memory: Arc::new(memory),
            remembered: cache.as_ref().map(Cache::load).unwrap_or_default(),
            guard: Guard::new(options.protect),
            watches: None,
            problems: Problems::default(),
            #[cfg(test)]
            listed: None,
        };
        let workspace = Self {
            case_sensitive: info.case_sensitive,
            umask: umask(),
            makers: Makers::new(std::thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS)),
            displacements: 0,
            options,
            tree,
            store,
            incoming: HashMap::new(),
            ready: Vec::new(),
            staged: Vec::new(),
            suspects: BTreeMap::new(),
            hook: Hook::default(),
            // What is known is not saved by who only looks.
            cache: cache.filter(|_| !looks),
            saved_in_part: false,
        };
        Ok((workspace, info))
    }

    /// Removes the staging folder if it need not stand. Returns whether it still stands and is in the way.
    pub(crate) fn tidy(&mut self) -> bool {
        if self.options.keep.is_none()
            || !self.incoming.is_empty()
            || !self.ready.is_empty()
            || !self.staged.is_empty()
        {
            return false;
        }
        let Some(store) = &mut self.store else { return false };
        if let Some(stage) = store.stage.take_if(|stage| stage.is_idle()) {
            stage.remove(&self.tree.root);
        }
        store.stage.is_some()
    }

    /// Saves what is known of files for the next session.
    pub(crate) fn save(&mut self, horizon: Option<&Horizon>, unsettled: &Dirty) {
        let is_news = self.tree.known.take_changed();
        if let Some(cache) = &self.cache
            && (is_news || self.saved_in_part)
        {
            // What is not saved is only read again.
            self.saved_in_part = !cache.save(&self.tree.known, horizon, unsettled).unwrap_or(true);
        }
        let known = &self.tree.known;
        self.tree.memory.save(known.len(), || known.hashes());
    }

    #[cfg(test)]
    pub(crate) fn load_cache(&self) -> Known {
        self.cache.as_ref().map(Cache::load).unwrap_or_default()
    }

    /// Ends the session. On a laptop the root is left as if we had never been there.
    pub(crate) fn close(mut self) {
        for (_, incoming) in self.incoming.drain() {
            incoming.discard();
        }
        for ready in self.ready.drain(..) {
            ready.incoming.discard();
        }
        self.discard_installs();
        self.tidy();
    }
}

/// Joins the peer's root to our prefix. Without a prefix the root is the user's own words; with one, it must stay
/// below it.
fn root_path(prefix: Option<&Path>, root: &str) -> Result<PathBuf, Failure> {
    let path = Path::new(root);
    let Some(prefix) = prefix else {
        return Ok(path.to_owned());
    };
    if path.components().any(|component| component == Component::ParentDir) {
        return Err(refusal(Errno::INVAL, format!("root {root:?} leaves the pod's folder")));
    }
    Ok(prefix.join(path.strip_prefix("/").unwrap_or(path)))
}

#[expect(clippy::disallowed_methods, reason = "the root itself is named by a path; below it none is")]
fn create_folders(path: &Path) -> io::Result<()> {
    std::fs::create_dir_all(path)
}

/// Opens the folder beside a root's tree, where it is there.
fn known_keep(path: &Path) -> io::Result<Option<OwnedFd>> {
    match open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) {
        Err(Errno::NOENT) => Ok(None),
        folder => Ok(Some(folder?)),
    }
}

fn open_keep(path: &Path) -> io::Result<OwnedFd> {
    create_folders(path)?;
    let folder = open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    open_private(folder.as_fd(), ".").map(|_| folder)
}

fn open_store(root: &Root, keep: Option<&OwnedFd>, trash_limit: u64) -> io::Result<Store> {
    let stage_name = keep.map(|keep| stat_of(keep.as_fd())).transpose()?.map(|stat| {
        let Identity { device, inode } = stat.identity;
        format!("{device:x}-{inode:x}")
    });
    let stage = Stage::open(root, stage_name.as_deref())?;
    let beside: BorrowedFd<'_> = keep.map_or(stage.folder(), AsFd::as_fd);
    let mut trash = Trash::open(open_private(beside, TRASH)?, trash_limit)?;
    trash.recover(stage.displaced())?;
    let conflicts = keep.map(|keep| open_private(keep.as_fd(), CONFLICTS)).transpose()?.map(Arc::new);
    for name in conflicts.as_ref().map_or(Ok(Vec::new()), |folder| list(folder.as_fd()))? {
        if let (Some(folder), true) = (&conflicts, name.starts_with(INCOMING_CONFLICT.as_bytes())) {
            remove(folder.as_fd(), name.as_slice())?;
        }
    }
    Ok(Store { stage: Some(stage), stage_name, trash, conflicts })
}

fn is_read_only(error: &io::Error) -> bool {
    let read_only = [Errno::ROFS, Errno::ACCESS, Errno::PERM].map(|errno| Some(errno.raw_os_error()));
    read_only.contains(&error.raw_os_error())
}

/// Names a folder that can't hold a token by what the disk says of it.
fn derived_epoch(root: &Root) -> [u8; 16] {
    let born = stat_of(root.fd()).map(|stat| stat.born).unwrap_or_default();
    let hash = Hash::of(format!("{:?} {born:?}", root.identity()).as_bytes());
    let mut token = [0; 16];
    token.copy_from_slice(&hash.0[..16]);
    token
}

#[expect(clippy::disallowed_methods, reason = "the kernel's own table, and the root's own path")]
fn read_mounts(root: &Path) -> Vec<RelPath> {
    let (Ok(root), Ok(table)) =
        (std::fs::canonicalize(root), std::fs::read_to_string("/proc/self/mountinfo"))
    else {
        return Vec::new();
    };
    mounts::below(&root, &table).into_iter().collect()
}

/// Returns the process's mask for new files, without changing it for a moment as the system call would.
#[expect(clippy::disallowed_methods, reason = "the kernel's own table")]
fn umask() -> u32 {
    std::fs::read_to_string("/proc/self/status")
        .ok()
        .and_then(|status| {
            let mask = status.lines().find_map(|line| line.strip_prefix("Umask:"))?;
            u32::from_str_radix(mask.trim(), 8).ok()
        })
        .unwrap_or(0o022)
}
