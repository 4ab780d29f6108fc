//! Brings back what sync has replaced or deleted. What stands in its place by now is kept in its turn.
//!
//! A session that runs meanwhile sees it as an edit of the user's, and it travels as one. Below the root nothing is
//! reached through a symbolic link: what was synced may have put one there.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, RenameFlags, mkdirat, open, openat, readlinkat, renameat, renameat_with,
    statat, symlinkat, unlinkat,
};
use rustix::io::Errno;
use towline_sync_core::engine::Side;
use towline_sync_core::message::conflict_name;
use towline_sync_core::path::{RelPath, STAGE_DIR};
use towline_sync_core::snapshot::Hash;

use crate::record::{self, Loss};
use crate::trash::{Discarded, Was};

/// Where, in the private folder at the root, what comes back waits to take its place.
const WAITING: &str = "undo";
/// Its name there.
const VERSION: &str = "version";
/// How often a path is tried that somebody changes meanwhile.
const ATTEMPTS: u32 = 8;

/// What became of one thing to bring back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Undone {
    /// It stands in its place again.
    Restored {
        /// Where what had stood there is kept now, if anything had.
        displaced: Option<PathBuf>,
    },
    /// It stood there already.
    Same,
}

/// Why something was not brought back. Nothing was changed then.
#[derive(Debug, thiserror::Error)]
pub enum UndoError {
    /// The list of what was discarded names no path, or none that can be.
    #[error("it is not known where it stood")]
    Nowhere,
    /// A folder stands there, with whatever is in it.
    #[error("a folder stands there now")]
    Folder,
    /// The kept bytes are not what they were.
    #[error("the kept bytes are damaged")]
    Damaged,
    /// Somebody keeps changing what stands there.
    #[error("it keeps changing")]
    Restless,
    /// The operating system refused.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// The system's words.
        source: io::Error,
    },
}

/// Where things are brought back to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UndoPlace {
    /// The folder that is synced.
    pub root: PathBuf,
    /// Which side of its pair it is.
    pub side: Side,
    /// The pair's private folder.
    pub state: PathBuf,
}

impl UndoPlace {
    /// Brings one thing back.
    ///
    /// # Errors
    ///
    /// See [`UndoError`]; the kept bytes stay where they are in any case.
    pub fn undo(&self, discarded: &Discarded) -> Result<Undone, UndoError> {
        let path = RelPath::new(discarded.path.clone()).map_err(|_| UndoError::Nowhere)?;
        if path.is_private() {
            return Err(UndoError::Nowhere);
        }
        let root = open(&self.root, FOLDER, Mode::empty()).map_err(io("open the folder"))?;
        let waiting = Waiting::open(&root)?;
        waiting.clear()?;
        match &discarded.what {
            Was::File { kept, hash, executable, .. } => waiting.copy(kept, hash, *executable)?,
            Was::Link(target) => {
                symlinkat(target, &waiting.folder, VERSION).map_err(io("make the link"))?;
            }
        }
        let parent = parent_of(&root, &path)?;
        for _ in 0..ATTEMPTS {
            if let Some(undone) = self.put(&waiting, &parent, &path, &discarded.what)? {
                return Ok(undone);
            }
        }
        Err(UndoError::Restless)
    }

    /// Puts what waits in its place; `None` when somebody else was quicker.
    fn put(
        &self,
        waiting: &Waiting<'_>,
        parent: &OwnedFd,
        path: &RelPath,
        what: &Was,
    ) -> Result<Option<Undone>, UndoError> {
        let there = match statat(parent, path.name(), AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => {
                let moved =
                    renameat_with(&waiting.folder, VERSION, parent, path.name(), RenameFlags::NOREPLACE);
                return match moved {
                    Ok(()) => Ok(Some(Undone::Restored { displaced: None })),
                    Err(Errno::EXIST) => Ok(None),
                    Err(error) => Err(io("put it in its place")(error)),
                };
            }
            stat => FileType::from_raw_mode(stat.map_err(io("look at its place"))?.st_mode),
        };
        match there {
            FileType::Directory => return Err(UndoError::Folder),
            FileType::RegularFile | FileType::Symlink => {}
            _ => return Err(io("put it in the place of a device, socket or pipe")(Errno::EXIST)),
        }
        if is_same(parent.as_fd(), path.name(), there, what) {
            return Ok(Some(Undone::Same));
        }
        match renameat_with(&waiting.folder, VERSION, parent, path.name(), RenameFlags::EXCHANGE) {
            Ok(()) => {}
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(io("put it in its place")(error)),
        }
        // What came out may be something else than what was looked at a moment ago: it is kept, whatever it is.
        let displaced = self.keep(waiting, path)?;
        Ok(Some(Undone::Restored { displaced: Some(displaced) }))
    }

    /// Moves what came out of its place to the bytes that are kept, and writes it down.
    fn keep(&self, waiting: &Waiting<'_>, path: &RelPath) -> Result<PathBuf, UndoError> {
        let folder = crate::keep_folder(&self.state).join("conflicts");
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)
            .map_err(|source| UndoError::Io { doing: "make the folder for what is kept", source })?;
        let hash = match hash_at(waiting.folder.as_fd(), VERSION) {
            Ok(hash) => hash,
            // Not a file: what is kept of a link is its text.
            Err(_) => {
                Hash::of(readlinkat(&waiting.folder, VERSION, Vec::new()).unwrap_or_default().as_bytes())
            }
        };
        let kept_as = conflict_name(path, hash);
        let kept = folder.join(&kept_as);
        let target = open(&folder, FOLDER, Mode::empty()).map_err(io("open the folder for what is kept"))?;
        match renameat(&waiting.folder, VERSION, &target, kept_as.as_str()) {
            Err(Errno::XDEV) => {
                let mut source =
                    open_at(waiting.folder.as_fd(), VERSION).map_err(io("read what stood there"))?;
                let copy = File::create(&kept)
                    .and_then(|mut copy| io::copy(&mut source, &mut copy).and_then(|_| copy.sync_all()));
                copy.map_err(|source| UndoError::Io { doing: "keep what stood there", source })?;
                waiting.clear()?;
            }
            moved => moved.map_err(io("keep what stood there"))?,
        }
        // The bytes are kept in any case; only the list would lack them.
        if let Err(error) = record::add_conflict(&self.state, path.as_str(), self.side, &kept_as, Loss::Undo)
        {
            tracing::warn!(%error, %path, "what was displaced can't be written down");
        }
        Ok(kept)
    }
}

/// How folders are opened: the root, and what is below it.
pub(crate) const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
pub(crate) const FOLDER_BELOW: OFlags = FOLDER.union(OFlags::NOFOLLOW);

/// The folder in the private folder at the root, gone again when this is dropped.
struct Waiting<'a> {
    root: &'a OwnedFd,
    folder: OwnedFd,
}

impl<'a> Waiting<'a> {
    fn open(root: &'a OwnedFd) -> Result<Self, UndoError> {
        let stage = make(root.as_fd(), STAGE_DIR, Mode::RWXU)?;
        let folder = make(stage.as_fd(), WAITING, Mode::RWXU)?;
        Ok(Self { root, folder })
    }

    fn clear(&self) -> Result<(), UndoError> {
        match unlinkat(&self.folder, VERSION, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(io("clear the folder for what comes back")(error)),
        }
    }

    /// Copies kept bytes in here, and checks them.
    fn copy(&self, kept: &Path, hash: &str, executable: bool) -> Result<(), UndoError> {
        let failed = |source| UndoError::Io { doing: "copy the kept bytes", source };
        let mut source = File::open(kept).map_err(failed)?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::ROTH;
        let copy = openat(&self.folder, VERSION, flags, mode).map_err(io("make the copy"))?;
        let mut copy = Hashing { file: File::from(copy), hasher: blake3::Hasher::new() };
        io::copy(&mut source, &mut copy).map_err(failed)?;
        if copy.hasher.finalize().to_hex().as_str() != hash.to_ascii_lowercase() {
            return Err(UndoError::Damaged);
        }
        if executable {
            let mode = copy.file.metadata().map_err(failed)?.permissions().mode();
            copy.file.set_permissions(Permissions::from_mode(mode | 0o111)).map_err(failed)?;
        }
        copy.file.sync_all().map_err(failed)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        // What is left is swept the next time; the private folder stays while a session uses it.
        let _left = unlinkat(&self.folder, VERSION, AtFlags::empty());
        if let Ok(stage) = openat(self.root, STAGE_DIR, FOLDER_BELOW, Mode::empty()) {
            let _left = unlinkat(&stage, WAITING, AtFlags::REMOVEDIR);
            let _left = unlinkat(self.root, STAGE_DIR, AtFlags::REMOVEDIR);
        }
    }
}

/// Writes to a file and hashes what is written.
struct Hashing {
    file: File,
    hasher: blake3::Hasher,
}

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Returns the folder that holds `path`, made where it is missing.
fn parent_of(root: &OwnedFd, path: &RelPath) -> Result<OwnedFd, UndoError> {
    let mut folder = root.try_clone().map_err(|source| UndoError::Io { doing: "open the folder", source })?;
    let mut names: Vec<_> = path.components().collect();
    names.pop();
    for name in names {
        folder = make(folder.as_fd(), name, Mode::RWXU | Mode::RWXG | Mode::RWXO)?;
    }
    Ok(folder)
}

/// Makes a folder, or opens the one that is there.
fn make(parent: BorrowedFd<'_>, name: &str, mode: Mode) -> Result<OwnedFd, UndoError> {
    match mkdirat(parent, name, mode) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(io("make the folder above")(error)),
    }
    openat(parent, name, FOLDER_BELOW, Mode::empty()).map_err(io("open the folder above"))
}

fn is_same(parent: BorrowedFd<'_>, name: &str, there: FileType, what: &Was) -> bool {
    match what {
        Was::File { hash, executable, .. } if there == FileType::RegularFile => {
            let mode = |stat: rustix::fs::Stat| stat.st_mode & 0o100 != 0;
            let is_executable = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(mode);
            hash_at(parent, name).is_ok_and(|found| found.to_hex() == *hash) && is_executable == *executable
        }
        Was::Link(target) if there == FileType::Symlink => {
            readlinkat(parent, name, Vec::new()).is_ok_and(|found| found.as_bytes() == target.as_bytes())
        }
        _ => false,
    }
}

/// Opens a file, and no link.
pub(crate) fn open_at(parent: BorrowedFd<'_>, name: &str) -> rustix::io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    openat(parent, name, flags, Mode::empty()).map(File::from)
}

fn hash_at(parent: BorrowedFd<'_>, name: &str) -> io::Result<Hash> {
    hash_of(open_at(parent, name)?)
}

/// Reads all there is and hashes it.
pub(crate) fn hash_of(content: impl io::Read) -> io::Result<Hash> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(content)?;
    Ok(Hash(*hasher.finalize().as_bytes()))
}

fn io(doing: &'static str) -> impl Fn(Errno) -> UndoError {
    move |error| UndoError::Io { doing, source: error.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trash::Why;

    struct Scene {
        temp: tempfile::TempDir,
        place: UndoPlace,
    }

    impl Scene {
        fn new() -> Self {
            let temp = tempfile::tempdir().unwrap();
            let (root, state) = (temp.path().join("root"), temp.path().join("state"));
            fs::create_dir(&root).unwrap();
            fs::create_dir(&state).unwrap();
            Self { place: UndoPlace { root, side: Side::Local, state }, temp }
        }

        /// A version of `path` with this content, as the trash keeps it.
        fn version(&self, path: &str, content: &str, executable: bool) -> Discarded {
            let hash = Hash::of(content.as_bytes()).to_hex();
            let kept = self.temp.path().join(&hash);
            fs::write(&kept, content).unwrap();
            let what = Was::File { kept, hash, size: content.len() as u64, executable };
            Discarded { path: path.to_owned(), at: 1, why: Why::Deleted, what }
        }

        fn link(path: &str, target: &str) -> Discarded {
            let what = Was::Link(target.to_owned());
            Discarded { path: path.to_owned(), at: 1, why: Why::Deleted, what }
        }

        fn write(&self, path: &str, content: &str) {
            let path = self.place.root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }

        fn read(&self, path: &str) -> String {
            fs::read_to_string(self.place.root.join(path)).unwrap()
        }
    }

    #[test]
    fn what_is_gone_comes_back_with_its_folders() {
        let scene = Scene::new();
        let undone = scene.place.undo(&scene.version("a/b/tool", "old", true)).unwrap();
        assert_eq!(undone, Undone::Restored { displaced: None });
        assert_eq!(scene.read("a/b/tool"), "old");
        let mode = fs::metadata(scene.place.root.join("a/b/tool")).unwrap().permissions().mode();
        assert_eq!(mode & 0o111, 0o111);
        assert_eq!(scene.place.undo(&Scene::link("l", "a/b")).unwrap(), Undone::Restored { displaced: None });
        assert_eq!(fs::read_link(scene.place.root.join("l")).unwrap(), Path::new("a/b"));
        assert!(!scene.place.root.join(STAGE_DIR).exists(), "nothing of ours is left");
        assert_eq!(scene.place.undo(&scene.version("a/b/tool", "old", true)).unwrap(), Undone::Same);
        assert_eq!(scene.place.undo(&Scene::link("l", "a/b")).unwrap(), Undone::Same);
    }

    #[test]
    fn what_stands_there_now_is_kept_in_its_turn() {
        let scene = Scene::new();
        scene.write("d/file", "new");
        let Undone::Restored { displaced: Some(kept) } =
            scene.place.undo(&scene.version("d/file", "old", false)).unwrap()
        else {
            panic!("nothing was displaced")
        };
        assert_eq!(scene.read("d/file"), "old");
        assert_eq!(fs::read_to_string(&kept).unwrap(), "new");
        let conflicts = fs::read_to_string(scene.place.state.join("conflicts.jsonl")).unwrap();
        assert!(conflicts.contains("\"path\":\"d/file\",\"lost\":\"local\""), "{conflicts}");
        // A link in the place of a file, and back.
        let undone = scene.place.undo(&Scene::link("d/file", "elsewhere")).unwrap();
        assert!(matches!(undone, Undone::Restored { displaced: Some(_) }));
        let undone = scene.place.undo(&scene.version("d/file", "old", false)).unwrap();
        let Undone::Restored { displaced: Some(kept) } = undone else { panic!("nothing was displaced") };
        assert_eq!(fs::read_link(kept).unwrap(), Path::new("elsewhere"));
    }

    #[test]
    fn nothing_is_changed_where_it_can_not_be_brought_back() {
        let scene = Scene::new();
        scene.write("folder/inside", "x");
        let outside = scene.temp.path().join("outside");
        fs::create_dir(&outside).unwrap();
        std::os::unix::fs::symlink(&outside, scene.place.root.join("link")).unwrap();
        let mut damaged = scene.version("file", "old", false);
        if let Was::File { kept, .. } = &damaged.what {
            fs::write(kept, "flipped").unwrap();
        }
        damaged.path = "file".to_owned();
        let check = |discarded: &Discarded, expected: &str| {
            let error = scene.place.undo(discarded).unwrap_err().to_string();
            assert!(error.contains(expected), "{}: {error}", discarded.path);
        };
        check(&damaged, "damaged");
        check(&scene.version("folder", "old 2", false), "a folder stands there");
        check(&scene.version("folder/inside/deep", "old 3", false), "open the folder above");
        check(&scene.version("link/escaped", "old 4", false), "open the folder above");
        check(&scene.version("../escaped", "old 5", false), "not known where");
        check(&scene.version("", "old 6", false), "not known where");
        check(&scene.version(".towline-stage/x", "old 7", false), "not known where");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
        assert_eq!(scene.read("folder/inside"), "x");
        assert!(!scene.place.root.join("file").exists());
        assert!(!scene.place.root.join(STAGE_DIR).exists());
    }
}
